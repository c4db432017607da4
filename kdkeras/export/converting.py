"""Students on their way into a file: a SavedModel, then TFLite or ONNX in a child process."""

import json
import re
import shutil

import keras
import tensorflow as tf

from kdkeras import processes

# Where MLIR says what it could not convert: "name_of_model/layer/Operation@function".
PLACES = re.compile(r'"([\w.\-/]+)@__inference')
OPERATORS = re.compile(r"'(tfl?\.\w+)' op")


def archive(model, folder, *, batch_size, pixels, output):
    """Writes a model of logits as a SavedModel with named, normalised ends.

    The endpoint `serve` (signature `serving_default`) takes `image` and gives a dict of `output`;
    `logits` gives the logits themselves.

    Args:
        model: `keras.Model`, float32.
        folder: Where to write.
        batch_size: Of the signature; None for any.
        pixels: "float32" in [0, 1], or "uint8" in 0..255.
        output: "probabilities" or "logits".
    """

    def logits(image):
        if pixels == "uint8":
            image = tf.cast(image, tf.float32) * (1.0 / 255.0)
        return model(image, training=False)

    def serve(image):
        found = logits(image)
        return {output: tf.nn.softmax(found) if output == "probabilities" else found}

    written = keras.export.ExportArchive()
    written.track(model)
    shape = (batch_size, *model.inputs[0].shape[1:])
    signature = [keras.InputSpec(shape=shape, dtype=pixels, name="image")]
    written.add_endpoint(name="serve", fn=serve, input_signature=signature)
    if batch_size is None:  # a file for servers, which attacks and tests take the logits of
        written.add_endpoint(name="logits", fn=logits, input_signature=signature)
    written.write_out(str(folder), verbose=False)


def to_tflite(folder, path, names, **options):
    """Converts a SavedModel, in a child process.

    Args:
        folder: The SavedModel.
        path: The `.tflite` file to write.
        names: The names of the model's layers, to say which could not be converted.
        **options: Of `kdkeras.conversion.convert`.

    Raises:
        ValueError: TFLite's built-in operators cannot do what a layer does; it is named.
    """
    # Written here first: what goes wrong with `path` is no matter of the conversion.
    made = f"{folder}/converted.tflite"
    done = processes.run("kdkeras.conversion", folder, made, json.dumps(options))
    if done.returncode:
        raise ValueError(
            f"The student could not be converted to TFLite ({options['precision']}) with built-in "
            f"operators. {_reason(done.stderr, names)}"
        )
    shutil.copyfile(made, path)


def to_onnx(folder, path, class_names):
    """Converts a SavedModel to ONNX, in a child process; class names go into its metadata.

    Raises:
        ValueError: tf2onnx could not convert it.
    """
    done = processes.run(
        "tf2onnx.convert",
        *("--saved-model", folder, "--output", path),
        *("--opset", 17, "--signature_def", "serving_default"),
    )
    if done.returncode or not path.exists():
        said = processes.last_lines(done.stderr)
        raise ValueError(f"The student could not be converted to ONNX. tf2onnx says: {said}")
    if class_names:
        import onnx

        made = onnx.load(path)
        onnx.helper.set_model_props(made, {"labels": "\n".join(class_names)})
        onnx.save(made, path)


def _reason(said, names):
    """Which layers and operators a converter's complaint is about, and its last lines."""
    parts = {part for place in PLACES.findall(said) for part in place.split("/")}
    layers = [name for name in names if name in parts]
    operators = sorted(set(OPERATORS.findall(said)))
    found = ""
    if layers:
        found = f"Layers that it lacks operators for: {', '.join(layers)}. "
    if operators:
        found += f"Operators: {', '.join(operators)}. "
    return found.strip() or "The converter says: " + processes.last_lines(said)
