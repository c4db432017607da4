"""Learning from a cache: batches whose targets hold what the teacher said of each view."""

import functools
import json

import numpy as np
import tensorflow as tf

from kdkeras import augment as augmentation
from kdkeras import data
from kdkeras.cache import identity, layout, store


def load(path):
    """Opens a complete cache, its checksums compared with every byte of it.

    Args:
        path: A file that `fill` wrote.

    Returns:
        A `Cache`.

    Raises:
        ValueError: It is no cache, damaged, or not complete.
        OSError: It cannot be read.

    Example:

    >>> cache = kdkeras.cache.load("teacher.cache")
    >>> d = kdkeras.Distiller(student=student)  # no teacher
    >>> d.fit(cache.batches(splits.train, 128, seed=0))
    """
    opened = store.Store(path)
    spoilt = opened.spoilt()
    unknown = opened.unknown()
    if spoilt and opened.is_written():
        opened.close()
        raise ValueError(f"Another process is writing '{path}'. Wait until it is done.")
    if spoilt or unknown:
        opened.close()
    if spoilt:
        where = f"{len(spoilt)} of {opened.layout.blocks} blocks do not have their checksums"
        raise layout.damaged(path, where)
    if unknown:
        raise ValueError(
            f"The cache '{path}' is not complete: {unknown:.1%} of it is not known yet. Give its "
            "teacher: kdkeras.cache.lazy(path, teacher, ...) goes on with it."
        )
    return Cache(opened)


class Cache:
    """A teacher known by what it said: an open cache.

    Args:
        opened: `kdkeras.cache.store.Store`.

    Attributes:
        path: The file.
        identity: Teacher, views, seed and augmentation, as plain JSON.
        views, seed, augment: What `kdkeras.data.batches` needs to make the same views.
        classes: The number of classes.
        layers: Paths of the layers whose outputs are kept.
    """

    def __init__(self, opened):
        self.store, self.path = opened, opened.path
        self.identity = opened.layout.identity
        self.views, self.seed = self.identity["views"], self.identity["seed"]
        self.augment = augmentation.from_description(self.identity["augment"])
        self.classes, self.layers = opened.layout.classes, list(opened.layout.features)
        self._order = np.argsort(opened.ids)
        self._ids = opened.ids[self._order]

    def check_identity(self, wanted):
        """Raises a `ValueError` that says what differs, if the cache is not what is wanted.

        Args:
            wanted: Some of the keys of `identity`.
        """
        differing = identity.differences(self.identity, wanted)
        if differing:
            raise ValueError(
                f"The cache '{self.path}' is of something else: {'; '.join(differing)}. Fill "
                "another one, under another path."
            )

    def check(self, *, teacher=None, name=None, split=None):
        """Refuses a teacher or pictures that the cache was not filled with.

        Args:
            teacher: None, or a teacher as `fill` takes it.
            name: Of a teacher that is a function, what stands for it.
            split: None, or a split as `kdkeras.data.batches` takes it. Of one that is not in memory
                the first 256 pictures are compared.

        Raises:
            ValueError: The message says what differs.
        """
        if teacher is not None:
            self.check_identity({"teacher": identity.of_teacher(teacher, name)})
        self.check_identity({"version of views": augmentation.VERSION})
        if split is not None:
            prints = self.store.prints[self._order]
            identity.check_split(split, self._ids, prints, self.path)

    def options(self):
        """The arguments with which `kdkeras.data.batches` makes the cache's views."""
        every = isinstance(self.augment, augmentation.EveryShift)
        views = None if every else self.views
        return {"augment": self.augment, "views": views, "view_seed": self.seed}

    def batches(self, split, batch_size, *, seed, **options):
        """Batches of a split with the teacher's logits, as `kdkeras.data.batches` makes them.

        Targets go by id and view: shuffling, other batch sizes, repetition, dropped remainders and
        resuming change nothing about what belongs to what.

        Args:
            split, batch_size, seed: As in `kdkeras.data.batches`; `seed` is of the order and the
                noise, the views have the cache's own.
            **options: Its other arguments, but `augment`, `views` and `view_seed`, which are the
                cache's.

        Returns:
            `tf.data.Dataset` of `(x, {"label", "id", "view", "logits"})`, with "features" if the
            cache holds some.

        Raises:
            ValueError: The cache was filled with other pictures, or as `kdkeras.data.batches`.

        Example:

        >>> d.fit(cache.batches(splits.train, 128, seed=0), epochs=8)
        """
        self._check_options(options)
        self.check(split=split)
        made = data.batches(split, batch_size, seed=seed, **options, **self.options())
        joined = self.join(made)
        joined.epoch_counter = made.epoch_counter
        return joined

    def on_device(self, split, batch_size, *, seed, **options):
        """As `batches`, for a training that makes its batches on the device.

        Args:
            split: A split in memory, `kdkeras.data.Examples`.
            batch_size, seed, **options: As in `batches`.

        Returns:
            `kdkeras.data.OnDevice`, with what the teacher said of the split's pictures.

        Raises:
            ValueError: As `batches`; or the split is not in memory.

        Example:

        >>> d.fit(cache.on_device(splits.train, 512, seed=0), epochs=8)
        """
        self._check_options(options)
        self.check(split=split)
        made = functools.partial(data.OnDevice, split, batch_size, seed=seed, **options)
        if not isinstance(split, data.Examples):
            return made()  # which says what is wrong
        rows = self.rows(split.ids, np.zeros(len(split.ids), np.int64))
        logits, *features = (table[rows] for table in self.store.answers.values())
        answers = {"logits": logits}
        if features:
            answers["features"] = dict(zip(self.layers, features, strict=True))
        return made(answers=answers, **self.options())

    def _check_options(self, options):
        given = sorted(set(options) & set(self.options()))
        if given:
            raise ValueError(
                f"{', '.join(f'`{name}`' for name in given)} are the cache's own. Received: "
                f"{ {name: options[name] for name in given} }. Leave them out."
            )

    def join(self, dataset):
        """A dataset of `(x, {"id", "view", ...})` with the teacher's answers in its targets.

        The views must be the cache's: made with `kdkeras.data.batches(..., **cache.options())`.

        Args:
            dataset: `tf.data.Dataset` of batches.

        Returns:
            `tf.data.Dataset`.
        """
        shapes = [(self.classes,), *self.store.layout.features.values()]

        def add(x, targets):
            said = self._said(targets.get("clean", x), targets["id"], targets["view"])
            for tensor, shape in zip(said, shapes, strict=True):
                tensor.set_shape([None, *shape])
            logits, *features = (tf.cast(tensor, tf.float32) for tensor in said)
            targets = {**targets, "logits": logits}
            if features:
                targets["features"] = dict(zip(self.layers, features, strict=True))
            return x, targets

        return dataset.map(add).prefetch(tf.data.AUTOTUNE)

    def _said(self, x, ids, views):
        del x
        kinds = [tf.float16] * (1 + len(self.layers))
        return tf.numpy_function(self.said, [ids, views], kinds, stateful=False)

    def said(self, ids, views):
        """What the teacher said of views of pictures.

        Args:
            ids, views: Integer arrays of shape `(n,)`.

        Returns:
            List of float16 arrays: the logits, `(n, num_classes)`, and the outputs of the layers.

        Raises:
            ValueError: An id or a view is not in the cache.
        """
        rows, views = self.rows(ids, views), np.asarray(views)
        return [table[rows, views] for table in self.store.answers.values()]

    def rows(self, ids, views):
        """The rows of examples in the tables; ids and views that are not there are refused.

        Args:
            ids, views: Integer arrays of shape `(n,)`.

        Returns:
            Integer array of shape `(n,)`.

        Raises:
            ValueError: An id or a view is not in the cache.
        """
        ids, views = np.asarray(ids), np.asarray(views)
        place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        unknown = ids[self._ids[place] != ids]
        beyond = views[(views < 0) | (views >= self.views)]
        if len(unknown) or len(beyond):
            what = f"id {unknown[0]}" if len(unknown) else f"view {beyond[0]} of {self.views}"
            # Marked as `kdkeras.inputs.clear_errors` finds it, behind what TensorFlow adds.
            raise ValueError(
                f"[kdkeras: The cache '{self.path}' does not hold {what}. Make the batches with "
                "cache.batches(...), or data.batches(..., **cache.options()).]"
            )
        return self._order[place]

    def close(self):
        """Closes the file."""
        self.store.close()

    def __repr__(self):
        return f"<Cache {json.dumps(str(self.path))} of {self.identity['teacher']['name']!r}>"
