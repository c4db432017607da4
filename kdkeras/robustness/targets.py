"""What can be attacked: models and model files, and where their gradients come from."""

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kdkeras import files, inference, runtimes
from kdkeras.cache import identity
from kdkeras.models import surgery


@dataclasses.dataclass(frozen=True)
class Target:
    """A model under attack.

    Attributes:
        name: What reports call it.
        network: `(x, training=False) -> float32 logits`, differentiable: what attacks look at. Of
            a model in half precision, its float32 copy.
        logits: From an array of images to a float32 array of logits: what decides.
        input_shape: Of one image; None where it is not known.
        surrogate: Name of the model that attacks are made on, where that is another one; or None.
        digest: Function without arguments: plain JSON that tells it from other models.
    """

    name: str
    network: Callable
    logits: Callable
    input_shape: tuple | None
    surrogate: str | None
    digest: Callable


def opened(model, surrogate=None):
    """The `Target` that a model or a file is.

    Args:
        model: `keras.Model` with logits, or the path of a `.keras` file, a SavedModel folder or a
            `.tflite` file.
        surrogate: Of a `.tflite` file: a model to make the attacks on, given like `model`.

    Raises:
        ValueError: It cannot be read, ends in softmax, or needs a surrogate or has no use for one.
    """
    if isinstance(model, keras.Model):
        _refuse_surrogate(model.name, surrogate)
        return _in_full_precision(of_keras(model, model.name), model)
    if not isinstance(model, (str, pathlib.Path)):
        raise ValueError(
            "`model` must be a `keras.Model`, or the path of a .keras file, a SavedModel folder or "
            f"a .tflite file. Received: {type(model).__name__}"
        )
    loaded = runtimes.load(model)
    if not loaded.differentiable:
        return _by_transfer(loaded, pathlib.Path(model), surrogate)
    _refuse_surrogate(model, surrogate)
    if isinstance(loaded, runtimes.KerasModel):
        return _in_full_precision(of_keras(loaded.model, str(model)), loaded.model)
    return _of_function(
        lambda x: loaded.logits(x),  # not the endpoint itself: the variables are the object's
        str(model),
        loaded.input_shape,
        lambda: {"files": files.digest(model)},
    )


def of_keras(model, name):
    """The `Target` that a model with logits is; its gradients are in the model's own precision."""
    surgery.check_logits("model", model)

    def digest():
        if not surgery.is_graph(model):
            raise ValueError(
                "A report in a folder needs a Functional or Sequential model, so that it can be "
                f"recognised. Received: {type(model).__name__}. Leave `path` out."
            )
        found = identity.of_teacher(model)
        return {"architecture": found["architecture"], "weights": found["weights"]}

    shape = None
    if surgery.is_built_graph(model):
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(
                "`model` must have one input and one output. Received: "
                f"'{name}' with {len(model.inputs)} and {len(model.outputs)}"
            )
        shape = tuple(model.inputs[0].shape[1:])
    return _of_function(lambda x: model(x, training=False), name, shape, digest)


def _in_full_precision(target, model):
    """The target with gradients of a float32 copy: float16 loses those of confident answers."""
    if not surgery.is_graph(model) or "float16" not in str(model.get_config()):
        return target
    copy = inference.clone(model)
    return dataclasses.replace(target, network=_network(lambda x: copy(x, training=False)))


def _network(function):
    def network(x, training=False):
        return tf.cast(function(x), tf.float32)

    return network


def _of_function(function, name, input_shape, digest):
    network = _network(function)

    def logits(images):
        return network(tf.constant(images, tf.float32)).numpy()

    return Target(name, network, logits, input_shape, None, digest)


def _by_transfer(loaded, path, surrogate):
    if surrogate is None:
        raise ValueError(
            f"'{path}' has no gradients: such a file is attacked by transfer, with pictures made "
            "on another model. Give `surrogate`, best the .keras file that it was exported from. "
            "Received: surrogate=None"
        )
    if pathlib.Path(str(surrogate)).suffix == ".tflite":
        raise ValueError(
            f"`surrogate` must have gradients: a .keras file. Received: surrogate='{surrogate}'"
        )
    stand_in = opened(surrogate)
    if stand_in.input_shape not in (None, loaded.input_shape):
        raise ValueError(
            f"`surrogate` must take images of shape {loaded.input_shape}, as '{path}' does. "
            f"Received: surrogate='{stand_in.name}', which takes {stand_in.input_shape}"
        )
    return dataclasses.replace(
        stand_in,
        name=str(path),
        logits=loaded,
        input_shape=loaded.input_shape,
        surrogate=stand_in.name,
        digest=lambda: {"file": files.digest(path), "surrogate": stand_in.digest()},
    )


def _refuse_surrogate(name, surrogate):
    if surrogate is not None:
        raise ValueError(
            f"`surrogate` is for .tflite files. '{name}' has gradients of its own, and attacks on "
            f"them are stronger: leave it out. Received: surrogate={surrogate!r}"
        )


def classes_of(logits):
    """The top class of each row; -1 where a logit is not finite, which is no class."""
    return np.where(np.isfinite(logits).all(axis=-1), np.argmax(logits, axis=-1), -1)
