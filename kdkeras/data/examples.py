"""Splits as datasets of (image in [0, 1], label) that know their example ids and labels."""

import numpy as np
import tensorflow as tf

from kdkeras.data import checks


class Examples(tf.data.Dataset):
    """A split held in memory: a `tf.data.Dataset` of (float32 image in [0, 1], int32 label).

    `batches` gathers whole batches from its arrays instead of iterating over it.

    Args:
        images: uint8 array of shape `(n, height, width, 3)`.
        labels: Integer array of shape `(n,)`.
        ids: Optional integer array of shape `(n,)`, distinct; positions by default.

    Attributes:
        images: uint8 array.
        labels: int32 array.
        ids: int64 array.

    Raises:
        ValueError: Shapes or types that are not these.
    """

    def __init__(self, images, labels, ids=None):
        images, labels = np.asarray(images), np.asarray(labels)
        ids = np.arange(len(labels)) if ids is None else np.asarray(ids)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                "`images` must be uint8 (0 ... 255) of shape (n, height, width, 3). Received: "
                f"dtype {images.dtype}, shape {images.shape}."
            )
        if not len(images) or labels.shape != (len(images),) or ids.shape != labels.shape:
            raise ValueError(
                "`images`, `labels` and `ids` must hold one entry for each image, and at least "
                f"one. Received: shapes {images.shape}, {labels.shape}, {ids.shape}."
            )
        if len(np.unique(ids)) != len(ids):
            raise ValueError("`ids` must be distinct: cached teacher targets go by them.")
        with tf.device("CPU:0"):
            self.tensors = (
                tf.convert_to_tensor(images),
                tf.convert_to_tensor(labels.astype(np.int32)),
                tf.convert_to_tensor(ids.astype(np.int64)),
            )
        self.images, self.labels, self.ids = (tensor.numpy() for tensor in self.tensors)
        pixels, label, _ = self.tensors
        self._dataset = tf.data.Dataset.range(len(images)).map(
            lambda i: (scaled(pixels[i]), label[i])
        )
        super().__init__(self._dataset._variant_tensor)

    def _inputs(self):
        return [self._dataset]

    @property
    def element_spec(self):
        return self._dataset.element_spec


class Streamed(tf.data.Dataset):
    """A split decoded as it is read: a `tf.data.Dataset` of (float32 image in [0, 1], int32 label).

    Args:
        images: Dataset of uint8 images, un-batched, in the order of `labels`.
        labels: Integer array of shape `(n,)`.
        ids: Integer array of shape `(n,)`, distinct.

    Attributes:
        examples: Dataset of (uint8 image, {"label", "id"}).
        labels: int32 array.
        ids: int64 array.
    """

    def __init__(self, images, labels, ids):
        self.labels, self.ids = labels.astype(np.int32), ids.astype(np.int64)
        targets = tf.data.Dataset.from_tensor_slices({"label": self.labels, "id": self.ids})
        counted = tf.data.experimental.assert_cardinality(len(labels))
        self.examples = tf.data.Dataset.zip((images, targets)).apply(counted)
        self._dataset = self.examples.map(
            lambda image, target: (scaled(image), target["label"]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        super().__init__(self._dataset._variant_tensor)

    def _inputs(self):
        return [self._dataset]

    @property
    def element_spec(self):
        return self._dataset.element_spec


def scaled(images):
    """uint8 images as float32 in [0, 1]; floating-point images as float32, taken to be scaled.

    `x' = x / 255` for integers, `x' = x` for floats.

    Args:
        images: Tensor of any shape, uint8, or floats in [0, 1].

    Returns:
        float32 tensor shaped like `images`.

    Example:

    >>> kdkeras.data.scaled(tf.constant([0, 51, 255], tf.uint8)).numpy()
    array([0. , 0.2, 1. ], dtype=float32)
    """
    if images.dtype.is_floating:
        return tf.cast(images, tf.float32)
    return tf.cast(images, tf.float32) / 255.0


def with_ids(dataset):
    """Numbers one's own examples, so that `batches` and the cache can name them.

    Args:
        dataset: Un-batched `tf.data.Dataset` of (image, label), in a fixed order.

    Returns:
        Dataset of (image, {"label": label, "id": int64 position}).

    Raises:
        ValueError: The elements are not pairs, or carry ids already.

    Example:

    >>> with_ids(tf.data.Dataset.from_tensor_slices((images, labels)))
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or isinstance(spec[1], dict):
        raise ValueError(
            "`dataset` must have elements (image, label). "
            f"Received: element_spec={spec}. Map it to such pairs first."
        )
    return dataset.enumerate().map(lambda i, element: (element[0], {"label": element[1], "id": i}))


def arrays(split):
    """A split's images and labels as arrays.

    Args:
        split: Un-batched `tf.data.Dataset` of (image, label).

    Returns:
        images: float32 array `(n, height, width, channels)`; in [0, 1] for the splits of `load`.
        labels: Array of shape `(n, ...)`.
    """
    pairs = list(split.batch(1024).as_numpy_iterator())
    if not pairs:
        raise ValueError("`split` must hold at least one example. Received: an empty dataset.")
    images, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return images.astype(np.float32), labels


def numbered(split):
    """A split, as `kdkeras.data.batches` takes it, as a dataset of (image, {"label", "id"}).

    The images are uint8 where the split's are.

    Args:
        split: An `Examples`, a `Streamed`, or an un-batched `tf.data.Dataset` of (image, label) or
            of (image, {"label", "id"}), in a fixed order.

    Returns:
        `tf.data.Dataset` of single examples; the ids are int64, positions unless the split has its
        own.

    Raises:
        ValueError: It is no such split.

    Example:

    >>> kdkeras.data.numbered(splits.train).batch(128)
    """
    if isinstance(split, Examples):
        images, labels, ids = split.tensors
        return tf.data.Dataset.from_tensor_slices((images, {"label": labels, "id": ids}))
    if isinstance(split, Streamed):
        return split.examples
    if not isinstance(split, tf.data.Dataset):
        raise ValueError(
            "`split` must be a tf.data.Dataset of (image, label). "
            f"Received: {type(split).__name__}. For arrays: "
            "tf.data.Dataset.from_tensor_slices((images, labels))."
        )
    spec = split.element_spec
    is_named = isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], dict)
    pairs = split if is_named else with_ids(split)
    image, targets = pairs.element_spec
    if set(targets) != {"label", "id"}:
        raise ValueError(
            '`split` must have targets {"label", "id"}, or plain labels. '
            f"Received: {sorted(targets)}."
        )
    if image.dtype.is_floating:
        # The first picture tells pixels in 0..255 from those in [0, 1].
        for first, _ in pairs.take(1):
            checks.check_pixels(first.numpy()[None])
    if image.shape.rank != 3:
        raise ValueError(
            "`split` must hold single images (height, width, channels), not batches. "
            f"Received: images of shape {image.shape}. Undo batches with .unbatch()."
        )
    return pairs.map(
        lambda image, targets: (image, {**targets, "id": tf.cast(targets["id"], tf.int64)})
    )


def size(dataset):
    """The number of examples, None if tf.data does not know it.

    Args:
        dataset: Un-batched `tf.data.Dataset`.

    Returns:
        Integer of at least 0, or None.

    Raises:
        ValueError: The dataset is endless.

    Example:

    >>> kdkeras.data.size(kdkeras.data.load("digits").test)
    359
    """
    found = int(dataset.cardinality())
    if found == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`split` must end: an epoch is one pass over it. Received: an endless dataset. "
            "Remove .repeat(), or give .take(n)."
        )
    return None if found == tf.data.UNKNOWN_CARDINALITY else found
