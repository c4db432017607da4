"""How large a model is, and what one example costs."""

import math

import keras

from kdkeras.models import surgery

CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def macs(model):
    """Multiply-accumulates of one example in convolutions and dense layers; half its FLOPs.

    A convolution costs `output pixels * kernel size * input channels / groups * filters`, a dense
    layer `inputs * units`. Layers that are called twice count twice; nested models count.
    Everything else (BatchNormalization, activations, attention) is not counted.

    Args:
        model: A Functional or Sequential model with a fixed input shape.

    Returns:
        A non-negative integer.

    Raises:
        ValueError: If the model is subclassed or not built, or its input shape is not fixed.

    Example:

    >>> macs(resnet(20, input_shape=(32, 32, 3), num_classes=10))
    40551040

    Reference: He et al. 2016, https://arxiv.org/abs/1512.03385, where they are called FLOPs.
    """
    if not surgery.is_built_graph(model):
        raise ValueError(
            "`model` must be a Functional model, or a Sequential model that is built. "
            f"Received: model={model!r} of type {type(model).__name__}. "
            "Begin a Sequential model with `keras.Input`."
        )
    if any(None in tensor.shape[1:] for tensor in model.inputs):
        raise ValueError(
            "`model` must have a fixed input shape, apart from the batch size. "
            f"Received: model={model.name!r} with inputs of shape "
            f"{[tensor.shape for tensor in model.inputs]}. Rebuild it with all sizes given."
        )
    return sum(_call_macs(node) for node in _nodes(model))


def describe(model):
    """One line on a model's size, such as `resnet20: 0.27 M parameters, 40.6 MMAC for 32x32x3`.

    Parameters are all that the model saves, the moving statistics of BatchNormalization included.

    Args:
        model: A built `keras.Model`. Without a graph or a fixed input shape, the line ends after
            the parameters.

    Returns:
        A string without a newline.

    Example:

    >>> print(describe(student))
    mobilenet_v2: 0.42 M parameters, 15.6 MMAC for 32x32x3
    """
    line = f"{model.name}: {_millions(model.count_params(), 2)} M parameters"
    try:
        cost = macs(model)
    except ValueError:
        return line
    shapes = ("x".join(map(str, tensor.shape[1:])) for tensor in model.inputs)
    return f"{line}, {_millions(cost, 1)} MMAC for {' and '.join(shapes)}"


def _millions(count, digits):
    """In millions, with `digits` after the point; small numbers with two significant ones."""
    millions = count / 1e6
    return f"{millions:.{digits}f}" if millions >= 10**-digits else f"{millions:.2g}"


def _nodes(model):
    """Each call of a layer in the model's graph, once."""
    seen, pending = {}, list(model.outputs)
    ends = {id(tensor) for tensor in model.inputs}
    while pending:
        tensor = pending.pop()
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(tensor) not in ends and id(node) not in seen:
            seen[id(node)] = node
            pending.extend(node.input_tensors)
    return seen.values()


def _call_macs(node):
    layer, x, y = node.operation, node.input_tensors, node.output_tensors
    if surgery.is_graph(layer):
        if any(None in tensor.shape[1:] for tensor in layer.inputs):
            # A backbone declared for any size has its shapes only in this call.
            inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in x]
            layer = keras.models.clone_model(
                layer, input_tensors=keras.tree.pack_sequence_as(layer.input, inputs)
            )
        return macs(layer)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(y[0].shape[1:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, CONVOLUTIONS):
        return _positions(y[0], layer) * math.prod(layer.kernel.shape)
    if isinstance(layer, TRANSPOSED):
        return _positions(x[0], layer) * math.prod(layer.kernel.shape)
    if isinstance(layer, SEPARABLE):
        kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return _positions(y[0], layer) * kernels
    return 0


def _positions(tensor, layer):
    """Number of pixels of a feature map."""
    channels_last = layer.data_format == "channels_last"
    return math.prod(tensor.shape[1:-1] if channels_last else tensor.shape[2:])
