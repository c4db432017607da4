"""A split that stays on the device, for training steps that make their own batches there."""

import functools

import numpy as np
import tensorflow as tf

from kdkeras import arguments
from kdkeras.data import batching, examples, preparing

# Pixels are gathered as 64-bit words, for which every device has kernels.
WORD = 8


class OnDevice:
    """The batches of `kdkeras.data.batches`, gathered, augmented and perturbed in the step.

    For `Distiller.fit`, on a GPU or a TPU: pixels and the teacher's recorded logits are copied to
    the device once, as uint8 and float16; from the host come the positions of each batch's
    examples alone. The batches are those of `kdkeras.data.batches`, to the last bit of float32.

    Args:
        split: A split of `kdkeras.data.load` that is in memory (`kdkeras.data.Examples`).
        batch_size, seed, augment, views, view_seed, perturbation, shuffle, first_epoch,
            drop_remainder, one_hot: As in `kdkeras.data.batches`.
        answers: Optional dict of arrays of shape `(examples, views, ...)`, in the split's order,
            or of dicts of them; those of each view join the targets, as float32.

    Attributes:
        order: `tf.data.Dataset` of (positions, epoch).
        split, batch_size, drop_remainder, one_hot: As given.

    Call arguments:
        positions: Integer tensor of shape `(batch,)`.
        epoch: int64 tensor of shape `(batch,)`.

    Returns:
        `(x, targets)`, as `kdkeras.data.batches` gives them.

    Raises:
        ValueError: As `kdkeras.data.batches`; or the split is not in memory.

    Example:

    >>> d.fit(kdkeras.data.OnDevice(splits.train, 512, seed=0), epochs=10)
    """

    def __init__(
        self,
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
        answers=None,
    ):
        if not isinstance(split, examples.Examples):
            raise ValueError(
                "`split` must be in memory to be put on a device: kdkeras.data.Examples(images, "
                "labels), or a split of kdkeras.data.load below its `memory_limit`. Received: "
                f"{type(split).__name__}. Use kdkeras.data.batches."
            )
        of_views = {"seed": seed, "view_seed": view_seed, "views": views, "augment": augment}
        preparing.check(**of_views, one_hot=one_hot)
        arguments.integer("batch_size", batch_size, low=1)
        arguments.integer("first_epoch", first_epoch, low=0)
        size = len(split.ids)
        batching.check_batch_size(batch_size, size)
        self.split, self.one_hot = split, one_hot
        self.batch_size, self.drop_remainder = batch_size, drop_remainder
        self._finish = functools.partial(
            preparing.prepared, **of_views, perturbation=perturbation, one_hot=one_hot
        )
        order = batching.order_of(size, batch_size, seed, shuffle, drop_remainder)
        dataset, counter = batching.epochs(order, first_epoch)
        dataset = dataset.map(
            lambda epoch, at: (tf.cast(at, tf.int64), tf.fill(tf.shape(at), epoch))
        )
        dataset = batching.counted(dataset, size, batch_size, drop_remainder)
        self.order = dataset.prefetch(tf.data.AUTOTUNE)
        self.order.epoch_counter = counter
        self._words = tf.convert_to_tensor(_words(split.images))
        self._labels = tf.convert_to_tensor(split.labels.astype(np.int64))
        self._ids = tf.convert_to_tensor(split.ids)
        self._answers = tf.nest.map_structure(_Table, answers or {})

    def __call__(self, positions, epoch):
        height, width, channels = self.split.images.shape[1:]
        pixels = tf.bitcast(tf.gather(self._words, positions), tf.uint8)
        pixels = tf.reshape(pixels, [-1, pixels.shape[1] * WORD])[:, : height * width * channels]
        images = tf.reshape(pixels, [-1, height, width, channels])
        labels = tf.cast(tf.gather(self._labels, positions), tf.int32)
        ids = tf.gather(self._ids, positions)
        x, targets = self._finish(epoch[0], images, labels, ids)
        said = tf.nest.map_structure(lambda table: table(positions, targets["view"]), self._answers)
        return x, {**targets, **said}


class _Table:
    """An array of shape `(examples, views, ...)` on the device."""

    def __init__(self, array):
        self.views = array.shape[1]
        self.entries = tf.convert_to_tensor(array.reshape(-1, *array.shape[2:]))

    def __call__(self, positions, views):
        return tf.cast(tf.gather(self.entries, positions * self.views + views), tf.float32)


def _words(images):
    """uint8 images as rows of int64, the last one filled up with zeros."""
    flat = images.reshape(len(images), -1)
    padding = -flat.shape[1] % WORD
    if padding:
        flat = np.pad(flat, [(0, 0), (0, padding)])
    return np.ascontiguousarray(flat).view(np.int64)
