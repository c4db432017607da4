"""Draws of noise: a model's answers to noisy images, and whether they can be counted."""

import keras
import numpy as np
import tensorflow as tf

from kdkeras import randomness
from kdkeras.models import surgery

# Separate the draws that select a class, those that count it, and those that try the model.
SELECTION, ESTIMATION, TRIAL = 2000, 2001, 2002
TRIALS = 8
# Of the largest logit: what the same images may differ by on a device that adds in any order.
ROUNDING = 1e-3


def counter(model, *, shape, classes, stream, draws, batch_size, sigma, seed):
    """A function from an image and its id to how often each class comes out.

    `counts_c = sum_j [argmax model(x + sigma e_j) = c]`, with `e_j = normal(keys(seed, id, j))`.

    Args:
        model: `keras.Model`, which is compiled for batches of one size; or a function of a NumPy
            batch.
        shape: Of an image.
        classes: Number of logits.
        stream: Separates these draws from others.
        draws: How many.
        batch_size: How many at a time, at most.
        sigma: Standard deviation of the noise.
        seed: Integer.

    Returns:
        A function that gives an int64 array `(classes,)`, whose sum is `draws`. It raises a
        `ValueError` if a logit is NaN.
    """
    answer, batches = _answering(model), -(-draws // batch_size)
    size = -(-draws // batches)  # as few batches as can be, of one size

    def count(image, number, start):
        order = start + tf.range(size, dtype=tf.int64)
        keys = randomness.keys(seed, number, order)
        logits = answer(image + sigma * randomness.normal(keys, shape, stream=stream))
        wanted = (order < draws) & ~tf.reduce_any(tf.math.is_nan(logits), axis=1)
        top = tf.where(wanted, tf.argmax(logits, axis=1), -1)
        return tf.reduce_sum(tf.one_hot(top, classes, dtype=tf.int64), axis=0)

    if isinstance(model, keras.Model):
        integer = tf.TensorSpec((), tf.int64)
        count = tf.function(count).get_concrete_function(
            tf.TensorSpec(shape, tf.float32), integer, integer
        )

    def counts(image, number):
        image, number = tf.constant(image), tf.constant(number, tf.int64)
        starts = (tf.constant(batch * size, tf.int64) for batch in range(batches))
        found = sum(count(image, number, start).numpy() for start in starts)
        if found.sum() != draws:
            raise ValueError(
                "`model` must give logits that are numbers. Received: NaN for "
                f"{draws - found.sum()} of {draws} noisy images of image {int(number)}. Was it "
                "trained, and does float16 overflow in it?"
            )
        return found

    return counts


def check_model(model, shape):
    """Tries a model on noise, and refuses one whose answers cannot be counted.

    Args:
        model: `keras.Model` or a function of a NumPy batch.
        shape: Of an image.

    Returns:
        The number of logits.

    Raises:
        ValueError: The model does not take such images, gives no logits, gives others for the same
            images, or clips its input.
    """
    if not callable(model):
        raise ValueError(
            "`model` must be a keras.Model or a function from images to logits. "
            f"Received: {type(model).__name__}"
        )
    if isinstance(model, keras.Model):
        surgery.check_logits("model", model)
    keys = randomness.keys(0, tf.range(TRIALS, dtype=tf.int64), 0)
    noise = randomness.normal(keys, shape, stream=TRIAL)
    clipped = tf.where(noise < 0.0, 0.0, 1.0)
    outside = clipped + noise  # every pixel of it
    answer = _answering(model)
    try:
        first, again, of_clipped = (answer(x).numpy() for x in (outside, outside, clipped))
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"`model` must take float32 images of shape {tuple(outside.shape)} and give logits of "
            f"shape (batch, classes). It raised {type(error).__name__}: {error}"
        ) from error
    if first.ndim != 2 or len(first) != TRIALS or first.shape[1] < 2:
        raise ValueError(
            "`model` must give logits of shape (batch, classes), of at least 2 classes. Received: "
            f"shape {first.shape} for {TRIALS} images."
        )
    rounding = ROUNDING * np.max(np.abs(first), where=np.isfinite(first), initial=0.0)
    if not np.allclose(first, again, rtol=0.0, atol=rounding, equal_nan=True):
        raise ValueError(
            "`model` must give the same logits for the same images, so that its certificates can "
            f"be worked out again. Received: logits {np.abs(first - again).max():.2g} apart. Take "
            "dropout and noise out of its inference."
        )
    is_constant = np.array_equal(first, np.broadcast_to(first[:1], first.shape), equal_nan=True)
    if np.array_equal(first, of_clipped) and not is_constant:
        raise ValueError(
            "`model` must see the noise as it is drawn, beyond [0, 1] too. Received: a model that "
            "clips its input: its logits for pixels outside of [0, 1] and for the same ones "
            "clipped are equal. Certify the model behind the clipping."
        )
    return first.shape[1]


def _answering(model):
    """A model as a function from a float32 tensor to float32 logits, in inference."""
    if isinstance(model, keras.Model):
        return lambda x: tf.cast(model(x, training=False), tf.float32)
    return lambda x: tf.constant(np.asarray(model(x.numpy()), np.float32))
