"""The study: Optuna's record of all trials, which several processes share, and its budget."""

import contextlib
import re
import sqlite3
import time
import warnings

from kdkeras import files, locks
from kdkeras.search import sealing

FILE, NAME = "study.db", "kdkeras search"
# What SQLite may leave beside its file.
BESIDE = ("", "-journal", "-wal", "-shm")
# Bytes of the header of a file of SQLite.
LEAST = 100
# Seconds: a trial of which nothing was heard for so long belongs to a process that died.
HEARTBEAT, GRACE = 15, 60
# So many trials reach the last epoch before one is pruned, and are drawn before any is modelled.
FIRST = 5


def check_installed():
    """Raises a `ValueError` where Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "A search needs a package that is not installed. Run: pip install 'kdkeras[search]'"
        ) from error


@contextlib.contextmanager
def hushed():
    """A block in which Optuna does not speak: the search has lines of its own."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR + 10)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def reached(place):
    """A block in which a study's database that fails is an error of its file.

    Args:
        place: The file, or the database's URL.

    Raises:
        OSError: It cannot be read or written any more: its disk is full, or gone.
    """
    import optuna
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        # Optuna's own says nothing of the reason, which is its cause.
        said = error if isinstance(error, sqlalchemy.exc.SQLAlchemyError) else error.__cause__
        reason = str(said or error).splitlines()[0]
        raise OSError(
            f"The study '{place}' could not be read or written: {reason}. Check that it is there "
            "and that its disk has room; the same command goes on."
        ) from error


def opened(folder, storage, wanted, *, directions, epochs):
    """The study of a search: begun, or gone on with.

    Args:
        folder: The work directory.
        storage: None for `study.db` there, or a database's URL.
        wanted: Dict of what makes it this search and no other, as JSON holds it.
        directions: List of "maximize" and "minimize", one an objective.
        epochs: Of a whole trial.

    Returns:
        `optuna.Study`.

    Raises:
        ValueError: The storage cannot be used, or holds something else, or another search.
    """
    import optuna

    with locks.held(folder / "locks" / "study"):
        if storage is None:
            _check_file(folder / FILE)
            _make_tables(folder / FILE)
        url = storage or f"sqlite:///{folder / FILE}"
        wait = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        try:
            kept = optuna.storages.RDBStorage(
                url,
                engine_kwargs=wait,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
            )
            known = optuna.get_all_study_names(kept)
            study = optuna.create_study(
                study_name=NAME, storage=kept, directions=directions, load_if_exists=True
            )
            before = study.user_attrs.get("search")
            # Of this name and empty: its process was killed before it had said what it is of.
            if before is None and (not known or known == [NAME] and not study.get_trials()):
                known = []
                study.set_user_attr("search", wanted)
            sealing.check(study)
        except Exception as error:  # Of a damaged study, Optuna may fail in any way.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            reason = re.sub(r"^\(\S+\) ", "", reason)  # the driver's name of the error
            raise ValueError(f"The study '{url}' cannot be used: {reason}") from error
        if known and before is None:
            raise ValueError(
                f"The study '{url}' is of something else: {', '.join(known)}. Give another "
                "`workdir` or `storage`."
            )
    check_same(url, before or wanted, wanted)
    if len(directions) == 1:
        study.pruner = pruner(epochs)
    return study


def check_same(url, before, wanted):
    """Refuses a study of other settings; the message names those that differ."""
    pairs = {**_flat(before), **_flat(wanted)}
    differing = [
        f"{name}: {_flat(before).get(name)!r} there, {_flat(wanted).get(name)!r} here"
        for name in pairs
        if _flat(before).get(name) != _flat(wanted).get(name)
    ]
    if differing:
        raise ValueError(
            f"The study '{url}' is of other settings. There differ: {'; '.join(differing)}. Give "
            "another `workdir`, or `overwrite` to begin anew."
        )


def _flat(tree, front=""):
    found = {}
    for name, value in tree.items():
        inner = (
            _flat(value, f"{front}{name}.") if isinstance(value, dict) else {front + name: value}
        )
        found.update(inner)
    return found


def _check_file(path):
    """Refuses a file that is no study, before anything is written into it."""
    advice = "Take it away, or give another `workdir`, or `overwrite` to begin anew."
    size = path.stat().st_size if path.exists() else 0
    if size < LEAST:
        if size or path.with_name("recipe.json").exists():
            raise ValueError(
                f"The study '{path}' is damaged: it is cut to {size} bytes, or not there any more. "
                f"Bring it back from a copy. {advice}"
            )
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in names}
    except sqlite3.DatabaseError as error:
        raise ValueError(f"The study '{path}' is damaged: {error}. {advice}") from error
    if sound != "ok":
        raise ValueError(f"The study '{path}' is damaged: {sound.splitlines()[0]}. {advice}")
    if names and not {"studies", "trials"} <= names:
        raise ValueError(f"'{path}' is no study: it has the tables {sorted(names)}. {advice}")


def _make_tables(path):
    """Makes an empty database where there is none, so that it is there whole or not at all."""
    import optuna

    if not path.exists():
        with files.atomic_path(path) as temporary:
            optuna.storages.RDBStorage(f"sqlite:///{temporary}").engine.dispose()


def pruner(epochs):
    """Successive halving of trials of so many epochs, once the first ones are whole."""
    import optuna

    class AfterTheFirst(optuna.pruners.SuccessiveHalvingPruner):
        """Successive halving that lets the first trials reach the last epoch."""

        def prune(self, study, trial):
            halved = super().prune(_Living(study), trial)  # which notes the value in any case
            return halved and len(finished(study)) >= FIRST

    return AfterTheFirst(min_resource=max(1, epochs // 6), reduction_factor=2)


class _Living:
    """A study without the trials that were cut short, whose rungs their successors climb anew."""

    def __init__(self, study):
        self._study = study

    def __getattr__(self, name):
        return getattr(self._study, name)

    def get_trials(self, deepcopy=True):
        del deepcopy
        return living(self._study)


def sampler(seed, place, *, grouped):
    """The sampler of one trial: what it draws hangs on the seed, the place and the trials before.

    A trial that was cut short before its settings were known is drawn again, in its place.
    """
    import optuna

    return optuna.samplers.TPESampler(
        n_startup_trials=FIRST,
        multivariate=True,
        group=grouped,
        constant_liar=True,
        seed=(seed * 1_000_003 + place) % 2**32,
    )


def abandon(study):
    """Gives up the trials that some process was at when it died: no other is at work."""
    import optuna

    for trial in running(study):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def place(trial):
    """The number of a trial among those that were not cut short."""
    return trial.user_attrs.get("place", trial.number)


def free_place(study):
    """The first place that no trial has; it is that of a trial that was cut short, if one was."""
    taken = {place(trial) for trial in living(study)}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def living(study):
    """The trials that were not cut short, in order."""
    found = [trial for of in (finished, pruned, failed, running) for trial in of(study)]
    return sorted(found, key=lambda trial: trial.number)


def finished(study):
    """The trials that reached the last epoch."""
    return _in(study, "COMPLETE")


def running(study):
    """The trials that some process trains, or trained when it died."""
    return _in(study, "RUNNING")


def failed(study):
    """The trials whose objective could not be measured; not those that were cut short."""
    return [trial for trial in _in(study, "FAIL") if "failed" in trial.user_attrs]


def pruned(study):
    """The trials that were stopped before the last epoch."""
    return _in(study, "PRUNED")


def counted(study):
    """How much of the budget of trials is spent, or being spent."""
    return len(living(study))


def minutes(study):
    """How many minutes all trials of all processes have taken."""
    ended = [*finished(study), *pruned(study), *failed(study)]
    seconds = [trial.user_attrs.get("seconds", 0.0) for trial in ended]
    now = time.time()
    seconds += [now - trial.user_attrs.get("started", now) for trial in running(study)]
    return sum(seconds) / 60.0


def _in(study, *states):
    from optuna.trial import TrialState

    wanted = tuple(TrialState[state] for state in states)
    return study.get_trials(deepcopy=False, states=wanted)
