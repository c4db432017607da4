"""Which classes the teacher thinks alike: what a student learns beyond the labels."""

import numpy as np
import scipy.special

from kdkeras.report import matrices, page, words

ROWS = 15


def part(run):
    """The teacher's mean soft target of each true class, or None where there is none."""
    if "teacher" not in run.logits:
        return None
    temperature, why = _temperature(run)
    means, present = soft_targets(run.labels, run.logits["teacher"], temperature)
    pairs = matrices.largest(means, ROWS)
    if not pairs:
        return None  # a teacher so sure that it tells no likeness at all
    told = words.listed(
        f"{run.classes[row]} and {run.classes[column]} ({100 * means[row, column]:.1f}\u00a0%)"
        for row, column in pairs[:3]
    )
    blocks = [
        page.text(
            f"What the teacher says of each class at temperature {temperature:g} ({why}), the mean "
            f"over its test images: soft targets, from which the student learns what is like what. "
            f"Most alike are {told}."
        )
    ]
    if len(run.classes) <= matrices.MOST:
        row, column = pairs[0]
        blocks.append(
            page.figure(
                matrices.heat(
                    100.0 * means,
                    run.classes,
                    title="Mean soft target, %",
                    axes_titles=("truth", "class"),
                    form=lambda value: f"{value:.0f}" if value >= 0.5 else "",
                    alt=(
                        f"Mean soft targets at temperature {temperature:g}: apart from itself, "
                        f"{run.classes[row]} is most like {run.classes[column]}, "
                        f"{100 * means[row, column]:.1f} %."
                    ),
                    pale=True,
                ),
                "A row sums to 100. The diagonal is left out of the colours; what is below half a "
                "percent has no number.",
            )
        )
    else:
        rows = [[run.classes[r], run.classes[c], f"{100 * means[r, c]:.2f}"] for r, c in pairs]
        header = ["Truth", "Like", "Mean soft target, %"]
        blocks.append(page.table(header, rows, f"The {len(rows)} largest off the diagonal."))
    if not present.all():
        missing = [run.classes[i] for i in np.flatnonzero(~present)]
        blocks.append(page.text(f"No test image is of {words.listed(missing[:10])}."))
    return page.part("Which classes the teacher thinks alike", *blocks)


def soft_targets(labels, logits, temperature):
    """`mean over x of class c of softmax(logits(x) / T)`, a row a class.

    Args:
        labels: Integer array `(n,)`.
        logits: Array `(n, classes)`.
        temperature: Positive.

    Returns:
        Array `(classes, classes)`, a class without images 0; and which classes have images.
    """
    soft = scipy.special.softmax(logits.astype("float64") / temperature, axis=-1)
    sums = np.zeros((logits.shape[-1],) * 2)
    np.add.at(sums, labels, soft)
    counts = np.bincount(labels, minlength=len(sums))
    return sums / np.maximum(counts, 1)[:, None], counts > 0


def _temperature(run):
    """The temperature of the run's first term that has one, and where it is from."""
    for term in run.results.get("distillation", {}).get("terms", []):
        if term.get("temperature") is not None:
            return float(term["temperature"]), "this run's"
    given = run.recipe.get("temperature")
    return (float(given), "this run's") if given else (1.0, "its method has none")
