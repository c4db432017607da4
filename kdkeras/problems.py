"""What may be wrong with a batch of examples."""

import keras
import numpy as np
import tensorflow as tf

# Generous: noise may leave [0, 1], but nothing scaled to [0, 1] comes near the hundreds.
LARGEST_UNIT_PIXEL = 10.0
ROUNDING = 1e-5


def found(x, targets, labels, unit_pixels, bounds):
    """What may be wrong with a batch of inputs and enriched labels.

    Args:
        x: Inputs.
        targets: Dict with "label".
        labels, unit_pixels, bounds: As of `kdkeras.inputs.checked`.

    Returns:
        List of (whether it is wrong, message, values received).
    """
    problems = [_not_finite("`x`", part, targets) for part in keras.tree.flatten(x)]
    for key in ("logits", "probabilities", "features"):
        said = keras.tree.flatten(targets.get(key, []))
        problems += [_not_finite(f"The teacher's '{key}'", part, targets) for part in said]
    problems = [problem for problem in problems if problem is not None]
    clean = targets.get("clean", x)
    if unit_pixels and not isinstance(clean, (dict, list, tuple)):
        largest = tf.reduce_max(clean)
        message = (
            "Pixels must lie in [0, 1]; the models normalise inside. If yours are in 0..255, "
            "divide by 255. Received: a largest pixel of"
        )
        problems.append((tf.cast(largest, "float32") > LARGEST_UNIT_PIXEL, message, [largest]))
    if bounds is not None and not isinstance(clean, (dict, list, tuple)):
        low, high = (tf.cast(f(clean), "float32") for f in (tf.reduce_min, tf.reduce_max))
        outside = (low < bounds[0] - ROUNDING) | (high > bounds[1] + ROUNDING)
        message = (
            f"`x` must lie in the attack's `bounds`, [{bounds[0]:g}, {bounds[1]:g}]; divide pixels "
            "in 0..255 by 255. Received: smallest and largest"
        )
        problems.append((outside, message, [low, high]))
    for part in keras.tree.flatten(targets.get("probabilities", [])):
        low, high = tf.reduce_min(part), tf.reduce_max(part)
        message = (
            "The teacher's 'probabilities' must lie in [0, 1]; its logits go under 'logits'. "
            "Received: smallest and largest"
        )
        problems.append(((low < 0.0) | (high > 1.0 + 1e-3), message, [low, high]))
    for name, (kind, classes) in labels.items():
        label = _label(targets["label"], name)
        if kind == "integer" and classes is not None and label is not None:
            label = tf.convert_to_tensor(label)
            low, high = tf.reduce_min(label), tf.reduce_max(label)
            wrong = (low < 0) | (high > tf.cast(classes - 1, label.dtype))
            of = "" if name is None else f" of '{name}'"
            message = (
                f"Labels{of} must be in 0..{classes - 1}. Received: smallest and largest label"
            )
            problems.append((wrong, message, [low, high]))
    return problems


def _not_finite(name, part, targets):
    """The problem of NaN or infinity, with the first ids; None of what cannot hold it."""
    part = tf.convert_to_tensor(part)
    if not part.dtype.is_floating:
        return None
    message = f"{name} must be finite. Received: NaN or infinity"
    wrong = ~tf.math.is_finite(part)
    if "id" not in targets:
        return tf.reduce_any(wrong), f"{message}.", []
    wrong = tf.reduce_any(wrong, axis=tf.range(1, tf.rank(wrong)))
    ids = tf.boolean_mask(targets["id"], wrong)
    return tf.reduce_any(wrong), f"{message} in the examples of ids", [ids[:3]]


def _label(label, name):
    return label.get(name) if isinstance(label, dict) else label


def check_forms(targets, labels, needed):
    """Refuses labels that are missing, or one-hot where integers are needed or the reverse."""
    label = targets["label"]
    for name, (kind, classes) in labels.items():
        for key in ("logits", "probabilities"):
            recorded = _label(targets.get(key), name)
            if (
                recorded is not None
                and classes is not None
                and recorded.shape[-1] not in (None, classes)
            ):
                raise ValueError(
                    f"The teacher's '{key}' must be of {classes} classes, as the student's. "
                    f"Received: shape {tuple(recorded.shape)}"
                )
        of_output = _label(label, name)
        if of_output is None and kind is not None and needed:
            of = "`y` must" if name is None else f"The labels of '{name}' must"
            raise ValueError(
                f"{of} be given: the hard loss needs labels, unless `alpha` is 0. Received: None"
            )
        if of_output is not None:
            _check_form(of_output, kind, classes)


def _check_form(labels, kind, classes):
    if kind is None:
        return
    shape = tf.TensorShape(np.shape(labels) if isinstance(labels, list) else labels.shape)
    if shape.rank is None:
        return
    if kind == "integer" and shape.rank > 1 and shape[-1] not in (None, 1):
        raise ValueError(
            "Labels must be integers of shape (batch,) for a sparse hard loss. Received: shape "
            f"{tuple(shape)}, which looks one-hot. Use "
            "keras.losses.CategoricalCrossentropy(from_logits=True), or numpy.argmax(labels, -1)."
        )
    if kind == "one-hot" and (shape.rank < 2 or shape[-1] not in (None, classes)):
        raise ValueError(
            f"Labels must be one-hot, of shape (batch, {classes}), for this hard loss. Received: "
            f"shape {tuple(shape)}. Use "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True), or "
            "keras.utils.to_categorical(labels)."
        )
