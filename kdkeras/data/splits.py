"""`load(name)`: train, validation and test splits of a named set."""

import dataclasses
import math
import pathlib

import numpy as np
import tensorflow as tf

from kdkeras import arguments
from kdkeras.data import catalog, checks, examples, folders, sources

TEST_FRACTION = 0.2
FOLDER = "folder:"
# Pixels; of one picture they are 200 MB.
LARGEST_SIDE = 8192


@dataclasses.dataclass(frozen=True)
class Splits:
    """Three splits, each a `tf.data.Dataset` of (float32 image in [0, 1], int32 label).

    The splits are `Examples` (in memory) or `Streamed`: both carry `labels` and `ids`.

    Attributes:
        train: The examples to train on.
        validation: Those to choose epochs and settings on.
        test: Those that nothing is chosen on.
        num_classes: Number of classes.
        class_names: Their names, in the order of the labels.
        input_shape: Of an image: (height, width, channels).
        name: The name that `load` was given.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    num_classes: int
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    name: str


def load(
    name,
    data_dir=None,
    seed=0,
    *,
    image_size=None,
    max_train=None,
    validation_fraction=0.1,
    memory_limit=2**30,
    download=False,
    verbose=1,
):
    """Loads a set by name and splits it.

    Validation is a stratified, seeded part of the source's training images. Test is the source's
    own `test` split, else its `validation` split, else a fixed stratified fifth that does not
    depend on `seed`. Example ids are positions in the source's order, whatever the seed: training
    and validation share one range, the test ids come after it. The order is the source's.

    Args:
        name: `"digits"` (scikit-learn's 1,797 scans at 16 x 16), `"folder:PATH"` (one sub-folder
            of pictures a class), or an image-classification set of TensorFlow Datasets.
        data_dir: The folder of prepared tfds sets; tfds's own by default.
        seed: Integer. Picks the validation images, and the training images under `max_train`.
        image_size: Height and width to bring every image to: the short side is resized and the
            centre kept. Default: 16 for digits, 96 for a folder, a tfds set's own size.
        max_train: Keep at most this many training images, stratified.
        validation_fraction: Part of the training images, in (0, 1), that validation takes.
        memory_limit: A set whose pixels take more bytes than this is decoded as it is read.
        download: Whether a tfds set that is not prepared may be downloaded.
        verbose: 0 for no progress bar.

    Returns:
        `Splits`.

    Raises:
        ValueError: An unknown, unprepared or unsuitable set, unusable files, or too few images.
        RuntimeError: The download failed.

    Example:

    >>> splits = load("digits")
    >>> len(splits.train), len(splits.validation), len(splits.test)
    (1294, 144, 359)
    """
    if not isinstance(name, str) or not name:
        raise ValueError(
            "`name` must be 'digits', 'folder:PATH' or a set of TensorFlow Datasets. "
            f"Received: name={name!r}"
        )
    arguments.integer("seed", seed)
    for argument, value in (("image_size", image_size), ("max_train", max_train)):
        if value is not None:
            arguments.integer(argument, value, low=1)
    if image_size is not None and image_size > LARGEST_SIDE:
        raise ValueError(
            f"`image_size` must be at most {LARGEST_SIDE}. Received: image_size={image_size}"
        )
    if not 0.0 < arguments.number("validation_fraction", validation_fraction) < 1.0:
        raise ValueError(
            "`validation_fraction` must be above 0 and below 1. "
            f"Received: validation_fraction={validation_fraction!r}"
        )
    if name == "digits":
        source = sources.digits(image_size or 16)
    elif name.startswith(FOLDER):
        folder = name.removeprefix(FOLDER)
        source = folders.source(folder, image_size or 96, memory_limit, verbose)
    else:
        source = catalog.source(name, data_dir, image_size, download)
    num_classes = len(source.class_names)
    ids, parts = _positions(source, seed, validation_fraction, max_train)
    size = sum(len(part) for part in parts) * math.prod(source.input_shape)
    build = _examples if size <= memory_limit else _streamed
    train, validation, test = build(source, ids, parts, verbose)
    return Splits(
        train, validation, test, num_classes, source.class_names, source.input_shape, name
    )


def _positions(source, seed, validation_fraction, max_train):
    """Each example's id, and the source positions of the three splits, ascending."""
    labels, num_train = source.labels, source.num_train
    checks.check_labels(labels, len(source.class_names))
    everything = np.arange(len(labels))
    _check_counts(labels[:num_train], source.class_names, 3 if num_train is None else 2)
    if num_train is None:
        test = _stratified(everything, labels, TEST_FRACTION, seed=0)
        pool = np.setdiff1d(everything, test)
    else:
        pool, test = everything[:num_train], everything[num_train:]
    if not len(test):
        raise ValueError("The set's test split is empty. Use another set, or 'folder:PATH'.")
    ids = np.empty(len(labels), np.int64)
    ids[pool], ids[test] = np.arange(len(pool)), len(pool) + np.arange(len(test))

    validation = _stratified(pool, labels, validation_fraction, seed)
    train = np.setdiff1d(pool, validation)
    present = len(np.unique(labels[pool]))
    if len(train) < present:
        raise ValueError(
            "`validation_fraction` must leave a training image for each of the "
            f"{present} classes. Received: validation_fraction={validation_fraction!r}, which "
            f"leaves {len(train)} of {len(pool)} images."
        )
    if max_train is not None and max_train < present:
        raise ValueError(
            f"`max_train` must be at least the number of classes, {present}. "
            f"Received: max_train={max_train}"
        )
    if max_train is not None and max_train < len(train):
        train = _sample(train, labels, max_train, seed)
    return ids, (train, validation, test)


def test_pictures(folder):
    """The files of a folder's test images, in the order in which `load` has them.

    Args:
        folder: As after "folder:" in a name.

    Returns:
        List of `pathlib.Path`.
    """
    inside = folders.pictures_of(pathlib.Path(folder))
    labels = np.repeat(np.arange(len(inside)), [len(of_class) for of_class in inside])
    files = [file for of_class in inside for file in of_class]
    everything = np.arange(len(files))
    return [files[i] for i in _stratified(everything, labels, TEST_FRACTION, seed=0)]


def _check_counts(labels, class_names, least):
    if not len(labels):
        raise ValueError("The set's training split is empty. Use another set, or 'folder:PATH'.")
    counts = np.bincount(labels, minlength=len(class_names))
    few = np.flatnonzero((counts > 0) & (counts < least))
    if len(few):
        raise ValueError(
            f"Every class needs at least {least} images, to be in every split. Received: "
            f"{counts[few[0]]} of class {class_names[few[0]]!r}. Add images or leave the class out."
        )


def _stratified(positions, labels, fraction, seed):
    """`fraction` of the positions, but at least one a class, in the classes' proportions."""
    count = max(round(fraction * len(positions)), len(np.unique(labels[positions])))
    return _sample(positions, labels, min(count, len(positions)), seed)


def _sample(positions, labels, count, seed):
    """`count` of the positions in the classes' proportions, ascending.

    The sampling of scikit-learn's `train_test_split(stratify=...)`, without its demand that the
    other part hold every class.
    """
    from sklearn.utils import resample

    return np.sort(
        resample(
            positions,
            replace=False,
            n_samples=count,
            stratify=labels[positions],
            random_state=seed % 2**32,
        )
    )


def _examples(source, ids, parts, verbose):
    """Decodes what the splits need into memory."""
    needed = np.sort(np.concatenate(parts))
    images = np.empty((len(needed), *source.input_shape), np.uint8)
    update = sources.progress(len(needed), verbose)
    done = 0
    for batch in source.images(needed).batch(256).prefetch(1).as_numpy_iterator():
        images[done : done + len(batch)] = batch
        done += len(batch)
        update(done)
    if done != len(needed):
        raise ValueError(
            f"The set holds {done} of the {len(needed)} images it declares. Rebuild it."
        )
    return tuple(
        examples.Examples(images[np.searchsorted(needed, part)], source.labels[part], ids[part])
        for part in parts
    )


def _streamed(source, ids, parts, verbose):
    """Leaves the images where they are."""
    del verbose
    return tuple(
        examples.Streamed(source.images(part), source.labels[part], ids[part]) for part in parts
    )
