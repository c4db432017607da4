"""The study: Optuna's record of all trials, which several processes share, and its budget."""

import contextlib
import sqlite3
import time
import warnings

from kdkeras import locks

FILE, NAME = "study.db", "kdkeras search"
# What SQLite may leave beside its file.
BESIDE = ("", "-journal", "-wal", "-shm")
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
    import sqlalchemy

    with locks.held(folder / "locks" / "study"):
        if storage is None:
            _check_file(folder / FILE)
        url = storage or f"sqlite:///{folder / FILE}"
        wait = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        try:
            kept = optuna.storages.RDBStorage(
                url,
                engine_kwargs=wait,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=again,
            )
            known = optuna.get_all_study_names(kept)
            study = optuna.create_study(
                study_name=NAME, storage=kept, directions=directions, load_if_exists=True
            )
            before = study.user_attrs.get("search")
            if before is None and not known:
                study.set_user_attr("search", wanted)
        except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
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
    if not path.exists() or not path.stat().st_size:
        return
    advice = "Take it away, or give another `workdir`, or `overwrite` to begin anew."
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            (sound,) = connection.execute("PRAGMA quick_check").fetchone()
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in names}
    except sqlite3.DatabaseError as error:
        raise ValueError(f"The study '{path}' is damaged: {error}. {advice}") from error
    if sound != "ok":
        raise ValueError(f"The study '{path}' is damaged: {sound.splitlines()[0]}. {advice}")
    if names and not {"studies", "trials"} <= names:
        raise ValueError(f"'{path}' is no study: it has the tables {sorted(names)}. {advice}")


def pruner(epochs):
    """Successive halving of trials of so many epochs, once the first ones are whole."""
    import optuna

    class AfterTheFirst(optuna.pruners.SuccessiveHalvingPruner):
        """Successive halving that lets the first trials reach the last epoch."""

        def prune(self, study, trial):
            halved = super().prune(study, trial)  # which notes the value in any case
            return halved and len(finished(study)) >= FIRST

    return AfterTheFirst(min_resource=max(1, epochs // 6), reduction_factor=2)


def sampler(seed, number, *, grouped):
    """The sampler of one trial: what it draws hangs on the seed, the number and the trials before.

    So a search that was interrupted, or is shared, draws nothing twice.
    """
    import optuna

    return optuna.samplers.TPESampler(
        n_startup_trials=FIRST,
        multivariate=True,
        group=grouped,
        constant_liar=True,
        seed=(seed * 1_000_003 + number) % 2**32,
    )


def again(study, trial):
    """Puts the settings of a trial that came to no end in line once more."""
    marked = {name: trial.user_attrs[name] for name in ("as_given",) if name in trial.user_attrs}
    # Not with Optuna's own callback: it hands on the rungs that the trial had climbed, too.
    study.enqueue_trial(trial.params, user_attrs=marked)


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
    return sum(len(of(study)) for of in (finished, pruned, failed, running))


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
