"""Which trials are the best, and which settings mattered."""

from kdkeras.search import studies

# Fewer finished trials say nothing of what mattered.
FEWEST = 4


def ranked(study):
    """The finished trials, the best first.

    By the objective; equals by fewer parameters where that is one, by validation loss, and by which
    came first.
    """

    def order(trial):
        return (
            *(-value if i == 0 else value for i, value in enumerate(trial.values)),
            trial.user_attrs["val_loss"],
            studies.place(trial),
        )

    return sorted(studies.finished(study), key=order)


def front(study):
    """The finished trials of which none has both: more accuracy, and fewer parameters."""
    found = []
    for trial in ranked(study):  # each with no more accuracy than the one before
        if not found or trial.values[1] < found[-1].values[1]:
            found.append(trial)
    return found


def importance(study, seed):
    """How much of the objective's variance each setting explains.

    Returns:
        Dict from names to shares of sum 1, the largest first; and why there is none, or None.

    Reference:
        Hutter et al., [An Efficient Approach for Assessing Hyperparameter Importance](
        https://proceedings.mlr.press/v32/hutter14.html), ICML 2014.
    """
    import optuna

    done = [trial for trial in studies.finished(study) if "same_as" not in trial.user_attrs]
    if len(done) < FEWEST:
        return {}, f"{len(done)} finished trials are too few: {FEWEST} are needed"
    names = set.intersection(*(set(trial.params) for trial in done))
    varying = [name for name in names if len({trial.params[name] for trial in done}) > 1]
    if len(varying) < 2:
        return {}, "fewer than two settings varied in all finished trials"
    if len({trial.values[0] for trial in done}) == 1:
        return {}, "all finished trials have the same value"
    first = optuna.create_study(direction="maximize")
    first.add_trials(
        optuna.create_trial(
            params={name: trial.params[name] for name in varying},
            distributions={name: trial.distributions[name] for name in varying},
            value=trial.values[0],
        )
        for trial in done
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    found = optuna.importance.get_param_importances(first, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}, None
