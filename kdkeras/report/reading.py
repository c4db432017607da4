"""`Run`: a finished run as a report needs it, read from its work directory and checked."""

import csv
import dataclasses
import math
import pathlib

import numpy as np

from kdkeras import archives, evaluation, files, intact, workdir
from kdkeras.export import records as exported
from kdkeras.robustness import records

ROLES = ("teacher", "control", "student", "quantized")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a work directory holds of one run.

    Attributes:
        path: The work directory, a `pathlib.Path`.
        results: Its `results.json`.
        classes: Class names, a tuple of strings.
        ids, labels: Arrays `(n,)`, of the test images.
        logits: Dict from roles ("teacher", "control", "student", "quantized") to `(n, classes)`.
        tests: Dict from roles to metrics, as `kdkeras.evaluation.scores` gives them.
        logs: Dict from roles to a dict of columns: lists of floats, one an epoch, NaN where the log
            has none.
        exports: What the newest export reports, or `{}`.
        attacks: Dict from an attacked model's file to (report, folder).
    """

    path: pathlib.Path
    results: dict
    classes: tuple
    ids: np.ndarray
    labels: np.ndarray
    logits: dict
    tests: dict
    logs: dict
    exports: dict
    attacks: dict

    @property
    def recipe(self):
        """All settings, a dict."""
        return self.results["recipe"]


@dataclasses.dataclass(frozen=True)
class Repeats:
    """A run of several seeds: its own results, and the runs."""

    path: pathlib.Path
    results: dict
    runs: tuple

    @property
    def recipe(self):
        """All settings, a dict."""
        return self.results["recipe"]


def read(path):
    """Reads a work directory.

    Args:
        path: The work directory of a finished run, of one seed or of several.

    Returns:
        `Run` or `Repeats`.

    Raises:
        ValueError: It is not there, unfinished, of another version, or damaged; the message names
            the file and says what to do.
    """
    path = pathlib.Path(path)
    results = _results(path)
    if "seeds" not in results:
        return _run(path, results)
    inside = results.get("runs")
    if not isinstance(inside, list) or not inside or not all(isinstance(i, str) for i in inside):
        raise ValueError(_damaged(path / "results.json", "it names no runs of its seeds"))
    for role, model in results["models"].items():
        if not isinstance(model.get("test", {}).get("accuracy"), dict):
            raise ValueError(
                _damaged(path / "results.json", f"its {role} has no accuracy over seeds")
            )
    runs = []
    for name in inside:
        one = read(path / name)
        if isinstance(one, Repeats):
            raise ValueError(_damaged(path / "results.json", f"its run {name!r} has seeds too"))
        runs.append(one)
    return Repeats(path, results, tuple(runs))


def _results(path):
    file = path / "results.json"
    if not path.is_dir():
        kind = "is a file" if path.exists() else "is not there"
        raise ValueError(
            "A run's work directory is expected, the folder with its results.json. "
            f"Received: '{path}', which {kind}."
        )
    if not file.exists():
        if (path / "recipe.json").exists():
            raise ValueError(
                f"'{path}' holds an unfinished run: it has recipe.json and no results.json. Go on "
                f"with it first: kdkeras distill --resume --workdir='{path}'"
            )
        raise ValueError(
            "A run's work directory is expected, the folder with its results.json. "
            f"Received: '{path}', which has none."
        )
    results = files.read_json(file)
    found = results.get("format") if isinstance(results, dict) else None
    intact.check_format(file, found, workdir.FORMAT)
    if "winner" in results and "space" in results:
        raise ValueError(
            f"'{path}' holds a search, whose page is '{path / 'search.html'}'. Report on the runs "
            f"in it: '{path / 'winner'}' and '{path / 'default'}'."
        )
    where = _not_finite(results)
    if where:
        raise ValueError(_damaged(file, f"{where} is not a finite number"))
    for name in ("models", "recipe", "environment", "seconds"):
        if not isinstance(results.get(name), dict):
            raise ValueError(_damaged(file, f"it has no {name!r}"))
    for name in ("files", "exports", "distillation", "dataset"):
        if not isinstance(results.get(name, {}), dict):
            raise ValueError(_damaged(file, f"its {name!r} is no JSON object"))
    if not all(isinstance(one, (int, float, type(None))) for one in results["seconds"].values()):
        raise ValueError(_damaged(file, "its 'seconds' are no numbers"))
    if not isinstance(results["recipe"].get("dataset"), str):
        raise ValueError(_damaged(file, "its recipe has no dataset"))
    terms = results.get("distillation", {}).get("terms", [])
    if not isinstance(terms, list) or not all(isinstance(term, dict) for term in terms):
        raise ValueError(_damaged(file, "its distillation has no terms"))
    return results


def _run(path, results):
    file = path / "results.json"
    for role, model in results["models"].items():
        if role not in ROLES or not isinstance(model, dict):
            raise ValueError(_damaged(file, f"it has a model {role!r}"))
        wanted = {"name": str, "parameters": int, "macs": (int, type(None)), "training": dict}
        for key, kind in (wanted | {"test": dict}).items():
            if key not in model or not isinstance(model[key], kind):
                raise ValueError(_damaged(file, f"its {role} has no {key!r}"))
        if "accuracy" not in model["test"]:
            raise ValueError(_damaged(file, f"its {role} has no test accuracy"))
        for key, value in model["test"].items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(_damaged(file, f"its {role}'s {key} is no number: {value!r}"))
    roles = [role for role in ROLES if role in results["models"]]
    models = (part for role in roles for part in (f"{role}.keras", f"logs/{role}.csv"))
    for name in ("recipe.json", "labels.txt", workdir.PREDICTIONS, *models):
        if (path / name).exists():
            intact.check(path / name)
    classes = _classes(path, results)
    ids, labels, logits = _predictions(path / workdir.PREDICTIONS, roles, len(classes))
    tests = {}
    for role in roles:
        teacher = logits.get("teacher") if role != "teacher" else None
        measured = evaluation.scores(labels, logits[role], teacher)
        said = results["models"][role]["test"]
        if abs(said["accuracy"] - measured["accuracy"]) > 1e-6:
            raise ValueError(
                f"'{path / workdir.PREDICTIONS}' is not of the run in '{file}': by it the {role} "
                f"is right on {measured['accuracy']:.2%} of the test images, and on "
                f"{said['accuracy']:.2%} by the other. Take both from one run."
            )
        tests[role] = {**said, **measured}
    logs = {role: _log(path / "logs" / f"{role}.csv") for role in roles}
    return Run(
        path,
        results,
        classes,
        ids,
        labels,
        logits,
        tests,
        {role: log for role, log in logs.items() if log},
        _exports(path, results),
        _attacks(path),
    )


def _classes(path, results):
    names = results.get("dataset", {}).get("class_names")
    if names is not None and not isinstance(names, list):
        raise ValueError(_damaged(path / "results.json", "its dataset has no class names"))
    if names is None:
        file = path / "labels.txt"
        if not file.exists():
            raise ValueError(f"'{file}' is not there, and names the classes. Run it again.")
        names = archives.class_names(file)
    return tuple(map(str, names))


def _predictions(file, roles, classes):
    """Ids, labels, and the logits of each role."""
    if not file.exists():
        raise ValueError(
            f"'{file}' is not there: what the models say of the test images, which a run writes. "
            "Bring it back, or run it again."
        )
    try:
        found = files.read_arrays(file)
    except (OSError, ValueError) as error:
        raise ValueError(_damaged(file, f"it cannot be read ({error})")) from error
    missing = [name for name in ("ids", "labels", *roles) if name not in found]
    if missing:
        raise ValueError(_damaged(file, f"it lacks {', '.join(missing)}"))
    ids, labels = found["ids"], found["labels"]
    if labels.ndim != 1 or not len(labels) or ids.shape != labels.shape:
        raise ValueError(_damaged(file, f"ids {ids.shape} and labels {labels.shape} do not fit"))
    integers = np.issubdtype(labels.dtype, np.integer)
    if not integers or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(_damaged(file, f"labels must be integers in 0..{classes - 1}"))
    logits = {role: found[role] for role in roles}
    for role, values in logits.items():
        if values.shape != (len(labels), classes):
            wanted = (len(labels), classes)
            raise ValueError(_damaged(file, f"{role} has shape {values.shape}, not {wanted}"))
        rows = int((~np.isfinite(values)).any(axis=1).sum())
        if rows:
            raise ValueError(
                f"'{file}' holds NaN or an infinity in {rows} of {len(labels)} rows of the {role}. "
                "Its training diverged: try a lower --learning_rate, and run it again."
            )
    return ids, labels, logits


def _log(file):
    """The columns of a training's log; `{}` where there is none, as of a teacher from a file."""
    if not file.exists():
        return {}
    try:
        with open(file, encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(_damaged(file, "it is not a table of numbers")) from error


def _exports(path, results):
    file = path / "export" / "report.json"
    if not file.exists():
        return results.get("exports", {})
    found = intact.read(file, exported.FORMAT)
    if not isinstance(found.get("files"), dict):
        raise ValueError(_damaged(file, "it names no files"))
    return found


def _attacks(path):
    found = {}
    for file in sorted(path.glob("**/attack/*/report.json")):
        report = intact.read(file, records.VERSION)
        wanted = ("model", "threat_model", "worst_case", "curve", "verdict")
        missing = [name for name in wanted if name not in report]
        if missing:
            raise ValueError(_damaged(file, f"it lacks {', '.join(missing)}"))
        parts = [part for part in file.parent.relative_to(path).parts if part != "attack"]
        found["/".join(parts)] = report, file.parent
    return found


def _not_finite(value, where="it"):
    """Where a number inside of `value` is NaN or infinite, or None."""
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for key, one in inside:
        found = _not_finite(one, key if where == "it" else f"{where}.{key}")
        if found:
            return found
    return where if isinstance(value, float) and not math.isfinite(value) else None


def _damaged(file, why):
    return f"'{file}' is damaged: {why}. Bring it back from a copy, or run it again."
