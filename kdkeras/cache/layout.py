"""The form of a cache on disk: a header, then tables that are mapped into memory.

16 bytes of magic; the header's length (uint64) and CRC-32 (uint32), 4 bytes unused; the header, as
JSON; from the next multiple of 4096 on, each at a multiple of 64:

    ids      int64   (examples,)
    sums     uint32  (blocks,)          CRC-32 of each block of examples in the tables below
    states   uint8   (blocks,)          1 once a block is written
    prints   uint64  (examples,)        a hash of each example's picture
    logits   float16 (examples, views, classes)
    features float16 (examples, views, ...), one table a layer

Everything is little-endian. Of an entry that is not known yet all bits are set: NaN.
"""

import dataclasses
import json
import math
import pathlib
import zlib

import numpy as np

FORMAT = 1
MAGIC = b"kdkeras cache\n\x00\x00"
LEAD = len(MAGIC) + 16
# Entries of a block; a crash costs the work of one at most. Another number is another format.
BLOCK = 2048


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a cache holds, and so where in the file everything stands.

    Attributes:
        examples, views, classes: The sizes of the table of logits.
        features: Dict from a layer's path to the shape of its output, a tuple.
        ids_sum: CRC-32 of the ids.
        identity: Whose answers to what these are: plain JSON.
    """

    examples: int
    views: int
    classes: int
    features: dict
    ids_sum: int
    identity: dict

    @property
    def block(self):
        """Examples in a block."""
        return max(1, min(self.examples, BLOCK // self.views))

    @property
    def blocks(self):
        return -(-self.examples // self.block)

    @property
    def tables(self):
        """Dtype and shape of each table that is written block by block."""
        shapes = {"logits": (self.classes,)}
        shapes |= {f"features/{path}": shape for path, shape in self.features.items()}
        entries = (self.examples, self.views)
        found = {name: ("<f2", (*entries, *shape)) for name, shape in shapes.items()}
        return {"prints": ("<u8", (self.examples,)), **found}

    def sections(self):
        """Dict from name to (offset, dtype, shape), and the length of the file."""
        parts = {
            "ids": ("<i8", (self.examples,)),
            "sums": ("<u4", (self.blocks,)),
            "states": ("|u1", (self.blocks,)),
            **self.tables,
        }
        offset, found = _up(LEAD + len(self.header()), 4096), {}
        for name, (dtype, shape) in parts.items():
            offset = _up(offset, 64)
            found[name] = (offset, dtype, shape)
            offset += math.prod(shape) * np.dtype(dtype).itemsize
        return found, offset

    def header(self):
        """The header as bytes."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}).encode()

    def lead(self):
        """The bytes in front of the first section."""
        header = self.header()
        length, check = len(header).to_bytes(8, "little"), zlib.crc32(header).to_bytes(4, "little")
        return MAGIC + length + check + bytes(4) + header


def read(path):
    """The `Layout` of a cache on disk, once its header and length are found right.

    Raises:
        ValueError: It is no cache, of another version, damaged, or cut off.
        OSError: It cannot be read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise Foreign(f"A cache is a file. Received: '{path}', which is a folder.")
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(LEAD)
        if start[: len(MAGIC)] != MAGIC:
            raise Foreign(
                f"'{path}' is not a kdkeras cache, and was left as it is. Give the path of one, or "
                "of a file that is not there yet."
            )
        length = int.from_bytes(start[16:24], "little")
        header = file.read(length) if length < size else b""
    if len(start) < LEAD or len(header) != length:
        raise damaged(path, "it ends inside its header")
    if zlib.crc32(header) != int.from_bytes(start[24:28], "little"):
        raise damaged(path, "its header does not have its checksum")
    stored = json.loads(header)
    if stored.pop("format") != FORMAT:
        raise ValueError(
            f"'{path}' is a cache of another version of kdkeras, which this one ({FORMAT}) cannot "
            "read. Fill it again."
        )
    stored["features"] = {name: tuple(shape) for name, shape in stored["features"].items()}
    found = Layout(**stored)
    _, expected = found.sections()
    if size != expected:
        raise damaged(path, f"it has {size:,} bytes instead of {expected:,}")
    return found


class Foreign(ValueError):
    """What stands there is no cache at all, and nothing is to be done to it."""


def damaged(path, what):
    """The error of a cache that cannot be trusted."""
    return ValueError(
        f"The cache '{path}' is damaged: {what}. Nothing was read from it. Delete it and fill it "
        "again, or take it from a backup."
    )


def _up(offset, multiple):
    return -(-offset // multiple) * multiple
