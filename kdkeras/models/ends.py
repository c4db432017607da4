"""What every model begins and ends with: checked arguments, normalised pixels, float32 logits."""

import math
from collections.abc import Sequence
from numbers import Integral

import keras

from kdkeras import arguments

NORMALIZE_PIXELS = "normalize_pixels"


def is_count(value, smallest=1):
    """Whether `value` is an integer (not a bool) of at least `smallest`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= smallest


def image_shape(input_shape, *, smallest):
    """Returns `input_shape` if it is (height, width, channels) with sides of `smallest` or more."""
    if (
        not isinstance(input_shape, Sequence)
        or isinstance(input_shape, str)
        or len(input_shape) != 3
        or not all(is_count(size) for size in input_shape)
    ):
        raise ValueError(
            "`input_shape` must be (height, width, channels), three positive integers without the "
            f"batch size, such as (32, 32, 3). Received: input_shape={input_shape!r}"
        )
    if min(input_shape[:2]) < smallest:
        raise ValueError(
            f"`input_shape` must have sides of at least {smallest} pixels for this architecture. "
            f"Received: input_shape={tuple(input_shape)}. Resize the images, or take an "
            "architecture (or strides) for smaller ones."
        )
    return tuple(int(size) for size in input_shape)


def check_num_classes(num_classes):
    """ValueError unless `num_classes` is an integer of at least 2."""
    if not is_count(num_classes, smallest=2):
        raise ValueError(
            "`num_classes` must be an integer of at least 2 (two logits for a binary problem). "
            f"Received: num_classes={num_classes!r}"
        )


def check_rates(**rates):
    """ValueError unless each named argument is a number in [0, 1)."""
    for name, value in rates.items():
        below_one = math.nextafter(1.0, 0.0)
        arguments.number(name, value, low=0.0, high=below_one, expected="a number in [0, 1)")


def normalize_pixels(pixels):
    """Pixels in [0, 1] to [-1, 1]."""
    # float32 under every policy: bfloat16 would round pixels in [0.5, 1] to steps of 1/256 before
    # they are centred.
    return keras.layers.Rescaling(2.0, offset=-1.0, dtype="float32", name=NORMALIZE_PIXELS)(pixels)


def logits_output(features, num_classes):
    """Logits (batch, num_classes), float32 whatever the dtype policy."""
    return keras.layers.Dense(
        int(num_classes),
        dtype="float32",
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        name="logits",
    )(features)


def depthwise_initializer(kernel_size=3):
    """He et al. 2015 for a depthwise convolution: N(0, 2 / kernel_size^2)."""
    # Keras's own "he_normal" and "glorot_uniform" count every channel as fan-in, though a depthwise
    # output sees one; at 960 channels activations would then be as small as the epsilon of the
    # BatchNormalization behind them.
    return keras.initializers.RandomNormal(stddev=math.sqrt(2.0 / kernel_size**2))
