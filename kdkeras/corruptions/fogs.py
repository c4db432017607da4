"""Fog: a plasma fractal laid over the picture."""

import numpy as np


def fog(x, density, random):
    """`x' = (x + a F) m / (m + a)`, with `F` a plasma fractal in [0, 1] and `m = max(x)`.

    The fractal has the side of the next power of two, of which the picture's size is cut.

    Args:
        x: float64 picture `(height, width, channels)` in [0, 1].
        density: `a`, and the decay of the fractal's roughness.
        random: Generator of numbers.
    """
    amount, decay = density
    height, width, _ = x.shape
    side = max(2, 1 << (max(height, width) - 1).bit_length())
    layer = plasma(side, decay, random)[:height, :width, None]
    brightest = x.max()
    return (x + amount * layer) * brightest / (brightest + amount)


def plasma(side, decay, random):
    """A plasma fractal by the diamond-square algorithm, on a torus.

    From the whole square to single pixels: the centre of each square and the middles of its edges
    are the mean of their four neighbours plus `a u`, `u` uniform in [-a, a]; `a` is 100 at first
    and is divided by `decay` whenever the squares are halved.

    Args:
        side: A power of two, at least 2.
        decay: Above 1; the larger, the smoother.
        random: Generator of numbers.

    Returns:
        float64 array `(side, side)`, from 0 to 1.

    Reference:
        Fournier et al., [Computer Rendering of Stochastic Models](
        https://doi.org/10.1145/358523.358553), 1982.
    """
    heights = np.zeros((side, side))
    step, amplitude = side, 100.0

    def displaced(neighbours):
        noise = random.uniform(-amplitude, amplitude, neighbours.shape)
        return neighbours / 4.0 + amplitude * noise

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        down, right = np.roll(corners, -1, axis=0), np.roll(corners, -1, axis=1)
        across = np.roll(right, -1, axis=0)
        centres = displaced((corners + down) + (right + across))
        heights[half::step, half::step] = centres
        above, left = np.roll(centres, 1, axis=0), np.roll(centres, 1, axis=1)
        heights[::step, half::step] = displaced((centres + above) + (corners + right))
        heights[half::step, ::step] = displaced((centres + left) + (corners + down))
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    return heights / heights.max()
