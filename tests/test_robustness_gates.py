"""Each gate passes and fails where it should, and says why."""

import pytest

from kdkeras.robustness import gates

EPSILONS = [0.0, 0.01, 0.02, 0.04, 0.5]


def test_the_curve_that_falls_to_chance_passes():
    gate = gates.curve(EPSILONS, [0.9, 0.7, 0.4, 0.1, 0.0], examples=100, classes=10)
    assert gate["name"] == "epsilon curve"
    assert gate["passed"] is True
    assert gate["figures"]["chance"] == 0.1
    assert gate["reason"] == (
        "accuracy falls with epsilon, to 0.0 % at 0.5, where no picture can survive"
    )


@pytest.mark.parametrize(
    ("middle", "passed"),
    # One standard error of 0.4 in 100 examples is 0.049.
    [(0.44, True), (0.449, True), (0.46, False), (0.6, False)],
)
def test_the_curve_may_rise_by_a_standard_error(middle, passed):
    gate = gates.curve(EPSILONS, [0.9, 0.4, middle, 0.1, 0.0], examples=100, classes=10)
    assert gate["passed"] is passed
    if not passed:
        assert "accuracy rises from epsilon 0.01 to 0.02" in gate["reason"]


@pytest.mark.parametrize(
    ("last", "classes", "passed"),
    # At chance, and a standard error of 0.03 and of 0.05 above it.
    [(0.129, 10, True), (0.131, 10, False), (0.54, 2, True), (0.56, 2, False), (1.0, 10, False)],
)
def test_the_curve_must_reach_chance(last, classes, passed):
    gate = gates.curve(EPSILONS, [1.0] * 4 + [last], examples=100, classes=classes)
    assert gate["passed"] is passed
    if not passed:
        assert f"at epsilon 0.5, where every picture can be made grey, it is still {last:.1%}" in (
            gate["reason"].replace(" %", "%")
        )


@pytest.mark.parametrize(
    ("fgsm", "pgd", "worst", "examples", "passed"),
    [
        (0.5, 0.4, 0.3, 1000, True),
        (0.4, 0.4, 0.4, 1000, True),
        (0.396, 0.4, 0.4, 1000, True),  # within half a point
        (0.39, 0.4, 0.4, 1000, False),
        (0.39, 0.4, 0.4, 100, True),  # one example
        (0.38, 0.4, 0.4, 100, False),
        (0.5, 0.4, 0.41, 1000, False),
    ],
)
def test_order(fgsm, pgd, worst, examples, passed):
    gate = gates.order(fgsm, pgd, worst, examples=examples)
    assert gate["passed"] is passed
    assert gate["figures"] == {"fgsm": fgsm, "pgd20_cross_entropy": pgd, "worst_case": worst}
    assert ("a single step must not do better than twenty" in gate["reason"]) is not passed


@pytest.mark.parametrize(
    ("share", "passed"), [(0.0, True), (0.0099, True), (0.01, False), (1.0, False)]
)
def test_gradients(share, passed):
    gate = gates.gradients(share)
    assert gate["passed"] is passed
    assert gate["figures"] == {"zero_gradients": share}
    assert ("too sure of itself" in gate["reason"]) is not passed


@pytest.mark.parametrize(
    ("cross_entropy", "margin", "passed"),
    [
        (0.4, 0.4, True),
        (0.45, 0.4, True),
        (0.46, 0.4, False),
        (0.4, 0.46, False),
        (1.0, 0.0, False),
    ],
)
def test_objectives(cross_entropy, margin, passed):
    gate = gates.objectives(cross_entropy, margin, examples=100)
    assert gate["passed"] is passed
    assert ("one of the two is misled" in gate["reason"]) is not passed


def test_three_of_few_examples_say_nothing():
    assert gates.objectives(0.6, 0.66, examples=50)["passed"]
    assert not gates.objectives(0.6, 0.68, examples=50)["passed"]


@pytest.mark.parametrize(
    ("square", "white_box", "alone", "passed"),
    [
        (0.6, 0.4, 0.0, True),
        (0.4, 0.4, 0.01, True),
        (0.6, 0.4, 0.02, False),  # gradients missed what mere queries found
        (0.39, 0.4, 0.01, False),
    ],
)
def test_queries(square, white_box, alone, passed):
    gate = gates.queries(square, white_box, alone)
    assert gate["passed"] is passed
    assert ("gradients lead the attacks astray" in gate["reason"]) is not passed


@pytest.mark.parametrize(
    ("twenty", "forty", "examples", "passed"),
    [
        (0.5, 0.5, 1000, True),
        (0.5, 0.496, 1000, True),
        (0.5, 0.495, 1000, False),
        (0.5, 0.505, 1000, False),
        (0.5, 0.49, 100, True),  # one example
        (0.5, 0.48, 100, False),
    ],
)
def test_steps(twenty, forty, examples, passed):
    gate = gates.steps(twenty, forty, examples=examples)
    assert gate["passed"] is passed
    assert ("has not converged" in gate["reason"]) is not passed


def test_verdict():
    passed = gates.gradients(0.0)
    skipped = gates.not_applicable("queries", "not run: Square is part of suite 'full'")
    assert (skipped["passed"], skipped["figures"]) == (None, {})
    assert skipped["name"] == "attack without gradients"
    assert skipped["reason"] == "not run: Square is part of suite 'full'"
    said, reliable = gates.verdict([passed, skipped], 0.432, (0.4012, 0.4631))
    assert (said, reliable) == ("robust accuracy 43.2 % [40.1, 46.3]", True)
    failed = [gates.gradients(0.5), passed, gates.objectives(1.0, 0.0, examples=100)]
    said, reliable = gates.verdict(failed, 0.432, (0.4, 0.5))
    assert said == "not reliable: zero gradients, cross-entropy against margin"
    assert reliable is False
