"""Which pixels speak for a class: integrated gradients."""

import numpy as np
import tensorflow as tf

from kdkeras import arguments

STEPS = 32


def integrated_gradients(model, images, classes, *, steps=STEPS):
    """Integrated gradients of a logit, from a black image.

    `IG_i = x_i / m sum_k d logit_c(x (k - 1/2) / m) / d x_i`, `k = 1 ... m`: the integral of the
    gradient along the straight line from black to the image, by the midpoint rule. Its sum is
    `logit_c(x) - logit_c(0)`, up to the error of that rule.

    Args:
        model: `keras.Model` that gives logits.
        images: float32 array `(n, ...)`, pixels in [0, 1].
        classes: Integer array `(n,)`: of each image, the class whose logit is explained.
        steps: `m`.

    Returns:
        float64 array like `images`.

    Raises:
        ValueError: `images` and `classes` are of different lengths, or `steps` is below 1.

    Example:

    >>> integrated_gradients(student, images, student.predict(images).argmax(-1)).sum(-1)

    Reference:
        Sundararajan et al., [Axiomatic Attribution for Deep Networks](
        https://arxiv.org/abs/1703.01365), ICML 2017.
    """
    arguments.integer("steps", steps, low=1)
    images, classes = np.asarray(images, "float32"), np.asarray(classes)
    if classes.shape != (len(images),):
        raise ValueError(
            "`classes` must hold a class an image. Received: "
            f"{len(images)} images, classes of shape {classes.shape}."
        )
    shares = (np.arange(steps, dtype="float32") + 0.5) / steps
    shares = shares.reshape((-1, *(1,) * (images.ndim - 1)))
    found = []
    for image, label in zip(images, classes, strict=True):
        line = tf.constant(shares * image)
        with tf.GradientTape() as tape:
            tape.watch(line)
            logit = tf.cast(model(line, training=False), tf.float32)[:, int(label)]
        gradient = tape.gradient(logit, line).numpy().astype("float64")
        found.append(image * gradient.mean(axis=0))
    return np.array(found)
