"""What a study holds of a trial, under a digest: SQLite does not notice a flipped bit."""

from kdkeras import seals

ENDED = ("COMPLETE", "PRUNED", "FAIL")


def seal(trial, values):
    """Notes the digest of all that a study holds of a trial, which has come to its end.

    Args:
        trial: `optuna.Trial`.
        values: The numbers that it comes to; empty where it comes to none.
    """
    stored = trial.study.get_trials(deepcopy=False)[trial.number]
    trial.set_user_attr("digest", _digest(stored, values))


def check(study):
    """Refuses a study of which a trial is not what was found; those without a digest pass.

    Raises:
        ValueError: The message names the trial.
    """
    for trial in study.get_trials(deepcopy=False):
        stored = trial.user_attrs.get("digest")
        values = trial.values if trial.state.name == "COMPLETE" else []
        if stored is not None and trial.state.name in ENDED and stored != _digest(trial, values):
            raise ValueError(f"trial {trial.number} does not have its digest")


def _digest(trial, values):
    import optuna

    written = optuna.distributions.distribution_to_json
    content = {
        "number": trial.number,
        "values": [float(value) for value in values],
        "params": trial.params,
        "distributions": {name: written(one) for name, one in trial.distributions.items()},
        "reported": list(trial.intermediate_values.items()),
        "system": trial.system_attrs,
        "user": {name: value for name, value in trial.user_attrs.items() if name != "digest"},
    }
    return seals.digest(_sorted(content))


def _sorted(value):
    """With the names of dicts in order: a database has none."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return value
