"""Correlations between the predictions of a teacher and those of a student."""

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base, soft

EPSILON = 1e-8


def _norm(x, axis):
    # The square root has no finite slope at 0; a constant vector gets norm 0 and gradient 0.
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    varies = squares > 0
    return ops.where(varies, ops.sqrt(ops.where(varies, squares, 1.0)), 0.0)


def _pearson_distance(p, q, axis):
    """1 - the Pearson correlation along `axis`."""
    p, q = (x - ops.mean(x, axis=axis, keepdims=True) for x in (p, q))
    p_norm, q_norm = _norm(p, axis), _norm(q, axis)
    p, q = (x / ops.where(n > 0, n, 1.0) for x, n in ((p, p_norm), (q, q_norm)))
    # `1 - p q / (|p| |q| + e)`, with the half square of the unit vectors' difference for the
    # `1 - p q` that cancels where they agree.
    half = ops.sum(ops.square(p - q), axis=axis, keepdims=True) / 2
    size = p_norm * q_norm
    return ops.squeeze((size * half + EPSILON) / (size + EPSILON), axis=axis)


def inter_class_correlation(teacher_logits, student_logits, *, temperature=1.0):
    """1 - the correlation over the classes of an example's soft targets, times T^2.

    `T^2 * (1 - a b / (|a| |b| + 1e-8))`, with `a = p - mean(p)` and `b = q - mean(q)` over the
    classes, `p = softmax(teacher_logits / T)` and `q = softmax(student_logits / T)`

    The student keeps the teacher's preferences up to scale, rather than the probabilities
    themselves. Not averaged over anything. Computed in float32. `T^2` and 1e-8 are from the
    authors' code; the paper's equation is the correlation alone.

    Where the student's probabilities are all exactly equal the gradient is 0. Just beside it is
    as large as `1 / |b|`, for a correlation does not change with scale.

    Args:
        teacher_logits: Tensor of shape `(batch, ..., num_classes)`.
        student_logits: Tensor of the same shape.
        temperature: Positive number `T`.

    Returns:
        float32 tensor of shape `(batch, ...)`, in `[0, 2 T^2]`: about 0 where the distributions
        are equal (`1e-8 T^2 / (|a|^2 + 1e-8)`), `T^2` where either is uniform.

    Raises:
        ValueError: `temperature` is not a positive finite number, the shapes differ, or there are
            fewer than two classes.

    Example:

    >>> kdkeras.losses.inter_class_correlation([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    [1.8671]

    Reference:
        Huang et al., [Knowledge Distillation from A Stronger Teacher](
        https://arxiv.org/abs/2205.10536), NeurIPS 2022.
    """
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    teacher_logits, student_logits = soft.pair(teacher_logits, student_logits)
    p = ops.exp(soft.log_softmax(teacher_logits, temperature))
    q = ops.exp(soft.log_softmax(student_logits, temperature))
    return temperature**2 * _pearson_distance(p, q, axis=-1)


def intra_class_correlation(teacher_logits, student_logits, *, temperature=1.0):
    """1 - the correlation over the batch of a class's soft targets, mean over classes, times T^2.

    `T^2 * mean_k (1 - a_k b_k / (|a_k| |b_k| + 1e-8))`, with `a_k = p_k - mean(p_k)` and
    `b_k = q_k - mean(q_k)` over the batch, `p = softmax(teacher_logits / T)` and
    `q = softmax(student_logits / T)`

    The student ranks the examples of a batch by each class as the teacher does. A statistic of the
    batch: one number, which changes with the batch's size. Computed in float32. `T^2` and 1e-8 are
    from the authors' code; the paper's equation is the correlation alone.

    A class whose probability is the same in all examples counts as uncorrelated, with gradient 0;
    so does every class of a batch of one whose size is not known before the data.

    Args:
        teacher_logits: Tensor of shape `(batch, num_classes)`, with at least two examples.
        student_logits: Tensor of the same shape.
        temperature: Positive number `T`.

    Returns:
        float32 scalar in `[0, 2 T^2]`: about 0 where the distributions are equal, `T^2` where
        either does not vary over the batch.

    Raises:
        ValueError: `temperature` is not a positive finite number, the shapes differ or are not of
            rank 2, or there are fewer than two classes or two examples.

    Example:

    >>> kdkeras.losses.intra_class_correlation([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
    2.0

    Reference:
        Huang et al., [Knowledge Distillation from A Stronger Teacher](
        https://arxiv.org/abs/2205.10536), NeurIPS 2022.
    """
    temperature = schedules.known(arguments.temperature, "temperature", temperature)
    teacher_logits, student_logits = soft.pair(teacher_logits, student_logits, rank=2)
    if 1 in (teacher_logits.shape[0], student_logits.shape[0]):
        raise ValueError(
            "`intra_class_correlation` compares the examples of a batch and must have at least "
            f"two. Received: a batch of one, of shape {tuple(student_logits.shape)}"
        )
    p = ops.exp(soft.log_softmax(teacher_logits, temperature))
    q = ops.exp(soft.log_softmax(student_logits, temperature))
    return temperature**2 * ops.mean(_pearson_distance(p, q, axis=0))


@keras.saving.register_keras_serializable("kdkeras")
class InterClassCorrelation(base.DistillationLoss):
    """`inter_class_correlation`, averaged over the batch.

    Args:
        temperature: Positive number `T`, 1 unless told; or a Keras schedule of the step.
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

    >>> loss = kdkeras.losses.InterClassCorrelation()
    >>> loss([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    1.8671

    Reference:
        Huang et al., [Knowledge Distillation from A Stronger Teacher](
        https://arxiv.org/abs/2205.10536), NeurIPS 2022.
    """

    settings = ("temperature",)

    def __init__(
        self,
        *,
        temperature=1.0,
        reduction="sum_over_batch_size",
        name="inter_class_correlation",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = schedules.checked(arguments.temperature, "temperature", temperature)

    def call(self, y_true, y_pred):
        return inter_class_correlation(y_true, y_pred, temperature=self.temperature)


@keras.saving.register_keras_serializable("kdkeras")
class IntraClassCorrelation(base.DistillationLoss):
    """`intra_class_correlation`: one number for a batch of at least two examples.

    Args:
        temperature: Positive number `T`, 1 unless told; or a Keras schedule of the step.
        reduction: As in `keras.losses.Loss`. Each example has the batch's value.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: The teacher's logits, `(batch, num_classes)`.
        y_pred: The student's logits, of the same shape.
        sample_weight: Optional weights, `(batch,)`. They do not enter the correlations.

    Raises:
        ValueError: `temperature` is not a positive finite number.

    Example:

    >>> loss = kdkeras.losses.IntraClassCorrelation()
    >>> loss([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
    2.0

    Reference:
        Huang et al., [Knowledge Distillation from A Stronger Teacher](
        https://arxiv.org/abs/2205.10536), NeurIPS 2022.
    """

    settings = ("temperature",)
    compares_examples = True

    def __init__(
        self,
        *,
        temperature=1.0,
        reduction="sum_over_batch_size",
        name="intra_class_correlation",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = schedules.checked(arguments.temperature, "temperature", temperature)

    def call(self, y_true, y_pred):
        value = intra_class_correlation(y_true, y_pred, temperature=self.temperature)
        # One value an example: of a scalar Keras leaves out the division by replicas.
        return ops.broadcast_to(value, ops.shape(y_pred)[:1])
