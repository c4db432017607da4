"""What is refused before anything is attacked."""

import math
import warnings

import numpy as np
import tensorflow as tf

from kdkeras import arguments
from kdkeras.data import checks as of_data
from kdkeras.perturbations import balls

# Of the largest logit: what the same images may differ by on a device that adds in any order.
ROUNDING = 1e-3


def epsilon_of(epsilon, norm, shape):
    """`epsilon` as a float, if it is a distance that pictures of [0, 1] can be apart.

    Raises:
        ValueError: Not positive, not finite, or larger than the distance from black to white.
    """
    arguments.one_of("norm", norm, balls.NORMS)
    epsilon = arguments.positive("epsilon", epsilon)
    if norm == "linf" and epsilon > 1.0:
        raise ValueError(
            "`epsilon` is in pixels of [0, 1], at most 1. "
            f"Received: epsilon={epsilon:g}. Did you mean {epsilon:g}/255?"
        )
    longest = math.sqrt(math.prod(shape))
    if norm == "l2" and epsilon > longest:
        raise ValueError(
            "`epsilon` is an L2 distance between pictures with pixels in [0, 1]: at most "
            f"{longest:.4g} for images of shape {shape}. Received: epsilon={epsilon:g}. Divide a "
            "distance in 0..255 by 255."
        )
    return epsilon


def images_of(images, target):
    """The images as a float32 array, if they are images that the model takes.

    Raises:
        ValueError: None, of another shape, not finite, or not in [0, 1].
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"`images` must have shape (n, height, width, channels). Received: shape {images.shape}"
        )
    if len(images) == 0:
        raise ValueError(f"`images` must hold at least one image. Received: shape {images.shape}")
    of_data.check_pixels(images)
    wanted = target.input_shape
    if wanted is not None and not tf.TensorShape(wanted).is_compatible_with(images.shape[1:]):
        raise ValueError(
            f"`images` must have shape {wanted}, as '{target.name}' takes them. Received: shape "
            f"{images.shape[1:]}"
        )
    return images.astype(np.float32)


def labels_of(labels, images, classes):
    """The labels as an int32 array, if there is one in range for each image.

    Raises:
        ValueError: Another number of them, not integers, or out of range.
    """
    labels = np.asarray(labels)
    if len(labels) != len(images):
        raise ValueError(
            "`images` and `labels` must have the same length. Received: "
            f"{len(images)} images, {len(labels)} labels"
        )
    of_data.check_labels(labels, classes)
    if len(images) < classes:
        warnings.warn(
            f"{len(images)} images of {classes} classes: not even one for each. The figures say "
            "little; see their intervals.",
            stacklevel=3,
        )
    return labels.astype(np.int32)


def logits_of(target, images, batch_size):
    """The logits of the clean images, if they can be attacked.

    Raises:
        ValueError: Not one row an image, not finite, probabilities, or different at the next call.
    """
    parts = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    logits = [np.asarray(target.logits(part)) for part in parts]
    if logits[0].ndim != 2 or logits[0].shape[0] != len(parts[0]) or logits[0].shape[1] < 2:
        raise ValueError(
            "`model` must give logits of shape (batch, classes), with at least 2 classes. "
            f"Received: '{target.name}', which gives {logits[0].shape} for {len(parts[0])} images"
        )
    again = np.asarray(target.logits(parts[0]))
    logits = np.concatenate(logits)
    if not np.isfinite(logits).all():
        raise ValueError(
            f"`model` must give finite logits. Received: '{target.name}', which does not for "
            f"{int(np.sum(~np.isfinite(logits).all(axis=-1)))} of {len(logits)} images"
        )
    before = logits[: len(again)]
    if np.max(np.abs(again - before)) > ROUNDING * np.max(np.abs(before)):
        raise ValueError(
            f"`model` must give the same logits each time. Received: '{target.name}', which is "
            "random at inference: against it these attacks look weaker than they are. Take the "
            "randomness out of inference."
        )
    sums = logits.sum(axis=-1)
    if target.surrogate is None and logits.min() >= 0.0 and np.allclose(sums, 1.0, atol=1e-3):
        raise ValueError(
            f"`model` must give logits. Received: '{target.name}', whose outputs are "
            "probabilities: softmax hides its gradients from attacks. Export it without its "
            "softmax (kdkeras.models.logits)."
        )
    return logits
