"""Whether a file is of a format that is known, and still what its run says was written."""

import pathlib

from kdkeras import files

RESULTS = "results.json"
# A run's exports stand in folders of its folder.
DEPTH = 3


def check(path):
    """Refuses a file or folder that is not what the run it stands in says was written.

    What stands in no finished run, or is not named there, passes; and so does what has `null` in
    place of its digest.

    Args:
        path: A file or folder that exists.

    Raises:
        ValueError: Its SHA-256, or that of a file in it, is another one than `results.json` names.
        OSError: It cannot be read.
    """
    path = pathlib.Path(path).absolute()
    for folder in path.parents[:DEPTH]:
        named = _named(folder / RESULTS)
        for name, digest in named.items():
            file = folder / name
            if digest is None or not file.is_relative_to(path):
                continue
            if not file.exists() or files.digest(file) != digest:
                raise ValueError(
                    f"'{file}' is not what '{folder / RESULTS}' says was written: it is damaged, "
                    "or was replaced. Bring it back from a copy, or run it again with "
                    '`overwrite`; if it was replaced on purpose, set its entry in "files" there, '
                    'and the "digest", to null.'
                )
        if named:
            return


def read(path, known):
    """What stands in a JSON file of a format that this version reads; none said is the first.

    Returns:
        Dict.

    Raises:
        ValueError: It is damaged, no dict, or of another format.
        OSError: It cannot be read.
    """
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"'{path}' is damaged: a JSON object is expected. Received: {found!r:.60}")
    check_format(path, found.get("format", 1), known)
    return found


def check_format(path, found, known):
    """Refuses a file of another format than this version reads.

    Args:
        path: The file, for the message.
        found: The format that it says it has.
        known: The format that this version reads, an integer.

    Raises:
        ValueError: They differ.
    """
    if found == known and not isinstance(found, bool):
        return
    newer = isinstance(found, int) and found > known
    why = "It was written by a newer kdkeras: update this one, or" if newer else "Bring it back, or"
    raise ValueError(
        f"'{path}' must be of format {known}. Received: format {found!r}. {why} make the file anew."
    )


def _named(results):
    """The digests that a run's results name; of anything else, which is not ours to judge, none."""
    if not results.is_file():
        return {}
    try:
        found = files.read_json(results)
    except (ValueError, OSError):
        return {}
    named = found.get("files") if isinstance(found, dict) and "recipe" in found else None
    return named if isinstance(named, dict) else {}
