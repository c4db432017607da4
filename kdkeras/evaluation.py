"""How good a model is, and how like its teacher: plain numbers from labels and logits."""

import keras
import numpy as np
import tensorflow as tf

from kdkeras import data, losses, runtimes
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


def scores(labels, logits, teacher_logits=None):
    """Metrics of one model's logits.

    Args:
        labels: Integer array `(n,)`.
        logits: Array `(n, classes)`.
        teacher_logits: Optional array `(n, classes)`.

    Returns:
        Dict of floats: `accuracy`; `precision` and `recall`, means over the classes that occur in
        labels or predictions (a class that is never predicted has precision 0); with
        `teacher_logits` also `agreement`, the share of examples with the teacher's top class, and
        `kl`, the mean `KL(teacher || model)` in nats at temperature 1.

    Raises:
        ValueError: Labels that are not integers in 0..classes - 1.
    """
    from sklearn import metrics

    data.check_labels(labels, logits.shape[-1])
    predicted = np.argmax(logits, axis=-1)
    options = {"average": "macro", "zero_division": 0}
    result = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted, **options),
        "recall": metrics.recall_score(labels, predicted, **options),
    }
    if teacher_logits is not None:
        result["agreement"] = np.mean(predicted == np.argmax(teacher_logits, axis=-1))
        result["kl"] = np.mean(losses.soft_target_divergence(teacher_logits, logits, 1.0))
    return {name: float(value) for name, value in result.items()}


def evaluate(model, dataset, teacher=None):
    """Evaluates a model on a dataset: accuracy, macro precision and recall, likeness to a teacher.

    Args:
        model: `keras.Model`, or a function from images to logits (`kdkeras.runtimes.load`).
        dataset: `tf.data.Dataset` of (image, integer label), batched or not, or a pair of arrays.
        teacher: Optional; like `model`.

    Returns:
        Dict of plain floats, as `scores` gives them.

    Raises:
        ValueError: The dataset is empty.

    Example:

    >>> kdkeras.evaluate(student, splits.test, teacher=teacher)
    {'accuracy': 0.98, 'precision': 0.98, 'recall': 0.98, 'agreement': 0.99, 'kl': 0.03}
    """
    for role, given in (("model", model), ("teacher", teacher)):
        if isinstance(given, keras.Model):
            surgery.check_logits(role, given)
    images, labels = collect(dataset) if isinstance(dataset, tf.data.Dataset) else dataset
    teacher_logits = None if teacher is None else logits_of(teacher, images)
    return scores(labels, logits_of(model, images), teacher_logits)


def logits_of(model, images):
    """The logits of a `keras.Model`, or of any function of images, as a float32 array."""
    return runtimes.KerasModel(model)(images) if isinstance(model, keras.Model) else model(images)
