"""Commands that ask how much a model withstands: attacks, and certificates."""

import pathlib
import warnings

import numpy as np

from kdkeras import certification, evaluation, files, robustness, runtimes, tables
from kdkeras.commands import testing

PASSED_ON = ("epsilon", "norm", "suite", "seed", "batch_size", "overwrite")


def attack(settings, paths):
    """`kdkeras attack`: what survives attacks, and whether that can be believed (else status 1)."""
    if not paths:
        raise ValueError("Name the model files to attack: kdkeras attack MODEL ...")
    splits = testing.splits_for(settings, paths[0])
    images, labels = evaluation.collect(splits.test)
    images, labels = robustness.evenly(images, labels, settings["max_images"])
    for path in paths:
        testing.outputs(path, images[:1], splits)
    transfers = [path for path in paths if path.endswith(".tflite")] or paths
    reports = {}
    for path in paths:
        folder = _folder(path, settings["output"])
        surrogate = settings["surrogate"] if path in transfers else None
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            report = reports[path] = robustness.evaluate(
                path,
                images,
                labels,
                **{name: settings[name] for name in PASSED_ON},
                surrogate=surrogate,
                path=folder,
                class_names=splits.class_names,
            )
        for warning in warned:
            print(f"Warning: {warning.message}")
        print(f"{path}, on test images of {splits.name}\n{tables.attacks(report)}")
        print(f"Report: {folder / 'report.json'}, with curve.png and adversarial.png\n")
    for path, report in reports.items():
        print(f"{path}: {report['verdict']}")
    doubtful = [path for path, report in reports.items() if report["reliable"] is False]
    for path in doubtful:
        worst = reports[path]["worst_case"]["accuracy"]
        print(
            f"Warning: of {path} no figure but the worst case means anything, and that is only an "
            f"upper bound: at most {worst:.1%} are robust."
        )
    return 1 if doubtful else 0


def _folder(path, output):
    """Where a model's report goes."""
    path = pathlib.Path(path)
    folder = pathlib.Path(output) if output else path.parent / "attack"
    return folder / path.name


def certify(settings, paths):
    """`kdkeras certify`: radii within which a smoothed model's classes cannot change."""
    if len(paths) != 1:
        raise ValueError("Name one model file: kdkeras certify MODEL")
    (path,) = paths
    output = pathlib.Path(settings["output"])
    if output.suffix != ".json":
        raise ValueError(f"--output must end in .json. Received: '{output}'")
    splits = testing.splits_for(settings, path)
    images, labels = evaluation.collect(splits.test)
    testing.outputs(path, images[:1], splits)
    ids, labels = robustness.evenly(np.arange(len(images)), labels, settings["max_images"])
    drawn = {name: settings[name] for name in ("sigma", "n", "n0", "alpha", "seed", "batch_size")}
    found = certification.certify(
        runtimes.load(path), images[ids], ids=ids, path=output, name=_name(path), **drawn
    )
    print(f"{path}, on test images of {splits.name}\n\n{tables.certificates(found, labels)}\n")
    plot = output.with_suffix(".png")
    robustness.plot_certificates(plot, {f"sigma {found.sigma:g}": found}, labels)
    print(f"Written: {output}, {plot}")
    return 0


def _name(path):
    """What stands for a file that holds no graph of Keras layers: its digest."""
    path = pathlib.Path(path)
    return robustness.digest_of_folder(path) if path.is_dir() else files.digest(path)
