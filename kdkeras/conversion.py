"""Converts a SavedModel to TFLite: run as a process of its own, for the converter leaks memory."""

import json
import sys

import numpy as np
import tensorflow as tf


def convert(saved_model, path, *, precision, pixels, images):
    """Writes the `.tflite` file of a SavedModel, with operators that every runtime has.

    Args:
        saved_model: The folder.
        path: The file to write.
        precision: "float32", "float16", "dynamic", "int8" or "int16x8".
        pixels: "float32", "uint8" or "int8": of int8 files the dtype of input and output.
        images: Path of an `.npy` file of images that the ranges are measured on; None where there
            are no ranges, or the SavedModel holds them.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    target = converter.target_spec
    target.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        target.supported_types = [tf.float16]
    if images is not None:
        calibration = np.load(images, allow_pickle=False)
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        target.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8
            if precision == "int8"
            else tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    if precision == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(pixels)
    with open(path, "wb") as file:
        file.write(converter.convert())


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
