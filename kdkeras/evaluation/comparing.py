"""Two models on the same examples."""

from kdkeras.evaluation import checks, intervals


def compare(labels, first_logits, second_logits):
    """Accuracy of one model less that of another, on the same examples.

    Args:
        labels: Integer array `(n,)`.
        first_logits, second_logits: Arrays `(n, classes)`.

    Returns:
        Dict: `difference` of accuracies, first less second; its `standard_error`; its 95 %
        `interval` (Newcombe, of paired shares); `only_first` and `only_second`, how many examples
        that model alone is right on; `p`, of McNemar's exact two-sided test that these two are as
        likely. All is of these examples: another training gives another model.

    Raises:
        ValueError: Labels and logits that do not fit each other, or logits that are not finite.

    Example:

    >>> compare(splits.test.labels, student_logits, control_logits)["interval"]
    [-0.004, 0.021]
    """
    labels, first = checks.checked(labels, first_logits, "first_logits")
    _, second = checks.checked(labels, second_logits, "second_logits")
    first, second = first.argmax(axis=1) == labels, second.argmax(axis=1) == labels
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    difference = first.astype("float64") - second
    return {
        "difference": float(difference.mean()),
        "standard_error": float(difference.std() / len(labels) ** 0.5),
        "interval": list(intervals.newcombe(only_first, only_second, both, neither)),
        "only_first": only_first,
        "only_second": only_second,
        "p": intervals.mcnemar(only_first, only_second),
    }
