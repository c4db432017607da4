"""Shared by the tests: quiet TensorFlow, fixed seeds, tiny models."""

import gc
import os
import signal
import socket

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import children
import keras
import numpy as np
import pytest
from tensorflow.python.framework import config

from kdkeras import processes


@pytest.fixture(autouse=True)
def _fixed_seed():
    keras.utils.set_random_seed(7)
    yield
    keras.config.set_dtype_policy("float32")
    # Which commands turn on for their process.
    config.disable_op_determinism()


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    # What a script starts in the background is born deaf to Ctrl-C, and so are its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _collected():
    yield
    # Keras keeps the graphs of all trainings: to look at them each time would take seconds.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _parent():
    with children.Parent() as parent:
        yield parent


@pytest.fixture(scope="module")
def quick_children(_parent):
    """Conversions and measurements in processes that start quickly; gives the real `run`."""
    real = processes.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "run", _parent.run)
        yield real


def classifier(width=4, *, classes=3, features=6, batchnorm=True, penalty=None, dropout=0.0):
    """A small classifier of feature vectors, with logits."""
    inputs = keras.Input((features,))
    x = keras.layers.Dense(width, activation="relu", kernel_regularizer=penalty)(inputs)
    if batchnorm:
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))


def examples(count=32, *, classes=3, features=6):
    """Features and integer labels."""
    random = np.random.default_rng(3)
    x = random.normal(size=(count, features)).astype("float32")
    return x, random.integers(0, classes, count)


def sparse_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def conv_net(width=4, *, size=8, channels=1, classes=3, batchnorm=True, name=None):
    """A small classifier of images with layers r0 (half the size), r1 (a quarter), pool, logits."""
    inputs = keras.Input((size, size, channels), name="image")
    x = inputs
    for stage in range(2):
        x = keras.layers.Conv2D(
            width * (stage + 1), 3, strides=2, padding="same", name=f"c{stage}"
        )(x)
        if batchnorm:
            x = keras.layers.BatchNormalization(momentum=0.5, name=f"b{stage}")(x)
        x = keras.layers.ReLU(name=f"r{stage}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name=name)


def pictures(count=12, *, size=8, channels=1, classes=3):
    """Random images in [0, 1] and integer labels."""
    random = np.random.default_rng(5)
    x = random.random((count, size, size, channels)).astype("float32")
    return x, random.integers(0, classes, count)


def free_ports(count):
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
