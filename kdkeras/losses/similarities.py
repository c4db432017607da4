"""Losses between the similarities of the examples of a batch: to a teacher, and to a student."""

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base, vectors


def similarity_preserving(teacher, student):
    """Squared differences between the examples' similarities to each other.

    `sum_j (g_s(i, j) - g_t(i, j))^2 / batch`, with `g(i, .) = G(i, .) / |G(i, .)|` and `G = F F^T`

    Summed over the examples j and divided by their number, so that the mean over i is the published
    number, the squared Frobenius norm over `batch^2`.

    Args:
        teacher: Tensor of shape `(batch, ...)`; all axes but the first are taken as features.
        student: Tensor of shape `(batch, ...)`; the number of its features may be another.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0.

    Raises:
        ValueError: The batch sizes differ, or are known to be 1.

    Example:

    >>> kdkeras.losses.similarity_preserving([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]])
    [0.292893, 0.292893]

    Reference:
        Tung & Mori, [Similarity-Preserving Knowledge Distillation](
        https://arxiv.org/abs/1907.09682), ICCV 2019, equations 2 to 4.
    """
    teacher, student = vectors.compared(teacher, student)
    g_t, g_s = (vectors.unit(vectors.products(f)) for f in (teacher, student))
    return ops.cast(ops.mean(ops.square(g_s - g_t), axis=1), "float32")


def _probabilities(x):
    similarities = (vectors.products(vectors.unit(x)) + 1.0) / 2.0
    return similarities / ops.sum(similarities, axis=1, keepdims=True)


def probabilistic_knowledge_transfer(teacher, student):
    """Kullback-Leibler divergence between the examples' probabilities to be neighbours.

    `mean_j p_ij log((p_ij + 1e-7) / (q_ij + 1e-7))`, with p of the teacher and q of the student:
    `s_ij / sum_k s_ik`, `s_ij = (cos(x_i, x_j) + 1) / 2`

    Averaged over all examples j, i itself included, as in the authors' code: the paper sums, which
    is `batch` times as much. The mean over i is the released code's number.

    Args:
        teacher: Tensor of shape `(batch, ...)`; all axes but the first are taken as features.
        student: Tensor of shape `(batch, ...)`; the number of its features may be another.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0 but for the 1e-7.

    Raises:
        ValueError: The batch sizes differ, or are known to be 1.

    Example:

    >>> pkt = kdkeras.losses.probabilistic_knowledge_transfer
    >>> pkt([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]])
    [0.028317, 0.028317]

    Reference:
        Passalis & Tefas, [Learning Deep Representations with Probabilistic Knowledge Transfer](
        https://arxiv.org/abs/1803.10837), ECCV 2018, equations 3 to 7.
    """
    teacher, student = vectors.compared(teacher, student)
    p, q = _probabilities(teacher), _probabilities(student)
    return ops.cast(ops.mean(p * ops.log((p + 1e-7) / (q + 1e-7)), axis=1), "float32")


def _kernel(x, gamma, order):
    cosines = vectors.products(vectors.unit(x))
    term = ops.exp(-2.0 * gamma) * ops.ones_like(cosines)
    terms = term
    for p in range(1, order + 1):
        term = term * (2.0 * gamma / p) * cosines
        terms = terms + term
    return terms


def correlation_congruence(teacher, student, *, gamma=0.4, order=2):
    """Squared differences between the examples' correlations, by a Gaussian kernel's expansion.

    `sum_j (k_s(i, j) - k_t(i, j))^2 / batch`, with
    `k(i, j) = sum_{p=0..order} exp(-2 gamma) (2 gamma)^p / p! * cos(x_i, x_j)^p`

    Summed over the examples j and divided by their number, so that the mean over i is the paper's
    number, the squared norm over `batch^2`. RepDistiller's `Correlation` multiplies differences of
    neighbours in the batch instead, which changes with the batch's order: it is not followed.

    Args:
        teacher: Tensor of shape `(batch, ...)`; all axes but the first are taken as features.
        student: Tensor of shape `(batch, ...)`; the number of its features may be another.
        gamma: Positive number, the kernel's `exp(-gamma |x - y|^2)` on vectors of length 1.
        order: Integer of at least 1, the order of the Taylor expansion.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0.

    Raises:
        ValueError: A hyper-parameter is out of its range, the batch sizes differ, or are known to
            be 1.

    Example:

    >>> kdkeras.losses.correlation_congruence([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]])
    [0.12663, 0.12663]

    Reference:
        Peng et al., [Correlation Congruence for Knowledge Distillation](
        https://arxiv.org/abs/1904.01802), ICCV 2019, equations 7 and 10.
    """
    gamma = ops.cast(schedules.known(arguments.positive, "gamma", gamma), "float64")
    order = arguments.integer("order", order, low=1)
    teacher, student = vectors.compared(teacher, student)
    difference = _kernel(student, gamma, order) - _kernel(teacher, gamma, order)
    return ops.cast(ops.mean(ops.square(difference), axis=1), "float32")


@keras.saving.register_keras_serializable("kdkeras")
class SimilarityPreserving(base.DistillationLoss):
    """`similarity_preserving` between the examples of a batch, averaged over the batch.

    Args:
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.
    """

    same_grid = False
    same_channels = False
    compares_examples = True

    def __init__(
        self, *, reduction="sum_over_batch_size", name="similarity_preserving", dtype=None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return similarity_preserving(y_true, y_pred)


@keras.saving.register_keras_serializable("kdkeras")
class ProbabilisticKnowledgeTransfer(base.DistillationLoss):
    """`probabilistic_knowledge_transfer` between the examples of a batch, averaged over the batch.

    Args:
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.
    """

    same_grid = False
    same_channels = False
    compares_examples = True

    def __init__(
        self,
        *,
        reduction="sum_over_batch_size",
        name="probabilistic_knowledge_transfer",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return probabilistic_knowledge_transfer(y_true, y_pred)


@keras.saving.register_keras_serializable("kdkeras")
class CorrelationCongruence(base.DistillationLoss):
    """`correlation_congruence` between the examples of a batch, averaged over the batch.

    Args:
        gamma: Positive number, of the Gaussian kernel; or a Keras schedule of the step.
        order: Integer of at least 1, the order of the kernel's Taylor expansion.
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: `gamma` or `order` is out of its range.
    """

    settings = ("gamma", "order")
    same_grid = False
    same_channels = False
    compares_examples = True

    def __init__(
        self,
        *,
        gamma=0.4,
        order=2,
        reduction="sum_over_batch_size",
        name="correlation_congruence",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.gamma = schedules.checked(arguments.positive, "gamma", gamma)
        self.order = arguments.integer("order", order, low=1)

    def call(self, y_true, y_pred):
        return correlation_congruence(y_true, y_pred, gamma=self.gamma, order=self.order)
