"""Whether the models are as sure as they should be: reliability diagrams."""

import numpy as np
import scipy.special

from kdkeras import evaluation
from kdkeras.report import page, plots, words

BINS = 15


def part(run):
    """A reliability diagram a model."""
    blocks = [page.figure([_diagram(run, role) for role in run.logits], _caption(run))]
    header = ["", "ECE", "after scaling", "temperature", "NLL", "Brier"]
    rows = [
        [
            role,
            *(f"{test[key]:.4f}" for key in ("ece", "ece_scaled")),
            f"{test['temperature']:.3g}",
            *(f"{test[key]:.4f}" for key in ("nll", "brier")),
        ]
        for role, test in run.tests.items()
    ]
    said = (
        "ECE: mean difference of confidence and accuracy over 15 bins; it is above 0 by chance "
        "alone where bins hold few images. After scaling: logits divided by a temperature that was "
        "fitted on the other half of the test images. A temperature above 1 tells of a model that "
        "is too sure."
    )
    return page.part("Are they as sure as they should be?", *blocks, page.table(header, rows, said))


def _caption(run):
    told = words.listed(
        f"{role} {words.points(_confidence(logits) - run.tests[role]['accuracy'])}"
        for role, logits in run.logits.items()
    )
    return (
        f"Mean confidence less accuracy, in points: {told}. A mark above the diagonal: right more "
        "often than said; below: too sure; the larger, the more images. Crosses: after temperature "
        f"scaling. Bars: how many of the {len(run.labels):,} images each bin of confidence holds."
    )


def _confidence(logits):
    return float(scipy.special.softmax(logits.astype("float64"), axis=-1).max(axis=-1).mean())


def _diagram(run, role):
    logits, look = run.logits[role].astype("float64"), words.LOOKS[role]
    test = run.tests[role]
    found = {
        name: [
            one
            for one in evaluation.reliability(
                run.labels, scipy.special.softmax(logits / temperature, axis=-1), BINS
            )
            if one["count"]
        ]
        for name, temperature in (("as it is", 1.0), ("scaled", test["temperature"]))
    }
    figure = plots.figure(300, 340)
    axes, below = figure.subplots(2, 1, height_ratios=[3.4, 1.0], sharex=True)
    axes.plot([0, 100], [0, 100], color=plots.GREY, linewidth=1.0)
    scaled = {"color": look["color"], "linestyle": "none", "marker": "x", "markersize": 7}
    axes.plot(*_places(found["scaled"]), alpha=0.7, clip_on=False, **scaled)
    own = {"color": look["color"], "marker": look["marker"], "clip_on": False, "zorder": 3}
    sizes = [20.0 + 100.0 * one["count"] / len(run.labels) for one in found["as it is"]]
    axes.scatter(*_places(found["as it is"]), s=sizes, **own)
    axes.set_ylabel("right, %")
    axes.set_ylim(0, 100)
    plots.titled(axes, f"{role.title()}: ECE {test['ece']:.3f}")
    bins = found["as it is"]
    below.bar(
        [50.0 * (one["low"] + one["high"]) for one in bins],
        [one["count"] for one in bins],
        width=100.0 / BINS * 0.82,
        color=look["color"],
        alpha=0.75,
    )
    below.set_yscale("log")
    below.set_ylim(0.7, 2.0 * len(run.labels))
    below.set_yticks(_tens(len(run.labels)), [f"{ten:,}" for ten in _tens(len(run.labels))])
    below.minorticks_off()
    below.set_ylabel("images")
    below.set_xlabel("confidence, %")
    below.set_xlim(0, 100)
    low = sum(one["count"] for one in bins if one["low"] < 0.9)
    alt = (
        f"Reliability of the {role}: ECE {test['ece']:.4f}, {test['ece_scaled']:.4f} after "
        f"temperature scaling (T {test['temperature']:.3g}). {low} of {len(run.labels)} images "
        "are in bins that begin below 90 % confidence."
    )
    return plots.svg(figure, alt)


def _places(bins):
    return [[100.0 * one[key] for one in bins] for key in ("confidence", "accuracy")]


def _tens(most):
    """1 and at most two more powers of ten."""
    largest = int(np.log10(most))
    return sorted({10**power for power in (0, (largest + 1) // 2, largest)})
