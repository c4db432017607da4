"""Losses between feature maps of a teacher and of a student: `(batch, height, width, channels)`.

Maps of other sizes are brought to one grid, or to as many channels, outside of these functions.
FitNets' hints (Romero et al., https://arxiv.org/abs/1412.6550) are `keras.losses.MeanSquaredError`
between such maps, and need nothing here.
"""

import keras
from keras import ops

from kdkeras import arguments, schedules
from kdkeras.losses import base, vectors


def _maps(teacher, student, axes, what):
    teacher, student = ops.convert_to_tensor(teacher), ops.convert_to_tensor(student)
    if not len(teacher.shape) == len(student.shape) == 4:
        raise ValueError(
            "`teacher` and `student` must be feature maps (batch, height, width, channels). "
            f"Received: shapes {tuple(teacher.shape)} and {tuple(student.shape)}"
        )
    vectors.agree(teacher, student, [0], "batch size")
    vectors.agree(teacher, student, axes, what)
    return ops.cast(teacher, "float32"), ops.cast(student, "float32")


def _attention(f, power):
    largest = ops.max(ops.abs(f), axis=(1, 2, 3), keepdims=True)
    # Powers of features divided by the largest neither overflow nor vanish; it cancels in q.
    largest = ops.stop_gradient(ops.where(largest > 0.0, largest, 1.0))
    size = ops.abs(f) / largest
    seen = size > 1e-30  # below, and at 0, the slope of a power under 1 is infinite
    powers = ops.where(seen, ops.power(ops.where(seen, size, 1.0), power), 0.0)
    q = ops.mean(powers, axis=-1)
    squared = ops.sum(ops.square(q), axis=(1, 2), keepdims=True)
    norm = ops.sqrt(ops.where(squared > 0.0, squared, 1.0))
    return q / ops.maximum(norm, vectors.SHORTEST / ops.power(largest[..., 0], power))


def attention_transfer(teacher, student, *, power=2):
    """Squared differences of the teacher's and the student's attention over positions.

    `mean_x (q_s(x) - q_t(x))^2`, with `q = a / |a|` and `a(x) = mean_c |f(x, c)|^power`

    An attention map has length 1 over all positions of an example. The squared differences are
    averaged over positions, not summed, as in the authors' code and RepDistiller's; the paper
    writes the length of the difference.

    Args:
        teacher: Tensor of shape `(batch, height, width, channels)`.
        student: Tensor with the same height and width; its channels may be others.
        power: Positive number, the exponent of the features.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0, and 0 where both maps attend alike.

    Raises:
        ValueError: `power` is not a positive finite number, or the shapes do not fit.

    Example:

    >>> kdkeras.losses.attention_transfer([[[[3.0], [0.0]]]], [[[[0.0], [1.0]]]])
    [1.0]

    Reference:
        Zagoruyko & Komodakis, [Paying More Attention to Attention](
        https://arxiv.org/abs/1612.03928), ICLR 2017, equation 2.
    """
    power = schedules.known(arguments.positive, "power", power)
    teacher, student = _maps(teacher, student, [1, 2], "height and width")
    difference = _attention(student, power) - _attention(teacher, power)
    return ops.mean(ops.square(difference), axis=(1, 2))


def _neurons(f):
    positions = ops.shape(f)[1] * ops.shape(f)[2]
    by_channel = ops.reshape(f, (ops.shape(f)[0], positions, f.shape[-1]))
    return vectors.unit(ops.cast(by_channel, "float64"), axis=1)


def _kernel_mean(a, b):
    cosines = ops.matmul(ops.transpose(a, (0, 2, 1)), b)
    return ops.mean(ops.square(cosines), axis=(1, 2))


def neuron_selectivity(teacher, student):
    """Squared maximum mean discrepancy between where the teacher's and the student's neurons fire.

    `mean_ij k(t_i, t_j) + mean_ij k(s_i, s_j) - 2 mean_ij k(t_i, s_j)`, with `k(a, b) = (a . b)^2`

    A neuron is a channel: its features over all positions, divided by their length. The kernel,
    the paper's polynomial one of order 2, is averaged over the pairs of channels of each example.
    The teacher's own part gives the student no gradient; it makes the loss 0 at agreement.

    Args:
        teacher: Tensor of shape `(batch, height, width, channels)`.
        student: Tensor with the same height and width; its channels may be others.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0 but for rounding.

    Raises:
        ValueError: The shapes do not fit.

    Example:

    >>> kdkeras.losses.neuron_selectivity([[[[3.0], [0.0]]]], [[[[0.0], [1.0]]]])
    [2.0]

    Reference:
        Huang & Wang, [Like What You Like: Knowledge Distill via Neuron Selectivity Transfer](
        https://arxiv.org/abs/1707.01219), 2017, section 4.
    """
    teacher, student = _maps(teacher, student, [1, 2], "height and width")
    t, s = _neurons(teacher), _neurons(student)
    return ops.cast(_kernel_mean(t, t) + _kernel_mean(s, s) - 2 * _kernel_mean(t, s), "float32")


def _pooled(x, axis, bins):
    """Means over `bins` slices of an axis; where they do not divide it, slices overlap by one."""
    size = x.shape[axis]
    borders = [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]
    slices = [x[:, a:b] if axis == 1 else x[:, :, a:b] for a, b in borders]
    return ops.stack([ops.mean(part, axis=axis) for part in slices], axis=axis)


def hierarchical_context(teacher, student):
    """Squared differences of two feature maps, and of the maps pooled to 4 x 4, 2 x 2 and 1 x 1.

    `sum_l w_l mean((pool_l(s) - pool_l(t))^2) / sum_l w_l`, with weights 1, 1/2, 1/4, 1/8

    Weight 1 is that of the full maps; pooled grids that are not smaller than the maps are left out,
    and the weights go to those that remain. Averaged over positions and channels. ReviewKD's loss
    without its fusion of levels: the authors' code, which compares grids to the height alone; here
    the shorter side counts.

    Args:
        teacher: Tensor of shape `(batch, height, width, channels)`, with static height and width.
        student: Tensor of the same shape.

    Returns:
        float32 tensor of shape `(batch,)`, at least 0.

    Raises:
        ValueError: The shapes differ, or height or width are not static.

    Example:

    >>> kdkeras.losses.hierarchical_context([[[[1.0]], [[1.0]]]], [[[[0.0]], [[2.0]]]])
    [1.0]

    Reference:
        Chen et al., [Distilling Knowledge via Knowledge Review](
        https://arxiv.org/abs/2104.09044), CVPR 2021, section 3.3.
    """
    axes = [1, 2, 3]
    teacher, student = _maps(teacher, student, axes, "height, width and channels")
    if None in student.shape[1:3]:
        raise ValueError(
            "`student` must have a static height and width, to be pooled. "
            f"Received: shape {tuple(student.shape)}"
        )
    difference = student - teacher  # pooling is linear, so the difference is pooled
    total = ops.mean(ops.square(difference), axis=axes)
    weight, weights = 1.0, 1.0
    for bins in (4, 2, 1):
        if bins < min(difference.shape[1:3]):
            weight /= 2
            pooled = _pooled(_pooled(difference, 1, bins), 2, bins)
            total += weight * ops.mean(ops.square(pooled), axis=axes)
            weights += weight
    return total / weights


@keras.saving.register_keras_serializable("kdkeras")
class AttentionTransfer(base.DistillationLoss):
    """`attention_transfer` between two feature maps, averaged over the batch.

    Args:
        power: Positive number, the exponent of the features; or a Keras schedule of the step.
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: `power` is not a positive finite number.
    """

    maps_only = True
    settings = ("power",)
    same_channels = False

    def __init__(
        self, *, power=2, reduction="sum_over_batch_size", name="attention_transfer", dtype=None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.power = schedules.checked(arguments.positive, "power", power)

    def call(self, y_true, y_pred):
        return attention_transfer(y_true, y_pred, power=self.power)


@keras.saving.register_keras_serializable("kdkeras")
class NeuronSelectivity(base.DistillationLoss):
    """`neuron_selectivity` between two feature maps, averaged over the batch.

    Args:
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.
    """

    maps_only = True
    same_channels = False

    def __init__(self, *, reduction="sum_over_batch_size", name="neuron_selectivity", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return neuron_selectivity(y_true, y_pred)


@keras.saving.register_keras_serializable("kdkeras")
class HierarchicalContext(base.DistillationLoss):
    """`hierarchical_context` between two feature maps, averaged over the batch.

    Args:
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        name: The name in logs.
        dtype: As in `keras.losses.Loss`.
    """

    maps_only = True

    def __init__(self, *, reduction="sum_over_batch_size", name="hierarchical_context", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return hierarchical_context(y_true, y_pred)
