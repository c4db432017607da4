"""From counts to radii: what draws of noise show, at a level of confidence."""

import math

from kdkeras import arguments


def clopper_pearson(successes, trials, alpha):
    """A lower bound of a probability, from how often it came true.

    `p = BetaQuantile(alpha; k, n - k + 1)`, the one-sided bound of Clopper and Pearson: it exceeds
    the true probability with probability `alpha` at most. 0 where `k` is 0.

    Args:
        successes: `k`, in 0 ... trials.
        trials: `n`, at least 1.
        alpha: In (0, 1).

    Returns:
        Float in [0, 1).

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> clopper_pearson(99_000, 100_000, 0.001)
    0.98898934

    Reference:
        Clopper and Pearson, [The Use of Confidence or Fiducial Limits Illustrated in the Case of
        the Binomial](https://doi.org/10.1093/biomet/26.4.404), 1934.
    """
    from scipy import stats

    trials = arguments.integer("trials", trials, low=1)
    successes = arguments.integer("successes", successes, low=0)
    alpha = level(alpha)
    if successes > trials:
        raise ValueError(
            f"`successes` must be at most trials={trials}. Received: successes={successes}"
        )
    return float(stats.beta.ppf(alpha, successes, trials - successes + 1)) if successes else 0.0


def radius(successes, trials, *, sigma, alpha):
    """The certified l2 radius of a class that came out `successes` times of `trials`.

    `r = sigma * PhiInverse(p)` if `p = clopper_pearson(successes, trials, alpha)` is above 1/2;
    else 0, which is to abstain.

    Args:
        successes: Integer in 0 ... trials.
        trials: Integer of at least 1.
        sigma: Standard deviation of the noise, in the units of the images. Positive.
        alpha: Probability that the radius is too large, in (0, 1).

    Returns:
        Float, in the units of the images.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> radius(99_000, 100_000, sigma=0.25, alpha=0.001)
    0.5725
    """
    from scipy import stats

    sigma = arguments.positive("sigma", sigma)
    probability = clopper_pearson(successes, trials, alpha)
    return float(sigma * stats.norm.ppf(probability)) if probability > 0.5 else 0.0


def check_draws(n, alpha):
    """Refuses a number of draws that could certify nothing.

    With all `n` of `n` successes the bound is `alpha^(1/n)`, which must be above 1/2.

    Raises:
        ValueError: It is not. The message says the smallest number that would do.
    """
    needed = math.floor(-math.log2(alpha)) + 1
    if n < needed:
        raise ValueError(
            f"`n` must be at least {needed} for alpha={alpha}: even {n} of {n} draws would not "
            "show that a class has more than half of the probability. "
            f"Received: n={n}. The paper takes 100,000."
        )


def level(alpha):
    """Returns `alpha` as a float if it is a number in (0, 1)."""
    low, high = math.nextafter(0.0, 1.0), math.nextafter(1.0, 0.0)
    return arguments.number("alpha", alpha, low=low, high=high, expected="a number in (0, 1)")
