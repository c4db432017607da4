"""ResNets for small images: those for CIFAR, and those for ImageNet with a CIFAR stem."""

import keras

from kdkeras.models import ends

# Residual blocks per stage.
CIFAR_BLOCKS = {20: (3,) * 3, 32: (5,) * 3, 44: (7,) * 3, 56: (9,) * 3, 110: (18,) * 3}
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
DEPTHS = (*CIFAR_BLOCKS, *IMAGENET_BLOCKS)


def resnet(depth, *, input_shape, num_classes, width=None, batchnorm_momentum=0.9, name=None):
    """A residual network for small images, from pixels to logits.

    Each block computes `relu(shortcut(x) + f(x))`, f being two 3x3 convolutions (1x1, 3x3, 1x1 at
    depth 50), each with BatchNormalization. Depths 20, 32, 44, 56, 110 are the CIFAR networks:
    three stages of widths w, 2w, 4w (w = 16), with the paper's parameter-free shortcuts (option A:
    every second pixel, new channels zero). Depths 18, 34, 50 are the ImageNet networks, four stages
    of widths w to 8w (w = 64), with 1x1 projections, and a CIFAR stem: one 3x3 convolution of
    stride 1 and no pooling.

    Args:
        depth: 20, 32, 44, 56 or 110; or 18, 34 or 50.
        input_shape: (height, width, channels); at least 4 pixels a side, 8 for depths 18, 34, 50.
        num_classes: Number of logits, at least 2.
        width: Width of the first stage. Defaults to 16, or 64 for depths 18, 34, 50.
        batchnorm_momentum: Momentum of the moving statistics, in [0, 1).
        name: Name of the model. Defaults to `resnet<depth>`.

    Returns:
        A `keras.Model` from float32 images in [0, 1] to logits of shape (batch, num_classes).

    Raises:
        ValueError: For a depth that is not listed, or an argument out of its range.

    Example:

    >>> teacher = resnet(20, input_shape=(32, 32, 3), num_classes=10)
    >>> teacher.count_params()
    271098

    Reference: He et al. 2016, Deep Residual Learning for Image Recognition,
    https://arxiv.org/abs/1512.03385, section 4.2.
    """
    if depth not in DEPTHS:
        raise ValueError(f"`depth` must be one of {DEPTHS}. Received: depth={depth!r}")
    small = depth in CIFAR_BLOCKS
    blocks = CIFAR_BLOCKS[depth] if small else IMAGENET_BLOCKS[depth]
    input_shape = ends.image_shape(input_shape, smallest=2 ** (len(blocks) - 1))
    ends.check_num_classes(num_classes)
    ends.check_rates(batchnorm_momentum=batchnorm_momentum)
    if width is None:
        width = 16 if small else 64
    if not ends.is_count(width):
        raise ValueError(
            "`width` must be a positive integer, the channels of the first stage (16 or 64 in the "
            f"paper). Received: width={width!r}"
        )

    residual = _bottleneck if depth == 50 else _basic
    shortcut = _subsample if small else _project
    momentum = batchnorm_momentum
    inputs = keras.Input(input_shape, name="image")
    x = ends.normalize_pixels(inputs)
    x = _conv(x, width, 3, 1, momentum, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage, count in enumerate(blocks):
        for block in range(count):
            prefix = f"stage{stage + 1}_block{block + 1}"
            strides = 2 if stage > 0 and block == 0 else 1
            f = residual(x, width * 2**stage, strides, momentum, prefix)
            if strides > 1 or f.shape[-1] != x.shape[-1]:
                x = shortcut(x, f.shape[-1], strides, momentum, f"{prefix}_shortcut")
            x = keras.layers.Add(name=f"{prefix}_add")([x, f])
            x = keras.layers.ReLU(name=f"{prefix}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, ends.logits_output(x, num_classes), name=name or f"resnet{depth}")


def _conv(x, filters, kernel_size, strides, momentum, name):
    """A convolution without bias, then BatchNormalization."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5, name=f"{name}_bn")(x)


def _basic(x, width, strides, momentum, prefix):
    """Two 3x3 convolutions."""
    x = _conv(x, width, 3, strides, momentum, f"{prefix}_1")
    x = keras.layers.ReLU(name=f"{prefix}_1_relu")(x)
    return _conv(x, width, 3, 1, momentum, f"{prefix}_2")


def _bottleneck(x, width, strides, momentum, prefix):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide; the stride is in the 3x3."""
    x = _conv(x, width, 1, 1, momentum, f"{prefix}_1")
    x = keras.layers.ReLU(name=f"{prefix}_1_relu")(x)
    x = _conv(x, width, 3, strides, momentum, f"{prefix}_2")
    x = keras.layers.ReLU(name=f"{prefix}_2_relu")(x)
    return _conv(x, 4 * width, 1, 1, momentum, f"{prefix}_3")


def _subsample(x, filters, strides, momentum, name):
    """Option A: every second pixel, and zeros in the new channels, half of them on either side."""
    x = keras.layers.MaxPooling2D(1, strides=strides, name=name)(x)
    new = filters - x.shape[-1]
    return keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


def _project(x, filters, strides, momentum, name):
    """Option B: a 1x1 convolution."""
    return _conv(x, filters, 1, strides, momentum, name)
