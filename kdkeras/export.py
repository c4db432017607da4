"""Writes a student for deployment: SavedModel and TFLite, each proven equal to the student."""

import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

from kdkeras import arguments, files, runtimes

PRECISIONS = ("float32", "float16", "dynamic")
# Largest difference in probability that a file may show against the student.
TOLERANCES = {"saved_model": 1e-5, "float32": 1e-5, "float16": 1e-2, "dynamic": 0.1}


def saved_model(student, path, *, images=None, overwrite=False):
    """Writes a student as a SavedModel with the endpoint `serve`, and compares what was written.

    The file holds a float32 clone of the student, run with `training=False`: images in [0, 1] in,
    logits out, any batch size.

    Args:
        student: `keras.Model` with one input of known shape, whatever its precision policy.
        path: The folder to write. It appears at once and whole, or not at all.
        images: Optional array of images to compare on; random ones unless given.
        overwrite: Whether to replace what is at `path`; if the export fails, it stays.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        ValueError: The student is not built, `path` exists, or the file's outputs are not finite or
            differ from the student's by more than 1e-5 in probability.

    Example:

    >>> kdkeras.export.saved_model(distiller.student, "export/saved_model")
    """
    path = _free(path, overwrite)
    clone = float32_clone(student)
    with files.atomic_path(path) as temporary:
        _archive(clone, temporary, batch_size=None)
        _prove(clone, temporary, "saved_model", images)
    return path


def tflite(student, path, precision="float32", *, images=None, overwrite=False):
    """Writes a student as a `.tflite` file, runs it, and compares its outputs with the student's.

    Built-in operators only, batch size 1: one float32 image in [0, 1] in, logits out.

    Args:
        student: `keras.Model` with one input of known shape, whatever its precision policy.
        path: The file to write, ending in `.tflite`. It appears whole, or not at all.
        precision: "float32"; "float16" (weights stored in half the size); "dynamic" (weights in 8
            bits, a quarter of the size).
        images: Optional array of images to compare on; random ones unless given.
        overwrite: Whether to replace what is at `path`; if the export fails, it stays.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        ValueError: The student is not built or has operators that TFLite lacks, `path` exists or
            has another ending, or the file's outputs are not finite or differ from the student's by
            more than `TOLERANCES[precision]` in probability.

    Example:

    >>> kdkeras.export.tflite(distiller.student, "export/student.tflite")
    """
    arguments.one_of("precision", precision, PRECISIONS)
    path = _free(path, overwrite, suffix=".tflite")
    clone = float32_clone(student)
    with files.atomic_path(path) as temporary, tempfile.TemporaryDirectory() as folder:
        _archive(clone, folder, batch_size=1)
        _convert(folder, temporary, precision)
        _prove(clone, temporary, precision, images)
    return path


def float32_clone(student):
    """The student with every layer under the float32 policy, and the same weights."""
    if not isinstance(student, keras.Model) or not student.built:
        raise ValueError(
            "`student` must be a built `keras.Model`; call it on a batch first. "
            f"Received: student={student!r}"
        )
    config = keras.saving.serialize_keras_object(student)
    config.pop("compile_config", None)
    clone = keras.saving.deserialize_keras_object(_in_float32(config))
    clone.set_weights(student.get_weights())
    return clone


def _in_float32(config):
    """A serialised object with all its dtype policies replaced by float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _in_float32(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_in_float32(value) for value in config]
    return config


def _free(path, overwrite, suffix=""):
    path = pathlib.Path(path)
    if path.suffix != suffix and suffix:
        raise ValueError(f"`path` must end in {suffix}. Received: '{path}'")
    if path.exists() and not overwrite:
        raise ValueError(
            f"`path` must not exist yet unless `overwrite` is set. Received: '{path}', which does."
        )
    return path


def _archive(model, folder, batch_size):
    shape = (batch_size, *model.input_shape[1:])
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        name="serve",
        fn=lambda image: model(image, training=False),
        input_signature=[keras.InputSpec(shape=shape, dtype="float32", name="image")],
    )
    archive.write_out(str(folder), verbose=False)


def _convert(folder, path, precision):
    package = pathlib.Path(__file__).parent.parent
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    command = [sys.executable, "-m", "kdkeras.conversion", str(folder), str(path), precision]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.strip()]
        raise ValueError(
            "The student could not be converted to TFLite with built-in operators: "
            + "\n".join(reason[-5:])
        )


def _prove(model, path, kind, images):
    """Runs the file at `path` and refuses it unless it does what the model does."""
    if images is None:
        images = np.random.default_rng(0).random((8, *model.input_shape[1:]), "float32")
    run = runtimes.SavedModel(path) if kind == "saved_model" else runtimes.LiteRT(path)
    of_file = run(images)
    if not np.isfinite(of_file).all():
        raise ValueError("The exported file gives NaN or infinite outputs; it was not kept.")
    of_model = runtimes.KerasModel(model)(images)
    softmax = keras.ops.softmax
    difference = float(np.abs(softmax(of_file) - softmax(of_model)).max())
    if difference > TOLERANCES[kind]:
        raise ValueError(
            f"The exported file differs from the student by {difference:.2g} in probability; at "
            f"most {TOLERANCES[kind]} is expected. It was not kept."
        )
