"""Metrics of one model's logits."""

import numpy as np
import scipy.special

from kdkeras.evaluation import calibration, checks, intervals

TOP = 5


def scores(labels, logits, teacher_logits=None):
    """Metrics of one model's logits.

    Args:
        labels: Integer array `(n,)`.
        logits: Array `(n, classes)`.
        teacher_logits: Optional array `(n, classes)`.

    Returns:
        Dict of floats: `accuracy`; `top_5`, the share of examples whose label is among the five
        largest logits, with more than five classes; `precision`, `recall` and `f1`, means over the
        classes that occur in labels or predictions (0 in these means is the precision of a class
        that is never predicted, and the recall of one without examples); `nll`, the mean `-log p`
        of the label, in nats; `brier`, the mean over examples of the sum over classes of squared
        differences between probability and truth, in 0..2; `ece`, the expected calibration error
        in 15 bins; `temperature`, the one that fits these examples best; `ece_scaled`, the error
        after temperature scaling, each half of the examples with the temperature of the other.
        Nothing of the model is chosen with these two. With `teacher_logits` also `agreement`, the
        share of examples with the teacher's top class, and `kl`, the mean `KL(teacher || model)` in
        nats at temperature 1.

    Raises:
        ValueError: Labels that are not integers in 0..classes - 1, logits that are not finite, or
            lengths that differ.

    Example:

    >>> scores(splits.test.labels, kdkeras.runtimes.load("student.tflite")(images))["accuracy"]
    0.98
    """
    from sklearn import metrics

    labels, logits = checks.checked(labels, logits)
    logits = logits.astype("float64")
    log_probabilities = scipy.special.log_softmax(logits, axis=1)
    probabilities = np.exp(log_probabilities)
    predicted, classes = logits.argmax(axis=1), logits.shape[1]
    result = {"accuracy": metrics.accuracy_score(labels, predicted)}
    if classes > TOP:
        result["top_5"] = metrics.top_k_accuracy_score(
            labels, logits, k=TOP, labels=np.arange(classes)
        )
    result["precision"], result["recall"], result["f1"], _ = (
        metrics.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    )
    result |= {
        "nll": calibration.nll(labels, log_probabilities).mean(),
        "brier": calibration.brier(labels, probabilities).mean(),
        "ece": calibration.calibration_error(predicted == labels, probabilities.max(axis=1)),
        "ece_scaled": calibration.scaled_calibration_error(labels, logits),
        "temperature": calibration.temperature(labels, logits),
    }
    if teacher_logits is not None:
        result |= _likeness(predicted, log_probabilities, labels, teacher_logits)
    return {name: float(value) for name, value in result.items()}


def _likeness(predicted, log_probabilities, labels, teacher_logits):
    _, teacher = checks.checked(labels, teacher_logits, "teacher_logits")
    if teacher.shape != log_probabilities.shape:
        raise ValueError(
            "`teacher_logits` must be of as many classes as `logits`. Received: "
            f"{teacher.shape[1]} and {log_probabilities.shape[1]}."
        )
    log_target = scipy.special.log_softmax(teacher.astype("float64"), axis=1)
    divergence = (np.exp(log_target) * (log_target - log_probabilities)).sum(axis=1)
    return {
        "agreement": np.mean(predicted == teacher.argmax(axis=1)),
        "kl": max(0.0, divergence.mean()),
    }


def details(labels, logits):
    """What stands behind the `scores` of one model: its classes, its confusions, how sure they are.

    Args:
        labels: Integer array `(n,)`.
        logits: Array `(n, classes)`.

    Returns:
        Dict: `classes`, for each its `precision`, `recall`, `f1` and `count` of examples, with
        None for a share of nothing (the precision of a class that is never predicted, the recall of
        one without examples, the F1 of one with neither); `confusion`, how many examples of a row's
        class were given a column's; `reliability`, as `reliability` gives it; `intervals` of 95 %:
        of `accuracy` Wilson's, of `nll`, `brier`, `ece` and `f1` (macro) by bootstrap. The
        calibration error of a resample tends to be above the sample's own; its interval may be,
        too.

    Raises:
        ValueError: As `scores`.

    Example:

    >>> details(labels, logits)["classes"][3]
    {'precision': 0.97, 'recall': 0.94, 'f1': 0.96, 'count': 36}
    """
    from sklearn import metrics

    labels, logits = checks.checked(labels, logits)
    log_probabilities = scipy.special.log_softmax(logits.astype("float64"), axis=1)
    probabilities = np.exp(log_probabilities)
    predicted, classes = logits.argmax(axis=1), logits.shape[1]
    every = np.arange(classes)
    rows = metrics.precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=np.nan
    )
    confusion = metrics.confusion_matrix(labels, predicted, labels=every)
    confidence, right = probabilities.max(axis=1), predicted == labels

    def figures(nll, brier, position, gap, labels, predicted):
        ece = calibration.binned_gap(position, gap)
        return [nll.mean(), brier.mean(), ece, _macro_f1(labels, predicted, classes)]

    low, high = intervals.bootstrap(
        figures,
        calibration.nll(labels, log_probabilities),
        calibration.brier(labels, probabilities),
        calibration.bin_of(confidence),
        right - confidence,
        labels,
        predicted,
    )
    names = ("nll", "brier", "ece", "f1")
    pairs = {name: [float(low[i]), float(high[i])] for i, name in enumerate(names)}
    return {
        "classes": [_of_class(*row) for row in zip(*rows, strict=True)],
        "confusion": confusion.tolist(),
        "reliability": calibration.reliability(labels, probabilities),
        "intervals": {
            "accuracy": list(intervals.wilson(int(right.sum()), len(labels))),
            **pairs,
        },
    }


def _of_class(precision, recall, f1, count):
    shares = {"precision": precision, "recall": recall, "f1": f1}
    plain = {name: None if np.isnan(share) else float(share) for name, share in shares.items()}
    return plain | {"count": int(count)}


def _macro_f1(labels, predicted, classes):
    """`2 hits / (examples + predictions)`, the mean over classes with one or the other."""
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    return np.mean(2.0 * hits[both > 0] / both[both > 0])
