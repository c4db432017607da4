"""Models that end in softmax, and the same models without it."""

import keras

# Keras exports no public name for models that are graphs of layers.
from keras.src.models.functional import Functional

# Names of functions, those of Keras and TensorFlow: tf.nn.softmax calls itself softmax_v2.
ACTIVATIONS = {"softmax": "softmax", "softmax_v2": "softmax", "sigmoid": "sigmoid"}


def final_softmax(model):
    """Whether a model ends in softmax, so that its outputs are probabilities.

    Found in a `Softmax` layer, `Activation("softmax")`, the `activation` of any last layer, and
    `keras.ops.softmax`; in nested models too. With several outputs, one is enough. A subclassed
    model has no graph to look at: False.

    Args:
        model: A `keras.Model`.

    Returns:
        True or False.

    Example:

    >>> final_softmax(keras.applications.MobileNetV2())
    True
    """
    return is_graph(model) and any(_activation(last) == "softmax" for last in _last(model))


def logits(model):
    """The same network without its final softmax: `softmax(logits(model)(x)) == model(x)`.

    Args:
        model: A `keras.Model` that is a graph: Functional or Sequential, with models nested in it
            or not. It is left as it is.

    Returns:
        `model` itself if it does not end in softmax; else a copy, uncompiled, with weights of its
        own and of equal values.

    Raises:
        ValueError: If the model ends in sigmoid, or is subclassed and has no graph to change.

    Example:

    >>> teacher = keras.applications.MobileNetV2()  # ends in softmax
    >>> d = kdkeras.Distiller(student=student, teacher=logits(teacher))
    """
    if not is_graph(model):
        raise ValueError(
            "`model` must be a Functional or Sequential model. "
            f"Received: model={model!r} of type {type(model).__name__}, whose last step cannot be "
            "seen. Let its `call` return logits; if it already does, use the model as it is."
        )
    activations = {id(last): _activation(last) for last in _last(model)}
    if "sigmoid" in activations.values():
        raise ValueError(
            "`model` must end in logits or in softmax over at least two classes. "
            f"Received: model={model.name!r}, which ends in sigmoid. "
            "Rebuild it with two logits for a binary problem."
        )
    if "softmax" not in activations.values():
        return model

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.Activation):
            kwargs.pop("mask", None)  # which Softmax takes and Activation does not
        return layer(*args, **kwargs)

    def without_softmax(layer):
        if is_graph(layer):
            # Keras 3.12 forgets `recursive` in a nested model, and asks for the models in it here.
            return keras.models.clone_model(
                layer,
                clone_function=without_softmax,
                call_function=None if isinstance(layer, keras.Sequential) else call,
                recursive=True,
            )
        if activations.get(id(layer)) != "softmax":
            return type(layer).from_config(layer.get_config())
        if _is_softmax(layer):
            # A linear layer in its place also keeps the softmax's dtype, often float32 in a half-
            # precision model.
            dtype = layer.dtype_policy if isinstance(layer, keras.Layer) else layer.output.dtype
            return keras.layers.Activation("linear", dtype=dtype, name=layer.name)
        return type(layer).from_config(layer.get_config() | {"activation": "linear"})

    if not model.built:
        return keras.models.clone_model(model, clone_function=without_softmax, recursive=True)

    # A second view of the graph, since cloning a compiled model would compile the copy too, with a
    # loss on probabilities.
    view = keras.Model(input_of(model), output_of(model), name=model.name)
    copy = keras.models.clone_model(
        view, clone_function=without_softmax, call_function=call, recursive=True
    )
    copy.set_weights(model.get_weights())
    return copy


def check_logits(role, model):
    """Refuses a model that ends in softmax, named in the message by its role."""
    if final_softmax(model):
        raise ValueError(
            f"`{role}` must give logits. Received: model '{model.name}', which ends in softmax. "
            f"Use kdkeras.models.logits({role}), the same network without it."
        )


def is_graph(model):
    """Whether a model is a graph of layers, Functional or Sequential."""
    return isinstance(model, (Functional, keras.Sequential))


def is_built_graph(model):
    """Whether a model is a graph of layers whose shapes are known."""
    return is_graph(model) and model.built


def input_behind(tensor):
    """The first tensor that the operation behind a graph's tensor was called on, in that graph."""
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors[0]


def input_of(model):
    """A graph's inputs, in the structure that it takes them in."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def inputs_by_name(struct):
    """A graph's inputs as a dict; where they are none, by the names of the tensors."""
    return struct if isinstance(struct, dict) else {x.name: x for x in keras.tree.flatten(struct)}


def same_but_for_size(shape, other):
    """Whether two shapes are equal as far as known; of images height and width may differ."""
    if len(shape) == len(other) == 4:
        shape, other = shape[-1:], other[-1:]
    pairs = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def output_of(model):
    """A graph's outputs, in the structure that it gives them in."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def _last(model):
    """The operations that compute a model's outputs; where that is a nested model, its own."""
    if isinstance(model, keras.Sequential):
        last = model.layers[-1:]
    else:
        last = [output._keras_history.operation for output in model.outputs]
    for operation in last:
        if is_graph(operation):
            yield from _last(operation)
        else:
            yield operation


def _activation(operation):
    """What an operation ends in: softmax, sigmoid, or None for anything else."""
    if _is_softmax(operation):
        return "softmax"
    if type(operation).__name__ == "Sigmoid":
        return "sigmoid"
    # Any layer may have an `activation`, custom ones included; no base class says which.
    return _named(getattr(operation, "activation", None))


def _is_softmax(operation):
    """Whether an operation is softmax and nothing else: layer, activation layer or function."""
    if isinstance(operation, keras.layers.Activation):
        return _named(operation.activation) == "softmax"
    # keras.ops.softmax leaves a node of a class that Keras does not export.
    return type(operation).__name__ == "Softmax"


def _named(function):
    """The activation that a function is, by its name: softmax, sigmoid, or None."""
    return ACTIVATIONS.get(getattr(function, "__name__", None))
