"""Adapters: layers that make a student's inner tensor comparable with the teacher's."""

import keras
import numpy as np
from keras import ops

from kdkeras.losses import base


def adapter(teacher_shape, student_shape, loss, dtype=None):
    """The layer that gives a student's tensor the teacher's channels, where a loss needs that.

    A 1x1 convolution for feature maps, a dense layer for anything else. Height and width are
    matched without weights, by `common_grid`, before it.

    Args:
        teacher_shape, student_shape: Shapes with the batch first.
        loss: `keras.losses.Loss`. Of the losses of `kdkeras.losses`, some compare tensors of any
            shapes, and some feature maps of any channels; others need equal shapes.
        dtype: The layer's dtype policy.

    Returns:
        A `keras.layers.Layer`, or None if nothing has to be matched.

    Raises:
        ValueError: No adapter can join the shapes.

    Example:

    >>> adapter((None, 8, 8, 64), (None, 4, 4, 16), keras.losses.MeanSquaredError()).filters
    64
    """
    same_grid, same_channels = needs(loss)
    if not (same_grid or same_channels):
        return None
    if len(teacher_shape) != len(student_shape):
        raise ValueError(
            f"no adapter joins {len(teacher_shape) - 1} and {len(student_shape) - 1} axes. "
            f"Received: a teacher's tensor of shape {teacher_shape} and a student's of "
            f"{student_shape}. Take layers of the same kind, or give an `adapter` layer."
        )
    grids = teacher_shape[1:-1], student_shape[1:-1]
    is_map = len(teacher_shape) == 4
    unknown = None in (*grids[0], *grids[1])
    if same_grid and (grids[0] != grids[1] or unknown) and (not is_map or unknown):
        raise ValueError(
            "no adapter joins these shapes: only heights and widths of feature maps that are known "
            f"can be matched. Received: a teacher's tensor of shape {teacher_shape} and a "
            f"student's of {student_shape}. Build the models with a fixed input size."
        )
    channels = teacher_shape[-1]
    if not same_channels or channels == student_shape[-1]:
        return None
    if is_map:
        return keras.layers.Conv2D(channels, 1, dtype=dtype, name="adapter")
    return keras.layers.Dense(channels, dtype=dtype, name="adapter")


def needs(loss):
    """What a loss needs: whether the same height and width, and whether the same channels."""
    if isinstance(loss, base.DistillationLoss):
        return loss.same_grid, loss.same_channels
    return True, True


def common_grid(teacher, student):
    """Feature maps resized to the smaller height and width of the two; anything else as it is.

    Args:
        teacher, student: Tensors of shape `(batch, height, width, channels)`; the channels may
            differ.

    Returns:
        Both, float32 if resized.

    Example:

    >>> teacher, student = common_grid(ops.ones((2, 8, 8, 64)), ops.ones((2, 4, 4, 16)))
    >>> teacher.shape
    (2, 4, 4, 64)
    """
    if not len(teacher.shape) == len(student.shape) == 4:
        return teacher, student
    grids = tuple(teacher.shape[1:3]), tuple(student.shape[1:3])
    smaller = tuple(map(min, *grids))
    return resized(teacher, smaller), resized(student, smaller)


def resized(x, size):
    """Images or feature maps at another height and width: bilinear, antialiased.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`, height and width known.
        size: (height, width).

    Returns:
        `x` itself if it has that size; else a float32 tensor.
    """
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    # As products of matrices, which XLA compiles; TensorFlow's antialiased resize it does not.
    rows, columns = (_weights(*pair) for pair in zip(x.shape[1:3], size, strict=True))
    return ops.einsum("ij,bjkc,lk->bilc", rows, ops.cast(x, "float32"), columns)


@keras.saving.register_keras_serializable("kdkeras")
class Resize(keras.layers.Layer):
    """`resized` as a layer.

    Args:
        size: (height, width).
        **kwargs: As in `keras.layers.Layer`.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size)

    def call(self, x):
        return resized(x, self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("kdkeras")
class ReviewFusion(keras.layers.Layer):
    """ReviewKD's fusion: each stage of the student reviews what the deeper ones found.

    From the deepest map up, with `m = bn(conv1x1(map))` and `r` the deeper stage's fused map,
    resized: `a, b = sigmoid(conv1x1([m, r]))`, `fused = a * m + b * r`, which goes on up; what is
    compared with the teacher is `bn(conv3x3(fused))`, at the teacher's size and channels. The
    deepest stage has nothing to review: `fused = m`.

    Args:
        channels: The teacher's channels, a number a stage, from the finest map to the coarsest.
        sizes: The teacher's (height, width), a pair a stage.
        width: Channels of the fused maps; the authors take the student's deepest, at most 512.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        maps: List of the student's maps, `(batch, height, width, channels)`, finest first.

    Returns:
        List of maps of the teacher's shapes.

    Reference:
        Chen et al., [Distilling Knowledge via Knowledge Review](
        https://arxiv.org/abs/2104.09044), CVPR 2021; the authors resize to the nearest neighbour,
        this layer bilinearly.
    """

    def __init__(self, channels, sizes, width, **kwargs):
        super().__init__(**kwargs)
        self.channels = [int(count) for count in channels]
        self.sizes = [tuple(size) for size in sizes]
        self.width = int(width)
        dtype = self.dtype_policy

        def conv(filters, kernel, **options):
            return keras.layers.Conv2D(filters, kernel, padding="same", dtype=dtype, **options)

        def norm():
            return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)

        stages = range(len(self.channels))
        self.enter = [conv(self.width, 1, use_bias=False) for _ in stages]
        self.enter_norm = [norm() for _ in stages]
        self.attend = [conv(2, 1, activation="sigmoid") for _ in stages[1:]]
        self.leave = [conv(count, 3, use_bias=False) for count in self.channels]
        self.leave_norm = [norm() for _ in stages]

    def build(self, shapes):
        for stage, shape in enumerate(shapes):
            self.enter[stage].build(shape)
            self.enter_norm[stage].build((*shape[:-1], self.width))
            if stage < len(self.attend):
                self.attend[stage].build((*shape[:-1], 2 * self.width))
            size = self.sizes[stage]
            self.leave[stage].build((shape[0], *size, self.width))
            self.leave_norm[stage].build((shape[0], *size, self.channels[stage]))

    def call(self, maps, training=False):
        fused, given = None, []
        for stage in reversed(range(len(maps))):
            x = self.enter_norm[stage](self.enter[stage](maps[stage]), training=training)
            if fused is not None:
                review = ops.cast(resized(fused, x.shape[1:3]), x.dtype)
                share = self.attend[stage](ops.concatenate([x, review], axis=-1))
                x = share[..., :1] * x + share[..., 1:] * review
            fused = ops.cast(resized(x, self.sizes[stage]), x.dtype)
            out = self.leave_norm[stage](self.leave[stage](fused), training=training)
            given.insert(0, out)
        return given

    def get_config(self):
        own = {"channels": self.channels, "sizes": self.sizes, "width": self.width}
        return {**super().get_config(), **own}


def _weights(size, new):
    """The matrix (new, size) that interpolates linearly, each row a weighted mean."""
    centers = (np.arange(new) + 0.5) * size / new - 0.5
    distances = np.abs(centers[:, None] - np.arange(size)) / max(1.0, size / new)
    weights = np.maximum(0.0, 1.0 - distances)
    return (weights / weights.sum(1, keepdims=True)).astype("float32")
