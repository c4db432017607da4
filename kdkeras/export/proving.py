"""Whether a written file does what the student does: run, and compared."""

import numpy as np
import scipy.special

from kdkeras import runtimes

# Of each kind: the largest difference in probability that proves a file right at once; and, where
# some of many images are off by more, the least share of equal top classes and the largest mean
# difference that do. Of quantised files single probabilities say little: where the student wavers,
# one step of a weight moves them.
EQUAL = (1e-5, 0.999, 1e-5)
LIMITS = {"saved_model": EQUAL, "onnx": EQUAL, "float32": EQUAL, "float16": (1e-2, 0.99, 1e-3)}
LIMITS |= dict.fromkeys(("dynamic", "int8", "int16x8"), (1e-2, 0.9, 1.0))


def levels(images, pixels):
    """Images as a file sees them: in steps of 1/255 where it takes integers."""
    return images if pixels == "float32" else np.rint(images * 255.0).astype("float32") / 255.0


def proven(run, kind, images, expected):
    """What a file gives, once it is found to be the student's.

    Args:
        run: The file, as `kdkeras.runtimes` loads it.
        kind: "saved_model", "onnx", or a precision of `kdkeras.export.PRECISIONS`.
        images: Array of images.
        expected: Array of the student's logits.

    Returns:
        Array of the file's outputs, as `run.given` gives them.

    Raises:
        ValueError: The outputs are not finite, or not the student's.
    """
    given = run.given(images)
    if not np.isfinite(given).all():
        raise ValueError(
            f"The exported file ({kind}) gives NaN or infinite outputs; it was not kept."
        )
    found = compared(run.as_probabilities(given), expected)
    largest, agreement, mean = LIMITS[kind]
    right = found["agreement"] >= agreement and found["mean_difference"] <= mean
    if found["largest_difference"] <= largest or right:
        return given
    message = (
        f"The exported file ({kind}) differs from the student: it has its top class on "
        f"{found['agreement']:.1%} of {len(images):,} images, where {agreement:.1%} are expected, "
        f"and its probabilities differ by {found['mean_difference']:.2g} in the mean and "
        f"{found['largest_difference']:.2g} at most. It was not kept."
    )
    if kind == "int8":
        message += (
            " Calibrate on more images, take float16, or train the student for int8: kdkeras "
            "quantize. Where there are hundreds of classes, let the file give logits: "
            "probabilities have steps of 1/256."
        )
    raise ValueError(message)


def compared(given, expected):
    """How a file's probabilities differ from the student's.

    Args:
        given: Array `(n, classes)` of probabilities.
        expected: Array `(n, classes)` of logits.

    Returns:
        Dict: `largest_difference` and `mean_difference`, of probabilities, and `agreement`, the
        share of equal top classes.
    """
    differences = np.abs(given - scipy.special.softmax(expected, -1))
    return {
        "largest_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
        "agreement": float(np.mean(given.argmax(-1) == expected.argmax(-1))),
    }


def same_twice(model, images):
    """The logits of a model, once it is found to give the same for the same images.

    Raises:
        ValueError: It is random at inference.
    """
    run = runtimes.KerasModel(model)
    first = run(images)
    few = images[:8]
    if not np.allclose(run(few), first[: len(few)], rtol=1e-3, atol=1e-3, equal_nan=True):
        raise ValueError(
            "`student` gives different outputs for the same images: a layer of it is random at "
            "inference. Make it do nothing there: `call(self, x, training=False)`."
        )
    return first
