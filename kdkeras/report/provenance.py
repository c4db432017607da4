"""Where a run comes from: its recipe, how to do it again, on what it was done."""

import dataclasses
import shlex

from kdkeras import recipe
from kdkeras.report import page, reading, words

# Said of how a run was carried out, and no part of doing it again.
LEFT_OUT = ("overwrite", "resume", "quiet", "verbose", "tensorboard")


def part(run):
    """The recipe, the command line, environment, wall times and digests."""
    settings, results = run.recipe, run.results
    changed = [one for one in changes(settings) if one[0] != "workdir"]
    blocks = []
    if changed:
        rows = [[name, shown(value), shown(default)] for name, value, default in changed]
        blocks.append(
            page.table(
                ["Setting", "Here", "Default"], rows, "The settings that are not the default."
            )
        )
    else:
        blocks.append(page.text("Every setting is the default."))
    blocks.append(page.text("To do it again:"))
    blocks.append(page.code(command(run)))
    rows = [[name, shown(value)] for name, value in settings.items()]
    blocks.append(page.details("All settings", page.table(["Setting", "Value"], rows)))
    rows = [[name, shown(value)] for name, value in results["environment"].items()]
    blocks.append(page.details("Environment", page.table(["", ""], rows)))
    times = {name: value for name, value in results["seconds"].items() if value is not None}
    rows = [[name, words.seconds(value)] for name, value in times.items()]
    blocks.append(page.details("Wall times", page.table(["", "Time"], rows)))
    if results.get("files"):
        rows = [[name, page.typed(digest)] for name, digest in results["files"].items()]
        blocks.append(page.details("SHA-256 of the files", page.table(["File", "Digest"], rows)))
    return page.part("How it was made", *blocks)


def changes(settings):
    """The settings that are not the default: (name, value, default)."""
    defaults = {field.name: field.default for field in dataclasses.fields(recipe.Recipe)}
    return [
        (name, value, defaults.get(name))
        for name, value in settings.items()
        if name not in LEFT_OUT and value != defaults.get(name)
    ]


def command(run):
    """The command line of a run, quoted for a shell."""
    first = run.runs[0] if isinstance(run, reading.Repeats) else run
    words_ = ["kdkeras", "distill" if "student" in first.logits else "train"]
    for name, value, _ in changes(run.recipe):
        if isinstance(value, bool):
            words_.append(f"--{name}" if value else f"--no{name}")
        elif value is not None:
            words_.append(f"--{name}={value}")
    if "--workdir" not in " ".join(words_):
        words_.append(f"--workdir={run.path}")
    return shlex.join(words_)


def shown(value):
    """A setting as text."""
    return "none given" if value is None else str(value)
