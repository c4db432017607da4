"""Images on which the ranges of activations are measured."""

import numpy as np

from kdkeras import arguments
from kdkeras.data import checks, examples

SMALLEST = 16
BATCH = 256


def check_calibration(images, input_shape):
    """Checks images to calibrate on.

    Args:
        images: Float array `(n, height, width, channels)` in [0, 1], at least 16.
        input_shape: `(height, width, channels)` of the model.

    Returns:
        float32 array.

    Raises:
        ValueError: Too few images, of another shape, not finite or not in [0, 1].
    """
    images = np.asarray(images)
    if not np.issubdtype(images.dtype, np.number) or images.shape[1:] != tuple(input_shape):
        expected = ", ".join(map(str, input_shape))
        raise ValueError(
            f"`calibration` must be an array of shape (images, {expected}), as the model takes "
            f"them. Received: dtype {images.dtype}, shape {images.shape}. Of a split: "
            "kdkeras.quantization.calibration_images(splits.train)."
        )
    if len(images) < SMALLEST:
        raise ValueError(
            f"`calibration` must hold at least {SMALLEST} images, and better some hundred. "
            f"Received: {len(images)}. Take them from the training split."
        )
    try:
        checks.check_pixels(images)
    except ValueError as error:
        raise ValueError(f"`calibration` holds images that cannot be used: {error}") from error
    return images.astype(np.float32)


def calibration_images(split, count=256, *, seed=0):
    """Some images of a split, chosen by a seeded generator, each with the same probability.

    Args:
        split: A split of `kdkeras.data.load`, or an un-batched `tf.data.Dataset` of (image, label)
            in a fixed order.
        count: Number of images, at least 16. Of a smaller split, all.
        seed: Integer, at least 0.

    Returns:
        float32 array `(count, height, width, channels)` in [0, 1].

    Raises:
        ValueError: No such split, fewer than 16 images in it, an argument out of its range.

    Example:

    >>> calibration_images(splits.train).shape
    (256, 8, 8, 3)
    """
    count = arguments.integer("count", count, low=SMALLEST)
    random = np.random.default_rng(arguments.integer("seed", seed, low=0))
    pairs = examples.numbered(split)
    examples.size(pairs)  # refuses an endless one
    images, keys = [], np.zeros(0)
    for batch, _ in pairs.batch(BATCH).as_numpy_iterator():
        # Those with the smallest of as many random numbers, so that one pass is enough.
        keys = np.concatenate([keys, random.random(len(batch))])
        images = np.concatenate([images, batch]) if len(images) else batch
        kept = np.argsort(keys)[:count]
        images, keys = images[kept], keys[kept]
    if len(images) < SMALLEST:
        raise ValueError(
            f"`split` must hold at least {SMALLEST} images. Received: {len(images)}. Take the "
            "training split."
        )
    scale = 255.0 if np.issubdtype(images.dtype, np.integer) else 1.0
    return images.astype(np.float32) / np.float32(scale)
