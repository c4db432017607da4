"""Whether a written file does what the student does: run, and compared."""

import numpy as np
import scipy.special

from kdkeras import runtimes

# Largest difference in probability that a file of full or half precision may show.
LARGEST = {"saved_model": 1e-5, "onnx": 1e-5, "float32": 1e-5, "float16": 1e-2}
# Share of the images on which a quantised file must have the student's top class. Differences of
# single probabilities say little of it: where the student wavers, one step of a weight moves them.
LEAST_AGREEMENT = 0.9


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
    if kind in LARGEST and found["largest_difference"] > LARGEST[kind]:
        raise ValueError(
            f"The exported file ({kind}) differs from the student by "
            f"{found['largest_difference']:.2g} in probability; at most {LARGEST[kind]} is "
            "expected. It was not kept."
        )
    if kind not in LARGEST and found["agreement"] < LEAST_AGREEMENT:
        raise ValueError(
            f"The exported file ({kind}) has the student's top class on {found['agreement']:.1%} "
            f"of {len(images):,} images; at least {LEAST_AGREEMENT:.0%} is expected. It was not "
            "kept. Calibrate on more images, take float16, or fine-tune the student for int8: "
            "kdkeras quantize. Where there are hundreds of classes, let the file give logits: "
            "probabilities have steps of 1/256."
        )
    return given


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
