"""`Distiller`: a `keras.Model` that trains a student on labels and on what a teacher says."""

import os

import keras
import tensorflow as tf
from keras import ops

from kdkeras import arguments, inputs, losses
from kdkeras import terms as distillation_terms


@keras.saving.register_keras_serializable("kdkeras")
class Distiller(keras.Model):
    """Trains a student on labels and on a frozen teacher's outputs.

    `L = alpha * hard(label, student(x')) + (1 - alpha) * sum_i weight_i * term_i(teacher(x),
    student(x'))`, plus the student's own penalties (regularisers and `add_loss`), where `x'` is `x`
    or the perturbed `x`.

    Everything that `keras.Model` does works: `fit`, `evaluate`, `predict`, callbacks, sample and
    class weights, mixed precision, saving and loading. The student is `distiller.student`; it is
    what people deploy. The teacher stays exactly as it was (`train_teacher` apart): its weights,
    its BatchNorm statistics, its `trainable`. `.keras` files hold the whole Distiller; weights
    files, backups and exports leave a frozen teacher out. `evaluate` reports the student alone: the
    hard loss with its penalties, and the metrics; the teacher is not run.

    Data: `(x, y)`, or `(x, {"label": y, ...})`, with a sample weight as third if wanted. If the
    dict has `"logits"`, they are the teacher's and the teacher is not run. If it has `"clean"`,
    then `x` was perturbed in the pipeline and `"clean"` is what the teacher sees.

    Args:
        student: `keras.Model` with one output, logits of shape `(batch, num_classes)`.
        teacher: `keras.Model` with logits for the same classes.
        alpha: Weight of the labels' loss, in [0, 1].
        temperature: Positive number; the temperature of the soft targets when `terms` is None.
        terms: List of `Term`; None means `[Term(SoftTargets(temperature=temperature))]`.
        perturbation: None, or a callable `(model, x, targets, teacher=None) -> x'` such as
            `kdkeras.perturbations.Gaussian(stddev=0.1)`, made in the training step.
        teacher_view: "clean": the teacher sees `x`. "perturbed": it sees `x'`, as the student does.
        train_teacher: Whether the teacher takes a training step of its own before each of the
            student's, with the optimizer, loss and metrics that it was compiled with. Its targets
            are constants to the student. Its metrics are logged as `teacher_...`.
        name: The model's name.

    Raises:
        ValueError: A model ends in softmax (`kdkeras.models.logits(model)` takes it off), the
            numbers of classes differ, or an argument is out of its range.

    Example:

    >>> d = kdkeras.Distiller(student=student, teacher=teacher, alpha=0.1, temperature=4.0)
    >>> hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> d.compile("adam", loss=hard, metrics=["accuracy"])
    >>> d.fit(x, y, epochs=10, validation_data=(x_val, y_val))
    >>> d.student.export("student")

    In another process, `import kdkeras` lets `keras.models.load_model` read a saved Distiller.

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015.
    """

    def __init__(
        self,
        *,
        student,
        teacher,
        alpha=0.1,
        temperature=4.0,
        terms=None,
        perturbation=None,
        teacher_view="clean",
        train_teacher=False,
        name="distiller",
    ):
        alpha = arguments.fraction("alpha", alpha)
        temperature = arguments.positive("temperature", temperature)
        teacher_view = arguments.one_of("teacher_view", teacher_view, ("clean", "perturbed"))
        inputs.check_models(student, teacher)
        if perturbation is not None and not callable(perturbation):
            raise ValueError(
                "`perturbation` must be None or a callable (model, x, targets, teacher=None) -> "
                f"x'. Received: perturbation={perturbation!r}"
            )
        if train_teacher and not teacher.compiled:
            raise ValueError(
                "`train_teacher=True` needs a compiled teacher: call teacher.compile(optimizer, "
                "loss) first. Received: a teacher that is not compiled."
            )
        # The student casts its own inputs; perturbed ones stay float32 until then.
        super().__init__(name=name, dtype=_dtype_policy(student), autocast=False)
        self.student = student
        # Set past Keras's tracking: neither its variables nor its losses are the Distiller's.
        object.__setattr__(self, "teacher", teacher)
        self.alpha = alpha
        self.temperature = temperature
        if terms is None:
            soft_targets = losses.SoftTargets(temperature=temperature)
            terms = [distillation_terms.Term(soft_targets)]
        self.terms = list(terms)
        self.perturbation = perturbation
        self.teacher_view = teacher_view
        self.train_teacher = bool(train_teacher)
        self.hard_tracker = keras.metrics.Mean(name="hard")
        names = distillation_terms.names(self.terms)
        self.term_trackers = [keras.metrics.Mean(name=name) for name in names]
        self._class_weights = None
        self._evaluating = False
        self.built = student.built

    def call(self, x, training=False):
        return self.student(x, training=training)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        targets = inputs.enriched(y)
        clean = targets.pop("clean", x)
        sample_weight = self._weigh_classes(targets["label"], sample_weight)
        if self.train_teacher:
            self.teacher.train_step((clean, targets["label"], sample_weight))
        if self.teacher_view == "clean":
            targets = self.teach(clean, targets)
        if self.perturbation is not None:
            x = self.perturbation(self.student, x, targets, teacher=self.teacher)
        if self.teacher_view == "perturbed":
            targets = self.teach(x, targets)
        return super().train_step((x, targets, sample_weight))

    def teach(self, x, targets):
        """The labels enriched by the teacher: `targets` with `"logits"`, constants to the student.

        Args:
            x: What the teacher sees.
            targets: Dict with `"label"`; if it already has `"logits"`, the teacher is not run.

        Returns:
            A dict with `"logits"`, float32 of shape `(batch, num_classes)`.
        """
        if "logits" in targets:
            return targets
        logits = self.teacher(x, training=False)
        return {**targets, "logits": ops.stop_gradient(ops.cast(logits, "float32"))}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        targets = inputs.enriched(y)
        hard, soft = ops.zeros(()), 0.0
        if self._compile_loss is not None:
            hard = self._compile_loss(targets["label"], y_pred, sample_weight)
        penalties = sum(self._aggregate_additional_loss(loss) for loss in self.losses)
        if not training or "logits" not in targets:
            return hard + penalties
        self._track(self.hard_tracker, hard, y_pred)
        for term, tracker in zip(self.terms, self.term_trackers, strict=True):
            value = term.loss(targets["logits"], y_pred, sample_weight=sample_weight)
            self._track(tracker, value, y_pred)
            soft += term.weight * value
        return self.alpha * hard + (1.0 - self.alpha) * soft + penalties

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, inputs.enriched(y)["label"], y_pred, sample_weight)

    def _track(self, tracker, value, y_pred):
        # Under a strategy each replica's loss is already divided by the number of replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        tracker.update_state(value * replicas, sample_weight=ops.shape(y_pred)[0])

    def _weigh_classes(self, label, sample_weight):
        if self._class_weights is None:
            return sample_weight
        label = ops.convert_to_tensor(label)
        if len(label.shape) > 1 and label.shape[-1] > 1:
            label = ops.argmax(label, axis=-1)
        weight = ops.take(self._class_weights, ops.cast(ops.reshape(label, (-1,)), "int32"))
        return weight if sample_weight is None else weight * ops.cast(sample_weight, "float32")

    def compile(self, optimizer="rmsprop", loss=None, *args, **kwargs):
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: The hard loss, on labels and logits: `from_logits=True`. None if alpha is 0.
            *args, **kwargs: As in `keras.Model.compile`.

        Raises:
            ValueError: `loss` is missing, or takes probabilities.
        """
        if loss is None and self.alpha > 0:
            raise ValueError(
                "`loss` must be given unless `alpha` is 0. Received: loss=None, "
                f"alpha={self.alpha}. "
                "Use for example keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
            )
        inputs.check_hard_loss(loss)
        super().compile(optimizer, loss, *args, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, class_weight=None, validation_data=None, **kwargs):
        """Trains the student: `keras.Model.fit`, with every batch checked before it is used."""
        class_weights = inputs.class_weight_vector(class_weight, self.student)
        if class_weights is not None or self._class_weights is not None:
            self.train_function = None  # they are constants of the traced step
        self._class_weights = class_weights
        if self.train_teacher and not self.teacher.optimizer.built:
            self.teacher.optimizer.build(self.teacher.trainable_variables)
        expected = inputs.expectations(self)
        if isinstance(validation_data, (tuple, list)):
            inputs.checked(*validation_data[:2], **expected)
        elif validation_data is not None:
            validation_data = inputs.checked(validation_data, **expected)
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default otherwise
        x = inputs.checked(x, y, **expected)
        with inputs.clear_errors():
            return super().fit(x, y, *args, validation_data=validation_data, **kwargs)

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
        # The terms are of training alone: an evaluation would report them as 0.
        if not self._evaluating:
            return super().metrics
        of_training = {id(tracker) for tracker in (self.hard_tracker, *self.term_trackers)}
        return [metric for metric in super().metrics if id(metric) not in of_training]

    def reset_metrics(self):
        super().reset_metrics()
        if self.train_teacher and not self._evaluating:
            self.teacher.reset_metrics()

    def get_metrics_result(self):
        results = super().get_metrics_result()
        if self.train_teacher and not self._evaluating:
            of_teacher = self.teacher.get_metrics_result()
            results.update({f"teacher_{name}": value for name, value in of_teacher.items()})
        return results

    def export(self, filepath, *args, **kwargs):
        """Exports the student, as `keras.Model.export` does. The teacher stays behind."""
        return self.student.export(filepath, *args, **kwargs)

    # Keras saves what it finds with `dir`, in `.keras` and weights files alike. A frozen teacher is
    # hidden from it; its weights travel as an asset, which only `.keras` files have.

    def __dir__(self):
        hidden = () if self.train_teacher else ("teacher",)
        return [name for name in super().__dir__() if name not in hidden]

    def save_assets(self, dir_path):
        if not self.train_teacher:
            self.teacher.save_weights(os.path.join(dir_path, "teacher.weights.h5"))

    def load_assets(self, dir_path):
        if not self.train_teacher:
            self.teacher.load_weights(os.path.join(dir_path, "teacher.weights.h5"))

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "student": serialize(self.student),
            "teacher": serialize(self.teacher),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "terms": [serialize(term) for term in self.terms],
            "perturbation": serialize(self.perturbation),
            "teacher_view": self.teacher_view,
            "train_teacher": self.train_teacher,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


def _dtype_policy(student):
    """The student's policy; float16 anywhere in it needs the optimizer's loss scaling."""
    for layer in student._flatten_layers():
        if layer.dtype_policy.name == "mixed_float16":
            return "mixed_float16"
    return student.dtype_policy
