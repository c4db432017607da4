"""The balls that attacks stay in: where to start, which way is up, and the way back."""

import keras
import tensorflow as tf

NORMS = ("linf", "l2")
TINY = 1e-30


def steepest(gradient, norm):
    """The direction of norm 1 along which a linear function with this gradient rises fastest.

    `sign(g)` for "linf", `g / ||g||_2` for "l2"; 0 where the gradient is 0.
    """
    if norm == "linf":
        return tf.sign(gradient)
    return gradient / tf.maximum(_length(gradient), TINY)


def projected(x, centre, *, epsilon, norm, bounds):
    """The point of the ball around `centre` nearest to `x`, then clipped to the bounds.

    Pixels that are outside the bounds already are not moved back to them, for that could leave the
    ball.
    """
    change = x - centre
    if norm == "linf":
        change = tf.clip_by_value(change, -epsilon, epsilon)
    else:
        change *= tf.minimum(1.0, epsilon / tf.maximum(_length(change), TINY))
    x = centre + change
    if bounds is None:
        return x
    low, high = bounds
    return tf.clip_by_value(x, tf.minimum(low, centre), tf.maximum(high, centre))


def somewhere(centre, seed, *, epsilon, norm):
    """A point drawn uniformly from the ball around `centre`."""
    shape = tf.shape(centre)
    if norm == "linf":
        return centre + keras.random.uniform(shape, -epsilon, epsilon, "float32", seed=seed)
    # A uniform direction, and a radius whose power to the dimension is uniform.
    direction = keras.random.normal(shape, dtype="float32", seed=seed)
    each = tf.concat([shape[:1], tf.ones_like(shape[1:])], axis=0)
    dimension = tf.cast(tf.reduce_prod(shape[1:]), tf.float32)
    radius = keras.random.uniform(each, 0.0, 1.0, "float32", seed=seed) ** (1.0 / dimension)
    return centre + epsilon * radius * steepest(direction, norm)


def _length(x):
    """The 2-norm of each example, with the axes kept."""
    return tf.sqrt(tf.reduce_sum(x * x, axis=list(range(1, x.shape.rank)), keepdims=True))
