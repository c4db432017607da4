"""Corrupted pictures in files: CIFAR-10-C and CIFAR-100-C as they are published."""

import pathlib

import numpy as np

from kdkeras import arguments
from kdkeras.corruptions import applying

# Those whose mean is meant by "accuracy on CIFAR-10-C". The folder has four more, for validation:
# speckle_noise, gaussian_blur, spatter and saturate.
STANDARD = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)

LAYOUT = (
    "Give the folder that CIFAR-10-C.tar or CIFAR-100-C.tar unpacks to "
    "(https://zenodo.org/records/2535967, https://zenodo.org/records/3555552): labels.npy and one "
    "file a corruption, such as fog.npy."
)


def load(folder, names=None):
    """Opens a folder of CIFAR-10-C or CIFAR-100-C.

    `<name>.npy` holds `5 n` uint8 pictures, the n of severity 1 first, and `labels.npy` their `5 n`
    labels, the same n five times (n is 10,000). The pictures are mapped, not read, until they are
    asked for.

    Args:
        folder: The folder.
        names: The corruptions to open, such as `STANDARD`, the 15 whose mean is usually reported;
            all that are there if left out.

    Returns:
        `Stored`.

    Raises:
        ValueError: The folder or a file is missing, damaged, or of another shape or dtype; the
            message names it.

    Example:

    >>> stored = kdkeras.corruptions.load("CIFAR-10-C", kdkeras.corruptions.STANDARD)
    >>> images, labels = stored("fog", 3)

    Reference:
        Hendrycks and Dietterich, [Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations](https://arxiv.org/abs/1903.12261), 2019.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise ValueError(f"`folder` must be an existing folder. Received: '{folder}'. {LAYOUT}")
    there = sorted(path.stem for path in root.glob("*.npy") if path.stem != "labels")
    if not there:
        raise ValueError(f"`folder` holds no file of pictures. Received: '{folder}'. {LAYOUT}")
    names = there if names is None else applying.check_names(names, there)
    labels = _labels(root / "labels.npy")
    return Stored({name: _pictures(root / f"{name}.npy", len(labels)) for name in names}, labels)


class Stored:
    """Labelled pictures under corruptions, out of files: made by `load`.

    Args:
        pictures: Dict from names to uint8 arrays `(5 n, height, width, 3)`.
        labels: Integer array `(5 n,)`.

    Attributes:
        names: The corruptions that there are.

    Call arguments:
        name: One of `names`.
        severity: 1 ... 5.

    Returns:
        `(images, labels)`: float32 `(n, height, width, 3)` in [0, 1], and integers `(n,)`.

    Raises:
        ValueError: An unknown name, or a severity other than 1 ... 5.
    """

    def __init__(self, pictures, labels):
        self.pictures, self.labels = pictures, labels
        self.names = tuple(pictures)

    def __len__(self):
        return len(self.labels) // 5

    def __call__(self, name, severity):
        arguments.one_of("name", name, self.names)
        last = applying.check_severity(severity) * len(self)
        rows = slice(last - len(self), last)
        return np.float32(self.pictures[name][rows]) / np.float32(255.0), self.labels[rows]


def _labels(path):
    if not path.is_file():
        raise ValueError(f"`folder` has no labels: '{path}' does not exist. {LAYOUT}")
    labels = np.array(_mapped(path))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise _refused(path, "integers of shape (5 n,)", labels)
    if len(labels) % 5 or (labels.reshape(5, -1) != labels[: len(labels) // 5]).any():
        raise _refused(path, "the same labels five times, once a severity", labels)
    return labels


def _pictures(path, count):
    pictures = _mapped(path)
    shape = pictures.shape
    if pictures.dtype != np.uint8 or len(shape) != 4 or shape[0] != count or shape[3] != 3:
        raise _refused(path, f"uint8 pictures of shape ({count}, height, width, 3)", pictures)
    return pictures


def _mapped(path):
    # Not `np.load`, which would also open archives; neither reads pickles here.
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # A damaged header raises nearly anything.
        raise ValueError(
            f"'{path}' cannot be read as an array: {error}. It is damaged, or was not downloaded "
            "in full: fetch it again."
        ) from error


def _refused(path, expected, array):
    return ValueError(
        f"'{path}' must hold {expected}. Received: shape {array.shape}, dtype {array.dtype}. "
        f"{LAYOUT}"
    )
