"""Fake quantisation: float32 numbers rounded to those that an int8 file can hold."""

import math

import tensorflow as tf

# Codes of activations, and of weights on either side of zero.
LEVELS = 255
WEIGHT_LEVELS = 127
# A bias is an int32 code; half of its range is left to the sum that it is added to.
BIAS_LEVELS = 2.0**30
# A kernel of zeros still needs a range.
SMALLEST_LIMIT = 1e-6


def activations(x, low, high):
    """Rounds to one of 256 values, one of them zero.

    `step = (high - low) / 255`, `zero = round(-low / step)`, and
    `y = step * (clip(round(x / step) + zero, 0, 255) - zero)`. The gradient is one within the range
    and zero outside; outside it goes to `low` and `high`.

    Args:
        x: float32 tensor.
        low: Scalar, at most 0.
        high: Scalar, at least 0 and above `low`.

    Returns:
        `(y, step)`.

    Reference:
        Jacob et al., [Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference](https://arxiv.org/abs/1712.05877), 2018.
    """
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high), step_of(low, high)


def step_of(low, high):
    """The distance of two values in a range, with the float32 rounding of a file's scales."""
    return tf.cast((tf.cast(high, tf.float64) - tf.cast(low, tf.float64)) / LEVELS, tf.float32)


def sums(x, unit, low, high):
    """Rounds sums of products as XNNPACK does: exact integers, multiplied once in float32.

    With `k = round(x / unit)`: `y = step * (clip(round(k * (unit / step)) + zero, 0, 255) - zero)`.
    A float32 sum has errors that put it on the other side of a midpoint once in 100,000 times;
    divided by the unit and rounded it has none.

    Args:
        x: float32 tensor, multiples of `unit` but for errors of float32.
        unit: float32 tensor, a number or one a channel.
        low: Scalar.
        high: Scalar.

    Returns:
        float32 tensor.
    """
    step = step_of(low, high)
    return _values(tf.round(tf.round(x / unit) * (unit / step)), low, step)


def addition(x, x_step, y, y_step, low, high):
    """Rounds a sum of two tensors as XNNPACK does, with integer multipliers of 21 bits.

    With `n = 20 - floor(log2(max(x_step, y_step) / step))` and the multipliers
    `round(2^n * x_step / step)` and `round(2^n * y_step / step)`, the code is
    `floor((x_code * x_multiplier + y_code * y_multiplier) / 2^n + 1/2)`.

    Args:
        x: float32 tensor, multiples of `x_step`.
        x_step: Scalar.
        y: float32 tensor, multiples of `y_step`.
        y_step: Scalar.
        low: Scalar.
        high: Scalar.

    Returns:
        float32 tensor.
    """
    step = step_of(low, high)
    ratios = [tf.cast(one / step, tf.float64) for one in (x_step, y_step)]
    exponent = tf.floor(tf.math.log(tf.maximum(*ratios)) / math.log(2.0) + 1e-12)
    whole = tf.pow(tf.constant(2.0, tf.float64), 20.0 - exponent)
    codes = [
        tf.cast(tf.round(values / one), tf.float64) for values, one in ((x, x_step), (y, y_step))
    ]
    total = sum(code * tf.round(ratio * whole) for code, ratio in zip(codes, ratios, strict=True))
    return _values(tf.cast(tf.floor(total / whole + 0.5), tf.float32), low, step)


def _values(codes, low, step):
    """The values of codes that are counted from zero."""
    zero = tf.round(-low / step)
    return step * (tf.clip_by_value(codes, -zero, LEVELS - zero))


def weights(kernel, bias, step, *, per_channel=True):
    """Rounds a kernel to int8 and its bias to int32, as an int8 file holds them.

    With `m` the largest magnitude of a channel (of the kernel, unless `per_channel`):
    `kernel' = m / 127 * round(127 * kernel / m)` and `bias' = s * round(bias / s)`,
    `s = step * m / 127`. The gradients are those of the kernel and bias as they were.

    Args:
        kernel: float32 tensor, output channels last.
        bias: float32 tensor, `(channels,)`.
        step: Scalar, the step of the layer's input.
        per_channel: Whether each output channel has a range of its own.

    Returns:
        `(kernel', bias', s)`: sums of products are multiples of `s`.
    """
    limits = tf.reduce_max(tf.abs(kernel), axis=list(range(kernel.shape.rank - 1)))
    # A channel that is nearly dead would make codes of its bias that no int32 holds.
    smallest = tf.abs(bias) * (WEIGHT_LEVELS / BIAS_LEVELS) / step
    limits = tf.maximum(tf.maximum(limits, smallest), SMALLEST_LIMIT)
    if per_channel:
        limits = tf.stop_gradient(limits)
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -limits, limits, narrow_range=True
        )
    else:
        limits = tf.stop_gradient(tf.reduce_max(limits))
        kernel = tf.quantization.fake_quant_with_min_max_vars(
            kernel, -limits, limits, narrow_range=True
        )
    steps = tf.stop_gradient(step) * (limits / WEIGHT_LEVELS)
    rounded = tf.round(bias / steps) * steps
    return kernel, bias + tf.stop_gradient(rounded - bias), steps
