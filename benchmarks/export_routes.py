"""What export.py compares: students, and the routes that take them to `.tflite` files."""

import concurrent.futures
import os
import pathlib
import re

import numpy as np
import speed_memory

SHAPE, CLASSES = (32, 32, 3), 10
CALIBRATION = 64
PRECISIONS = ("float32", "float16", "dynamic", "int8")
NAMES = [f"class {number}" for number in range(CLASSES)]
OURS, BARE = "kdkeras", "kdkeras, logits, no names"
CONVERTER, LITERT = "TFLiteConverter.from_keras_model", 'model.export(format="litert")'
ROUTES = (OURS, BARE, CONVERTER, LITERT)


def images(count, seed):
    """Images of 8 x 8 squares of random colours, in [0, 1], in steps of 1/255."""
    squares = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3)).astype("float32")
    return squares.repeat(8, axis=1).repeat(8, axis=2) / 255.0


def student(name, policy="float32"):
    """A student by its name, or name:width; BatchNorm has the statistics of random images."""
    import keras

    import kdkeras

    keras.utils.set_random_seed(0)
    architecture, _, width = name.partition(":")
    number = (float if "." in width else int)(width) if width else None
    keras.config.set_dtype_policy(policy)
    model = kdkeras.models.build(architecture, input_shape=SHAPE, num_classes=CLASSES, width=number)
    keras.config.set_dtype_policy("float32")
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # few batches are to do
    for seed in range(8):
        model(images(32, 100 + seed), training=True)
    # Classes 1 apart: which of two equal ones comes first after rounding would say nothing.
    mean = np.mean(model(images(64, 200), training=False), axis=0)
    model.get_layer("logits").bias.assign(np.arange(CLASSES) - mean)
    return model


def written(route, model, saved, paths):
    """Writes a student's files by a route; why each failed, or None, by precision.

    Args:
        route: One of `ROUTES`.
        model: The student.
        saved: Path of its `.keras` file, which the peers' processes read.
        paths: Dict from precisions to the `.tflite` files to write.
    """
    if route in (OURS, BARE):
        return {
            precision: _by_us(route, model, path, precision) for precision, path in paths.items()
        }
    try:
        return speed_memory.alone(_by_peer, route, saved, paths)
    except concurrent.futures.process.BrokenProcessPool:
        if len(paths) == 1:
            return dict.fromkeys(paths, "the converter aborts")
    alone = (written(route, model, saved, {one: path}) for one, path in paths.items())
    return {precision: why for found in alone for precision, why in found.items()}


def _by_us(route, model, path, precision):
    import kdkeras

    options = {"class_names": NAMES} if route == OURS else {"output": "logits"}
    if precision == "int8":
        options["calibration"] = images(CALIBRATION, 1)
    try:
        kdkeras.export.tflite(model, path, precision=precision, **options)
    except ValueError as error:
        return reason(error)


def _by_peer(route, saved, paths):
    # In a process of its own: peers convert where they are called, print much, and may abort.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    import keras

    model, failed = keras.models.load_model(saved, compile=False), {}
    for precision, path in paths.items():
        try:
            if route == CONVERTER:
                pathlib.Path(path).write_bytes(convert(model, precision))
            else:
                model.export(path, format="litert", verbose=False, **settings(precision))
        except Exception as error:  # whatever it is: the table is to say so
            failed[precision] = reason(error)
    return dict.fromkeys(paths) | failed


def settings(precision):
    """What TensorFlow's guide sets on a converter for a precision, as Keras's keywords."""
    import tensorflow as tf

    if precision == "float32":
        return {}
    given = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if precision == "float16":
        given["target_spec"] = {"supported_types": [tf.float16]}
    if precision == "int8":
        calibration = images(CALIBRATION, 1)
        given["representative_dataset"] = lambda: ([image[None]] for image in calibration)
        given["target_spec"] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]}
        given["inference_input_type"] = given["inference_output_type"] = tf.uint8
    return given


def convert(model, precision):
    """The bytes that TensorFlow's converter makes of a model, in this process."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    given = settings(precision)
    for name, value in given.pop("target_spec", {}).items():
        setattr(converter.target_spec, name, value)
    for name, value in given.items():
        setattr(converter, name, value)
    return converter.convert()


def reason(error):
    """Why a file cannot be made or run, in a table's cell."""
    said = str(error)
    operators = sorted(set(re.findall(r"Flex\w+", said)) or set(re.findall(r"tf\.[A-Z]\w+", said)))
    if operators:
        return f"operators that are not built in: {', '.join(operators[:3])}"
    return (said.strip().splitlines() or [type(error).__name__])[-1][:100].replace("|", "/")
