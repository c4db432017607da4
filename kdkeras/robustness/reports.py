"""What a report says: its rows, its gates, its verdict. All of it plain JSON."""

import keras
import numpy as np
import tensorflow as tf

import kdkeras
from kdkeras.evaluation import intervals
from kdkeras.robustness import gates, library, suites


def threat_model(target, ball, examples, classes):
    """What the attacker may do and knows, and on what it was tried."""
    return {
        "norm": ball["norm"],
        "epsilon": ball["epsilon"],
        "epsilon_in_255": suites.in_255(ball["epsilon"]),
        "pixels": "[0, 1]",
        "access": f"transfer from {target.surrogate}" if target.surrogate else "white-box",
        "examples": examples,
        "classes": classes,
        "seed": ball["seed"],
    }


def versions(suite):
    """Versions of what the figures depend on."""
    found = {"kdkeras": kdkeras.__version__, "tensorflow": tf.__version__}
    found |= {"keras": keras.__version__, "numpy": np.__version__}
    if suite == "full":
        found[library.NAME] = library.version()
    return found


def rows(wanted, outcomes):
    """The rows `clean`, `attacks` by name, and `worst_case`: what survives all that count.

    Args:
        wanted: List of `suites.Attack`.
        outcomes: Dict from names to what `running.run` found.
    """
    inside = [attack for attack in wanted if attack.inside]
    right = [outcomes[name]["right"] for name in ("clean", *(attack.name for attack in inside))]
    return {
        "clean": _row("clean", right[0]),
        "attacks": {
            attack.name: {
                **_row(attack.title, outcomes[attack.name]["right"]),
                "counts_for_worst_case": attack.inside,
                "seconds": outcomes[attack.name]["seconds"],
                "settings": attack.settings,
            }
            for attack in wanted
        },
        "worst_case": {
            **_row("worst case", np.logical_and.reduce(right)),
            "of": [attack.title for attack in inside],
        },
    }


def curve(points, outcomes):
    """Accuracy against epsilon, ascending."""
    return [
        {"epsilon": epsilon, "accuracy": float(np.mean(outcomes[name]["right"]))}
        for epsilon, name in points
    ]


def found_by_gates(report, outcomes, zero):
    """All six gates.

    Args:
        report: With its rows and curve.
        outcomes: Dict from names to what `running.run` found.
        zero: The share of examples without a gradient; None by transfer, where no gate applies.
    """
    if zero is None:
        why = (
            "not applicable: the attacks were made on another model, not with this one's gradients"
        )
        return [gates.not_applicable(key, why) for key in gates.NAMES]
    told, points = report["threat_model"], report["curve"]
    epsilons, accuracies = ([point[key] for point in points] for key in ("epsilon", "accuracy"))
    accuracy = {name: row["accuracy"] for name, row in report["attacks"].items()}
    cross_entropy, margin = accuracy["pgd20_cross_entropy"], accuracy["pgd20_margin"]
    worst, examples = report["worst_case"]["accuracy"], told["examples"]
    return [
        gates.curve(epsilons, accuracies, examples=examples, classes=told["classes"]),
        gates.order(accuracy["fgsm"], cross_entropy, worst, examples=examples),
        gates.gradients(zero),
        gates.objectives(cross_entropy, margin, examples=examples),
        _queries(report, outcomes),
        gates.steps(margin, accuracy["pgd40_margin"], examples=examples),
    ]


def verdict(report, surrogate):
    """The verdict, and whether it can be relied on: True, False, or None by transfer."""
    worst = report["worst_case"]
    if surrogate is None:
        return gates.verdict(report["gates"], worst["accuracy"], worst["interval"])
    share = gates.with_interval(worst["accuracy"], worst["interval"])
    said = f"accuracy {share} by transfer from {surrogate}: an upper bound of robustness"
    return f"{said}, not a white-box figure", None


def _queries(report, outcomes):
    if "square" not in report["attacks"]:
        why = [why for title, why in report["left_out"].items() if title.startswith("Square")]
        why = why[0] if why else "Square is part of suite 'full'"
        return gates.not_applicable("queries", f"not run: {why}")
    rows_ = report["attacks"].items()
    names = [name for name, row in rows_ if row["counts_for_worst_case"] and name != "square"]
    white_box = np.logical_and.reduce([outcomes[name]["right"] for name in names])
    square = outcomes["square"]["right"]
    alone = np.mean(white_box & ~square)
    return gates.queries(float(np.mean(square)), float(np.mean(white_box)), float(alone))


def _row(title, right):
    return {
        "title": title,
        "accuracy": float(np.mean(right)),
        "interval": list(intervals.wilson(int(np.sum(right)), len(right))),
        "right": "".join("01"[one] for one in right.astype(int)),
    }
