"""What commands leave in a folder, and whether two left the same, times aside."""

import csv
import hashlib
import io
import json
import re
import zipfile

import numpy as np

# Times and what hangs on them, and how a command was asked for.
FLEETING = {"seconds", "environment", "latency", "digest", "resume", "overwrite"}


def difference(wanted, found):
    """What differs between two `of` gave, in words; None where nothing does."""
    told = [f"{name} is missing" for name in sorted(set(wanted) - set(found))]
    told += [f"{name} is left over" for name in sorted(set(found) - set(wanted))]
    for name in sorted(set(wanted) & set(found)):
        if wanted[name] != found[name]:
            told.append(f"{name} differs: {_first_difference(wanted[name], found[name])}")
    return "; ".join(told) or None


def _first_difference(one, other, where=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if one.get(key) != other.get(key):
                return _first_difference(one.get(key), other.get(key), f"{where}/{key}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other, strict=True)):
            if pair[0] != pair[1]:
                return _first_difference(*pair, f"{where}/{i}")
    return f"{where} {str(one)[:100]}, {str(other)[:100]}"


def of(folder, beside):
    """What stands in a folder, by path, less times and what hangs on them.

    Args:
        folder: The folder.
        beside: Names of files in it whose bytes count.
    """
    paths = {_name(path, folder): path for path in sorted(folder.rglob("*"))}
    files = {name: path for name, path in paths.items() if path.is_file()}
    return {
        name: path.read_bytes() if name in beside else _content(path)
        for name, path in files.items()
    }


def _name(path, folder):
    """A path in a folder; a search's cache is called by its teacher's file, which has a time."""
    return re.sub(r"caches/[0-9a-f]{12}\.", "caches/teacher.", str(path.relative_to(folder)))


def _content(path):
    if path.suffix == ".keras":
        return _weights(path)
    if path.suffix == ".json":
        return _lasting(json.loads(path.read_text()))
    if path.suffix == ".npz":
        with np.load(path) as stored:
            return {name: _digest(stored[name]) for name in stored.files if name != "seconds"}
    if path.name == "trials.csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return [{name: row[name] for name in row if name != "seconds"} for row in rows]
    if path.name == "variables.index":
        return _variables(path.with_suffix(""))
    # A database, a page with times in it, and what TensorFlow writes are compared by other files.
    by_others = path.suffix in (".db", ".html", ".pb") or path.name.startswith("variables.data")
    return None if by_others else _digest(np.frombuffer(path.read_bytes(), np.uint8))


def _lasting(value):
    """Plain values without what is fleeting."""
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _lasting(one) for name, one in value.items() if name not in FLEETING}
    if str(kept.get("path", "")).endswith("saved_model"):
        kept |= {"sha256": None, "bytes": None}
    # The digests of a run's files: those of models hang on the time.
    if kept and all(re.fullmatch(r"[0-9a-f]{64}", str(one)) for one in kept.values()):
        return sorted(kept)
    return kept


def _weights(path):
    """The digests of a model file's arrays, by name."""
    import h5py

    found = {}
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:

        def note(name, item):
            if isinstance(item, h5py.Dataset):
                found[name] = _digest(item[()])

        h5py.File(io.BytesIO(file.read()), "r").visititems(note)
    return found


def _variables(path):
    """The digests of a SavedModel's arrays, which TensorFlow numbers in any order."""
    import tensorflow as tf

    stored = tf.train.load_checkpoint(str(path))
    names = set(stored.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return sorted(_digest(stored.get_tensor(name)) for name in names)


def _digest(array):
    array = np.asarray(array)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()
