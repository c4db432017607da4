"""Decoupled knowledge distillation: the labelled class and the other classes, weighted apart."""

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base, soft


def _targets(labels, logits):
    """The labelled classes, int32, `(batch, 1)`."""
    labels = ops.convert_to_tensor(labels)
    shape, (batch, num_classes) = tuple(labels.shape), tuple(logits.shape)
    as_many = bool(shape) and (None in (shape[0], batch) or shape[0] == batch)
    if not as_many or shape[1:] not in ((), (1,), (num_classes,)):
        raise ValueError(
            "`labels` must be classes of shape (batch,) or (batch, 1), or one-hot of shape "
            f"(batch, num_classes), for logits of shape {tuple(logits.shape)}. "
            f"Received: labels of shape {shape}"
        )
    return ops.expand_dims(base.class_indices(labels), -1)


def _split(logits, targets, temperature):
    """Log-probabilities of (the target, all others), and of the others among themselves."""
    logits = ops.cast(logits, "float32")
    others = ops.arange(logits.shape[-1] - 1, dtype="int32")
    others = others + ops.cast(others >= targets, "int32")
    target, rest = (ops.take_along_axis(logits, at, axis=-1) for at in (targets, others))
    # The logit of "any other class": the odds are then exact where a probability rounds to 1.
    largest = ops.stop_gradient(ops.max(rest, axis=-1, keepdims=True))
    total = ops.logsumexp((rest - largest) / temperature, axis=-1, keepdims=True)
    binary = ops.concatenate([target, largest + temperature * total], axis=-1)
    return soft.log_softmax(binary, temperature), soft.log_softmax(rest, temperature)


def decoupled_divergence(
    labels,
    teacher_logits,
    student_logits,
    *,
    target_weight=1.0,
    nontarget_weight=8.0,
    temperature=4.0,
):
    """The divergence on the labelled class, and that among the others, weighted apart, times T^2.

    `T^2 * (target_weight * KL(b_p || b_q) + nontarget_weight * KL(r_p || r_q))`, with
    `b = (softmax_c, 1 - softmax_c)` for the label `c`, and `r` the softmax over the other classes,
    both of logits over `T`

    With weights 1 and `1 - softmax_c(teacher_logits / T)` this is `soft_target_divergence`: there,
    the surer the teacher is of the label, the less the other classes count. Summed over classes,
    not averaged over anything. Computed in float32 and in log space. The authors raise its weight
    from 0 over the first epochs: give the `kdkeras.Term` a schedule.

    Args:
        labels: Classes, `(batch,)` or `(batch, 1)`, of any dtype; or one-hot or mixed labels,
            `(batch, num_classes)`, of which the largest counts.
        teacher_logits: Tensor of shape `(batch, num_classes)`.
        student_logits: Tensor of the same shape.
        target_weight: Finite number, at least 0; alpha in the paper.
        nontarget_weight: Finite number, at least 0; beta in the paper. The authors' runs
            have 8 on CIFAR-100 from ResNet-50 to MobileNetV2, and 2 (with T = 1) on ImageNet from
            ResNet-50 to MobileNetV1. Of two classes, this part is 0.
        temperature: Positive number `T`.

    Returns:
        float32 tensor of shape `(batch,)`, in nats times `T^2`, at least 0, and 0 where both
        distributions are equal.

    Raises:
        ValueError: A weight or `temperature` is out of range, the shapes differ or do not fit the
            labels, or there are fewer than two classes.

    Example:

    >>> kdkeras.losses.decoupled_divergence(
    ...     [0], [[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]], temperature=1.0
    ... )
    [4.6927]

    Reference:
        Zhao et al., [Decoupled Knowledge Distillation](https://arxiv.org/abs/2203.08679), CVPR
        2022.
    """
    target_weight = schedules.known(arguments.nonnegative, "target_weight", target_weight)
    nontarget_weight = schedules.known(arguments.nonnegative, "nontarget_weight", nontarget_weight)
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    teacher_logits, student_logits = soft.pair(teacher_logits, student_logits, rank=2)
    targets = _targets(labels, teacher_logits)
    teacher_binary, teacher_rest = _split(teacher_logits, targets, temperature)
    student_binary, student_rest = _split(student_logits, targets, temperature)
    return temperature**2 * (
        target_weight * soft.divergence(teacher_binary, student_binary)
        + nontarget_weight * soft.divergence(teacher_rest, student_rest)
    )


@keras.saving.register_keras_serializable("kdkeras")
class Decoupled(base.DistillationLoss):
    """`decoupled_divergence`, averaged over the batch.

    Args:
        target_weight: Finite number, at least 0; 1 unless told; or a Keras schedule of the step.
        nontarget_weight: Finite number, at least 0; 8 unless told; or a Keras schedule.
        temperature: Positive number `T`, 4 unless told; or a Keras schedule.
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: The pair of the labels, `(batch,)`, `(batch, 1)` or `(batch, num_classes)`, and the
            teacher's logits, `(batch, num_classes)`.
        y_pred: The student's logits, `(batch, num_classes)`.
        sample_weight: Optional weights, `(batch,)`.

    Raises:
        ValueError: A weight or `temperature` is out of range.

    Example:

    >>> loss = kdkeras.losses.Decoupled(temperature=1.0)
    >>> loss(([0], [[2.0, 1.0, 0.0]]), [[0.0, 1.0, 2.0]])
    4.6927

    Reference:
        Zhao et al., [Decoupled Knowledge Distillation](https://arxiv.org/abs/2203.08679), CVPR
        2022.
    """

    settings = ("target_weight", "nontarget_weight", "temperature")
    needs_labels = True

    def __init__(
        self,
        *,
        target_weight=1.0,
        nontarget_weight=8.0,
        temperature=4.0,
        reduction="sum_over_batch_size",
        name="decoupled",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.target_weight = schedules.checked(
            arguments.nonnegative, "target_weight", target_weight
        )
        self.nontarget_weight = schedules.checked(
            arguments.nonnegative, "nontarget_weight", nontarget_weight
        )
        self.temperature = schedules.checked(arguments.temperature, "temperature", temperature)

    def call(self, y_true, y_pred):
        labels, teacher_logits = y_true
        return decoupled_divergence(
            labels,
            teacher_logits,
            y_pred,
            target_weight=self.target_weight,
            nontarget_weight=self.nontarget_weight,
            temperature=self.temperature,
        )
