"""Running an attack over images, in batches of one size."""

import time

import numpy as np
import tensorflow as tf

from kdkeras.data import sources
from kdkeras.perturbations import attacks, objectives
from kdkeras.robustness import targets


def run(attack, target, images, labels, standing, shown, *, batch_size, verbose):
    """What of the images survives an attack.

    Args:
        attack: `suites.Attack`.
        target: `targets.Target`.
        images, labels: Arrays.
        standing: Booleans: which images are attacked; the others have fallen already. Noise is
            added to all.
        shown: Ascending positions of images whose adversarial form is kept.
        batch_size: How many images the attack sees at a time; fewer are filled up.
        verbose: 0 for no progress.

    Returns:
        Dict of `right`, booleans, whether the model has each image right afterwards; `pictures`,
        the perturbed images `shown`; and `seconds`.
    """
    started = time.monotonic()
    right = standing.copy() if attack.inside else np.ones(len(images), bool)
    pictures = images[shown]
    batch = _batch(images, batch_size)
    perturbed = attack.make(target.network, batch)
    for _ in range(attack.tries):
        todo = np.flatnonzero(right)
        progress = sources.progress(len(todo), verbose)
        for done in range(0, len(todo), batch_size):
            some = todo[done : done + batch_size]
            filled = np.resize(some, batch[0].shape[0])
            changed = perturbed(images[filled], labels[filled])[: len(some)]
            said = targets.classes_of(np.asarray(target.logits(changed)))
            right[some] = said == labels[some]
            here = np.flatnonzero(np.isin(shown, some))
            pictures[here] = changed[np.searchsorted(some, shown[here])]
            progress(done + len(some))
    return {"right": right, "pictures": pictures, "seconds": time.monotonic() - started}


def without_gradient(target, images, labels, *, batch_size):
    """The share of images at which all the gradient of the cross-entropy is exactly 0.

    An attack that follows this gradient does not move from there.
    """

    def largest(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = objectives.cross_entropy(y, target.network(x, training=False))
            scaled = attacks.SCALE * tf.reduce_sum(loss)
        return tf.reduce_max(tf.abs(tape.gradient(scaled, x)), axis=[1, 2, 3])

    batch = _batch(images, batch_size)
    compiled = tf.function(largest, autograph=False).get_concrete_function(*batch)
    size, found = batch[0].shape[0], []
    for start in range(0, len(images), size):
        some = np.arange(start, min(start + size, len(images)))
        filled = np.resize(some, size)
        gradient = compiled(tf.constant(images[filled]), tf.constant(labels[filled]))
        found.append(gradient.numpy()[: len(some)])
    return float(np.mean(np.concatenate(found) == 0.0))


def _batch(images, batch_size):
    """The specifications of a batch of images and labels; all batches have one size."""
    size = min(batch_size, len(images))
    return tf.TensorSpec([size, *images.shape[1:]]), tf.TensorSpec([size], tf.int32)
