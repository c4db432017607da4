"""An estimate of robustness that is cheap enough for every epoch."""

import functools

import keras
import numpy as np
import tensorflow as tf

from kdkeras import arguments, perturbations
from kdkeras.robustness import checks, samples, targets

BATCH = 64


def quick(model, images, labels, *, epsilon, norm="linf", steps=10, max_examples=256, seed=0):
    """Accuracy on clean images and under PGD on the margin: an upper bound of robust accuracy.

    An estimate for use during training, and to see that a teacher has no robustness to hand on; a
    figure to report is `evaluate`'s. The same arguments give the same figures: the random starts
    are the same at each call. The attack is traced once for each model, image shape and setting.

    Args:
        model: `keras.Model` with logits.
        images: Array `(n, height, width, channels)`, pixels in [0, 1].
        labels: Integer array `(n,)`.
        epsilon: Radius of the ball, in pixels of [0, 1].
        norm: "linf" or "l2".
        steps: Steps of the attack.
        max_examples: Of more examples, so many are used, evenly spaced.
        seed: Of the random starts.

    Returns:
        Dict: `clean` and `robust`, floats, and `count`, the number of examples used. An example
        that the model has wrong counts as wrong under attack.

    Raises:
        ValueError: Images, labels, epsilon or the model do not fit.

    Example:

    >>> quick(teacher, *kdkeras.evaluation.collect(splits.validation), epsilon=8 / 255)
    {'clean': 0.92, 'robust': 0.0, 'count': 256}
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a `keras.Model`. Received: {type(model).__name__}")
    target = targets.of_keras(model, model.name)
    count = arguments.integer("max_examples", max_examples, low=1)
    images, labels = samples.evenly(np.asarray(images), np.asarray(labels), count)
    images = checks.images_of(images, target)
    epsilon = checks.epsilon_of(epsilon, norm, images.shape[1:])
    steps = arguments.integer("steps", steps, low=1)
    arguments.integer("seed", seed)
    classes, answers, start_over = _compiled(model, images.shape[1:], epsilon, norm, steps, seed)
    labels = checks.labels_of(labels, images, classes)
    start_over()
    right = np.zeros((2, len(images)), bool)
    for start in range(0, len(images), BATCH):
        some = np.arange(start, min(start + BATCH, len(images)))
        filled = np.resize(some, BATCH)
        clean, attacked = answers(tf.constant(images[filled]), tf.constant(labels[filled]))
        for row, logits in enumerate((clean, attacked)):
            right[row, some] = (targets.classes_of(logits.numpy()) == labels[filled])[: len(some)]
    return {
        "clean": float(np.mean(right[0])),
        "robust": float(np.mean(right[0] & right[1])),
        "count": len(images),
    }


# Of few models, so that those that are done with are let go.
@functools.lru_cache(maxsize=4)
def _compiled(model, shape, epsilon, norm, steps, seed):
    """The classes; clean and attacked logits of a batch, as a function; and one to start over."""
    network = targets.of_keras(model, model.name).network
    attack = perturbations.PGD(
        epsilon=epsilon, norm=norm, steps=steps, objective="margin", seed=seed
    )
    batch = [tf.TensorSpec([BATCH, *shape]), tf.TensorSpec([BATCH], tf.int32)]

    @tf.function(input_signature=batch, autograph=False)
    def answers(images, labels):
        attacked = attack(network, images, {"label": labels})
        return network(images), network(attacked)

    state = attack.seed_generator.state
    beginning = state.numpy()
    classes = network(tf.zeros([1, *shape])).shape[-1]
    return classes, answers, lambda: state.assign(beginning)
