"""One trial: a student trained with the settings that are tried, and measured by validation."""

import dataclasses
import os
import socket
import time

import keras
import tensorflow as tf

from kdkeras import arguments, callbacks, choices, evaluation, robustness
from kdkeras.search import sealing, settings, spaces, studies

OBJECTIVES = ("accuracy", "mixed", "pareto")


class Unmeasured(ValueError):
    """A trial whose objective has no value: it fails, and the search goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What a search makes as large as it can, of validation images alone.

    `accuracy`: the best epoch's. `mixed`: `(1 - w) accuracy + w robust accuracy`, of the epoch
    where it is largest, the latter as `kdkeras.robustness.quick` measures it. `pareto`: accuracy,
    and as few parameters as may be.

    Args:
        name: One of `OBJECTIVES`.
        weight: `w`, in [0, 1].
        epsilon: The attack's radius, in pixels of [0, 1].

    Raises:
        ValueError: One of them is not so.
    """

    name: str
    weight: float
    epsilon: float

    def __post_init__(self):
        arguments.one_of("objective", self.name, OBJECTIVES)
        arguments.fraction("robust_weight", self.weight)
        arguments.positive("robust_epsilon", self.epsilon)
        if self.epsilon > 1.0:
            raise ValueError(
                "`robust_epsilon` must be in pixels of [0, 1]: of pixels in 0..255 divide it by "
                f"255. Received: robust_epsilon={self.epsilon:g}"
            )

    def described(self):
        """What of it matters, as plain values."""
        attack = {"weight": self.weight, "epsilon": self.epsilon} if self.name == "mixed" else {}
        return {"name": self.name, **attack}

    @property
    def directions(self):
        """As Optuna has them."""
        return ["maximize", "minimize"] if self.name == "pareto" else ["maximize"]

    def of(self, logs, student, images, labels, seed):
        """The value of an epoch, and the figures behind it."""
        accuracy = float(logs["val_accuracy"])
        found = {"val_accuracy": accuracy, "val_loss": float(logs["val_loss"])}
        if self.name != "mixed":
            return accuracy, found
        robust = robustness.quick(student, images, labels, epsilon=self.epsilon, seed=seed)
        found["val_robust_accuracy"] = robust["robust"]
        return (1.0 - self.weight) * accuracy + self.weight * robust["robust"], found


class _Watch(keras.callbacks.Callback):
    """Measures each epoch, reports it, and stops what is behind or out of time."""

    def __init__(self, measured, trial, is_over):
        super().__init__()
        self.measured, self.trial, self.is_over = measured, trial, is_over
        self.values, self.figures, self.verdict = [], [], None

    def on_epoch_end(self, epoch, logs=None):
        value, figures = self.measured(logs)
        self.values.append(value)
        self.figures.append(figures)
        last = epoch + 1 == self.params["epochs"]
        if len(self.trial.study.directions) == 1:
            self.trial.report(value, step=epoch + 1)
            if self.trial.should_prune() and not last:
                self._stop("pruned")
        if self.is_over() and not last:
            self._stop("time")

    def _stop(self, verdict):
        self.verdict = self.verdict or verdict
        self.model.stop_training = True


class Trials:
    """The function of a trial that Optuna calls, with what all trials share.

    Args:
        search: The search, as `kdkeras.search.running` has it; the test images are not looked at.
        worlds: `kdkeras.search.worlds.Worlds`.
        answers: `kdkeras.search.tutors.Answers`.
        is_over: A function that says whether there is no time left for another epoch.
    """

    def __init__(self, search, worlds, answers, is_over):
        self.search, self.objective = search, search.objective
        self.worlds, self.answers, self.is_over = worlds, answers, is_over
        self.images, self.labels = evaluation.collect(search.splits.validation)

    def __call__(self, trial, begun):
        """Trains and measures; a list of the objective's value, or of both.

        Args:
            trial: `optuna.Trial`.
            begun: Called once its settings are in the study, for others to see.
        """
        import optuna

        try:
            found = self._measured(trial, begun)
        except (Unmeasured, optuna.TrialPruned):
            sealing.seal(trial, [])
            raise
        sealing.seal(trial, found)
        return found

    def _measured(self, trial, begun):
        import optuna

        chosen = spaces.suggested(self.search.entries, trial, self.search.refusal)
        trial.set_user_attr("settings", chosen)
        trial.set_user_attr("started", time.time())
        trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
        begun()
        started = time.monotonic()
        twin = self._twin(trial, chosen)
        if twin is not None:
            for name in ("curve", "epochs", "best_epoch", "parameters", "val_loss", "figures"):
                trial.set_user_attr(name, twin.user_attrs[name])
            trial.set_user_attr("same_as", studies.place(twin))
            trial.set_user_attr("seconds", time.monotonic() - started)
            return twin.values
        try:
            watch, student = self._trained(trial, chosen)
        except (ValueError, tf.errors.ResourceExhaustedError) as error:
            trial.set_user_attr("failed", _reason(error))
            trial.set_user_attr("seconds", time.monotonic() - started)
            raise Unmeasured(trial.user_attrs["failed"]) from error
        trial.set_user_attr("seconds", time.monotonic() - started)
        trial.set_user_attr("curve", watch.values)
        trial.set_user_attr("epochs", len(watch.values))
        if watch.verdict in ("pruned", "time"):
            trial.set_user_attr("stopped", watch.verdict)
            raise optuna.TrialPruned(watch.verdict)
        best = max(range(len(watch.values)), key=lambda epoch: (watch.values[epoch], -epoch))
        trial.set_user_attr("best_epoch", best + 1)
        trial.set_user_attr("parameters", student.count_params())
        trial.set_user_attr("val_loss", watch.figures[best]["val_loss"])
        trial.set_user_attr("figures", watch.figures[best])
        value = watch.values[best]
        return [value, student.count_params()] if self.objective.name == "pareto" else [value]

    def _trained(self, trial, chosen):
        recipe = self.answers.recorded(self.search.recipe_of(chosen))
        world = self.worlds.of(recipe, chosen, names_of(recipe))
        student, seed = world.student, recipe.seed
        watch = _Watch(
            lambda logs: self.objective.of(logs, student, self.images, self.labels, seed),
            trial,
            lambda: self.is_over() and bool(studies.finished(trial.study)),
        )
        world.fit(recipe, self.answers.of(recipe, world), [watch])
        return watch, student

    def _twin(self, trial, chosen):
        """A finished trial of the same settings, which would come out the same."""
        for other in studies.finished(trial.study):
            if other.user_attrs["settings"] == chosen:
                return other
        return None


def _reason(error):
    """Why a trial failed, in a few words where there are."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "out of memory"
    return error.what if isinstance(error, callbacks.NotFinite) else str(error)


def names_of(recipe):
    """The models of a trial: the teacher too, unless there is none, or its cache alone."""
    taught = settings.is_taught(recipe) or recipe.method in choices.TRAIN_TOGETHER
    known_by_answers = recipe.cache is not None and not recipe.teacher.endswith(".keras")
    return ["teacher", "student"] if taught and not known_by_answers else ["student"]
