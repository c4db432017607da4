"""Changes of tone: each function takes a float64 picture `(height, width, channels)` in [0, 1].

Brightness and saturation are changed in the HSV cone. A picture of one channel is its own value
channel: `brightness` adds to it, and `saturate` leaves it as it is.
"""

import numpy as np


def brightness(x, amount, random):
    """`V' = clip(V + amount, 0, 1)` in HSV."""
    del random
    if x.shape[-1] == 1:
        return x + amount
    hue, saturation, value = to_hsv(x)
    return to_rgb(hue, saturation, np.clip(value + amount, 0.0, 1.0))


def saturate(x, line, random):
    """`S' = clip(a S + b, 0, 1)` in HSV, with `line = (a, b)`.

    Grey pixels have hue 0: where `b > 0` they turn reddish, as in CIFAR-10-C.
    """
    del random
    if x.shape[-1] == 1:
        return x
    factor, offset = line
    hue, saturation, value = to_hsv(x)
    return to_rgb(hue, np.clip(saturation * factor + offset, 0.0, 1.0), value)


def contrast(x, factor, random):
    """`x' = factor (x - m) + m`, with `m` the mean of each channel."""
    del random
    means = np.mean(x, axis=(0, 1), keepdims=True)
    return (x - means) * factor + means


def to_hsv(rgb):
    """Hue, saturation and value of RGB.

    `V = max`, `S = (max - min) / max`, and `6 H = (G - B) / (max - min)`, `2 + (B - R) / ...` or
    `4 + (R - G) / ...` modulo 6, as the maximum is red, green or blue (of equals, the last).

    Args:
        rgb: Array `(..., 3)` in [0, 1].

    Returns:
        hue, saturation, value: Arrays `(...)`, in [0, 1); [0, 1]; [0, 1]. Grey has hue and
        saturation 0.

    Reference:
        Smith, [Color Gamut Transform Pairs](https://doi.org/10.1145/965139.807361), 1978.
    """
    red, green, blue = np.moveaxis(rgb, -1, 0)
    value = rgb.max(axis=-1)
    spread = value - rgb.min(axis=-1)
    grey = spread == 0.0
    divisor = np.where(grey, 1.0, spread)
    sixths = np.select(
        [blue == value, green == value],
        [4.0 + (red - green) / divisor, 2.0 + (blue - red) / divisor],
        (green - blue) / divisor,
    )
    hue = np.where(grey, 0.0, sixths / 6.0 % 1.0)
    return hue, spread / np.where(value == 0.0, 1.0, value), value


def to_rgb(hue, saturation, value):
    """The RGB, `(..., 3)`, of what `to_hsv` gives."""
    sector = np.floor(hue * 6.0)
    part = hue * 6.0 - sector
    low = value * (1.0 - saturation)
    falling = value * (1.0 - part * saturation)
    rising = value * (1.0 - (1.0 - part) * saturation)
    sector = sector.astype(np.int64) % 6
    red = np.choose(sector, [value, falling, low, low, rising, value])
    green = np.choose(sector, [rising, value, value, falling, low, low])
    blue = np.choose(sector, [low, low, rising, value, value, falling])
    return np.stack([red, green, blue], axis=-1)
