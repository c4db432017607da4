"""How the terms of a distillation are joined to its models: tapped models, and adapters."""

import collections

import keras

from kdkeras import adapters, compatibility, losses, taps

Wiring = collections.namedtuple("Wiring", ["student", "teacher", "adapters"])
Wiring.__doc__ = (
    "The student and the teacher with their inner tensors beside their outputs, None where no term "
    "needs any; and each term's adapters."
)


Views = collections.namedtuple("Views", ["perturbed", "clean"])
Views.__doc__ = "Inputs, or what the student gives for them: `x'`, and `x` as it was."


def wire(terms, student, teacher, *, dtype=None):
    """Finds the layers of all terms and makes their adapters.

    Args:
        terms: List of `kdkeras.Term`.
        student: A `keras.Model`.
        teacher: A `keras.Model`; or None or anything else that has no layers.
        dtype: The dtype policy of adapters.

    Returns:
        A `Wiring`. The tapped models share the layers of `student` and `teacher`.

    Raises:
        ValueError: A layer is not there, or no adapter can join two; the message names the term.
    """
    known = compatibility.heads(student)
    for term in terms:
        if term.output is not None and term.output not in known:
            raise ValueError(
                f"Term '{term.loss.name}': `output` must be one of the student's outputs, "
                f"{list(known)}. Received: output={term.output!r}"
            )
    of_student = _tapped("student", student, terms)
    has_layers = isinstance(teacher, keras.Model)
    of_teacher = _tapped("teacher", teacher, terms) if has_layers else None
    made = [_adapters(term, of_teacher, of_student, dtype) for term in terms]
    return Wiring(of_student, of_teacher, made)


def _tapped(role, model, terms):
    wanted = {term: list(getattr(term, f"{role}_paths")) for term in terms}
    for term in terms:
        if term.source == "student":  # both sides are the student's
            wanted[term] = term.student_paths + term.teacher_paths if role == "student" else []
    together = list(dict.fromkeys(path for paths in wanted.values() for path in paths))
    if not together:
        return None
    try:
        return taps.tap(model, together)
    except ValueError:
        for term, paths in wanted.items():
            try:
                taps.tap(model, paths)
            except ValueError as error:
                message = f"Term '{term.loss.name}', `{role}_layer`: {error}"
                raise ValueError(message) from None
        raise


def _adapters(term, of_teacher, of_student, dtype):
    """A term's adapters, built, and what they give compared with what the loss needs."""
    if not term.student_paths:
        return []
    student = _placeholders(of_student)
    if term.source == "student":
        of_teacher = of_student
    if of_teacher is None:
        if term.adapter == "auto" and any(adapters.needs(term.loss)):
            raise ValueError(
                f"Term '{term.loss.name}' compares layers, and the teacher has none to look into. "
                "Give the teacher's model, or `adapter=None` if the recorded features have the "
                "student's shapes."
            )
        return term.make_adapters(None, student)
    teacher = _placeholders(of_teacher)
    _check_maps(term, term.teacher_paths, teacher)
    _check_maps(term, term.student_paths, student)
    made = term.make_adapters(teacher, student, dtype)
    same_grid, same_channels = adapters.needs(term.loss)
    for one, other in term.adapted(teacher, student, made):  # which builds them
        one, other = tuple(one.shape), tuple(other.shape)
        grids_fit = not same_grid or one[1:-1] == other[1:-1]
        if not grids_fit or (same_channels and one[-1] != other[-1]):
            raise ValueError(
                f"Term '{term.loss.name}' needs tensors of the same shape. Received: {one} of the "
                f"teacher and {other} of the student. Use adapter='auto', or an adapter that gives "
                "the teacher's shape."
            )
    return made


def _check_maps(term, paths, tensors):
    maps_only = isinstance(term.loss, losses.DistillationLoss) and term.loss.maps_only
    for path in paths:
        shape = tuple(tensors[path].shape)
        if maps_only and len(shape) != 4:
            raise ValueError(
                f"Term '{term.loss.name}' compares feature maps (batch, height, width, channels). "
                f"Received: layer '{path}', which gives {shape}"
            )


def _placeholders(tapped):
    return {
        path: keras.KerasTensor(tensor.shape, tensor.dtype)
        for path, tensor in tapped.output["features"].items()
    }


def seen(given):
    """What the student gave, as `Views` of `kdkeras.taps.Tapped`; of one view alone it is both."""
    views = given if isinstance(given, Views) else Views(given, given)
    return Views(*(v if isinstance(v, taps.Tapped) else taps.Tapped(v, {}) for v in views))


def student_views(terms, hard_view):
    """The views that the student must see: of the hard loss, and of the terms."""
    of_terms = {term.student_view for term in terms}
    own = {"clean"} if any(term.source == "student" for term in terms) else set()
    return {hard_view} | of_terms | own


def teacher_views(terms, teacher_view):
    """The views that the teacher is asked about, where a term's own is not said the default."""
    return {term.teacher_view or teacher_view for term in terms if term.needs_teacher}


def values(terms, wiring, targets, views, sample_weight, step, teacher_view="clean"):
    """The unweighted value of each term on a batch: `kdkeras.Term.value` with its adapters."""
    found = []
    for term, made in zip(terms, wiring.adapters, strict=True):
        of_default = (term.teacher_view or teacher_view) == teacher_view
        taught = targets if of_default else targets["other_view"]
        given = {"sample_weight": sample_weight, "step": step}
        found.append(term.value(targets["label"], taught, views, made, **given))
    return found


def check_recorded(terms, targets):
    """Refuses recorded targets that lack the features of a term."""
    recorded = targets.get("features", {})
    for term in (term for term in terms if term.source == "teacher"):
        missing = [path for path in term.teacher_paths if path not in recorded]
        if missing:
            raise ValueError(
                f"Term '{term.loss.name}' needs the teacher's layers {missing}, and the targets "
                "hold its recorded outputs without them. Record 'features', a dict by path, too; "
                f"or leave 'logits' out, so that the teacher runs. Received: {sorted(targets)}"
            )


def comparing(terms):
    """The names of the terms that need more than one example in a batch."""
    return [
        term.loss.name
        for term in terms
        if isinstance(term.loss, losses.DistillationLoss) and term.loss.compares_examples
    ]
