"""Noise: each function takes a picture `x` in [0, 1], its constant, and a generator of numbers.

Pictures are float64 `(height, width, channels)`; results may leave [0, 1] and are clipped later.
"""

import numpy as np


def gaussian_noise(x, scale, random):
    """`x' = x + scale n`, with `n ~ N(0, 1)` in each value."""
    return x + random.normal(scale=scale, size=x.shape)


def shot_noise(x, photons, random):
    """`x' = Poisson(photons x) / photons`: the counting noise of a sensor."""
    return random.poisson(photons * x) / photons


def impulse_noise(x, amount, random):
    """Salt and pepper: a value is replaced with probability `amount`, by 0 or 1 alike.

    The channels of a pixel are replaced independently.
    """
    replaced = random.random(x.shape) < amount
    salt = random.random(x.shape) < 0.5
    return np.where(replaced, salt, x)


def speckle_noise(x, scale, random):
    """`x' = x + scale x n`, with `n ~ N(0, 1)` in each value."""
    return x + x * random.normal(scale=scale, size=x.shape)
