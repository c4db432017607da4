"""Whether a model is right as often as it says: calibration, and proper scores."""

import math

import numpy as np
import scipy.special

from kdkeras import arguments
from kdkeras.evaluation import checks

BINS = 15
# Where a temperature is looked for.
LOWEST, HIGHEST = 1e-2, 1e4


def nll(labels, log_probabilities):
    """`-log p(label)` of each example, in nats: `(n,)`."""
    return -log_probabilities[np.arange(len(labels)), labels]


def brier(labels, probabilities):
    """`sum_c (p_c - [c = label])^2` of each example, in 0..2: `(n,)`.

    Reference:
        Brier, [Verification of Forecasts Expressed in Terms of Probability](
        https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2), 1950: the sum over all
        classes, which for two classes is twice the form with one.
    """
    at_label = probabilities[np.arange(len(labels)), labels]
    return (probabilities**2).sum(axis=1) - 2.0 * at_label + 1.0


def calibration_error(right, confidence, bins=BINS):
    """Expected calibration error: `sum_b |B_b| / n |accuracy(B_b) - confidence(B_b)|`.

    Args:
        right: Booleans `(n,)`.
        confidence: Largest probability of each example, `(n,)`.
        bins: Number of bins of equal width.

    Returns:
        A float in [0, 1].

    Reference:
        Naeini et al., [Obtaining Well Calibrated Probabilities Using Bayesian Binning](
        https://ojs.aaai.org/index.php/AAAI/article/view/9602), AAAI 2015; Guo et al., [On
        Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599), ICML 2017.
    """
    return binned_gap(bin_of(confidence, bins), right - confidence, bins)


def binned_gap(position, gap, bins=BINS):
    """`calibration_error` of examples whose bin and `right - confidence` are known."""
    return float(np.abs(np.bincount(position, gap, bins)).sum() / len(gap))


def bin_of(confidence, bins=BINS):
    """The bin (low, high] of equal width that each confidence lies in; 0 is in the first."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def reliability(labels, probabilities, bins=BINS):
    """Accuracy and confidence by bins of confidence: the data of a reliability diagram.

    Args:
        labels: Integer array `(n,)`.
        probabilities: Array `(n, classes)`, in [0, 1].
        bins: Number of bins (low, high] of equal width.

    Returns:
        List of `bins` dicts: `low`, `high`, mean `confidence` (the largest probability),
        `accuracy`, `count`. Of an empty bin confidence and accuracy are None.

    Raises:
        ValueError: Labels and probabilities that do not fit each other, or that are none.

    Example:

    >>> reliability([0, 1], [[0.9, 0.1], [0.8, 0.2]], bins=2)[1]
    {'low': 0.5, 'high': 1.0, 'confidence': 0.85, 'accuracy': 0.5, 'count': 2}
    """
    arguments.integer("bins", bins, low=1)
    labels, probabilities = checks.checked(labels, probabilities, "probabilities")
    if probabilities.min() < 0.0 or probabilities.max() > 1.0 + 1e-5:
        raise ValueError(
            "`probabilities` must be in [0, 1]. Received: values in "
            f"{probabilities.min():.4g} ... {probabilities.max():.4g}. Of logits, give "
            "scipy.special.softmax(logits, -1)."
        )
    confidence = probabilities.max(axis=1).astype("float64")
    position = bin_of(confidence, bins)
    counts = np.bincount(position, minlength=bins)
    right = np.bincount(position, probabilities.argmax(axis=1) == labels, bins)
    sums = np.bincount(position, confidence, bins)
    return [
        {
            "low": index / bins,
            "high": (index + 1) / bins,
            "confidence": float(sums[index] / count) if count else None,
            "accuracy": float(right[index] / count) if count else None,
            "count": int(count),
        }
        for index, count in enumerate(counts)
    ]


def temperature(labels, logits):
    """The `T` in 0.01 ... 10,000 of least mean `-log softmax(logits / T)[label]`.

    Args:
        labels: Integer array `(n,)`.
        logits: float64 array `(n, classes)`.

    Returns:
        A float. Of a model that is right on every example, the smaller `T` the better, to the
        bound or to where no difference can be computed.

    Reference:
        Guo et al., [On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599),
        ICML 2017.
    """
    from scipy import optimize

    below = logits - logits[np.arange(len(labels)), labels][:, None]

    def loss(log_temperature):
        return scipy.special.logsumexp(below * math.exp(-log_temperature), axis=1).mean()

    bounds = math.log(LOWEST), math.log(HIGHEST)
    options = {"xatol": 1e-8}
    return math.exp(optimize.minimize_scalar(loss, bounds=bounds, options=options).x)


def scaled_calibration_error(labels, logits, bins=BINS):
    """Calibration error after temperature scaling, cross-fitted in two halves.

    The examples at even positions are divided by the temperature that fits those at odd positions,
    and the other way round; the error is that of all of them together. No example is measured with
    a temperature that it helped to fit, so this may be done on a test split.

    Args:
        labels: Integer array `(n,)`.
        logits: float64 array `(n, classes)`.
        bins: Number of bins.

    Returns:
        A float in [0, 1]. A single example, with none to fit to, keeps temperature 1.
    """
    scaled = np.array(logits)
    if len(labels) > 1:
        for half, other in ((0, 1), (1, 0)):
            scaled[half::2] /= temperature(labels[other::2], logits[other::2])
    confidence = scipy.special.softmax(scaled, axis=1).max(axis=1)
    return calibration_error(scaled.argmax(axis=1) == labels, confidence, bins)
