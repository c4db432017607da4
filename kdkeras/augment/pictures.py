"""Crop, flip, colour jitter, cutout and mixup, of whole batches, keyed by the example."""

import tensorflow as tf

from kdkeras import arguments, randomness

# The streams that each function draws from.
CROP_TOP, CROP_LEFT, FLIP, BRIGHTNESS, CONTRAST, SATURATION, CUTOUT_TOP, CUTOUT_LEFT, MIXUP = range(
    9
)

# ITU-R BT.601 luma.
LUMA = (0.299, 0.587, 0.114)


def pad_and_crop(images, keys, *, padding=4):
    """Shifts each image by up to `padding` pixels, zeros coming in.

    `x'[i, j] = pad(x)[i + a, j + b]`, with `a` and `b` uniform in 0 ... 2 padding.

    Args:
        images: float32 tensor of shape `(batch, height, width, channels)`.
        keys: int64 tensor of shape `(batch,)`, from `randomness.keys`.
        padding: Integer of at least 0.

    Returns:
        float32 tensor shaped like `images`.

    Example:

    >>> pad_and_crop(images, randomness.keys(0, ids, view), padding=4)

    Reference:
        Lee et al., [Deeply-Supervised Nets](https://arxiv.org/abs/1409.5185), 2015.
    """
    arguments.integer("padding", padding, low=0)
    top = randomness.integers(keys, 2 * padding + 1, stream=CROP_TOP)
    left = randomness.integers(keys, 2 * padding + 1, stream=CROP_LEFT)
    return shifted(images, top, left, padding=padding)


def shifted(images, top, left, *, padding):
    """Each image, padded with zeros, from its own row `top` and column `left` on.

    `x'[i, j] = pad(x)[i + top, j + left]`

    Args:
        images: float32 tensor of shape `(batch, height, width, channels)`.
        top, left: int32 tensors of shape `(batch,)`, in 0 ... 2 padding.
        padding: Integer of at least 0.

    Returns:
        float32 tensor shaped like `images`.
    """
    batch, height, width, channels = _shape(images)
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    rows = tf.range(batch)[:, None] * padded_height + top[:, None] + tf.range(height)
    columns = left[:, None] + tf.range(width)
    pixels = rows[:, :, None] * padded_width + columns[:, None, :]
    cropped = tf.gather(tf.reshape(padded, [-1, channels]), pixels)
    return tf.ensure_shape(cropped, images.shape)


def flip(images, keys):
    """Mirrors each image left to right with probability 1/2.

    `x'[i, j] = x[i, width - 1 - j]` if the example's coin falls so, else `x`.

    Args:
        images: float32 tensor of shape `(batch, height, width, channels)`.
        keys: int64 tensor of shape `(batch,)`, from `randomness.keys`.

    Returns:
        float32 tensor shaped like `images`.

    Example:

    >>> flip(images, randomness.keys(0, ids, view))

    Reference:
        Krizhevsky et al., [ImageNet Classification with Deep Convolutional Neural Networks](
        https://papers.nips.cc/paper/4824), 2012.
    """
    coin = randomness.integers(keys, 2, stream=FLIP) == 1
    return tf.where(per_image(coin), tf.reverse(images, axis=[2]), images)


def color_jitter(images, keys, *, brightness=0.2, contrast=0.2, saturation=0.2):
    """Scales brightness, contrast and saturation, in this order.

    `x1 = b x`; `x2 = c (x1 - m) + m`, `m = mean(gray(x1))`; `x3 = s (x2 - g) + g`, `g = gray(x2)`;
    `x' = clip(x3, 0, 1)`, with `b` uniform in `1 +- brightness`, and so on.

    Args:
        images: float32 tensor of shape `(batch, height, width, 3)`, in [0, 1].
        keys: int64 tensor of shape `(batch,)`, from `randomness.keys`.
        brightness: Half-width of the factor's range, in [0, 1].
        contrast: Likewise.
        saturation: Likewise.

    Returns:
        float32 tensor shaped like `images`, in [0, 1].

    Example:

    >>> color_jitter(images, randomness.keys(0, ids, view), brightness=0.4)

    Reference:
        Howard, [Some Improvements on Deep Convolutional Neural Network Based Image Classification](
        https://arxiv.org/abs/1312.5402), 2013.
    """
    arguments.fraction("brightness", brightness)
    arguments.fraction("contrast", contrast)
    arguments.fraction("saturation", saturation)

    def factor(width, stream):
        return per_image(1.0 + width * (2.0 * randomness.uniform(keys, stream=stream) - 1.0))

    x = factor(brightness, BRIGHTNESS) * images
    # Summed as integers: the rounding of a floating-point mean would depend on the batch.
    units = tf.cast(tf.round(_gray(x) * 2.0**20), tf.int64)
    total = tf.reduce_sum(units, axis=[1, 2, 3])
    pixels = tf.size(units[0], out_type=tf.int64)
    mean = per_image(tf.cast(total / pixels, tf.float32) * 2.0**-20)
    x = factor(contrast, CONTRAST) * (x - mean) + mean
    gray = _gray(x)
    x = factor(saturation, SATURATION) * (x - gray) + gray
    return tf.clip_by_value(x, 0.0, 1.0)


def cutout(images, keys, *, size):
    """Covers a square of mean gray, 0.5, whose centre lies anywhere in the image.

    `x'[i, j] = 0.5` for `top <= i < top + size` and `left <= j < left + size`; the centre, `top +
    size // 2`, is uniform in the rows, likewise in the columns: the square may stick out.

    Args:
        images: float32 tensor of shape `(batch, height, width, channels)`, in [0, 1].
        keys: int64 tensor of shape `(batch,)`, from `randomness.keys`.
        size: Side of the square in pixels, at least 1.

    Returns:
        float32 tensor shaped like `images`.

    Example:

    >>> cutout(images, randomness.keys(0, ids, view), size=16)

    Reference:
        DeVries and Taylor, [Improved Regularization of Convolutional Neural Networks with Cutout](
        https://arxiv.org/abs/1708.04552), 2017.
    """
    arguments.integer("size", size, low=1)
    _, height, width, _ = _shape(images)

    def covered(length, stream):
        start = randomness.integers(keys, length, stream=stream)[:, None] - size // 2
        return (tf.range(length) >= start) & (tf.range(length) < start + size)

    rows, columns = covered(height, CUTOUT_TOP), covered(width, CUTOUT_LEFT)
    square = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.where(square, tf.constant(0.5, images.dtype), images)


def mixup(images, labels, keys, *, alpha=0.2):
    """Mixes each example with the one before it in the batch.

    `x' = lam x + (1 - lam) roll(x)` and the same for the labels, with `lam ~ Beta(alpha, alpha)`
    drawn by the example's key. The partner depends on the batch: this is the one augmentation of
    which (seed, id, view) does not tell the result.

    Args:
        images: float32 tensor of shape `(batch, height, width, channels)`.
        labels: Floating-point one-hot tensor of shape `(batch, num_classes)`.
        keys: int64 tensor of shape `(batch,)`, from `randomness.keys`.
        alpha: Parameter of the Beta distribution, positive; 1 is uniform.

    Returns:
        images: float32 tensor of the same shape.
        labels: Tensor of the same shape; rows sum to 1.

    Raises:
        ValueError: Integer labels, or `alpha` not positive.

    Example:

    >>> mixup(images, tf.one_hot(labels, 10), randomness.keys(0, ids, view), alpha=0.2)

    Reference:
        Zhang et al., [mixup: Beyond Empirical Risk Minimization](https://arxiv.org/abs/1710.09412),
        2018.
    """
    if not labels.dtype.is_floating or labels.shape.rank != 2:
        raise ValueError(
            "`labels` must be one-hot floats of shape (batch, num_classes) for mixup. Received: "
            f"dtype {labels.dtype.name}, shape {labels.shape}. "
            "Pass one_hot=num_classes to `batches`."
        )
    lam = randomness.symmetric_beta(keys, alpha=alpha, stream=MIXUP)
    of_image, of_label = per_image(lam), tf.cast(lam, labels.dtype)[:, None]
    return (
        of_image * images + (1.0 - of_image) * tf.roll(images, 1, axis=0),
        of_label * labels + (1.0 - of_label) * tf.roll(labels, 1, axis=0),
    )


def _gray(images):
    red, green, blue = tf.split(images, 3, axis=-1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def per_image(values):
    return values[:, None, None, None]


def _shape(images):
    """The shape, with tensors in place of unknown dimensions."""
    dynamic = tf.unstack(tf.shape(images))
    return [d if s is None else s for s, d in zip(images.shape, dynamic, strict=True)]
