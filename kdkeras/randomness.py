"""Random numbers as pure functions of (seed, example id, view): a counter-based splitmix64 hash.

The numbers of one example do not depend on the batch it sits in, on the order of the data, or on
whether they are drawn eagerly, in a `tf.function` or in `tf.data`. They are bit-identical on one
kind of device; across devices the normals may differ in the last place.
"""

import functools
import math

import numpy as np
import tensorflow as tf

from kdkeras import arguments

# Weyl increment and mixing constants of splitmix64.
GAMMA = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
WORD = 1 << 64

# A row of normals is computed in multiples of this many numbers: the vectorised logarithm and
# cosine of Eigen differ in the last place from the scalar ones that it uses for a remainder, and
# which numbers are in the remainder would depend on the batch.
LANES = 16

# Steps of the table of Beta quantiles.
QUANTILES = 4096


def keys(seed, ids, views):
    """A 64-bit key for each example and view.

    `key = mix(mix(mix(seed + g) + g * (id + 1)) + g * (view + 1))`, with `g` the golden ratio and
    `mix` the finaliser of splitmix64. Distinct ids have distinct keys for one seed and view.

    Args:
        seed: Integer.
        ids: Integer tensor of shape `(batch,)`.
        views: Integer tensor of shape `(batch,)`, or one integer.

    Returns:
        int64 tensor of shape `(batch,)`.

    Example:

    >>> keys(0, [0, 1], 0).shape
    TensorShape([2])

    Reference:
        Steele et al., [Fast Splittable Pseudorandom Number Generators](
        https://doi.org/10.1145/2660193.2660195), 2014.
    """
    start = _mix(_word(seed) + _constant(GAMMA))
    of_id = _mix(start + _constant(GAMMA) * (_word(ids) + _constant(1)))
    of_view = _mix(of_id + _constant(GAMMA) * (_word(views) + _constant(1)))
    return tf.bitcast(of_view, tf.int64)


def uniform(keys, shape=(), *, stream):
    """Numbers uniform in [0, 1), multiples of 2^-24.

    Args:
        keys: int64 tensor of shape `(batch,)`, from `keys`.
        shape: Shape of each example's draw.
        stream: Integer that separates this use of the keys from others.

    Returns:
        float32 tensor of shape `(batch, *shape)`.
    """
    shape = _static(shape)
    bits = tf.bitwise.right_shift(_bits(keys, math.prod(shape), stream), _constant(40))
    return tf.reshape(tf.cast(bits, tf.float32) * 2.0**-24, [-1, *shape])


def integers(keys, limit, *, stream):
    """Integers uniform in 0 ... limit - 1, one an example (`limit` below 2^31).

    Args:
        keys: int64 tensor of shape `(batch,)`, from `keys`.
        limit: Positive integer.
        stream: Integer that separates this use of the keys from others.

    Returns:
        int32 tensor of shape `(batch,)`.
    """
    high = tf.bitwise.right_shift(_bits(keys, 1, stream)[:, 0], _constant(32))
    return tf.cast(tf.bitwise.right_shift(high * _constant(limit), _constant(32)), tf.int32)


def normal(keys, shape, *, stream):
    """Standard normal numbers by the Box-Muller transform.

    `n = sqrt(-2 log u) * (cos(2 pi v), sin(2 pi v))`, two numbers from each 64-bit word. The
    largest possible magnitude is 6.8.

    Args:
        keys: int64 tensor of shape `(batch,)`, from `keys`.
        shape: Shape of each example's draw, known: a list, tuple or `TensorShape`.
        stream: Integer that separates this use of the keys from others.

    Returns:
        float32 tensor of shape `(batch, *shape)`.

    Raises:
        ValueError: A dimension of `shape` is unknown.

    Reference:
        Box and Muller, [A Note on the Generation of Random Normal Deviates](
        https://doi.org/10.1214/aoms/1177706645), 1958.
    """
    shape = _static(shape)
    count = math.prod(shape)
    pairs = LANES * math.ceil(count / (2 * LANES))
    bits = _bits(keys, pairs, stream)
    high = tf.bitwise.right_shift(bits, _constant(32))
    low = tf.bitwise.bitwise_and(bits, _constant(0xFFFFFFFF))
    u = (tf.cast(high, tf.float32) + 0.5) * 2.0**-32
    v = tf.cast(low, tf.float32) * 2.0**-32
    radius = tf.sqrt(-2.0 * tf.math.log(u))
    angle = 2.0 * math.pi * v
    numbers = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)
    return tf.reshape(numbers[:, :count], [-1, *shape])


def symmetric_beta(keys, *, alpha, stream):
    """Beta(alpha, alpha) numbers, one an example, by the inverse of the distribution function.

    `lam = F^-1(u)`, interpolated linearly in a table of 4,097 quantiles (exact to within the
    probability 1/4096 between two of them).

    Args:
        keys: int64 tensor of shape `(batch,)`, from `keys`.
        alpha: Positive.
        stream: Integer that separates this use of the keys from others.

    Returns:
        float32 tensor of shape `(batch,)`, in [0, 1].
    """
    table = tf.constant(_beta_quantiles(arguments.positive("alpha", alpha)))
    place = uniform(keys, stream=stream) * QUANTILES
    cell = tf.cast(place, tf.int32)
    low, high = tf.gather(table, cell), tf.gather(table, cell + 1)
    return low + (high - low) * (place - tf.cast(cell, tf.float32))


@functools.cache
def _beta_quantiles(alpha):
    """Quantiles 0, 1/4096, ..., 1 of Beta(alpha, alpha), by bisection of its distribution."""
    levels = np.linspace(0.0, 0.5, QUANTILES // 2 + 1)
    low, high = np.zeros_like(levels), np.full_like(levels, 0.5)
    with tf.init_scope(), tf.device("CPU:0"):
        for _ in range(50):
            middle = (low + high) / 2.0
            below = tf.math.betainc(np.float64(alpha), np.float64(alpha), middle).numpy() < levels
            low, high = np.where(below, middle, low), np.where(below, high, middle)
    lower_half = (low + high) / 2.0
    lower_half[0], lower_half[-1] = 0.0, 0.5
    return np.concatenate([lower_half, 1.0 - lower_half[-2::-1]]).astype(np.float32)


def _bits(keys, count, stream):
    """uint64 words of shape `(batch, count)`: word i of a row is `mix(row + g * (i + 1))`."""
    row = _mix(_word(keys) ^ _mix(_word(stream) + _constant(GAMMA)))
    steps = _constant(GAMMA) * _word(tf.range(1, count + 1, dtype=tf.int64))
    return _mix(row[:, None] + steps)


def _mix(word):
    """The finaliser of splitmix64: a bijection of 64-bit words."""
    for shift, factor in zip((30, 27), MIX, strict=True):
        word = (word ^ tf.bitwise.right_shift(word, _constant(shift))) * _constant(factor)
    return word ^ tf.bitwise.right_shift(word, _constant(31))


def _word(value):
    """An integer, or an integer tensor, as uint64 (two's complement)."""
    if isinstance(value, int):
        return _constant(value % WORD)
    return tf.bitcast(tf.cast(value, tf.int64), tf.uint64)


def _constant(value):
    return tf.constant(value, tf.uint64)


def _static(shape):
    """`shape` as a list of integers."""
    shape = tf.TensorShape(shape)
    if not shape.is_fully_defined():
        raise ValueError(
            "`shape` must be known: random numbers are drawn for every pixel of an example. "
            f"Received: shape={shape}. Give the images a known height, width and channel count."
        )
    return shape.as_list()
