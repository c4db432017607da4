"""Which attacks there are: the rows of a report, in the order in which they are run."""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from kdkeras import arguments, perturbations
from kdkeras.robustness import library

SUITES = ("quick", "standard", "full")
# Budgets of the library's attacks, those of the papers.
APGD_STEPS = 100
SQUARE_QUERIES = 5000
# Restarts of the strongest attack of "standard".
RESTARTS = 5


@dataclasses.dataclass(frozen=True)
class Attack:
    """A row of a report.

    Attributes:
        name: For files and dicts: letters, digits, underscores, minus.
        title: For people.
        settings: Plain JSON: all that determines what it finds, beside model, data and seed.
        make: Function of a network and the `tf.TensorSpec`s of a batch, that gives a function from
            the arrays of a batch, images and labels, to adversarial images.
        tries: How often that is run, each time on what still stands.
        inside: Whether all it does is within the threat model, so that it counts for the worst
            case. Noise is not: it leaves the ball, or the range of pixels.
        after: Name of a weaker form of the attack: what falls to that has fallen to this as well,
            and is not attacked again.
    """

    name: str
    title: str
    settings: dict
    make: Callable
    tries: int = 1
    inside: bool = True
    after: str | None = None


def attacks(suite, *, epsilon, norm, seed, shape, classes):
    """The attacks of a suite, in order; and those that do not fit, with the reason.

    Args:
        suite: One of `SUITES`.
        epsilon, norm: The ball.
        seed: Of noise and of random starts.
        shape: Of one image.
        classes: How many there are.

    Returns:
        A list of `Attack`, and a dict from titles to reasons.
    """
    ball = {"epsilon": epsilon, "norm": norm}
    found = [
        *_noises(epsilon, norm, seed, shape),
        Attack("fgsm", "FGSM", ball, _in_graph(perturbations.FGSM, ball)),
        pgd("pgd20_cross_entropy", ball, seed, steps=20, objective="cross_entropy"),
        pgd("pgd20_margin", ball, seed, steps=20, objective="margin"),
        pgd("pgd40_margin", ball, seed, steps=40, objective="margin"),
    ]
    if suite == "quick":
        return found, {}
    # Its steps are finer: it looks more closely at what the coarse ones have left.
    settings = {**ball, "steps": 100, "step_size": epsilon / 40.0, "objective": "margin"}
    # Its random starts are others than PGD-20's.
    make = _in_graph(perturbations.PGD, {**settings, "seed": seed + 1})
    title = f"PGD-100 margin, {RESTARTS} restarts"
    settings["restarts"] = RESTARTS
    name = "pgd100_margin_restarts"
    found.append(Attack(name, title, settings, make, tries=RESTARTS, after="pgd20_margin"))
    if suite == "standard":
        return found, {}
    of_library, left_out = _of_library(ball, seed, shape, classes)
    return found + of_library, left_out


def pgd(name, ball, seed, *, steps, objective, title=None):
    """PGD with steps of a quarter of epsilon: of 2/255 where epsilon is 8/255."""
    settings = {**ball, "steps": steps, "step_size": ball["epsilon"] / 4.0, "objective": objective}
    title = title or f"PGD-{steps} {objective.replace('_', '-')}"
    return Attack(name, title, settings, _in_graph(perturbations.PGD, {**settings, "seed": seed}))


def curve(*, epsilon, norm, seed, shape):
    """PGD-20 margin from 0 to a distortion that nothing can survive, at doubling distances.

    That is 0.5 in the maximum norm, and `0.5 sqrt(d)` in L2: there every picture can be made grey.

    Returns:
        A list of pairs, epsilon and the name of what is found there; and a list of the attacks that
        this takes beside those of every suite.
    """
    top = 0.5 if norm == "linf" else 0.5 * math.sqrt(math.prod(shape))
    points, more = [(0.0, "clean"), (epsilon, "pgd20_margin")], []
    distances = [epsilon / 4.0, epsilon / 2.0]
    further = 2.0 * epsilon
    while further < top:
        distances.append(further)
        further *= 2.0
    if epsilon < top:
        distances.append(top)
    for distance in distances:
        name = f"curve_{distance:.3e}".replace(".", "_")
        title = in_255(distance) if norm == "linf" else f"{distance:.4g}"
        ball = {"epsilon": distance, "norm": norm}
        title = f"PGD-20 margin at {title}"
        more.append(pgd(name, ball, seed, steps=20, objective="margin", title=title))
        points.append((distance, name))
    return sorted(points), more


def in_255(epsilon):
    """`8/255` of 8 / 255."""
    return f"{255.0 * epsilon:.4g}/255"


def _noises(epsilon, norm, seed, shape):
    """Noise of about the size of the attacks; in L2, spread so that its length is epsilon's."""
    spread = 1.0 if norm == "linf" else 1.0 / math.sqrt(math.prod(shape))
    width = 1.0 if norm == "linf" else math.sqrt(3.0) * spread
    kinds = (
        ("gaussian", "Gaussian noise, stddev", perturbations.Gaussian, "stddev", spread * epsilon),
        ("uniform", "uniform noise, +-", perturbations.Uniform, "epsilon", width * epsilon),
    )
    for name, title, kind, argument, value in kinds:
        title += ("" if title.endswith("-") else " ") + f"{value:.4f}"
        make = _in_graph(kind, {argument: value, "seed": seed})
        yield Attack(name, title, {argument: value}, make, inside=False)


def _in_graph(kind, settings):
    """A perturbation, as a function from a network to a function of arrays; compiled."""

    def of(network, batch):
        perturbation = kind(**settings)

        def perturbed(x, labels):
            return perturbation(network, x, {"label": labels})

        # Traced here: where many are traced in a row TensorFlow warns of retracing.
        compiled = tf.function(perturbed, autograph=False).get_concrete_function(*batch)
        return lambda images, labels: compiled(tf.constant(images), tf.constant(labels)).numpy()

    return of


def _of_library(ball, seed, shape, classes):
    """ART's attacks as far as they fit, and why others do not."""
    found, left_out = [], {}
    apgd = {**ball, "steps": APGD_STEPS}
    kinds = (
        ("apgd_cross_entropy", "APGD cross-entropy", {**apgd, "loss": "cross_entropy"}),
        ("apgd_dlr", "APGD DLR", {**apgd, "loss": "difference_logits_ratio"}),
        ("square", f"Square, {SQUARE_QUERIES:,} queries", {**ball, "queries": SQUARE_QUERIES}),
    )
    for name, title, settings in kinds:
        reason = library.misfit(name, shape=shape, classes=classes, norm=ball["norm"])
        if reason:
            left_out[title] = reason
            continue
        attack = library.square if name == "square" else library.apgd
        make = attack(settings, shape=shape, classes=classes, seed=seed)
        found.append(Attack(name, title, settings, make))
    return found, left_out


def check(suite):
    """Refuses an unknown suite, and "full" where the library is missing."""
    arguments.one_of("suite", suite, SUITES)
    if suite == "full":
        library.version()
