"""One call for the outputs of a model file, whichever runtime reads it."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from kdkeras import models, noise
from kdkeras.models import surgery

BATCH = 256


def load(path):
    """A function from images to logits, for a `.keras` file, a SavedModel or a `.tflite` file.

    Args:
        path: The file or folder. A softmax at the end of a `.keras` model is taken off.

    Returns:
        A function of a float32 array `(batch, ...)` that gives a float32 array `(batch, classes)`.
        Its attribute `input_shape` is the shape of one example.

    Raises:
        ValueError: There is no such file, it is of another kind, or it cannot be read.

    Example:

    >>> logits = kdkeras.runtimes.load("runs/digits/export/student.tflite")(images)
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"`path` must be a model file. Received: '{path}', which does not exist.")
    try:
        if path.suffix == ".keras":
            return KerasModel(graph(keras.models.load_model(path, compile=False), path))
        if path.suffix == ".tflite":
            return LiteRT(path)
        if (path / "saved_model.pb").exists():
            return SavedModel(path)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"'{path}' cannot be read as a model: {error}") from error
    raise ValueError(
        f"`path` must be a .keras file, a .tflite file or a SavedModel folder. Received: '{path}'"
    )


def graph(model, path):
    """A loaded model that gives logits, and whose input and output shapes are known.

    Raises:
        ValueError: It is a subclassed model, such as a Distiller.
    """
    if not surgery.is_graph(model):
        raise ValueError(
            f"a Functional or Sequential model is needed. Received: '{path}', which holds a "
            f"{type(model).__name__}. Of a Distiller, save `distiller.student`."
        )
    return models.logits(model) if models.final_softmax(model) else model


class KerasModel:
    """A Keras model, run in batches."""

    def __init__(self, model):
        self.model = model
        self.input_shape = tuple(model.input_shape[1:])

    def __call__(self, images):
        # Called, not `predict`ed: tracing takes longer than a test split, and TensorFlow warns of
        # it where many models are run.
        return _in_batches(lambda batch: self.model(batch, training=False), images)


class SavedModel:
    """A SavedModel with the endpoint `serve`."""

    def __init__(self, path):
        self.loaded = tf.saved_model.load(str(path))
        spec = self.loaded.signatures["serving_default"].structured_input_signature[1]
        (image,) = spec.values()
        self.input_shape = tuple(image.shape[1:])

    def __call__(self, images):
        return _in_batches(self.loaded.serve, images)


class LiteRT:
    """A `.tflite` file in `ai_edge_litert`, one image at a time, as on a phone."""

    def __init__(self, path):
        with noise.hushed():
            from ai_edge_litert.interpreter import Interpreter

            self.interpreter = Interpreter(model_path=str(path), num_threads=1)
            self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()
        self.input_shape = tuple(int(size) for size in self.input["shape"][1:])

    def __call__(self, images):
        outputs = []
        for image in np.asarray(images, "float32"):
            self.interpreter.set_tensor(self.input["index"], image[None])
            self.interpreter.invoke()
            outputs.append(self.interpreter.get_tensor(self.output["index"])[0])
        return np.stack(outputs)


def _in_batches(run, images):
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    outputs = [run(tf.constant(batch, tf.float32)) for batch in batches]
    return np.concatenate([tf.cast(output, tf.float32).numpy() for output in outputs])
