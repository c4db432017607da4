"""Files of others, opened so that nothing in them is run and nothing absurd is unpacked."""

import json
import pathlib
import unicodedata
import zipfile

# Keras and NumPy store what they write as it is, and DEFLATE makes weights about a tenth smaller
# (pruned ones, more). 100 is far above that and far below the 1032 that DEFLATE can do; below
# 256 MiB nothing is refused, for that much harms nobody.
MOST_EXPANSION = 100
ALWAYS_FINE = 2**28

# What Keras would run, by the name of its class.
CODE = {
    "__lambda__": "a Lambda layer, that is Python code of whoever wrote it",
    "TorchModuleWrapper": "a pickled PyTorch module, that is Python code of whoever wrote it",
    "TFSMLayer": "a TFSMLayer, that is a program in another folder that it names",
}
ADVICE = (
    "not loaded. If you trust it, load it in a script of your own with safe_mode=False, put layers "
    "of Keras in its place, and save the model again."
)
BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def model(path, name=None):
    """The model of a `.keras` file, loaded in safe mode: code in it is refused, not run.

    Safe mode holds after `keras.config.enable_unsafe_deserialization()` too: whoever calls that
    means files of their own.

    Args:
        path: A `.keras` file.
        name: Of the argument that named the file, for the message.

    Returns:
        `keras.Model`, not compiled.

    Raises:
        ValueError: It cannot be read, is damaged, holds code, or unpacks to an absurd size.
    """
    begin = f"`{name}` cannot be loaded from '{path}'" if name else None
    try:
        check_size(path)
        _check_config(path)
        return _loaded(path)
    except Exception as error:  # A file may be damaged in any way, and Keras fail in any.
        begin = begin or f"'{path}' cannot be read as a model"
        raise ValueError(f"{begin}: {_first_line(error)}") from error


def check_size(path):
    """Refuses a zip archive whose members unpack to absurdly more than the file.

    What is no zip archive passes: that is for its reader to say.

    Args:
        path: A file.

    Raises:
        ValueError: Its members declare more than 256 MiB and more than 100 times the file's size.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        return
    size = pathlib.Path(path).stat().st_size
    if declared > max(ALWAYS_FINE, MOST_EXPANSION * size):
        raise ValueError(
            f"'{path}' has {size:,} bytes and says that it unpacks to {declared:,}, more than "
            f"{MOST_EXPANSION} times as many: not unpacked. Get the file anew from who made it."
        )


def class_names(path):
    """The class names in a text file, one a line.

    Args:
        path: The file.

    Raises:
        ValueError: It is not plain text in UTF-8, or a line is empty.
        OSError: It cannot be read.
    """
    try:
        names = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        names = [""]
    if not all(name and is_plain(name) for name in names):
        raise ValueError(f"'{path}' must name classes in plain text (UTF-8), one a line.")
    return names


def is_plain(name):
    """Whether a name can be shown on a terminal and written on a line as it is.

    Control characters, line separators, characters that turn the direction of text, and bytes that
    are no UTF-8 cannot.

    Args:
        name: A string.
    """
    return not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in BIDIRECTIONAL
        for character in name
    )


def _check_config(path):
    """Refuses a model whose configuration holds code, whatever Keras would say of it."""
    if not zipfile.is_zipfile(path):
        there = pathlib.Path(path).exists()
        raise ValueError("it is no .keras file, or cut short" if there else "it does not exist")
    with zipfile.ZipFile(path) as archive:
        # h5py reads parts of the weights, which goes past their checksum.
        spoilt = archive.testzip()
        if spoilt is not None:
            raise ValueError(f"its {spoilt} is damaged. Bring it back from a copy")
        waiting = [json.loads(archive.read("config.json"))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            kind = value.get("class_name")
            if isinstance(kind, str) and kind in CODE:
                raise ValueError(f"it holds {CODE[kind]}: {ADVICE}")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _loaded(path):
    import keras
    from keras.src.saving import serialization_lib

    # The argument alone does not do: Keras lets the global switch override it.
    with serialization_lib.SafeModeScope(True):
        return keras.models.load_model(path, compile=False, safe_mode=True)


def _first_line(error, most=300):
    """What an error says, in one line, without the configuration that Keras then lists."""
    text, _, cause = str(error).strip().partition("Exception encountered: ")
    lines = [part.strip().splitlines()[0] for part in (text, cause) if part.strip()]
    line = " ".join(lines) or type(error).__name__
    line = "".join(
        character if is_plain(character) else ascii(character)[1:-1] for character in line
    )
    return line if len(line) <= most else line[:most] + " ..."
