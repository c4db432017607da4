"""Checks of labels and logits, each a `ValueError` saying what to change."""

import numpy as np

from kdkeras import data


def checked(labels, logits, name="logits"):
    """Labels `(n,)` and logits `(n, classes)` as arrays, if they fit each other and are finite.

    Args:
        labels: Integers in 0 ... classes - 1.
        logits: Finite numbers.
        name: What messages call the logits.

    Returns:
        Array of labels, and array of logits.

    Raises:
        ValueError: They are of another form or of different lengths, there are none, a label is out
            of range, or a logit is NaN or infinite; the message says in which rows.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if logits.ndim != 2 or logits.shape[1] < 2 or not len(logits):
        raise ValueError(
            f"`{name}` must be of shape (examples, classes), with at least one example and two "
            f"classes. Received: shape {logits.shape}."
        )
    if len(labels) != len(logits):
        raise ValueError(
            f"`labels` and `{name}` must be of the same examples. Received: {len(labels)} labels, "
            f"{len(logits)} rows of logits."
        )
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        rows = ", ".join(map(str, bad[:5])) + ", ..." * (len(bad) > 5)
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinity in {len(bad)} of {len(logits)} "
            f"rows: {rows}. The model that gave them is broken, or its inputs are."
        )
    data.check_labels(labels, logits.shape[1])
    return labels, logits
