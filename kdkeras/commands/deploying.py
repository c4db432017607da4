"""Commands that make a student ready for devices: files in every form, training for int8."""

import contextlib
import dataclasses
import importlib.util
import pathlib
import shutil

import numpy as np

from kdkeras import (
    archives,
    arguments,
    evaluation,
    files,
    inference,
    intact,
    quantization,
    quantizing,
    recipe,
    runner,
    tables,
    workdir,
)
from kdkeras import export as exports
from kdkeras.commands import testing

FEWEST = quantization.SMALLEST
# With what the command that trains for int8 was begun, for as long as it is not finished.
BEGUN = pathlib.Path("backup", "quantize.json")
MADE = ("quantized.keras", "export", "logs/quantized.csv", "logs/quantized.json")
FORMATS = ("saved_model", "tflite", "onnx")


def export(settings, words):
    """`kdkeras export`: a student in every form that was asked for, proven and measured."""
    del words
    work = settings["workdir"] and pathlib.Path(settings["workdir"])
    if not work and not (settings["model"] and settings["output"]):
        raise ValueError("Give --workdir, or both --model and --output.")
    path = _student_path(settings["model"], work)
    into_run = not settings["output"] and work.is_dir()
    with contextlib.ExitStack() as held:
        if into_run:
            held.enter_context(workdir.alone(work))
            held.enter_context(workdir.rewriting(work, "export"))
        return _export(settings, work, inference.student(path))


def _export(settings, work, student):
    arguments.integer("calibration_images", settings["calibration_images"], low=FEWEST)
    splits = _splits(settings, work, student)
    kinds = _kinds(settings["formats"], settings["precision"])
    quantised = {"int8", "int16x8"} & set(kinds)
    calibration = None
    if splits is None and quantised:
        raise ValueError(
            "--precision=int8 and int16x8 are calibrated on training images: give --workdir, or "
            f"--dataset. Received: --precision={settings['precision']} with neither"
        )
    if splits is None:
        shape = inference.image_shape(student)
        images, labels = np.random.default_rng(0).random((64, *shape), "float32"), None
    else:
        images, labels = evaluation.collect(splits.test)
        if quantised:
            calibration = quantization.calibration_images(
                splits.train, settings["calibration_images"], seed=settings["seed"]
            )
    report = exports.flavours(
        student,
        settings["output"] or work / "export",
        images,
        labels,
        kinds=kinds,
        teacher=_stored(work, "teacher"),
        # That of the run's own student, and of no other.
        quantized=None if settings["model"] else _stored(work, "quantized"),
        calibration=calibration,
        class_names=_class_names(settings, student, splits),
        pixels=settings["pixels"],
        output="logits" if settings["logits"] else "probabilities",
        timed=settings["latency"],
        overwrite=settings["overwrite"],
        resume=settings["resume"],
        verbose=not settings["quiet"],
    )
    print(f"\n{tables.exports(report)}")
    return 1 if report["failed"] else 0


def _student_path(model, work):
    if model is None and not (work / "student.keras").exists():
        raise ValueError(f"--workdir must hold a student.keras. Received: '{work}', without.")
    path = pathlib.Path(model or work / "student.keras")
    if path.suffix != ".keras" or not path.exists():
        why = "which does not exist" if path.suffix == ".keras" else "which has another ending"
        raise ValueError(f"--model must be a .keras file. Received: '{path}', {why}.")
    return path


def _kinds(formats, precision):
    """The kinds of `kdkeras.export.flavours` that formats and precisions ask for."""
    everything = precision == "all"
    for name in precision.split(","):
        arguments.one_of("precision", name, (*exports.PRECISIONS, "all"))
    precisions = exports.PRECISIONS if everything else precision.split(",")
    kinds = []
    for name in formats.split(","):
        arguments.one_of("formats", name, FORMATS)
        kinds += precisions if name == "tflite" else [name]
    if everything and "onnx" not in kinds:
        if importlib.util.find_spec("tf2onnx"):
            kinds.append("onnx")
        else:
            print("Left out: onnx, which needs pip install 'kdkeras[onnx]'")
    return kinds


def _splits(settings, work, student):
    """The data that a student is compared and calibrated on: the run's, the flags', or None."""
    if settings["dataset"]:
        sized = {**settings, "image_size": inference.image_shape(student)[0]}
        return testing.splits_for(sized, None)
    if work:
        stored = recipe.read(work / "recipe.json")
        places = {"data_dir": settings["data_dir"] or stored.data_dir, "quiet": True}
        return runner.load_data(dataclasses.replace(stored, **places))
    return None


def _class_names(settings, student, splits):
    if splits is not None:
        return splits.class_names
    path = pathlib.Path(settings["model"])
    labels, classes = path.parent / "labels.txt", student.output_shape[-1]
    return testing.names_in(labels, path, classes) if labels.exists() else None


def _stored(work, name):
    """A model of a work directory; None where there is none."""
    path = work and work / f"{name}.keras"
    if not work or not path.exists():
        return None
    intact.check(path)
    return archives.model(path)


def quantize(settings, words):
    """`kdkeras quantize`: a finished run's student trained further for int8, and exported."""
    del words
    if not settings["workdir"]:
        raise ValueError("Give --workdir, the work directory of a finished run.")
    work = pathlib.Path(settings["workdir"])
    stored = recipe.read(work / "recipe.json")
    _student_path(None, work)
    with workdir.alone(work):
        return _quantize(settings, work, stored)


def _begun(settings, work):
    """What a quantize that goes on must have been begun with: plain JSON."""
    names = ("epochs", "learning_rate", "calibration_images", "pixels", "logits")
    models = [work / f"{name}.keras" for name in ("student", "teacher")]
    of = {path.name: files.digest(path) if path.exists() else None for path in models}
    return of | {name: settings[name] for name in names}


def _is_begun(settings, work):
    """Whether a stopped quantize left something to go on with; one of another kind is refused."""
    if not (work / BEGUN).exists():
        return False
    workdir.check_same(files.read_json(work / BEGUN), _begun(settings, work), work)
    return True


def _quantize(settings, work, stored):
    arguments.integer("epochs", settings["epochs"], low=1)
    arguments.positive("learning_rate", settings["learning_rate"])
    arguments.integer("calibration_images", settings["calibration_images"], low=FEWEST)
    arguments.one_of("pixels", settings["pixels"], ("uint8", "int8", "float32"))
    begun = settings["resume"] and _is_begun(settings, work)
    made = [work / "quantized.keras", work / "export" / "student.int8.tflite"]
    there = [str(path) for path in made if path.exists()]
    if there and not (settings["overwrite"] or begun):
        nothing = "There is nothing unfinished to go on with, and " if settings["resume"] else ""
        raise ValueError(
            f"{nothing}{' and '.join(there)} would be replaced. Give --overwrite, or another "
            "--workdir."
        )
    stored = dataclasses.replace(
        stored,
        quantize="int8",
        quantize_epochs=settings["epochs"],
        quantize_learning_rate=settings["learning_rate"],
        data_dir=settings["data_dir"] or stored.data_dir,
        workdir=str(work),
        quiet=settings["quiet"],
        overwrite=False,
        resume=begun,
    )
    splits = runner.load_data(stored)
    built = {name: _stored(work, name) for name in ("student", "teacher")}
    if built["teacher"] is None:
        del built["teacher"]
        print("No teacher.keras there: the student in float32 is the teacher.")
    if not begun:
        shutil.rmtree(work / "backup" / "quantized", ignore_errors=True)
        # With it, the model there would be taken for this one, finished.
        (work / "logs" / "quantized.json").unlink(missing_ok=True)
        (work / "backup").mkdir(exist_ok=True)
        files.write_json(work / BEGUN, _begun(settings, work), sealed=True)
    count = settings["calibration_images"]
    with workdir.rewriting(work, *MADE):
        model, record = quantizing.train(built, stored, splits, calibration_images=count)
        images, labels = evaluation.collect(splits.test)
        report = exports.flavours(
            built["student"],
            work / "export",
            images,
            labels,
            kinds=["int8"],
            teacher=built.get("teacher"),
            quantized=model,
            class_names=splits.class_names,
            pixels=settings["pixels"],
            output="logits" if settings["logits"] else "probabilities",
            overwrite=True,
            verbose=not settings["quiet"],
        )
    (work / BEGUN).unlink()
    if not any((work / "backup").iterdir()):
        (work / "backup").rmdir()
    kept = "" if record["best_epoch"] else " No epoch was better than the start, which is kept."
    print(
        f"\nOn the validation split: student {record['student']:.2%}, rounded to int8 "
        f"{record['before']:.2%}, trained for int8 {record['best']['val_accuracy']:.2%}.{kept}"
        f"\n\n{tables.exports(report)}"
    )
    return 1 if report["failed"] else 0
