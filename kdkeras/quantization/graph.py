"""A model as the list of steps that its int8 file takes: nested models expanded, BatchNormalization
folded, ReLU fused into the step before it."""

import collections
import functools
import itertools
import math

import keras
import numpy as np

from kdkeras.models import surgery
from kdkeras.quantization import folding, supported

# What a step does.
INPUT = "image"
PIXELS = "rescaling"
KERNEL = "kernel"
MIX = "mix"  # gives numbers that its inputs do not hold
ACTIVATION = "activation"
MOVE = "move"  # moves numbers about, or leaves some out
PART = "part"  # is one of several outputs
BATCHNORM = "batchnorm"
FIXED = (INPUT, PIXELS)
RANGED = (KERNEL, MIX, ACTIVATION)


class Step:
    """One operation of an int8 file.

    Attributes:
        kind: What it does, one of the above.
        operation: The Keras layer or operation; None for the input, parts and some activations.
        origin: The layer of the model that it comes from, or None.
        name: A name that no other step has.
        inputs: The steps whose outputs it takes.
        weights: Of a layer with a kernel: the kernel and the bias.
        activation: "relu", "relu6" or None.
        part: Which output of the step before it this is.
        alone: Whether no other step that makes numbers has its range.
    """

    def __init__(self, kind, operation, inputs, *, weights=None, activation=None, part=None):
        self.kind, self.operation, self.inputs = kind, operation, list(inputs)
        self.origin, self.name, self.alone = operation, None, True
        self.weights, self.activation, self.part = weights, activation, part


def steps(model):
    """The steps of a model, the input first.

    Args:
        model: A float32 Functional or Sequential model of one image input and one output.

    Returns:
        List of `Step`, and the one among them that gives the output.

    Raises:
        ValueError: A layer that cannot be quantised; the message names all of them.
    """
    supported.check(model)
    found = [Step(INPUT, None, ())]
    (last,) = _walk(model, found[:1], found)
    placed = (step.origin for step in found if step.kind in (KERNEL, BATCHNORM))
    supported.check_single_uses(list(placed))
    found, last = _without(found, last, BATCHNORM, _fold)
    found, last = _without(found, last, ACTIVATION, _fuse)
    _name(found)
    return found, last


def _walk(model, inputs, found):
    """Appends a model's steps to `found`; returns those that give its outputs."""
    view = keras.Model(surgery.input_of(model), surgery.output_of(model))
    outputs = view._run_through_graph(
        inputs, operation_fn=lambda operation: functools.partial(_call, found, operation)
    )
    return keras.tree.flatten(outputs)


def _call(found, operation, *args, **kwargs):
    """The steps that give the outputs of one call of an operation."""
    inputs = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, Step)]
    if surgery.is_graph(operation):
        return _walk(operation, inputs, found)
    if supported.is_dropped(operation):
        return inputs
    kind, activation = _kind(operation), supported.activation(operation)
    added = [Step(kind, operation, inputs)]
    if kind == KERNEL:
        added[0].weights = _kernel_and_bias(operation)
    if isinstance(operation, keras.layers.AveragePooling2D):
        _as_depthwise(added[0], supported.input_shape(operation)[-1])
        added[0].weights[0] /= math.prod(operation.pool_size)
    if kind == PIXELS:
        supported.check_rescaling(operation, inputs[0].kind == INPUT)
    if supported.is_split(operation):
        added += [Step(PART, None, added[:1], part=i) for i in range(supported.parts(operation))]
    elif kind == ACTIVATION:
        added[0].activation = activation
    elif activation is not None:
        # A step of its own, fused later as all others are.
        added.append(Step(ACTIVATION, None, added[:1], activation=activation))
    found.extend(added)
    return added[1:] or added


def _kind(operation):
    if isinstance(operation, keras.layers.BatchNormalization):
        return BATCHNORM
    if isinstance(operation, keras.layers.Rescaling):
        return PIXELS
    if supported.is_activation(operation):
        return ACTIVATION
    if type(operation) in supported.KERNELS:
        return KERNEL
    return MIX if isinstance(operation, supported.MIXING) else MOVE


def _kernel_and_bias(layer):
    kernel = np.asarray(layer.kernel)
    if layer.use_bias:
        return [kernel, np.asarray(layer.bias)]
    return [kernel, np.zeros(kernel.shape[2 if _is_depthwise(layer) else -1], np.float32)]


def _is_depthwise(layer):
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _as_depthwise(step, channels):
    """Makes a step a depthwise convolution, whose kernel is ones."""
    step.kind, step.operation = KERNEL, supported.depthwise_for(step.operation)
    size = step.operation.kernel_size
    step.weights = [np.ones((*size, channels, 1), np.float32), np.zeros(channels, np.float32)]


def _without(order, last, kind, absorb):
    """The steps without those of a kind that the step before them absorbs, and the last step.

    Only a step whose output goes nowhere else absorbs: `absorb(step, before)` says whether it has.
    """
    uses = collections.Counter(x for step in order for x in step.inputs)
    uses[last] += 1
    kept, instead = [], {}
    for step in order:
        step.inputs = [instead.get(x, x) for x in step.inputs]
        if step.kind == kind:
            (before,) = step.inputs
            if absorb(step, before if uses[before] == 1 else None):
                uses[before], instead[step] = uses[step], before
                continue
        kept.append(step)
    return kept, instead.get(last, last)


def _fold(step, before):
    """Folds BatchNormalization into the kernel before it; else into one of 1 x 1 of its own."""
    absorbed = before is not None and before.kind == KERNEL
    statistics = folding.statistics(step.operation)
    if not absorbed:
        supported.check_images(step.operation)
        _as_depthwise(step, len(statistics["mean"]))
    target = before if absorbed else step
    kernel, bias = target.weights
    # A depthwise kernel has its channels third, and one number in the fourth place.
    rows = kernel[..., 0] if _is_depthwise(target.operation) else kernel
    folded, bias = folding.fold(rows, bias, **statistics)
    target.weights = [folded.reshape(kernel.shape), bias]
    return absorbed


def _fuse(step, before):
    """Has a kernel or an addition give its output through the activation behind it."""
    fuses = before is not None and before.activation is None
    fuses = fuses and (before.kind == KERNEL or isinstance(before.operation, keras.layers.Add))
    if fuses:
        before.activation = step.activation
    return fuses


def _name(order):
    """Names the steps as the layers they come from; nested models may have some in common."""
    taken = set()
    for step in order:
        base = step.kind if step.origin is None else step.origin.name
        tries = (base if i == 0 else f"{base}_{i}" for i in itertools.count())
        step.name = next(name for name in tries if taken.isdisjoint(step_names(name)))
        taken.update(step_names(step.name))


def step_names(name):
    """The names of the layers of one step: its own, its activation's and its quantiser's."""
    return name, f"{name}_relu", f"{name}_range"
