"""What a Distiller expects of its models and batches, checked before they are used."""

import contextlib
import re

import keras
import numpy as np
import tensorflow as tf

from kdkeras import models
from kdkeras.models import ends, surgery

# Generous: noise may leave [0, 1], but nothing scaled to [0, 1] comes near the hundreds.
LARGEST_UNIT_PIXEL = 10.0
CHUNK = 4096
MARK = "kdkeras:"
PROBABILITY_LOSSES = (
    keras.losses.binary_crossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
    keras.losses.sparse_categorical_crossentropy,
)


def num_classes(model):
    """The size of a model's last axis; None for a subclassed model, which has no graph to ask."""
    return model.outputs[0].shape[-1] if _has_graph(model) else None


def _has_graph(model):
    return surgery.is_graph(model) and model.built


def check_models(student, teacher):
    """Refuses a pair of models that cannot be distilled, and says how to mend it."""
    for role, model in (("student", student), ("teacher", teacher)):
        if not isinstance(model, keras.Model):
            raise ValueError(f"`{role}` must be a `keras.Model`. Received: {role}={model!r}")
        if _has_graph(model) and len(model.outputs) > 1:
            raise ValueError(
                f"`{role}` must have one output, logits of shape (batch, num_classes). Received: a "
                f"model with {len(model.outputs)} outputs: {model.output_names}"
            )
        check_logits(role, model)
    if student is teacher:
        raise ValueError(
            "`student` and `teacher` must be two models. Received: the same one twice."
        )
    if _has_graph(student) and _has_graph(teacher):
        shapes = [keras.tree.map_structure(lambda x: x.shape, m.inputs) for m in (student, teacher)]
        if not all(map(_compatible, *shapes)) or len(shapes[0]) != len(shapes[1]):
            raise ValueError(
                "`student` and `teacher` must take the same inputs. Received: a student for inputs "
                f"of shape {shapes[0]} and a teacher for {shapes[1]}."
            )
    of_student, of_teacher = num_classes(student), num_classes(teacher)
    if None not in (of_student, of_teacher) and of_student != of_teacher:
        raise ValueError(
            "`student` and `teacher` must have the same number of classes. Received: a student "
            f"with {of_student} and a teacher with {of_teacher}."
        )


def check_logits(role, model):
    """Refuses a model that ends in softmax."""
    if models.final_softmax(model):
        raise ValueError(
            f"`{role}` must give logits. Received: model '{model.name}', which ends in softmax. "
            f"Use kdkeras.models.logits({role}), the same network without it."
        )


def _compatible(shape, other):
    return tf.TensorShape(shape).is_compatible_with(other)


def check_hard_loss(loss):
    """Refuses a cross-entropy that would take the student's logits for probabilities."""
    for part in keras.tree.flatten(loss):
        part = keras.losses.get(part) if isinstance(part, str) else part
        if isinstance(part, keras.losses.Loss):
            name, wrong = type(part).__name__, part.get_config().get("from_logits") is False
        else:
            name, wrong = getattr(part, "__name__", part), part in PROBABILITY_LOSSES
        if wrong:
            raise ValueError(
                "`loss` must take logits, for students give logits, not probabilities. Received: "
                f"loss={name} with from_logits=False. Use for example "
                "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
            )


def enriched(y):
    """`y` as the dict that targets travel in: labels under `"label"`."""
    if not isinstance(y, dict):
        return {"label": y}
    if "label" not in y:
        raise ValueError(
            "A dict of targets must hold the labels under the key 'label' (the labels of several "
            f"outputs nest under it). Received: keys {sorted(y)}"
        )
    return dict(y)


def class_weight_vector(class_weight, model):
    """Keras's `class_weight` dict as a vector; a class that it leaves out weighs 1."""
    if class_weight is None:
        return None
    classes = num_classes(model) or max(class_weight) + 1
    if any(key not in range(classes) for key in class_weight):
        raise ValueError(
            f"`class_weight` must map class indices 0..{classes - 1} to weights. "
            f"Received: class_weight={class_weight!r}"
        )
    return np.array([class_weight.get(i, 1.0) for i in range(classes)], "float32")


def expectations(distiller):
    """What `checked` needs to know of a Distiller."""
    if isinstance(distiller.loss, keras.losses.SparseCategoricalCrossentropy):
        kind = "integer"
    elif isinstance(distiller.loss, keras.losses.CategoricalCrossentropy):
        kind = "one-hot"
    else:
        kind = None
    unit_pixels = any(
        layer.name == ends.NORMALIZE_PIXELS
        for model in (distiller.student, distiller.teacher)
        for layer in model.layers
    )
    return {"kind": kind, "classes": num_classes(distiller.student), "unit_pixels": unit_pixels}


def checked(x, y=None, **expected):
    """`x`, once it and its labels are found fit to use.

    Arrays are checked at once. Of a `tf.data.Dataset` each batch is checked on the host when it is
    made, at no cost to the training step. Generators and the like come back as they are.

    Args:
        x, y: As given to `fit`.
        **expected: From `expectations`.

    Raises:
        ValueError: NaN or infinite inputs, pixels in 0..255, labels out of range, one-hot labels
            for a sparse loss or the reverse. For datasets, see `clear_errors`.
    """
    if isinstance(x, tf.data.Dataset):
        _, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        _check_form(enriched(y)["label"], expected["kind"], expected["classes"])
        return x.map(
            lambda *batch: _checked_batch(batch, **expected), num_parallel_calls=tf.data.AUTOTUNE
        )
    if isinstance(x, np.ndarray) and y is None and expected["kind"] is not None:
        raise ValueError("`y` must be given: the hard loss needs labels. Received: y=None")
    if isinstance(x, np.ndarray) and y is not None:
        labels = enriched(y)["label"]
        labels = np.asarray(labels) if isinstance(labels, list) else labels
        _check_form(labels, expected["kind"], expected["classes"])
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            for wrong, message, values in _problems(x[part], x[part], labels[part], **expected):
                if wrong:
                    raise ValueError(" ".join([message, *(str(value.numpy()) for value in values)]))
    return x


def _checked_batch(batch, **expected):
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    targets = enriched(y)
    problems = _problems(x, targets.get("clean", x), targets["label"], **expected)
    asserts = [
        tf.debugging.Assert(tf.logical_not(wrong), [f"{MARK} {message}", *values])
        for wrong, message, values in problems
    ]
    with tf.control_dependencies(asserts):
        batch = keras.tree.map_structure(tf.identity, batch)
    return batch if len(batch) > 1 else batch[0]


def _problems(x, clean, labels, *, kind, classes, unit_pixels):
    """What may be wrong with a batch, as a list of (whether it is, message, values received)."""
    problems = []
    if not isinstance(x, dict | list | tuple):
        x, clean = tf.convert_to_tensor(x), tf.convert_to_tensor(clean)
        if x.dtype.is_floating:
            not_finite = tf.reduce_any(~tf.math.is_finite(x))
            problems.append((not_finite, "`x` must be finite. Received: NaN or infinity.", []))
        if unit_pixels:
            largest = tf.reduce_max(clean)
            message = (
                "Pixels must lie in [0, 1]; the models normalise inside. If yours are in 0..255, "
                "divide by 255. Received: a largest pixel of"
            )
            problems.append((tf.cast(largest, "float32") > LARGEST_UNIT_PIXEL, message, [largest]))
    if kind == "integer" and classes is not None:
        labels = tf.convert_to_tensor(labels)
        low, high = tf.reduce_min(labels), tf.reduce_max(labels)
        wrong = (low < 0) | (high > tf.cast(classes - 1, labels.dtype))
        message = f"Labels must be in 0..{classes - 1}. Received: smallest and largest label"
        problems.append((wrong, message, [low, high]))
    return problems


def _check_form(labels, kind, classes):
    if kind is None:
        return
    shape = tf.TensorShape(labels.shape)
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


@contextlib.contextmanager
def clear_errors():
    """Turns what a batch of `checked` raised inside tf.data into the `ValueError` it stands for."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"\[{MARK} (.*?)\](?:\s*\n|\s*$|\s*\[\[)", error.message, re.DOTALL)
        if found is None:
            raise
        raise ValueError(found.group(1).replace("] [", " ")) from None
