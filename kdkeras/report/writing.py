"""`write`: the report of one run, or of several beside one another."""

import pathlib

from kdkeras import files
from kdkeras.report import (
    answering,
    attacked,
    calibrated,
    comparing,
    confusing,
    costs,
    curves,
    disagreeing,
    likeness,
    page,
    provenance,
    reading,
)

NAME = "report.html"


def write(paths, output=None, *, overwrite=False, pictures=True):
    """Writes what runs found as one HTML file that needs nothing else.

    Of one run: the answer, curves, calibration, confusion, the teacher's likenesses, costs,
    attacks, pictures on which teacher and student disagree, and the recipe; of several, what
    differs between them, and a short part of each.

    Args:
        paths: The work directory of a run, or a list of them.
        output: The file to write; `report.html` in the work directory unless given. Of several runs
            it is needed.
        overwrite: Whether to replace what is there. A run's own report is replaced without asking.
        pictures: Whether to show pictures, for which the run's data and models are read.

    Returns:
        The file's `pathlib.Path`.

    Raises:
        ValueError: A work directory is not there, unfinished or damaged, runs cannot be compared,
            or something else stands where the report should go. Nothing was written.

    Example:

    >>> kdkeras.report.write("runs/digits")
    PosixPath('runs/digits/report.html')
    """
    paths = [paths] if isinstance(paths, (str, pathlib.Path)) else list(paths)
    if not paths:
        raise ValueError("Name at least one work directory. Received: none.")
    output = _output(paths, output, overwrite)
    runs = [reading.read(path) for path in paths]
    text = _of_one(runs[0], pictures) if len(runs) == 1 else _of_several(runs)
    files.write_text(output, text)
    return output


def _output(paths, output, overwrite):
    """Where the report goes, if it may."""
    if output is None and len(paths) > 1:
        raise ValueError(
            "`output` must name the file to write for several runs. Received: none. "
            "Give `output`, a file such as comparison.html."
        )
    own = pathlib.Path(paths[0]) / NAME
    output = own if output is None else pathlib.Path(output)
    if output.is_dir() or output.suffix not in (".html", ".htm"):
        raise ValueError(f"`output` must be a file that ends in .html. Received: '{output}'")
    if not output.exists():
        # Of its own folder `reading` says what is wrong.
        if output != own and not output.parent.is_dir():
            raise ValueError(f"`output` must be in a folder that exists. Received: '{output}'")
        return output
    ours = len(paths) == 1 and output.resolve() == own.resolve() and _is_ours(output)
    if not overwrite and not ours:
        raise ValueError(
            f"`output` must be a new file. Received: '{output}', which is there. Give another, or "
            "`overwrite` to replace it."
        )
    return output


def _is_ours(file):
    with open(file, "rb") as opened:
        return page.MARK.encode() in opened.readline(200)


def _of_one(run, pictures):
    several = isinstance(run, reading.Repeats)
    one = run.runs[0] if several else run
    made = [answering.part(run), curves.part(one), calibrated.part(one), confusing.part(one)]
    made += [likeness.part(one), costs.part(one), attacked.part(one)]
    if pictures:
        made.append(disagreeing.part(one))
    made.append(provenance.part(run))
    made = [part for part in made if part is not None]
    if several:
        seed = run.results["seeds"][0]
        of_one = f"From here on, all is of seed {seed} alone, as an example of the seeds."
        made[1:-1] = [
            page.Part(part.heading, page.Block(f"{page.text(of_one) if not i else ''}{part.body}"))
            for i, part in enumerate(made[1:-1])
        ]
    return page.document(
        _title(one),
        made,
        summary=answering.sentence(run) or "",
    )


def _title(run):
    names = {role: model["name"] for role, model in run.results["models"].items()}
    said = names.get("student", names.get("teacher", ""))
    by = f" taught by {names['teacher']}" if {"student", "teacher"} <= set(names) else ""
    return f"{run.recipe['dataset']}: {said}{by}"


def _of_several(runs):
    comparing.check(runs)
    names = comparing.names([run.path for run in runs])
    made = comparing.parts(runs, names)
    for run, name in zip(runs, names, strict=True):
        several = isinstance(run, reading.Repeats)
        one = run.runs[0] if several else run
        blocks = [page.text(answering.sentence(run)), *answering.blocks(run)]
        blocks += curves.figures(one)
        blocks.append(page.code(provenance.command(run)))
        made.append(page.part(name, *blocks))
    title = f"{len(runs)} runs on {runs[0].recipe['dataset']}"
    return page.document(title, made, summary=comparing.summary(runs, names))
