"""What speed.py runs: models, data, and trainings that are timed step by step inside `fit`."""

import atexit
import pathlib
import random
import shutil
import statistics
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from keras import distillation

import kdkeras

SHAPE, CLASSES, TEMPERATURE, ALPHA = (32, 32, 3), 10, 4.0, 0.1
BATCHES_IN_MEMORY = 8
FEATURE = "_feature"  # ends the names of the cases with one more term

logging.set_verbosity("error")  # TensorFlow would warn that many models make many graphs


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def examples(count, seed=0):
    """A split in memory: random pictures and labels, whose content no step's time depends on."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return kdkeras.data.examples.Examples(pixels, generator.integers(0, CLASSES, count))


def plain_batches(split, batch_size):
    """Batches of (float32 pixels, labels), made once and held in memory: data at no cost."""
    count = min(BATCHES_IN_MEMORY, len(split.ids) // batch_size)
    pixels = np.float32(split.images[: count * batch_size]) / 255.0
    labels = split.labels[: count * batch_size]
    with tf.device("CPU:0"):
        tensors = (
            tf.constant(pixels.reshape(count, batch_size, *SHAPE)),
            tf.constant(labels.reshape(count, batch_size)),
        )
    return tf.data.Dataset.from_tensor_slices(tensors).repeat().prefetch(tf.data.AUTOTUNE)


def cached_batches(teacher, split, batch_size, *, views=2, seed=1):
    """Batches with the teacher's recorded logits, read from the file of the cache."""
    folder = tempfile.mkdtemp(prefix="kdkeras-speed-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = pathlib.Path(folder) / "teacher.cache"
    recorded = kdkeras.cache.fill(path, teacher, split, views=views, verbose=0)
    return recorded.batches(split, batch_size, seed=seed).repeat()


def small_teacher():
    """A teacher that costs next to nothing, where only its recorded logits matter."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.AveragePooling2D(8)(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(x)))


def copy(model):
    """The same architecture with weights of its own, of equal values."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    return other


def build(architecture, width=None, strides=None):
    """A model by name; MobileNetV2 with the strides asked for."""
    options = {"input_shape": SHAPE, "num_classes": CLASSES}
    if architecture == "mobilenet_v2":
        return kdkeras.models.mobilenet_v2(**options, alpha=width, strides=strides or "stock")
    return kdkeras.models.build(architecture, **options, width=width)


def compiled(model, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=loss, **options)
    return model


def keras_distiller(teacher, student, feature=False):
    """keras.distillation with its right path: KLDivergence() as an instance takes softmaxes."""
    losses = [
        distillation.LogitsDistillation(loss=keras.losses.KLDivergence(), temperature=TEMPERATURE)
    ]
    if feature:
        last = {"teacher_layer_name": teacher.layers[-1].name}
        last |= {"student_layer_name": student.layers[-1].name}
        losses.append(
            distillation.FeatureDistillation(loss=keras.losses.MeanSquaredError(), **last)
        )
    return distillation.Distiller(teacher, student, losses, student_loss_weight=ALPHA)


def our_distiller(teacher, student, feature=False):
    options = {"temperature": TEMPERATURE}
    if feature:
        soft = kdkeras.losses.SoftTargets(temperature=TEMPERATURE)
        options = {"terms": [kdkeras.Term(soft), kdkeras.Term(keras.losses.MeanSquaredError())]}
    return kdkeras.Distiller(student=student, teacher=teacher, alpha=ALPHA, **options)


class Clock(keras.callbacks.Callback):
    """Seconds of each step, from the end of one to the end of the next: data and callbacks too."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # waits for an accelerator
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


class Training:
    """A case timed inside `fit`."""

    def __init__(self, model, data):
        self.model, self.data = model, data

    def steps(self, count, dropped=1):
        """Seconds of `count` steps of one `fit`, after those dropped."""
        clock = Clock()
        self.model.fit(
            self.data,
            steps_per_epoch=count + dropped,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        return clock.seconds[dropped:]


class Epochs(Training):
    """A case timed by epochs, for accelerators: nothing looks at its steps and makes them wait."""

    def steps(self, count, dropped=1):
        """Mean seconds of a step in an epoch of `count`, behind a first one: a list of one."""
        del dropped
        seconds = []

        class Timed(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.began = time.perf_counter()

            def on_epoch_end(self, epoch, logs=None):
                float(logs["loss"])
                seconds.append(time.perf_counter() - self.began)

        options = {"steps_per_epoch": count, "epochs": 2, "shuffle": False, "verbose": 0}
        self.model.fit(self.data, **options, callbacks=[Timed()])
        return [seconds[-1] / count]


class Forward:
    """A case timed as the teacher's forward alone, as the distillers run it."""

    def __init__(self, model, data, jit_compile=False):
        self.data = data
        self.forward = tf.function(
            lambda x: model(x, training=False), jit_compile=jit_compile, autograph=False
        )

    def steps(self, count, dropped=1):
        """Seconds of `count` batches, after those dropped."""
        seconds, batches = [], iter(self.data)
        for _ in range(count + dropped):
            started = time.perf_counter()
            x, _ = next(batches)
            self.forward(x).numpy()
            seconds.append(time.perf_counter() - started)
        return seconds[dropped:]


def interleaved(cases, settings, *, count, dropped=1, seconds=0.0):
    """Round after round, every case once in a shuffled order, after a round of warm-up.

    Args:
        cases: Dict from name to an object with `steps`.
        settings: `rounds` and `seed` are used.
        count: Steps timed in a round, at least.
        dropped: Steps before them that are not.
        seconds: Short steps are timed more often, up to four times, to take so long in a round.

    Returns:
        Dict from name to a list of rounds, each a list of seconds.
    """
    order, measured, counts = list(cases), {name: [] for name in cases}, {}
    for name in order:
        say(f"    warm-up: {name}")
        cases[name].steps(1)
        step = min(cases[name].steps(2))
        counts[name] = min(max(count, round(seconds / step)), 4 * count)
    for number in range(settings.rounds):
        random.Random(settings.seed + number).shuffle(order)
        for name in order:
            measured[name].append(cases[name].steps(counts[name], dropped))
        middle = (f"{name} {1e3 * statistics.median(measured[name][-1]):.0f}" for name in cases)
        say(f"    round {number + 1} of {settings.rounds}, ms: {', '.join(middle)}")
    return measured
