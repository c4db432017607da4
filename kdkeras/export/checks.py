"""What can go into an exported file: options that fit its kind and the model."""

import importlib.util
import pathlib

import keras
import numpy as np

from kdkeras import arguments, data, inference, quantization

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
PIXELS = ("float32", "uint8", "int8")
OUTPUTS = ("probabilities", "logits")
# A first Rescaling by less makes next to nothing of pixels in [0, 1].
SMALLEST_SCALE = 1 / 64


def pixels_of(precision, pixels):
    """The dtype of a file's input, where none was asked for."""
    return pixels or ("uint8" if precision == "int8" else "float32")


def free(path, kind, overwrite):
    """The path of a file to write, found to be free and of the right ending."""
    path = pathlib.Path(path)
    suffix = {"saved_model": "", "onnx": ".onnx"}.get(kind, ".tflite")
    if suffix and path.suffix != suffix:
        raise ValueError(f"`path` must end in {suffix}. Received: '{path}'")
    if path.exists() and not overwrite:
        raise ValueError(
            f"'{path}' is there already. Give `overwrite` to replace it, or write elsewhere."
        )
    if path.exists() and path.is_dir() != (kind == "saved_model"):
        what = "a folder" if path.is_dir() else "a file"
        raise ValueError(f"`path` cannot be replaced. Received: '{path}', which is {what}.")
    if not path.parent.is_dir():
        raise ValueError(f"`path` must be in a folder that exists. Received: '{path}'")
    return path


def check(kind, model, options):
    """Refuses options that do not fit a kind of file, or the model."""
    pixels, calibration = options["pixels"], options.get("calibration")
    arguments.one_of("pixels", pixels, PIXELS)
    arguments.one_of("output", options["output"], OUTPUTS)
    if (pixels == "int8" and kind != "int8") or (pixels != "float32" and kind == "int16x8"):
        of = "int8 files" if pixels == "int8" else "any but int16x8 files"
        raise ValueError(
            f"`pixels` can be {pixels!r} for {of}. Received: pixels={pixels!r}, {kind}"
        )
    _check_class_names(options["class_names"], model.outputs[0].shape[-1])
    if kind == "onnx":
        missing = [name for name in ("onnx", "tf2onnx", "onnxruntime") if not _installed(name)]
        if missing:
            raise ImportError(f"ONNX files need {', '.join(missing)}: pip install 'kdkeras[onnx]'")
    _check_pixels_in(model)
    aware = quantization.is_aware(model)
    if aware and kind != "int8":
        raise ValueError(
            "A student made by `kdkeras.quantization.aware` is exported as int8. "
            f"Received: {kind}. Export the student that it was made of."
        )
    if kind in ("int8", "int16x8") and not aware:
        if calibration is None:
            raise ValueError(
                f"`calibration` must be training images for {kind}, on which the ranges of the "
                "activations are measured: kdkeras.quantization.calibration_images(splits.train). "
                "Received: calibration=None"
            )
        quantization.check_calibration(calibration, inference.image_shape(model))
    elif calibration is not None:
        why = "has its ranges already" if aware else f"does not go into {kind} files"
        raise ValueError(f"`calibration` {why}. Received: {len(calibration)} images. Leave it out.")


def _check_pixels_in(model):
    """Refuses a student that takes bytes: those before it, in training and in files, are in [0, 1].

    Such a student would be fed 1/255 of what it knows, and nothing would say so.
    """
    (image,) = model.inputs
    for layer in model.layers:
        first = isinstance(layer, keras.layers.Rescaling) and layer.input is image
        if first and np.max(np.abs(layer.scale)) < SMALLEST_SCALE:
            raise ValueError(
                f"`student` must take pixels in [0, 1]. Received: '{model.name}', which begins "
                f"with '{layer.name}', a Rescaling by {np.max(layer.scale):.4g}: it takes 0..255. "
                "Wrap it: `image = keras.Input(...)`, `keras.Model(image, student(255 * image))`."
            )


def images(given, shape):
    """Images to compare on as a float32 array, found to be what a model takes."""
    given = np.asarray(given, "float32")
    if given.shape[1:] != shape or not len(given):
        expected = ", ".join(map(str, shape))
        raise ValueError(
            f"`images` must be an array of shape (images, {expected}), as the student takes them. "
            f"Received: an array of shape {given.shape}"
        )
    if not (given.min() >= 0.0 and given.max() <= 1.0):
        raise ValueError(
            "`images` must hold pixels in [0, 1]: divide bytes by 255. Received: "
            f"{given.min():g} to {given.max():g}"
        )
    return given


def labels(given, count, classes):
    """Labels as an integer array, found to be one for each image."""
    given = np.asarray(given)
    if given.shape != (count,):
        raise ValueError(
            f"`labels` must be {count} integers, one an image. Received: an array of shape "
            f"{given.shape}"
        )
    data.check_labels(given, classes)
    return given


def _check_class_names(names, classes):
    if names is None:
        return
    if not all(isinstance(name, str) and name and "\n" not in name for name in names):
        raise ValueError(
            f"`class_names` must be strings of one line each. Received: class_names={names!r}"
        )
    if len(names) != classes:
        raise ValueError(
            f"`class_names` must have {classes} names, one a class. Received: {len(names)} names"
        )


def _installed(name):
    return importlib.util.find_spec(name) is not None
