"""A soak: hundreds of fits, evaluations and exports in one process, whose memory must stay flat."""

import contextlib
import dataclasses
import gc
import io
import itertools
import os
import pathlib
import resource
import tempfile
import weakref

import numpy as np
import psutil

from . import tallies

ROUNDS, CONTROLS, WARM_UP, WINDOW = 200, 60, 20, 20
# A `.tflite` file takes a process of seconds: every tenth round writes one beside its SavedModel.
TENTH = 10
# Of the memory of rounds 21 to 40, which that of the last 20 may leave by so much.
FLAT = 0.05


@dataclasses.dataclass(frozen=True)
class Use:
    """What this process holds after a round.

    Attributes:
        memory: Resident bytes.
        files: Open file descriptors.
        threads: Threads, of Python and of native code.
        children: Child processes.
    """

    memory: int
    files: int
    threads: int
    children: int


def used():
    """`Use` of now, after a garbage collection."""
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    native = len(os.listdir("/proc/self/task"))
    children = len(psutil.Process().children(recursive=True))
    return Use(pages * resource.getpagesize(), len(os.listdir("/proc/self/fd")), native, children)


def classifier(channels=4):
    """A fresh small classifier of pictures of 8 x 8, with logits of 3 classes."""
    import keras

    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(channels, 3, strides=2, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def pictures(count=8):
    """Random images in [0, 1] and integer labels."""
    random = np.random.default_rng(5)
    return random.random((count, 8, 8, 1), "float32"), random.integers(0, 3, count)


def distilled():
    """A Distiller of fresh models after one epoch of two batches, and an evaluation."""
    import keras

    import kdkeras

    made = kdkeras.Distiller(student=classifier(), teacher=classifier())
    _trained(made, keras)
    made.student.predict(pictures()[0], verbose=0)
    return made


def plain():
    """A plain Keras model that is used as `distilled` uses a Distiller: what Keras keeps itself."""
    import keras

    made = classifier()
    _trained(made, keras)
    made.predict(pictures()[0], verbose=0)
    return made


def _trained(model, keras):
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=hard, metrics=["accuracy"])
    _used(model)


def _used(model):
    """Fits a compiled model for an epoch of two batches, and evaluates it."""
    x, y = pictures()
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    model.evaluate(x, y, batch_size=4, verbose=0)


def exported(model, folder, kinds=("saved_model", "float32")):
    """Writes a student as SavedModel, and float32 `.tflite`, proven on the pictures."""
    from kdkeras import export

    x, y = pictures()
    with contextlib.redirect_stdout(io.StringIO()):
        report = export.flavours(
            model, folder, x, y, kinds=list(kinds), timed=False, overwrite=True, verbose=False
        )
    if report["failed"]:
        raise RuntimeError(f"the export failed: {report['failed']}")


def rounds(count, each, *, clear):
    """Runs `each` so many times, and yields `Use` after each.

    Args:
        count: How many times.
        each: A function of no arguments.
        clear: Whether Keras's own state is cleared in between, as users of many models do.
    """
    import keras

    for _ in range(count):
        each()
        if clear:
            keras.backend.clear_session()
        yield used()


def drift(found, key):
    """The relative change of a figure from the rounds after the warm-up to the last ones."""
    figures = [getattr(use, key) for use in found]
    early = np.mean(figures[WARM_UP : WARM_UP + WINDOW])
    return float(np.mean(figures[-WINDOW:]) / max(early, 1.0) - 1.0)


def survivors(each):
    """Names of what a round's objects still hold alive once they are deleted.

    Args:
        each: A function that returns a model, a Distiller or another.
    """
    made = each()
    parts = {"model": made, "student": getattr(made, "student", None)}
    parts["teacher"] = getattr(made, "teacher", None)
    watched = {name: weakref.ref(part) for name, part in parts.items() if part is not None}
    del made, parts
    gc.collect()
    return [name for name, reference in watched.items() if reference() is not None]


def tally(family, found, *, growing=()):
    """A `tallies.Tally` of rounds: each is a fault tried, and each figure that grew is lost."""
    made = tallies.Tally(family, tried=len(found))
    memory = [use.memory / 2**20 for use in found]
    change = drift(found, "memory")
    early = np.mean(memory[WARM_UP : WARM_UP + WINDOW])
    made.note = f"{early:.0f} MB to {np.mean(memory[-WINDOW:]):.0f} MB, {change:+.2%}"
    if abs(change) > FLAT and "memory" not in growing:
        made.lost.append(f"{family}: memory is not flat within {FLAT:.0%}: {made.note}")
    for key in ("files", "threads", "children"):
        early, late = (
            max(getattr(use, key) for use in part)
            for part in (found[WARM_UP : WARM_UP + WINDOW], found[-WINDOW:])
        )
        made.note += f", {key} {early} to {late}"
        if late > early:
            made.lost.append(f"{family}: {key} grew from {early} to {late}")
    return made


def run(seed, quick):
    """The soak of one Distiller, and two controls: fresh ones, and fresh plain Keras models.

    Args:
        seed: Of the weights.
        quick: Whether there are fewer rounds, of fits alone.

    Yields:
        `tallies.Tally`s, one a kind of round.
    """
    import keras

    keras.utils.set_random_seed(seed)
    # What other families left behind is not looked at each time.
    gc.freeze()
    made, done = distilled(), itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:

        def everything():
            _used(made)
            made.student.predict(pictures()[0], verbose=0)
            kinds = ("saved_model", "float32")[: 1 + (next(done) % TENTH == 0)]
            exported(made.student, f"{folder}/out", kinds)

        if quick:
            found = list(rounds(2 * (WARM_UP + WINDOW), lambda: _used(made), clear=False))
            yield tally("soak: fits and evaluations of a Distiller", found)
            return
        found = list(rounds(ROUNDS, everything, clear=False))
    yield tally("soak: a Distiller fits, evaluates, predicts, exports", found)
    for each, name in ((distilled, "Distillers"), (plain, "plain Keras models")):
        found = list(rounds(CONTROLS, each, clear=True))
        # Keras and TensorFlow keep the graph of each training: it is said, not judged.
        yield tally(f"soak: fresh {name}, cleared", found, growing=("memory",))
