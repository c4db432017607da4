"""The work directory of a run: who may write into it, and the results that stand in it."""

import contextlib
import dataclasses
import re
import shutil

from kdkeras import distribution, files, intact, locks, recipe

FORMAT = recipe.FORMAT
PREDICTIONS = "predictions.npz"
# Stands for the process that is at work in the folder, and is no part of the run.
LOCK = locks.NAME
# What a run writes, and all that `overwrite` removes.
OWN = (
    "recipe.json",
    "results.json",
    "report.html",
    PREDICTIONS,
    "labels.txt",
    "teacher.keras",
    "teacher.cache",
    "teacher.cache.partial",
    ".teacher.cache.lock",
    "control.keras",
    "student.keras",
    "quantized.keras",
    "logs",
    "backup",
    "export",
    "attack",
)


def of_this_worker(settings):
    """A recipe as one of several workers carries it out: the chief alone speaks and exports.

    The others keep their logs and backups in a folder of their own, `<workdir>.worker-1`,
    which `finish` removes.

    Args:
        settings: `kdkeras.Recipe`.
    """
    if distribution.leads(settings.strategy):
        return settings
    folder = settings.directory
    own = folder.with_name(f"{folder.name}.{distribution.worker()}")
    return dataclasses.replace(settings, workdir=str(own), quiet=True, verbose=False, export=False)


def check_free(folder):
    """Raises a `ValueError` if another process is at work in a folder, which need not exist."""
    locks.check_free(folder / LOCK)


@contextlib.contextmanager
def alone(folder):
    """A block in which no other process works in a folder, which is made.

    What a process that was killed had half written there is removed.

    Raises:
        ValueError: One does already; or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`workdir` must be a folder. Received: '{folder}', which is a file.")
    with locks.alone(folder / LOCK):
        # What others may be writing meanwhile is left alone: attacks on the run's models, say.
        files.sweep(folder, OWN)
        files.sweep(folder / "logs")
        yield


def claim(settings):
    """Makes the work directory of a recipe and writes `recipe.json` into it, in `alone`'s block.

    Args:
        settings: `kdkeras.Recipe`.

    Returns:
        The folder, a `pathlib.Path`.

    Raises:
        ValueError: The folder is not empty and neither `overwrite` nor `resume` is set; or `resume`
            is set and the folder holds a run with other settings, or a finished one.
    """
    folder = settings.directory
    names = _names(folder)
    if names:
        if settings.resume:
            _check_same(settings, folder)
        elif settings.overwrite:
            _clear(folder)
        elif not (folder / "recipe.json").exists():
            raise ValueError(
                f"`workdir` must be new or empty. Received: '{folder}', which holds "
                f"{', '.join(names[:5])} and no run. Give another `workdir`."
            )
        else:
            raise ValueError(
                f"`workdir` must be new or empty. Received: '{folder}', which holds a run. Give "
                "another `workdir`, or `overwrite` to replace a run's results in it, or `resume` "
                "to go on with an unfinished run."
            )
    folder.mkdir(parents=True, exist_ok=True)
    stored = {"format": FORMAT, **settings.to_dict()}
    files.write_json(folder / "recipe.json", stored, sealed=True)
    return folder


def _names(folder):
    """The names of what stands in a folder, in order."""
    there = folder.iterdir() if folder.exists() else []
    return sorted(path.name for path in there if path.name != LOCK)


def of_seed(seed):
    """The name of the folder in which a run of several seeds does one of them."""
    return f"seed-{seed}"


def _check_same(settings, folder):
    stored = folder / "recipe.json"
    if not stored.exists():
        raise ValueError(
            f"`resume` needs a run to go on with. Received: '{folder}', which has no recipe.json."
        )
    before = intact.read(stored, FORMAT)
    now = settings.to_dict()
    alone = 1 in (before.get("seeds", 1), settings.seeds)
    if (folder / "results.json").exists() and (alone or before["seeds"] >= settings.seeds):
        raise ValueError(
            f"`resume` needs an unfinished run. Received: '{folder}', whose run is finished: its "
            "results.json is there."
        )
    # Seeds may be added to several; what stands in the folder of one is no part of them.
    free = {name for name in recipe.NOT_OF_THE_RESULT if name != "seeds" or not alone}
    check_same(before, {name: now[name] for name in now if name not in free}, folder)


def check_same(before, now, folder):
    """Refuses to go on with other settings than those that were stopped.

    Args:
        before: Dict of the settings that stand in the folder.
        now: Dict of those that are given, of which none may differ.
        folder: Where, for the message.

    Raises:
        ValueError: Some differ.
    """
    differing = [
        f"{name}: {before.get(name)!r} there, {now[name]!r} here"
        for name in now
        if before.get(name) != now[name]
    ]
    if differing:
        raise ValueError(
            f"`resume` must go on with the same settings. In '{folder}' differ: "
            + "; ".join(differing)
        )


def _clear(folder):
    foreign = [name for name in _names(folder) if not _is_own(name)]
    if foreign or not (folder / "recipe.json").exists():
        raise ValueError(
            f"`overwrite` only replaces a run's own files. Received: '{folder}', which holds "
            f"{', '.join(foreign[:5]) or 'no recipe.json'}. Give another `workdir`."
        )
    # recipe.json last: without it, what is left would not be known as a run's.
    for path in [folder / name for name in sorted(_names(folder), key="recipe.json".__eq__)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_own(name):
    return name in OWN or re.fullmatch(r"seed-\d+", name) is not None


def finish(folder, results, strategy=None):
    """Writes `results.json`, with the digest of every file it names, and removes the backups.

    Of several workers, those that are not the chief remove their folder, once the chief's results
    stand: without them all would have to go on.
    """
    if not distribution.leads(results["recipe"]["strategy"]):
        distribution.agreed(0, strategy)
        shutil.rmtree(folder)
        return results
    shutil.rmtree(folder / "backup", ignore_errors=True)
    results = {**results, "files": _digests(folder, folder)}
    files.write_json(folder / "results.json", results, sealed=True)
    distribution.agreed(0, strategy)
    return results


@contextlib.contextmanager
def rewriting(folder, *names):
    """A block that may replace files of a run; `results.json` has their new digests afterwards.

    While it lasts, and for good where the process is killed, `results.json` does not name them.

    Args:
        folder: The work directory, of a finished run or of another.
        *names: Files in it, or folders.
    """
    path = folder / intact.RESULTS
    results = files.read_json(path) if path.exists() else {}
    if "files" not in results:
        yield
        return

    def write(named):
        files.write_json(path, {**results, "files": named}, sealed=True)

    touched, others = {}, {}
    for name, digest in results["files"].items():
        inside = any((folder / name).is_relative_to(folder / one) for one in names)
        (touched if inside else others)[name] = digest
    before = {name: _stamp(folder / name) for name in touched}
    write(others)
    try:
        yield
    finally:
        now = {}
        for name in names:
            now |= _digests(folder, folder / name)
        # What was not written keeps its digest, so that damage to it is still found.
        same = [name for name in touched if name in now and _stamp(folder / name) == before[name]]
        write({**others, **now, **{name: touched[name] for name in same}})


def _stamp(file):
    """What changes when a file is replaced."""
    if not file.exists():
        return None
    found = file.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digests(folder, path):
    """The digests of a file, or of all in a folder but locks and the like, by names in `folder`."""
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return {
        str(file.relative_to(folder)): files.digest(file)
        for file in found
        if file.is_file() and not file.name.startswith(".")
    }
