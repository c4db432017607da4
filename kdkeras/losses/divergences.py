"""Divergences between a teacher's classes and a student's, other than the soft targets'."""

import math

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base, soft


def jensen_shannon_divergence(teacher_logits, student_logits, temperature):
    """Jensen-Shannon divergence between the soft targets of teacher and student, times T^2.

    `T^2 * (KL(p || m) + KL(q || m)) / 2`, with `m = (p + q) / 2`,
    `p = softmax(teacher_logits / T)` and `q = softmax(student_logits / T)`

    Symmetric and bounded, so that no single example outweighs a batch. Summed over classes, not
    averaged over anything. Computed in float32 and in log space.

    Args:
        teacher_logits: Tensor of shape `(batch, ..., num_classes)`.
        student_logits: Tensor of the same shape.
        temperature: Positive number `T`.

    Returns:
        float32 tensor of shape `(batch, ...)`, in nats times `T^2`: from 0, where both
        distributions are equal, to `T^2 log 2`, where they share no class.

    Raises:
        ValueError: `temperature` is not a positive finite number, the shapes differ, or there are
            fewer than two classes.

    Example:

    >>> kdkeras.losses.jensen_shannon_divergence(
    ...     [[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]], temperature=1.0
    ... )
    [0.24759]

    Reference:
        Lin, [Divergence Measures Based on the Shannon Entropy](
        https://doi.org/10.1109/18.61115), 1991.
    """
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    teacher_logits, student_logits = soft.pair(teacher_logits, student_logits)
    log_p = soft.log_softmax(teacher_logits, temperature)
    log_q = soft.log_softmax(student_logits, temperature)
    # The divergence is the sum of `m (h tanh h - log cosh h)`, with h = |log p - log q| / 2: one
    # summand a class, none negative, where the plain sum cancels to first order in h.
    m = (ops.exp(log_p) + ops.exp(log_q)) / 2
    h = ops.abs(log_p - log_q) / 2
    near = ops.minimum(h, 1.0)
    small = near * ops.tanh(near) - ops.log1p(2 * ops.square(ops.sinh(near / 2)))
    e = ops.exp(-2 * h)
    large = math.log(2) - ops.log1p(e) - 2 * h * e / (1 + e)
    return temperature**2 * ops.sum(m * ops.where(h < 1.0, small, large), axis=-1)


def reverse_divergence(teacher_logits, student_logits, temperature):
    """Kullback-Leibler divergence from the student's soft targets to the teacher's, times T^2.

    `T^2 * sum_k q_k (log q_k - log p_k)`, with `p = softmax(teacher_logits / T)` and
    `q = softmax(student_logits / T)`

    `soft_target_divergence` with the two changed about: the student is punished for classes that
    the teacher rules out, and not for leaving out some of those that the teacher allows. Summed
    over classes, not averaged over anything. Computed in float32 and in log space.

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

    >>> kdkeras.losses.reverse_divergence([[1.0, 0.0]], [[0.0, 0.0]], temperature=1.0)
    [0.12011]

    Reference:
        Gu et al., [MiniLLM: Knowledge Distillation of Large Language Models](
        https://arxiv.org/abs/2306.08543), ICLR 2024, section 2.1.
    """
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    teacher_logits, student_logits = soft.pair(teacher_logits, student_logits)
    log_p = soft.log_softmax(teacher_logits, temperature)
    log_q = soft.log_softmax(student_logits, temperature)
    return temperature**2 * soft.divergence(log_q, log_p)


def pseudo_label_crossentropy(teacher_logits, student_logits):
    """Cross-entropy of the student with the class that the teacher holds likeliest.

    `-log softmax(student_logits)_c`, with `c = argmax(teacher_logits)`

    The limit of `soft_target_divergence / T^2` where the teacher's temperature goes to 0 and the
    student's is 1. Not averaged over anything. Computed in float32 and in log space.

    Args:
        teacher_logits: Tensor of shape `(batch, ..., num_classes)`. Of equal largest logits, the
            first counts.
        student_logits: Tensor of the same shape.

    Returns:
        float32 tensor of shape `(batch, ...)`, in nats, at least 0.

    Raises:
        ValueError: The shapes differ, or there are fewer than two classes.

    Example:

    >>> kdkeras.losses.pseudo_label_crossentropy([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    [2.4076]

    Reference:
        Lee, Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
        Networks, ICML workshop, 2013; here with the teacher's classes.
    """
    teacher_logits, student_logits = soft.pair(teacher_logits, student_logits)
    classes = ops.argmax(teacher_logits, axis=-1, keepdims=True)
    log_q = soft.log_softmax(student_logits, 1.0)
    return -ops.squeeze(ops.take_along_axis(log_q, classes, axis=-1), axis=-1)


@keras.saving.register_keras_serializable("kdkeras")
class JensenShannon(base.DistillationLoss):
    """`jensen_shannon_divergence`, averaged over the batch.

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

    >>> loss = kdkeras.losses.JensenShannon(temperature=1.0)
    >>> loss([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    0.24759
    """

    settings = ("temperature",)

    def __init__(
        self,
        *,
        temperature=4.0,
        reduction="sum_over_batch_size",
        name="jensen_shannon",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = schedules.checked(arguments.temperature, "temperature", temperature)

    def call(self, y_true, y_pred):
        return jensen_shannon_divergence(y_true, y_pred, self.temperature)


@keras.saving.register_keras_serializable("kdkeras")
class ReverseSoftTargets(base.DistillationLoss):
    """`reverse_divergence`, averaged over the batch.

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

    >>> loss = kdkeras.losses.ReverseSoftTargets(temperature=1.0)
    >>> loss([[1.0, 0.0]], [[0.0, 0.0]])
    0.12011
    """

    settings = ("temperature",)

    def __init__(
        self,
        *,
        temperature=4.0,
        reduction="sum_over_batch_size",
        name="reverse_soft_targets",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = schedules.checked(arguments.temperature, "temperature", temperature)

    def call(self, y_true, y_pred):
        return reverse_divergence(y_true, y_pred, self.temperature)


@keras.saving.register_keras_serializable("kdkeras")
class PseudoLabels(base.DistillationLoss):
    """`pseudo_label_crossentropy`, averaged over the batch.

    Args:
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: The teacher's logits, `(batch, ..., num_classes)`.
        y_pred: The student's logits, of the same shape.
        sample_weight: Optional weights, `(batch,)`.

    Example:

    >>> loss = kdkeras.losses.PseudoLabels()
    >>> loss([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    2.4076
    """

    def __init__(self, *, reduction="sum_over_batch_size", name="pseudo_labels", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return pseudo_label_crossentropy(y_true, y_pred)
