"""A folder of pictures, one sub-folder a class."""

import concurrent.futures
import os
import pathlib

import numpy as np
import tensorflow as tf

from kdkeras import archives
from kdkeras.data import examples, pictures, sources

LAYOUT = "Give a folder with one sub-folder of pictures a class: PATH/cat/1.png, PATH/dog/1.png."


def source(path, image_size, memory_limit, verbose):
    """The pictures under `path` as a `Source`; every file is decoded once, to find bad ones now."""
    root = pathlib.Path(path)
    if not path or not root.is_dir():
        raise ValueError(f"`name` must name an existing folder. Received: folder:{path}. {LAYOUT}")
    classes = _visible(root, pathlib.Path.is_dir)
    if len(classes) < 2:
        raise ValueError(
            "`name` must name a folder of at least two classes. Received: "
            f"folder:{path}, which has {len(classes)} sub-folders. {LAYOUT}"
        )
    files = pictures_of(root)
    _check_names([*classes, *(file for inside in files for file in inside)])
    for folder, inside in zip(classes, files, strict=True):
        if len(inside) < 3:
            raise ValueError(
                "`name`: every class needs at least 3 pictures, one a split. Received: "
                f"{len(inside)} in {folder}. Add pictures or remove the class."
            )
    paths = [str(file) for inside in files for file in inside]
    _check_within(root, paths)
    keep = len(paths) * image_size**2 * 3 <= memory_limit
    decoded = _decode_all(paths, image_size, keep, verbose)

    def streamed(positions):
        return tf.data.Dataset.from_tensor_slices([paths[i] for i in positions]).map(
            lambda file: pictures.square(pictures.decode(tf.io.read_file(file)), image_size),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    return sources.Source(
        class_names=tuple(folder.name for folder in classes),
        input_shape=(image_size, image_size, 3),
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), [len(f) for f in files]),
        num_train=None,
        images=sources.held(decoded) if keep else streamed,
    )


def pictures_of(root):
    """The files of each class under a folder: lists of paths, in the order of example ids."""
    return [_visible(folder) for folder in _visible(root, pathlib.Path.is_dir)]


def read_picture(path, image_size):
    """One picture as the models take it: the centred square, float32 in [0, 1].

    Args:
        path: A PNG, JPEG, GIF, BMP or WebP file of any size.
        image_size: Height and width of the result.

    Returns:
        Array `(image_size, image_size, 3)`.

    Raises:
        ValueError: The file cannot be read as a picture; the message names it.
    """
    image, fault = _decode(path, image_size)
    if fault:
        raise ValueError(f"'{path}' cannot be used as a picture: {fault}.")
    return examples.scaled(tf.constant(image)).numpy()


def _visible(folder, keep=lambda path: True):
    """The entries of a folder that are not hidden, sorted by name."""
    entries = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(filter(keep, entries), key=lambda path: path.name)


def _check_names(paths):
    """Refuses names that would write more than themselves on a terminal or in `labels.txt`."""
    odd = [path for path in paths if not archives.is_plain(path.name)]
    if odd:
        raise ValueError(
            "`name` must name a folder whose classes and files have names without control "
            f"characters, line breaks or changes of direction, in UTF-8. Received: "
            f"{ascii(odd[0].name)} in {ascii(str(odd[0].parent))}. Rename it."
        )


def _check_within(root, paths):
    """Refuses links that lead out of the folder: what is trained on is what the folder shows."""
    real_root = root.resolve()
    outside = [path for path in paths if not pathlib.Path(path).resolve().is_relative_to(real_root)]
    if outside:
        raise ValueError(
            f"`name` must name a folder whose links stay inside it. Received: {outside[0]}, which "
            f"leads to {str(pathlib.Path(outside[0]).resolve())!r}. Copy the pictures into the "
            "folder."
        )


def _decode_all(paths, image_size, keep, verbose):
    """Decodes every file; returns the pictures if `keep`. Bad files are named, up to ten."""
    images = np.empty((len(paths) if keep else 0, image_size, image_size, 3), np.uint8)
    bad = []
    update = sources.progress(len(paths), verbose)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda path: _decode(path, image_size), paths)
        for i, (path, (image, fault)) in enumerate(zip(paths, results, strict=True)):
            if fault:
                bad.append(f"{path}: {fault}")
            elif keep:
                images[i] = image
            update(i + 1)
    if bad:
        listed = "\n  ".join(bad[:10])
        raise ValueError(
            f"`name`: {len(bad)} of {len(paths)} files cannot be used. Every file must be a "
            f"{pictures.FORMATS} picture. Remove or convert:\n  {listed}"
            + ("\n  ..." if len(bad) > 10 else "")
        )
    return images


def _decode(path, image_size):
    """The decoded picture and None, or None and what is wrong with the file."""
    try:
        contents = pathlib.Path(path).read_bytes()
        pictures.check_header(contents)
        with tf.device("CPU:0"):
            image = pictures.square(pictures.decode(tf.constant(contents)), image_size)
        return image.numpy(), None
    except ValueError as error:
        return None, str(error)
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except tf.errors.InvalidArgumentError:
        return None, "it is damaged or of a kind that TensorFlow cannot decode"
