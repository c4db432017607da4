"""Models on data: what they say of it, how good that is, and what they cost."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from kdkeras import latency, models, runtimes
from kdkeras.evaluation import metrics, similarity
from kdkeras.models import surgery


def collect(dataset):
    """The images and labels of a dataset as arrays.

    Args:
        dataset: `tf.data.Dataset` of (image, label), batched or not; labels are integers.

    Returns:
        Arrays `(n, ...)` and `(n,)`.

    Raises:
        ValueError: The dataset is empty.
    """
    labels_spec = dataset.element_spec[1]
    if labels_spec.shape.rank == 0:
        dataset = dataset.batch(256)
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    if not batches:
        raise ValueError("`dataset` must hold at least one example. Received: an empty dataset.")
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def evaluate(model, dataset, teacher=None):
    """Evaluates a model on a dataset: how good, how well calibrated, how like a teacher.

    Args:
        model: `keras.Model`, the path of a model file, or a function from images to logits
            (`kdkeras.runtimes.load`).
        dataset: `tf.data.Dataset` of (image, integer label), batched or not, or a pair of arrays.
        teacher: Optional; like `model`.

    Returns:
        Dict of plain floats, as `scores` gives them; with a teacher, where both are Keras models
        (or `.keras` files), also `cka`, the similarity of their features (`feature_similarity`;
        left out where that is None).

    Raises:
        ValueError: The dataset is empty, a file cannot be read, or a model ends in softmax, does
            not fit the labels or gives what is not finite.

    Example:

    >>> kdkeras.evaluate(student, splits.test, teacher=teacher)
    {'accuracy': 0.98, ..., 'agreement': 0.99, 'kl': 0.03, 'cka': 0.94}
    """
    model, teacher = _loaded("model", model), _loaded("teacher", teacher)
    images, labels = collect(dataset) if isinstance(dataset, tf.data.Dataset) else dataset
    teacher_logits = None if teacher is None else logits_of(teacher, images)
    found = metrics.scores(labels, logits_of(model, images), teacher_logits)
    if isinstance(model, keras.Model) and isinstance(teacher, keras.Model):
        cka = similarity.feature_similarity(model, teacher, images)
        found |= {} if cka is None else {"cka": cka}
    return found


def _loaded(role, given):
    """A model of its own, or what the file holds that is named."""
    if isinstance(given, (str, pathlib.Path)):
        given = runtimes.load(given)
        return given.model if isinstance(given, runtimes.KerasModel) else given
    if isinstance(given, keras.Model):
        surgery.check_logits(role, given)
    return given


def logits_of(model, images):
    """The logits of a model, run in batches.

    Args:
        model: `keras.Model` with logits, or a function from images to logits
            (`kdkeras.runtimes.load`).
        images: Array `(n, ...)`, in [0, 1].

    Returns:
        float32 array `(n, num_classes)`; of a function, what it gives.

    Example:

    >>> kdkeras.evaluation.logits_of(student, images).argmax(-1)
    """
    return runtimes.KerasModel(model)(images) if isinstance(model, keras.Model) else model(images)


def cost(path, *, timed=True, loaded=None):
    """What a model file takes: room, time, and of a `.keras` file also parameters and MACs.

    Args:
        path: A `.keras`, `.tflite` or `.onnx` file, or a SavedModel folder.
        timed: Whether to measure its latency, on one thread, in a process of its own.
        loaded: What `kdkeras.runtimes.load` gave for it, where that is at hand.

    Returns:
        Dict: `bytes` of the file, or of all files in the folder; `latency`, as
        `kdkeras.latency.measure` gives it; of a `.keras` file `parameters`, and `macs` of one
        example, None where its input has no fixed shape.

    Raises:
        ValueError: The file is not there or cannot be read.

    Example:

    >>> cost("runs/digits/student.keras", timed=False)
    {'bytes': 1692072, 'parameters': 423018, 'macs': 3912384}
    """
    path = pathlib.Path(path)
    loaded = runtimes.load(path) if loaded is None else loaded
    inside = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    found = {"bytes": sum(file.stat().st_size for file in inside)}
    if isinstance(loaded, runtimes.KerasModel):
        found |= {"parameters": loaded.model.count_params(), "macs": _macs(loaded.model)}
    return found | ({"latency": latency.measure([path])[0]} if timed else {})


def _macs(model):
    try:
        return models.macs(model)
    except ValueError:
        return None
