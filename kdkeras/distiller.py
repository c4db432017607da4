"""`Distiller`: a `keras.Model` that trains a student on labels and on what a teacher says."""

import keras
import tensorflow as tf
from keras import ops

from kdkeras import (
    arguments,
    assets,
    compatibility,
    data,
    inputs,
    losses,
    schedules,
    steps,
    taps,
    teachers,
    teaching,
    weighting,
    wiring,
)
from kdkeras import terms as distillation_terms


@keras.saving.register_keras_serializable("kdkeras")
class Distiller(steps.Stepping, assets.TeacherAsAsset, keras.Model):
    """Trains a student on labels and on a teacher's outputs.

    `L = alpha * hard(label, student(x')) + (1 - alpha) * sum_i weight_i * term_i(teacher(x),
    student(x'))`, plus the student's own penalties (regularisers and `add_loss`), where `x'` is `x`
    or the perturbed `x`.

    Everything that `keras.Model` does works: `fit`, `evaluate`, `predict`, callbacks, sample and
    class weights, mixed precision, saving and loading. `distiller.student` is what people deploy.
    The teacher stays exactly as it was (`train_teacher` and `teacher_momentum` apart). `.keras`
    files hold the whole Distiller; weights files, backups and exports leave a frozen teacher out.
    `evaluate` reports the student alone, without the teacher: hard loss, penalties and metrics.

    Each model runs once a step, however many terms there are. Images are resized where a model
    takes another height and width; of inputs in a dict each model takes its own.

    Data: `(x, y)`, or `(x, {"label": y, ...})`, with a sample weight as third if wanted; `x` alone
    if `alpha` is 0. If the dict has `"logits"` (or `"probabilities"`), they are the teacher's and
    the teacher is not run; terms of layers then need `"features"`, a dict by path. If it has
    `"clean"`, then `x` was perturbed in the pipeline and `"clean"` is what the teacher sees.

    Args:
        student: `keras.Model` with logits of shape `(batch, num_classes)`, or a dict of them by the
            name of its outputs.
        teacher: `keras.Model` with logits for the same classes; a list of them, whose probabilities
            are averaged (`kdkeras.teachers.ensemble`); a dict of models by the student's outputs; a
            function from a NumPy batch to logits (`kdkeras.teachers.Predictions`); or None if the
            data has `"logits"`.
        alpha: Weight of the labels' loss, in [0, 1]; or a Keras schedule of the step.
        temperature: Positive number, 4 unless given, or a Keras schedule of the step; of the soft
            targets, where `terms` is None. Losses of other terms have their own.
        terms: List of `Term`; None means `[Term(SoftTargets(temperature=temperature))]`.
        perturbation: None, or a callable `(model, x, targets, teacher=None) -> x'` such as
            `kdkeras.perturbations.Gaussian(stddev=0.1)`, made in the training step.
        teacher_view: "clean": the teacher sees `x`. "perturbed": it sees `x'`, as the student does.
        train_teacher: Whether the teacher takes a training step of its own before each of the
            student's, with what it was compiled with; logged as `teacher_...`. If it is itself a
            Distiller without a teacher, it learns from the student's logits: mutual learning.
        teacher_momentum: None; or `m` in [0, 1): after each step the teacher, a copy of the student
            at first, becomes `m * teacher + (1 - m) * student`, an average of past students.
        name: The model's name.

    Raises:
        ValueError: A model ends in softmax (`kdkeras.models.logits(model)` takes it off), the
            numbers of classes differ, a term does not fit the models, or an argument is out of its
            range.

    Example:

    >>> d = kdkeras.Distiller(student=student, teacher=teacher, alpha=0.1, temperature=4.0)
    >>> hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> d.compile("adam", loss=hard, metrics=["accuracy"])
    >>> d.fit(x, y, epochs=10, validation_data=(x_val, y_val))
    >>> d.student.export("student")

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015.
    """

    def __init__(
        self,
        *,
        student,
        teacher=None,
        alpha=0.1,
        temperature=None,
        terms=None,
        perturbation=None,
        teacher_view="clean",
        train_teacher=False,
        teacher_momentum=None,
        name="distiller",
    ):
        alpha = schedules.checked(arguments.fraction, "alpha", alpha)
        terms = compatibility.check_terms(terms, temperature)
        if terms is None:
            temperature = 4.0 if temperature is None else temperature
            soft_targets = losses.SoftTargets(temperature=temperature)
            terms, temperature = [distillation_terms.Term(soft_targets)], soft_targets.temperature
        teacher = teachers.as_teacher(teacher, compatibility.heads(student))
        compatibility.check_models(student, teacher)
        compatibility.check_teacher_training(student, teacher, train_teacher, teacher_momentum)
        compatibility.check_perturbation(perturbation)
        # The student casts its own inputs; perturbed ones stay float32 until then.
        super().__init__(name=name, dtype=compatibility.dtype_policy(student), autocast=False)
        self.student = student
        # Set past Keras's tracking: neither its variables nor its losses are the Distiller's.
        object.__setattr__(self, "teacher", teacher)
        self.alpha, self.temperature = alpha, temperature
        self.terms, self.perturbation = terms, perturbation
        self.teacher_view = arguments.one_of("teacher_view", teacher_view, ("clean", "perturbed"))
        self.train_teacher, self.teacher_momentum = bool(train_teacher), teacher_momentum
        with_layers = teacher.student if isinstance(teacher, Distiller) else teacher
        wired = wiring.wire(self.terms, student, with_layers, dtype=self.dtype_policy)
        object.__setattr__(self, "_wiring", wired)  # whose models share the layers of these two
        self.adapters = [layer for made in wired.adapters for layer in made if layer is not None]
        self.hard_tracker = keras.metrics.Mean(name="hard")
        names = distillation_terms.names(self.terms)
        self.term_trackers = [keras.metrics.Mean(name=name) for name in names]
        self.supports_jit = not isinstance(teacher, teachers.Predictions)
        self._class_weights, self._on_device, self._evaluating = None, None, False
        self._heads = tuple(compatibility.heads(student))
        self.built = student.built

    _maybe_symbolic_build = teaching.symbolic_build

    def call(self, x, training=False):
        """The student's outputs; in training with terms of layers, `taps.Tapped`."""
        x = inputs.fitted(x, self.student)
        if not training or self._wiring.student is None:
            return self.student(x, training=training)
        return taps.Tapped(**self._wiring.student(x, training=True))

    @steps.with_its_batch
    def train_step(self, data):
        batch = data if self._on_device is None else self._on_device(*data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        targets = inputs.enriched(y, self._heads)
        clean = targets.pop("clean", x)
        sample_weight = weighting.weighed(self._class_weights, targets["label"], sample_weight)
        if self.train_teacher:
            mutual = isinstance(self.teacher, Distiller) and self.teacher.teacher is None
            teaching.train(self, clean, targets["label"], sample_weight, mutual=mutual)
        if self.teacher_view == "clean":
            targets = self.teach(clean, targets)
        if self.perturbation is not None:
            x = inputs.single(inputs.fitted(x, self.student))
            x = self.perturbation(self.student, x, targets, teacher=self.teacher)
        if self.teacher_view == "perturbed":
            targets = self.teach(x, targets)
        logs = super().train_step((x, targets, sample_weight))
        if self.teacher_momentum is not None:
            teaching.follow(self.teacher, self.student, self.teacher_momentum)
        return logs

    def teach(self, x, targets):
        """The labels enriched by the teacher: `kdkeras.teaching.enriched` with this one's parts."""
        return teaching.enriched(self.teacher, self._wiring.teacher, self.terms, x, targets)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        targets = inputs.enriched(y, self._heads)
        outputs, features = y_pred if isinstance(y_pred, taps.Tapped) else (y_pred, {})
        hard, soft = ops.zeros(()), 0.0
        if self._compile_loss is not None and targets["label"] is not None:
            hard = self._compile_loss(targets["label"], outputs, sample_weight)
        compatibility.check_labels_are_there(targets["label"], self, training)
        penalties = sum(self._aggregate_additional_loss(loss) for loss in self.losses)
        if not training or "logits" not in targets:
            return hard + penalties
        step = self.optimizer.iterations
        self._track(self.hard_tracker, hard, outputs)
        given = (targets, outputs, features, sample_weight, step)
        values = wiring.values(self.terms, self._wiring, *given)
        for term, tracker, value in zip(self.terms, self.term_trackers, values, strict=True):
            self._track(tracker, value, outputs)
            soft += schedules.at(term.weight, step) * value
        alpha = schedules.at(self.alpha, step)
        return alpha * hard + (1.0 - alpha) * soft + penalties

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        label = inputs.enriched(y, self._heads)["label"]
        if label is None:
            return self.get_metrics_result()
        outputs = y_pred.outputs if isinstance(y_pred, taps.Tapped) else y_pred
        return super().compute_metrics(x, label, outputs, sample_weight)

    def _track(self, tracker, value, outputs):
        # Under a strategy each replica's loss is already divided by the number of replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        examples = ops.shape(keras.tree.flatten(outputs)[0])[0]
        tracker.update_state(value * replicas, sample_weight=examples)

    def compile(self, optimizer="rmsprop", loss=None, *args, **kwargs):
        """Configures training, as `keras.Model.compile` does.

        `loss` is the hard loss, on labels and logits: `from_logits=True`; None if alpha is 0.

        Raises:
            ValueError: `loss` is missing, or takes probabilities.
        """
        compatibility.check_hard_loss(loss, self.alpha)
        super().compile(optimizer, loss, *args, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, batch_size=None, *args, validation_data=None, **kwargs):
        """Trains the student: `keras.Model.fit`, with every batch checked before it is used.

        `x` may also be a `kdkeras.data.OnDevice`, whose batches are made in the training step.
        """
        class_weights = weighting.class_weight_vector(
            kwargs.pop("class_weight", None), self.student
        )
        on_device = x if isinstance(x, data.OnDevice) else None
        constants = (class_weights, on_device, self._class_weights, self._on_device)
        if any(constant is not None for constant in constants):
            self.train_function = None  # which has them in it
        self._class_weights, self._on_device = class_weights, on_device
        if self.train_teacher and not self.teacher.optimizer.built:
            self.teacher.optimizer.build(self.teacher.trainable_variables)
        expected = inputs.expectations(self)
        validation_data = inputs.checked_pair(validation_data, **expected)
        if isinstance(x, (tf.data.Dataset, data.OnDevice)):
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default otherwise
        expected.update(comparing=wiring.comparing(self.terms), labels_needed=self.alpha != 0.0)
        if on_device is None:
            x = inputs.checked(x, y, **expected, batch_size=batch_size)
        else:
            compatibility.check_strategy(self)
            x = inputs.order_of(on_device, **expected)
        with inputs.clear_errors():
            return super().fit(x, y, batch_size, *args, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Evaluates the student alone: hard loss and metrics, as `keras.Model.evaluate` does."""
        self._evaluating = True
        try:
            x = inputs.checked(x, y, **inputs.expectations(self))
            with inputs.clear_errors():
                return super().evaluate(x, y, *args, **kwargs)
        finally:
            self._evaluating = False

    @property
    def metrics(self):
        # The terms are of training alone; and metrics that have seen no label have no result.
        hidden = [self.hard_tracker, *self.term_trackers] if self._evaluating else []
        if self._compile_metrics is not None and not self._compile_metrics.built:
            hidden.append(self._compile_metrics)
        hidden = {id(metric) for metric in hidden}
        return [metric for metric in super().metrics if id(metric) not in hidden]

    def reset_metrics(self):
        super().reset_metrics()
        if self.train_teacher and not self._evaluating:
            self.teacher.reset_metrics()

    def get_metrics_result(self):
        results = super().get_metrics_result()
        if self._evaluating:
            return results
        plain = {"alpha": self.alpha, "temperature": self.temperature}
        logged = plain | distillation_terms.numbers(self.terms, losses_too=not self.temperature)
        results.update(schedules.values(logged, self.optimizer.iterations))
        if self.train_teacher:
            results.update(teaching.results(self.teacher))
        return results

    def export(self, filepath, *args, **kwargs):
        """Exports the student, as `keras.Model.export` does. The teacher stays behind."""
        return self.student.export(filepath, *args, **kwargs)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        plain = ("alpha", "temperature", "perturbation", "teacher_view", "train_teacher")
        return {
            "student": serialize(self.student),
            "teacher": serialize(self.teacher) if isinstance(self.teacher, keras.Model) else None,
            **{name: serialize(getattr(self, name)) for name in plain},
            "terms": None if self.temperature else [serialize(term) for term in self.terms],
            "teacher_momentum": self.teacher_momentum,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))
