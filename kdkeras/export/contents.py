"""What a `.tflite` file says of itself: class names, input and output, in a zip at its end.

The flatbuffer of the model comes first and the archive after it, as in TensorFlow Lite's
"associated files": runtimes read the one, zip tools the other.
"""

import json
import zipfile

from kdkeras import appended, archives, files, intact

LABELS = "labels.txt"
ABOUT = appended.ABOUT
FORMAT = 1
PIXELS = {"float32": "0..1", "uint8": "0..255", "int8": "-128..127"}


def add(path, about):
    """Appends `kdkeras.json`, and `labels.txt` where `about["labels"]` has names.

    Args:
        path: A `.tflite` file.
        about: Dict, plain JSON.
    """
    about = {**about, appended.DIGEST: files.digest(path)}
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        if about["labels"]:
            _write(archive, LABELS, lines(about["labels"]))
        _write(archive, ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def lines(names):
    """Class names as a text, one a line."""
    return "".join(f"{name}\n" for name in names)


def about(path):
    """What stands in a file's `kdkeras.json`; None where there is none.

    Args:
        path: A `.tflite` file, of kdkeras or not.

    Returns:
        Dict with `precision`, `input`, `output`, `labels`; or None.

    Raises:
        ValueError: The archive unpacks to an absurd size, or the labels are no names of classes.
    """
    archives.check_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(ABOUT))
    except (zipfile.BadZipFile, KeyError, ValueError):
        return None
    if isinstance(found, dict):
        intact.check_format(path, found.get("format", FORMAT), FORMAT)
    labels = found.get("labels", ()) if isinstance(found, dict) else ()
    if labels is not None and not (isinstance(labels, list) and all(map(_is_name, labels))):
        raise ValueError(
            f"'{path}' must have class names of plain text in its {ABOUT}, or null. Received: "
            f"{ascii(labels)[:100]}. Export it again."
        )
    return found


def described(image, given, *, precision, output, class_names, version):
    """The contents of `kdkeras.json`, of a file's input and output as the runtime sees them."""
    scale, zero_point = given["quantization"]
    kind = image["dtype"].__name__
    return {
        "format": FORMAT,
        "kdkeras": version,
        "precision": precision,
        "input": {"name": "image", **_shaped(image), "pixels": PIXELS[kind]},
        "output": {
            "name": output,
            **_shaped(given),
            "scale": float(scale) or None,
            "zero_point": int(zero_point) if scale else None,
        },
        "labels": None if class_names is None else list(class_names),
        "normalisation": "in the file",
    }


def _is_name(label):
    return isinstance(label, str) and archives.is_plain(label)


def _shaped(detail):
    return {
        "shape": [int(size) for size in detail["shape"]],
        "dtype": detail["dtype"].__name__,
    }


def _write(archive, name, text):
    # A fixed date: the same student gives the same bytes.
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
