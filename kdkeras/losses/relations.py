"""Relational knowledge distillation: distances and angles between the examples of a batch."""

import keras
from keras import ops

from kdkeras.losses import base, vectors

# Squared distances up to this, relative to those from the batch's centre, are rounding errors.
NEAREST = 1e-12


def _smooth_l1(x):
    size = ops.abs(x)
    return ops.where(size < 1.0, 0.5 * ops.square(x), size - 0.5)


def _squared_distances(x):
    """All pairs' squared distances, by inner products: no tensor (batch, batch, features)."""
    gram = vectors.products(x - ops.mean(x, axis=0, keepdims=True))
    squares = ops.diagonal(gram)
    largest = squares[:, None] + squares[None, :]
    squared = largest - 2.0 * gram
    nearest = ops.maximum(NEAREST * largest, vectors.SHORTEST**2)
    return ops.where(squared > nearest, squared, 0.0)


def _lengths(squared):
    # The slope of the root at 0 is infinite: a root of 1 stands in.
    apart = squared > 0.0
    return apart, ops.sqrt(ops.where(apart, squared, 1.0))


def _relative_distances(x):
    apart, lengths = _lengths(_squared_distances(x))
    distances = ops.where(apart, lengths, 0.0)
    mean = ops.sum(distances) / ops.maximum(ops.sum(ops.cast(apart, "float64")), 1.0)
    return distances / ops.where(mean > 0.0, mean, 1.0)


def relational_distance(teacher, student):
    """Smooth L1 between the distances of examples to each other, relative to the mean distance.

    `mean_j h(d_s(i, j) - d_t(i, j))`, with `d(i, j) = |x_i - x_j| / mean |x_k - x_l|` and
    `h(x) = x^2 / 2` where `|x| < 1`, else `|x| - 1/2`

    Each tensor's distances are divided by the mean of its distances above 0. Averaged over all
    examples j of the batch, i itself included, as in the authors' code and RepDistiller's; the
    paper sums over pairs. The mean over i is the published number. Equal examples are at distance
    0, with gradient 0.

    Args:
        teacher: Tensor of shape `(batch, ...)`; all axes but the first are taken as features.
        student: Tensor of shape `(batch, ...)`; the number of its features may be another.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0.

    Raises:
        ValueError: The batch sizes differ, or are known to be 1.

    Example:

    >>> kdkeras.losses.relational_distance([[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]])
    [0.052083, 0.104167, 0.135417]

    Reference:
        Park et al., [Relational Knowledge Distillation](https://arxiv.org/abs/1904.05068),
        CVPR 2019, section 3.2.1.
    """
    teacher, student = vectors.compared(teacher, student)
    difference = _relative_distances(student) - _relative_distances(teacher)
    return ops.cast(ops.mean(_smooth_l1(difference), axis=1), "float32")


def _cosines(x):
    squared = _squared_distances(x)
    apart, lengths = _lengths(squared)
    inverse = ops.where(apart, 1.0 / lengths, 0.0)
    # <x_j - x_i, x_k - x_i>, by the law of cosines.
    product = (squared[:, :, None] + squared[:, None, :] - squared[None, :, :]) / 2.0
    return product * inverse[:, :, None] * inverse[:, None, :]


def relational_angle(teacher, student):
    """Smooth L1 between the cosines of the angles that examples see each other under.

    `mean_jk h(c_s(i, j, k) - c_t(i, j, k))`, with `c(i, j, k) = <e(j, i), e(k, i)>`,
    `e(j, i) = (x_j - x_i) / |x_j - x_i|`, and `h(x) = x^2 / 2` where `|x| < 1`, else `|x| - 1/2`

    Averaged over all pairs j, k of the batch, also those that name an example twice, as in the
    authors' code and RepDistiller's; the paper sums over triplets. The mean over i is the published
    number. The direction between equal examples is 0. Memory grows with the batch's third power.

    Args:
        teacher: Tensor of shape `(batch, ...)`; all axes but the first are taken as features.
        student: Tensor of shape `(batch, ...)`; the number of its features may be another.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0.

    Raises:
        ValueError: The batch sizes differ, or are known to be 1.

    Example:

    >>> kdkeras.losses.relational_angle([[0.0], [1.0], [2.0]], [[1.0], [0.0], [2.0]])
    [0.333333, 0.333333, 0.0]

    Reference:
        Park et al., [Relational Knowledge Distillation](https://arxiv.org/abs/1904.05068),
        CVPR 2019, section 3.2.2.
    """
    teacher, student = vectors.compared(teacher, student)
    difference = _cosines(student) - _cosines(teacher)
    return ops.cast(ops.mean(_smooth_l1(difference), axis=(1, 2)), "float32")


@keras.saving.register_keras_serializable("kdkeras")
class RelationalDistance(base.DistillationLoss):
    """`relational_distance` between the examples of a batch, averaged over the batch.

    Args:
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.
    """

    same_grid = False
    same_channels = False
    compares_examples = True

    def __init__(self, *, reduction="sum_over_batch_size", name="relational_distance", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return relational_distance(y_true, y_pred)


@keras.saving.register_keras_serializable("kdkeras")
class RelationalAngle(base.DistillationLoss):
    """`relational_angle` between the examples of a batch, averaged over the batch.

    Args:
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.
    """

    same_grid = False
    same_channels = False
    compares_examples = True

    def __init__(self, *, reduction="sum_over_batch_size", name="relational_angle", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return relational_angle(y_true, y_pred)
