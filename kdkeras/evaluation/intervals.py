"""How sure one can be of what was measured on a sample: 95 % intervals, and a test."""

import math

import numpy as np

from kdkeras import arguments

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


def newcombe(only_first, only_second, both, neither):
    """The 95 % interval of the difference of two shares that were counted on the same examples.

    `d - sqrt(a^2 - 2 phi a b + b^2)` and `d + sqrt(e^2 - 2 phi e f + f^2)`, with `d` the difference
    (first less second), `a` and `e` the distances of the first share's Wilson limits below and
    above it, `f` and `b` those of the second's, and `phi` the correlation in the fourfold table:
    0 if a row or a column is empty, and, where it is positive, with `n / 2` taken off its
    numerator, to 0 at least.

    Args:
        only_first, only_second, both, neither: In how many examples the first alone was a success,
            the second alone, both, or none. Integers of at least 0, not all 0.

    Returns:
        Pair of floats in [-1, 1].

    Raises:
        ValueError: A count is negative, or all are 0.

    Example:

    >>> newcombe(12, 2, 20, 16)
    (0.0562..., 0.3292...)

    Reference:
        Newcombe, [Improved Confidence Intervals for the Difference Between Binomial Proportions
        Based on Paired Data](https://pubmed.ncbi.nlm.nih.gov/9839354/), 1998, method 10.
    """
    counts = {"only_first": only_first, "only_second": only_second, "both": both}
    for name, count in {**counts, "neither": neither}.items():
        arguments.integer(name, count, low=0)
    n = arguments.integer("the number of examples", only_first + only_second + both + neither, 1)
    first, second = both + only_first, both + only_second
    low_1, high_1 = wilson(first, n)
    low_2, high_2 = wilson(second, n)
    below_1, above_1 = first / n - low_1, high_1 - first / n
    below_2, above_2 = second / n - low_2, high_2 - second / n
    margins = first * (n - first) * second * (n - second)
    covariance = both * neither - only_first * only_second
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    phi = covariance / math.sqrt(margins) if margins else 0.0
    difference = (only_first - only_second) / n
    down = math.sqrt(below_1**2 - 2.0 * phi * below_1 * above_2 + above_2**2)
    up = math.sqrt(above_1**2 - 2.0 * phi * above_1 * below_2 + below_2**2)
    return max(-1.0, difference - down), min(1.0, difference + up)


def mcnemar(only_first, only_second):
    """The two-sided p of McNemar's exact test.

    The probability, if of two models each was as likely to be the one that is right where the two
    differ, of counts at least as uneven as these: a binomial test at 1 / 2.

    Args:
        only_first, only_second: On how many examples the one alone, and the other alone, is right.

    Returns:
        A float in (0, 1]; 1 where they never differ.

    Raises:
        ValueError: A count is no integer, or negative.

    Example:

    >>> mcnemar(8, 1)
    0.0390625

    Reference:
        McNemar, [Note on the Sampling Error of the Difference Between Correlated Proportions or
        Percentages](https://doi.org/10.1007/BF02295996), 1947.
    """
    from scipy import stats

    arguments.integer("only_first", only_first, low=0)
    arguments.integer("only_second", only_second, low=0)
    if only_first == only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def bootstrap(function, *arrays, seed=0, resamples=1000):
    """The 95 % percentile interval of a figure, over resamples of the examples.

    Args:
        function: From arrays, of which some rows are taken more than once and others not at all, to
            a number or an array of numbers.
        *arrays: Arrays of one length, one row an example. What can be worked out by example is best
            worked out before.
        seed: Integer.
        resamples: How many resamples are drawn.

    Returns:
        Pair of the 2.5 % and the 97.5 % quantile: numbers, or arrays where `function` gives arrays.

    Raises:
        ValueError: No arrays, or arrays of different lengths or of none.

    Example:

    >>> low, high = bootstrap(np.mean, losses)

    Reference:
        Efron, [Bootstrap Methods: Another Look at the Jackknife](
        https://doi.org/10.1214/aos/1176344552), 1979.
    """
    arguments.integer("resamples", resamples, low=2)
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "`arrays` must be of one length, at least 1. "
            f"Received: lengths {[len(array) for array in arrays]}."
        )
    (length,) = lengths
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        taken = draws.integers(0, length, length)
        found.append(function(*(array[taken] for array in arrays)))
    return tuple(np.percentile(found, [2.5, 97.5], axis=0))


def across(values):
    """Mean and spread of a figure over runs that differ in their seed alone.

    The interval is Student's: `mean -+ t s / sqrt(n)`, with `s` the standard deviation (of n - 1),
    and `t` the 97.5 % quantile with n - 1 degrees of freedom.

    Args:
        values: One finite number a run; for a comparison, the paired differences.

    Returns:
        Dict: `values`, `mean`, `standard_deviation`, `standard_error`, `interval`. Of a single
        value the last three are None.

    Raises:
        ValueError: No values, or a value that is not finite.

    Example:

    >>> across([0.97, 0.98, 0.99])["interval"]
    [0.955..., 1.004...]

    Reference:
        Student, [The Probable Error of a Mean](https://doi.org/10.1093/biomet/6.1.1), 1908.
    """
    from scipy import stats

    values = [arguments.number("values", value) for value in values]
    if not values:
        raise ValueError("`values` must hold at least one number. Received: none.")
    n, mean = len(values), math.fsum(values) / len(values)
    found = {"values": values, "mean": mean}
    if n == 1:
        return found | dict.fromkeys(("standard_deviation", "standard_error", "interval"))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    error = deviation / math.sqrt(n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    interval = [mean - half, mean + half]
    return found | {
        "standard_deviation": deviation,
        "standard_error": error,
        "interval": interval,
    }


def across_each(rows):
    """`across` of each figure that all runs have.

    A figure can be missing in some run: features that are the same for all images have no
    similarity.

    Args:
        rows: List of dicts from names to numbers, one a run.

    Returns:
        Dict from names, in the order of the first row, to what `across` gives.
    """
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: across([row[name] for row in rows]) for name in names}
