"""What the losses between logits share: the check of a pair, softened log-probabilities, and KL."""

from keras import ops


def pair(teacher_logits, student_logits, *, rank=None):
    """Both as tensors, once they have the same shape and at least two classes.

    Args:
        teacher_logits: Tensor of shape `(batch, ..., num_classes)`.
        student_logits: Tensor of the same shape.
        rank: The rank that both must have; None allows any.

    Raises:
        ValueError: As said, as far as the shapes are known before the data.
    """
    teacher_logits = ops.convert_to_tensor(teacher_logits)
    student_logits = ops.convert_to_tensor(student_logits)
    teacher, student = tuple(teacher_logits.shape), tuple(student_logits.shape)
    received = f"Received: shapes {teacher} and {student}"
    names = "`teacher_logits` and `student_logits`"
    if rank is not None and not len(teacher) == len(student) == rank:
        raise ValueError(f"{names} must be of rank {rank}. {received}")
    if not teacher or not student:
        raise ValueError(f"{names} must have an axis of classes. {received}")
    if teacher[-1] != student[-1]:
        raise ValueError(f"{names} must have the same number of classes. {received}")
    if teacher[-1] is not None and teacher[-1] < 2:
        raise ValueError(f"{names} must have at least two classes. {received}")
    both = zip(teacher, student, strict=False)
    if len(teacher) != len(student) or any(None not in (a, b) and a != b for a, b in both):
        raise ValueError(f"{names} must have the same shape. {received}")
    return teacher_logits, student_logits


def log_softmax(logits, temperature):
    """Logarithms of the softened probabilities, in float32 whatever the models' precision."""
    # float16 logits divided by T lose the small classes.
    logits = ops.cast(logits, "float32")
    # The largest goes first: it comes off without rounding, and quotients near 0 round less.
    largest = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    return _log_softmax((logits - largest) / temperature)


@ops.custom_gradient
def _log_softmax(logits):
    log_q = ops.log_softmax(logits, axis=-1)

    def gradient(*args, upstream=None):
        # The gradient is `g - q sum(g)`, and any multiple of q may come off g before. Taking off
        # what makes g 0 at the likeliest class keeps digits that cancel where q is nearly one-hot.
        g = args[0] if upstream is None else upstream
        q = ops.exp(log_q)
        likeliest = ops.argmax(log_q, axis=-1, keepdims=True)
        top_g, top_q = (ops.take_along_axis(x, likeliest, axis=-1) for x in (g, q))
        g = ops.where(q == top_q, g - top_g, g - q * (top_g / top_q))
        return g - q * ops.sum(g, axis=-1, keepdims=True)

    return log_q, gradient


def divergence(log_p, log_q):
    """Kullback-Leibler divergence KL(p || q) over the last axis, from log-probabilities."""
    p, q = ops.exp(log_p), ops.exp(log_q)
    r = log_p - log_q
    # `p r + q - p` has the sum of `p r`, for p and q both sum to 1; but no summand is negative, and
    # rounding errors of r no longer enter to first order. Plain `p r` is wrong by 1 % and more
    # where p and q are close, as at high temperatures.
    near = ops.clip(r, -1.0, 1.0)
    summands = ops.where(ops.abs(r) < 1.0, p * (near + ops.expm1(-near)), p * r + (q - p))
    return ops.sum(summands, axis=-1)
