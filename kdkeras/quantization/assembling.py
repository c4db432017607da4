"""Steps as Keras layers again, with weights of their own."""

import math

import keras

from kdkeras.quantization import graph, layers, pixels, supported

# What a layer was built with for training it unfolded.
UNTAKEN = ("regularizer", "constraint")


def assembled(order, last, image, *, mark, rounds):
    """The output of a model's steps, each with a new layer.

    Args:
        order: List of `graph.Step`.
        last: The one that gives the output.
        image: `keras.KerasTensor`, the input.
        mark: A function of a step that makes numbers, of its output and, with `rounds`, of what
            that is made of. It gives a tuple: the output to go on with and, with `rounds`, the
            distance between two values of it.
        rounds: Whether layers with a kernel are those that round it.

    Returns:
        `keras.KerasTensor`.
    """
    values = {}
    for step in order:
        given = [values[x] for x in step.inputs]
        if step.kind == graph.INPUT:
            values[step] = mark(step, image, ())
        elif step.kind == graph.PART:
            outputs, *width = given[0]
            values[step] = (outputs[step.part], *width)
        elif step.kind == graph.MOVE:
            _, *width = given[0]
            values[step] = (_called(_again(step), given), *width)
        elif step.kind == graph.PIXELS and rounds:
            values[step] = _rescaling(step)(given[0][0])
        else:
            values[step] = mark(step, *_output(step, given, rounds))
    return values[last][0]


def _output(step, given, rounds):
    """A step's output and, with `rounds`, what it is made of, as `FakeQuantize` takes it."""
    if step.kind == graph.KERNEL:
        layer = _with_kernel(step, rounds)
        output = layer(*given[0])
        layer.set_weights(step.weights)
        return (output[0], output[1:]) if rounds else (output, ())
    if step.kind == graph.ACTIVATION:
        return _relu(step)(given[0][0]), ()
    output = _called(_again(step), given)
    if not rounds:
        parts = ()
    elif len(given) == 2:
        parts = (*given[0], *given[1])
    else:
        tensor, width = given[0]
        parts = (width / math.prod(tensor.shape[1:3]),)
    if step.activation is None:
        return output, parts
    # A sum is rounded from its parts only where that cuts off what the activation does.
    return _relu(step)(output), parts if step.activation == "relu" and step.alone else ()


def _rescaling(step):
    layer = step.operation
    return layers.QuantizedRescaling(**pixels.settings(layer.scale, layer.offset), name=step.name)


def _called(operation, given):
    """Called on a tensor, or on a list of several."""
    tensors = [tensor for tensor, *_ in given]
    return operation(tensors if len(tensors) > 1 else tensors[0])


def _again(step):
    return type(step.operation).from_config({**step.operation.get_config(), "name": step.name})


def _with_kernel(step, rounds):
    kind = type(step.operation)
    config = {
        name: None if name.endswith(UNTAKEN) else value
        for name, value in step.operation.get_config().items()
    }
    config |= {"name": step.name, "activation": step.activation, "use_bias": True}
    return (supported.KERNELS[kind] if rounds else kind).from_config(config)


def _relu(step):
    _, name, _ = graph.step_names(step.name)
    return keras.layers.ReLU(6.0 if step.activation == "relu6" else None, name=name)
