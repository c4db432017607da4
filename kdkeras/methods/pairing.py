"""What the methods that look into models share: pairs of layers, and the term of these."""

from kdkeras import arguments, compatibility, schedules, taps, teachers
from kdkeras import terms as distillation_terms


def method(student, teacher, alpha, loss, weight, pairs, warmup_steps, adapter="auto"):
    """The arguments of a `Distiller` with one term of layers.

    Args:
        student, teacher, alpha: As in `kdkeras.Distiller`.
        loss: `keras.losses.Loss`.
        weight: Of the term, a number of at least 0.
        pairs: List of (teacher's path, student's path).
        warmup_steps: Over how many steps the weight rises from 0.
        adapter: As in `kdkeras.Term`.

    Raises:
        ValueError: `weight` or `warmup_steps` is out of its range.
    """
    arguments.nonnegative("weight", weight)
    term = distillation_terms.Term(
        loss,
        schedules.warmed_up(weight, warmup_steps),
        teacher_layer=[path for path, _ in pairs],
        student_layer=[path for _, path in pairs],
        adapter=adapter,
    )
    return {"student": student, "teacher": teacher, "alpha": alpha, "terms": [term]}


def paired(teacher, student, pairs, propose=taps.match_layers):
    """The teacher, one model if it was a list or a dict, and the pairs of layers.

    Args:
        teacher, student: As in `kdkeras.Distiller`.
        pairs: List of (teacher's path, student's path), or None.
        propose: Function of teacher and student that gives the pairs, unless they are given.

    Raises:
        ValueError: `pairs` is no such list, or none can be proposed.
    """
    teacher = teachers.as_teacher(teacher, compatibility.heads(student))
    if pairs is None:
        return teacher, propose(teacher, student)
    pairs = list(pairs) if isinstance(pairs, (list, tuple)) else [pairs]
    if not pairs or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
        for pair in pairs
    ):
        raise ValueError(
            "`pairs` must be a list of (teacher's path, student's path), at least one. "
            f"Received: pairs={pairs!r}"
        )
    return teacher, pairs


def embeddings(teacher, student):
    """The layers in front of the logits, as pairs."""
    return [(taps.penultimate(teacher), taps.penultimate(student))]
