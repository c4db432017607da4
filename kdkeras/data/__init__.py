"""Data: `load(name)` gives three splits, `batches(split, ...)` gives batches with ids and views."""

from kdkeras.data.batching import batches
from kdkeras.data.checks import check, check_labels
from kdkeras.data.examples import Examples, Streamed, arrays, numbered, scaled, size, with_ids
from kdkeras.data.folders import read_picture
from kdkeras.data.resident import OnDevice
from kdkeras.data.splits import Splits, load

__all__ = [
    "Examples",
    "OnDevice",
    "Splits",
    "Streamed",
    "arrays",
    "batches",
    "check",
    "check_labels",
    "load",
    "numbered",
    "read_picture",
    "scaled",
    "size",
    "with_ids",
]
