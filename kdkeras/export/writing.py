"""Writes a student for deployment: SavedModel, TFLite, ONNX, each proven equal to it."""

import shutil
import tempfile

import numpy as np

import kdkeras
from kdkeras import arguments, files, inference, quantization, runtimes
from kdkeras.export import checks, contents, converting, proving


def saved_model(
    student,
    path,
    *,
    images=None,
    class_names=None,
    pixels="float32",
    output="probabilities",
    overwrite=False,
):
    """Writes a student as a SavedModel for servers, and compares what was written.

    The file holds a float32 copy of the student for inference. Its signature `serving_default`
    takes `image`, any number of images, and gives `probabilities` or `logits`; the endpoint
    `logits` is there besides. Class names go to `assets.extra/labels.txt`.

    Args:
        student: `keras.Model` with one input of known shape, whatever its precision policy; or a
            `Distiller`; or the path of a `.keras` file of either.
        path: The folder to write. It appears at once and whole, or not at all.
        images: Optional array of images to compare on; random ones unless given.
        class_names: Optional list of strings, one a class.
        pixels: What goes in: "float32" in [0, 1], or "uint8" in 0..255.
        output: What comes out: "probabilities" or "logits".
        overwrite: Whether to replace what is at `path`; if the export fails, it stays.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        ValueError: The student is not built, has no fixed image size or is random at inference,
            `path` exists, or the file's outputs are not finite or differ from the student's by
            more than 1e-5 in probability (of single images in a thousand also by more).
        OSError: The folder cannot be written.

    Example:

    >>> kdkeras.export.saved_model(distiller.student, "export/saved_model")
    """
    options = {"class_names": class_names, "pixels": pixels, "output": output}
    return _one(student, path, "saved_model", images, overwrite, options)


def tflite(
    student,
    path,
    precision="float32",
    *,
    images=None,
    calibration=None,
    class_names=None,
    pixels=None,
    output="probabilities",
    overwrite=False,
):
    """Writes a student as a `.tflite` file, runs it, and compares its outputs with the student's.

    Built-in operators only, one image at a time. The signature's input is `image`, its output
    `probabilities` or `logits`; normalisation is inside. The class names can be read out of the
    file, which is a zip archive too: `labels.txt`, and `kdkeras.json` with what goes in and out.

    Args:
        student: `keras.Model` with one input of known shape, whatever its precision policy; or a
            `Distiller`; or the path of a `.keras` file of either.
        path: The file to write, ending in `.tflite`. It appears whole, or not at all.
        precision: "float32"; "float16" (weights stored in half the size); "dynamic" (weights in 8
            bits, a quarter of the size); "int8" (weights, a scale a channel, and activations in 8
            bits); "int16x8" (activations in 16 bits).
        images: Optional array of images to compare on; unless given the calibration images, or
            random ones.
        calibration: For "int8" and "int16x8": array of training images in [0, 1], on which the
            ranges of activations are measured, at least 16
            (`kdkeras.quantization.calibration_images`). A student made by
            `kdkeras.quantization.aware` has its ranges and needs none.
        class_names: Optional list of strings, one a class.
        pixels: What goes in: "float32" in [0, 1]; "uint8" in 0..255, a camera's bytes; for "int8"
            also "int8", the byte less 128. With integers, an int8 file's outputs are integers too:
            probability times 256. "uint8" for "int8" unless given, else "float32".
        output: What comes out: "probabilities" or "logits".
        overwrite: Whether to replace what is at `path`; if the export fails, it stays.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        ValueError: The student is not built, has no fixed image size, is random at inference or has
            layers that TFLite lacks operators for; `path` exists or has another ending; the
            calibration does not fit; or the file's outputs are not finite or not the student's:
            more than 1e-5 (float32) or 1e-2 (float16) off in probability, but for single images
            in a thousand (in a hundred); or, of quantised files, with another top class on more
            than a tenth of the images.
        OSError: The file cannot be written.

    Example:

    >>> kdkeras.export.tflite(distiller.student, "export/student.tflite")
    """
    arguments.one_of("precision", precision, checks.PRECISIONS)
    options = {
        "calibration": calibration,
        "class_names": class_names,
        "pixels": checks.pixels_of(precision, pixels),
        "output": output,
    }
    return _one(student, path, precision, images, overwrite, options)


def onnx(
    student,
    path,
    *,
    images=None,
    class_names=None,
    pixels="float32",
    output="probabilities",
    overwrite=False,
):
    """Writes a student as an `.onnx` file, runs it in onnxruntime, and compares its outputs.

    Needs `pip install 'kdkeras[onnx]'`. Class names are in the file's metadata, as `labels`.

    Args:
        student, images, class_names, pixels, output, overwrite: As of `saved_model`.
        path: The file to write, ending in `.onnx`. It appears whole, or not at all.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        ValueError: As `saved_model`; or tf2onnx cannot convert the student.
        ImportError: onnx, tf2onnx or onnxruntime is not installed.

    Example:

    >>> kdkeras.export.onnx(distiller.student, "export/student.onnx")
    """
    options = {"class_names": class_names, "pixels": pixels, "output": output}
    return _one(student, path, "onnx", images, overwrite, options)


def _one(student, path, kind, images, overwrite, options):
    path = checks.free(path, kind, overwrite)
    model = inference.clone(student)
    shape = inference.image_shape(model)
    checks.check(kind, model, options)
    if images is None:
        images = options.get("calibration")
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (16, *shape)).astype("float32") / 255
    images = proving.levels(checks.images(images, shape), options["pixels"])
    write(model, path, kind, images, proving.same_twice(model, images), **options)
    return path


def write(
    model, path, kind, images, expected, *, pixels, output, calibration=None, class_names=None
):
    """Writes a model to one file, which appears once it is found right.

    Args:
        model: As `kdkeras.inference.clone` gives it.
        path: The file or folder; what is there is replaced at the end.
        kind: "saved_model", "onnx", or one of `kdkeras.export.PRECISIONS`.
        images: Array of images, in the levels that the file sees.
        expected: The model's logits of them.
        pixels, output, calibration, class_names: As of `tflite`; found fit by `checks.check`.

    Returns:
        The runtime's view of the file, and what that gave for the images.
    """
    ends = {"pixels": pixels, "output": output}
    with files.atomic_path(path) as temporary, tempfile.TemporaryDirectory() as folder:
        if kind == "saved_model":
            # By way of a scratch folder: TensorFlow's errors of files are no OSErrors.
            converting.archive(model, f"{folder}/whole", batch_size=None, **ends)
            shutil.copytree(f"{folder}/whole", temporary)
            if class_names:
                (temporary / "assets.extra").mkdir()
                files.write_text(
                    temporary / "assets.extra" / "labels.txt", contents.lines(class_names)
                )
        elif kind == "onnx":
            converting.archive(model, folder, batch_size=1, **ends)
            converting.to_onnx(folder, temporary, class_names)
        else:
            _convert(model, folder, temporary, kind, calibration, **ends)
        run = runtimes.load(temporary)
        given = proving.proven(run, kind, images, expected)
        if kind in checks.PRECISIONS:
            about = contents.described(
                run.input,
                run.output,
                precision=kind,
                output=output,
                class_names=class_names,
                version=kdkeras.__version__,
            )
            contents.add(temporary, about)
    return run, given


def _convert(model, folder, path, precision, calibration, pixels, output):
    if quantization.is_aware(model):
        model = quantization.plain(model)
    # The input of an int8 file is made integer by the converter.
    seen = "float32" if precision == "int8" else pixels
    converting.archive(model, folder, batch_size=1, pixels=seen, output=output)
    images = None
    if calibration is not None:
        images = f"{folder}/calibration.npy"
        np.save(images, _pinned(calibration))
    converting.to_tflite(
        folder,
        path,
        [layer.name for layer in model.layers],
        precision=precision,
        pixels=pixels,
        images=images,
    )


def _pinned(calibration):
    """Calibration images in which 0 and 1 occur, so that a step of the input is 1/255."""
    images = np.array(calibration, "float32")
    images[0].flat[:2] = 0.0, 1.0
    return images
