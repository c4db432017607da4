"""Losses between the logits of a teacher and those of a student."""

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base


def _log_softmax(logits, temperature):
    # float32 whatever the models' precision: float16 logits divided by T lose the small classes.
    return ops.log_softmax(ops.cast(logits, "float32") / temperature, axis=-1)


def soft_targets(logits, temperature):
    """Class probabilities softened by a temperature.

    `q_i = exp(z_i / T) / sum_j exp(z_j / T)`

    Args:
        logits: Tensor of shape `(..., num_classes)`, unnormalised log-probabilities.
        temperature: Positive number `T`. 1 is the plain softmax; above 1 is softer.

    Returns:
        float32 tensor shaped like `logits`; the last axis sums to 1.

    Raises:
        ValueError: `temperature` is not a positive finite number.

    Example:

    >>> kdkeras.losses.soft_targets([[2.0, 0.0]], temperature=2.0)
    [[0.7310586, 0.26894143]]

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015, equation 1.
    """
    temperature = schedules.known(arguments.positive, "temperature", temperature)
    return ops.exp(_log_softmax(ops.convert_to_tensor(logits), temperature))


def soft_target_divergence(teacher_logits, student_logits, temperature):
    """Kullback-Leibler divergence from the teacher's soft targets to the student's, times T^2.

    `T^2 * sum_k p_k (log p_k - log q_k)`, with `p = softmax(teacher_logits / T)` and
    `q = softmax(student_logits / T)`

    Its gradient with respect to the student's logits is `T (q - p)`. The factor `T^2` keeps that
    gradient's size when `T` changes, so that a weight against the labels' loss keeps its meaning.
    Summed over classes, not averaged over anything. Computed in float32 and in log space: it stays
    exact where probabilities would underflow.

    Args:
        teacher_logits: Tensor of shape `(batch, ..., num_classes)`.
        student_logits: Tensor of the same shape.
        temperature: Positive number `T`.

    Returns:
        float32 tensor of shape `(batch, ...)`, in nats times `T^2`, at least 0, and 0 where
        both distributions are equal.

    Raises:
        ValueError: `temperature` is not a positive finite number, or the shapes differ.

    Example:

    >>> kdkeras.losses.soft_target_divergence([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]], temperature=1.0)
    [1.1504]

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015, section 2.
    """
    temperature = schedules.known(arguments.positive, "temperature", temperature)
    teacher_logits = ops.convert_to_tensor(teacher_logits)
    student_logits = ops.convert_to_tensor(student_logits)
    if teacher_logits.shape[-1] != student_logits.shape[-1]:
        raise ValueError(
            "`teacher_logits` and `student_logits` must have the same number of classes. "
            f"Received: shapes {tuple(teacher_logits.shape)} and {tuple(student_logits.shape)}"
        )
    log_p = _log_softmax(teacher_logits, temperature)
    log_q = _log_softmax(student_logits, temperature)
    p, q = ops.exp(log_p), ops.exp(log_q)
    r = log_p - log_q
    # `p r + q - p` has the sum of `p r`, for p and q both sum to 1; but no summand is negative, and
    # rounding errors of r no longer enter to first order. Plain `p r` is wrong by 1 % and more
    # where p and q are close, as at high temperatures.
    near = ops.clip(r, -1.0, 1.0)
    summands = ops.where(ops.abs(r) < 1.0, p * (near + ops.expm1(-near)), p * r + (q - p))
    return temperature**2 * ops.sum(summands, axis=-1)


@keras.saving.register_keras_serializable("kdkeras")
class SoftTargets(base.DistillationLoss):
    """The soft targets of a teacher as a loss: `soft_target_divergence`, averaged over the batch.

    Args:
        temperature: Positive number `T`, 4 unless told; or a Keras schedule of the step.
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: The teacher's logits, `(batch, ..., num_classes)`.
        y_pred: The student's logits, of the same shape.
        sample_weight: Optional weights, `(batch,)`.

    Raises:
        ValueError: `temperature` is not a positive finite number.

    Example:

    >>> loss = kdkeras.losses.SoftTargets(temperature=1.0)
    >>> loss([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    1.1504

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015.
    """

    def __init__(
        self,
        *,
        temperature=4.0,
        reduction="sum_over_batch_size",
        name="soft_targets",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = schedules.checked(arguments.positive, "temperature", temperature)

    def call(self, y_true, y_pred):
        return soft_target_divergence(y_true, y_pred, self.temperature)

    def get_config(self):
        temperature = keras.saving.serialize_keras_object(self.temperature)
        return {**super().get_config(), "temperature": temperature}
