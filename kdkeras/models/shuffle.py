"""ShuffleNetV2, with strides for small images."""

import keras

from kdkeras import arguments
from kdkeras.models import ends

# Channels after the three stages and after the last convolution.
CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
STEM_CHANNELS = 24
STAGE_BLOCKS = (4, 8, 4)


def shufflenet_v2(
    *,
    input_shape,
    num_classes,
    width=1.0,
    strides="auto",
    batchnorm_momentum=0.9,
    dropout=0.0,
    name=None,
):
    """ShuffleNetV2, from pixels to logits.

    Each unit transforms half of the channels (1x1, 3x3 depthwise, 1x1), keeps the other half, and
    shuffles the two. With small-image strides the stem keeps the resolution and there is no
    pooling: /8 in total rather than /32.

    Args:
        input_shape: (height, width, channels); at least 8 pixels a side, 32 with stock strides.
        num_classes: Number of logits, at least 2.
        width: 0.5, 1.0, 1.5 or 2.0.
        strides: "small" (/8), "stock" (/32), or "auto": small below 96 pixels.
        batchnorm_momentum: Momentum of the moving statistics, in [0, 1).
        dropout: Rate of dropout before the logits, in [0, 1).
        name: Name of the model. Defaults to `shufflenet_v2`.

    Returns:
        A `keras.Model` from float32 images in [0, 1] to logits of shape (batch, num_classes).

    Raises:
        ValueError: For an argument out of its range.

    Example:

    >>> student = shufflenet_v2(input_shape=(32, 32, 3), num_classes=10, width=0.5)
    >>> student(images).shape
    (128, 10)

    Reference: Ma et al. 2018, ShuffleNet V2, https://arxiv.org/abs/1807.11164
    """
    if width not in CHANNELS:
        raise ValueError(f"`width` must be one of {tuple(CHANNELS)}. Received: width={width!r}")
    arguments.one_of("strides", strides, ("auto", "small", "stock"))
    input_shape = ends.image_shape(input_shape, smallest=8)
    small = strides == "small" or (strides == "auto" and min(input_shape[:2]) < 96)
    input_shape = ends.image_shape(input_shape, smallest=8 if small else 32)
    ends.check_num_classes(num_classes)
    ends.check_rates(batchnorm_momentum=batchnorm_momentum, dropout=dropout)

    *stages, last = CHANNELS[width]
    momentum = batchnorm_momentum
    inputs = keras.Input(input_shape, name="image")
    x = ends.normalize_pixels(inputs)
    x = _conv(x, STEM_CHANNELS, 3, 1 if small else 2, momentum, "stem")
    if not small:
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, (count, filters) in enumerate(zip(STAGE_BLOCKS, stages, strict=True)):
        x = _downsample(x, filters, momentum, f"stage{stage + 2}_unit1")
        for unit in range(1, count):
            x = _unit(x, filters, momentum, f"stage{stage + 2}_unit{unit + 1}")
    x = _conv(x, last, 1, 1, momentum, "last")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, ends.logits_output(x, num_classes), name=name or "shufflenet_v2")


def _unit(x, filters, momentum, prefix):
    """Half of the channels through the branch, the other half as they are."""
    kept, x = keras.ops.split(x, 2, axis=-1)
    x = _branch(x, filters // 2, 1, momentum, f"{prefix}_right")
    return _shuffled(kept, x, prefix)


def _downsample(x, filters, momentum, prefix):
    """All channels through both branches, at half the resolution."""
    left = _depthwise(x, 2, momentum, f"{prefix}_left_depthwise")
    left = _conv(left, filters // 2, 1, 1, momentum, f"{prefix}_left_project")
    right = _branch(x, filters // 2, 2, momentum, f"{prefix}_right")
    return _shuffled(left, right, prefix)


def _branch(x, filters, strides, momentum, prefix):
    x = _conv(x, filters, 1, 1, momentum, f"{prefix}_expand")
    x = _depthwise(x, strides, momentum, f"{prefix}_depthwise")
    return _conv(x, filters, 1, 1, momentum, f"{prefix}_project")


def _shuffled(left, right, prefix):
    """Both halves, their channels taken in turns."""
    x = keras.layers.Concatenate(name=f"{prefix}_concat")([left, right])
    height, width, channels = x.shape[1:]
    # Pixels are flattened to stay within four dimensions, the most that mobile GPU delegates
    # transpose.
    x = keras.layers.Reshape((height * width, 2, channels // 2), name=f"{prefix}_group")(x)
    x = keras.layers.Permute((1, 3, 2), name=f"{prefix}_shuffle")(x)
    return keras.layers.Reshape((height, width, channels), name=f"{prefix}_ungroup")(x)


def _conv(x, filters, kernel_size, strides, momentum, name):
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _depthwise(x, strides, momentum, name):
    x = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=ends.depthwise_initializer(),
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5, name=f"{name}_bn")(x)
