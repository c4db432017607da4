"""Batches as a pure function of their arguments and the epoch."""

import tensorflow as tf

from kdkeras import arguments, randomness
from kdkeras.data import checks, examples


def batches(
    split,
    batch_size,
    *,
    seed,
    augment=None,
    views=None,
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
    exception is mixup, which mixes what a batch happens to hold.

    Args:
        split: A split of `load`, or an un-batched `tf.data.Dataset` of (image, label) or of
            (image, {"label", "id"}), in a fixed order. Images: `(height, width, channels)`, uint8,
            or floats in [0, 1].
        batch_size: Positive integer, at most the size of the split.
        seed: Integer.
        augment: Optional callable `(images, labels, keys) -> (images, labels)` on batches, as
            `augment.pipeline` makes them.
        views: Number of different views of a picture: `view = epoch % views`. Default: a fresh
            view each epoch, `view = epoch`.
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
    arguments.integer("seed", seed)
    arguments.integer("batch_size", batch_size, low=1)
    arguments.integer("first_epoch", first_epoch, low=0)
    arguments.integer("shuffle_buffer", shuffle_buffer, low=1)
    for name, value, low in (("views", views, 1), ("one_hot", one_hot, 2)):
        if value is not None:
            arguments.integer(name, value, low=low)

    if isinstance(split, examples.Examples):
        size = len(split.ids)
        order = _gathered_order(split, batch_size, seed, shuffle, drop_remainder)
    else:
        numbered = _numbered(split)
        size = _size(numbered)
        order = _streamed_order(
            numbered, batch_size, seed, shuffle and shuffle_buffer, drop_remainder
        )
    if size is not None and batch_size > size:
        raise ValueError(
            "`batch_size` must be at most the number of examples in the split, "
            f"{size}. Received: batch_size={batch_size}"
        )

    def finish(epoch, images, labels, ids):
        view = epoch if views is None else epoch % views
        view = tf.fill(tf.shape(ids), view)
        keys = randomness.keys(seed, ids, view)
        x = examples.scaled(images)
        if one_hot is not None:
            labels = tf.one_hot(labels, one_hot)
        if augment is not None:
            x, labels = augment(x, labels, keys)
        targets = {"label": labels, "id": ids, "view": view}
        if perturbation is None:
            return x, targets
        return perturbation.stateless(x, keys), {**targets, "clean": x}

    with tf.device("CPU:0"):
        counter = tf.Variable(first_epoch - 1, dtype=tf.int64, trainable=False)
    epoch = tf.data.Dataset.from_tensors(0).map(lambda _: counter.assign_add(1))
    dataset = epoch.flat_map(order).map(finish, num_parallel_calls=tf.data.AUTOTUNE)
    if size is not None:
        count = size // batch_size if drop_remainder else -(-size // batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    dataset.epoch_counter = counter
    return dataset


def _gathered_order(split, batch_size, seed, shuffle, drop_remainder):
    """From an epoch to a dataset of batches, for a split in memory: shuffles indices, gathers."""
    size = len(split.ids)

    def order(epoch):
        index = tf.range(size)
        if shuffle:
            index = tf.random.experimental.stateless_shuffle(
                index, _seeds(seed, epoch), alg="philox"
            )
        positions = tf.data.Dataset.from_tensor_slices(index)
        return positions.batch(batch_size, drop_remainder=drop_remainder).map(
            lambda batch: (epoch, *(tf.gather(tensor, batch) for tensor in split.tensors)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

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


def _numbered(split):
    """The split as a dataset of (image, {"label", "id"})."""
    if isinstance(split, examples.Streamed):
        return split.examples
    if not isinstance(split, tf.data.Dataset):
        raise ValueError(
            "`split` must be a tf.data.Dataset of (image, label). "
            f"Received: {type(split).__name__}. For arrays: "
            "tf.data.Dataset.from_tensor_slices((images, labels))."
        )
    spec = split.element_spec
    is_named = isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], dict)
    numbered = split if is_named else examples.with_ids(split)
    image, targets = numbered.element_spec
    if set(targets) != {"label", "id"}:
        raise ValueError(
            '`split` must have targets {"label", "id"}, or plain labels. '
            f"Received: {sorted(targets)}."
        )
    if image.dtype.is_floating:
        # The first picture tells pixels in 0..255 from those in [0, 1].
        for first, _ in numbered.take(1):
            checks.check_pixels(first.numpy()[None])
    if image.shape.rank != 3:
        raise ValueError(
            "`split` must hold single images (height, width, channels), not batches. "
            f"Received: images of shape {image.shape}. Undo batches with .unbatch()."
        )
    return numbered.map(
        lambda image, targets: (image, {**targets, "id": tf.cast(targets["id"], tf.int64)})
    )


def _size(dataset):
    """The number of examples, None if tf.data does not know it."""
    size = int(dataset.cardinality())
    if size == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`split` must end: an epoch is one pass over it. Received: an endless dataset. "
            "Remove .repeat(), or give .take(n)."
        )
    return None if size == tf.data.UNKNOWN_CARDINALITY else size


def _seeds(seed, epoch):
    """Two int64 seeds for the order of one epoch."""
    return randomness.keys(seed, tf.stack([epoch, epoch]), tf.constant([-1, -2], tf.int64))
