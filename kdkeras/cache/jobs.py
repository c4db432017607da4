"""What a cache is to be filled with: a teacher, and the pictures that it is to look at."""

import functools

import keras
import numpy as np
import tensorflow as tf

from kdkeras import arguments, data, inputs, taps, teachers
from kdkeras import augment as augmentation
from kdkeras.cache import identity, store
from kdkeras.models import surgery

LARGEST = float(np.finfo(np.float16).max)


class Job:
    """What is to be filled, checked: a teacher, and the pictures that it is to look at.

    Args:
        teacher, splits, views, seed, augment, layers, name, batch_size: As in `fill`.

    Attributes:
        ids: int64 array of all examples.
        identity: Plain JSON.
        classes, features: What the teacher gives: a number, and a dict of shapes by path.
    """

    def __init__(self, teacher, splits, *, views, seed, augment, layers, name, batch_size=256):
        self.splits = list(splits) if isinstance(splits, (list, tuple)) else [splits]
        self.seed, self.augment = arguments.integer("seed", seed), augment
        self.batch_size = arguments.integer("batch_size", batch_size, low=1)
        self.views = number_of_views(views, augment)
        self.teacher = teachers.as_teacher(teacher, {None: None})
        self._call, self.classes, self.features = _caller(self.teacher, list(layers))
        self.identity = identity.described(
            teacher=self.teacher, views=self.views, seed=self.seed, augment=augment, name=name
        )
        kinds = {data.numbered(split).element_spec[0] for split in self.splits}
        if len(kinds) != 1:
            raise ValueError(
                "`splits` must hold at least one split, and pictures of one size and type. "
                f"Received: {sorted(map(str, kinds))}"
            )
        self.ids = np.concatenate([_ids(split) for split in self.splits])
        if len(np.unique(self.ids)) < len(self.ids):
            raise ValueError(
                "`splits` must have distinct ids, by which answers are kept. Received: "
                f"{len(self.ids) - len(np.unique(self.ids))} ids twice."
            )

    def create(self, path, rows):
        """Makes the empty file for some of the examples."""
        store.create(
            path,
            ids=self.ids[rows],
            views=self.views,
            classes=self.classes,
            features=self.features,
            identity=self.identity,
        )

    def blocks(self, rows, size):
        """Pairs of the pictures of a block of examples, and their ids."""
        pairs = [data.numbered(split).map(lambda x, y: (x, y["id"])) for split in self.splits]
        together = functools.reduce(lambda one, other: one.concatenate(other), pairs)
        some = together.skip(rows.start).take(rows.stop - rows.start).batch(size).prefetch(1)
        yield from some.as_numpy_iterator()

    def answers(self, images, ids, views):
        """What the teacher says of views of pictures.

        Args:
            images: Array of pictures as they are in the splits.
            ids, views: int64 arrays.

        Returns:
            Dict of float16 arrays by table.

        Raises:
            ValueError: Something that it says does not fit into float16.
        """
        with inputs.clear_errors():
            said = self._answers(images, ids, views)
        return _as_float16(said)

    def answers_to(self, x):
        """As `answers`, for views that are made already."""
        with inputs.clear_errors():
            said = self._answers_to(x)
        return _as_float16(said)

    @functools.cached_property
    def _answers(self):
        def answers(images, ids, views):
            x = data.scaled(images)
            x, _ = augmentation.viewed(x, None, ids, views, seed=self.seed, augment=self.augment)
            return self._call(x)

        image, _ = data.numbered(self.splits[0]).element_spec
        batch = tf.TensorSpec([None, *image.shape], image.dtype)
        integers = tf.TensorSpec([None], tf.int64)
        return tf.function(answers, input_signature=[batch, integers, integers])

    @functools.cached_property
    def _answers_to(self):
        image, _ = data.numbered(self.splits[0]).element_spec
        return tf.function(self._call, input_signature=[tf.TensorSpec([None, *image.shape])])


def number_of_views(views, augment):
    """How many views of each picture a cache holds."""
    if isinstance(augment, augmentation.EveryShift):
        if views not in (None, augment.count):
            raise ValueError(
                f"An `EveryShift` has {augment.count} views, all of which are kept. Received: "
                f"views={views!r}. Leave `views` out, or take kdkeras.augment.pipeline(...)."
            )
        return augment.count
    if views is None:
        return 1 if augment is None else 8
    return arguments.integer("views", views, low=1)


def _caller(teacher, layers):
    """A function from pictures to float32 answers by table, the classes, and features' shapes."""
    if isinstance(teacher, teachers.Predictions):
        if layers:
            raise ValueError(f"A function has no layers to keep. Received: layers={layers}")
        return lambda x: {"logits": teacher(x)}, teacher.num_classes, {}
    if not isinstance(teacher, keras.Model) or not surgery.is_built_graph(teacher):
        raise ValueError(
            "`teacher` must be a Functional or Sequential `keras.Model`, built, a list of them, or "
            f"`kdkeras.teachers.Predictions`. Received: {teacher!r}"
        )
    surgery.check_logits("teacher", teacher)
    if isinstance(surgery.output_of(teacher), (dict, list, tuple)):
        raise ValueError(
            f"`teacher` must have one output. Received: '{teacher.name}' with several."
        )
    tapped = taps.tap(teacher, layers)
    shapes = {path: tensor.shape[1:] for path, tensor in tapped.output["features"].items()}
    free = [path for path, shape in shapes.items() if None in shape]
    if free:
        raise ValueError(
            "Layers that are kept must have outputs of a known shape: build the teacher for one "
            f"image size. Received: layers {free}"
        )

    def call(x):
        said = tapped(inputs.fitted(x, teacher), training=False)
        named = {f"features/{path}": value for path, value in said["features"].items()}
        found = {"logits": said["outputs"], **named}
        return {name: tf.cast(value, tf.float32) for name, value in found.items()}

    return call, tapped.output["outputs"].shape[-1], shapes


def _as_float16(said):
    arrays = {name: value.numpy() for name, value in said.items()}
    for name, value in arrays.items():
        largest = np.max(np.abs(value), initial=0.0)
        if not largest <= LARGEST:  # NaN too
            raise ValueError(
                f"The teacher's {name} must be finite and at most {LARGEST:.0f}, to be kept as "
                f"float16. Received: {largest}. Was it trained, and on pixels in [0, 1]?"
            )
    return {name: value.astype(np.float16) for name, value in arrays.items()}


def _ids(split):
    if isinstance(split, (data.Examples, data.Streamed)):
        return split.ids
    ids = data.numbered(split).map(lambda _, targets: targets["id"])
    found = list(ids.as_numpy_iterator())
    if not found:
        raise ValueError("`splits` must hold at least one example. Received: an empty split.")
    return np.array(found, np.int64)
