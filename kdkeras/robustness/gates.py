"""Six gates: signs that attacks failed for reasons of their own, not because the model is robust.

Each gives a dict of `name`, `passed` (True, False, or None where it does not apply), `figures`, and
`reason`, a sentence. A robust accuracy is worth believing only when none has failed.

Reference:
    Carlini et al., [On Evaluating Adversarial Robustness](https://arxiv.org/abs/1902.06705), 2019.
"""

from kdkeras.evaluation import intervals

LEAST_GRADIENTS = 0.01  # of examples, at most so many without a gradient
AGREEMENT = 0.05  # between objectives
CONVERGENCE = 0.005  # between numbers of steps
ALONE = 0.01  # of examples, at most so many that fall to queries alone
NAMES = {
    "curve": "epsilon curve",
    "order": "order of attacks",
    "gradients": "zero gradients",
    "objectives": "cross-entropy against margin",
    "queries": "attack without gradients",
    "steps": "number of steps",
}


def curve(epsilons, accuracies, *, examples, classes):
    """A larger epsilon never helps the model, and at the largest it is at chance.

    `a_(i+1) <= a_i + s`, with `s` one standard error of their mean, and the last at most
    `1 / classes` and one standard error.

    Args:
        epsilons: Ascending, the last a distortion that no picture survives.
        accuracies: PGD-20 margin at each; as they are, not each point's worst so far.
        examples: How many there are.
        classes: How many there are.
    """
    rises = []
    for i, (here, there) in enumerate(zip(accuracies[:-1], accuracies[1:], strict=True)):
        if there > here + intervals.standard_error((here + there) / 2.0, examples):
            rises.append((epsilons[i], epsilons[i + 1]))
    chance = 1.0 / classes
    most = chance + intervals.standard_error(chance, examples)
    said = []
    if rises:
        said.append(
            f"accuracy rises from epsilon {rises[0][0]:.4g} to {rises[0][1]:.4g}, by more than a "
            "standard error: a larger ball holds all attacks of a smaller one"
        )
    if accuracies[-1] > most:
        said.append(
            f"at epsilon {epsilons[-1]:.4g}, where every picture can be made grey, it is still "
            f"{_percent(accuracies[-1])}, above chance ({_percent(chance)})"
        )
    good = (
        f"accuracy falls with epsilon, to {_percent(accuracies[-1])} at {epsilons[-1]:.4g}, where "
        "no picture can survive"
    )
    figures = {"epsilons": list(epsilons), "accuracies": list(accuracies), "chance": chance}
    return _gate("curve", not said, figures, "; ".join(said) or good)


def order(fgsm, pgd, worst, *, examples):
    """Stronger attacks find more: `FGSM >= PGD-20 cross-entropy >= worst case`.

    By half a point, or by one example where that is more, FGSM may be ahead.
    """
    slack = max(CONVERGENCE, 1.0 / examples) + 1e-9
    passed = fgsm >= pgd - slack and pgd >= worst
    said = f"FGSM leaves {_percent(fgsm)}, PGD-20 {_percent(pgd)}, the worst case {_percent(worst)}"
    bad = "a single step must not do better than twenty: " + said
    figures = {"fgsm": fgsm, "pgd20_cross_entropy": pgd, "worst_case": worst}
    return _gate("order", passed, figures, said if passed else bad)


def gradients(share):
    """Fewer than 1 % of the examples have a cross-entropy gradient that is zero throughout."""
    said = f"{_percent(share)} of the examples have no gradient of the cross-entropy at all"
    bad = (
        said + ": the model is too sure of itself for attacks on it, so that those say nothing (as "
        "after training at a high temperature, or with saturated units)"
    )
    passed = share < LEAST_GRADIENTS
    return _gate("gradients", passed, {"zero_gradients": share}, said if passed else bad)


def objectives(cross_entropy, margin, *, examples):
    """PGD-20 on the cross-entropy and on the margin agree within 5 points, or within 3 examples."""
    passed = abs(cross_entropy - margin) <= max(AGREEMENT, 3.0 / examples) + 1e-9
    said = f"PGD-20 leaves {_percent(cross_entropy)} by cross-entropy, {_percent(margin)} by margin"
    bad = said + ": one of the two is misled, and there may be attacks that neither finds"
    figures = {"cross_entropy": cross_entropy, "margin": margin}
    return _gate("objectives", passed, figures, said if passed else bad)


def queries(square, white_box, alone):
    """An attack that only asks for logits does not beat those that know the gradients.

    Args:
        square: Accuracy under Square.
        white_box: Share of examples that survive all attacks that use gradients.
        alone: Share of examples that survive those, and fall to Square.
    """
    passed = square >= white_box and alone <= ALONE
    said = (
        f"Square leaves {_percent(square)}, the attacks that use gradients {_percent(white_box)}; "
        f"{_percent(alone)} fall to Square alone"
    )
    bad = said + ": gradients lead the attacks astray"
    figures = {"square": square, "white_box": white_box, "square_alone": alone}
    return _gate("queries", passed, figures, said if passed else bad)


def steps(twenty, forty, *, examples):
    """Twice as many steps change less than 0.5 points, or no more than one example."""
    change = abs(forty - twenty)
    passed = change < CONVERGENCE or change * examples < 1.5
    said = f"PGD margin leaves {_percent(twenty)} after 20 steps, {_percent(forty)} after 40"
    bad = said + ": it has not converged, and more steps would find more"
    return _gate("steps", passed, {"pgd20": twenty, "pgd40": forty}, said if passed else bad)


def not_applicable(key, why):
    """A gate that says nothing of this model, and why."""
    return _gate(key, None, {}, why)


def verdict(found, share, interval):
    """A sentence, and whether the figure can be relied on.

    Args:
        found: List of gates.
        share, interval: The accuracy in the worst case.

    Returns:
        A string, and True or False.
    """
    failed = [gate["name"] for gate in found if gate["passed"] is False]
    if failed:
        return f"not reliable: {', '.join(failed)}", False
    return f"robust accuracy {with_interval(share, interval)}", True


def with_interval(share, interval):
    """`43.2 % [40.1, 46.3]`"""
    return f"{_percent(share)} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _gate(key, passed, figures, reason):
    return {"name": NAMES[key], "passed": passed, "figures": figures, "reason": reason}


def _percent(share):
    return f"{100.0 * share:.1f} %"
