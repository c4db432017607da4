"""Blurs: each function takes a float64 picture `(height, width, channels)` and its constant."""

import functools
import math

import numpy as np


def gaussian_blur(x, sigma, random):
    """`x' = G x`, a Gaussian of `sigma` pixels cut at 4 sigma; the border is repeated outwards."""
    from scipy import ndimage

    del random
    return ndimage.gaussian_filter(x, (sigma, sigma, 0.0), mode="nearest", truncate=4.0)


def defocus_blur(x, disk, random):
    """`x' = D x`, `D` a disk with softened edges; the picture is mirrored at its border pixels.

    Args:
        x: The picture.
        disk: Radius of the disk, and `sigma` of the Gaussian that softens it, in pixels.
        random: Not used.
    """
    from scipy import ndimage

    del random
    return ndimage.correlate(x, _disk(*disk)[..., None], mode="mirror")


@functools.cache
def _disk(radius, sigma):
    """The pixels within `radius`, of equal weights that sum to 1, blurred by 3 x 3 taps."""
    from scipy import ndimage

    reach = math.floor(radius) + 1  # The taps reach one pixel further than the disk.
    squares = np.arange(-reach, reach + 1) ** 2
    inside = np.float64(squares[:, None] + squares <= radius**2)
    taps = np.exp(-np.array([1.0, 0.0, 1.0]) / (2.0 * sigma**2))
    taps /= taps.sum()
    return ndimage.convolve(inside / inside.sum(), np.outer(taps, taps), mode="constant")
