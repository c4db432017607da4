"""Ranges of rescaled pixels in which no pixel lies midway between two steps."""

import numpy as np

from kdkeras.quantization import rounding

# How much wider than the values a range may be, and how far from a midpoint is enough, in steps:
# an int8 addition is exact to within 0.0003.
WIDENINGS = [part / 1000.0 for part in range(51)]
ENOUGH = 0.005


def settings(scale, offset):
    """Constants and ranges of `x * scale` and `x * scale + offset` for the 256 values x of a pixel.

    In the tightest range of `2 x - 1`, [-1, 1], every pixel lies midway between two steps, and an
    int8 file and Keras round it to different ones. A range up to 5 % wider is taken: the tightest
    in which no pixel is within 0.005 steps of a midpoint, or the one in which none is nearest.

    Args:
        scale: Array, one number or one a channel.
        offset: Array, one number or one a channel.

    Returns:
        Dict of lists of floats: "scale" and "offset", rounded to 8 bits as in the file, and
        "product_range" and "sum_range", pairs of low and high.

    Example:

    >>> settings(2.0, -1.0)["sum_range"]
    [-1.012, 1.0]
    """
    scale, offset = _constants(scale), _constants(offset)
    x = np.arange(256.0)[:, None] / 255.0
    product = _widened(x * scale)
    total = _widened(rounded(x * scale, *product) + offset)
    return {
        "scale": scale.tolist(),
        "offset": offset.tolist(),
        "product_range": list(product),
        "sum_range": list(total),
    }


def rounded(values, low, high):
    """Values as the nearest of the 256 in a range that has zero among them, in float64."""
    step = (high - low) / rounding.LEVELS
    zero = np.round(-low / step)
    return step * (np.clip(np.floor(values / step + zero + 0.5), 0, rounding.LEVELS) - zero)


def from_midpoints(values, low, high):
    """The least distance of a value from the midpoint of two steps, in steps: 0 to 0.5."""
    codes = values * (rounding.LEVELS / (high - low))
    return float(np.min(np.abs(codes - np.floor(codes) - 0.5)))


def _constants(values):
    """Constants as a file holds them: rounded to 8 bits between the extremes and zero."""
    values = np.atleast_1d(np.asarray(values, np.float64))
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    return rounded(values, low, high) if low < high else values


def _widened(values):
    """The range of values, widened at the end that is farther from zero."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    below = -low if -low > high else 0.0
    ranges = [(low - part * below, high + part * (high - low) * (not below)) for part in WIDENINGS]
    distances = [from_midpoints(values, *ends) for ends in ranges]
    enough = [ends for ends, far in zip(ranges, distances, strict=True) if far >= ENOUGH]
    return enough[0] if enough else ranges[int(np.argmax(distances))]
