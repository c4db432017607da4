"""Several augmentations as one callable, which can say what it does."""

from kdkeras import arguments
from kdkeras.augment import pictures

# The settings of each augmentation.
SETTINGS = {
    "crop": ("padding",),
    "flip": (),
    "color": ("brightness", "contrast", "saturation"),
    "cutout": ("cutout_size",),
    "mixup": ("alpha",),
}


class Pipeline:
    """Several augmentations, one after the other: `(images, labels, keys) -> (images, labels)`.

    Args:
        names: List of some of `crop`, `flip`, `color`, `cutout`, `mixup`, each once.
        settings: Dict of the keyword arguments of `pipeline`.

    Raises:
        ValueError: An unknown name, or one given twice.
    """

    def __init__(self, names, settings):
        for name, value, kind in (("names", names, (list, tuple)), ("settings", settings, dict)):
            if not isinstance(value, kind):
                raise ValueError(
                    "`names` must be a list and `settings` a dict; `pipeline` makes both. "
                    f"Received: {name}={value!r}"
                )
        self.names, self.settings = list(names), dict(settings)
        self._steps = steps = {
            "crop": lambda x, y, keys: (
                pictures.pad_and_crop(x, keys, padding=settings["padding"]),
                y,
            ),
            "flip": lambda x, y, keys: (pictures.flip(x, keys), y),
            "color": lambda x, y, keys: (
                pictures.color_jitter(
                    x,
                    keys,
                    brightness=settings["brightness"],
                    contrast=settings["contrast"],
                    saturation=settings["saturation"],
                ),
                y,
            ),
            "cutout": lambda x, y, keys: (
                pictures.cutout(x, keys, size=settings["cutout_size"] or _half(x)),
                y,
            ),
            "mixup": lambda x, y, keys: pictures.mixup(x, y, keys, alpha=settings["alpha"]),
        }
        given = ",".join(self.names)
        for name in self.names:
            if name not in steps:
                raise ValueError(
                    f"`names` must be a comma-separated list of {', '.join(steps)}, or 'none'. "
                    f"Received: {name!r} in names={given!r}.{arguments.near_matches(name, steps)}"
                )
        if len(set(self.names)) < len(self.names):
            raise ValueError(
                "`names` must name each augmentation once: a second time would repeat the first "
                f"one's draws. Received: names={given!r}"
            )

    def __call__(self, images, labels, keys):
        for name in self.names:
            images, labels = self._steps[name](images, labels, keys)
        return images, labels


def pipeline(
    names,
    *,
    padding=4,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    cutout_size=None,
    alpha=0.2,
):
    """Several augmentations as one callable, in the order given.

    Args:
        names: Comma-separated: of `crop`, `flip`, `color`, `cutout`, `mixup`; `"none"` or `""`.
        padding: For `crop`.
        brightness: For `color`.
        contrast: For `color`.
        saturation: For `color`.
        cutout_size: For `cutout`; half of the image's shorter side by default.
        alpha: For `mixup`, which needs one-hot labels.

    Returns:
        A `Pipeline`, `(images, labels, keys) -> (images, labels)`, or None for no augmentation.

    Raises:
        ValueError: An unknown name, or one given twice.

    Example:

    >>> augmented = pipeline("crop,flip")
    >>> images, labels = augmented(images, labels, randomness.keys(0, ids, view))
    """
    if not isinstance(names, str):
        raise ValueError(f"`names` must be a comma-separated string. Received: names={names!r}")
    chosen = [name.strip() for name in names.split(",")]
    if chosen in (["none"], [""]):
        return None
    settings = {
        "padding": padding,
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "cutout_size": cutout_size,
        "alpha": alpha,
    }
    return Pipeline(chosen, settings)


def _half(images):
    height, width = images.shape[1:3]
    if height is None or width is None:
        raise ValueError(
            "`cutout_size` must be given for images of unknown size. Received: shape "
            f"{images.shape}, cutout_size=None."
        )
    return max(1, min(height, width) // 2)
