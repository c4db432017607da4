"""Checks of arrays of images and labels, each a `ValueError` saying what to change."""

import numpy as np


def check(images, labels, num_classes, *, one_hot=False):
    """Checks images and labels before they are trained on.

    Args:
        images: Array of shape `(n, height, width, channels)`, pixels in [0, 1].
        labels: Array of shape `(n,)`, integers in 0 ... num_classes - 1; with `one_hot`, of shape
            `(n, num_classes)`, each row a distribution.
        num_classes: Number of classes.
        one_hot: Whether one-hot labels are expected.

    Raises:
        ValueError: Nothing to train on, lengths that differ, pixels that are not finite or not in
            [0, 1], labels of the wrong form or out of range. The message names the first
            offending index and value.

    Example:

    >>> check(np.zeros((2, 8, 8, 3)), np.array([0, 1]), num_classes=2)
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if len(images) == 0:
        raise ValueError(f"`images` must hold at least one image. Received: shape {images.shape}.")
    if len(images) != len(labels):
        raise ValueError(
            "`images` and `labels` must have the same length. "
            f"Received: {len(images)} images, {len(labels)} labels."
        )
    check_pixels(images)
    if one_hot:
        _check_one_hot(labels, num_classes)
    else:
        check_labels(labels, num_classes)


def check_labels(labels, num_classes, name="labels"):
    """Checks that labels are integers in 0 ... num_classes - 1.

    Args:
        labels: Array.
        num_classes: Number of classes.
        name: What the message calls them.

    Raises:
        ValueError: They are one-hot, not of shape `(n,)`, no integers or out of range. The message
            names the first offending index and value.

    Example:

    >>> kdkeras.data.check_labels(np.array([0, 1]), num_classes=2)
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"`{name}` must be integers of shape (n,), not one-hot. Received: shape "
            f"{labels.shape}. Take np.argmax({name}, axis=-1)."
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"`{name}` must be integers of shape (n,). Received: shape {labels.shape}, dtype "
            f"{labels.dtype}. Reshape or cast them."
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise ValueError(
            f"`{name}` must be in 0 ... {num_classes - 1} for {num_classes} classes. Received: "
            f"{name}[{outside[0]}]={labels[outside[0]]} ({len(outside)} such). Correct "
            "`num_classes`, or number the classes from 0 and leave unlabelled images out."
        )


def check_pixels(images):
    if np.issubdtype(images.dtype, np.integer):
        raise ValueError(
            "`images` must be floats in [0, 1]. Received: dtype "
            f"{images.dtype}. Divide by 255: images / 255."
        )
    bad = ~np.isfinite(images)
    if bad.any():
        raise ValueError(f"`images` must be finite. Received: {_first(images, bad)}. Remove it.")
    if images.max() > 1.0:
        mend = "Divide by 255: images / 255." if images.max() > 2.0 else "Clip or rescale them."
        raise ValueError(
            f"`images` must be in [0, 1]. Received: {_first(images, images > 1.0)}, maximum "
            f"{images.max()}. {mend}"
        )
    if images.min() < 0.0:
        raise ValueError(
            f"`images` must be in [0, 1]. Received: {_first(images, images < 0.0)}. Undo any "
            "normalisation: it is a layer inside the model."
        )


def _check_one_hot(labels, num_classes):
    if labels.ndim != 2:
        raise ValueError(
            f"`labels` must be one-hot, of shape (n, {num_classes}). Received: shape "
            f"{labels.shape}. Use keras.utils.to_categorical(labels, {num_classes})."
        )
    if labels.shape[1] != num_classes:
        raise ValueError(
            f"`labels` must have num_classes={num_classes} columns. Received: shape {labels.shape}."
        )
    bad = (labels < 0).any(axis=1) | ~np.isclose(labels.sum(axis=1), 1.0, atol=1e-5)
    if bad.any():
        first = np.flatnonzero(bad)[0]
        raise ValueError(
            "`labels` must be distributions: rows that are not negative and sum to 1. Received: "
            f"labels[{first}]={labels[first].tolist()}."
        )


def _first(images, where):
    """The first offending value and the image that holds it."""
    position = tuple(int(i) for i in np.argwhere(where)[0])
    return f"{images[position]} in image {position[0]} (images{list(position)})"
