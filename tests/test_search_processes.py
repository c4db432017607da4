"""Processes that share a search, and processes that are killed in it."""

import os
import signal
import subprocess
import sys
import time

import keras
import optuna
import pytest

from kdkeras import locks, recipe, runner
from kdkeras.search import studies

TRIALS = 7
# A search whose trials take half a second and train nothing; killed ones are missed after 3 s.
SCRIPT = """
import sys, time
from kdkeras import recipe, search
from kdkeras.search import studies, tutors, worlds

studies.HEARTBEAT, studies.GRACE = 1, 3

class World:
    stop_training = False

    class student:
        count_params = staticmethod(lambda: 7)

    def fit(self, recipe, answers, callbacks):
        for epoch in range(recipe.epochs):
            time.sleep(0.25)
            found = 0.9 - recipe.alpha / 10 + 0.01 * epoch
            logs = {"loss": 1.0, "val_loss": 1.0 - found, "val_accuracy": found}
            for callback in callbacks:
                callback.set_params({"epochs": recipe.epochs})
                callback.set_model(self)
                callback.on_epoch_end(epoch, logs)
            if self.stop_training:
                return

worlds.Worlds.of = lambda *_: World()
tutors.Answers.of = lambda *_: None
folder, teacher, trials = sys.argv[1:]
settings = recipe.Recipe(
    max_train=80, student="mlp", student_width=8.0, epochs=2, batch_size=16, augment="none",
    quiet=True, workdir=folder, teacher=teacher,
)
search.run(settings, space="alpha=0:0.9", trials=int(trials), compare_seeds=0)
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    splits = runner.load_data(recipe.Recipe(max_train=80, quiet=True))
    inputs = keras.Input(splits.input_shape)
    features = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(splits.num_classes)(features))
    path = tmp_path_factory.mktemp("taught") / "teacher.keras"
    model.save(path)
    return str(path)


def started(folder, teacher):
    command = [sys.executable, "-c", SCRIPT, str(folder), teacher, str(TRIALS)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def trials_of(folder):
    # Whoever comes first to an empty database makes its tables: not beside a search that begins.
    with locks.held(folder / "locks" / "study"):
        if not (folder / "study.db").exists():
            return []
        url = f"sqlite:///{folder / 'study.db'}"
        return optuna.load_study(study_name=studies.NAME, storage=url).get_trials()


def wait_for_trial_of(process, folder, *, finished):
    """Waits until a process trains a trial, with so many of its own behind it."""
    begun = time.monotonic()
    while time.monotonic() - begun < 120:
        own = [
            trial.state.name
            for trial in trials_of(folder)
            if trial.user_attrs.get("process", "").endswith(f":{process.pid}")
        ]
        if "RUNNING" in own and len(own) > finished:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("no trial in two minutes")


def killed(process):
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_two_are_killed_and_the_third_ends_with_the_same_budget(tmp_path, teacher):
    folder = tmp_path / "shared"
    first = started(folder, teacher)
    wait_for_trial_of(first, folder, finished=1)
    killed(first)
    second, third = started(folder, teacher), started(folder, teacher)
    try:
        wait_for_trial_of(second, folder, finished=0)
        killed(second)
        _, said = third.communicate(timeout=180)
    finally:
        for process in (second, third):
            process.kill()
    assert third.returncode == 0, said
    trials = trials_of(folder)
    done = [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
    lost = [trial for trial in trials if trial.state.name == "FAIL"]
    assert len(done) == TRIALS
    assert len(done) + len(lost) == len(trials)
    # Nothing is drawn twice.
    assert len({trial.params["alpha"] for trial in done}) == TRIALS
    # What the killed ones were at is trained after all.
    assert 1 <= len(lost) <= 2
    for trial in lost:
        assert trial.params in [other.params for other in done]
    workers = {trial.user_attrs["process"].split(":")[-1] for trial in trials}
    assert workers == {str(process.pid) for process in (first, second, third)}
    assert (folder / "search.html").exists()
