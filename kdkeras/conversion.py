"""Converts a SavedModel to TFLite: run as a process of its own, for the converter leaks memory."""

import sys

import tensorflow as tf


def convert(saved_model, path, precision):
    """Writes the `.tflite` file of a SavedModel, with operators that every runtime has."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with open(path, "wb") as file:
        file.write(converter.convert())


if __name__ == "__main__":
    convert(*sys.argv[1:])
