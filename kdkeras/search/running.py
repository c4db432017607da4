"""`run`: a search from its space to its results."""

import contextlib
import dataclasses
import shutil
import time

from kdkeras import arguments, files, locks, runner, workdir
from kdkeras.search import (
    checks,
    ending,
    lines,
    settings,
    spaces,
    studies,
    trying,
    tutors,
    worlds,
)


def run(
    recipe,
    *,
    trials=20,
    minutes=None,
    space=None,
    objective="accuracy",
    robust_weight=0.5,
    robust_epsilon=8 / 255,
    compare_seeds=3,
    storage=None,
):
    """Searches the settings with which a student becomes best, by validation images alone.

    A teacher is trained once, or loaded; trials, proposed by Optuna's TPE, train students, of which
    successive halving (ASHA) stops the poor ones early, but none before 5 are whole. Trial 0 is the
    recipe as given, where the space holds it. Equal values are told apart by validation loss. The
    best is trained anew from several seeds beside the recipe as given, and both are tested, once.

    The same call goes on with a search that was stopped, and joins one that runs in another
    process: the budget is that of all together.

    Args:
        recipe: `kdkeras.Recipe`: the settings that do not vary. Its `workdir` is
            runs/<dataset>-search unless given.
        trials: How many trials, those that fail or are stopped early among them.
        minutes: None, or how long trials may take, all together; whichever of the two ends first.
        space: Text such as "temperature=1:16:log method=hinton|dkd weight_1=0.3:3:log";
            temperature, alpha and learning rate unless given.
        objective: "accuracy"; "mixed": `(1 - w) accuracy + w robust accuracy`; or "pareto":
            accuracy, and few parameters.
        robust_weight: `w` of "mixed", in [0, 1].
        robust_epsilon: Radius of its attack (PGD, linf), in pixels of [0, 1].
        compare_seeds: From how many seeds the winner is compared with the recipe as given; 0: it is
            not.
        storage: None for `study.db` in the work directory, or the URL of a database.

    Returns:
        The dict that `results.json` in the work directory holds: `winner` and `as_given` (their
        trials), `trials` (how many of each kind), `importance`, `comparison` (test accuracies, and
        the paired differences as `kdkeras.evaluation.across` gives them), `front` of "pareto" ...

    Raises:
        ValueError: Something in the settings, the space, the data or the work directory does not
            fit, and nothing was trained; or every trial failed.

    Example:

    >>> kdkeras.search.run(kdkeras.Recipe(), trials=20)["winner"]["settings"]
    {'temperature': 6.1, 'alpha': 0.22, 'learning_rate': 0.12}

    References:
        Bergstra et al., [Algorithms for Hyper-Parameter Optimization](
        https://papers.nips.cc/paper/4443), NeurIPS 2011; Li et al., [A System for Massively
        Parallel Hyperparameter Tuning](https://arxiv.org/abs/1810.05934), MLSys 2020.
    """
    studies.check_installed()
    budget = _Budget(arguments.integer("trials", trials, low=1), minutes)
    if minutes is not None:
        arguments.positive("minutes", minutes)
    arguments.integer("compare_seeds", compare_seeds, low=0)
    wanted = trying.Objective(name=objective, weight=robust_weight, epsilon=robust_epsilon)
    checks.recipe(recipe)
    recipe = dataclasses.replace(recipe, resume=False)  # which a search does in any case
    if recipe.workdir is None:
        recipe = dataclasses.replace(recipe, workdir=f"{recipe.directory}-search")
    place = storage or recipe.directory / studies.FILE
    policy = runner.precision_policy(recipe.precision_policy)
    with policy, studies.hushed(), studies.reached(place):
        # The default space lies around what the recipe says.
        entries = spaces.parse(spaces.default(recipe) if space is None else space)
        if space is not None:
            spaces.check_free(entries, recipe)
        splits = runner.load_data(recipe)
        own_weights = checks.space(entries, recipe, splits)
        with contextlib.ExitStack() as stack:
            study = _begun(recipe, entries, wanted, storage, stack)
            search = _Search(recipe, entries, own_weights, wanted, splits, study)
            search.train(budget)
            return ending.concluded(search, compare_seeds)


@dataclasses.dataclass(frozen=True)
class _Budget:
    trials: int
    minutes: float | None

    def is_spent(self, study):
        return studies.counted(study) >= self.trials or self.is_over(study)

    def is_over(self, study):
        return self.minutes is not None and studies.minutes(study) >= self.minutes


def _begun(recipe, entries, objective, storage, stack):
    """The study, and the work directory, which the stack holds for as long as the search runs."""
    folder = recipe.directory
    there = checks.claim(folder)
    if recipe.overwrite and there:
        with locks.idle(folder / "locks" / "running", folder):
            # Without its locks, what is left when this is killed would not be known as a search's.
            for path in [folder / name for name in there if name != "locks"]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    wanted = {
        "format": workdir.FORMAT,
        "recipe": settings.of_result(recipe),
        "space": {entry.name: entry.text.partition("=")[2] for entry in entries},
        "objective": objective.described(),
    }

    def opened():
        return studies.opened(
            folder, storage, wanted, directions=objective.directions, epochs=recipe.epochs
        )

    def first():
        files.sweep(folder)
        files.sweep(folder / "best")
        if storage is None:  # else processes may be at work that do not see this folder
            studies.abandon(opened())

    stack.enter_context(locks.joined(folder / "locks" / "running", first))
    study = opened()
    stored = {"format": workdir.FORMAT, **recipe.to_dict()}
    files.write_json(folder / "recipe.json", stored, sealed=True)
    return study


class _Search:
    """A search that is checked, and has its study.

    Attributes:
        recipe: `kdkeras.Recipe` as given.
        entries, own_weights: As of `kdkeras.search.spaces.parse` and `kdkeras.search.checks.space`.
        objective: `kdkeras.search.trying.Objective`.
        splits: `kdkeras.data.Splits`.
        study: `optuna.Study`.
        teacher: Path of the teacher that is trained here, or None.
    """

    def __init__(self, recipe, entries, own_weights, objective, splits, study):
        self.recipe, self.entries, self.own_weights = recipe, entries, own_weights
        self.objective, self.splits, self.study = objective, splits, study
        self.folder = recipe.directory
        corners = checks.corners(
            [entry for entry in entries if not entry.name.startswith("weight_")], recipe
        )
        self.teacher = tutors.prepared(recipe, corners, self.folder)
        digests = tutors.digests([tutors.with_teacher(one, self.teacher) for one in corners])
        with locks.held(self.folder / "locks" / "study"):
            checks.same_teachers(study, digests, self.folder)

    def refusal(self, chosen):
        """None, or why a recipe of the space cannot have these settings."""
        return settings.refusal(self.recipe, chosen, self.own_weights)

    def as_given(self):
        """The settings of the recipe as it is; None where the space does not hold it."""
        return settings.given(self.recipe, self.entries, self.own_weights, self.refusal)

    def recipe_of(self, chosen):
        """The recipe of a trial's settings, with the teacher of all trials."""
        made = settings.applied(self.recipe, chosen, self.own_weights)
        return tutors.with_teacher(made, self.teacher)

    def train(self, budget):
        """Trains trials until the budget is spent, and waits for those of other processes."""
        told = lines.Progress(self.study, budget, quiet=self.recipe.quiet)
        answers = tutors.Answers(self.splits, self.folder)
        kept = worlds.Worlds(self.splits)
        objective = trying.Trials(self, kept, answers, lambda: budget.is_over(self.study))
        try:
            while self._one(objective, budget, told):
                pass
        finally:
            answers.close()

    def _one(self, objective, budget, told):
        """Trains one trial, or waits a second for another process's; False once all are done."""
        import optuna

        optuna.storages.fail_stale_trials(self.study)
        # One process at a time looks at the budget and takes a trial; training is no part of it.
        with contextlib.ExitStack() as alone:
            alone.enter_context(locks.held(self.folder / "locks" / "budget"))
            if not budget.is_spent(self.study):
                self._train_one(objective, alone.close)
                told.trial()
                return True
        if not studies.running(self.study):
            return False
        told.waits()
        time.sleep(1.0)
        return True

    def _train_one(self, objective, begun):
        place = studies.free_place(self.study)
        self._enqueue(place)
        grouped = any(entry.choices is not None for entry in self.entries)
        self.study.sampler = studies.sampler(self.recipe.seed, place, grouped=grouped)

        def train(trial):
            trial.set_user_attr("place", place)
            return objective(trial, begun)

        self.study.optimize(train, n_trials=1, catch=(trying.Unmeasured,))

    def _enqueue(self, place):
        """Puts the settings in line that are tried next, if that is known: given, or cut short."""
        trials, living = self.study.get_trials(deepcopy=False), studies.living(self.study)
        if any(trial.state.name == "WAITING" for trial in trials):
            return
        if self.as_given() is not None and not any("as_given" in one.user_attrs for one in living):
            self.study.enqueue_trial(self.as_given(), user_attrs={"as_given": True})
            return
        dead = [one for one in trials if one.state.is_finished() and one not in living]
        for one in dead[::-1]:
            if studies.place(one) == place and "settings" in one.user_attrs:
                self.study.enqueue_trial(one.params)
                return
