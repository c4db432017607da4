"""Losses of encoding and resizing: of float64 pictures `(height, width, channels)`, `k / 255`."""

import numpy as np
import tensorflow as tf


def jpeg_compression(x, quality, random):
    """`x' = decode(encode(x))`: JPEG of a quality in 1..100, chroma at half the resolution."""
    del random
    with tf.device("CPU:0"):
        encoded = tf.io.encode_jpeg(np.uint8(x * 255.0), quality=quality)
        return tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy() / 255.0


def pixelate(x, scale, random):
    """The picture at `floor(scale size)` pixels a side, at least 1, and back at its own size.

    Both ways a new pixel is the mean of the old ones whose centres lie within it, or, where it is
    smaller than they are, the old one that holds its centre.
    """
    del random
    pixels = x * 255.0
    for axis in (1, 0):
        pixels = _resized(pixels, max(1, int(x.shape[axis] * scale)), axis)
    for axis in (1, 0):
        pixels = _resized(pixels, x.shape[axis], axis)
    return pixels / 255.0


def _resized(pixels, size, axis):
    """Box resampling of one axis, rounded to whole numbers, halves up."""
    old = pixels.shape[axis]
    # In units of a side / (2 old size), all whole numbers. A centre on an edge belongs to the pixel
    # before it.
    centres = (2 * np.arange(size)[:, None] + 1) * old
    distances = (2 * np.arange(old) + 1) * size - centres
    reach = max(old, size)
    inside = np.float64((-reach < distances) & (distances <= reach))
    means = np.tensordot(inside, pixels, (1, axis)) / inside.sum(axis=1)[:, None, None]
    return np.moveaxis(np.floor(means + 0.5), 0, axis)
