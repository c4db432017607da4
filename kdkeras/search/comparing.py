"""The winner beside the recipe as given, on test images, from several seeds."""

import dataclasses
import shutil

from kdkeras import archives, evaluation, files, repeats, robustness, workdir
from kdkeras import recipe as recipes
from kdkeras.search import settings, tutors

DEFAULTS = {field.name: field.default for field in dataclasses.fields(recipes.Recipe)}
# Seeds, of fewer than which an interval is wider than what can be.
FEWEST = 3
PLACES = {"winner": "winner", "as_given": "default"}


def compared(search, winner, seeds):
    """Trains both from the same seeds and tests them.

    Args:
        search: As `kdkeras.search.running` has it.
        winner: `kdkeras.Recipe` of the best trial, with its teacher's file.
        seeds: How many.

    Returns:
        Dict: `seeds`, and for each metric (`accuracy`; of the objective "mixed" `robust_accuracy`
        too) `winner` and `as_given`, lists by seed, and `difference`, as
        `kdkeras.evaluation.across` gives it.
    """
    as_given = tutors.with_teacher(search.recipe, search.teacher)
    if winner.teacher.endswith(".keras"):  # where the space has the teachers
        as_given = tutors.with_teacher(as_given, winner.teacher)
    figures = {}
    for role, recipe in (("winner", winner), ("as_given", as_given)):
        if not search.recipe.quiet:
            what = "the best" if role == "winner" else "the recipe as given"
            print(f"For the comparison on test images, from {seeds} seeds: {what}", flush=True)
        folder = search.folder / PLACES[role]
        results = _carried_out(recipe, folder, seeds)
        found = results["models"]["student"]["test"]["accuracy"]
        figures[role] = {"accuracy": found["values"] if seeds > 1 else [found]}
        if search.objective.name == "mixed":
            figures[role]["robust_accuracy"] = _robust(search, folder, seeds)
    return {
        "seeds": [search.recipe.seed + i for i in range(seeds)],
        **{
            metric: {
                **{role: figures[role][metric] for role in figures},
                "difference": evaluation.across(
                    [
                        one - other
                        for one, other in zip(
                            figures["winner"][metric], figures["as_given"][metric], strict=True
                        )
                    ]
                ),
            }
            for metric in figures["winner"]
        },
    }


def _carried_out(recipe, folder, seeds):
    """The results of a recipe without control and exports, unless they stand there."""
    plain = {name: DEFAULTS[name] for name in settings.AFTERWARDS}
    plain |= {"control": False, "export": False, "tensorboard": False}
    plain |= {"seeds": seeds, "workdir": str(folder), "quiet": not recipe.verbose}
    recipe = dataclasses.replace(recipe, **plain)
    stored = folder / "recipe.json"
    same = stored.exists() and _same(recipes.read(stored), recipe)
    if same and (folder / "results.json").exists():
        return files.read_json(folder / "results.json")
    if folder.exists() and not same:
        shutil.rmtree(folder)
    return repeats.run(dataclasses.replace(recipe, resume=same, overwrite=False))


def _same(stored, recipe):
    return (settings.of_result(stored), stored.seeds) == (settings.of_result(recipe), recipe.seeds)


def _robust(search, folder, seeds):
    """Robust accuracy on test images, of the models that stand in a folder."""
    images, labels = evaluation.collect(search.splits.test)
    found = []
    for seed in range(search.recipe.seed, search.recipe.seed + seeds):
        own = folder / workdir.of_seed(seed) if seeds > 1 else folder
        model = archives.model(own / "student.keras")
        attack = {"epsilon": search.objective.epsilon, "seed": seed, "max_examples": 1000}
        found.append(robustness.quick(model, images, labels, **attack)["robust"])
    return found


def sentence(comparison):
    """What the comparison says, whichever way it falls."""
    said = []
    for metric in ("accuracy", "robust_accuracy"):
        if metric not in comparison:
            continue
        both, difference = comparison[metric], comparison[metric]["difference"]
        means = [sum(both[role]) / len(both[role]) for role in ("winner", "as_given")]
        text = (
            f"Test {metric.replace('_', ' ')}: {means[0]:.2%}, the recipe as given {means[1]:.2%}: "
            f"{100 * difference['mean']:+.2f} points"
        )
        seeds = len(both["winner"])
        if seeds < FEWEST:
            said.append(f"{text}, of {seeds} seed{'s' * (seeds > 1)}: too few to tell.")
            continue
        low, high = (100 * end for end in difference["interval"])
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference can be told"
        said.append(
            f"{text} (95 %: {low:+.2f} to {high:+.2f}), paired over {seeds} seeds: {verdict}."
        )
    return "\n".join(said)
