"""One trial of a search: the same training as a run's, traced once for all settings."""

import dataclasses

import keras
import numpy as np
import pytest

from kdkeras import distiller, recipe, runner, stages
from kdkeras.search import dials, worlds

FIRST = {"alpha": 0.3, "temperature": 2.0, "learning_rate": 0.05, "term_weights": "0.5"}
OTHER = {"alpha": 0.0, "temperature": 9.0, "learning_rate": 0.01, "term_weights": "2.0"}


@pytest.fixture(scope="module")
def splits():
    return runner.load_data(recipe.Recipe(max_train=80, quiet=True))


@pytest.fixture
def plain(tmp_path):
    """With all that has a state: Adam's moments, BatchNorm, noise; and a warm-up."""
    return recipe.Recipe(
        max_train=80,
        student="mlp",
        student_width=8.0,
        teacher="mlp",
        teacher_width=16.0,
        epochs=2,
        batch_size=16,
        optimizer="adam",
        perturbation="gaussian",
        quiet=True,
        workdir=str(tmp_path / "run"),
    )


def test_a_trial_is_the_training_of_a_run_and_is_traced_once(plain, splits, monkeypatch):
    traces, compute_loss = [], distiller.Distiller.compute_loss

    def counted(self, *args, **kwargs):
        traces.append(self)
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(distiller.Distiller, "compute_loss", counted)
    world = worlds.World(plain, splits, ["teacher", "student"], worlds.TURNED)
    found, counts = [], []
    for turned in (FIRST, OTHER, FIRST):
        world.fit(dataclasses.replace(plain, **turned))
        found.append(world.student.get_weights())
        counts.append(len(traces))
    assert counts[0] > 0
    assert counts == [counts[0]] * 3
    # A run keeps its best epoch: let it stay at the last one.
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_: None)
    settings = dataclasses.replace(plain, **FIRST)
    built = stages.build(settings, splits, ["teacher", "student"])
    before = built["student"].get_weights()
    stages.fit("student", built, settings, splits)
    wanted = built["student"].get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(wanted, before, strict=True)) > 1e-2
    for first, other, last, of_run in zip(*found, wanted, strict=True):
        np.testing.assert_array_equal(first, last)
        np.testing.assert_allclose(first, of_run, rtol=0.0, atol=1e-6)
        assert first.shape == other.shape
    assert max(np.abs(a - b).max() for a, b in zip(found[0], found[1], strict=True)) > 1e-2


def test_what_is_not_turned_makes_another_world(plain, splits, monkeypatch):
    made = []
    monkeypatch.setattr(worlds, "World", lambda *given: made.append(given) or len(made))
    kept = worlds.Worlds(splits, most=2)
    turned = {"temperature": 2.0}

    def of(**settings):
        return kept.of(dataclasses.replace(plain, **settings), turned, ["student"])

    assert [of(temperature=2.0), of(temperature=3.0), of(alpha=0.5), of(temperature=4.0)] == [
        *(1, 1, 2, 1)
    ]
    assert of(batch_size=8) == 3  # the oldest goes, that of another alpha
    assert [of(temperature=1.0), of(alpha=0.5)] == [1, 4]
    assert made[0][3] == ("temperature",)


def test_methods_whose_teacher_changes_are_begun_anew(plain, splits, monkeypatch):
    monkeypatch.setattr(worlds, "World", lambda *given: object())
    kept = worlds.Worlds(splits)
    mutual = dataclasses.replace(plain, method="mutual", temperature=2.0)
    names = ["teacher", "student"]
    assert kept.of(mutual, {"temperature": 2.0}, names) is not kept.of(mutual, {}, names)
    assert worlds.turned(mutual, {"temperature": 2.0}) == ()
    assert worlds.turned(plain, {"weight_1": 1.0, "augment": "crop"}) == ("term_weights",)


def test_dials():
    dial = dials.Dial(2.0)
    scaled = dials.Scaled(keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0), dial)
    constant = dials.Scaled(0.5, dial)
    assert [float(dial(7)), float(scaled(2)), float(constant(2))] == [2.0, 1.0, 1.0]
    dial.turn(3.0)
    assert [float(dial(7)), float(scaled(2)), float(constant(2))] == [3.0, 1.5, 1.5]
    assert dial.get_config() == {"value": 3.0}
