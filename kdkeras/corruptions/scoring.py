"""How accurate a model is under each corruption and severity."""

import numpy as np

from kdkeras import data
from kdkeras.corruptions import applying
from kdkeras.data import sources


def accuracies(logits_of, pictures, *, names=None, severities=applying.SEVERITIES, verbose=1):
    """The accuracy of a model under each corruption, at each severity.

    Args:
        logits_of: Function from images `(n, height, width, channels)` to logits `(n, classes)`,
            such as `kdkeras.runtimes.load` gives. It is given all n of a severity at once.
        pictures: `load(folder)`, the real files, or `Corrupted(images, labels)`, the subset made
            on the spot.
        names: The corruptions to measure; all of `pictures.names` if left out.
        severities: The severities to measure, of 1 ... 5.
        verbose: 0 for no progress.

    Returns:
        Dict from each name to a list of accuracies in [0, 1], one a severity, in their order.

    Raises:
        ValueError: Unknown names or severities, or none; logits that are not finite or not of
            shape `(n, classes)`; labels that are not integers in 0 ... classes - 1.

    Example:

    >>> stored = kdkeras.corruptions.load("CIFAR-10-C", kdkeras.corruptions.STANDARD)
    >>> found = kdkeras.corruptions.accuracies(logits, stored)
    >>> kdkeras.corruptions.mean_accuracy(found)
    0.71

    Reference:
        Hendrycks and Dietterich, [Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations](https://arxiv.org/abs/1903.12261), 2019.
    """
    names = applying.check_names(pictures.names if names is None else names, pictures.names)
    severities = [applying.check_severity(severity) for severity in severities]
    if not severities:
        raise ValueError("`severities` must hold at least one of 1 ... 5. Received: none.")
    update = sources.progress(len(names) * len(severities) * len(pictures), verbose)
    found = {name: [] for name in names}
    done = 0
    for name in names:
        for severity in severities:
            images, labels = pictures(name, severity)
            found[name].append(_accuracy(np.asarray(logits_of(images)), labels))
            done += len(labels)
            update(done)
    return found


def mean_accuracy(found):
    """The mean of accuracies over corruptions and severities, each weighing the same.

    `mean = 1 / (C S) sum_c sum_s accuracy[c, s]`: not divided by the errors of another model, as
    the mCE of ImageNet-C is. The usual figure for CIFAR-10-C is that over `STANDARD`.

    Args:
        found: What `accuracies` gives.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: `found` is empty.

    Example:

    >>> kdkeras.corruptions.mean_accuracy({"fog": [0.9, 0.7], "contrast": [0.8, 0.4]})
    0.7
    """
    if not found:
        raise ValueError("`found` must hold at least one corruption. Received: an empty dict.")
    return float(np.mean(list(found.values())))


def _accuracy(logits, labels):
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(
            f"`logits_of` must give logits of shape ({len(labels)}, classes) for {len(labels)} "
            f"images. Received: shape {logits.shape}."
        )
    if not np.isfinite(logits).all():
        raise ValueError("`logits_of` must give finite logits. Received: NaN or an infinity.")
    data.check_labels(labels, logits.shape[-1])
    return float(np.mean(np.argmax(logits, axis=-1) == labels))
