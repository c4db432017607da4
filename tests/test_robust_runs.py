"""Runs of robust methods: who is trained how, which epoch is kept, what is said, and refused."""

import json

import numpy as np
import pytest

import kdkeras
from kdkeras import choices, cli, data, recipe, stages, tables

SMALL = {
    "image_size": 8,
    "max_train": 200,
    "teacher": "mlp",
    "student": "mlp",
    "teacher_width": 32,
    "student_width": 16,
    "augment": "none",
    "optimizer": "adam",
    "learning_rate": 0.003,
    "epochs": 2,
    "batch_size": 50,
    "export": False,
    "quiet": True,
}


def small(tmp_path, **settings):
    settings = {**SMALL, "workdir": str(tmp_path / "run"), **settings}
    if settings.get("method") in choices.ADVERSARIAL or "teacher_method" in settings:
        settings = {"epsilon": 0.1, "attack_steps": 2, **settings}
    if settings.get("method") in choices.WITHOUT_TEACHER:
        del settings["teacher"]
    return recipe.Recipe(**settings)


def under_attack(path, splits, epsilon=0.1):
    images, labels = data.arrays(splits.test)
    model = kdkeras.runtimes.load(path).model
    return kdkeras.robustness.quick(model, images, labels, epsilon=epsilon, max_examples=1000)


def test_a_robust_run(tmp_path):
    run = small(tmp_path, method="rslad", epochs=4)
    results = kdkeras.run(run)
    splits = data.load("digits", image_size=8, max_train=200)
    assert set(results["models"]) == {"teacher", "control", "student"}
    for name, model in results["models"].items():
        found = under_attack(tmp_path / "run" / f"{name}.keras", splits)
        assert model["test"]["robust_accuracy"] == pytest.approx(found["robust"])
        assert model["test"]["robust_accuracy"] <= model["test"]["accuracy"]
        # The epoch that is kept is the best one under attack.
        log = np.genfromtxt(tmp_path / "run" / "logs" / f"{name}.csv", delimiter=",", names=True)
        best = model["training"]["best_epoch"]
        assert best == 1 + np.argmax(log["val_robust_accuracy"])
        assert model["training"]["best"]["val_robust_accuracy"] == max(log["val_robust_accuracy"])
    assert [term["loss"] for term in results["distillation"]["terms"]] == ["adversarial", "clean"]
    shares = [results["models"][name]["test"]["robust_accuracy"] for name in ("student", "control")]
    assert results["robust_gain"] == pytest.approx(shares[0] - shares[1])
    variance = sum(share * (1.0 - share) for share in shares) / 359
    assert results["robust_gain_standard_error"] == pytest.approx(variance**0.5)
    assert results["attack"] == {"epsilon": 0.1, "norm": "linf", "steps": 10, "examples": 359}
    shown = tables.results(results)
    assert "under PGD-10 on the margin, linf, epsilon 0.1" in shown
    assert f"under attack: {100 * results['robust_gain']:+.2f} points" in shown


def test_a_teacher_without_robustness_is_warned_of(tmp_path, capsys):
    settings = {"teacher_method": "labels", "control": False, "teacher_epochs": 20}
    kdkeras.run(small(tmp_path, method="ard", epsilon=0.3, epochs=1, **settings))
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "robustness to hand" in one]
    assert line.startswith("Warning: the teacher is right on ")
    assert "clean validation images, and on " in line
    assert "(epsilon 0.3, linf)" in line
    assert "--method=adversarial_training" in line


@pytest.mark.parametrize("method", choices.WITHOUT_TEACHER)
def test_controls_need_no_teacher(tmp_path, method):
    results = kdkeras.run(small(tmp_path, method=method))
    assert set(results["models"]) == {"control", "student"}
    how = stages.learns_by("control", small(tmp_path, method=method))
    assert how == ("labels" if method == "adversarial_training" else "adversarial_training")
    learned = [
        "val_robust_accuracy" in one["training"]["best"] for one in results["models"].values()
    ]
    assert learned == [how != "labels", True]


def test_who_is_trained_how(tmp_path):
    def how(name, **settings):
        return stages.learns_by(name, small(tmp_path, **settings))

    assert how("teacher", method="hinton") == "labels"
    assert how("teacher", method="gaussian") == "labels"
    assert how("teacher", method="rslad") == "adversarial_training"
    assert how("teacher", method="rslad", teacher_method="trades") == "trades"
    assert how("teacher", method="hinton", teacher_method="trades") == "trades"
    assert how("control", method="hinton") == how("control", method="gaussian") == "labels"
    assert how("control", method="ard") == "adversarial_training"
    assert how("student", method="ard") == "ard"


@pytest.mark.parametrize("method", ["iad", "adaad", "defensive", "gaussian"])
def test_other_methods_run(tmp_path, method):
    results = kdkeras.run(small(tmp_path, method=method, epochs=1, control=False))
    assert ("robust_accuracy" in results["models"]["student"]["test"]) == (
        method in choices.ADVERSARIAL
    )


def test_noise_of_the_gaussian_method(tmp_path):
    built = {
        name: kdkeras.models.mlp(input_shape=(8, 8, 3), num_classes=10, hidden=(4,))
        for name in ("teacher", "student")
    }
    splits = data.load("digits", image_size=8, max_train=200)
    made = stages.distillation(built, small(tmp_path, method="gaussian", noise_stddev=0.3), splits)
    assert made.perturbation.stddev == 0.3
    in_pipeline = small(tmp_path, method="gaussian", perturb_in="pipeline")
    assert stages.distillation(built, in_pipeline, splits).perturbation is None


def test_two_teachers(tmp_path):
    kdkeras.run(small(tmp_path / "clean", control=False, epochs=1))
    clean = tmp_path / "clean" / "run" / "teacher.keras"
    results = kdkeras.run(small(tmp_path, method="mtard", clean_teacher=str(clean), epochs=1))
    names = [term["loss"] for term in results["distillation"]["terms"]]
    assert names == ["adversarial", "clean"]


def test_a_peer_is_trained_with_the_student(tmp_path):
    results = kdkeras.run(small(tmp_path, method="peer", control=False))
    assert results["models"]["teacher"]["training"]["trained with"] == "student"
    assert (tmp_path / "run" / "teacher.keras").exists()


def test_recorded_answers_serve_an_attacked_student(tmp_path):
    results = kdkeras.run(small(tmp_path, method="rslad", views="1", control=False))
    assert results["cache"]["views"] == 1
    assert results["models"]["student"]["test"]["robust_accuracy"] >= 0.0


def test_a_robust_run_goes_on(tmp_path):
    run = small(tmp_path, method="trades", control=False)
    first = kdkeras.run(run)
    (tmp_path / "run" / "results.json").unlink()
    again = kdkeras.run(recipe.Recipe(**{**run.to_dict(), "resume": True}))
    assert again["models"]["student"]["test"] == first["models"]["student"]["test"]


def test_the_command(tmp_path, capsys):
    words = ["distill", "--method=trades", "--epsilon=8/255", "--noexport", "--nocontrol"]
    skipped = ("teacher", "export", "quiet")
    words += [f"--{name}={value}" for name, value in SMALL.items() if name not in skipped]
    words += ["--quiet", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "robust" in shown
    stored = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert stored["epsilon"] == pytest.approx(8 / 255)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "ard", "epsilon": 8.0},
            r"`epsilon` must be in pixels of \[0, 1\].*did you mean 8/255",
        ),
        ({"epsilon": -1.0}, "`epsilon` must be positive"),
        ({"epsilon": float("nan")}, "`epsilon` must be positive"),
        ({"attack_steps": 0}, "`attack_steps` must be at least 1"),
        ({"attack_norm": "l1"}, "`attack_norm` must be one of"),
        ({"teacher_method": "pgd"}, "`teacher_method` must be one of"),
        ({"epsilon": 0.1}, "`epsilon` would change nothing: it is a setting of methods that train"),
        ({"attack_steps": 5}, "`attack_steps` would change nothing"),
        ({"noise_stddev": 0.2}, "`noise_stddev` would change nothing"),
        ({"method": "gaussian", "noise_stddev": 25.0}, "`noise_stddev` must be in pixels of"),
        ({"method": "trades", "teacher": "a.keras"}, "`teacher` would change nothing"),
        ({"method": "trades", "teacher_method": "trades"}, "`teacher_method` would change nothing"),
        (
            {"method": "ard", "teacher": "a.keras", "teacher_method": "trades"},
            "`teacher_method` would change nothing",
        ),
        ({"method": "ard", "attack_norm": "l2"}, "`epsilon` must be given with attack_norm='l2'"),
        ({"method": "rslad", "perturbation": "gaussian"}, "makes its own perturbed pictures"),
        ({"method": "rslad", "augment": "crop,mixup"}, "mixup makes pictures that show two things"),
        ({"method": "mtard"}, "Method 'mtard', and no other, has a second teacher"),
        ({"clean_teacher": "a.keras"}, "Method 'mtard', and no other, has a second teacher"),
        ({"method": "adaad", "views": "2"}, "asks its teacher about perturbed pictures"),
        ({"method": "trades", "views": "2"}, "has no teacher"),
        ({"method": "peer", "views": "2"}, "trains its teacher"),
        ({"method": "defensive", "views": "2"}, "scales what its teacher says"),
    ],
)
def test_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        recipe.Recipe(**settings)


def test_temperature_is_not_a_setting_of_every_method(tmp_path):
    with pytest.raises(ValueError, match="`temperature` is not a setting of method 'rslad'"):
        kdkeras.run(small(tmp_path, method="rslad", temperature=2.0))
    assert not (tmp_path / "run").exists()
