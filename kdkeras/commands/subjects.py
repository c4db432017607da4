"""What `kdkeras evaluate` is asked to evaluate: model files, or the models of runs."""

import dataclasses
import pathlib

from kdkeras import archives, export, files, intact, workdir

ROLES = ("teacher", "control", "student", "quantized")
# Which exports of a run are tested: what `kdkeras export` writes.
EXPORTED = ("*.tflite", "*.onnx", "saved_model")


@dataclasses.dataclass(frozen=True)
class Subject:
    """Models that are evaluated together, on one test split.

    Attributes:
        title: The run's folder; empty for model files that were named one by one.
        paths: Dict from what a model is called to its file or folder.
        teacher, control: Files to compare with, or None.
        settings: `dataset`, `data_dir`, `image_size`, `download`.
    """

    title: str
    paths: dict[str, pathlib.Path]
    teacher: pathlib.Path | None
    control: pathlib.Path | None
    settings: dict


def read(settings, words):
    """The subjects that the words of a command line name.

    Args:
        settings: Flags: `dataset`, `data_dir`, `image_size`, `download`, `teacher`, `control`.
        words: Model files, or work directories.

    Returns:
        Dict from each run's folder ("" for model files) to a list of `Subject`s: one, or one a seed
        for a run of several seeds.

    Raises:
        ValueError: A file is not there, a run is unfinished or of another format, or model files
            and runs are mixed.
    """
    words = list(dict.fromkeys(words))
    named = [settings[role] for role in ("teacher", "control") if settings[role]]
    missing = [word for word in (*words, *named) if not pathlib.Path(word).exists()]
    if missing:
        raise ValueError(
            "Model files or work directories are expected. Received: "
            + "; ".join(f"'{word}', which does not exist" for word in missing)
        )
    runs = [word for word in words if _is_run(pathlib.Path(word))]
    for path in (pathlib.Path(word) for word in words if word not in runs):
        if path.is_dir() and not (path / "saved_model.pb").exists():
            raise ValueError(
                f"'{path}' is neither a model (a .keras, .tflite or .onnx file, a SavedModel "
                "folder) nor a run's work directory (with a results.json)."
            )
    if not runs:
        return {"": [_of_files(settings, words)]}
    if len(runs) < len(words):
        other = next(word for word in words if word not in runs)
        raise ValueError(
            "Name model files or work directories, not both, for each run has a dataset of its "
            f"own. Received: '{runs[0]}', a work directory, and '{other}', which is none."
        )
    return {run: _of_run(pathlib.Path(run), settings) for run in runs}


def check_classes(path, class_names, dataset):
    """Refuses a model file whose class names, where it has any, are not those of the dataset.

    Args:
        path: A model file or folder. Names are looked for in it (`.tflite`), or in `labels.txt`
            beside it.
        class_names: Those of the dataset, in order.
        dataset: Its name.

    Raises:
        ValueError: The names differ; the message says where first.
    """
    path = pathlib.Path(path)
    about = export.about(path) if path.suffix == ".tflite" else None
    names, where = about and about["labels"], path
    if not names:
        where = path.parent / "labels.txt"
        names = archives.class_names(where) if where.is_file() else None
    if names is None or list(names) == list(class_names):
        return
    if len(names) != len(class_names):
        raise ValueError(
            f"'{path}' has {len(names)} classes (named in '{where}'); {dataset!r} has "
            f"{len(class_names)}."
        )
    pairs = zip(names, class_names, strict=True)
    first = next(i for i, (name, other) in enumerate(pairs) if name != other)
    raise ValueError(
        f"'{path}' has other classes than {dataset!r}, or in another order: class {first} is "
        f"{names[first]!r} (in '{where}'), and {class_names[first]!r} in the dataset. Give the "
        "dataset that the model was trained on."
    )


def _is_run(path):
    if (path / "results.json").is_file():
        return True
    if (path / "recipe.json").is_file():
        raise ValueError(
            f"'{path}' is an unfinished run: it has a recipe.json and no results.json. Go on with "
            f"it: kdkeras distill --resume --workdir='{path}'"
        )
    return False


def _of_files(settings, words):
    paths = {word: pathlib.Path(word) for word in words}
    teacher, control = _path(settings["teacher"]), _path(settings["control"])
    return Subject("", paths, teacher, control, _data(settings, {"dataset": "digits"}))


def _of_run(folder, settings):
    results = _results(folder)
    if "seeds" in results:
        return [one for run in results["runs"] for one in _of_run(folder / run, settings)]
    paths = {name: folder / f"{name}.keras" for name in ROLES if name in results["models"]}
    lost = [path for path in paths.values() if not path.is_file()]
    if lost:
        raise ValueError(f"'{folder}' is a run whose '{lost[0].name}' is not there any more.")
    teacher = _path(settings["teacher"]) or paths.get("teacher")
    control = _path(settings["control"]) or paths.get("control")
    exported = [path for kind in EXPORTED for path in sorted((folder / "export").glob(kind))]
    paths |= {path.name: path for path in exported}
    return [Subject(str(folder), paths, teacher, control, _data(settings, results["recipe"]))]


def _results(folder):
    path = folder / "results.json"
    if not path.is_file():
        _is_run(folder)  # which says so, if it is unfinished
        raise ValueError(f"'{folder}' is no run: it has no results.json.")
    results = files.read_json(path)
    if not isinstance(results, dict) or not {"models", "recipe", "format"} <= set(results):
        raise ValueError(f"'{path}' holds no results of kdkeras distill or kdkeras train.")
    intact.check_format(path, results["format"], workdir.FORMAT)
    damaged = f"'{path}' is damaged: it does not say which"
    if not isinstance(results["models"], dict) or not isinstance(results["recipe"], dict):
        raise ValueError(f"{damaged} models and which recipe. Bring it back from a copy.")
    if not isinstance(results["recipe"].get("dataset"), str):
        raise ValueError(f"{damaged} dataset. Bring it back from a copy.")
    runs = results.get("runs", []) if "seeds" in results else []
    if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
        raise ValueError(f"{damaged} runs of its seeds. Bring it back from a copy.")
    return results


def _data(settings, recipe):
    """Which data: what the flags say, or else the recipe."""
    names = ("dataset", "data_dir", "image_size")
    given = {name: settings[name] for name in names if settings[name] is not None}
    of_recipe = {name: recipe.get(name) for name in names}
    return {**of_recipe, **given, "download": settings["download"]}


def _path(given):
    return pathlib.Path(given) if given else None
