"""Atomic writes and digests: a reader sees the old file or the new one, never a half."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
import zipfile
import zlib

import numpy as np

from kdkeras import archives, seals

# What reading a damaged `.npz` raises. MemoryError: a few bytes can declare an array of any shape;
# TypeError: it is a lone `.npy`; RuntimeError: it has a password.
DAMAGED = (
    *(ValueError, TypeError, EOFError, KeyError, MemoryError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)
# Names of `atomic_path`'s temporaries: the stem of what is written, its suffixes, what is aside.
TEMPORARY = re.compile(r"\.(.+)\.tmp-[0-9a-f]{8}((?:\.(?!old$)[^.]*)*)(\.old)?")


def write_text(path, text):
    """Writes `text` (UTF-8) to `path` atomically.

    Args:
        path: Where to write; its folder must exist. An old file there is replaced.
        text: The new contents.

    Raises:
        OSError: The file could not be written; the old one, if any, is untouched.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, obj, *, sealed=False):
    """Writes `obj` to `path` atomically as indented JSON, keys in their own order.

    Args:
        path: Where to write; its folder must exist. An old file there is replaced.
        obj: Dicts, lists, strings, numbers, booleans, None.
        sealed: Whether `obj`, a dict, gets a `digest` by which damage to it is found.

    Raises:
        ValueError: `obj` holds NaN, an infinity, or something that JSON has no form for.
        OSError: The file could not be written; the old one, if any, is untouched.
    """
    try:
        obj = seals.sealed(obj) if sealed else obj
        text = json.dumps(obj, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`obj` must be plain JSON (dicts, lists, strings, finite numbers) to go to {path}: "
            f"{error}. Convert arrays with .tolist() and leave NaN out, or write None for it."
        ) from error
    write_text(path, text + "\n")


def read_json(path):
    """What `write_json` wrote to `path`, without the `digest`, which is checked where there is one.

    Args:
        path: A file. A digest of `null` is not checked: so someone says that a change was meant.

    Raises:
        ValueError: It is not JSON, or does not have its digest.
        OSError: It could not be read.
    """
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise _explained(error, f"Could not read {path}", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        reasons = {UnicodeDecodeError: "it is not UTF-8", RecursionError: "it is nested too deeply"}
        why = reasons.get(type(error), error)
        raise ValueError(f"{path} is not JSON, or is damaged: {why}") from error
    return seals.opened(found, path) if isinstance(found, dict) else found


def write_arrays(path, arrays):
    """Writes a dict of NumPy arrays to `path`, an `.npz` file, atomically.

    Args:
        path: Where to write; its folder must exist. An old file there is replaced.
        arrays: Dict from names to arrays of numbers or strings.

    Raises:
        OSError: The file could not be written; the old one, if any, is untouched.
    """
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def read_arrays(path):
    """What `write_arrays` wrote to `path`.

    Args:
        path: A file.

    Raises:
        ValueError: It is no such file, is damaged, or unpacks to an absurd size.
        OSError: It could not be read.
    """
    archives.check_size(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except OSError as error:
        raise _explained(error, f"Could not read {path}", "Check the path.") from error
    except DAMAGED as error:
        raise ValueError(f"{path} holds no arrays, or is damaged: {error}") from error


def digest(path):
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits; of a folder, of all that is in it.

    Args:
        path: A file; or a folder, whose files' names and bytes count.

    Raises:
        OSError: It could not be read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        found = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            found.update(f"{file.relative_to(path)} {digest(file)}\n".encode())
        return found.hexdigest()
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _explained(error, f"Could not read {path}", "Check the path.") from error


@contextlib.contextmanager
def atomic_path(path):
    """A temporary sibling of `path`, renamed to `path` when the block succeeds.

    What the block writes there may be a file or a folder. The suffixes of `path` are kept
    (`student.keras` is written as `.student.tmp-1a2b3c4d.keras`), because Keras goes by them. When
    the block raises, what it wrote is removed and `path` is as it was; what a killed process leaves
    is removed by `sweep`.

    Args:
        path: The file or folder to write; its own folder must exist.

    Yields:
        `pathlib.Path` of the temporary sibling, where nothing exists yet.

    Raises:
        OSError: The block could not write, wrote nothing, or the rename failed.

    Example:

    >>> with atomic_path("work/student.keras") as temporary:
    ...     model.save(temporary)
    """
    path = pathlib.Path(path)
    suffix = "".join(path.suffixes)
    stem = path.name[: len(path.name) - len(suffix)]
    temporary = path.with_name(f".{stem.lstrip('.')}.tmp-{secrets.token_hex(4)}{suffix}")
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written to {temporary}")
        _flush(temporary)
        _replace(temporary, path)
        _flush_names(path.parent)
    except OSError as error:
        advice = (
            "Check that its folder exists, that you may write there, and that the disk has room."
        )
        raise _explained(error, f"Could not write {path}", advice) from error
    finally:
        with contextlib.suppress(OSError):  # the disk may be gone, which has been said
            _remove(temporary)


def rename(temporary, path):
    """Gives a file whose contents are on the disk its name, in place of what stands there.

    Raises:
        OSError: It could not be renamed.
    """
    path = pathlib.Path(path)
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(
            error, f"Could not write {path}", f"It is whole in {temporary}."
        ) from error
    _flush_names(path.parent)


def sweep(folder, names=None):
    """Removes what `atomic_path` left in a folder when its process was killed.

    A folder that was moved aside, and whose successor never came, is put back. Nobody else may be
    writing there.

    Args:
        folder: The folder, which need not exist.
        names: The names of files and folders that were being written; all unless given.
    """
    # A folder that was moved aside first: its name goes on where the temporary's ends.
    for left in sorted(pathlib.Path(folder).glob(".*.tmp-*"), reverse=True):
        found = TEMPORARY.fullmatch(left.name)
        if found is None or (names is not None and found[1] + found[2] not in names):
            continue
        path = left.with_name(found[1] + found[2])
        if found[3] and not path.exists():
            os.replace(left, path)
        else:
            _remove(left)


def _replace(temporary, path):
    """Renames `temporary` to `path`. A folder that stands there is moved aside, then removed."""
    if not path.is_dir() or path.is_symlink():
        os.replace(temporary, path)
        return
    if not temporary.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and the new contents are a file")
    aside = temporary.with_name(f"{temporary.name}.old")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except BaseException:  # a signal's too
        os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _flush(path):
    """Puts a file, or every file under a folder, on the disk."""
    for file in [path, *path.rglob("*")]:
        if file.is_file():
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())
        else:
            _flush_names(file)


def _flush_names(folder):
    """Puts the names in a folder on the disk, as far as the file system can.

    Where it cannot, a loss of power may bring the old file back, but never a half one.
    """
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _explained(error, what, advice):
    """An error of the same kind (its errno kept) whose message says which file and what to do."""
    where = f" ({error.filename})" if error.filename else ""
    message = f"{what}: {error.strerror or error}{where}. {advice}"
    return OSError(error.errno, message) if error.errno else type(error)(message)
