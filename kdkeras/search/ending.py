"""What a search leaves: the best recipe, its trials, the comparison, and a page."""

import csv
import dataclasses
import io
import shlex
import textwrap
import time

from kdkeras import environment, files, locks, workdir
from kdkeras import recipe as recipes
from kdkeras.search import comparing, lines, pages, ranking, studies


def concluded(search, compare_seeds):
    """Writes the results of a search, once for all of its processes.

    Returns:
        Dict, as `results.json` holds it.

    Raises:
        ValueError: No trial was finished.
    """
    waiting = "Another process writes the results."
    with locks.held(search.folder / "locks" / "ending", waiting=waiting):
        return _concluded(search, compare_seeds)


def _concluded(search, compare_seeds):
    started = time.monotonic()
    study, folder = search.study, search.folder
    best = ranking.ranked(study)
    if not best:
        reasons = {trial.user_attrs["failed"] for trial in studies.failed(study)}
        raise ValueError(
            f"No trial was finished. {len(studies.failed(study))} failed"
            f"{': ' + '; '.join(sorted(reasons)) if reasons else ''}. Change the space, and give "
            "`overwrite` or another `workdir`."
        )
    winner = best[0]
    as_given = [trial for trial in best if trial.user_attrs["settings"] == search.as_given()]
    made = search.recipe_of(winner.user_attrs["settings"])
    made = dataclasses.replace(made, workdir=None, overwrite=False, resume=False)
    (folder / "best").mkdir(exist_ok=True)
    stored = {"format": workdir.FORMAT, **made.to_dict()}
    files.write_json(folder / "best" / "recipe.json", stored, sealed=True)
    files.write_text(folder / "trials.csv", _table(study, search.entries))
    shares, why_none = ranking.importance(study, search.recipe.seed)
    is_given = bool(as_given) and winner.number == as_given[0].number
    results = {
        "format": workdir.FORMAT,
        "winner": described(winner),
        "winner_is_as_given": is_given,
        "as_given": described(as_given[0]) if as_given else None,
        "command": command(made, folder / "best" / "run"),
        "trials": {
            "complete": len(studies.finished(study)),
            "pruned": len(studies.pruned(study)),
            "failed": len(studies.failed(study)),
        },
        "importance": shares,
        "importance_missing": why_none,
        "front": [],
        "comparison": None,
        "space": {entry.name: entry.text.partition("=")[2] for entry in search.entries},
        "objective": search.objective.described(),
        "environment": environment.described(),
        "recipe": search.recipe.to_dict(),
    }
    if search.objective.name == "pareto":
        results["front"] = [described(trial) for trial in ranking.front(study)]
    if compare_seeds and not is_given:
        results["comparison"] = comparing.compared(search, made, compare_seeds)
    results["seconds"] = {
        "trials": round(60.0 * studies.minutes(study), 1),
        "ending": round(time.monotonic() - started, 1),
    }
    files.write_json(folder / "results.json", results, sealed=True)
    files.write_text(folder / "search.html", pages.page_of(search, results))
    return results


def described(trial):
    """A finished trial in plain values."""
    kept = ("settings", "best_epoch", "epochs", "parameters", "seconds")
    found = {name: trial.user_attrs[name] for name in kept}
    return {
        "number": studies.place(trial),
        "value": trial.values[0],
        **trial.user_attrs["figures"],
        **found,
    }


def summary(results):
    """What came out, in a few lines.

    Args:
        results: Dict, as `run` returns it and `results.json` holds it.

    Returns:
        String: how many trials there were, the best one, how it compares with the recipe as given
        if that was measured, and the command that trains it.

    Example:

    >>> print(kdkeras.search.summary(results))
    """
    winner, comparison, counts = results["winner"], results["comparison"], results["trials"]
    said = [
        f"{counts['complete']} trials finished, {counts['pruned']} stopped early, "
        f"{counts['failed']} failed.",
        f"Best: trial {winner['number']}, {winner['val_accuracy']:.2%} of the validation images, "
        f"validation loss {winner['val_loss']:.4f}",
        lines.described(winner["settings"]),
    ]
    if results["winner_is_as_given"]:
        said.append("That is the recipe as given: nothing found was better.")
    elif comparison is not None:
        said.append(comparing.sentence(comparison))
    said = [textwrap.fill(one, 80, subsequent_indent="  ") for one in said]
    return "\n".join([*said, "To train it:", f"  {results['command']}"])


def command(recipe, folder):
    """The command line that carries a recipe out."""
    recipe = dataclasses.replace(recipe, workdir=str(folder))
    words = ["kdkeras", "distill"]
    for field in dataclasses.fields(recipes.Recipe):
        value = getattr(recipe, field.name)
        if value == field.default and field.name != "dataset":
            continue
        if isinstance(value, bool):
            words.append(f"--{field.name}" if value else f"--no{field.name}")
        else:
            words.append(f"--{field.name}={value}")
    return shlex.join(words)


def _table(study, entries):
    names = [entry.name for entry in entries]
    header = ["number", "state", "value", "val_loss", "epochs", "parameters", "seconds", *names]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(header)
    for trial in sorted(studies.living(study), key=studies.place):
        said = trial.user_attrs
        if "seconds" not in said:  # another process is at it
            continue
        chosen = said["settings"]
        value = trial.values[0] if trial.values else max(said.get("curve", []), default="")
        rows.writerow(
            [
                *(studies.place(trial), trial.state.name.lower(), value, said.get("val_loss", "")),
                *(said.get("epochs", 0), said.get("parameters", ""), round(said["seconds"], 2)),
                *(chosen.get(name, "") for name in names),
            ]
        )
    return text.getvalue()
