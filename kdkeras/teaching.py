"""What a teacher does in a training step: enrich the labels, learn, or follow the student."""

import keras
from keras import ops

from kdkeras import inputs, teachers, wiring


def enriched(teacher, tapped, terms, x, targets):
    """The labels enriched by a teacher, with constants to the student.

    Args:
        teacher: A `keras.Model`, `kdkeras.teachers.Predictions` or None.
        tapped: The teacher with its inner tensors, as in `kdkeras.wiring.Wiring`, or None.
        terms: List of `kdkeras.Term`.
        x: What the teacher sees.
        targets: Dict with `"label"`; if it already has `"logits"`, or `"probabilities"` to take
            their logarithm, the teacher is not run.

    Returns:
        `targets` with `"logits"`, float32 of shape `(batch, num_classes)` or a dict of them by
        output, and, where terms of layers need them, `"features"`, float32 by path.

    Raises:
        ValueError: There is neither a teacher nor recorded logits, or recorded logits come without
            the features that a term needs.
    """
    if "probabilities" in targets:
        targets = dict(targets)
        probabilities = targets.pop("probabilities")
        as_logits = teachers.logits_of_probabilities
        targets["logits"] = keras.tree.map_structure(as_logits, probabilities)
    if "logits" in targets:
        wiring.check_recorded(terms, targets)
        return targets
    if teacher is None:
        raise ValueError(
            "Without a `teacher`, the targets must hold what it said: (x, {'label': y, 'logits': "
            f"z}}). Received: targets with {sorted(targets)}"
        )
    x = inputs.fitted(x, teacher)
    if tapped is None:
        return {**targets, "logits": _constants(teacher(x, training=False))}
    taught = tapped(x, training=False)
    return {
        **targets,
        "logits": _constants(taught["outputs"]),
        "features": _constants(taught["features"]),
    }


def train(distiller, x, label, sample_weight, *, mutual):
    """A training step of the teacher's own; if mutual, on what the student says as well."""
    student, target = distiller.student, label
    if mutual:
        logits = student(inputs.fitted(x, student), training=False)
        target = {"label": label, "logits": _constants(logits)}
    distiller.teacher.train_step((inputs.fitted(x, distiller.teacher), target, sample_weight))


def follow(teacher, student, momentum):
    """Moves each weight of the teacher towards the student's: an average of past students."""
    for past, present in zip(teacher.weights, student.weights, strict=True):
        if keras.backend.is_float_dtype(present.dtype):
            past.assign(momentum * past + (1.0 - momentum) * present)


def _constants(tensors):
    return keras.tree.map_structure(
        lambda tensor: ops.stop_gradient(ops.cast(tensor, "float32")), tensors
    )
