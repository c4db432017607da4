"""Teachers that are more, or less, than one model: ensembles, one a head, predictions alone."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kdkeras import adapters, arguments
from kdkeras.models import surgery

__all__ = ["Predictions", "ensemble", "one_a_head"]

# The smallest probability that a private teacher's rounded answers are taken for.
TINY = 1e-7


@keras.saving.register_keras_serializable("kdkeras")
class MeanProbabilities(keras.layers.Layer):
    """The logarithm of the weighted mean of several models' class probabilities.

    `log sum_i w_i softmax(z_i)`, with the weights divided by their sum; computed in log space.

    Args:
        weights: Positive numbers, one a model; equal unless given.
        name: The layer's name.

    Call arguments:
        logits: List of tensors of shape `(batch, num_classes)`.

    Returns:
        float32 logits of shape `(batch, num_classes)`, whose softmax is the mean.

    Example:

    >>> kdkeras.teachers.MeanProbabilities()([[[0.0, 0.0]], [[0.0, 100.0]]])
    [[-1.3863, -0.2877]]
    """

    def __init__(self, weights=None, name=None):
        super().__init__(name=name, dtype="float32")
        self.weights_given = None if weights is None else [float(weight) for weight in weights]

    def call(self, logits):
        weights = np.array(self.weights_given or [1.0] * len(logits))
        log_weights = np.log(weights / weights.sum()).astype("float32")
        parts = [
            ops.log_softmax(ops.cast(z, "float32"), axis=-1) + log_weight
            for z, log_weight in zip(logits, log_weights, strict=True)
        ]
        return ops.logsumexp(ops.stack(parts), axis=0)

    def get_config(self):
        return {"weights": self.weights_given, "name": self.name}


def ensemble(models, weights=None, name="ensemble"):
    """Several teachers as one: a model whose probabilities are the mean of theirs.

    Probabilities are averaged, at temperature 1; never logits, whose scale differs from model to
    model. A loss applies its temperature to the logarithm of the mean.

    Args:
        models: List of `keras.Model`s with logits for the same classes, of the same images; their
            input sizes may differ, the largest counts and is resized for the others.
        weights: Positive numbers, one a model; equal unless given.
        name: The model's name.

    Returns:
        A `keras.Model` that shares the models' layers. For terms of inner layers their paths begin
        with "teacher_1/", "teacher_2/" and so on.

    Raises:
        ValueError: Fewer than one model, a number of weights that does not fit, or models that do
            not fit one another.

    Example:

    >>> teacher = kdkeras.teachers.ensemble([resnet, densenet], weights=[2.0, 1.0])

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015, section 2, with the arithmetic mean.
    """
    models = list(models)
    if weights is not None:
        weights = [arguments.positive("weights", weight) for weight in weights]
        if len(weights) != len(models):
            raise ValueError(
                "`weights` must hold one number a model. Received: "
                f"{len(weights)} weights for {len(models)} models."
            )
    names = [f"teacher_{i}" for i in range(1, len(models) + 1)]
    inputs, logits = _side_by_side(dict(zip(names, models, strict=True)))
    classes = [z.shape[-1] for z in logits]
    if len(set(classes)) > 1:
        raise ValueError(
            "Teachers whose probabilities are averaged must have the same number of classes. "
            f"Received: {classes}"
        )
    return keras.Model(inputs, MeanProbabilities(weights, name="logits")(logits), name=name)


def one_a_head(models, name="teachers"):
    """One teacher for each output of a student with several: a model with a dict of logits.

    Args:
        models: Dict from the name of a student's output to the `keras.Model` that teaches it, or
            to a list of them, whose probabilities are averaged.
        name: The model's name.

    Returns:
        A `keras.Model` that shares the models' layers, with outputs `{name: logits}`. For terms of
        inner layers their paths begin with "teacher_<name>/".

    Raises:
        ValueError: The models do not take the same inputs.

    Example:

    >>> teacher = kdkeras.teachers.one_a_head({"shape": shape_net, "color": color_net})
    """
    models = {
        head: ensemble(m) if isinstance(m, (list, tuple)) else m for head, m in models.items()
    }
    inputs, logits = _side_by_side({f"teacher_{head}": model for head, model in models.items()})
    return keras.Model(inputs, dict(zip(models, logits, strict=True)), name=name)


class Predictions:
    """A teacher known by its predictions alone: a function, in Python, of a batch of inputs.

    Its weights need not be here, nor anything but its answers: another framework's model, a
    `.tflite` file, a service. It cannot be saved: a loaded Distiller has no teacher. To go on with
    the function, make a new one: `Distiller(student=loaded.student, teacher=function)`.

    Args:
        function: From a float32 NumPy array of shape `(batch, ...)` to logits of shape `(batch,
            num_classes)`. Of probabilities, give the logarithm.
        num_classes: The number of classes.

    Raises:
        ValueError: When called: what the function gives is not of that shape or not finite.

    Example:

    >>> teacher = kdkeras.teachers.Predictions(kdkeras.runtimes.load("net.tflite"), 10)
    """

    def __init__(self, function, num_classes):
        self.function = function
        self.num_classes = num_classes

    def __call__(self, x, training=False):
        del training
        logits = tf.numpy_function(self._checked, [ops.cast(x, "float32")], tf.float32)
        return ops.reshape(logits, (-1, self.num_classes))

    def _checked(self, x):
        logits = np.asarray(self.function(x), "float32")
        if logits.shape != (len(x), self.num_classes) or not np.isfinite(logits).all():
            # Marked as `kdkeras.inputs.clear_errors` finds it, behind what TensorFlow adds.
            raise ValueError(
                "[kdkeras: A teacher's function must give finite logits of shape "
                f"{(len(x), self.num_classes)}. Received: shape {logits.shape}, finite: "
                f"{bool(np.isfinite(logits).all())}]"
            )
        return logits


def as_teacher(given, heads):
    """The teacher that a Distiller's argument stands for.

    Args:
        given: A `keras.Model`, `Predictions` or None, which stay as they are; a list of models
            (`ensemble`); a dict of models by output (`heads`); or a function (`Predictions`).
        heads: The student's numbers of classes by output.

    Raises:
        ValueError: It is none of these.
    """
    if given is None or isinstance(given, (keras.Model, Predictions)):
        return given
    if isinstance(given, (list, tuple)):
        return ensemble(given)
    if isinstance(given, dict):
        return one_a_head(given)
    if not callable(given) or isinstance(given, type):
        raise ValueError(
            "`teacher` must be a `keras.Model`, a list of them, a dict of them by output, a "
            f"function from a batch to logits, or None. Received: teacher={given!r}"
        )
    if heads.get(None) is None:
        raise ValueError(
            "A function teaches a student of one output whose number of classes is known; use "
            f"kdkeras.teachers.Predictions(function, num_classes). Received: outputs {heads}"
        )
    return Predictions(given, heads[None])


def logits_of_probabilities(probabilities):
    """Logits of recorded probabilities: their logarithm, those below 1e-7 taken for 1e-7.

    Args:
        probabilities: Tensor of shape `(batch, num_classes)`.
    """
    return ops.log(ops.maximum(ops.cast(probabilities, "float32"), TINY))


def _side_by_side(models):
    """New inputs, and the outputs on them of each model, renamed by its key."""
    if not models:
        raise ValueError("At least one teacher is needed. Received: none.")
    for name, model in models.items():
        if not surgery.is_built_graph(model):
            raise ValueError(
                "Teachers that are put together must be Functional or Sequential models, built. "
                f"Received: {name}={model!r}"
            )
        if len(model.outputs) > 1:
            raise ValueError(
                "Teachers that are put together must have one output each. Received: "
                f"{name}='{model.name}' with {len(model.outputs)}"
            )
        surgery.check_logits("teacher", model)
    structs = {name: surgery.input_of(model) for name, model in models.items()}
    if all(isinstance(struct, keras.KerasTensor) for struct in structs.values()):
        # Alone, an input need not be called the same in all of them.
        structs = {name: {"": struct} for name, struct in structs.items()}
    inputs = _union(structs)
    outputs = []
    for name, model in models.items():
        given = {
            key: _fitted(inputs[key], wanted, name)
            for key, wanted in surgery.inputs_by_name(structs[name]).items()
        }
        # Shares the layers under a name of its own; two teachers may be called the same.
        renamed = keras.Model(surgery.input_of(model), model.outputs[0], name=name)
        single = isinstance(surgery.input_of(model), keras.KerasTensor)
        outputs.append(renamed(next(iter(given.values())) if single else given))
    return inputs.get("", inputs), outputs


def _union(structs):
    """New inputs for all that models take, by name; of images that differ in size the largest."""
    largest = {}
    for struct in structs.values():
        for key, wanted in surgery.inputs_by_name(struct).items():
            known = largest.setdefault(key, wanted)
            if not surgery.same_but_for_size(known.shape, wanted.shape):
                raise ValueError(
                    "Teachers that are put together must take the same inputs (images may differ "
                    "in height and width); inputs that differ must be told apart by name, "
                    f"keras.Model({{'image': ..., 'text': ...}}, logits). Received: shapes "
                    f"{known.shape} and {wanted.shape}"
                )
            if _pixels(wanted.shape) > _pixels(known.shape):
                largest[key] = wanted
    return {
        key: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=key or x.name)
        for key, x in largest.items()
    }


def _fitted(x, wanted, name):
    if 0 in (_pixels(x.shape), _pixels(wanted.shape)) or x.shape[1:3] == wanted.shape[1:3]:
        return x
    return adapters.Resize(wanted.shape[1:3], name=f"{name}_size")(x)


def _pixels(shape):
    """How many pixels an image has; 0 for anything else, or where the size is free."""
    return shape[1] * shape[2] if len(shape) == 4 and None not in shape[1:3] else 0
