"""What an attack raises: functions of the perturbed inputs with a value for each example."""

import tensorflow as tf

from kdkeras import inputs, losses
from kdkeras.losses import base

OBJECTIVES = ("cross_entropy", "margin", "teacher", "student")


def cross_entropy(labels, logits):
    """`-log p(label)`, of integer labels or of rows of probabilities.

    Args:
        labels: Integers of shape `(batch,)` or `(batch, 1)`, or `(batch, classes)`.
        logits: Tensor of shape `(batch, classes)`.

    Returns:
        float32 tensor of shape `(batch,)`.
    """
    logits = tf.cast(logits, tf.float32)
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 2 and labels.shape[-1] != 1:
        return tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(base.class_indices(labels), logits)


def margin(labels, logits):
    """How far the best other class is above the label's: `max_(k != y) z_k - z_y`.

    Positive where the model is wrong. Unlike cross-entropy its gradient does not vanish where a
    model is very sure of itself, so that large logits do not hide from it.

    Args:
        labels: Integers of shape `(batch,)` or `(batch, 1)`; of rows the largest counts.
        logits: Tensor of shape `(batch, classes)`.

    Returns:
        float32 tensor of shape `(batch,)`.

    Example:

    >>> kdkeras.perturbations.margin([0, 1], [[3.0, 1.0], [2.0, 0.5]]).numpy()
    array([-2. ,  1.5], dtype=float32)

    Reference:
        Carlini and Wagner, [Towards Evaluating the Robustness of Neural Networks](
        https://arxiv.org/abs/1608.04644), 2017.
    """
    logits = tf.cast(logits, tf.float32)
    of_label = tf.one_hot(
        base.class_indices(labels), logits.shape[-1], on_value=True, off_value=False
    )
    others = tf.reduce_max(tf.where(of_label, logits.dtype.min, logits), axis=-1)
    return others - tf.reduce_sum(tf.where(of_label, logits, 0.0), axis=-1)


def bound(name, model, x, targets, teacher, teacher_view):
    """The objective of that name, as a function of perturbed inputs alone.

    Args:
        name: One of `OBJECTIVES`.
        model: The attacked model, called with `training=False`.
        x: The clean inputs.
        targets: Dict with "label"; "teacher" uses what it has as "logits".
        teacher: None, or a callable like `model`.
        teacher_view: "clean" or "perturbed": where the teacher of "teacher" is asked.

    Returns:
        A function from inputs to a float32 tensor of shape `(batch,)`.

    Raises:
        ValueError: What the objective needs is not there.
    """

    def attacked(perturbed):
        return model(perturbed, training=False)

    def taught(seen):
        _check_teacher(teacher)
        return teacher(inputs.fitted(seen, teacher), training=False)

    if name in ("cross_entropy", "margin"):
        if targets.get("label") is None:
            raise ValueError(f"objective={name!r} needs labels. Received: targets without labels.")
        function = cross_entropy if name == "cross_entropy" else margin
        return lambda perturbed: function(targets["label"], attacked(perturbed))
    if name == "teacher" and teacher_view == "perturbed":
        return lambda perturbed: divergence(taught(perturbed), attacked(perturbed))
    if name == "student":
        wanted = attacked(x)
    else:
        wanted = targets["logits"] if "logits" in targets else taught(x)
    wanted = tf.stop_gradient(tf.cast(wanted, tf.float32))
    return lambda perturbed: divergence(wanted, attacked(perturbed))


def divergence(teacher_logits, logits):
    """`KL(p_T || p_S)` at temperature 1, of shape `(batch,)`."""
    return losses.soft_target_divergence(teacher_logits, logits, 1.0)


def _check_teacher(teacher):
    if teacher is None:
        raise ValueError(
            "objective='teacher' needs a teacher. Received: none. Give the attack a teacher, or "
            "take objective='cross_entropy' or 'margin'."
        )
