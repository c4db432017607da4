"""Models tried out: opened on a dataset's images, and, as a command, on pictures."""

import pathlib

import numpy as np

from kdkeras import archives, arguments, corruptions, data, export, runtimes
from kdkeras.commands import subjects


def corrupted(given, images, labels, splits):
    """Corrupted pictures, in files or made of the test split."""
    if given == "common":
        return corruptions.Corrupted(images, labels)
    stored = corruptions.load(given)
    # The four others of the files are for validation, and no part of the usual mean.
    standard = [name for name in stored.names if name in corruptions.STANDARD]
    stored = corruptions.load(given, standard or None)
    shape = stored(stored.names[0], 1)[0].shape[1:]
    if shape != splits.input_shape:
        raise ValueError(
            f"`corruptions` must hold images of shape {splits.input_shape}, as {splits.name!r} "
            f"has. Received: '{given}', with {shape}."
        )
    return stored


def splits_for(settings, path):
    """The splits that the flags ask for; of a folder's pictures, in a model file's size."""
    size = settings["image_size"]
    if size is None and settings["dataset"].startswith("folder:"):
        size = runtimes.load(path).input_shape[0]
    return data.load(
        settings["dataset"],
        settings["data_dir"],
        image_size=size,
        download=settings["download"],
        verbose=0,
    )


def opened(path, images, splits):
    """What `kdkeras.runtimes.load` gives, if it takes the splits' images and has their classes."""
    model = runtimes.load(path)
    if model.input_shape != splits.input_shape:
        raise ValueError(
            f"'{path}' takes images of shape {model.input_shape}; those of {splits.name!r} have "
            f"{splits.input_shape}."
        )
    classes = model(images[:1]).shape[-1]
    if classes != splits.num_classes:
        raise ValueError(
            f"'{path}' has {classes} classes; {splits.name!r} has {splits.num_classes}."
        )
    subjects.check_classes(path, splits.class_names, splits.name)
    return model


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
    top = arguments.integer("top", settings["top"], low=1)
    probabilities = model.as_probabilities(model.given(images))
    names = _class_names(settings, probabilities.shape[-1])
    for path, row in zip(paths, probabilities, strict=True):
        best = np.argsort(-row)[:top]
        shown = path if archives.is_plain(path) else ascii(path)
        print(f"{shown}: " + ", ".join(f"{names[index]} {row[index]:.1%}" for index in best))
    return 0


def _class_names(settings, classes):
    model = pathlib.Path(settings["model"])
    about = export.about(model) if model.suffix == ".tflite" and not settings["labels"] else None
    if about and about["labels"]:
        return about["labels"]
    path = pathlib.Path(settings["labels"] or model.parent / "labels.txt")
    if not path.exists():
        if settings["labels"]:
            raise ValueError(f"--labels must name a text file. Received: '{path}', not there.")
        return [f"class {index}" for index in range(classes)]
    return names_in(path, model, classes)


def names_in(path, model, classes):
    """The class names in a text file, one a line; refused unless they are those of a model.

    Args:
        path: The text file.
        model: The model's file, for the message.
        classes: How many classes it has.
    """
    names = archives.class_names(path)
    if len(names) != classes:
        raise ValueError(f"'{path}' names {len(names)} classes; '{model}' has {classes}.")
    return names
