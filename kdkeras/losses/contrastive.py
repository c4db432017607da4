"""Contrastive representation distillation: the teacher's and the student's views of an example."""

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base, vectors

# Stands for minus infinity, whose differences have no value.
LOWEST = -1e300


def _classes(labels):
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) not in (1, 2):
        raise ValueError(
            "`labels` must be classes (batch,) or (batch, 1), or probabilities (batch, classes). "
            f"Received: shape {tuple(labels.shape)}"
        )
    return base.class_indices(labels)


def _anchored(logits, negative):
    """-log(e^z_ii / (e^z_ii + sum of e^z_ij over the negatives j)), of each row i."""
    negatives = ops.logsumexp(ops.where(negative, logits, LOWEST), axis=1)
    return ops.softplus(negatives - ops.diagonal(logits))


def contrastive_representation(labels, teacher, student, *, temperature=0.07):
    """Cross-entropy of finding an example's other view among those of other classes.

    `-log(e^z_ii / (e^z_ii + sum_j e^z_ij)) - log(e^z_ii / (e^z_ii + sum_j e^z_ji))`, with
    `z_ij = cos(student_i, teacher_j) / temperature`, and j over the examples of other classes than
    that of i

    The student's view is the anchor of the first part, the teacher's of the second; both are summed
    over the batch's negatives. This is the softmax form (InfoNCE) with the batch as negatives: the
    authors draw 16384 of them from a memory of the whole data set, and estimate by noise contrast
    with a constant fixed at the first batch. An anchor without negatives has loss 0.

    Args:
        labels: Classes of shape `(batch,)` or `(batch, 1)`, or `(batch, classes)`, one-hot or
            mixed, of which the largest counts.
        teacher: Tensor of shape `(batch, ...)`; all axes but the first are taken as features.
        student: Tensor of shape `(batch, ...)`, with as many features.
        temperature: Positive number.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0.

    Raises:
        ValueError: `temperature` is not a positive finite number, the shapes do not fit, or the
            batch is known to be of one example.

    Example:

    >>> views = [[1.0, 0.0], [0.0, 1.0]]
    >>> kdkeras.losses.contrastive_representation([0, 1], views, views, temperature=1.0)
    [0.626523, 0.626523]

    Reference:
        Tian et al., [Contrastive Representation Distillation](https://arxiv.org/abs/1910.10699),
        ICLR 2020, section 3.
    """
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    classes = _classes(labels)
    t, s = vectors.compared(teacher, student)
    vectors.agree(t, s, [1], "number of features")
    if None not in (classes.shape[0], s.shape[0]) and classes.shape[0] != s.shape[0]:
        raise ValueError(
            "`labels` and `student` must have the same batch size. Received: shapes "
            f"{tuple(classes.shape)} and {tuple(s.shape)}"
        )
    z = ops.matmul(vectors.unit(s), ops.transpose(vectors.unit(t)))
    z = z / ops.cast(temperature, "float64")
    negative = ops.not_equal(classes[:, None], classes[None, :])
    losses = _anchored(z, negative) + _anchored(ops.transpose(z), negative)
    return ops.cast(losses, "float32")


@keras.saving.register_keras_serializable("kdkeras")
class ContrastiveRepresentation(base.DistillationLoss):
    """`contrastive_representation` of two embeddings, averaged over the batch.

    Args:
        temperature: Positive number, 0.07 unless told; or a Keras schedule of the step.
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: The pair of the labels and the teacher's embedding.
        y_pred: The student's embedding, with as many features.
        sample_weight: Optional weights, `(batch,)`.

    Raises:
        ValueError: `temperature` is not a positive finite number.
    """

    settings = ("temperature",)
    needs_labels = True
    compares_examples = True

    def __init__(
        self,
        *,
        temperature=0.07,
        reduction="sum_over_batch_size",
        name="contrastive_representation",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = schedules.checked(arguments.temperature, "temperature", temperature)

    def call(self, y_true, y_pred):
        labels, teacher = y_true
        return contrastive_representation(labels, teacher, y_pred, temperature=self.temperature)
