"""Disks that fail under each command that writes: full, read-only, broken, or gone."""

import contextlib
import errno
import os
import pathlib
import random
import shutil
import subprocess
import tempfile

import keras

from . import damaging, layers, tallies

FAULTS = dict.fromkeys(("cache", "attack", "certify", "export"), 6)
FAULTS |= {"distill": 12, "report": 4, "evaluate": 4, "quantize": 4, "search": 4}
# As a cache says it before it is written, and as SQLite does.
FULL = ("and its disk has", "disk is full")
FILLED, ROOM = ("distill", "cache", "attack", "export", "report", "search"), 2**26
FEW = {"distill": 2, "cache": 3, "certify": 3, "evaluate": 4}


def run(seed, quick):
    """A tally for each command, and two of disks that are really full."""
    with tempfile.TemporaryDirectory() as folder:
        good = pathlib.Path(folder, "good")
        make(good, few=quick)
        for name, count in (FEW if quick else FAULTS).items():
            yield failed(name, good, pathlib.Path(folder), seed, count)
        for name in () if quick else FILLED:
            yield filled(name, good, pathlib.Path(folder))


def make(folder, *, few):
    """A finished run, with a file of somebody's beside it."""
    folder.mkdir()
    words = ["distill", *damaging.SMALL, "--nocontrol", f"--workdir={folder / 'run'}"]
    if few:
        words += ["--noexport"]
    status, said = damaging.command(*words)
    if status:
        raise RuntimeError(f"distill failed: {said}")
    (folder / "precious.txt").write_text("somebody's\n")


def commands(root):
    """Dict from names to the words of a command, those with which it goes on, and what it makes."""
    done, student = root / "run", root / "run/student.keras"
    new = [
        *(*damaging.SMALL, "--epochs=2", f"--teacher={done / 'teacher.keras'}"),
        *("--nocontrol", "--noexport", f"--workdir={root / 'new'}"),
    ]
    cache = [
        *("cache", f"--teacher={done / 'teacher.keras'}", "--dataset=digits", "--views=2"),
        *("--max_train=60", "--quiet", f"--output={root / 'new.cache'}"),
    ]
    attack = [
        *("attack", student, "--suite=quick", "--max_images=10", "--batch_size=10"),
        f"--output={root / 'attack'}",
    ]
    certify = ["certify", student, "--max_images=2", "--n=50", f"--output={root / 'radii.json'}"]
    export = ["export", f"--workdir={done}", "--precision=float16", "--formats=tflite"]
    quantize = ["quantize", f"--workdir={done}", "--epochs=1", "--calibration_images=16"]
    search = [
        *("search", *damaging.SMALL, "--trials=2", "--compare_seeds=0"),
        *("--space=temperature=1:8", f"--workdir={root / 'search'}"),
    ]
    report = ["report", done, f"--output={root / 'page.html'}", "--nopictures"]
    evaluate = ["evaluate", student, "--dataset=digits", "--quiet", f"--output={root / 'e.json'}"]
    return {
        "distill": (["distill", *new], ["--resume"], "new/results.json"),
        "cache": (cache, [], "new.cache"),
        "attack": (attack, [], "attack/student.keras/report.json"),
        "certify": (certify, [], "radii.png"),
        "export": ([*export, "--nolatency"], ["--resume"], "run/export/student.float16.tflite"),
        "quantize": (quantize, ["--resume"], "run/export/student.int8.tflite"),
        "report": (report, [], "page.html"),
        "evaluate": (evaluate, [], "e.json"),
        "search": (search, [], "search/results.json"),
    }


# What export and quantize keep up to date in the run that they add to.
KEPT_UP = ("run/results.json", "run/export/report.json", "run/export/labels.txt")


def failed(name, good, folder, seed, count):
    """The tally of one command under faults of each kind, at calls drawn by seed."""
    tally = tallies.Tally(f"disks: {name}")
    with copied(good, folder) as root:
        words, _, made = commands(root)[name]
        layer = layers.Layer(root)
        with layer():
            status, said = anew(words)
        if status or not (root / made).exists():
            tally.add(f"{name} fails on a sound disk: {said}")
            return tally
    drawn = random.Random(f"{seed} {name}")
    layer.calls["vanish"] = layer.calls["open"] if name in ("distill", "search") else 0
    kinds = [kind for kind in layers.KINDS if layer.calls[kind]]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        at, code = drawn.randrange(layer.calls[kind]), drawn.choice(layers.KINDS[kind])
        what = f"{name}, {errno.errorcode[code]} at {kind} {at} of {layer.calls[kind]}"
        with copied(good, folder) as root:
            problem = _problem(name, root, layers.Layer(root, kind, at, code))
            tally.add(problem and f"{what}: {problem}")
    return tally


@contextlib.contextmanager
def copied(good, folder):
    """A block with a fresh copy of the good folder."""
    root = folder / "copy"
    shutil.copytree(good, root)
    try:
        yield root
    finally:
        shutil.rmtree(root)


def anew(words):
    """A command, with layers named as in a process of its own."""
    keras.backend.clear_session()
    return damaging.command(*words)


def contents(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def _problem(name, root, layer, mend=lambda: None):
    """What a fault did that it must not, or None; `mend` ends the fault."""
    words, on, made = commands(root)[name]
    before = contents(root)
    try:
        with layer():
            status, said = anew(words)
    except Exception as error:  # That it surfaces is the finding.
        return f"{type(error).__name__} surfaces: {str(error)[:200]}"
    if status not in (0, 1):
        return f"status {status}: {said[:200]}"
    reasons = [os.strerror(layer.number), *(FULL if layer.number == errno.ENOSPC else ())]
    if status == 1 and not (layer.root in said and any(reason in said for reason in reasons)):
        return f"the message names no file or no reason: {said[-300:]}"
    if layer.kind == "vanish":
        shutil.copytree(root.with_name("good"), root, dirs_exist_ok=True)
        on = []
    else:
        allowed = KEPT_UP if name in ("export", "quantize") else ()
        now = contents(root)
        lost = [file for file in before if file not in allowed and now.get(file) != before[file]]
        if lost:
            return f"{', '.join(lost)} is not as it was"
        left = [file for file in now if ".tmp-" in file or file.endswith(".lock")]
        if left:
            return f"{', '.join(left)} was left"
    mend()
    if status == 0:  # as where a folder cannot be put on the disk
        return None if (root / made).exists() else f"{made} is not there, and nothing was said"
    return _goes_on(words, on, made, root)


def _goes_on(words, on, made, root):
    """What is wrong when the command is given again on a sound disk, or None."""
    begun = root / "new" / "recipe.json"
    on = on if words[0] != "distill" or begun.exists() else []
    if (root / "new" / "results.json").exists():
        return None  # it was the lock that could not be removed
    status, said = anew([*words, *on])
    if status or not (root / made).exists():
        return f"afterwards it does not go on: {said[-300:]}"
    return None


def filled(name, good, folder):
    """The tally of a command on disks of memory that are too small for what it writes."""
    tally = tallies.Tally(f"disks: {name}, really full")
    root = folder / "small"
    for share in (None, 0.2, 0.5, 0.9):
        root.mkdir()
        if not _mount(root, ROOM):
            root.rmdir()
            tally.note = "not tried: no disk of memory can be mounted here"
            return tally
        try:
            shutil.copytree(good, root, dirs_exist_ok=True)
            before = _used(root)
            if share is None:
                anew(commands(root)[name][0])
                written = _used(root) - before
                continue
            _mount(root, before + int(share * written), "remount,")
            layer = layers.Layer(root, number=errno.ENOSPC)
            problem = _problem(name, root, layer, lambda: _mount(root, ROOM, "remount,"))
            what = f"{name}, room for {share:.0%} of {written:,} bytes"
            tally.add(problem and f"{what}: {problem}")
        finally:
            subprocess.run(["umount", "--lazy", str(root)], check=True)
            root.rmdir()
    return tally


def _mount(root, size, how=""):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    words = ["mount", "-t", "tmpfs", "-o", f"{how}size={size}", "tmpfs", str(root)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _used(root):
    found = os.statvfs(root)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
