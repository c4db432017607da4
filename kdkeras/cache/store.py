"""A cache's file, mapped into memory: blocks are written, sealed by a checksum, and verified."""

import contextlib
import errno
import math
import os
import pathlib
import shutil
import zlib

import numpy as np

from kdkeras import files
from kdkeras.cache import layout as layouts

CHUNK = 1 << 22
UNKNOWN = np.uint16(0xFFFF).view(np.float16)


class Store:
    """The open file of a cache.

    Args:
        path: The file.
        writable: Whether it is to be written; then no other process may write it meanwhile.

    Attributes:
        path, layout: The file and its `Layout`.
        ids: int64 array.
        sums, states: Arrays of the blocks.
        tables: Dict of the mapped tables: "prints", "logits" and "features/<path>".

    Raises:
        ValueError: The file is no cache, or damaged in its header, length or ids; or another
            process is writing it.
        OSError: It cannot be opened.
    """

    def __init__(self, path, *, writable=False):
        self.path = pathlib.Path(path)
        self.layout = layouts.read(path)
        self._file = open(self.path, "rb+" if writable else "rb")  # noqa: SIM115
        if writable and not _lock(self._file):
            self._file.close()
            raise ValueError(
                f"Another process is writing '{path}'. Wait for it; to fill a cache with several "
                "processes, give each its own shard."
            )
        sections, _ = self.layout.sections()
        mapped = {
            name: np.memmap(self._file, dtype, "r+" if writable else "r", offset, shape)
            for name, (offset, dtype, shape) in sections.items()
        }
        self.ids = mapped.pop("ids")
        self.sums, self.states = mapped.pop("sums"), mapped.pop("states")
        self.tables = mapped
        if zlib.crc32(self.ids) != self.layout.ids_sum:
            self.close()
            raise layouts.damaged(self.path, "its ids do not have their checksum")

    @property
    def answers(self):
        """The tables of what the teacher said: all but the hashes."""
        self._check_open()
        return {name: table for name, table in self.tables.items() if name != "prints"}

    @property
    def prints(self):
        """The hashes of the pictures."""
        self._check_open()
        return self.tables["prints"]

    def _check_open(self):
        if not self.tables:
            # Marked as `kdkeras.inputs.clear_errors` finds it.
            raise ValueError(f"[kdkeras: The cache '{self.path}' is closed. Load it again.]")

    def rows(self, block):
        """The slice of the examples of a block."""
        size = self.layout.block
        return slice(block * size, min((block + 1) * size, self.layout.examples))

    def checksum(self, block):
        found = 0
        for table in self.tables.values():
            found = zlib.crc32(np.ascontiguousarray(table[self.rows(block)]), found)
        return found

    def seal(self, block):
        """Marks a block as written."""
        self.sums[block] = self.checksum(block)
        self.states[block] = 1

    def spoilt(self):
        """The blocks that say they are written and do not have their checksum."""
        return [
            block
            for block in np.flatnonzero(self.states)
            if self.states[block] != 1 or self.checksum(block) != self.sums[block]
        ]

    def forget(self, blocks):
        """Marks blocks as not known."""
        for block in blocks:
            self.states[block] = 0
            for table in self.answers.values():
                table[self.rows(block)] = UNKNOWN

    def is_written(self):
        """Whether another process is writing the file."""
        with alone(self.path) as free:
            return not free

    def unknown(self):
        """The share of the answers that are not known yet; what is not sealed is not known."""
        logits = self.tables["logits"][..., 0]
        blocks = ((logits[self.rows(block)], sealed) for block, sealed in enumerate(self.states))
        found = (np.isnan(said).sum() if sealed else said.size for said, sealed in blocks)
        return int(sum(found)) / logits.size

    def flush(self):
        """Puts everything on the disk."""
        for part in (*self.tables.values(), self.sums, self.states):
            part.flush()

    def close(self):
        """Closes the file; the tables are gone."""
        self.tables, self.sums, self.states = {}, None, None
        if self._file.closed:
            return
        _unlock(self._file)  # the mapped tables keep the file open for as long as they are used
        self._file.close()


def create(path, *, ids, views, classes, features, identity):
    """Makes the file of a cache of which nothing is known yet, all of its bytes on the disk.

    Every byte is written, so that a full disk is an error here, and not a crash later on.

    Args:
        path: Where.
        ids: Integer array, one entry an example.
        views, classes, features, identity: As in `Layout`.

    Raises:
        OSError: No room; nothing is left behind.
    """
    path, ids = pathlib.Path(path), np.ascontiguousarray(ids, "<i8")
    made = layouts.Layout(len(ids), views, classes, features, zlib.crc32(ids), identity)
    sections, size = made.sections()
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise OSError(
            errno.ENOSPC,
            f"Could not write {path}: it needs {size:,} bytes, and its disk has {free:,} left. "
            "Take another disk, or fewer views.",
        )
    known = {"ids": ids, "sums": bytes(4 * made.blocks), "states": bytes(made.blocks)}
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(made.lead())
        for name, (offset, dtype, shape) in sections.items():
            file.write(bytes(offset - file.tell()))
            if name in known:
                file.write(known[name])
            end = offset + np.dtype(dtype).itemsize * math.prod(shape)
            while file.tell() < end:
                file.write(b"\xff" * min(CHUNK, end - file.tell()))


@contextlib.contextmanager
def alone(path):
    """Yields whether this process alone holds a file, until the end of the block."""
    try:
        with open(path, "rb") as file:
            yield _lock(file)
    except FileNotFoundError:
        yield False


def _lock(file):
    """Whether the file could be locked, until it is closed."""
    if os.name != "posix":
        return True  # there, nothing keeps two processes apart
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(file):
    if os.name == "posix":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)
