"""Batches as a pure function of their arguments and the epoch."""

import functools

import tensorflow as tf

from kdkeras import arguments, randomness
from kdkeras.data import examples, preparing


def batches(
    split,
    batch_size,
    *,
    seed,
    augment=None,
    views=None,
    view_seed=None,
    perturbation=None,
    shuffle=True,
    first_epoch=0,
    drop_remainder=False,
    one_hot=None,
    shuffle_buffer=10_000,
):
    """Batches of a split, shuffled and augmented anew each epoch, with ids and views.

    The epoch is `first_epoch` plus the number of iterators that this dataset has already started,
    so that `fit(dataset, epochs=10)` sees ten orders and ten views of each picture. Two datasets
    built with the same arguments give the same batches; to resume at epoch k, pass
    `first_epoch=k`. (`fit(steps_per_epoch=...)` keeps one iterator: give it `dataset.repeat()`.)

    Every example has a key, `randomness.keys(seed, id, view)`, from which all its random draws are
    made: the picture of (seed, id, view) is the same in any batch, order and epoch. The one
    exception is mixup, which mixes what a batch happens to hold. Noise is drawn by (seed, id,
    epoch).

    Args:
        split: A split of `load`, or an un-batched `tf.data.Dataset` of (image, label) or of
            (image, {"label", "id"}), in a fixed order. Images: `(height, width, channels)`, uint8,
            or floats in [0, 1].
        batch_size: Positive integer, at most the size of the split.
        seed: Integer.
        augment: Optional callable `(images, labels, keys) -> (images, labels)` on batches, as
            `augment.pipeline` makes them; or an `augment.EveryShift`, of whose views each example
            draws one an epoch.
        views: Number of different views of a picture: `view = epoch % views`. Default: a fresh
            view each epoch, `view = epoch`.
        view_seed: The seed of the views; `seed` unless given. Trainings that differ in `seed` (in
            order and noise) then see the same views, so that they can share a teacher's answers.
        perturbation: Optional object with `stateless(images, keys) -> images`, for example
            `perturbations.Gaussian`.
        shuffle: Whether to shuffle.
        first_epoch: The epoch of the first iterator.
        drop_remainder: Whether to drop a last batch smaller than the others.
        one_hot: Number of classes to one-hot the labels to (float32), as mixup needs.
        shuffle_buffer: Examples from which a split that is not in memory draws the next one.

    Returns:
        `tf.data.Dataset` of `(x, {"label", "id", "view"})`: float32 `(batch, height, width,
        channels)`, labels as in the split, int64 ids and views `(batch,)`. With a perturbation, of
        `(x', {"label", "id", "view", "clean": x})`.

    Raises:
        ValueError: Arguments out of range, a batched or endless split.

    Example:

    >>> data = batches(splits.train, 128, seed=0, augment=augment.pipeline("crop,flip"))
    >>> model.fit(data.map(lambda x, y: (x, y["label"])), epochs=10)
    """
    of_views = {"seed": seed, "view_seed": view_seed, "views": views, "augment": augment}
    preparing.check(**of_views, one_hot=one_hot)
    arguments.integer("batch_size", batch_size, low=1)
    arguments.integer("first_epoch", first_epoch, low=0)
    arguments.integer("shuffle_buffer", shuffle_buffer, low=1)

    if isinstance(split, examples.Examples):
        size = len(split.ids)
        positions = order_of(size, batch_size, seed, shuffle, drop_remainder)

        def order(epoch):
            return positions(epoch).map(
                lambda epoch, at: (epoch, *(tf.gather(tensor, at) for tensor in split.tensors)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
    else:
        numbered = examples.numbered(split)
        size = examples.size(numbered)
        order = _streamed_order(
            numbered, batch_size, seed, shuffle and shuffle_buffer, drop_remainder
        )
    check_batch_size(batch_size, size)
    finish = functools.partial(
        preparing.prepared, **of_views, perturbation=perturbation, one_hot=one_hot
    )
    dataset, counter = epochs(order, first_epoch)
    dataset = dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE)
    if size is not None:
        dataset = counted(dataset, size, batch_size, drop_remainder)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    dataset.epoch_counter = counter
    return dataset


def check_batch_size(batch_size, size):
    """Raises a `ValueError` if a batch would be larger than the split; `size` may be None."""
    if size is not None and batch_size > size:
        raise ValueError(
            "`batch_size` must be at most the number of examples in the split, "
            f"{size}. Received: batch_size={batch_size}"
        )


def epochs(order, first_epoch):
    """A dataset of which each iterator is the next epoch, and the variable that counts them.

    Args:
        order: A function from an epoch to a dataset of its batches.
        first_epoch: The epoch of the first iterator.
    """
    with tf.device("CPU:0"):
        counter = tf.Variable(first_epoch - 1, dtype=tf.int64, trainable=False)
    epoch = tf.data.Dataset.from_tensors(0).map(lambda _: counter.assign_add(1))
    return epoch.flat_map(order), counter


def counted(dataset, size, batch_size, drop_remainder):
    """A dataset of batches that knows how many it has."""
    count = size // batch_size if drop_remainder else -(-size // batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def order_of(size, batch_size, seed, shuffle, drop_remainder):
    """A function from an epoch to a dataset of (epoch, positions of a batch's examples)."""

    def order(epoch):
        index = tf.range(size)
        if shuffle:
            index = tf.random.experimental.stateless_shuffle(
                index, _seeds(seed, epoch), alg="philox"
            )
        positions = tf.data.Dataset.from_tensor_slices(index)
        batched = positions.batch(batch_size, drop_remainder=drop_remainder)
        return batched.map(lambda at: (epoch, at))

    return order


def _streamed_order(numbered, batch_size, seed, shuffle_buffer, drop_remainder):
    """From an epoch to a dataset of batches, for (image, {"label", "id"}): a shuffle buffer."""

    def order(epoch):
        dataset = numbered
        if shuffle_buffer:
            if not tf.executing_eagerly():
                # In the graph of this function alone: without it, the program's global seed would
                # change the order. (tf.data does not take 0 beside a seed that is a tensor.)
                tf.random.set_seed(1)
            dataset = dataset.shuffle(
                shuffle_buffer, seed=_seeds(seed, epoch)[0], reshuffle_each_iteration=False
            )
        return dataset.batch(batch_size, drop_remainder=drop_remainder).map(
            lambda images, targets: (epoch, images, targets["label"], targets["id"])
        )

    return order


def _seeds(seed, epoch):
    """Two int64 seeds for the order of one epoch."""
    return randomness.keys(seed, tf.stack([epoch, epoch]), tf.constant([-1, -2], tf.int64))
