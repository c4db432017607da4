"""Examples as vectors in float64: shapes checked, flattened, brought to unit length.

Inner products are taken in float64, for their differences matter: in float32 two near examples lose
their distance, and newer GPUs multiply float32 matrices with 10-bit mantissas (TF32).
"""

import math

from keras import ops

# As torch.nn.functional.normalize: what is shorter is not stretched to length 1.
SHORTEST = 1e-12


def agree(teacher, student, axes, what):
    """Raises a ValueError if two tensors differ in the static sizes of their `axes`."""
    for axis in axes:
        sizes = {teacher.shape[axis], student.shape[axis]} - {None}
        if len(sizes) > 1:
            raise ValueError(
                f"`teacher` and `student` must have the same {what}. Received: shapes "
                f"{tuple(teacher.shape)} and {tuple(student.shape)}"
            )


def flat(x):
    """A tensor `(batch, ...)` as float64 `(batch, features)`."""
    sizes = x.shape[1:]
    features = -1 if None in sizes else math.prod(sizes)
    # With both sizes known, a batch of 0 passes too.
    return ops.cast(ops.reshape(x, (ops.shape(x)[0], features)), "float64")


def unit(x, axis=-1):
    """`x / max(|x|, 1e-12)` along an axis; its gradient is finite at 0 too."""
    squared = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x / ops.sqrt(ops.maximum(squared, SHORTEST**2))


def products(x):
    """Inner products of all pairs of rows: `(batch, batch)`."""
    return ops.matmul(x, ops.transpose(x))


def compared(teacher, student):
    """The tensors of a loss that compares the examples of a batch, as rows of features.

    Args:
        teacher: Tensor of shape `(batch, ...)`.
        student: Tensor of shape `(batch, ...)`, with as many examples.

    Returns:
        Two float64 tensors, `(batch, teacher_features)` and `(batch, student_features)`.

    Raises:
        ValueError: The batch sizes differ, or are known to be 1.
    """
    teacher, student = ops.convert_to_tensor(teacher), ops.convert_to_tensor(student)
    agree(teacher, student, [0], "batch size")
    if 1 in (teacher.shape[0], student.shape[0]):
        raise ValueError(
            "`teacher` and `student` must hold at least two examples: this loss compares the "
            "examples of a batch. Received: shapes "
            f"{tuple(teacher.shape)} and {tuple(student.shape)}"
        )
    return flat(teacher), flat(student)
