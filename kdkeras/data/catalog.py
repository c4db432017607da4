"""Image-classification sets of TensorFlow Datasets, by name."""

import contextlib

import numpy as np
import tensorflow as tf
from absl import logging

from kdkeras import arguments
from kdkeras.data import pictures, sources


def source(name, data_dir, image_size, download):
    """A prepared tfds set as a `Source`; its images keep their size if `image_size` is None."""
    import tensorflow_datasets as tfds

    with _quiet():
        builder = _builder(name, data_dir, download)
    image, label = _features(name, builder)
    height, width, _ = image.shape
    if image_size is not None:
        height = width = image_size
    elif height is None or width is None:
        raise ValueError(
            f"`image_size` must be given for {name!r}, whose images vary in size. Received: "
            "image_size=None. Pass for example image_size=96: images are resized and cropped to it."
        )

    def examples(split, decoders):
        return builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders=decoders,
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )

    def labels(split):
        dataset = examples(split, tfds.decode.PartialDecoding({"label": True}))
        batches = dataset.map(lambda example: example["label"]).batch(4096).as_numpy_iterator()
        return np.concatenate([np.zeros(0, np.int64), *batches])

    def decode(example):
        pixels = pictures.rgb(image.decode_example(example["image"]))
        return tf.ensure_shape(
            pixels if image_size is None else pictures.square(pixels, image_size),
            [height, width, 3],
        )

    def images(split, positions):
        wanted = np.zeros(positions[-1] + 1, bool)
        wanted[positions] = True
        encoded = examples(split, {"image": tfds.decode.SkipDecoding()}).take(len(wanted))
        if not wanted.all():
            wanted = tf.constant(wanted)
            encoded = encoded.enumerate().filter(lambda i, _: wanted[i]).map(lambda _, e: e)
        return encoded.map(decode, num_parallel_calls=tf.data.AUTOTUNE)

    train, test = _own_splits(name, builder)
    train_labels = labels(train)
    test_labels = labels(test) if test else np.zeros(0, np.int64)
    num_train = len(train_labels)

    def images_of_both(positions):
        of_train = positions[positions < num_train]
        of_test = positions[positions >= num_train] - num_train
        parts = ((train, of_train), (test, of_test))
        datasets = [images(split, part) for split, part in parts if len(part)]
        return datasets[0] if len(datasets) == 1 else datasets[0].concatenate(datasets[1])

    return sources.Source(
        class_names=tuple(label.names or map(str, range(label.num_classes))),
        input_shape=(height, width, 3),
        labels=np.concatenate([train_labels, test_labels]),
        num_train=num_train if test else None,
        images=images_of_both,
    )


def _builder(name, data_dir, download):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (tfds.core.DatasetNotFoundError, tfds.core.registered.DatasetNotFoundError) as error:
        known = [*tfds.list_builders(with_community_datasets=False), "digits"]
        raise ValueError(
            "`name` must be 'digits', 'folder:PATH' or a set of TensorFlow Datasets. "
            f"Received: name={name!r}.{arguments.near_matches(name, known)}"
        ) from error
    except ValueError:  # it has no form that such a name can have
        raise ValueError(
            f"`name` must be 'digits', 'folder:PATH' or a set of TensorFlow Datasets. Received: "
            f"name={name!r}"
        ) from None
    if builder.is_prepared():
        return builder
    ways = (
        f"run `tfds build {name}` on a machine with network access and pass its folder as "
        "`data_dir`, or use 'digits' or 'folder:PATH'"
    )
    if not download:
        raise ValueError(
            f"`name`: {name!r} is not prepared in {builder.data_dir_root}. "
            f"Received: name={name!r}, data_dir={data_dir!r}, download=False. "
            f"Pass download=True, {ways}."
        )
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise RuntimeError(
            f"{name!r} could not be downloaded and prepared in {builder.data_dir_root} "
            f"({type(error).__name__}: {error}). Try again later, {ways}."
        ) from error
    return builder


def _features(name, builder):
    """The `image` and `label` features, if they are what classification needs."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    image = features.get("image")
    label = features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            "`name` must be an image-classification set, with features `image` and `label`. "
            f"Received: name={name!r}, which has {', '.join(sorted(features))}."
        )
    if image.np_dtype != np.uint8:
        raise ValueError(
            "`name` must be a set of 8-bit images. "
            f"Received: name={name!r}, whose images are {np.dtype(image.np_dtype).name}."
        )
    return image, label


def _own_splits(name, builder):
    """The names of the splits to train and to test on; no test name where there is none."""
    have = list(builder.info.splits)
    if "train" not in have:
        raise ValueError(
            f"`name` must be a set with a `train` split. Received: name={name!r}, which has {have}."
        )
    return "train", next((split for split in ("test", "validation") if split in have), None)


@contextlib.contextmanager
def _quiet():
    """Keeps tfds's warnings and prints to itself."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        logging.set_verbosity(verbosity)
