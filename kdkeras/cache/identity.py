"""Whose answers a cache holds, and to what: digests of teachers and pictures, and what differs."""

import hashlib
import json

import keras
import numpy as np

from kdkeras import augment as augmentation
from kdkeras import data, teachers
from kdkeras.models import surgery

# Where a model's configuration names layers, and what in it does not change the answers.
NAMING = ("name", "keras_history", "input_layers", "output_layers")
OF_USE = ("compile_config", "build_config", "trainable")
# Of a split that is not in memory so many pictures are compared at each use, the first ones.
SAMPLE = 256


def of_teacher(teacher, name=None):
    """A teacher's digests: plain JSON.

    Two models with the same layers and the same weights have the same, whatever Keras called their
    layers. Normalisation is a layer, and so in it.

    Args:
        teacher: A `keras.Model`, or a list of them; or `kdkeras.teachers.Predictions`, with a name.
        name: What stands for a teacher of which only answers are known, such as "service, version
            3"; of a model, what it is called in messages.

    Raises:
        ValueError: A function without a name, or a model whose layers cannot be described.
    """
    teacher = teachers.as_teacher(teacher, {None: None})
    if isinstance(teacher, teachers.Predictions):
        if not name:
            raise ValueError(
                "A function cannot be told from another: give `name`, which must change when its "
                "answers change, such as name='service, version 3'. Received: name=None"
            )
        return {"name": name}
    weights = hashlib.sha256()
    for weight in teacher.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        weights.update(f"{value.dtype}{value.shape}".encode())
        weights.update(value)
    return {
        "name": name or teacher.name,
        "architecture": hashlib.sha256(_architecture(teacher).encode()).hexdigest(),
        "weights": weights.hexdigest(),
    }


def _architecture(model):
    """A model's configuration as JSON, its layers named by their numbers."""
    if not surgery.is_graph(model):
        raise ValueError(
            "A teacher whose answers are cached must be a Functional or Sequential model, so that "
            f"it can be recognised; or a function with a name. Received: {type(model).__name__}"
        )
    config = keras.saving.serialize_keras_object(model)
    numbers = {}
    for name in _names(config):
        numbers.setdefault(name, f"layer {len(numbers)}")
    return json.dumps(_plain(config, numbers), sort_keys=True)


def _names(config):
    """The values of all keys "name", in order."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from [value] if key == "name" and isinstance(value, str) else _names(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _names(value)


def _plain(config, numbers, *, is_name=False):
    """`config` with numbers for names, and without what depends on how a model was used."""
    if isinstance(config, dict):
        return {
            key: _plain(value, numbers, is_name=is_name or key in NAMING)
            for key, value in config.items()
            if key not in OF_USE
        }
    if isinstance(config, (list, tuple)):
        return [_plain(value, numbers, is_name=is_name) for value in config]
    return numbers.get(config, config) if is_name and isinstance(config, str) else config


def prints(images):
    """A 64-bit hash of each picture's pixels.

    Args:
        images: Array of shape `(n, height, width, channels)`.

    Returns:
        uint64 array of shape `(n,)`.
    """
    hashes = (hashlib.blake2b(np.ascontiguousarray(image), digest_size=8) for image in images)
    return np.array([int.from_bytes(found.digest(), "little") for found in hashes], "<u8")


def check_split(split, ids, prints_there, path):
    """Refuses a split that holds pictures of which a cache knows nothing, or other ones.

    Args:
        split: As `kdkeras.data.batches` takes it.
        ids: The cache's ids, ascending.
        prints_there: The hashes of their pictures.
        path: The cache's file, for messages.

    Raises:
        ValueError: An id is not in the cache, or its picture is another.
    """
    if isinstance(split, data.Examples):
        wanted, found = split.ids, prints(split.images)
    else:
        sample = list(data.numbered(split).take(SAMPLE).as_numpy_iterator())
        wanted = np.array([targets["id"] for _, targets in sample])
        found = prints([image for image, _ in sample])
        if isinstance(split, data.Streamed):
            _check_known(split.ids, ids, path)
    _check_known(wanted, ids, path)
    wrong = np.flatnonzero(prints_there[np.searchsorted(ids, wanted)] != found)
    if len(wrong):
        raise ValueError(
            f"The cache '{path}' was filled with other pictures: {len(wrong)} of the "
            f"{len(wanted)} compared differ, the first with id {wanted[wrong[0]]}. Is it of "
            "another dataset, or image size? Fill a cache for this one."
        )


def _check_known(wanted, ids, path):
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    missing = wanted[ids[place] != wanted]
    if len(missing):
        raise ValueError(
            f"The cache '{path}' does not hold {len(missing)} of {len(wanted)} examples, the first "
            f"with id {missing[0]}. Fill it from all training and validation pictures; one filled "
            "under `max_train` serves the seed alone that chose the same pictures."
        )


def described(*, teacher, views, seed, augment, name=None):
    """The identity of a cache, plain JSON: teacher, views, seed and augmentation."""
    found = {
        "teacher": of_teacher(teacher, name),
        "views": views,
        "seed": seed,
        "augment": augmentation.described(augment),
        "version of views": augmentation.VERSION,
    }
    return json.loads(json.dumps(found, default=lambda number: number.item()))  # NumPy's numbers


def differences(stored, wanted):
    """What differs between two identities, as a list of sentences; names of teachers do not count.

    Args:
        stored: The cache's.
        wanted: Some of what is expected.
    """
    found = []
    for key, value in wanted.items():
        there = stored.get(key)
        if key == "teacher" and "weights" in value:
            parts = [part for part in ("architecture", "weights") if there.get(part) != value[part]]
            if parts:
                found.append(f"the teacher's {' and '.join(parts)} ({there['name']!r} there)")
        elif there != value:
            found.append(f"{key}: {json.dumps(there)} there, {json.dumps(value)} here")
    return found
