"""A student with BatchNormalization folded, and fake quantisers where its int8 file rounds."""

import keras
import numpy as np
import tensorflow as tf

from kdkeras import inference
from kdkeras.quantization import assembling, graph, layers, placing
from kdkeras.quantization import calibration as calibrating

BATCH = 32
PIXELS = (0.0, 1.0)
# Of activations that are always zero.
DEAD = (0.0, 1.0)


def aware(student, calibration, *, name=None):
    """A student that rounds as its int8 file will, to be trained further, by its teacher as before.

    BatchNormalization is folded into the layers before it (where there is none, and for average
    pooling, a depthwise convolution takes its place). Kernels are rounded to int8, with a range for
    each channel (of Dense layers: one range), biases to int32, pixels to 256 values, and all
    activations to 256 values of ranges that are trained. The weights are the student's; its
    regularizers and constraints, which were meant for kernels that are not folded, are left out.
    The ranges begin as those of the activations on `calibration`, with zero in them.

    The model rounds with the integer arithmetic of XNNPACK, which runs int8 files on phones and
    desktops: its outputs are those of the file. Other kernels round by other rules, and in deep
    networks such differences grow.

    Args:
        student: A `keras.Model` of images in [0, 1], a `kdkeras.Distiller`, or the path of a
            `.keras` file of either. A final softmax and augmentation layers are taken out.
        calibration: Float array `(images, height, width, channels)` in [0, 1] of training images,
            at least 16 (`kdkeras.quantization.calibration_images`).
        name: Name of the model. Defaults to the student's.

    Returns:
        A float32 `keras.Model` from images to logits.

    Raises:
        ValueError: Layers that cannot be quantised, calibration images that cannot be used, a
            student that is quantised already, or that `kdkeras.inference.clone` does not take.

    Example:

    >>> images = kdkeras.quantization.calibration_images(splits.train)
    >>> d = kdkeras.Distiller(student=aware(student, images), teacher=teacher)

    Reference:
        Jacob et al., [Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference](https://arxiv.org/abs/1712.05877), 2018.
    """
    model = inference.clone(student)
    if is_aware(model):
        raise ValueError(
            f"`student` must not be quantised yet. Received: '{model.name}', which is. Train it "
            "further as it is, or give the student that it was made of."
        )
    shape = inference.image_shape(model)
    order, last = graph.steps(model)
    place_of = placing.places(order)
    images = calibrating.check_calibration(calibration, shape)
    ranges = _measured(order, last, place_of, images)
    fakes = {
        place: layers.FakeQuantize(*ends, fixed=place.kind == graph.INPUT, name=_range_name(place))
        for place, ends in ranges.items()
    }
    image = keras.Input(shape, name=graph.INPUT, dtype="float32")
    output = assembling.assembled(
        order, last, image, mark=lambda step, x, parts: fakes[place_of[step]](x, parts), rounds=True
    )
    return keras.Model(image, output, name=name or model.name)


def is_aware(model):
    """Whether a model, or one nested in it, has fake quantisers.

    Args:
        model: A `keras.Model`.

    Returns:
        True or False.

    Example:

    >>> is_aware(aware(student, images))
    True
    """
    return any(
        isinstance(layer, layers.FakeQuantize)
        or (isinstance(layer, keras.Model) and is_aware(layer))
        for layer in model.layers
    )


def plain(model):
    """A quantised student in the terms that TFLite's converter knows, for export.

    Where `aware`'s model rounds sums by the integer arithmetic of a file, this one leaves it to the
    converter to find that arithmetic.

    Args:
        model: A Functional or Sequential model that `aware` made, or with one nested in it.

    Returns:
        A copy with the same weights.

    Example:

    >>> kdkeras.quantization.plain(distiller.student)
    """

    def made(layer):
        config = layer.get_config()
        if isinstance(layer, layers.FakeQuantize):
            config["plain"] = True
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=made, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _range_name(place):
    *_, name = graph.step_names(place.name)
    return name


def _measured(order, last, place_of, images):
    """The range of each place that has a quantiser: that of its numbers, with zero in it."""
    ends = {}

    def mark(step, x, _):
        if step.kind in graph.RANGED:
            axes = tuple(range(1, len(x.shape)))
            pair = (keras.ops.min(x, axis=axes), keras.ops.max(x, axis=axes))
            ends.setdefault(place_of[step], []).append(pair)
        return (x,)

    image = keras.Input(images.shape[1:], dtype="float32")
    assembling.assembled(order, last, image, mark=mark, rounds=False)
    named = {place.name: pairs for place, pairs in ends.items()}
    run = tf.function(keras.Model(image, named), reduce_retracing=True)
    ranges = dict.fromkeys(ends, (0.0, 0.0))
    for start in range(0, len(images), BATCH):
        found = run(tf.constant(images[start : start + BATCH]), training=False)
        ranges = {place: _widened(pair, found[place.name]) for place, pair in ranges.items()}
    trained = {place: pair if any(pair) else DEAD for place, pair in ranges.items()}
    return {order[0]: PIXELS, **trained}


def _widened(pair, found):
    """A range that holds all numbers found, too: pairs of tensors of lowest and highest ones."""
    low, high = (np.concatenate(column) for column in zip(*found, strict=True))
    return float(min(pair[0], low.min())), float(max(pair[1], high.max()))
