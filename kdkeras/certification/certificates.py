"""The certificates of some images, in memory and on disk."""

import dataclasses
import pathlib

import numpy as np

from kdkeras import data, files
from kdkeras.certification import bounds

ABSTAIN = -1
FORMAT = "kdkeras certificates, version 1"
TYPES = {"predicted": np.int64, "radius": np.float64, "counts": np.int64}
# What is stored as a digest, which says nothing in a message.
DIGESTS = ("architecture", "weights", "images")


@dataclasses.dataclass(frozen=True, eq=False)
class Certificates:
    """What `certify` found, an entry an image.

    Attributes:
        predicted: int64 array, the class of the smoothed model; `ABSTAIN` (-1) where none is sure.
        radius: float64 array, l2, in the units of the images; 0 where it abstains.
        counts: int64 array, how many of `n` draws gave the class that was selected.
        num_classes: Number of logits.
        sigma, n, n0, alpha, seed: As in `certify`.
    """

    predicted: np.ndarray
    radius: np.ndarray
    counts: np.ndarray
    num_classes: int
    sigma: float
    n: int
    n0: int
    alpha: float
    seed: int

    @property
    def abstained(self):
        """Boolean array: where no class is sure."""
        return self.predicted == ABSTAIN

    def certified_accuracy(self, labels, radii):
        """The share of images whose class is right and certified for each radius.

        `mean(predicted == label and radius >= r)`. To abstain is to be wrong, at r = 0 too.

        Args:
            labels: Integer array of shape `(images,)`.
            radii: A number, or an array of them, at least 0.

        Returns:
            float64 array shaped like `radii`.

        Raises:
            ValueError: Labels that do not fit, or radii that are negative or not finite.

        Example:

        >>> found.certified_accuracy(labels, [0.0, 0.25, 0.5])
        array([0.83, 0.61, 0.32])
        """
        labels, radii = np.asarray(labels), np.asarray(radii, np.float64)
        data.check_labels(labels, self.num_classes)
        if labels.shape != self.predicted.shape:
            raise ValueError(
                f"`labels` must hold one label for each of {len(self.predicted)} images. "
                f"Received: {len(labels)} labels."
            )
        if not np.all(np.isfinite(radii) & (radii >= 0.0)):
            raise ValueError(f"`radii` must be finite, at least 0. Received: radii={radii}")
        reach = np.where(self.predicted == labels, self.radius, -1.0)
        return np.mean(reach >= radii[..., None], axis=-1)


def row(selected, count, settings):
    """One image's entries, as they are stored.

    Args:
        selected: The class that was selected.
        count: How many of the draws gave it.
        settings: Dict with `n`, `sigma` and `alpha`.
    """
    radius = bounds.radius(count, settings["n"], sigma=settings["sigma"], alpha=settings["alpha"])
    predicted = selected if radius > 0.0 else ABSTAIN
    return {"predicted": predicted, "radius": radius, "counts": count}


def of_rows(rows, **settings):
    """`Certificates` of all images' rows."""
    columns = {name: np.array([row[name] for row in rows], dtype) for name, dtype in TYPES.items()}
    return Certificates(**columns, **settings)


def begun(path, about):
    """The rows that a file holds already, for the first images; it is made where there is none.

    Args:
        path: A `.json` file.
        about: What the numbers depend on: plain JSON.

    Returns:
        List of rows, as `row` makes them.

    Raises:
        ValueError: The file is of something else, which is named, or is damaged. It stays as it is.
        OSError: It cannot be read or written.
    """
    path = pathlib.Path(path)
    if not path.exists():
        write(path, about, [])  # a folder that cannot be written to is found before the work
        return []
    stored = files.read_json(path)
    found = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
    if found != FORMAT:
        raise ValueError(
            f"'{path}' must hold certificates ({FORMAT!r}). Received: {found!r}. It was left as "
            "it is; give another path."
        )
    if set(stored) != {"format", "about", "rows"}:
        raise ValueError(f"'{path}' is damaged: its content is not 'about' and 'rows'. Delete it.")
    differing = list(_differences(stored["about"], about))
    if differing:
        raise ValueError(
            f"'{path}' holds certificates of something else: {'; '.join(differing)}. It was left "
            "as it is; give another path, or delete it."
        )
    return stored["rows"]


def write(path, about, rows):
    """Writes the rows done so far, atomically."""
    files.write_json(path, {"format": FORMAT, "about": about, "rows": rows}, sealed=True)


def _differences(stored, wanted):
    for key in {**wanted, **stored}:
        there, here = stored.get(key), wanted.get(key)
        if there != here:
            yield f"other {key}" if key in DIGESTS else f"{key} {there!r} there, {here!r} here"
