"""What a source of pictures is, and the digits that scikit-learn carries."""

import collections.abc
import contextlib
import dataclasses
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from kdkeras.data import pictures


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled pictures in a fixed order, those for training first.

    Attributes:
        class_names: One name a class.
        input_shape: `(height, width, 3)`.
        labels: int32 array of shape `(n,)`.
        num_train: The source's own test split begins at this position; None if it has none.
        images: From ascending positions to a `tf.data.Dataset` of uint8 images of `input_shape`.
    """

    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    labels: np.ndarray
    num_train: int | None
    images: collections.abc.Callable[[np.ndarray], tf.data.Dataset]


def held(images):
    """`Source.images` for pictures held in memory as a uint8 array."""
    return lambda positions: tf.data.Dataset.from_tensor_slices(images[positions])


def digits(image_size):
    """1,797 scanned digits of 8 x 8 pixels, resized (bilinear), in three equal channels."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    grey = scans.images[..., None].astype(np.float32) * (255.0 / 16.0)
    resized = pictures.to_uint8(tf.image.resize(grey, [image_size, image_size])).numpy()
    return Source(
        class_names=tuple(str(name) for name in scans.target_names),
        input_shape=(image_size, image_size, 3),
        labels=scans.target.astype(np.int32),
        num_train=None,
        images=held(np.repeat(resized, 3, axis=-1)),
    )


def progress(count, verbose, after=2.0, every=30.0):
    """A function to call with the number of images done: progress on stderr once it takes a while.

    On a terminal that is a bar; elsewhere a line every 30 seconds.

    Args:
        count: How many images there are.
        verbose: 0 for no progress.
        after: Seconds from which on there is some.
        every: Seconds between two lines.
    """
    start, first = time.monotonic(), None
    on_terminal = sys.stderr.isatty()
    bar = keras.utils.Progbar(count, verbose=1, interval=0.5, unit_name="image")
    said = start - every + after

    def update(done):
        nonlocal said, first
        now = time.monotonic()
        if first is None:
            first = now, done  # the time to here is mostly TensorFlow's, to get ready
            return
        if not verbose or now - start < after or not (on_terminal or now - said > every):
            return
        said = now
        if on_terminal:
            with contextlib.redirect_stdout(sys.stderr):
                bar.update(done)
            return
        minutes = (now - first[0]) / (done - first[1]) * (count - done) / 60.0
        print(f"{done:,} of {count:,} images, {minutes:.1f} minutes to go", file=sys.stderr)

    return update
