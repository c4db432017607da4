"""Filling a cache: the teacher looks at every view of every picture once."""

import math
import pathlib

import numpy as np

from kdkeras import arguments, files, locks
from kdkeras.cache import identity, jobs, layout, reading, store
from kdkeras.data import sources


def fill(
    path,
    teacher,
    splits,
    *,
    views=None,
    seed=0,
    augment=None,
    layers=(),
    name=None,
    batch_size=256,
    shard=None,
    overwrite=False,
    verbose=1,
):
    """Writes a teacher's logits for every view of every picture to a file, as float16.

    `table[id, view] = float16(teacher(picture(seed, id, view)))`. The temperature stays free: it is
    logits that are kept. The file gets its name when it is complete; until then it stands beside
    it as `<path>.partial`, and the same call goes on with that. Its size, mostly examples x views x
    classes x 2 bytes, is said before it starts.

    Args:
        path: The file to write, for example "teacher.cache".
        teacher: `keras.Model` with logits, a list of them, or `kdkeras.teachers.Predictions`.
        splits: A split as `kdkeras.data.batches` takes it, or a list of them with distinct ids.
            With training and validation images together, a cache serves every seed of
            `kdkeras.data.load`.
        views: How many seeded views of each picture, 8 unless given; 1 without augmentation. Of an
            `EveryShift`, all views.
        seed: Integer, of the views.
        augment: None, `kdkeras.augment.pipeline(...)` without mixup, or `EveryShift`.
        layers: Paths of the teacher's layers whose outputs are kept too, for terms of layers.
        name: Of a teacher that is a function: what stands for it. It must change when its answers
            do.
        batch_size: Pictures that the teacher sees at a time.
        shard: None, or `(i, n)` with i in 1 ... n: fill one part of n, as one of n processes. The
            one that finishes last puts the parts together.
        overwrite: Whether to replace a cache with another identity that stands there.
        verbose: 0 for no messages and no progress bar.

    Returns:
        The `Cache`; None if other parts are missing.

    Raises:
        ValueError: The arguments do not fit, a file that stands there is another cache, another
            process is writing it, or the teacher's answers do not fit into float16.
        OSError: No room on the disk.

    Example:

    >>> shifts = kdkeras.augment.pipeline("crop,flip")
    >>> cache = kdkeras.cache.fill("t.cache", teacher, splits.train, views=8, augment=shifts)
    """
    path = pathlib.Path(path)
    job = jobs.Job(
        teacher, splits, views=views, seed=seed, augment=augment, layers=layers, name=name,
        batch_size=batch_size,
    )  # fmt: skip
    count = len(job.ids)
    own, rows, names = path, slice(0, count), []
    if shard is not None:
        _check_shard(shard, count)
        part, parts = shard
        names = [path.with_name(f"{path.name}.part-{i}-of-{parts}") for i in range(1, parts + 1)]
        own, rows = names[part - 1], slice((part - 1) * count // parts, part * count // parts)
    lock = locks.beside(own)
    left = [name for name in (lock, *names) if name.exists()]  # by a process that was killed
    there = _standing(path, job, overwrite)
    if there is not None and not left:
        return _complete(there, verbose)
    with locks.alone(lock, of=own):
        there = there or _standing(path, job, overwrite)
        if there is not None:
            for name in names:
                name.unlink(missing_ok=True)
            return _complete(there, verbose)
        done = _standing(own, job, overwrite, rows) if shard is not None else None
        if done is None:
            _fill(own, job, rows, overwrite, verbose)
        else:
            done.close()
    if shard is None:
        return reading.load(path)
    missing = [name.name for name in names if not name.exists()]
    if not missing:
        _join(path, names, job)
    there = _standing(path, job, overwrite)  # put together here, or by another process
    if there is None and verbose:
        print(f"Part {part} of {parts} is done. Still to come: {', '.join(missing)}")
    return there


def _complete(there, verbose):
    """A cache that stands there, with what is said of it."""
    if verbose:
        print(f"'{there.path}' is complete already.")
    return there


def _check_shard(shard, count):
    part, parts = shard if isinstance(shard, (tuple, list)) and len(shard) == 2 else (0, 0)
    if not 1 <= arguments.integer("shard", part) <= arguments.integer("shard", parts) <= count:
        raise ValueError(
            "`shard` must be (i, n), part i of n: i in 1 ... n, and n at most the number of "
            f"examples, {count}. Received: shard={shard!r}"
        )


def _standing(path, job, overwrite, rows=None):
    """The cache, or the part of it, that stands there complete, or None; another one is refused."""
    if not path.exists():
        return None
    there = None
    try:
        there = reading.load(path)
        if rows is None:  # it may know more examples
            _refuse(path, _differing(there.store, job, np.isin(job.ids, there.store.ids).all()))
            for split in job.splits:
                there.check(split=split)
        else:
            _refuse(path, _differing_part(there.store, job, rows))
    except ValueError as error:
        if there is not None:
            there.close()
        if not overwrite or isinstance(error, layout.Foreign):
            raise
        return None
    return there


def _differing_part(stored, job, rows):
    return _differing(stored, job, np.array_equal(stored.ids, job.ids[rows]))


def _differing(stored, job, same_examples):
    """What makes a cache another one than a job's, as a list of sentences."""
    found = identity.differences(stored.layout.identity, job.identity)
    layers = [sorted(shapes) for shapes in (stored.layout.features, job.features)]
    if layers[0] != layers[1]:
        found.append(f"layers: {layers[0]} there, {layers[1]} here")
    if stored.layout.classes != job.classes:
        found.append(f"classes: {stored.layout.classes} there, {job.classes} here")
    if not same_examples:
        found.append("other examples")
    return found


def _refuse(path, differing):
    if differing:
        raise ValueError(
            f"The cache '{path}' is of something else: {'; '.join(differing)}. Take another path, "
            "delete it, or replace it with `overwrite`."
        )


def _fill(path, job, rows, overwrite, verbose):
    """Fills the file of some of the examples, from where it was left."""
    partial = path.with_name(f"{path.name}.partial")
    files.sweep(path.parent, [partial.name])
    stored = opened(partial, job, rows, overwrite, verbose)
    try:
        if verbose:
            say(stored, job)
            done, count = int(np.sum(stored.states)), stored.layout.blocks
            there = f" ({done} of {count} blocks are there already)" if done else ""
            pictures = stored.layout.examples * job.views
            print(f"The teacher looks at {pictures:,} pictures{there}.", flush=True)
        progress = sources.progress(stored.layout.examples * job.views, verbose)
        for block, (images, ids) in enumerate(job.blocks(rows, stored.layout.block)):
            where = stored.rows(block)
            if not np.array_equal(ids, stored.ids[where]):
                raise ValueError("`splits` must give their examples in a fixed order.")
            marks = identity.prints(images)
            if stored.states[block]:
                if (stored.tables["prints"][where] != marks).any():
                    raise ValueError(
                        f"'{partial}' was begun with other pictures. Delete it, or take another "
                        "path."
                    )
                continue
            stored.tables["prints"][where] = marks
            _look(stored, where, images, ids, job, progress)
            stored.seal(block)
        stored.flush()
        files.rename(partial, path)
    finally:
        stored.close()


def _look(stored, where, images, ids, job, progress):
    """Writes what the teacher says of all views of some examples."""
    pairs = len(ids) * job.views
    tables = {name: table[where] for name, table in stored.answers.items()}
    for start in range(0, pairs, job.batch_size):
        example, view = np.divmod(np.arange(start, min(start + job.batch_size, pairs)), job.views)
        for name, said in job.answers(images[example], ids[example], view).items():
            tables[name][example, view] = said
        progress(where.start * job.views + start + len(view))


def opened(path, job, rows, overwrite, verbose):
    """The file to be filled, made where there is none; what is spoilt in it is to be done again.

    Args:
        path: The file.
        job: `kdkeras.cache.jobs.Job`.
        rows: Slice of the job's examples.
        overwrite, verbose: As in `fill`.

    Returns:
        `kdkeras.cache.store.Store`, writable.
    """
    if not path.exists():
        job.create(path, rows)
    stored = store.Store(path, writable=True)
    differing = _differing_part(stored, job, rows)
    if differing:
        stored.close()
        if not overwrite:
            _refuse(path, differing)
        path.unlink()
        return opened(path, job, rows, overwrite, verbose)
    spoilt = stored.spoilt()
    if spoilt and verbose:
        print(f"{len(spoilt)} blocks of '{path}' are damaged and are filled again.")
    stored.forget(spoilt)
    return stored


def say(stored, job):
    """Says how big a cache is."""
    of = stored.layout
    sizes = {
        name: _readable(np.dtype(dtype).itemsize * math.prod(shape))
        for name, (dtype, shape) in of.tables.items()
        if name != "prints"
    }
    print(
        f"Cache of '{job.identity['teacher']['name']}': {of.examples:,} pictures x {of.views} views"
        f" x {of.classes} classes in float16, {sizes.pop('logits')}, in {stored.path}"
    )
    for name, size in sizes.items():
        print(f"  {name}: {size}")


def _readable(size):
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def _join(path, names, job):
    """Puts all parts into one file and removes them, unless another process is at it."""
    with store.alone(names[0]) as first:
        if not first or not all(name.exists() for name in names):
            return
        parts = [reading.load(name) for name in names]
        count = len(job.ids)
        for i, part in enumerate(parts):
            rows = slice(i * count // len(parts), (i + 1) * count // len(parts))
            _refuse(part.path, _differing_part(part.store, job, rows))
        partial = path.with_name(f"{path.name}.partial")
        job.create(partial, slice(0, len(job.ids)))
        joined = store.Store(partial, writable=True)
        start = 0
        for part in parts:
            count = part.store.layout.examples
            for name, table in part.store.tables.items():
                joined.tables[name][start : start + count] = table
            start += count
            part.close()
        for block in range(joined.layout.blocks):
            joined.seal(block)
        joined.flush()
        files.rename(partial, path)
        joined.close()
        for name in names:
            name.unlink(missing_ok=True)
