"""`Distiller`: a `keras.Model` that trains a student on labels and on what a teacher says."""

import keras
import tensorflow as tf
from keras import ops

from kdkeras import (
    arguments,
    assets,
    compatibility,
    fitting,
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

VIEWS = distillation_terms.VIEWS


@keras.saving.register_keras_serializable("kdkeras")
class Distiller(fitting.CheckedData, steps.Stepping, assets.TeacherAsAsset, keras.Model):
    """Trains a student on labels and on a teacher's outputs.

    `L = alpha * hard(label, student(x')) + (1 - alpha) * sum_i weight_i * term_i(teacher(x),
    student(x'))`, plus the student's own penalties (regularisers and `add_loss`), where `x'` is `x`
    or the perturbed `x`.

    Everything that `keras.Model` does works: `fit`, `evaluate`, `predict`, callbacks, sample and
    class weights, mixed precision, saving and loading. `distiller.student` is what people deploy.
    The teacher stays exactly as it was (`train_teacher` and `teacher_momentum` apart). `.keras`
    files hold the whole Distiller; weights files, backups and exports leave a frozen teacher out.
    `evaluate` reports the student alone, without the teacher: hard loss, penalties and metrics.

    Each model runs once a step and view, however many terms there are. Images are resized where a
    model takes another height and width; of inputs in a dict each model takes its own.

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
        terms: List of `Term`; None means `[Term(SoftTargets(temperature=temperature))]`. Empty if
            `alpha` is 1: labels alone, as in adversarial training.
        perturbation: None, or a callable `(model, x, targets, teacher=None) -> x'` such as
            `kdkeras.perturbations.Gaussian(stddev=0.1)`, made in the training step.
        teacher_view: "clean": the teacher sees `x`. "perturbed": it sees `x'`, as the student does.
        hard_view: What the hard loss and the metrics are of: the student on `x'`, "perturbed"; or
            on `x`, "clean".
        train_teacher: Whether the teacher takes a training step of its own before each of the
            student's, on the view that it teaches, with what it was compiled with; logged as
            `teacher_...`. If it is itself a Distiller without a teacher, it learns from the
            student's logits: mutual learning.
        balance: None, or what weighs the terms anew at each step by how they fare, such as
            `kdkeras.losses.RelativeProgress` (MTARD); on top of the terms' own weights.
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
        hard_view="perturbed",
        train_teacher=False,
        balance=None,
        teacher_momentum=None,
        name="distiller",
    ):
        alpha = schedules.checked(arguments.fraction, "alpha", alpha)
        terms = compatibility.check_terms(terms, temperature, alpha)
        if terms is None:
            temperature = 4.0 if temperature is None else temperature
            soft_targets = losses.SoftTargets(temperature=temperature)
            terms, temperature = [distillation_terms.Term(soft_targets)], soft_targets.temperature
        teacher = teachers.as_teacher(teacher, compatibility.heads(student))
        compatibility.check_models(student, teacher, terms)
        compatibility.check_teacher_training(student, teacher, train_teacher, teacher_momentum)
        compatibility.check_perturbation(perturbation)
        compatibility.check_balance(balance)
        # The student casts its own inputs; perturbed ones stay float32 until then.
        super().__init__(name=name, dtype=compatibility.dtype_policy(student), autocast=False)
        self.student = student
        # Set past Keras's tracking: neither its variables nor its losses are the Distiller's.
        object.__setattr__(self, "teacher", teacher)
        self.alpha, self.temperature = alpha, temperature
        self.terms, self.perturbation = terms, perturbation
        self.teacher_view = arguments.one_of("teacher_view", teacher_view, VIEWS)
        self.hard_view = arguments.one_of("hard_view", hard_view, VIEWS)
        self.train_teacher, self.teacher_momentum = bool(train_teacher), teacher_momentum
        with_layers = teacher.student if isinstance(teacher, Distiller) else teacher
        wired = wiring.wire(self.terms, student, with_layers, dtype=self.dtype_policy)
        object.__setattr__(self, "_wiring", wired)  # whose models share the layers of these two
        self.adapters = [layer for made in wired.adapters for layer in made if layer is not None]
        self.balance = balance
        if balance is not None and not balance.built:
            balance.build((len(self.terms),))
        self.hard_tracker = keras.metrics.Mean(name="hard")
        names = distillation_terms.names(self.terms)
        self.term_trackers = [keras.metrics.Mean(name=name) for name in names]
        self.supports_jit = not isinstance(teacher, teachers.Predictions)
        self._student_views = wiring.student_views(self.terms, self.hard_view)
        self._teacher_views = wiring.teacher_views(self.terms, self.teacher_view)
        self._class_weights, self._on_device, self._evaluating = None, None, False
        self._heads = tuple(compatibility.heads(student))
        self.built = student.built

    _maybe_symbolic_build = teaching.symbolic_build

    def call(self, x, training=False):
        """The student's outputs for `x`; with `training` and terms of layers, `taps.Tapped`."""
        if isinstance(x, wiring.Views):
            return wiring.Views(*(self.call(view, training) for view in x))
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
        teaching.train(self, "clean", clean, targets["label"], sample_weight)
        targets = self.teach(clean, targets, "clean")
        if self.perturbation is not None:
            x = inputs.single(inputs.fitted(x, self.student))
            known = teaching.known(targets, self.teacher_view)
            x = self.perturbation(self.student, x, known, teacher=self.teacher)
        teaching.train(self, "perturbed", x, targets["label"], sample_weight)
        targets = self.teach(x, targets, "perturbed")
        if "clean" in self._student_views and x is not clean:
            x = wiring.Views(x, clean)
        logs = super().train_step((x, targets, sample_weight))
        if self.teacher_momentum is not None:
            teaching.follow(self.teacher, self.student, self.teacher_momentum)
        return logs

    def teach(self, x, targets, view=None):
        """The labels enriched by the teacher: `kdkeras.teaching.enriched` with this one's parts.

        Args:
            x: What the teacher sees.
            targets: Dict with `"label"`, as `fit` takes it.
            view: "clean" or "perturbed", what `x` is; `teacher_view` unless given.
        """
        view = self.teacher_view if view is None else view
        if view not in self._teacher_views:
            return targets
        given = (self.teacher, self._wiring.teacher, self.terms, x)
        if view == self.teacher_view:
            return teaching.enriched(*given, targets)
        return {**targets, "other_view": teaching.enriched(*given, {})}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        targets = inputs.enriched(y, self._heads)
        seen = wiring.seen(y_pred)
        outputs = getattr(seen, self.hard_view).outputs
        hard, soft = ops.zeros(()), 0.0
        if self._compile_loss is not None and targets["label"] is not None:
            hard = self._compile_loss(targets["label"], outputs, sample_weight)
        compatibility.check_labels_are_there(targets["label"], self, training)
        penalties = sum(self._aggregate_additional_loss(loss) for loss in self.losses)
        untaught = self._teacher_views and not {"logits", "other_view"} & set(targets)
        if not training or untaught:
            return hard + penalties
        step = self.optimizer.iterations
        self._track(self.hard_tracker, hard, outputs)
        given = (targets, seen, sample_weight, step, self.teacher_view)
        values = wiring.values(self.terms, self._wiring, *given)
        shares = [1.0] * len(values) if self.balance is None else self.balance(values)
        for term, tracker, value, share in zip(
            self.terms, self.term_trackers, values, shares, strict=True
        ):
            self._track(tracker, value, outputs)
            soft += share * schedules.at(term.weight, step) * value
        alpha = schedules.at(self.alpha, step)
        return alpha * hard + (1.0 - alpha) * soft + penalties

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        label = inputs.enriched(y, self._heads)["label"]
        if label is None:
            return self.get_metrics_result()
        outputs = getattr(wiring.seen(y_pred), self.hard_view).outputs
        return super().compute_metrics(x, label, outputs, sample_weight)

    def _track(self, tracker, value, outputs):
        # Under a strategy each replica's loss is already divided by the number of replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        examples = ops.shape(keras.tree.flatten(outputs)[0])[0]
        tracker.update_state(value * replicas, sample_weight=examples)

    def compile(self, optimizer="rmsprop", loss=None, *args, **kwargs):
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: As Keras takes it.
            loss: The hard loss, on labels and logits: `from_logits=True`; None if alpha is 0.
            *args, **kwargs: The other arguments of `keras.Model.compile`.

        Raises:
            ValueError: `loss` is missing, or takes probabilities.
        """
        compatibility.check_hard_loss(loss, self.alpha)
        super().compile(optimizer, loss, *args, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

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
        """Exports the student to `filepath`, as `keras.Model.export`; the teacher stays behind."""
        return self.student.export(filepath, *args, **kwargs)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        plain = ("alpha", "temperature", "perturbation", "teacher_view", "hard_view")
        return {
            "student": serialize(self.student),
            "teacher": serialize(self.teacher) if isinstance(self.teacher, keras.Model) else None,
            **{name: serialize(getattr(self, name)) for name in plain},
            "terms": None if self.temperature else [serialize(term) for term in self.terms],
            "train_teacher": self.train_teacher,
            "balance": serialize(self.balance),
            "teacher_momentum": self.teacher_momentum,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))
