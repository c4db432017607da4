"""Commands that make something: models and caches."""

import dataclasses
import pathlib
import re

from kdkeras import distribution, feeding, loading, recipe, repeats, runner, tables


def train(command, settings):
    """`kdkeras distill` and `kdkeras train`."""
    results = (repeats.run if command == "distill" else repeats.train)(settings)
    if distribution.leads(settings.strategy):
        said = tables.repeats(results) if settings.seeds > 1 else tables.results(results)
        print(f"\n{said}\nResults: {settings.directory / 'results.json'}")
    return 0


def cache(settings, words):
    """`kdkeras cache`: what a teacher says of views of a dataset's training images."""
    del words
    path, teacher = pathlib.Path(settings["output"]), settings["teacher"] or ""
    if not teacher.endswith(".keras"):
        raise ValueError(f"--teacher must be a .keras file. Received: '{teacher}'")
    if not path.parent.is_dir():
        raise ValueError(f"--output must be in a folder that exists. Received: '{path}'")
    names = {field.name for field in dataclasses.fields(recipe.Recipe)}
    wanted = recipe.Recipe(**{name: settings[name] for name in settings if name in names})
    splits = runner.load_data(wanted)
    filled = feeding.fill(
        wanted,
        loading.load(teacher, "teacher", splits),
        splits,
        path,
        layers=settings["layers"].split(",") if settings["layers"] else [],
        shard=_shard(settings["shard"]),
        batch_size=settings["batch_size"],
        overwrite=wanted.overwrite,
    )
    if filled is not None:
        filled.close()
        learn = f"kdkeras distill --dataset='{wanted.dataset}' --cache='{path}'"
        print(f"Written: {path}, {path.stat().st_size:,} bytes. To learn from it: {learn}")
    return 0


def _shard(given):
    if given is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", given)
    if found is None:
        raise ValueError(f"--shard must be i/n, such as 1/4. Received: '{given}'")
    return int(found[1]), int(found[2])
