"""Commands that make something: models, exports, caches."""

import dataclasses
import pathlib
import re

import numpy as np

from kdkeras import (
    distribution,
    evaluation,
    feeding,
    files,
    recipe,
    runner,
    runtimes,
    stages,
    tables,
)


def train(command, settings):
    """`kdkeras distill` and `kdkeras train`."""
    results = (runner.run if command == "distill" else runner.train)(settings)
    if distribution.leads(settings.strategy):
        print(f"\n{tables.results(results)}\nResults: {settings.directory / 'results.json'}")
    return 0


def export(settings, words):
    """`kdkeras export`: SavedModel and .tflite of a `.keras` student."""
    del words
    work = settings["workdir"] and pathlib.Path(settings["workdir"])
    if not work and not (settings["model"] and settings["output"]):
        raise ValueError("Give --workdir, or both --model and --output.")
    path = pathlib.Path(settings["model"] or work / "student.keras")
    folder = pathlib.Path(settings["output"] or work / "export")
    formats = settings["formats"].split(",")
    if path.suffix != ".keras":
        raise ValueError(f"--model must be a .keras file. Received: '{path}'")
    student = runtimes.load(path).model
    if work:
        images, _ = evaluation.collect(runner.load_data(recipe.read(work / "recipe.json")).test)
    else:
        images = np.random.default_rng(0).random((64, *student.input_shape[1:]), "float32")
    made = runner.export_student(
        student,
        folder,
        images,
        precision=settings["precision"],
        formats=formats,
        overwrite=settings["overwrite"],
    )
    labels = path.parent / "labels.txt"
    if labels.exists():
        files.write_text(folder / "labels.txt", labels.read_text())
    print(tables.exports(made))
    return 0


def cache(settings, words):
    """`kdkeras cache`: what a teacher says of views of a dataset's training images."""
    del words
    path, teacher = pathlib.Path(settings["output"]), settings["teacher"] or ""
    if not teacher.endswith(".keras"):
        raise ValueError(f"--teacher must be a .keras file. Received: '{teacher}'")
    if not path.parent.is_dir():
        raise ValueError(f"--output must be in a folder that exists. Received: '{path}'")
    names = {field.name for field in dataclasses.fields(recipe.Recipe)}
    wanted = recipe.Recipe(**{name: settings[name] for name in settings if name in names})
    splits = runner.load_data(wanted)
    filled = feeding.fill(
        wanted,
        stages.load(teacher, "teacher", splits),
        splits,
        path,
        layers=settings["layers"].split(",") if settings["layers"] else [],
        shard=_shard(settings["shard"]),
        batch_size=settings["batch_size"],
        overwrite=wanted.overwrite,
    )
    if filled is not None:
        filled.close()
        learn = f"kdkeras distill --dataset='{wanted.dataset}' --cache='{path}'"
        print(f"Written: {path}, {path.stat().st_size:,} bytes. To learn from it: {learn}")
    return 0


def _shard(given):
    if given is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", given)
    if found is None:
        raise ValueError(f"--shard must be i/n, such as 1/4. Received: '{given}'")
    return int(found[1]), int(found[2])
