"""Runs of several seeds: a folder a seed, figures over seeds, gains paired by seed."""

import dataclasses
import json
import math
import shutil
import statistics

import numpy as np
import pytest

import kdkeras
from kdkeras import cli, data, files, repeats, runner, workdir

SMALL = {
    "dataset": "digits",
    "max_train": 60,
    "epochs": 1,
    "batch_size": 30,
    "teacher": "mlp",
    "student": "mlp",
    "teacher_width": 16,
    "student_width": 4,
    "optimizer": "adam",
    "learning_rate": 0.003,
    "export": False,
    "quiet": True,
}


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """The folder of a run of seeds 3, 4, 5, and what it found."""
    folder = tmp_path_factory.mktemp("repeats") / "run"
    found = kdkeras.run(kdkeras.Recipe(**SMALL, seed=3, seeds=3, workdir=str(folder)))
    return folder, found


def test_figures_over_seeds(repeated):
    folder, found = repeated
    assert files.read_json(folder / "results.json") == json.loads(json.dumps(found))
    assert (found["seeds"], found["runs"]) == ([3, 4, 5], ["seed-3", "seed-4", "seed-5"])
    single = [files.read_json(folder / name / "results.json") for name in found["runs"]]
    accuracies = [run["models"]["student"]["test"]["accuracy"] for run in single]
    over = found["models"]["student"]["test"]["accuracy"]
    assert over["values"] == accuracies
    assert over["mean"] == pytest.approx(statistics.mean(accuracies), abs=1e-12)
    assert over["standard_deviation"] == pytest.approx(statistics.stdev(accuracies), abs=1e-12)
    gains = [
        run["models"]["student"]["test"]["accuracy"] - run["models"]["control"]["test"]["accuracy"]
        for run in single
    ]
    assert found["gain"]["values"] == pytest.approx(gains, abs=1e-12)
    # 4.3027 is the 97.5 % quantile of Student's t with two degrees of freedom.
    half = 4.302652729911275 * statistics.stdev(gains) / math.sqrt(3)
    low, high = found["gain"]["interval"]
    mean = statistics.mean(gains)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=1e-10)
    assert len(set(accuracies)) > 1


def test_a_seed_among_several_is_the_seed_alone(repeated, tmp_path):
    folder, _ = repeated
    alone = kdkeras.run(kdkeras.Recipe(**SMALL, seed=4, workdir=str(tmp_path / "alone")))
    among = files.read_json(folder / "seed-4" / "results.json")
    assert {role: model["test"] for role, model in alone["models"].items()} == {
        role: model["test"] for role, model in among["models"].items()
    }
    one, other = (
        files.read_arrays(path / "predictions.npz")
        for path in (tmp_path / "alone", folder / "seed-4")
    )
    for name in ("ids", "labels", "teacher", "control", "student"):
        np.testing.assert_array_equal(one[name], other[name])


def test_predictions_give_the_metrics_again(repeated):
    folder, _ = repeated
    stored = files.read_arrays(folder / "seed-3" / "predictions.npz")
    results = files.read_json(folder / "seed-3" / "results.json")
    assert len(stored["ids"]) == len(stored["labels"]) == results["dataset"]["test"] == 359
    for role, model in results["models"].items():
        right = stored[role].argmax(-1) == stored["labels"]
        assert model["test"]["accuracy"] == pytest.approx(right.mean(), abs=1e-12)
    pair = stored["student"].argmax(-1), stored["control"].argmax(-1)
    student, control = (said == stored["labels"] for said in pair)
    assert results["gain"] == pytest.approx(student.mean() - control.mean(), abs=1e-12)
    assert results["mcnemar"]["only_first"] == np.sum(student & ~control)
    assert results["mcnemar"]["only_second"] == np.sum(control & ~student)
    low, high = results["gain_interval"]
    assert low < results["gain"] < high
    assert 0.0 < results["models"]["student"]["test"]["cka"] < 1.0


def test_going_on(repeated, tmp_path, monkeypatch):
    folder, _ = repeated
    shutil.copytree(folder, tmp_path / "run")
    # Killed in the second of three seeds.
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "seed-4" / "results.json").unlink()
    shutil.rmtree(tmp_path / "run" / "seed-5")
    carried_out = []
    carry_out = runner.run

    def watched(recipe):
        carried_out.append((recipe.seed, recipe.resume))
        return carry_out(recipe)

    monkeypatch.setattr(runner, "run", watched)
    settings = {**SMALL, "seed": 3, "workdir": str(tmp_path / "run"), "resume": True}
    again = kdkeras.run(kdkeras.Recipe(**settings, seeds=3))
    assert carried_out == [(4, True), (5, False)]
    assert again["models"] == files.read_json(folder / "results.json")["models"]
    with pytest.raises(ValueError, match="whose run is finished"):
        kdkeras.run(kdkeras.Recipe(**settings, seeds=2))
    # A finished run takes more seeds.
    carried_out.clear()
    more = kdkeras.run(kdkeras.Recipe(**settings, seeds=4))
    assert carried_out == [(6, False)]
    assert more["gain"]["values"][:3] == again["gain"]["values"]
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(ValueError, match="differ: seeds: 4 there, 1 here"):
        kdkeras.run(kdkeras.Recipe(**settings, seeds=1))


def test_overwriting_and_refusing(repeated, tmp_path):
    folder, _ = repeated
    settings = {**SMALL, "seed": 3, "seeds": 3}
    with pytest.raises(ValueError, match="must be new or empty"):
        kdkeras.run(kdkeras.Recipe(**settings, workdir=str(folder)))
    shutil.copytree(folder, tmp_path / "run")
    workdir.claim(kdkeras.Recipe(**settings, workdir=str(tmp_path / "run"), overwrite=True))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.json"]
    with pytest.raises(ValueError, match="must be 1 with strategy='multiworker'"):
        kdkeras.run(kdkeras.Recipe(**settings, strategy="multiworker"))


def test_a_teacher_alone(tmp_path):
    settings = {**SMALL, "workdir": str(tmp_path / "run"), "seeds": 2}
    found = repeats.train(kdkeras.Recipe(**settings))
    assert set(found["models"]) == {"teacher"}
    assert "gain" not in found
    assert len(found["models"]["teacher"]["test"]["accuracy"]["values"]) == 2


def test_on_the_command_line(repeated, capsys, monkeypatch, tmp_path):
    _, found = repeated
    asked = []
    monkeypatch.setattr(repeats, "run", lambda recipe: asked.append(recipe) or found)
    words = ["--quiet", "--seed=3", "--seeds=3", f"--workdir={tmp_path}"]
    assert cli.main(["distill", *words]) == 0
    assert (asked[0].seed, asked[0].seeds) == (3, 3)
    said, _, where = capsys.readouterr().out.partition("Results:")
    assert str(tmp_path) in where
    assert max(map(len, said.splitlines())) <= 80
    mean = found["models"]["student"]["test"]["accuracy"]["mean"]
    assert f"{mean:.2%}" in said
    assert f"{100 * found['gain']['mean']:+.2f}" in said
    assert "over 3 seeds" in said


def test_few_validation_images_are_warned_of():
    splits = data.load("digits", verbose=0)
    words = (["control", "student"], "runs/x")
    assert "Warning" not in runner._header(kdkeras.Recipe(), splits, *words)
    few = dataclasses.replace(
        splits, validation=data.Examples(np.zeros((20, 16, 16, 3), "uint8"), np.zeros(20, int))
    )
    said = runner._header(kdkeras.Recipe(), few, *words)
    assert "chosen by 20 validation images, of which one is 5 points" in said


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds notes.txt and no run. Give another `workdir`"):
        kdkeras.run(kdkeras.Recipe(**SMALL, workdir=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
