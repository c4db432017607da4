"""What a search says while it runs: a line a trial, within 80 columns."""

from kdkeras.search import ranking, studies

WIDTH = 80


class Progress:
    """Prints the trials of this process as they end.

    Args:
        study: `optuna.Study`.
        budget: With `trials` and `minutes`.
        quiet: Whether to print nothing.
    """

    def __init__(self, study, budget, *, quiet):
        self.study, self.quiet, self.waiting = study, quiet, False
        done = studies.counted(study)
        limit = "" if budget.minutes is None else f", or {budget.minutes:g} minutes of them"
        going_on = f" {done} are there already." if done else ""
        self._say(f"\n{budget.trials} trials{limit}, measured by validation images.{going_on}")

    def trial(self):
        """Says how the trial that was trained here last came out."""
        self.waiting = False
        ended = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.is_finished() and "seconds" in trial.user_attrs
        ]
        last = max(ended, key=lambda trial: trial.datetime_complete)
        self._say(line(last, ranking.ranked(self.study)))

    def waits(self):
        """Says, once, that trials of other processes are awaited."""
        if not self.waiting:
            names = ", ".join(str(studies.place(trial)) for trial in studies.running(self.study))
            self._say(f"Waiting for trials of another process, or of one that died: {names}")
        self.waiting = True

    def _say(self, text):
        if not self.quiet:
            print(text, flush=True)


def line(trial, ranked):
    """A trial in a line: number, how it ended, its value, the best so far, its settings.

    Args:
        trial: `optuna.trial.FrozenTrial`.
        ranked: The finished trials, the best first.
    """
    attributes = trial.user_attrs
    kind, value = trial.state.name.lower(), "-"
    if kind == "complete":
        value = f"{trial.values[0]:.2%}"
    elif kind == "pruned":
        kind = "stopped" if attributes.get("stopped") == "time" else kind
        value = f"{max(attributes['curve'], default=float('nan')):.2%}"
    else:
        kind = "failed"
    best = f"best {ranked[0].values[0]:.2%}" if ranked else "best -"
    said = attributes["failed"] if kind == "failed" else described(attributes["settings"], 2)
    text = f"{studies.place(trial):>3} {kind:<8} {value:>7} {best:<12} {said}"
    text = " ".join(text.splitlines())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def described(chosen, digits=4):
    """The settings of a trial in few words."""
    return " ".join(
        f"{name}={value:.{digits}g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in chosen.items()
    )
