"""One corruption of a batch of pictures, by name and severity."""

import zlib

import numpy as np

from kdkeras import arguments
from kdkeras.corruptions import blurs, colors, digital, fogs, noises
from kdkeras.data import checks

SEVERITIES = range(1, 6)

# Each corruption and its constants, severities 1 to 5, as CIFAR-10-C has them.
TABLE = {
    "gaussian_noise": (noises.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (noises.shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (noises.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": (noises.speckle_noise, (0.06, 0.10, 0.12, 0.16, 0.20)),
    "gaussian_blur": (blurs.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "defocus_blur": (
        blurs.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    ),
    "fog": (fogs.fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
    "brightness": (colors.brightness, (0.05, 0.10, 0.15, 0.20, 0.30)),
    "contrast": (colors.contrast, (0.75, 0.50, 0.40, 0.30, 0.15)),
    "saturate": (colors.saturate, ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))),
    "pixelate": (digital.pixelate, (0.95, 0.90, 0.85, 0.75, 0.65)),
    "jpeg_compression": (digital.jpeg_compression, (80, 65, 58, 50, 40)),
}
NAMES = tuple(TABLE)


def corrupt(images, name, severity, *, seed=0, ids=None):
    """Pictures under a common corruption, with the constants of CIFAR-10-C.

    `x' = floor(255 clip(f(x), 0, 1)) / 255`, with `x` first rounded to 8 bits: the files of
    CIFAR-10-C are made from 8-bit pictures and truncated to 8 bits, not rounded. Those constants
    are for pictures of 32 x 32; other sizes keep them, in pixels. On one channel `saturate` changes
    nothing, and `brightness` adds to it.

    Args:
        images: Floating-point array `(batch, height, width, 1 or 3)`, pixels in [0, 1].
        name: One of `NAMES`.
        severity: 1 ... 5. The mean squared change grows with it, with two exceptions: of `saturate`
            1 and 2 take colour away and 3 to 5 add it; `pixelate` 2 and 3 (28 and 27 pixels a side
            of 32) are about equal.
        seed: Integer of at least 0. Noise and fog depend on (seed, id, name, severity) alone, not
            on the batch (with one release of NumPy: others may draw other numbers).
        ids: Optional integers of at least 0, one an image; its position in the batch if left out.

    Returns:
        float32 array shaped like `images`, multiples of 1/255 in [0, 1].

    Raises:
        ValueError: Images of another shape, none, not finite or not in [0, 1]; an unknown name, a
            severity other than 1 ... 5.

    Example:

    >>> foggy = kdkeras.corruptions.corrupt(images, "fog", 3)

    Reference:
        Hendrycks and Dietterich, [Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations](https://arxiv.org/abs/1903.12261), 2019.
    """
    images = _checked(images)
    function, constants = TABLE[arguments.one_of("name", name, NAMES)]
    constant = constants[check_severity(severity) - 1]
    arguments.integer("seed", seed, low=0)
    ids = range(len(images)) if ids is None else _checked_ids(ids, len(images))
    source = (seed, zlib.crc32(name.encode()), severity)
    corrupted = np.empty(images.shape, np.float32)
    for place, (image, number) in enumerate(zip(images, ids, strict=True)):
        x = np.rint(np.float64(image) * 255.0) / 255.0
        x = function(x, constant, np.random.default_rng((*source, number)))
        corrupted[place] = np.uint8(np.clip(x, 0.0, 1.0) * 255.0)
    return corrupted / np.float32(255.0)


class Corrupted:
    """Labelled pictures under the corruptions of `corrupt`, made when they are asked for.

    `saturate` leaves one channel, and at 1 to 3 grey pictures of three, as they are: leave its name
    out of what is measured on them.

    Args:
        images: Floating-point array `(n, height, width, 1 or 3)`, pixels in [0, 1].
        labels: Integer array `(n,)`.
        seed: As for `corrupt`.

    Call arguments:
        name: One of `NAMES`.
        severity: 1 ... 5.

    Returns:
        `(images, labels)`: float32 in [0, 1], and integers.

    Raises:
        ValueError: As `corrupt`; or the images and labels differ in number.

    Example:

    >>> images, labels = kdkeras.corruptions.Corrupted(images, labels)("fog", 3)
    """

    names = NAMES

    def __init__(self, images, labels, *, seed=0):
        self.images, self.labels = _checked(images), np.asarray(labels)
        self.seed = arguments.integer("seed", seed, low=0)
        if self.labels.shape != (len(self.images),):
            raise ValueError(
                "`labels` must be integers, one an image. Received: shape "
                f"{self.labels.shape} for {len(self.images)} images."
            )

    def __len__(self):
        return len(self.images)

    def __call__(self, name, severity):
        return corrupt(self.images, name, severity, seed=self.seed), self.labels


def check_severity(severity):
    """Returns `severity` as an int if it is an integer in 1 ... 5."""
    if arguments.integer("severity", severity) not in SEVERITIES:
        raise ValueError(f"`severity` must be in 1 ... 5. Received: severity={severity!r}")
    return int(severity)


def check_names(names, known):
    """Returns `names` as a tuple, each once, if there are some and all are among `known`."""
    if isinstance(names, str) or not (names := tuple(dict.fromkeys(names))):
        raise ValueError(f"`names` must be a list of at least one name. Received: names={names!r}")
    return tuple(arguments.one_of("names", name, known) for name in names)


def _checked(images):
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "`images` must be of shape (batch, height, width, 1 or 3). Received: shape "
            f"{images.shape}. Give one picture as images[None], grey ones as images[..., None]."
        )
    if images.size == 0:
        raise ValueError(f"`images` must hold at least one image. Received: shape {images.shape}.")
    if images.dtype.kind not in "fiu":
        raise ValueError(f"`images` must be floats in [0, 1]. Received: dtype {images.dtype}.")
    checks.check_pixels(images)
    return images


def _checked_ids(ids, count):
    ids = np.asarray(ids)
    if ids.shape != (count,) or ids.dtype.kind not in "iu" or ids.min() < 0:
        raise ValueError(
            "`ids` must be integers of at least 0, one an image. Received: shape "
            f"{ids.shape}, dtype {ids.dtype}, for {count} images."
        )
    return ids.tolist()
