"""Which layers have an int8 counterpart that rounds as the fake quantisers do."""

import keras

from kdkeras.models import surgery
from kdkeras.quantization import layers

KERNELS = {
    keras.layers.Conv2D: layers.QuantizedConv2D,
    keras.layers.DepthwiseConv2D: layers.QuantizedDepthwiseConv2D,
    keras.layers.Dense: layers.QuantizedDense,
}
# These give numbers that their inputs do not hold.
MIXING = (keras.layers.Add, keras.layers.GlobalAveragePooling2D)
# These move numbers about, or leave some out.
MOVING = (
    keras.layers.Concatenate,
    keras.layers.Flatten,
    keras.layers.MaxPooling2D,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.ZeroPadding2D,
)
OTHERS = (
    keras.layers.Activation,
    keras.layers.AveragePooling2D,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
)
# These do nothing at inference.
DROPPED = (
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.SpatialDropout2D,
)
# keras.ops.split and keras.ops.pad leave operations of classes that Keras does not export.
SPLIT, PAD = "Split", "Pad"
USUAL = {"data_format": "channels_last", "groups": 1, "depth_multiplier": 1}
RELUS = {None: "relu", 6.0: "relu6"}


def check(model):
    """ValueError unless each layer of a model can be quantised; it names all that cannot."""
    if len(model.inputs[0].shape) != 4 or len(model.outputs[0].shape) != 2:
        raise ValueError(
            "`student` must be a model from images (batch, height, width, channels) to logits "
            f"(batch, classes). Received: '{model.name}', from {model.inputs[0].shape} to "
            f"{model.outputs[0].shape}."
        )
    objections = {operation: _objection(operation) for operation in _operations(model)}
    refused = [
        f"'{operation.name}' ({', '.join([type(operation).__name__, *why])})"
        for operation, why in objections.items()
        if why is not None
    ]
    if refused:
        names = sorted(kind.__name__ for kind in (*KERNELS, *MIXING, *MOVING, *OTHERS))
        raise ValueError(
            f"`student` has layers that cannot be trained for int8: {', '.join(refused)}. "
            f"Supported are {', '.join(names)} with relu, relu6 or no activation, keras.ops.split, "
            "keras.ops.pad, and what does nothing at inference. Replace the others, or quantise "
            "after training, which takes every layer: kdkeras export --precision=int8."
        )


def check_single_uses(operations):
    """ValueError if a layer with a kernel is called more than once."""
    twice = sorted({layer.name for layer in operations if operations.count(layer) > 1})
    if twice:
        raise ValueError(
            "`student` must call a layer that has a kernel once: each place has a range of its "
            f"own. Received: {', '.join(map(repr, twice))}, called more than once. Use layers of "
            "their own, or quantise after training: kdkeras export --precision=int8."
        )


def check_images(batchnorm):
    """ValueError unless a BatchNormalization that nothing absorbs is of feature maps."""
    if len(input_shape(batchnorm)) != 4:
        raise ValueError(
            "`student` must have a Dense layer without activation before BatchNormalization of "
            f"vectors. Received: '{batchnorm.name}', which has none, or one whose output also goes "
            "elsewhere. Put it before the activation, or quantise after training: kdkeras export "
            "--precision=int8."
        )


def input_shape(operation):
    """The shape of what an operation is first called on."""
    return operation._inbound_nodes[0].input_tensors[0].shape


def activation(operation):
    """The activation in which a layer ends, by its name, or None."""
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return RELUS.get(operation.max_value, "clipped") if plain else "leaky or shifted"
    if type(operation) not in (*KERNELS, keras.layers.Activation):
        return None
    name = operation.activation.__name__
    return None if name == "linear" else name


def is_activation(operation):
    """Whether an operation is an activation and nothing else."""
    return isinstance(operation, (keras.layers.Activation, keras.layers.ReLU))


def is_dropped(operation):
    """Whether an operation does nothing at inference."""
    linear = is_activation(operation) and activation(operation) is None
    return linear or isinstance(operation, DROPPED)


def is_split(operation):
    """Whether an operation is `keras.ops.split`."""
    return type(operation).__name__ == SPLIT


def parts(split):
    """The number of outputs of `keras.ops.split`."""
    given = split.indices_or_sections
    return given if isinstance(given, int) else len(given) + 1


def check_rescaling(layer, follows_input):
    """ValueError unless what a Rescaling layer rescales are the pixels."""
    if not follows_input:
        raise ValueError(
            "`student` must rescale nothing but its input. Received: "
            f"'{layer.name}' (Rescaling), which is called on something else. Fold its numbers into "
            "the layer before it, or quantise after training: kdkeras export --precision=int8."
        )


def depthwise_for(layer):
    """The depthwise convolution that can do what a BatchNormalization or AveragePooling2D does."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return keras.layers.DepthwiseConv2D(1, name=layer.name)
    return keras.layers.DepthwiseConv2D(layer.pool_size, strides=layer.strides, name=layer.name)


def _operations(model):
    view = keras.Model(surgery.input_of(model), surgery.output_of(model))
    for operation in view.operations:
        if surgery.is_graph(operation):
            yield from _operations(operation)
        else:
            yield operation


def _objection(operation):
    """Why an operation cannot be quantised: a list of reasons, empty if it is of an unknown kind.

    None if it can.
    """
    if is_dropped(operation) or is_split(operation):
        return None
    if type(operation).__name__ == PAD:
        return None if operation.mode == "constant" else [f"mode {operation.mode}"]
    if type(operation) not in (*KERNELS, *MIXING, *MOVING, *OTHERS):
        return []
    config = operation.get_config()
    unusual = [
        f"{name} {config[name]}"
        for name, usual in USUAL.items()
        if name in config and config[name] != usual
    ]
    if activation(operation) not in (None, *RELUS.values()):
        unusual.append(f"activation {activation(operation)}")
    inputs, rank = operation._inbound_nodes[0].input_tensors, len(input_shape(operation))
    if isinstance(operation, keras.layers.AveragePooling2D) and operation.padding != "valid":
        unusual.append(f"padding {operation.padding}")
    if isinstance(operation, keras.layers.BatchNormalization) and operation.axis not in (
        -1,
        rank - 1,
    ):
        unusual.append(f"axis {operation.axis}")
    if isinstance(operation, keras.layers.Dense) and rank != 2:
        unusual.append(f"input of {rank} dimensions")
    if isinstance(operation, keras.layers.Add) and len(inputs) != 2:
        unusual.append(f"{len(inputs)} inputs")
    return unusual or None
