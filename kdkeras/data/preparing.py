"""From gathered pictures to what is trained on: one view of each, labelled and perturbed."""

import tensorflow as tf

from kdkeras import arguments, randomness
from kdkeras import augment as augmentation
from kdkeras.data import examples

# Separates the choice of a view from the other draws made with an example's key.
VIEW = 2000


def check(*, seed, view_seed, views, augment, one_hot):
    """Raises a `ValueError` for settings of `prepared` that are out of range."""
    arguments.integer("seed", seed)
    for name, value, low in (("view_seed", view_seed, None), ("one_hot", one_hot, 2)):
        if value is not None:
            arguments.integer(name, value, low=low)
    if views is not None:
        arguments.integer("views", views, low=1)
        if isinstance(augment, augmentation.EveryShift):
            raise ValueError(
                "`views` is given by the augmentation where that is an `EveryShift`. Received: "
                f"views={views!r}, and {augment.count} of the augmentation. Leave `views` out."
            )


def prepared(epoch, images, labels, ids, *, seed, view_seed, views, augment, perturbation, one_hot):
    """A batch of `kdkeras.data.batches`: its arguments, once the pictures are gathered.

    Args:
        epoch: int64 scalar.
        images: uint8 or float tensor of shape `(batch, height, width, channels)`.
        labels: Tensor of shape `(batch,)`.
        ids: int64 tensor of shape `(batch,)`.
        seed, view_seed, views, augment, perturbation, one_hot: As in `kdkeras.data.batches`.

    Returns:
        `(x, targets)`.
    """
    view = _views(epoch, ids, seed, views, augment)
    x = examples.scaled(images)
    if one_hot is not None:
        labels = tf.one_hot(labels, one_hot)
    of_views = seed if view_seed is None else view_seed
    x, labels = augmentation.viewed(x, labels, ids, view, seed=of_views, augment=augment)
    targets = {"label": labels, "id": ids, "view": view}
    if perturbation is None:
        return x, targets
    # Keyed by the epoch: a picture's views come again, its noise does not.
    keys = randomness.keys(seed, ids, tf.fill(tf.shape(ids), epoch))
    return perturbation.stateless(x, keys), {**targets, "clean": x}


def _views(epoch, ids, seed, views, augment):
    epochs = tf.fill(tf.shape(ids), epoch)
    if isinstance(augment, augmentation.EveryShift):
        keys = randomness.keys(seed, ids, epochs)
        return tf.cast(randomness.integers(keys, augment.count, stream=VIEW), tf.int64)
    return epochs if views is None else epochs % views
