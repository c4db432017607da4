"""The report beside exported files: what is there, and what a stopped export was about to write."""

import hashlib
import pathlib

import numpy as np

from kdkeras import files, intact
from kdkeras.export import contents

REPORT, LABELS = "report.json", "labels.txt"
FORMAT = 1


def before(folder):
    """The report that stands in a folder, of a finished export or a stopped one; empty if none.

    Raises:
        ValueError: It is something else.
    """
    path = folder / REPORT
    if not path.exists():
        return {}
    found = files.read_json(path)
    if not _is_report(found):
        raise ValueError(
            f"'{path}' is no report of an export, and would be replaced. Take it away, or write "
            "elsewhere."
        )
    intact.check_format(path, found.get("format", FORMAT), FORMAT)
    return found


def _is_report(found):
    rows = found.get("files") if isinstance(found, dict) else None
    if not isinstance(rows, dict) or not isinstance(found.get("unfinished", []), list):
        return False
    texts = [
        isinstance(row, dict) and (row.get("path"), row.get("sha256")) for row in rows.values()
    ]
    return all(pair and all(isinstance(text, str) for text in pair) for pair in texts)


def standing(folder, report):
    """The rows of an earlier report whose files are beside it as they were."""
    found = {}
    for kind, row in report.get("files", {}).items():
        there = folder / pathlib.Path(row["path"]).name  # wherever the folder has gone since
        if there.exists() and files.digest(there) == row["sha256"]:
            found[kind] = {**row, "path": str(there)}
    return found


def same(row, plan, proof):
    """Whether a file that stands there is what would be written.

    Args:
        row: What the report says of it, or None.
        plan: Dict of the options of `kdkeras.export.writing.write`.
        proof: Dict of digests: `weights`, `calibration`, `tested_on`.
    """
    names = plan["class_names"]
    options = {"input": plan["pixels"], "output": plan["output"], "labels": names and list(names)}
    wanted = {**proof, **options}
    return row is not None and wanted == {name: row.get(name) for name in wanted}


def digest(*arrays):
    """The SHA-256 of arrays, of which some may be None; None if all are."""
    given = [None if array is None else np.ascontiguousarray(array) for array in arrays]
    if all(array is None for array in given):
        return None
    found = hashlib.sha256()
    for array in given:
        found.update(b"none" if array is None else f"{array.dtype} {array.shape}".encode())
        found.update(b"" if array is None else array)
    return found.hexdigest()


def write_unfinished(folder, rows, to_come):
    """Writes the report of an export that goes on: for who resumes it when it is killed.

    Args:
        folder: The folder.
        rows: What is there already, by kind.
        to_come: The kinds whose files may be made, or replaced, from now on.
    """
    found = {"format": FORMAT, "files": rows, "unfinished": to_come}
    files.write_json(folder / REPORT, found, sealed=True)


def check_labels(folder, class_names):
    """Refuses to replace a `labels.txt` of somebody's that says something else."""
    path = folder / LABELS
    if path.exists() and path.read_bytes() != contents.lines(class_names).encode():
        raise ValueError(
            f"'{path}' is there already, with other names. Give `overwrite` to replace it, or "
            "write elsewhere."
        )
