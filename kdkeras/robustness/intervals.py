"""How sure one can be of a share that was counted on a sample."""

import math

# The 97.5 % quantile of the standard normal distribution.
Z = 1.959963984540054


def wilson(successes, trials):
    """The Wilson 95 % interval of a share.

    `(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`, with `p` the share that
    was found, `n` the number of trials and `z` = 1.96.

    Args:
        successes: Integer in 0 ... trials.
        trials: Positive integer.

    Returns:
        Pair of floats in [0, 1].

    Example:

    >>> wilson(50, 100)
    (0.4038..., 0.5961...)

    Reference:
        Wilson, [Probable Inference, the Law of Succession, and Statistical Inference](
        https://doi.org/10.1080/01621459.1927.10502953), 1927.
    """
    share, z2 = successes / trials, Z * Z / trials
    centre = share + z2 / 2.0
    half = Z * math.sqrt(share * (1.0 - share) / trials + z2 / (4.0 * trials))
    return max(0.0, (centre - half) / (1.0 + z2)), min(1.0, (centre + half) / (1.0 + z2))


def standard_error(share, trials):
    """`sqrt(p (1 - p) / n)`"""
    return math.sqrt(share * (1.0 - share) / trials)
