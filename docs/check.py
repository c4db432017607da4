"""Runs every `kdkeras` command that README.md and docs/ show, made small, and says which fail.

    python docs/check.py
    python docs/check.py --only="digits --workdir|export" --folder=checked
    python docs/check.py --list

The commands run in the order in which they stand there, in one folder, each different one once,
with little data, one epoch and small models. What they need is made first: pictures, models, and a
set that tensorflow_datasets takes for CIFAR-10 (of random pictures: nothing is downloaded).
"""

import argparse
import contextlib
import importlib.util
import io
import os
import pathlib
import re
import shlex
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
# What each command is given, in the place of what stands there.
TRAINING = {
    "epochs": "1",
    "teacher_epochs": "1",
    "max_train": "100",
    "batch_size": "32",
}
SMALL = {
    "distill": TRAINING,
    "train": TRAINING,
    "search": {**TRAINING, "trials": "2", "compare_seeds": "2"},
    "cache": {"max_train": "100"},
    "quantize": {"epochs": "1", "calibration_images": "32"},
    "export": {"calibration_images": "32"},
    "attack": {"max_images": "20", "suite": "quick"},
    "certify": {"max_images": "5", "n": "100", "n0": "10"},
}
OVERWRITING = ("distill", "train", "search", "cache", "attack", "report")


def main(given=None):
    """Returns 1 if a command failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="a pattern that commands must contain")
    parser.add_argument("--folder", help="where to run them; what is there stays, and is built on")
    parser.add_argument("--list", action="store_true", help="show them, made small, and run none")
    options = parser.parse_args(given)
    wanted = [(page, line) for page, line in commands() if re.search(options.only, line)]
    if options.list:
        for page, line in wanted:
            print(f"{page}: {skipped(line) or shlex.join(small(line))}")
        return 0
    with contextlib.ExitStack() as stack:
        folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory())
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        stack.enter_context(contextlib.chdir(folder))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        prepare(pathlib.Path())
        return _run_all(wanted)


def commands(pages=None):
    """The pairs (page, command line), in the order of the documents; once, what is the same when
    it is made small."""
    if pages is None:
        pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
        pages = {path.name: path.read_text(encoding="utf-8") for path in pages}
    found = {}
    for name, text in pages.items():
        for block in re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].split("/")[-1] == "kdkeras":
                    line = shlex.join(["kdkeras", *words[1:]])
                    found.setdefault(tuple(small(line)), (name, line))
    return list(found.values())


def skipped(line):
    """Why a command cannot run here; None if it can."""
    if "--strategy=multiworker" in line:
        return f"skipped: needs machines that TF_CONFIG lists: {line}"
    if "--strategy=mirrored" in line and not _gpus():
        return f"skipped: needs GPUs: {line}"
    for command, package in {"kdkeras search": "optuna", "=onnx": "tf2onnx"}.items():
        if command in line and importlib.util.find_spec(package) is None:
            return f"skipped: needs {package}: {line}"
    return None


def small(line):
    """A command's words, less the program's name, with the settings that make it small."""
    _, command, *words = shlex.split(line)
    settings = {**SMALL.get(command, {})}
    given = {word.split("=")[0].lstrip("-") for word in words}
    settings |= {"seeds": "2"} if "seeds" in given else {}
    if command in ("distill", "train") and "workdir" not in given:
        settings["workdir"] = "runs/unnamed"  # not what another command has made
    if command == "distill":
        settings |= {"attack_steps": "2"} if "epsilon" in given else {}
        settings |= {"quantize_epochs": "1"} if "quantize" in given else {}
        if "quantize" not in given and "--workdir=runs/digits" not in words:
            words.append("--noexport")
    # The first run, on which others build, is of its own models.
    if command in ("distill", "search") and "--workdir=runs/digits" not in words:
        settings |= {} if {"teacher", "cache"} & given else {"teacher": "mlp"}
        settings |= {"student": "mlp"}
    if command in OVERWRITING and not {"overwrite", "resume"} & given:
        words.append("--overwrite")
    if "--dataset=cifar10" in words:
        kept = [word for word in words if not word.startswith("--data_dir=")]
        words = [word.replace("=teacher.keras", "=tfds/teacher.keras") for word in kept]
        words.append("--data_dir=tfds")
    named = [word for word in words if word.lstrip("-").split("=")[0] not in settings]
    return [command, *named, *(f"--{name}={value}" for name, value in settings.items())]


def prepare(folder):
    """Makes what the commands take for granted, where it is not there yet.

    Args:
        folder: `pathlib.Path`; gets my_pictures/, photo.png, models of digits (teacher.keras,
            control.keras, student.keras) and tfds/, with a CIFAR-10 of 300 random pictures and a
            teacher for it.
    """
    import matplotlib.image
    import numpy as np

    import kdkeras

    random = np.random.default_rng(0)
    for name in ("cat", "dog", "bird"):
        (folder / "my_pictures" / name).mkdir(parents=True, exist_ok=True)
        for number in range(40):
            picture = random.random((40, 50, 3)).astype("float32")
            matplotlib.image.imsave(folder / "my_pictures" / name / f"{number}.png", picture)
    matplotlib.image.imsave(folder / "photo.png", picture)
    for name in ("teacher", "control", "student"):
        model = kdkeras.models.mlp(input_shape=(16, 16, 3), num_classes=10, hidden=(8,))
        model.save(folder / f"{name}.keras")
    _small_cifar10(folder / "tfds", random)
    model = kdkeras.models.mlp(input_shape=(32, 32, 3), num_classes=10, hidden=(8,))
    model.save(folder / "tfds" / "teacher.keras")


def _small_cifar10(folder, random):
    import numpy as np
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10", data_dir=str(folder), try_gcs=False)
    if builder.is_prepared():
        return

    def examples(split, count):
        for number in range(count):
            image = random.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            name = f"{split}_{number}"
            yield name, {"id": name, "image": image, "label": number % 10}

    counts = {"train": 200, "test": 100}
    builder._split_generators = lambda manager: {
        split: examples(split, count) for split, count in counts.items()
    }
    tfds.disable_progress_bar()
    builder.download_and_prepare()


def _run_all(wanted):
    failed, started = [], time.monotonic()
    for page, line in wanted:
        reason = skipped(line)
        if reason:
            print(f"        - {page}: {reason}", flush=True)
            continue
        began = time.monotonic()
        good, said = run(small(line))
        mark = "ok    " if good else "FAILED"
        print(f"{mark} {time.monotonic() - began:4.0f} s  {page}: {line}", flush=True)
        if not good:
            failed.append(line)
            print("\n".join(f"    | {row}" for row in said.splitlines()[-15:]), flush=True)
    minutes = (time.monotonic() - started) / 60
    print(f"{len(wanted)} commands, {len(failed)} failed, {minutes:.0f} minutes")
    return int(bool(failed))


def run(words):
    """Runs a command in this process: whether it did what it should, and all that it said."""
    import keras

    from kdkeras import cli

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = cli.main(words)
        except Exception as error:  # what a user would see as a traceback
            status = f"{type(error).__name__}: {error}"
            print(status)
    keras.backend.clear_session()
    # A verdict on the model, not on the command.
    judged = words[0] == "attack" and status == 1 and "not reliable" in said.getvalue()
    return status == 0 or judged, said.getvalue()


def _gpus():
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
