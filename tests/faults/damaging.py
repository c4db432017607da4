"""Files with one flipped bit, or cut short: refused by name, made anew, or read as they were."""

import contextlib
import io
import json
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import types

import numpy as np
from PIL import Image

from kdkeras import cache, callbacks, cli, data, files, models, recipe, runtimes
from kdkeras.certification import certificates
from kdkeras.report import reading
from kdkeras.robustness import records
from kdkeras.search import studies

from . import tallies

FAULTS, FEW = 100, 10
SMALL = (
    *("--dataset=digits", "--max_train=60", "--teacher=mlp", "--student=mlp", "--epochs=1"),
    *("--teacher_width=4", "--student_width=4", "--optimizer=adam", "--quiet"),
)


def run(seed, quick):
    """A tally for each format: half of the faults are flipped bits, half lost ends."""
    with tempfile.TemporaryDirectory() as folder:
        good = pathlib.Path(folder, "good")
        make(good)
        spoilt = pathlib.Path(folder, "spoilt")
        for name, (file, read) in readers(good).items():
            shutil.copytree(good, spoilt)
            yield tried(name, spoilt / file, read, seed, FEW if quick else FAULTS)
            shutil.rmtree(spoilt)
        count = FEW if quick else FAULTS
        yield bare_tflite(good / "run/export/student.tflite", pathlib.Path(folder), seed, count)


def make(folder, *, slow=True):
    """A file of each format, by the commands that write them; the slow ones where asked."""
    folder.mkdir()
    done = folder / "run"
    student = str(done / "student.keras")
    cache_of = [f"--teacher={done / 'teacher.keras'}", "--dataset=digits", "--max_train=60"]
    wanted = [
        ["distill", *SMALL, "--nocontrol", f"--workdir={done}"],
        ["certify", student, "--max_images=3", "--n=50", f"--output={folder / 'radii.json'}"],
        ["cache", *cache_of, "--views=2", "--quiet", f"--output={folder / 'teacher.cache'}"],
    ]
    if slow:
        space = ["--trials=2", "--compare_seeds=0", "--space=temperature=1:8"]
        wanted += [
            ["attack", student, "--suite=quick", "--max_images=10", "--batch_size=10"],
            ["search", *SMALL, *space, f"--workdir={folder / 'search'}"],
        ]
    else:
        wanted[0].append("--noexport")
    for words in wanted:
        status, said = command(*words)
        if status:
            raise RuntimeError(f"{words[0]} failed: {said}")
    # As it was before its results were there.
    shutil.copytree(done, folder / "unfinished")
    (folder / "unfinished" / "results.json").unlink()
    shutil.copy(done / "student.keras", folder / "student.keras")
    net = models.build("mlp", input_shape=(4, 4, 1), num_classes=3, width=4)
    net.compile("adam", loss="mse")
    callbacks.states.prepare(net)
    about = {"identity": None, "epoch": 1}
    callbacks.states.write(folder / "checkpoint", about, callbacks.states.variables(net))
    random_ = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(3):
            pixels = random_.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")


def command(*words):
    """The exit status of a command, and what it says on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = cli.main([str(word) for word in words])
    return status, said.getvalue()


def faults(whole, name, seed, count):
    """Pairs of a description and damaged contents."""
    drawn = random.Random(f"{seed} {name}")
    for number in range(count):
        if number % 2:
            place, bit = drawn.randrange(len(whole)), drawn.randrange(8)
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << bit
            yield f"bit {bit} of byte {place} flipped", bytes(spoilt)
        else:
            ends = {0: 0, 2: 1, 4: len(whole) - 1}
            length = ends.get(number, drawn.randrange(len(whole)))
            yield f"cut to {length} of {len(whole)} bytes", whole[:length]


def tried(name, path, read, seed, count):
    """The tally of one format.

    Args:
        name: Of the format.
        path: A good file, which is damaged; all beside it stays as it is.
        read: A function of the path that gives what a user gets of it, plain, or raises.
        seed, count: Which faults, and how many.
    """
    tally, whole = tallies.Tally(f"damage: {name}"), path.read_bytes()
    expected = read(path)
    for what, spoilt in faults(whole, name, seed, count):
        path.write_bytes(spoilt)
        tally.add(problem(path, read, expected, f"{name}, {what}"))
    path.write_bytes(whole)
    return tally


def problem(path, read, expected, what):
    """None where a damaged file is refused by name, or read as it was."""
    try:
        found = read(path)
    except (ValueError, OSError) as error:
        said = str(error)
        if path.name not in said or "Traceback" in said or len(said) > 1000:
            return f"{what}: {type(error).__name__}: {said[:200]}"
        return None
    except Exception as error:  # That it surfaces is the finding.
        return f"{what}: {type(error).__name__} surfaces: {str(error)[:200]}"
    return None if found == expected else f"{what}: other contents are taken for good"


def plain(value):
    """Arrays, folders and floats as something that is equal to itself."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value)


def readers(good):
    """Dict from each format to a file of it, and how a user comes to read it."""
    about = json.loads((good / "radii.json").read_text())["about"]

    def certified(path):
        return certificates.begun(path, about)

    found = {
        ".keras": ("student.keras", _logits),
        ".keras of a run": ("run/student.keras", _logits),
        "results.json": ("run/results.json", _finished),
        "predictions.npz": ("run/predictions.npz", _finished),
        "log of a training": ("run/logs/student.csv", _finished),
        "recipe.json": ("unfinished/recipe.json", _unfinished),
        "record of a stage": ("unfinished/logs/student.json", files.read_json),
        "checkpoint": ("checkpoint", _checkpoint),
        "teacher.cache": ("teacher.cache", _cached),
        "certificates.json": ("radii.json", certified),
        "PNG": ("pictures/cat/1.png", _pictures),
    }
    return found | (_slow_readers(good) if (good / "search").exists() else {})


def _slow_readers(good):
    """As `readers`, of files that take long to make."""
    attacks = pathlib.Path("run/attack/student.keras/attacks")
    identity = files.read_json(good / attacks / "identity.json")
    del identity["version"]
    attack = types.SimpleNamespace(name="fgsm")
    attack.settings = json.loads(str(np.load(good / attacks / "fgsm.npz")["settings"]))
    with contextlib.closing(sqlite3.connect(good / "search/study.db")) as study:
        said = "SELECT value_json FROM study_user_attributes WHERE key = 'search'"
        search = json.loads(study.execute(said).fetchone()[0])

    def attacked(path):
        folder = records.Folder(path.parent.parent, identity, overwrite=False)
        return plain(folder.stored(attack, 10))

    def searched(path):
        return _trials(path, search)

    return {
        ".tflite of a run": ("run/export/student.tflite", _logits),
        "SavedModel of a run": ("run/export/saved_model/saved_model.pb", _saved),
        "report of an export": ("run/export/report.json", _finished),
        "report of an attack": ("run/attack/student.keras/report.json", _finished),
        "record of an attack": (attacks / "fgsm.npz", attacked),
        "identity of an attack": (attacks / "identity.json", attacked),
        "study.db": ("search/study.db", searched),
    }


def _logits(path):
    model = runtimes.load(path)
    images = np.linspace(0.0, 1.0, int(np.prod(model.input_shape)), dtype="float32")
    return model(images.reshape(1, *model.input_shape)).tobytes()


def _saved(path):
    return _logits(path.parent)


def _cached(path):
    known = cache.load(path)
    try:
        ids = np.sort(known.store.ids)
        views = [np.full(len(ids), view) for view in range(known.views)]
        return plain([ids, *(known.said(ids, view)[0] for view in views)])
    finally:
        known.close()


def _finished(path):
    """What `kdkeras report` reads of a run."""
    found = reading.read(next(above for above in path.parents if above.name == "run"))
    return plain({name: getattr(found, name) for name in found.__dataclass_fields__})


def _unfinished(path):
    """The recipe with which --resume goes on; what it refuses, the command refuses."""
    try:
        return recipe.read(path).to_dict()
    except ValueError as error:
        status, said = command("distill", "--resume", f"--workdir={path.parent}")
        if status != 2 or path.name not in said:
            raise RuntimeError(f"the command said: {said}") from error
        raise


def _checkpoint(path):
    about, arrays = callbacks.states.read(path)
    return plain([about, [np.asarray(array) for array in arrays]])


def _trials(path, wanted):
    """What a search that goes on reads of its study."""
    with studies.hushed():
        study = studies.opened(path.parent, None, wanted, directions=["maximize"], epochs=1)
        try:
            return plain([[one.params, one.values, one.user_attrs] for one in study.trials])
        finally:
            study._storage.remove_session()


def _pictures(path):
    with contextlib.redirect_stderr(io.StringIO()):
        splits = data.load(f"folder:{path.parent.parent}", image_size=8, verbose=0)
    return plain([data.arrays(split) for split in (splits.train, splits.validation, splits.test)])


# A process of its own reads them, for what crashes would take this one along.
CHILD = """
import hashlib, pathlib, sys
from tests.faults import damaging
for line in sys.stdin:
    path = pathlib.Path(line.strip())
    found = damaging.problem(path, damaging._logits, bytes.fromhex(sys.argv[1]), "a bare .tflite")
    print(found or "", flush=True)
"""


def bare_tflite(good, folder, seed, count):
    """The tally of `.tflite` files that stand in no run."""
    tally, path = tallies.Tally("damage: .tflite on its own"), folder / "spoilt.tflite"
    expected = _logits(good).hex()

    def started():
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, expected],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    child = started()
    for what, spoilt in faults(good.read_bytes(), "bare .tflite", seed, count):
        path.write_bytes(spoilt)
        child.stdin.write(f"{path}\n")
        child.stdin.flush()
        said = child.stdout.readline()
        if said:
            tally.add(f"{what}: {said.strip()}" if said.strip() else None)
        else:
            tally.add(f"{what}: the process died with {child.wait()}")
            child = started()
    child.communicate()
    return tally
