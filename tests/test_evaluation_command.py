"""kdkeras evaluate: model files, runs and runs of several seeds, in tables that fit a terminal."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net

from kdkeras import cli, data, evaluation, runtimes, tables
from kdkeras.commands import evaluating, subjects, telling
from kdkeras.export import contents

RECIPE = {"dataset": "digits", "data_dir": None, "image_size": 8}
ROLES = ("teacher", "control", "student")
DIGITS = ("--dataset=digits", "--image_size=8")


def run(capsys, *words):
    capsys.readouterr()
    status = cli.main(["evaluate", *map(str, words)])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return status, said.out, said.err


def written(folder, *, width=4, seed=0):
    """A run's folder, made by hand."""
    keras.utils.set_random_seed(seed)
    folder.mkdir(parents=True)
    for role in ROLES:
        size = width + 4 * (role == "teacher")
        model = conv_net(size, channels=3, classes=10)
        kernel, bias = model.layers[-1].get_weights()
        model.layers[-1].set_weights([20.0 * kernel, bias])
        model.save(folder / f"{role}.keras")
    results = {"format": 1, "models": dict.fromkeys(ROLES, {}), "recipe": RECIPE}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    (folder / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("runs") / "digits")
    student = keras.models.load_model(folder / "student.keras")
    student.export(folder / "export" / "saved_model", verbose=False)
    return folder


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "several"
    for seed in (0, 1, 2):
        written(folder / f"seed-{seed}", seed=seed)
    results = {"format": 1, "seeds": [0, 1, 2], "models": {}, "recipe": RECIPE}
    results["runs"] = [f"seed-{seed}" for seed in (0, 1, 2)]
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def narrow(text):
    """Asserts that tables fit 80 columns: every line but those that show a file's path alone."""
    lines = [line for line in text.splitlines() if not re.match(r"^(Written: |  )?/", line)]
    assert max(map(len, lines)) <= 80
    return text


def split():
    return evaluation.collect(data.load("digits", image_size=8).test)


# -- a run -----------------------------------------------------------------------------------------


def test_a_run(capsys, work, tmp_path, monkeypatch):
    monkeypatch.setattr(
        evaluating.latency,
        "measure",
        lambda paths: [{"median_ms": 12.3456, "p95_ms": 20.0, "runs": 9} for _ in paths],
    )
    output = tmp_path / "found.json"
    status, out, err = run(capsys, work, "--details", "--latency", f"--output={output}")
    assert status == 0, err
    found = json.loads(output.read_text())
    (one,) = found["evaluations"]
    assert found["format"] == 1
    assert (one["run"], one["dataset"], one["images"]) == (str(work), "digits", 359)
    assert list(one["models"]) == [*ROLES, "saved_model"]
    images, labels = split()
    logits = {role: runtimes.load(work / f"{role}.keras")(images) for role in ROLES}
    models = {role: keras.models.load_model(work / f"{role}.keras") for role in ROLES}
    for role in ROLES:
        row = one["models"][role]
        expected = evaluation.scores(labels, logits[role])
        if role != "teacher":
            expected = evaluation.scores(labels, logits[role], logits["teacher"])
            expected["cka"] = evaluation.feature_similarity(models[role], models["teacher"], images)
        assert row["scores"] == pytest.approx(expected)
        assert row["details"] == evaluation.details(labels, logits[role])
        interval = evaluation.wilson(round(359 * expected["accuracy"]), 359)
        assert row["accuracy_interval"] == list(interval)
        assert row["cost"]["parameters"] == models[role].count_params()
        assert row["cost"]["latency"]["median_ms"] == 12.3456
    against = evaluation.compare(labels, logits["student"], logits["control"])
    assert one["models"]["student"]["against_control"] == against
    assert one["models"]["saved_model"]["against_control"] == against
    assert "against_control" not in one["models"]["control"]
    assert "cka" not in one["models"]["saved_model"]["scores"]

    narrow(out)
    scores = one["models"]["student"]["scores"]
    low, high = one["models"]["student"]["accuracy_interval"]
    shares = [100 * scores[key] for key in ("top_5", "f1", "precision", "recall")]
    for row in (
        rf"student +{100 * scores['accuracy']:.2f} +{100 * low:.1f} to {100 * high:.1f}"
        + "".join(f" +{share:.2f}" for share in shares),
        rf"student +{scores['nll']:.4f} +{scores['brier']:.4f} +{scores['ece']:.4f} "
        rf"+{scores['ece_scaled']:.4f} +{scores['temperature']:.3g}",
        rf"student +{scores['agreement']:.2%} +{scores['kl']:.4f} +{scores['cka']:.4f}",
        rf"student +{re.escape(format(100 * against['difference'], '+.2f'))} .* "
        rf"{against['only_first']} +{against['only_second']} +{against['p']:.2g}",
        rf"saved_model +{scores['agreement']:.2%} +{scores['kl']:.4f} +-",
        r"student +[\d.]+ +\d[\d,]+ +[\d.]+ +12.346 +20.000",
    ):
        assert re.search(f"^{row}$", out, re.MULTILINE), row
    assert "359 test images of digits" in out
    assert f"Written: {output}" in out
    assert out.count("confusions, a row the truth") == 4


def test_flags_come_before_the_run(capsys, work, tmp_path):
    words = [f"--teacher={work / 'control.keras'}", f"--control={work / 'teacher.keras'}"]
    output = tmp_path / "found.json"
    status, _, err = run(capsys, work, *words, f"--output={output}")
    assert status == 0, err
    (one,) = json.loads(output.read_text())["evaluations"]
    assert one["teacher"] == str(work / "control.keras")
    assert "agreement" in one["models"]["teacher"]["scores"]
    assert "agreement" not in one["models"]["control"]["scores"]
    assert "against_control" in one["models"]["control"]
    status, _, err = run(capsys, work, "--image_size=12")
    assert status == 1
    assert "takes images of shape (8, 8, 3); those of 'digits' have (12, 12, 3)" in err


def test_a_teacher_alone(capsys, work, tmp_path):
    folder = tmp_path / "teacher"
    shutil.copytree(work, folder)
    results = {"format": 1, "models": {"teacher": {}}, "recipe": RECIPE}
    (folder / "results.json").write_text(json.dumps(results))
    shutil.rmtree(folder / "export")
    status, out, err = run(capsys, folder)
    assert status == 0, err
    assert "Likeness" not in out
    assert "Against the control" not in out


# -- several seeds ---------------------------------------------------------------------------------


def test_several_seeds(capsys, repeated, tmp_path):
    output = tmp_path / "found.json"
    status, out, err = run(capsys, repeated, f"--output={output}")
    assert status == 0, err
    *each, over = json.loads(output.read_text())["evaluations"]
    assert [one["run"] for one in each] == [str(repeated / f"seed-{seed}") for seed in (0, 1, 2)]
    assert (over["run"], over["seeds"]) == (str(repeated), [one["run"] for one in each])
    for role in ROLES:
        values = [one["models"][role]["scores"]["accuracy"] for one in each]
        assert over["models"][role]["scores"]["accuracy"] == evaluation.across(values)
    accuracy = {role: over["models"][role]["scores"]["accuracy"]["values"] for role in ROLES}
    assert len(set(accuracy["student"])) > 1
    pairs = zip(accuracy["student"], accuracy["control"], strict=True)
    gains = over["models"]["student"]["against_control"]
    expected = evaluation.across([one - other for one, other in pairs])
    for name, value in gains.items():
        assert value == pytest.approx(expected[name])
    narrow(out)
    told = out.partition("Over 3 seeds")[2]
    mean, deviation = np.mean(accuracy["student"]), np.std(accuracy["student"], ddof=1)
    low, high = over["models"]["student"]["scores"]["accuracy"]["interval"]
    line = next(line for line in told.splitlines() if line.startswith("student"))
    shown = [f"{100 * mean:.2f}", f"({100 * deviation:.2f})"]
    assert line.split()[1:6] == [*shown, f"{100 * low:.1f}", "to", f"{100 * high:.1f}"]
    low, high = (100 * end for end in gains["interval"])
    said = f"{100 * gains['mean']:+.2f}", f"{100 * gains['standard_deviation']:.2f}"
    line = next(line for line in told.splitlines() if "+" in line and line.startswith("student"))
    assert line.split() == ["student", *said, f"{low:+.2f}", "to", f"{high:+.2f}"]


def test_a_seed_that_is_not_finished(capsys, repeated, tmp_path):
    folder = tmp_path / "several"
    shutil.copytree(repeated, folder)
    (folder / "seed-1" / "results.json").unlink()
    status, _, err = run(capsys, folder)
    assert status == 1
    assert f"'{folder / 'seed-1'}' is an unfinished run" in err
    shutil.rmtree(folder / "seed-1")
    status, _, err = run(capsys, folder)
    assert f"'{folder / 'seed-1'}' is no run: it has no results.json" in err


def test_one_seed_has_no_spread():
    over = {"scores": {key: evaluation.across([0.5]) for key in ("accuracy", "f1", "nll", "ece")}}
    over["against_control"] = evaluation.across([0.01])
    told = telling.over_seeds("r", {"seeds": ["a"], "models": {"student": over}})
    assert re.search(r"^student +50.00 \(-\) +- +50.00 \(-\) +-$", told, re.MULTILINE)
    assert re.search(r"^student +\+1.00 +- +-$", told, re.MULTILINE)


# -- model files -----------------------------------------------------------------------------------


def test_long_names_are_cut_and_listed(capsys, work, tmp_path):
    deep = tmp_path / "an_experiment_of_a_long_name" / "and_another"
    deep.mkdir(parents=True)
    paths = [deep / f"student_of_width_{width}_and_temperature_4.keras" for width in (1, 2, 3)]
    for path in paths:
        shutil.copy(work / "student.keras", path)
    status, out, err = run(
        capsys, *paths, *DIGITS, f"--control={paths[0]}", f"--teacher={paths[1]}"
    )
    assert status == 0, err
    narrow(out)
    for path in paths:
        assert f"\n  {path}\n" in f"{out}\n"
    assert len(re.findall(r"^studen[t.]\S+~?\S+ +\d+\.\d\d +\d", out, re.MULTILINE)) == 3
    # Equal to the control: no difference at all.
    assert re.search(r" \+0.00 .* 0 +0 +1$", out, re.MULTILINE)


def test_a_folder_of_pictures_in_the_models_size(capsys, tmp_path):
    for name, level in (("cat", 0), ("dog", 200)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            picture = np.full((20, 20, 3), level + number, np.uint8)
            file = tmp_path / "pets" / name / f"{number}.png"
            file.write_bytes(tf.io.encode_png(picture).numpy())
    conv_net(channels=3, classes=2).save(tmp_path / "m.keras")
    words = [tmp_path / "m.keras", f"--dataset=folder:{tmp_path / 'pets'}"]
    status, out, err = run(capsys, *words)
    assert status == 0, err
    assert "4 test images" in out
    assert "top-5" in out
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    status, _, err = run(capsys, *words)
    assert status == 1
    assert "or in another order: class 0 is 'dog' (in '" in err
    assert "labels.txt'), and 'cat' in the dataset" in err


def test_class_names_in_a_file(tmp_path):
    path = tmp_path / "student.tflite"
    path.write_bytes(b"a network")
    contents.add(path, {"labels": ["a", "b", "c"]})
    subjects.check_classes(path, ("a", "b", "c"), "letters")
    # The file's own names are those that count.
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    subjects.check_classes(path, ("a", "b", "c"), "letters")
    with pytest.raises(ValueError, match="class 1 is 'b' .*, and 'B' in the dataset"):
        subjects.check_classes(path, ("a", "B", "c"), "letters")
    with pytest.raises(ValueError, match="has 3 classes .*; 'letters' has 2"):
        subjects.check_classes(path, ("a", "b"), "letters")


def test_a_model_that_gives_nan(capsys, work, tmp_path):
    model = keras.models.load_model(work / "student.keras")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.nan * kernel, bias])
    model.save(tmp_path / "broken.keras")
    student, broken = work / "student.keras", tmp_path / "broken.keras"
    for words in ([broken], [student, f"--control={broken}"], [student, f"--teacher={broken}"]):
        status, _, err = run(capsys, *words, *DIGITS)
        assert status == 1
        assert f"'{broken}' cannot be evaluated: logits must be finite" in err


def test_what_is_no_run(capsys, work, tmp_path):
    student, empty = work / "student.keras", tmp_path / "empty"
    empty.mkdir()
    shutil.copy(work / "recipe.json", tmp_path)
    for words, message in (
        ([tmp_path], "is an unfinished run.*kdkeras distill --resume --workdir="),
        ([student, "/nowhere.tflite", "/none.keras"], "'/nowhere.tflite', which .*; '/none.keras'"),
        ([student, "--control=/nowhere.keras"], "'/nowhere.keras', which does not exist"),
        (
            [student, work],
            "not both.*Received: '.*digits', a work directory, and '.*student.keras'",
        ),
        ([empty, *DIGITS], "empty' is neither a model .* nor a run's work directory"),
    ):
        status, out, err = run(capsys, *words)
        assert (status, out) == (1, "")
        assert re.search(message, err, re.DOTALL), err


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("{", "results.json is not JSON, or is damaged"),
        ('{"format": 1}', "holds no results of kdkeras distill"),
        ('{"format": 7, "models": {}, "recipe": {}}', "must be of format 1. Received: format 7"),
        (
            '{"format": 1, "models": {"student": {}}, "recipe": {"dataset": "digits"}}',
            "'student.keras' is not there",
        ),
        ('{"format": 1, "models": {}, "recipe": {}}', "damaged: it does not say which dataset"),
    ],
)
def test_results_that_cannot_be_used(capsys, tmp_path, results, message):
    (tmp_path / "results.json").write_text(results)
    status, _, err = run(capsys, tmp_path)
    assert status == 1
    assert message in err


def test_output_is_checked_before_anything_is_done(capsys, work, tmp_path, monkeypatch):
    there = tmp_path / "there.json"
    there.write_text("years of work")
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "_evaluated", None)
        for output, message in (
            (there, "is there already. Give --overwrite to replace it"),
            (tmp_path, "which is a folder"),
            (tmp_path / "none" / "o.json", "is no folder"),
        ):
            status, _, err = run(capsys, work, f"--output={output}")
            assert status == 1
            assert message in err
    assert there.read_text() == "years of work"
    status, _, err = run(
        capsys, work / "student.keras", *DIGITS, f"--output={there}", "--overwrite"
    )
    assert status == 0, err
    assert json.loads(there.read_text())["format"] == 1


# -- tables ----------------------------------------------------------------------------------------


def details(classes, count):
    labels = np.arange(classes).repeat(count)
    logits = np.eye(classes)[np.roll(labels, count // 2)]
    return evaluation.details(labels, logits)


@pytest.mark.parametrize(("classes", "count"), [(2, 10), (12, 1000), (13, 20), (100, 4)])
def test_confusions_fit(classes, count):
    names = [f"a rather long class name, number {index}" for index in range(classes)]
    parts = telling._details("student", details(classes, count), names)
    narrow("\n".join(parts))
    matrix = "a row the truth" in parts[-1]
    assert matrix == (classes <= 12)
    if matrix:
        _, header, *rows = parts[-1].splitlines()[1:]
        assert header.split() == [str(index) for index in range(classes)]
        half = str(count // 2)
        assert rows[1].split()[-classes:][:2] == [half, half]
    else:
        rows = parts[-1].splitlines()
        assert len(rows) == 3 + 10
        assert rows[0] == f"student: the most frequent confusions, of {classes}"
        assert rows[3].endswith(f"{count // 2}        50.00%")


def test_a_matrix_that_would_not_fit_is_a_list():
    told = details(12, 1000)
    told["confusion"][0][0] = 1_000_000
    said = telling._details("student", told, [str(index) for index in range(12)])[-1]
    assert "the most frequent confusions" in narrow(said)


def test_no_confusions():
    labels = np.arange(20)
    told = evaluation.details(labels, np.eye(20))
    assert telling._details("m", told, list(map(str, labels)))[-1] == "m: no confusions"


def test_shortened():
    assert telling.shortened(["a", "b"]) == ["a", "b"]
    long = "a/b/" + "x" * 40
    assert telling.shortened([long]) == ["a/b/xxx..." + "x" * 14]
    alike = [f"runs/{'x' * 20}{letter}{'y' * 20}" for letter in "abc"]
    cut = telling.shortened(alike)
    assert len(set(cut)) == 3
    assert cut[1].endswith("~2")
    assert max(map(len, cut)) == 24
    # What they have in common goes first; a folder's name is not cut in two.
    paths = ["runs/experiments/one/student.keras", "runs/experiments/other/student.keras"]
    assert telling.shortened(paths) == ["one/student.keras", "other/student.keras"]


def test_scores_of_a_run_fit():
    test = evaluation.scores(np.array([0, 1]), np.eye(2), np.eye(2))
    told = tables.scores({"teacher": evaluation.scores(np.array([0, 1]), np.eye(2)), "s": test})
    assert told.splitlines()[0].split() == ["accuracy", "F1", "NLL", "ECE", "agreement", "KL"]
    assert told.splitlines()[1].split()[-2:] == ["-", "-"]
    full = {**test, "cka": 1.0, "robust_accuracy": 1.0}
    assert len(narrow(tables.scores({"quantized": full})).splitlines()) == 2
