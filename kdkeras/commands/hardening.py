"""Commands that ask how much a model withstands: attacks, and certificates."""

import pathlib
import warnings

import numpy as np

from kdkeras import arguments, certification, evaluation, files, robustness, runtimes, tables
from kdkeras.commands import testing

PASSED_ON = ("epsilon", "norm", "suite", "seed", "batch_size", "overwrite")


def attack(settings, paths):
    """`kdkeras attack`: what survives attacks, and whether that can be believed (else status 1)."""
    if not paths:
        raise ValueError("Name the model files to attack: kdkeras attack MODEL ...")
    folders = _folders(paths, settings["output"])
    settings = {**settings, "epsilon": _epsilon(settings)}
    most = arguments.integer("max_images", settings["max_images"], low=1)
    splits = testing.splits_for(settings, paths[0])
    images, labels = evaluation.collect(splits.test)
    images, labels = robustness.evenly(images, labels, most)
    for path in paths:
        testing.opened(path, images, splits)
    transfers = [path for path in paths if path.endswith(".tflite")] or paths
    reports = {}
    for path, folder in zip(paths, folders, strict=True):
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


def _epsilon(settings):
    if settings["epsilon"] is not None:
        return settings["epsilon"]
    if settings["norm"] == "l2":
        raise ValueError(
            "`epsilon` must be given with --norm=l2: 8/255, the default of linf, is of single "
            "pixels, and hardly anything for a whole image. Usual: 0.5 or 1."
        )
    return 8 / 255


def _folders(paths, output):
    """Where the models' reports go; models of one name have their folders' names in front."""
    found = []
    for path in map(pathlib.Path, paths):
        same = sum(pathlib.Path(other).name == path.name for other in paths)
        name = path.name if same == 1 or not output else "-".join(path.absolute().parts[-2:])
        found.append((pathlib.Path(output) if output else path.parent / "attack") / name)
    if len(set(found)) < len(found):
        raise ValueError(
            "Each model must have a report of its own. Received: models whose reports would go to "
            f"the same folder: {', '.join(sorted({str(f) for f in found if found.count(f) > 1}))}"
        )
    return found


def certify(settings, paths):
    """`kdkeras certify`: radii within which a smoothed model's classes cannot change."""
    if len(paths) != 1:
        raise ValueError(f"Name one model file: kdkeras certify MODEL. Received: {len(paths)}")
    (path,) = paths
    output = pathlib.Path(settings["output"])
    if output.suffix != ".json":
        raise ValueError(f"--output must end in .json. Received: '{output}'")
    plot = output.with_suffix(".png")
    if plot.exists() and not output.exists():
        raise ValueError(f"'{plot}' is there already, and not '{output}'. Give another --output.")
    splits = testing.splits_for(settings, path)
    images, labels = evaluation.collect(splits.test)
    testing.opened(path, images, splits)
    most = arguments.integer("max_images", settings["max_images"], low=1)
    ids, labels = robustness.evenly(np.arange(len(images)), labels, most)
    drawn = {name: settings[name] for name in ("sigma", "n", "n0", "alpha", "seed", "batch_size")}
    found = certification.certify(
        runtimes.load(path), images[ids], ids=ids, path=output, name=files.digest(path), **drawn
    )
    print(f"{path}, on test images of {splits.name}\n\n{tables.certificates(found, labels)}\n")
    files.sweep(plot.parent, [plot.name])
    robustness.plot_certificates(plot, {f"sigma {found.sigma:g}": found}, labels)
    print(f"Written: {output}, {plot}")
    return 0
