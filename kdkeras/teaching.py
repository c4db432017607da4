"""What a teacher does in a training step: enrich the labels, learn, or follow the student."""

import keras
from keras import ops

from kdkeras import compatibility, distribution, inputs, teachers, wiring
from kdkeras.models import surgery


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


def known(targets, teacher_view):
    """The labels, and what the teacher says of the clean view if it was asked: for an attack."""
    if teacher_view == "clean":
        return targets
    kept = {key: targets[key] for key in targets if key not in ("logits", "features")}
    return kept | kept.pop("other_view", {})


def train(distiller, view, x, label, sample_weight):
    """A training step of the teacher's own, if it takes one and teaches from this view.

    With mutual learning it learns from what the student says as well.
    """
    teacher = distiller.teacher
    if not distiller.train_teacher or distiller.teacher_view != view:
        return
    student, target = distiller.student, label
    if isinstance(teacher, type(distiller)) and teacher.teacher is None:
        logits = student(inputs.fitted(x, student), training=False)
        target = {"label": label, "logits": _constants(logits)}
    teacher.train_step((inputs.fitted(x, teacher), target, sample_weight))


def symbolic_build(distiller, iterator=None, data_batch=None):
    """`kdkeras.distribution.symbolic_build`, first of a teacher that is trained as well.

    Under a strategy no variable can be made in the step: the teacher's metrics are made here.
    """
    if distiller.train_teacher and distiller.distribute_strategy.num_replicas_in_sync > 1:
        batch = distribution.symbols(iterator) if data_batch is None else data_batch
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if surgery.is_built_graph(distiller.teacher):
            x = surgery.input_of(distiller.teacher)
        label = inputs.enriched(y, tuple(compatibility.heads(distiller.student)))["label"]
        distribution.symbolic_build(distiller.teacher, data_batch=(x, label, sample_weight))
    distribution.symbolic_build(distiller, iterator, data_batch)


def results(teacher):
    """The metrics of a teacher that is trained, as they are logged."""
    return {f"teacher_{name}": value for name, value in teacher.get_metrics_result().items()}


def follow(teacher, student, momentum):
    """Moves each weight of the teacher towards the student's: an average of past students."""
    for past, present in zip(teacher.weights, student.weights, strict=True):
        if keras.backend.is_float_dtype(present.dtype):
            past.assign(momentum * past + (1.0 - momentum) * present)


def _constants(tensors):
    return keras.tree.map_structure(
        lambda tensor: ops.stop_gradient(ops.cast(tensor, "float32")), tensors
    )
