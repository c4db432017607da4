"""A cache that is filled while a student learns: the teacher runs for what is not known yet."""

import pathlib
import threading

import numpy as np
import tensorflow as tf

from kdkeras.cache import filling, identity, jobs, reading


def lazy(
    path,
    teacher,
    splits,
    *,
    views=None,
    seed=0,
    augment=None,
    layers=(),
    name=None,
    overwrite=False,
    verbose=1,
):
    """Opens a cache that asks its teacher for what it does not know, and keeps the answer.

    For tables too big to fill ahead, such as all 162 shifts of each picture: a training of 100
    epochs looks at 100 of them, the next one finds 46 % of its own there. One process at a time may
    have it open. What is damaged in the file is forgotten, and asked for again.

    Args:
        path: The file; made if it is not there, with room for everything.
        teacher, splits, views, seed, augment, layers, name, overwrite, verbose: As in
            `kdkeras.cache.fill`.

    Returns:
        A `Cache`.

    Raises:
        ValueError: As `kdkeras.cache.fill`; or another process has it open.
        OSError: No room on the disk.

    Example:

    >>> every = kdkeras.augment.EveryShift(padding=4)
    >>> cache = kdkeras.cache.lazy("t.cache", teacher, splits.train, augment=every)
    >>> d.fit(cache.batches(splits.train, 128, seed=0), epochs=100)
    """
    path = pathlib.Path(path)
    job = jobs.Job(
        teacher, splits, views=views, seed=seed, augment=augment, layers=layers, name=name
    )  # fmt: skip
    opened = filling.opened(path, job, slice(0, len(job.ids)), overwrite, verbose)
    if verbose:
        filling.say(opened, job)
    if not np.all(opened.states):
        for block, (images, _) in enumerate(
            job.blocks(slice(0, len(job.ids)), opened.layout.block)
        ):
            if not opened.states[block]:
                opened.tables["prints"][opened.rows(block)] = identity.prints(images)
                opened.seal(block)
        opened.flush()
    return Lazy(opened, job)


class Lazy(reading.Cache):
    """A `Cache` with its teacher at hand.

    Args:
        opened: `kdkeras.cache.store.Store`, writable.
        job: `kdkeras.cache.jobs.Job`.

    Attributes:
        asked: How many pictures the teacher has looked at.
    """

    def __init__(self, opened, job):
        super().__init__(opened)
        self._job, self._lock, self.asked = job, threading.Lock(), 0

    @property
    def known(self):
        """The share of the answers that are known."""
        return 1.0 - self.store.unknown()

    def _said(self, x, ids, views):
        kinds = [tf.float16] * (1 + len(self.layers))
        return tf.py_function(self._found, [x, ids, views], kinds)

    def _found(self, x, ids, views):
        ids, views = ids.numpy(), views.numpy()
        with self._lock:
            rows = self.rows(ids, views)
            new = np.isnan(self.store.tables["logits"][rows, views, 0])
            if new.any():
                try:
                    said = self._job.answers_to(tf.boolean_mask(x, new))
                except ValueError as error:  # marked for `kdkeras.inputs.clear_errors`
                    raise ValueError(f"[kdkeras: {error}]") from None
                for name, answers in said.items():
                    self.store.tables[name][rows[new], views[new]] = answers
                for block in np.unique(rows[new] // self.store.layout.block):
                    self.store.seal(block)
                self.asked += int(new.sum())
            return self.said(ids, views)
