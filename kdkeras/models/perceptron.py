"""A multi-layer perceptron, for feature vectors and for small images."""

from collections.abc import Sequence

import keras
import numpy as np

from kdkeras.models import ends


def mlp(
    *,
    input_shape,
    num_classes,
    hidden=(64, 64),
    mean=0.0,
    variance=1.0,
    dropout=0.0,
    name=None,
):
    """A multi-layer perceptron, from features or pixels to logits.

    `(x - mean) / sqrt(variance)`, then Dense layers with ReLU, then the logits. Of images, which
    must have pixels in [0, 1], the pixels are normalised and flattened.

    Args:
        input_shape: (features,), or (height, width, channels).
        num_classes: Number of logits, at least 2.
        hidden: Widths of the hidden layers; () for a linear classifier.
        mean: Mean of the features over the training data: a number, or one per feature. Not for
            images.
        variance: Their variance, above 0: a number, or one per feature. Not for images.
        dropout: Rate of dropout after each hidden layer, in [0, 1).
        name: Name of the model. Defaults to `mlp`.

    Returns:
        A `keras.Model` from float32 (batch, *input_shape) to logits (batch, num_classes).

    Raises:
        ValueError: For an argument out of its range.

    Example:

    >>> model = mlp(input_shape=(4,), num_classes=3, mean=x.mean(axis=0), variance=x.var(axis=0))
    >>> model(x).shape
    (150, 3)
    """
    if not _counts(input_shape) or len(input_shape) not in (1, 3):
        raise ValueError(
            "`input_shape` must be (features,) or (height, width, channels), positive integers in "
            f"a tuple. Received: input_shape={input_shape!r}"
        )
    ends.check_num_classes(num_classes)
    if not _counts(hidden):
        raise ValueError(
            f"`hidden` must be a tuple of positive integers. Received: hidden={hidden!r}"
        )
    ends.check_rates(dropout=dropout)
    inputs = keras.Input(tuple(input_shape), name="features" if len(input_shape) == 1 else "image")
    x = _normalized(inputs, mean, variance)
    for i, units in enumerate(hidden):
        x = keras.layers.Dense(
            int(units), activation="relu", kernel_initializer="he_normal", name=f"hidden{i + 1}"
        )(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout{i + 1}")(x)
    return keras.Model(inputs, ends.logits_output(x, num_classes), name=name or "mlp")


def _normalized(inputs, mean, variance):
    if len(inputs.shape) == 4:
        if np.ndim(mean) or np.ndim(variance) or (mean, variance) != (0.0, 1.0):
            raise ValueError(
                "`mean` and `variance` are for features; pixels are normalised as in every model. "
                f"Received: mean={mean!r}, variance={variance!r} for images."
            )
        return keras.layers.Flatten(name="flatten")(ends.normalize_pixels(inputs))
    features = inputs.shape[-1]
    mean = _per_feature(features, mean=mean)
    variance = _per_feature(features, variance=variance)
    if min(variance) <= 0:
        raise ValueError(
            f"`variance` must be above 0. Received: variance={variance}. "
            "Drop constant features, or give them a variance of 1."
        )
    return keras.layers.Normalization(
        axis=-1, mean=mean, variance=variance, dtype="float32", name="normalize_features"
    )(inputs)


def _counts(sizes):
    return (
        isinstance(sizes, Sequence)
        and not isinstance(sizes, str)
        and all(ends.is_count(size) for size in sizes)
    )


def _per_feature(features, **argument):
    """The named argument as a list of one float per feature, plain as a model's config is."""
    ((name, value),) = argument.items()
    array = np.asarray(value, dtype="float64")
    if array.shape not in ((), (features,)) or not np.all(np.isfinite(array)):
        raise ValueError(
            f"`{name}` must be a finite number, or {features} of them, one per feature. "
            f"Received: {name}={value!r}"
        )
    return np.broadcast_to(array, (features,)).tolist()
