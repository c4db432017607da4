"""Shared by the tests: quiet TensorFlow, fixed seeds, tiny models."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _fixed_seed():
    keras.utils.set_random_seed(7)
    yield
    keras.config.set_dtype_policy("float32")


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
