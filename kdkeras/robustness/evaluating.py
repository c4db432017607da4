"""A model under a suite of attacks, and a verdict on whether the figures can be believed."""

import hashlib
import sys

import numpy as np

from kdkeras import arguments, files
from kdkeras.robustness import (
    checks,
    drawing,
    records,
    reports,
    running,
    samples,
    suites,
    targets,
)

# How many examples the picture shows.
SHOWN = 8


def evaluate(
    model,
    images,
    labels,
    *,
    epsilon,
    norm="linf",
    suite="standard",
    surrogate=None,
    seed=0,
    batch_size=200,
    path=None,
    overwrite=False,
    class_names=None,
    verbose=1,
):
    """Attacks a model in many ways, and says how much of the outcome can be relied on.

    An example survives the worst case if the model has it right as it is and after every attack:
    `mean_x min_a right(x, a)`. Rows, in order: clean; Gaussian and uniform noise of epsilon's size,
    which are no attacks and do not count for the worst case; FGSM; PGD-20 on the cross-entropy;
    PGD-20 and PGD-40 on the margin. Suite "standard" adds PGD-100 on the margin with 5 restarts;
    "full" adds APGD-CE, APGD-DLR and Square of the Adversarial Robustness Toolbox. Each attack is
    run on all examples that the model has right, so that its accuracy is its own; the restarts
    take on what PGD-20 has left. None of these ensembles is AutoAttack: figures under that name are
    made with its authors' code.

    Args:
        model: `keras.Model` with logits; or the path of a `.keras` file, a SavedModel folder, or a
            `.tflite` file, which has no gradients and is attacked by transfer.
        images: Array `(n, height, width, channels)`, pixels in [0, 1].
        labels: Integer array `(n,)`.
        epsilon: Radius of the ball, in pixels of [0, 1], such as 8 / 255.
        norm: "linf" or "l2".
        suite: "quick", "standard" or "full".
        surrogate: Of a `.tflite` file: the model or file on which the attacks are made.
        seed: Of noise and random starts.
        batch_size: How many images are attacked at a time.
        path: A folder for `report.json`, `adversarial.png`, `curve.png` and, in `attacks/`, what
            each finished attack found: the same call goes on from there. None to write nothing.
        overwrite: Whether to replace what the folder holds of another model or setting.
        class_names: Optional names for the picture.
        verbose: 0 for no progress.

    Returns:
        Dict of plain JSON: `threat_model`; `clean`, `attacks` by name and `worst_case`, each with
        `accuracy` and its Wilson 95 % `interval`; `curve`; `gates`; `verdict`; `reliable`, False
        where a gate failed, and None by transfer. Of each row, `right` has a character for each
        example, "1" where the model has it right.

    Raises:
        ValueError: Anything that would make the figures wrong: an epsilon in 0..255, pixels outside
            [0, 1], labels out of range, no examples, a model that gives probabilities or is random
            at inference, a `.tflite` file without a surrogate; the results of something else in
            the folder, or another process that is writing there; a missing library.

    Example:

    >>> report = kdkeras.robustness.evaluate(student, x, y, epsilon=8 / 255, path="runs/attack")
    >>> report["verdict"]
    'robust accuracy 43.2 % [40.1, 46.3]'
    """
    suites.check(suite)
    arguments.integer("seed", seed)
    arguments.integer("batch_size", batch_size, low=1)
    target = targets.opened(model, surrogate)
    images = checks.images_of(images, target)
    epsilon = checks.epsilon_of(epsilon, norm, images.shape[1:])
    logits = checks.logits_of(target, images, batch_size)
    labels = checks.labels_of(labels, images, logits.shape[-1])
    clean = targets.classes_of(logits) == labels
    candidates = np.flatnonzero(clean) if clean.any() else np.arange(len(images))
    shown, _ = samples.evenly(candidates, candidates, SHOWN)
    ball = {"epsilon": epsilon, "norm": norm, "seed": seed, "shape": images.shape[1:]}
    wanted, left_out = suites.attacks(suite, **ball, classes=logits.shape[-1])
    identity = None if path is None else _identity(target, images, labels, ball)
    points, more = suites.curve(**ball)
    outcomes = {"clean": {"right": clean, "pictures": images[shown], "seconds": 0.0}}
    with records.opened(path, identity, overwrite) as folder:
        for attack in [*wanted, *more]:
            found = folder.stored(attack, len(images)) if folder else None
            if found is None:
                if verbose:
                    print(f"{attack.title} ...", file=sys.stderr, flush=True)
                standing = outcomes[attack.after or "clean"]["right"]
                sizes = {"batch_size": batch_size, "verbose": verbose}
                found = running.run(attack, target, images, labels, standing, shown, **sizes)
                if folder:
                    folder.store(attack, found)
            outcomes[attack.name] = found
        zero = None
        if target.surrogate is None:
            zero = running.without_gradient(target, images, labels, batch_size=batch_size)

        report = {
            "format": records.VERSION,
            "model": target.name,
            "suite": suite,
            "threat_model": reports.threat_model(target, ball, *logits.shape),
            "versions": reports.versions(suite),
            **reports.rows(wanted, outcomes),
            "left_out": left_out,
            "curve": reports.curve(points, outcomes),
        }
        report["gates"] = reports.found_by_gates(report, outcomes, zero)
        report["verdict"], report["reliable"] = reports.verdict(report, target.surrogate)
        if folder:
            files.write_json(folder.path / records.REPORT, report, sealed=True)
            drawing.curve(folder.path / records.CURVE, report["curve"], epsilon, norm)
            found = outcomes["pgd20_margin"]["pictures"]
            pair = images[shown], found
            said = [targets.classes_of(np.asarray(target.logits(x))) for x in pair]
            path = folder.path / records.PICTURES
            drawing.adversarial(path, *pair, labels[shown], *said, names=class_names)
    return report


def _identity(target, images, labels, ball):
    """What determines the figures: plain JSON."""
    return {
        "model": target.digest(),
        "surrogate": target.surrogate is not None,
        "images": hashlib.sha256(np.ascontiguousarray(images)).hexdigest(),
        "labels": hashlib.sha256(np.ascontiguousarray(labels)).hexdigest(),
        **{key: ball[key] for key in ("epsilon", "norm", "seed")},
    }
