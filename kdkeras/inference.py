"""The model that is deployed: a student's float32 copy, without what is only there for training."""

import pathlib

import keras

from kdkeras import archives, distiller, intact, models
from kdkeras.models import surgery

# Layers of Keras that change images at random; RandomCrop is none: at inference it crops evenly.
MIXING = ("AugMix", "CutMix", "MixUp", "RandAugment")
KEPT = ("RandomCrop",)


def student(given):
    """The student of a `Distiller`, of a `.keras` file, or a student itself.

    Args:
        given: A `keras.Model`, a `kdkeras.Distiller`, or the path of a `.keras` file of either.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: It is nothing of that kind, or the file cannot be read or holds code.
    """
    if isinstance(given, (str, pathlib.Path)):
        given = _loaded(pathlib.Path(given))
    if isinstance(given, distiller.Distiller):
        given = given.student
    if not isinstance(given, keras.Model):
        raise ValueError(
            "`student` must be a `keras.Model`, a `Distiller`, or the path of a .keras file. "
            f"Received: student={given!r}"
        )
    return given


def clone(given):
    """A student's float32 copy for deployment, with the same weights; the student stays as it is.

    Every layer is under the float32 policy, whatever the student's; augmentation layers (Random...,
    MixUp and their like) are taken out, and so is a final softmax.

    Args:
        given: As for `student`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: It is not built, no graph of layers, has several inputs or outputs, or a layer
            that cannot be made again from its configuration.

    Example:

    >>> clone(distiller).dtype_policy.name
    'float32'
    """
    model = student(given)
    _check(model)
    # A final softmax first: what it is found by is no longer there in a copy of other precision.
    model = models.logits(model)
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    try:
        copy = keras.saving.deserialize_keras_object(_for_inference(config))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`student` '{model.name}' cannot be copied: one of its layers cannot be made again "
            "from its configuration. Give its class a `get_config` and the decorator "
            f"`keras.saving.register_keras_serializable()`. Keras says: {_short(error)}"
        ) from error
    copy.set_weights(model.get_weights())
    return copy


def _check_output(model):
    shape = tuple(model.outputs[0].shape)
    if len(shape) != 2 or shape[-1] is None or shape[-1] < 2:
        raise ValueError(
            "`student` must give one number for each of at least two classes. Received: "
            f"'{model.name}' with output shape {shape}. Rebuild it with two logits for a binary "
            "problem."
        )


def image_shape(model):
    """The shape of one image that a model of one input takes.

    Raises:
        ValueError: It takes images of any size.
    """
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape:
        raise ValueError(
            f"`student` must take images of a fixed size. Received: '{model.name}' with input "
            f"shape {shape}. Wrap it: `image = keras.Input((height, width, channels))`, "
            "`keras.Model(image, student(image))`."
        )
    return shape


def _loaded(path):
    if path.suffix != ".keras" or not path.exists():
        why = "which does not exist" if path.suffix == ".keras" else "which has another ending"
        raise ValueError(f"`student` must be a .keras file. Received: '{path}', {why}.")
    intact.check(path)
    return archives.model(path, "student")


def _short(error, most=200):
    """The first line of what Keras says, without the configuration that it then lists."""
    line = str(error).strip().splitlines()[0].partition("Full object config")[0]
    return line if len(line) <= most else line[:most] + " ..."


def _check(model):
    if not surgery.is_graph(model):
        raise ValueError(
            "`student` must be a Functional or Sequential model. Received: "
            f"'{model.name}' of type {type(model).__name__}. Call it on a `keras.Input` and wrap "
            "both: `keras.Model(image, student(image))`."
        )
    if not model.built:
        raise ValueError(
            f"`student` must be a built `keras.Model`. Received: '{model.name}', which is not "
            "built. Begin it with `keras.Input`."
        )
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            raise ValueError(
                f"`student` must have one {what}. Received: '{model.name}', which has "
                f"{len(tensors)}. Make a model of one: `keras.Model(inputs, one_output)`."
            )
    _check_output(model)


def _for_inference(config):
    """A serialised object in float32, with `Identity` in the place of augmentation layers."""
    if isinstance(config, list):
        return [_for_inference(value) for value in config]
    if not isinstance(config, dict):
        return config
    kind = config.get("class_name")
    if kind == "DTypePolicy":
        return {**config, "config": {"name": "float32"}}
    if config.get("module") == "keras.layers" and _augments(kind):
        config = _identity(config)
    return {key: _for_inference(value) for key, value in config.items()}


def _augments(kind):
    return kind in MIXING or (kind.startswith("Random") and kind not in KEPT)


def _identity(config):
    """An augmentation layer's serialised form, as that of the identity of the same name."""
    kept = {"name": config["config"].get("name"), "dtype": config["config"].get("dtype")}
    same = {**config, "class_name": "Identity", "config": kept, "build_config": None}
    if "inbound_nodes" in config:
        same["inbound_nodes"] = [{**node, "kwargs": {}} for node in config["inbound_nodes"]]
    return same
