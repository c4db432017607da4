"""One call for the outputs of a model file, whichever runtime reads it."""

import functools
import pathlib

import numpy as np
import scipy.special
import tensorflow as tf

from kdkeras import appended, archives, intact, models, noise
from kdkeras.models import surgery

__all__ = ["load"]

BATCH = 256
# What outputs that are no logits are called, and the smallest probability that is told from 0.
PROBABILITIES = ("probabilities", "probabilities:0")
TINY = float(np.finfo("float32").tiny)
# The scale that a tensor gets whose range is 0 is below.
DEAD = 1e-8


def load(path):
    """A function from images to logits, for a `.keras`, `.tflite` or `.onnx` file or a SavedModel.

    Whatever a file takes and gives (uint8 pixels, quantised values, probabilities), the function
    takes images in [0, 1] and gives logits; of probabilities, their logarithms.

    Args:
        path: The file or folder. A softmax at the end of a `.keras` model is taken off. Of `.onnx`
            files onnxruntime is needed: `pip install 'kdkeras[onnx]'`.

    Returns:
        A function of a float32 array `(batch, ...)` that gives a float32 array `(batch, classes)`.
        Its attribute `input_shape` is the shape of one example, and `differentiable` says whether
        it has gradients.

    Raises:
        ValueError: There is no such file, it is of another kind, it cannot be read, or it
            holds code.
        ImportError: onnxruntime is needed and not installed.

    Example:

    >>> logits = kdkeras.runtimes.load("runs/digits/export/student.tflite")(images)
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"A model file is expected. Received: '{path}', which does not exist.")
    intact.check(path)
    if path.suffix == ".keras":
        return KerasModel(graph(archives.model(path), path))
    try:
        if path.suffix == ".tflite":
            return LiteRT(path)
        if path.suffix == ".onnx":
            return Onnx(path)
        if (path / "saved_model.pb").exists():
            return SavedModel(path)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"'{path}' cannot be read as a model: {error}") from error
    raise ValueError(
        "A model is expected: a .keras, .tflite or .onnx file, or a SavedModel folder. "
        f"Received: '{path}'"
    )


def graph(model, path):
    """A loaded model that gives logits, and whose input and output shapes are known.

    Args:
        model: `keras.Model`.
        path: The file that it is of, for the message.

    Raises:
        ValueError: It is a subclassed model, such as a Distiller.
    """
    if not surgery.is_graph(model):
        raise ValueError(
            f"a Functional or Sequential model is needed. Received: '{path}', which holds a "
            f"{type(model).__name__}. Of a Distiller, save `distiller.student`."
        )
    return models.logits(model) if models.final_softmax(model) else model


class _OfLogits:
    """A model whose outputs are logits."""

    def given(self, images):
        """What the model gives for images, as float32 numbers."""
        return self(images)

    def as_logits(self, given):
        """The logits that stand for what the model gave."""
        return given

    def as_probabilities(self, given):
        """The probabilities that the model gave, or the softmax of its logits."""
        return scipy.special.softmax(given, -1)


class _OfFile(_OfLogits):
    """A file that says by the name of its output whether it gives probabilities."""

    output_name, step = "", 0.0

    def __call__(self, images):
        return self.as_logits(self.given(images))

    def as_logits(self, given):
        if self.output_name not in PROBABILITIES:
            return given
        # All that a file may have rounded to 0 is together less than half a step.
        least = self.step / (2 * given.shape[-1]) or TINY
        return np.log(np.maximum(given, least)).astype("float32")

    def as_probabilities(self, given):
        return given if self.output_name in PROBABILITIES else super().as_probabilities(given)


class KerasModel(_OfLogits):
    """A Keras model, run in batches.

    Args:
        model: `keras.Model` with logits and one input.
    """

    differentiable = True

    def __init__(self, model):
        self.model = model
        self.input_shape = tuple(model.input_shape[1:])

    def __call__(self, images):
        # Called, not `predict`ed: tracing takes longer than a test split, and TensorFlow warns of
        # it where many models are run.
        images = pixels(images, np.float32)
        return _in_batches(lambda batch: self.model(batch, training=False), images)

    def on(self, image):
        """A function that runs the model once on a batch of one image, for timing."""
        run = tf.function(lambda batch: self.model(batch, training=False), autograph=False)
        return functools.partial(run, tf.constant(pixels(image, np.float32)))


class SavedModel(_OfLogits):
    """A SavedModel with the endpoint `serve`, or with `logits` beside it, as kdkeras writes it.

    Args:
        path: The folder.
    """

    def __init__(self, path):
        self.loaded = tf.saved_model.load(str(path))
        signatures = self.loaded.signatures
        (image,) = signatures["serving_default"].structured_input_signature[1].values()
        self.input_shape = tuple(image.shape[1:])
        self.dtype = image.dtype.as_numpy_dtype
        self.differentiable = image.dtype.is_floating
        self.endpoint = self.loaded.logits if "logits" in signatures else self.loaded.serve

    def logits(self, images):
        """The logits of a tensor of images, differentiable where the input is of floats."""
        return self.endpoint(images)

    def __call__(self, images):
        return _in_batches(self.endpoint, pixels(images, self.dtype))

    def on(self, image):
        """A function that runs the model once on a batch of one image, for timing."""
        return functools.partial(self.loaded.serve, tf.constant(pixels(image, self.dtype)))


class LiteRT(_OfFile):
    """A `.tflite` file in `ai_edge_litert`, one image at a time, as on a phone.

    Args:
        path: The file.
    """

    differentiable = False

    def __init__(self, path):
        appended.check(path)
        with noise.hushed():
            from ai_edge_litert.interpreter import Interpreter

            self.interpreter = Interpreter(model_path=str(path), num_threads=1)
            _check_alive(self.interpreter)
            self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()
        self.input_shape = tuple(int(size) for size in self.input["shape"][1:])
        signatures = list(self.interpreter.get_signature_list().values())
        self.output_name = signatures[0]["outputs"][0] if signatures else self.output["name"]
        self.step, self.zero_point = self.output["quantization"]

    def given(self, images):
        outputs = []
        for image in pixels(images, self.input["dtype"], *self.input["quantization"]):
            self.interpreter.set_tensor(self.input["index"], image[None])
            self.interpreter.invoke()
            outputs.append(self.interpreter.get_tensor(self.output["index"])[0])
        found = np.stack(outputs).astype("float32")
        return np.float32(self.step) * (found - self.zero_point) if self.step else found

    def on(self, image):
        """A function that runs the model once on a batch of one image, for timing."""
        seen = pixels(image, self.input["dtype"], *self.input["quantization"])
        self.interpreter.set_tensor(self.input["index"], seen)
        return self.interpreter.invoke


class Onnx(_OfFile):
    """A `.onnx` file in `onnxruntime`, which is not installed with kdkeras.

    Args:
        path: The file.
    """

    differentiable = False

    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (self.input,) = self.session.get_inputs()
        (self.output,) = self.session.get_outputs()
        self.input_shape = tuple(self.input.shape[1:])
        self.output_name = self.output.name
        self.dtype = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[self.input.type]

    def given(self, images):
        seen = pixels(images, self.dtype)
        (found,) = zip(
            *(self.session.run(None, {self.input.name: image[None]}) for image in seen), strict=True
        )
        return np.concatenate(found)

    def on(self, image):
        """A function that runs the model once on a batch of one image, for timing."""
        feed = {self.input.name: pixels(image, self.dtype)}
        return functools.partial(self.session.run, None, feed)


def pixels(images, dtype, scale=0.0, zero_point=0):
    """Images in [0, 1] as an input of some dtype takes them.

    Args:
        images: Array.
        dtype: float32 as they are; integers by `scale` and `zero_point`, or in 0..255.
        scale, zero_point: Of a quantised input.
    """
    if np.issubdtype(dtype, np.floating):
        return np.asarray(images, dtype)
    limits = np.iinfo(dtype)
    levels = np.rint(np.asarray(images, "float64") / (scale or 1 / 255)) + zero_point
    return np.clip(levels, limits.min, limits.max).astype(dtype)


def _check_alive(interpreter):
    """Refuses a quantised network with a layer that gives 0 alone: LiteRT would end the process."""
    for tensor in interpreter.get_tensor_details():
        scales = tensor["quantization_parameters"]["scales"]
        of_activations = tensor["dtype"] in (np.int8, np.int16) and len(scales) == 1
        if of_activations and tensor["shape"].size and scales[0] < DEAD:
            raise ValueError(
                f"the values of '{tensor['name']}' are 0 whatever the image is (steps of "
                f"{scales[0]:.1g}): was the model trained?"
            )


def _in_batches(run, images):
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    outputs = [run(tf.constant(batch)) for batch in batches]
    return np.concatenate([tf.cast(output, tf.float32).numpy() for output in outputs])
