"""What the command line's commands do, once their flags are read."""

import dataclasses
import pathlib
import re

import keras
import numpy as np

from kdkeras import (
    data,
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


def evaluate(settings, paths):
    """`kdkeras evaluate`: model files on a test split."""
    if not paths:
        raise ValueError("Name the model files to evaluate: kdkeras evaluate MODEL ...")
    size = settings["image_size"]
    if size is None and settings["dataset"].startswith("folder:"):
        size = runtimes.load(paths[0]).input_shape[0]
    splits = data.load(
        settings["dataset"],
        settings["data_dir"],
        image_size=size,
        download=settings["download"],
        verbose=0,
    )
    images, labels = evaluation.collect(splits.test)
    teacher_logits = None
    if settings["teacher"]:
        teacher_logits = _outputs(settings["teacher"], images, splits)
    tests = {
        path: evaluation.scores(labels, _outputs(path, images, splits), teacher_logits)
        for path in paths
    }
    print(f"{len(labels):,} test images of {splits.name}\n\n{tables.scores(tests)}")
    return 0


def _outputs(path, images, splits):
    model = runtimes.load(path)
    if model.input_shape != splits.input_shape:
        raise ValueError(
            f"'{path}' takes images of shape {model.input_shape}; those of {splits.name!r} have "
            f"{splits.input_shape}."
        )
    logits = model(images)
    if logits.shape[-1] != splits.num_classes:
        raise ValueError(
            f"'{path}' has {logits.shape[-1]} classes; {splits.name!r} has {splits.num_classes}."
        )
    return logits


def predict(settings, paths):
    """`kdkeras predict`: the class and probability of pictures."""
    if not paths:
        raise ValueError("Name the pictures to look at: kdkeras predict PICTURE ... --model=FILE")
    if not settings["model"]:
        raise ValueError("--model must name a model file. Received: none.")
    model = runtimes.load(settings["model"])
    if len(model.input_shape) != 3 or model.input_shape[0] != model.input_shape[1]:
        raise ValueError(
            f"--model must take square pictures. Received: '{settings['model']}', whose inputs "
            f"have shape {model.input_shape}."
        )
    images = np.stack([data.read_picture(path, model.input_shape[0]) for path in paths])
    probabilities = np.asarray(keras.ops.softmax(model(images)))
    names = _class_names(settings, probabilities.shape[-1])
    for path, row in zip(paths, probabilities, strict=True):
        best = np.argsort(-row)[: settings["top"]]
        print(f"{path}: " + ", ".join(f"{names[index]} {row[index]:.1%}" for index in best))
    return 0


def _class_names(settings, classes):
    model = pathlib.Path(settings["model"])
    path = pathlib.Path(settings["labels"] or model.parent / "labels.txt")
    if not path.exists():
        if settings["labels"]:
            raise ValueError(f"--labels must name a text file. Received: '{path}', not there.")
        return [f"class {index}" for index in range(classes)]
    names = path.read_text().splitlines()
    if len(names) != classes:
        raise ValueError(f"'{path}' names {len(names)} classes; '{model}' has {classes}.")
    return names


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
