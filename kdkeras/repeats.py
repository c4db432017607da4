"""A recipe carried out once for each of several seeds: means, spreads, paired differences."""

import dataclasses
import time

import keras

from kdkeras import environment, evaluation, files, runner, workdir
from kdkeras.evaluation import intervals


def run(recipe):
    """Distils a student as a recipe says, measures it against its control, and writes everything.

    A teacher is trained, or loaded from a file; the control (the same student, seed and budget, on
    labels only) and the student are trained; each is kept at its best epoch by validation; all are
    tested, once; the student is exported. With `seeds` above 1 all of it is done for each of the
    seeds `seed`, `seed + 1`, ..., in the folders `seed-<seed>` of the work directory.

    Args:
        recipe: `kdkeras.Recipe`.

    Returns:
        The dict that `results.json` in the work directory holds. Of one seed: `dataset`, `models`
        (for each its size, its `training` and its `test` metrics), `distillation` (alpha and the
        terms), `gain` (test accuracy over the control's, with an interval and McNemar's test),
        `exports` (what `kdkeras.export.flavours` reports), `seconds`, `environment`, `recipe`,
        `files`. Of several: `seeds`, `runs` (the folders), `dataset`, and `models` and `gain` with
        each figure as `kdkeras.evaluation.across` gives it, the gains paired by seed.

    Raises:
        ValueError: Something in the settings, the data or the work directory does not fit; nothing
            was trained or changed.

    Example:

    >>> kdkeras.run(kdkeras.Recipe(dataset="digits", seeds=5))["gain"]["interval"]
    """
    return runner.run(recipe) if recipe.seeds == 1 else _repeated(recipe, runner.run)


def train(recipe):
    """Trains a teacher alone, as `run` does, and writes it with its results.

    Args:
        recipe: `kdkeras.Recipe`; only its teacher's settings are used.

    Returns:
        As `run`, with the teacher alone.

    Raises:
        ValueError: As `run`; or `teacher` is a file.
    """
    return runner.train(recipe) if recipe.seeds == 1 else _repeated(recipe, runner.train)


def _repeated(recipe, carry_out):
    if recipe.strategy == "multiworker":
        raise ValueError(
            "`seeds` must be 1 with strategy='multiworker', for workers join one run only: give "
            f"each seed a command of its own, with --seed. Received: seeds={recipe.seeds}"
        )
    with workdir.alone(recipe.directory):
        return _each(recipe, carry_out)


def _each(recipe, carry_out):
    started = time.monotonic()
    folder = workdir.claim(recipe)
    seeds = [recipe.seed + offset for offset in range(recipe.seeds)]
    found = []
    for place, seed in enumerate(seeds):
        own = dataclasses.replace(
            recipe,
            seed=seed,
            seeds=1,
            workdir=str(folder / workdir.of_seed(seed)),
            overwrite=False,
        )
        finished = own.directory / "results.json"
        if recipe.resume and finished.exists():
            found.append(files.read_json(finished))
            continue
        if not recipe.quiet:
            print(f"\n--- seed {seed}, {place + 1} of {len(seeds)} ---", flush=True)
        # Layers are named as in a run of this seed alone, and earlier models are let go.
        keras.backend.clear_session()
        begun = recipe.resume and own.directory.exists()
        found.append(carry_out(dataclasses.replace(own, resume=begun)))
    results = {
        "format": workdir.FORMAT,
        "seeds": seeds,
        "runs": [workdir.of_seed(seed) for seed in seeds],
        "dataset": found[0]["dataset"],
        "models": {role: _over_seeds(role, found) for role in found[0]["models"]},
        **_gains(found),
        "environment": environment.described(),
        "recipe": recipe.to_dict(),
        "seconds": {"all": round(time.monotonic() - started, 1)},
    }
    files.write_json(folder / "results.json", results, sealed=True)
    return results


def _over_seeds(role, found):
    """A model's size, and its test metrics over seeds."""
    models = [results["models"][role] for results in found]
    plain = {name: models[0][name] for name in ("name", "parameters", "macs")}
    return {**plain, "test": intervals.across_each([model["test"] for model in models])}


def _gains(found):
    names = [name for name in ("gain", "robust_gain") if name in found[0]]
    return {name: evaluation.across([results[name] for results in found]) for name in names}
