"""Inner tensors of models, reached by path, in one forward with the outputs."""

import collections

import keras

from kdkeras import arguments
from kdkeras.models import surgery

__all__ = ["match_layers", "paths", "tap"]

Tapped = collections.namedtuple("Tapped", ["outputs", "features"])
Tapped.__doc__ = "A model's outputs, and a dict of its inner tensors by path."


def paths(model):
    """The paths of a model's layers, in the order of its graph.

    A layer of a nested model has the nested model's name in front: "mobilenetv2/block_12_add".

    Args:
        model: Functional or Sequential `keras.Model`, built.

    Returns:
        List of strings.

    Raises:
        ValueError: The model is subclassed or not built: it has no graph.

    Example:

    >>> kdkeras.taps.paths(kdkeras.models.mlp(input_shape=(4,), num_classes=2))
    ['dense_1', ..., 'logits']
    """
    _check_graph(model)
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if surgery.is_built_graph(layer):
            found += [f"{layer.name}/{path}" for path in paths(layer)]
        found.append(layer.name)
    return found


def tap(model, wanted):
    """The same model, sharing its layers, with inner tensors beside its outputs.

    Args:
        model: Functional or Sequential `keras.Model`, built. It is left as it is.
        wanted: Paths of layers, as `paths` lists them.

    Returns:
        A `keras.Model` from `model`'s inputs to the dict `{"outputs": what model gives, "features":
        {path: tensor}}`.

    Raises:
        ValueError: The model has no graph, a path is not in it, or a layer there is called more
            than once or gives more than one tensor.

    Example:

    >>> tapped = kdkeras.taps.tap(model, ["block_2_out"])
    >>> tapped(x)["features"]["block_2_out"].shape
    """
    known = paths(model)
    for path in wanted:
        if path not in known:
            near = arguments.near_matches(path, known)
            raise ValueError(
                f"model '{model.name}' has no layer '{path}'.{near} Its layers: {', '.join(known)}"
            )
    tapped, ambiguous = _tap(model, wanted)
    for path in wanted:
        if path in ambiguous:
            raise ValueError(
                f"layer '{path}' of model '{model.name}' is called more than once or gives several "
                "tensors. Name a layer that is called once and gives one tensor."
            )
    return tapped


def shapes(model):
    """The shapes of a model's inner tensors.

    Args:
        model: Functional or Sequential `keras.Model`, built.

    Returns:
        Dict from path to shape with the batch first, in the order of the graph. Layers that are
        called more than once, or give several tensors, are left out.

    Raises:
        ValueError: The model has no graph.

    Example:

    >>> kdkeras.taps.shapes(model)["logits"]
    (None, 10)
    """
    tapped, _ = _tap(model, paths(model))
    return {path: tuple(tensor.shape) for path, tensor in tapped.output["features"].items()}


def match_layers(teacher, student):
    """Proposes layers of teacher and student to compare: the last ones at each common stride.

    The stride of a feature map is the input's height over the map's: at equal strides both see the
    image at the same scale, however deep they are. Of all layers at a stride the last one is taken,
    for it is the deepest. Models without feature maps in common are matched at the layer in front
    of their logits.

    Args:
        teacher, student: Functional or Sequential `keras.Model`s, built, of images.

    Returns:
        List of pairs (teacher's path, student's path), from the finest map to the coarsest.

    Raises:
        ValueError: A model has no graph, or nothing can be paired.

    Example:

    >>> kdkeras.match_layers(teacher, student)
    [('stage_1_out', 'block_2_add'), ('stage_2_out', 'block_5_add')]
    """
    for model in (teacher, student):
        _check_graph(model)
    of_teacher, of_student = _stages(teacher), _stages(student)
    common = sorted(set(of_teacher) & set(of_student))
    if common:
        return [(of_teacher[stride], of_student[stride]) for stride in common]
    return [(penultimate(teacher), penultimate(student))]


def penultimate(model):
    """The path of the layer whose output the last layer turns into logits: the embedding.

    Args:
        model: Functional or Sequential `keras.Model` with one output, built.

    Returns:
        A path, as `paths` lists it.

    Raises:
        ValueError: The model has no graph, several outputs, or nothing between input and logits.

    Example:

    >>> kdkeras.taps.penultimate(kdkeras.models.resnet(20, input_shape=(32, 32, 3), num_classes=10))
    'average_pool'
    """
    _check_graph(model)
    if len(model.outputs) > 1:
        raise ValueError(
            f"model '{model.name}' has {len(model.outputs)} outputs. Name the layer to compare."
        )
    last = model.outputs[0]._keras_history.operation
    if surgery.is_graph(last) and len(last.layers) > 2:
        return f"{last.name}/{penultimate(last)}"
    before = surgery.input_behind(model.outputs[0])._keras_history.operation
    if isinstance(before, keras.layers.InputLayer) or not isinstance(before, keras.Layer):
        raise ValueError(
            f"model '{model.name}' has no layer in front of its logits. Name the layer to compare."
        )
    return before.name


def _stages(model):
    """The path of the last feature map at each stride, from the first layer with weights on."""
    height = keras.tree.flatten(model.inputs)[0].shape[1:2]
    stages, learned = {}, False
    known = shapes(model)
    for path, shape in known.items():
        layer = _layer(model, path)
        if any(inner.startswith(f"{path}/") for inner in known):
            continue  # a nested model, whose last layer has been met
        learned = (
            learned or bool(layer.weights) and not isinstance(layer, keras.layers.Normalization)
        )
        # Padding belongs to the convolution behind it.
        is_map = len(shape) == 4 and not isinstance(layer, keras.layers.ZeroPadding2D)
        if learned and is_map and None not in (*shape[1:3], *height) and min(shape[1:3]) > 1:
            stages[round(height[0] / shape[1])] = path
    return stages


def _layer(model, path):
    name, _, rest = path.partition("/")
    layer = model.get_layer(name)
    return _layer(layer, rest) if rest else layer


def _check_graph(model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"Only a `keras.Model` has layers to look into. Received: {model!r}")
    if not surgery.is_built_graph(model):
        raise ValueError(
            f"model '{model.name}' of type {type(model).__name__} has no graph of layers to look "
            "into. Build it as a Functional model, keras.Model(inputs, outputs), of the same "
            "layers; a Sequential model, call it on an example first."
        )


def _tap(model, wanted):
    """The tapped model, and the set of paths that do not lead to one tensor."""
    inside = {}
    for path in wanted:
        name, _, rest = path.partition("/")
        if rest:
            inside.setdefault(name, []).append(rest)
    views, found, ambiguous = {}, {}, set()
    for name, rest in inside.items():
        views[name], unclear = _tap(model.get_layer(name), rest)
        ambiguous |= {f"{name}/{path}" for path in unclear}

    def keep(path, tensor):
        if path in found or not isinstance(tensor, keras.KerasTensor):
            ambiguous.add(path)
        found[path] = tensor

    def call(operation, *args, **kwargs):
        outputs = operation(*args, **kwargs)
        if operation.name in views:
            for path, tensor in outputs["features"].items():
                keep(f"{operation.name}/{path}", tensor)
            outputs = outputs["outputs"]
        if operation.name in wanted:
            keep(operation.name, outputs)
        return outputs

    # Without the compile state, which cloning would copy.
    plain = keras.Model(surgery.input_of(model), surgery.output_of(model), name=model.name)
    traced = keras.models.clone_model(
        plain, clone_function=lambda layer: views.get(layer.name, layer), call_function=call
    )
    features = {path: found[path] for path in wanted if path in found and path not in ambiguous}
    outputs = {"outputs": traced.output, "features": features}
    return keras.Model(traced.input, outputs, name=model.name), ambiguous
