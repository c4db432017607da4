"""Losses between the logits of a teacher and those of a student."""

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base, soft


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
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    return ops.exp(soft.log_softmax(ops.convert_to_tensor(logits), temperature))


def standardize(logits):
    """Logits with mean 0 and standard deviation 1 over the classes.

    `(z_k - mean(z)) / (std(z) + 1e-7)`, with `std` over `num_classes - 1`

    A student then matches the order and the relative distances of the teacher's logits, not their
    size, which a small model may not reach. Logits that are all equal become 0.

    Args:
        logits: Tensor of shape `(..., num_classes)`, with at least two classes.

    Returns:
        float32 tensor shaped like `logits`.

    Raises:
        ValueError: There are fewer than two classes.

    Example:

    >>> kdkeras.losses.standardize([[3.0, 2.0, 1.0]])
    [[1.0, 0.0, -1.0]]

    Reference:
        Sun et al., [Logit Standardization in Knowledge Distillation](
        https://arxiv.org/abs/2403.01427), CVPR 2024; 1e-7 is from the authors' code.
    """
    logits = ops.convert_to_tensor(logits)
    shape = tuple(logits.shape)
    if not shape or shape[-1] in (0, 1):
        raise ValueError(f"`logits` must have at least two classes. Received: shape {shape}")
    logits = ops.cast(logits, "float32")
    centred = logits - ops.mean(logits, axis=-1, keepdims=True)
    degrees = ops.cast(ops.shape(logits)[-1] - 1, "float32")
    variance = ops.sum(ops.square(centred), axis=-1, keepdims=True) / degrees
    # Of equal logits the deviation is 0, where the square root has no finite slope and the quotient
    # a gradient of 1e7; 1 instead leaves them 0, with the gradient of the centring.
    std = ops.sqrt(ops.where(variance > 0, variance, 1.0))
    return centred / (std + 1e-7)


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
        ValueError: `temperature` is not a positive finite number, the shapes differ, or there are
            fewer than two classes.

    Example:

    >>> kdkeras.losses.soft_target_divergence([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]], temperature=1.0)
    [1.1504]

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015, section 2.
    """
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    teacher_logits, student_logits = soft.pair(teacher_logits, student_logits)
    log_p = soft.log_softmax(teacher_logits, temperature)
    log_q = soft.log_softmax(student_logits, temperature)
    return temperature**2 * soft.divergence(log_p, log_q)


@keras.saving.register_keras_serializable("kdkeras")
class SoftTargets(base.DistillationLoss):
    """The soft targets of a teacher as a loss: `soft_target_divergence`, averaged over the batch.

    Args:
        temperature: Positive number `T`, 4 unless told; or a Keras schedule of the step.
        standardize: Whether both logits pass `standardize` first, as in Sun et al., [Logit
            Standardization in Knowledge Distillation](https://arxiv.org/abs/2403.01427), CVPR 2024.
            The factor `T^2` stays.
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: The teacher's logits, `(batch, ..., num_classes)`.
        y_pred: The student's logits, of the same shape.
        sample_weight: Optional weights, `(batch,)`.

    Raises:
        ValueError: `temperature` is not a positive finite number, or `standardize` is not a bool.

    Example:

    >>> loss = kdkeras.losses.SoftTargets(temperature=1.0)
    >>> loss([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    1.1504

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015.
    """

    settings = ("temperature", "standardize")

    def __init__(
        self,
        *,
        temperature=4.0,
        standardize=False,
        reduction="sum_over_batch_size",
        name="soft_targets",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = schedules.checked(arguments.temperature, "temperature", temperature)
        if not isinstance(standardize, bool):
            raise ValueError(
                f"`standardize` must be True or False. Received: standardize={standardize!r}"
            )
        self.standardize = standardize

    def call(self, y_true, y_pred):
        if self.standardize:
            y_true, y_pred = standardize(y_true), standardize(y_pred)
        return soft_target_divergence(y_true, y_pred, self.temperature)
