"""Runs and commands that learn from a teacher's recorded answers."""

import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import free_ports

import kdkeras
from kdkeras import cli, data, feeding, recipe, stages

SMALL = {
    "dataset": "digits",
    "max_train": 100,
    "epochs": 2,
    "teacher": "mlp",
    "student": "mlp",
    "student_width": 8,
    "export": False,
    "quiet": True,
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A finished run that recorded two views of each picture."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    results = kdkeras.run(kdkeras.Recipe(**SMALL, views="2", workdir=str(folder)))
    return folder, results


def test_a_run_records_its_teacher_and_learns_from_that(recorded):
    folder, results = recorded
    cache = kdkeras.cache.load(folder / "teacher.cache")
    assert cache.views == 2
    assert results["cache"]["views"] == 2
    assert "teacher.cache" in results["files"]
    splits = data.load("digits", max_train=100)
    teacher = keras.models.load_model(folder / "teacher.keras", compile=False)
    cache.check(teacher=teacher, split=splits.validation)
    for x, targets in cache.batches(splits.train, 50, seed=9):
        np.testing.assert_allclose(targets["logits"], teacher(x), rtol=2**-11, atol=1e-4)
    assert results["models"]["student"]["test"]["kl"] > 0.0


def test_the_cache_alone_gives_the_same_student_without_a_teacher(recorded, tmp_path):
    folder, results = recorded
    # The views of the cache are those of the run's seed; so are order and weights.
    settings = {**SMALL, "teacher": "resnet20", "cache": str(folder / "teacher.cache")}
    alone = kdkeras.run(kdkeras.Recipe(**settings, workdir=str(tmp_path / "run")))
    assert sorted(alone["models"]) == ["control", "student"]
    for name in ("control", "student"):
        assert alone["models"][name]["test"]["accuracy"] == pytest.approx(
            results["models"][name]["test"]["accuracy"], abs=1e-6
        )
    assert "agreement" not in alone["models"]["student"]["test"]


def test_the_control_sees_the_students_views(recorded):
    folder, _ = recorded
    splits = data.load("digits", max_train=100)
    settings = recipe.Recipe(
        **{**SMALL, "teacher": "resnet20"}, cache=str(folder / "teacher.cache")
    )
    answers = feeding.opened(settings, splits)
    of_student = feeding.batches("student", settings, splits, answers=answers)
    of_control = feeding.batches("control", settings, splits, answers=answers)
    for (x, targets), (x_control, label) in zip(of_student, of_control, strict=True):
        np.testing.assert_array_equal(x, x_control)
        np.testing.assert_array_equal(targets["label"], label)
        assert set(targets["view"].numpy().tolist()) == {0}


def test_layers_of_the_method_are_recorded(tmp_path):
    settings = {**SMALL, "method": "fitnet", "views": "1", "control": False, "epochs": 1}
    kdkeras.run(kdkeras.Recipe(**settings, workdir=str(tmp_path / "run")))
    assert kdkeras.cache.load(tmp_path / "run" / "teacher.cache").layers == ["hidden2"]


def test_all_views_are_the_crops_and_flips(recorded):
    splits = data.load("digits", max_train=100)
    views = feeding.views_of(recipe.Recipe(**SMALL, views="all"), splits)
    assert views["augment"].count == 9  # shifts of up to a pixel, not mirrored
    settings = recipe.Recipe(**SMALL, views="all", augment="crop,flip")
    assert feeding.views_of(settings, splits)["augment"].count == 18


def test_all_views_are_asked_for_as_they_are_seen(tmp_path):
    settings = {**SMALL, "views": "all", "control": False}
    results = kdkeras.run(kdkeras.Recipe(**settings, workdir=str(tmp_path / "run")))
    assert results["cache"]["augment"] == {"kind": "every_shift", "padding": 1, "flip": False}
    # Two epochs looked at one or two of the nine views of each training picture.
    with pytest.raises(ValueError, match="is not complete: 9[0-9].*% of it is not known yet"):
        kdkeras.cache.load(tmp_path / "run" / "teacher.cache")


def run(*words, capsys):
    status = cli.main(list(words))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_in_shards_and_what_it_refuses(recorded, tmp_path, capsys):
    folder, _ = recorded
    path = tmp_path / "t.cache"
    words = ["cache", "--dataset=digits", "--max_train=100", f"--output={path}", "--views=2"]
    teacher = f"--teacher={folder / 'teacher.keras'}"
    status, out, err = run(*words, teacher, "--shard=2/2", capsys=capsys)
    assert (status, path.exists()) == (0, False)
    assert "x 2 views x 10 classes in float16" in out
    status, out, err = run(*words, teacher, "--shard=1/2", capsys=capsys)
    assert (status, err) == (0, "")
    assert f"--cache='{path}'" in out
    assert path.read_bytes() == (folder / "teacher.cache").read_bytes()

    for extra, message in [
        (["--teacher=resnet20"], "--teacher must be a .keras file"),
        ([teacher, "--shard=0/2"], "i in 1 ... n"),
        ([teacher, "--shard=a"], "--shard must be i/n, such as 1/4. Received: 'a'"),
        ([teacher, "--seed=1", "--views=2"], "seed: 0 there, 1 here"),
        ([teacher, "--views=x"], "--views must be a positive number, or all. Received: views='x'"),
        ([teacher, "--augment=mixup"], "Mixup mixes what a batch happens to hold"),
        ([teacher, "--output=nowhere/t.cache"], "--output must be in a folder that exists"),
        ([teacher, "--layers=hiden"], "no layer 'hiden'"),
    ]:
        status, out, err = run(*words, *extra, capsys=capsys)
        assert status in (1, 2), extra
        assert message in err
        assert "Traceback" not in err
    assert path.read_bytes() == (folder / "teacher.cache").read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": "-1"}, "`views` must be a positive number, or all"),
        ({"views": "²"}, "`views` must be a positive number, or all"),
        ({"views": "9" * 5000}, "`views` must be a positive number, or all"),
        ({"views": "2", "method": "mutual"}, "Method 'mutual' trains its teacher"),
        ({"cache": "t", "augment": "crop,mixup"}, "Mixup mixes what a batch happens to hold"),
        ({"cache": "t", "teacher": "resnet56"}, "`teacher` is the .keras file that filled it"),
    ],
)
def test_recipes_that_cannot_be_recorded(settings, message):
    with pytest.raises(ValueError, match=message):
        recipe.Recipe(**settings)


def test_caches_that_do_not_fit_a_run(recorded, tmp_path):
    folder, _ = recorded
    path = str(folder / "teacher.cache")
    small = {**SMALL, "teacher": "resnet20", "cache": path, "workdir": str(tmp_path / "run")}
    for settings, message in [
        ({"method": "fitnet"}, "Method 'fitnet' needs the teacher's model beside its cache"),
        ({"teacher": str(folder / "student.keras")}, "the teacher's architecture and weights"),
        ({"augment": "none"}, "augment: .* there, null here"),
        ({"views": "3"}, "views: 2 there, 3 here"),
        ({"image_size": 8}, "was filled with other pictures"),
        ({"max_train": 120}, "does not hold"),
        ({"cache": str(folder / "recipe.json")}, "is not a kdkeras cache"),
        ({"views": "all", "augment": "flip"}, "countable views of crops and flips alone"),
        (
            {"method": "fitnet", "teacher": str(folder / "teacher.keras")},
            "compares layers that the cache .* does not hold: .'hidden2'",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            kdkeras.run(recipe.Recipe(**{**small, **settings}))
    assert not (tmp_path / "run").exists()


def test_a_finished_cache_is_taken_as_it_is_when_a_run_goes_on(recorded, tmp_path, monkeypatch):
    folder, results = recorded
    there = tmp_path / "run"
    there.mkdir()
    for name in ("recipe.json", "teacher.keras", "teacher.cache", "control.keras", "labels.txt"):
        (there / name).write_bytes((folder / name).read_bytes())
    (there / "logs").mkdir()
    for name in ("teacher.json", "control.json"):
        (there / "logs" / name).write_bytes((folder / "logs" / name).read_bytes())
    asked = []
    answers = stages.answers
    monkeypatch.setattr(stages, "answers", lambda *given: asked.append(1) or answers(*given))
    before = (there / "teacher.cache").stat().st_mtime_ns
    again = kdkeras.run(kdkeras.Recipe(**SMALL, views="2", workdir=str(there), resume=True))
    assert asked == [1]
    assert (there / "teacher.cache").stat().st_mtime_ns == before
    assert json.dumps(again["cache"]["teacher"]) == json.dumps(results["cache"]["teacher"])
    tests = [one["models"]["student"]["test"]["accuracy"] for one in (again, results)]
    assert tests[0] == pytest.approx(tests[1], abs=1e-6)


def two_workers(folder, *more):
    """The processes of a command that two workers carry out."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    words = [
        f"--{name}={value}" for name, value in SMALL.items() if name not in ("quiet", "export")
    ]
    command = [sys.executable, "-m", "kdkeras", "distill", *words, "--noexport", "--views=2"]
    command += ["--strategy=multiworker", f"--workdir={folder}", *more]
    return [
        subprocess.Popen(
            command,
            env={**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": task})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for task in ({"type": "worker", "index": index} for index in (0, 1))
    ]


def test_two_workers_run_one_command_and_go_on_after_one_was_killed(recorded, tmp_path):
    folder, results = recorded
    first, second = started = two_workers(tmp_path / "run")
    try:
        while not (tmp_path / "run" / "logs" / "control.csv").exists() and first.poll() is None:
            time.sleep(0.05)
        second.kill()
        told = first.communicate(timeout=300)[0]
        assert first.returncode == 1, told
        assert "another worker cannot be reached, or has ended. Give each worker its comm" in told
        assert "Traceback" not in told
        started += two_workers(tmp_path / "run", "--resume")
        said = [process.communicate(timeout=300)[0] for process in started[2:]]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started[2:]] == [0, 0], said
    assert "Results:" in said[0]
    assert "teacher: mlp" not in said[0]
    assert "Results:" not in said[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    for name in ("teacher", "control", "student"):
        ours, alone = (run["models"][name]["training"]["last"] for run in (found, results))
        assert ours == pytest.approx(alone, abs=1e-4)
        weights = [
            keras.models.load_model(path / f"{name}.keras", compile=False).get_weights()
            for path in (tmp_path / "run", folder)
        ]
        for one, other in zip(*weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
