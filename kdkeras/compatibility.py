"""Whether a student, its teacher and its hard loss fit together, found out before training."""

import math

import keras

from kdkeras import arguments, schedules, teachers, terms
from kdkeras.models import surgery

BELOW_1 = math.nextafter(1.0, 0.0)
PROBABILITY_LOSSES = (
    keras.losses.binary_crossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
    keras.losses.sparse_categorical_crossentropy,
)


def heads(model):
    """The number of classes of each of a model's outputs.

    Args:
        model: A `keras.Model`, `kdkeras.teachers.Predictions` or None.

    Returns:
        Dict from the output's name to its number of classes. With a single output its name is None;
        where the number cannot be known (a subclassed model has no graph to ask) it is None.
    """
    if isinstance(model, teachers.Predictions):
        return {None: model.num_classes}
    if model is None or not surgery.is_built_graph(model):
        return {None: None}
    outputs = surgery.output_of(model)
    if isinstance(outputs, dict):
        return {name: output.shape[-1] for name, output in outputs.items()}
    return {None: model.outputs[0].shape[-1]}


def dtype_policy(student):
    """The student's policy; float16 anywhere in it needs the optimizer's loss scaling."""
    for layer in student._flatten_layers():
        if layer.dtype_policy.name == "mixed_float16":
            return "mixed_float16"
    return student.dtype_policy


def check_models(student, teacher, terms):
    """Refuses a student and a teacher that cannot be distilled, and says how to mend it.

    Args:
        student: A `keras.Model`.
        teacher: A `keras.Model`, `kdkeras.teachers.Predictions` or None.
        terms: List of `kdkeras.Term`, which may name outputs of the teacher's.

    Raises:
        ValueError: The message says what does not fit.
    """
    _check_model("student", student)
    if teacher is not None and not isinstance(teacher, teachers.Predictions):
        _check_model("teacher", teacher)
        if student is teacher:
            raise ValueError(
                "`student` and `teacher` must be two models. Received: the same one twice."
            )
        if surgery.is_built_graph(student) and surgery.is_built_graph(teacher):
            _check_inputs(surgery.input_of(student), surgery.input_of(teacher))
    if teacher is not None:
        named = any(term.teacher_output is not None for term in terms)
        check = _check_named_outputs if named else _check_heads
        check(heads(student), heads(teacher), terms)


def check_teacher_training(student, teacher, train_teacher, teacher_momentum):
    """Refuses a teacher that cannot change in the way that is asked for."""
    if train_teacher and not (isinstance(teacher, keras.Model) and teacher.compiled):
        raise ValueError(
            "`train_teacher=True` needs a compiled teacher: call teacher.compile(optimizer, "
            "loss) first. Received: a teacher that is not compiled."
        )
    if teacher_momentum is None:
        return
    expected = "None or a number in [0, 1)"
    arguments.number("teacher_momentum", teacher_momentum, low=0, high=BELOW_1, expected=expected)
    if train_teacher:
        raise ValueError(
            "A teacher that follows the student is not trained as well. Received: "
            f"train_teacher=True, teacher_momentum={teacher_momentum}"
        )
    shapes = [
        [tuple(weight.shape) for weight in model.weights]
        if isinstance(model, keras.Model)
        else None
        for model in (student, teacher)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`teacher_momentum` needs a teacher of the student's architecture, which it follows: "
            "teacher=keras.models.clone_model(student). Received: models of other weights."
        )


def check_strategy(model):
    """Refuses, for a split on the device, a model that a strategy of tf.distribute feeds."""
    if model._distribute_strategy is not None:
        raise ValueError(
            "A split on the device goes without a strategy. Received: kdkeras.data.OnDevice for a "
            f"model of {type(model.distribute_strategy).__name__}. Use kdkeras.data.batches, or "
            "cache.batches."
        )


def check_terms(given, temperature, alpha):
    """A list of the terms that a Distiller was given, None if none were.

    Raises:
        ValueError: They are no list of terms, none where alpha leaves them a share, or a
            temperature comes with them that has no use.
    """
    if given is None:
        return None
    if isinstance(given, (list, tuple)) and (given or alpha == 1.0):
        wrong = [term for term in given if not isinstance(term, terms.Term)]
    else:
        wrong = [given]
    if wrong:
        raise ValueError(
            "`terms` must be a list of `kdkeras.Term`, at least one unless `alpha` is 1: "
            f"[kdkeras.Term(kdkeras.losses.SoftTargets())]. Received: {wrong[0]!r}"
        )
    if temperature is not None:
        raise ValueError(
            "`temperature` is of the soft targets that stand in for `terms`. Received: "
            f"temperature={temperature!r} and terms. Give it to their losses, or to the method: "
            "kdkeras.losses.SoftTargets(temperature=...), kdkeras.methods.dkd(temperature=...)."
        )
    return list(given)


def check_labels_are_there(label, distiller, training):
    """Refuses to train without labels where they count."""
    if training and label is None and distiller.loss is not None and distiller.alpha != 0.0:
        raise ValueError(
            "`y` must be given: the hard loss needs labels, unless `alpha` is 0. Received: None, "
            f"alpha={distiller.alpha}"
        )


def check_perturbation(perturbation):
    """Refuses what cannot be called."""
    if perturbation is not None and not callable(perturbation):
        raise ValueError(
            "`perturbation` must be None or a callable (model, x, targets, teacher=None) -> x'. "
            f"Received: perturbation={perturbation!r}"
        )


def check_balance(balance):
    """Refuses what is no layer that weighs terms."""
    if balance is not None and not isinstance(balance, keras.layers.Layer):
        raise ValueError(
            "`balance` must be None or a layer such as kdkeras.losses.RelativeProgress(). "
            f"Received: balance={balance!r}"
        )


def check_hard_loss(loss, alpha):
    """Refuses a missing loss, unless alpha is 0, and one that takes logits for probabilities."""
    if loss is None and (schedules.is_schedule(alpha) or alpha > 0):
        raise ValueError(
            "`loss` must be given unless `alpha` is 0. Received: loss=None, "
            f"alpha={alpha}. "
            "Use for example keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )
    for part in keras.tree.flatten(loss):
        part = keras.losses.get(part) if isinstance(part, str) else part
        if isinstance(part, keras.losses.Loss):
            name, wrong = type(part).__name__, part.get_config().get("from_logits") is False
        else:
            name, wrong = getattr(part, "__name__", part), part in PROBABILITY_LOSSES
        if wrong:
            raise ValueError(
                "`loss` must take logits, for students give logits, not probabilities. Received: "
                f"loss={name} with from_logits=False. Use for example "
                "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
            )


def _check_model(role, model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"`{role}` must be a `keras.Model`. Received: {role}={model!r}")
    if surgery.is_built_graph(model) and isinstance(surgery.output_of(model), (list, tuple)):
        raise ValueError(
            f"`{role}` must have one output, logits of shape (batch, num_classes), or a dict of "
            "them by name: keras.Model(inputs, {'shape': ..., 'color': ...}). Received: a model "
            f"with {len(model.outputs)} outputs: {model.output_names}"
        )
    surgery.check_logits(role, model)
    for name, classes in heads(model).items():
        if classes is not None and classes < 2:
            of_output = "" if name is None else f" for output '{name}'"
            raise ValueError(
                f"`{role}` must have logits of at least two classes. Received: model "
                f"'{model.name}' with {classes}{of_output}. Rebuild a binary classifier with two "
                "logits."
            )


def _check_inputs(of_student, of_teacher):
    named = isinstance(of_student, dict) or isinstance(of_teacher, dict)
    if named:
        # Each takes what it knows by name; what both take must be the same.
        of_student, of_teacher = (
            surgery.inputs_by_name(of_student),
            surgery.inputs_by_name(of_teacher),
        )
        common = [name for name in of_student if name in of_teacher]
        pairs = [(of_student[name], of_teacher[name]) for name in common]
        fits = True
    else:
        of_student, of_teacher = keras.tree.flatten(of_student), keras.tree.flatten(of_teacher)
        pairs = list(zip(of_student, of_teacher, strict=False))
        fits = len(of_student) == len(of_teacher)
    if not fits or not all(
        surgery.same_but_for_size(one.shape, other.shape) for one, other in pairs
    ):
        shapes = [
            keras.tree.map_structure(lambda x: x.shape, struct)
            for struct in (of_student, of_teacher)
        ]
        raise ValueError(
            "`student` and `teacher` must take the same inputs (images may differ in height and "
            f"width, and are resized). Received: a student for inputs of shape {shapes[0]} and a "
            f"teacher for {shapes[1]}."
        )


def _check_named_outputs(of_student, of_teacher, given):
    for term in given:
        if term.needs_teacher and term.teacher_output not in of_teacher:
            raise ValueError(
                f"Term '{term.loss.name}': `teacher_output` must be one of the teacher's outputs, "
                f"{_listed(of_teacher)}. Received: teacher_output={term.teacher_output!r}"
            )
    for classes in of_teacher.values():
        _check_heads(of_student, {None: classes}, given)


def _check_heads(of_student, of_teacher, given):
    del given
    if (None in of_student) != (None in of_teacher):
        raise ValueError(
            "`student` and `teacher` must have the same outputs. Received: outputs "
            f"{_listed(of_student)} of the student and {_listed(of_teacher)} of the teacher."
        )
    unknown = sorted(set(of_teacher) - set(of_student), key=str)
    if unknown:
        raise ValueError(
            f"`teacher` teaches outputs that the student does not have: {unknown}. The student's: "
            f"{_listed(of_student)}"
        )
    for name, classes in of_teacher.items():
        if None not in (classes, of_student[name]) and classes != of_student[name]:
            of_output = "" if name is None else f" for output '{name}'"
            raise ValueError(
                "`student` and `teacher` must have the same number of classes. Received: a student "
                f"with {of_student[name]} and a teacher with {classes}{of_output}."
            )


def _listed(of_model):
    return [name for name in of_model if name is not None] or "one"
