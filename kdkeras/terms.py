"""`Term`: one weighted loss of a distillation."""

import keras
from keras import ops

from kdkeras import adapters, arguments, losses, schedules

VIEWS = ("perturbed", "clean")


@keras.saving.register_keras_serializable("kdkeras")
class Term:
    """One weighted loss between a teacher's tensor and the student's.

    `weight * loss(teacher's tensor, adapter(student's tensor))`

    Without layers the tensors are the logits; with them, the outputs of these layers. With lists of
    layers the loss is summed over the pairs.

    Args:
        loss: A `keras.losses.Loss` instance, of `kdkeras.losses` or any other.
        weight: Finite number, at least 0; or a Keras schedule of the step.
        teacher_layer: None for the logits; the path of a layer (`kdkeras.taps.paths(model)` lists
            them, "mobilenetv2/block_12_expand_relu" is one of a nested model); or a list of them.
        student_layer: As `teacher_layer`, in the student.
        adapter: What makes the student's tensor comparable. "auto": both maps at the smaller height
            and width, and a 1x1 convolution (for vectors a dense layer) to the teacher's channels,
            each where the loss needs it. None: nothing. Or a `keras.layers.Layer`, which gets the
            student's tensor, or a list where layers are a list, and gives as many as the teacher
            has. It is trained with the student and is not part of it.
        output: The name of the output whose logits are compared, for models with several; None for
            all of them, summed.
        source: "teacher"; or "student": in the teacher's place stands the student itself on the
            clean view, no constant, so that the gradient goes through both sides (TRADES).
        student_view: What the student sees: "perturbed", or "clean". They differ where the
            Distiller has a perturbation, or the data have `"clean"`.
        teacher_view: What the teacher sees, "clean" or "perturbed"; None for the Distiller's.
        teacher_output: Of a teacher with several outputs for a student of one, the output's name.
        example_weight: None, or a function of labels and the teacher's logits that gives the weight
            of each example, such as `kdkeras.losses.Reliability`.

    Raises:
        ValueError: An argument is not what it should be; the message names it.

    Example:

    >>> kdkeras.Term(kdkeras.losses.SoftTargets(temperature=2.0), weight=0.5)
    >>> hint = keras.losses.MeanSquaredError(name="hint")
    >>> kdkeras.Term(hint, teacher_layer="stage2_block3_relu", student_layer="block_6_expand_relu")
    """

    def __init__(
        self,
        loss,
        weight=1.0,
        *,
        teacher_layer=None,
        student_layer=None,
        adapter="auto",
        output=None,
        source="teacher",
        student_view="perturbed",
        teacher_view=None,
        teacher_output=None,
        example_weight=None,
    ):
        if not isinstance(loss, keras.losses.Loss):
            raise ValueError(
                "`loss` must be a `keras.losses.Loss` instance, for example "
                f"kdkeras.losses.SoftTargets(). Received: loss={loss!r}"
            )
        self.loss = loss
        try:
            self.weight = schedules.checked(arguments.nonnegative, "weight", weight)
        except ValueError as error:
            raise ValueError(f"Term '{loss.name}': {error}") from None
        for given in (teacher_layer, student_layer):
            parts = given if isinstance(given, (list, tuple)) and given else [given]
            if given is not None and not all(isinstance(part, str) for part in parts):
                raise ValueError(
                    f"Term '{loss.name}': layers are named by their paths, a string or a list of "
                    f"them (kdkeras.taps.paths(model) lists them). Received: {given!r}"
                )
        of_teacher, of_student = _layers(teacher_layer), _layers(student_layer)
        if (of_teacher is None) != (of_student is None):
            raise ValueError(
                f"Term '{loss.name}': give both `teacher_layer` and `student_layer`, or neither. "
                f"Received: teacher_layer={teacher_layer!r}, student_layer={student_layer!r}"
            )
        is_layer = isinstance(adapter, keras.layers.Layer)
        if adapter not in ("auto", None) and not is_layer:
            raise ValueError(
                f"Term '{loss.name}': `adapter` must be 'auto', None or a `keras.layers.Layer`. "
                f"Received: adapter={adapter!r}"
            )
        if of_teacher is not None and len(of_teacher) != len(of_student) and not is_layer:
            raise ValueError(
                f"Term '{loss.name}': `teacher_layer` and `student_layer` must pair. Received: "
                f"{len(of_teacher)} and {len(of_student)} layers."
            )
        if output is not None and of_teacher is not None:
            raise ValueError(
                f"Term '{loss.name}': `output` is of logits, not of layers. Received: "
                f"output={output!r}, teacher_layer={teacher_layer!r}"
            )
        self.teacher_layer = teacher_layer
        self.student_layer = student_layer
        self.adapter, self.output = adapter, arguments.optional_text("output", output)
        self.source = arguments.one_of("source", source, ("teacher", "student"))
        self.student_view = arguments.one_of("student_view", student_view, VIEWS)
        if source == "student" and student_view == "clean":
            raise ValueError(
                f"Term '{loss.name}': source='student' compares the student with itself on the "
                "clean view, so student_view must be 'perturbed'. Received: student_view='clean'"
            )
        if teacher_view is not None:
            arguments.one_of("teacher_view", teacher_view, VIEWS)
        self.teacher_view = teacher_view
        self.teacher_output = arguments.optional_text("teacher_output", teacher_output)
        if example_weight is not None and not callable(example_weight):
            raise ValueError(
                f"Term '{loss.name}': `example_weight` must be a function of labels and logits. "
                f"Received: example_weight={example_weight!r}"
            )
        self.example_weight = example_weight

    @property
    def needs_teacher(self):
        """Whether the teacher is asked anything."""
        return self.source == "teacher" or self.example_weight is not None

    @property
    def teacher_paths(self):
        """The paths of the teacher's layers, a list; empty for the logits."""
        return _layers(self.teacher_layer) or []

    @property
    def student_paths(self):
        """The paths of the student's layers, a list; empty for the logits."""
        return _layers(self.student_layer) or []

    def make_adapters(self, of_teacher, of_student, dtype=None):
        """The layers that adapt the student's tensors.

        Args:
            of_teacher, of_student: Dicts from path to tensor; None for a teacher of no layers.
            dtype: The dtype policy of new layers.

        Returns:
            List of layers, None where none is needed; one layer where it adapts all at once.

        Raises:
            ValueError: No adapter can join the shapes.
        """
        if isinstance(self.adapter, keras.layers.Layer):
            return [self.adapter]
        pairs = list(zip(self.teacher_paths, self.student_paths, strict=True))
        if self.adapter is None or of_teacher is None:
            return [None] * len(pairs)
        try:
            return [
                adapters.adapter(of_teacher[one].shape, of_student[other].shape, self.loss, dtype)
                for one, other in pairs
            ]
        except ValueError as error:
            raise ValueError(f"Term '{self.loss.name}': {error}") from None

    def adapted(self, of_teacher, of_student, made):
        """The pairs of tensors that the loss compares.

        Args:
            of_teacher, of_student: Dicts from path to tensor.
            made: What `make_adapters` gave.

        Returns:
            List of pairs (teacher's, student's), at a common grid and adapted.
        """
        teacher = [of_teacher[path] for path in self.teacher_paths]
        student = [of_student[path] for path in self.student_paths]
        if isinstance(self.adapter, keras.layers.Layer):
            several = not isinstance(self.student_layer, str)
            student = made[0](student if several else student[0])
            student = student if isinstance(student, (list, tuple)) else [student]
            return list(zip(teacher, student, strict=True))
        pairs = list(zip(teacher, student, strict=True))
        if self.adapter == "auto" and adapters.needs(self.loss)[0]:
            pairs = [adapters.common_grid(*pair) for pair in pairs]
        return [
            (one, other if layer is None else layer(other))
            for (one, other), layer in zip(pairs, made, strict=True)
        ]

    def value(self, label, taught, seen, made=(), *, sample_weight=None, step=0):
        """The term's unweighted value on a batch.

        Args:
            label: The labels, or None.
            taught: What the teacher says of the term's view: a dict with "logits", and "features"
                for a term of layers; empty where it is not asked.
            seen: The student's outputs and inner tensors, a pair of `kdkeras.taps.Tapped`: of the
                perturbed view and of the clean one.
            made: What `make_adapters` gave.
            sample_weight: None, or a tensor of shape `(batch,)`.
            step: The training step, for schedules.

        Returns:
            float32 scalar.
        """
        loss = self.loss
        if isinstance(loss, losses.DistillationLoss):
            loss = loss.at(step)
        perturbed, clean = seen
        student = perturbed if self.student_view == "perturbed" else clean
        if self.example_weight is not None:
            weight = self.example_weight(label, self._logits(taught))
            sample_weight = weight if sample_weight is None else weight * sample_weight
        if self.source == "student":
            teacher, of_layers = clean.outputs, clean.features
        else:
            said = self._logits(taught), taught.get("features", {})
            teacher, of_layers = keras.tree.map_structure(_constant, said)
        if self.teacher_paths:
            pairs = self.adapted(of_layers, student.features, made)
            return sum(_apply(loss, label, *pair, sample_weight) for pair in pairs)
        if not isinstance(student.outputs, dict):
            return _apply(loss, label, teacher, student.outputs, sample_weight)
        value = 0.0
        for name in teacher if self.output is None else [self.output]:
            of_head, weight = (
                given.get(name) if isinstance(given, dict) else given
                for given in (label, sample_weight)
            )
            value += _apply(loss, of_head, teacher[name], student.outputs[name], weight)
        return value

    def _logits(self, taught):
        logits = taught["logits"]
        return logits if self.teacher_output is None else logits[self.teacher_output]

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "loss": serialize(self.loss),
            "weight": serialize(self.weight),
            "teacher_layer": self.teacher_layer,
            "student_layer": self.student_layer,
            "adapter": serialize(self.adapter),
            "output": self.output,
            "source": self.source,
            "student_view": self.student_view,
            "teacher_view": self.teacher_view,
            "teacher_output": self.teacher_output,
            "example_weight": serialize(self.example_weight),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


def names(terms):
    """The names of the terms' losses, with a number where one comes again."""
    plain = [term.loss.name for term in terms]
    earlier = [plain[:i].count(name) for i, name in enumerate(plain)]
    return [f"{name}_{n + 1}" if n else name for name, n in zip(plain, earlier, strict=True)]


def numbers(terms, *, losses_too=True):
    """The terms' weights, and their losses' settings, by the names they are logged under."""
    found = {}
    for name, term in zip(names(terms), terms, strict=True):
        found[f"{name}_weight"] = term.weight
        if losses_too and isinstance(term.loss, losses.DistillationLoss):
            found |= {f"{name}_{key}": getattr(term.loss, key) for key in term.loss.settings}
    return found


def _apply(loss, labels, teacher, student, sample_weight):
    student, teacher = ops.cast(student, "float32"), ops.cast(teacher, "float32")
    if not isinstance(loss, losses.DistillationLoss):
        rank = len(student.shape)
        if sample_weight is not None and rank > 2:
            # Keras's losses give a value a position.
            sample_weight = ops.reshape(sample_weight, (-1, *[1] * (rank - 2)))
        return loss(teacher, student, sample_weight=sample_weight)
    if loss.needs_labels and labels is None:
        raise ValueError(f"Term '{loss.name}' needs labels. Received: targets without labels.")
    teacher = (labels, teacher) if loss.needs_labels else teacher
    return loss(teacher, student, sample_weight=sample_weight)


def _constant(tensor):
    return ops.stop_gradient(ops.convert_to_tensor(tensor))


def _layers(layer):
    if layer is None:
        return None
    return [layer] if isinstance(layer, str) else list(layer)
