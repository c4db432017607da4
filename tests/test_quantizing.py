"""Training for int8 as a run's last stage, and as a command on a finished run."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from kdkeras import cli, data, evaluation, export, quantization, quantizing, recipe, runtimes

pytestmark = pytest.mark.usefixtures("quick_children")

TINY = (
    *("--dataset=digits", "--max_train=100", "--epochs=1", "--batch_size=50", "--quiet"),
    *("--teacher=mlp", "--student=mlp", "--student_width=8", "--optimizer=adam"),
    "--learning_rate=0.01",
)
ROUNDED = ("--quantize=int8", "--quantize_epochs=2", "--quantize_learning_rate=0.003")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["distill", *TINY, *ROUNDED, "--nocontrol", f"--workdir={folder}"]
    assert cli.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def test_images():
    return data.arrays(data.load("digits").test)


def test_a_run_ends_with_a_file_that_was_trained_for_int8(work, test_images):
    images, labels = test_images
    results = json.loads((work / "results.json").read_text())
    model = keras.models.load_model(work / "quantized.keras")
    assert quantization.is_aware(model)
    logits = evaluation.logits_of(model, images)
    tested = results["models"]["quantized"]["test"]
    assert tested["accuracy"] == evaluation.scores(labels, logits)["accuracy"]
    assert results["seconds"]["quantized"] > 0
    assert results["files"]["quantized.keras"]
    trained = results["models"]["quantized"]["training"]
    assert 0 <= trained["before"] <= 1
    assert trained["epochs"] == 2
    assert trained["best_epoch"] in (0, 1, 2)
    # The file is the quantised model's, to a step of its output.
    row = results["exports"]["files"]["int8"]
    assert row["trained_for_int8"]["agreement"] == 1.0
    assert row["trained_for_int8"]["largest_difference"] <= 1 / 256
    assert results["exports"]["calibration"] == 0
    given = runtimes.load(row["path"])(images)
    assert row["test"]["accuracy"] == evaluation.scores(labels, given)["accuracy"]
    assert export.about(row["path"])["input"]["dtype"] == "uint8"


def test_the_student_itself_is_not_quantised(work):
    student = keras.models.load_model(work / "student.keras")
    assert not quantization.is_aware(student)
    rows = json.loads((work / "results.json").read_text())["exports"]["files"]
    assert rows["float32"]["trained_for_int8"] is None
    assert rows["float32"]["largest_difference"] <= 1e-5


def test_the_command_on_a_finished_run(work, capsys):
    words = ["quantize", f"--workdir={work}", "--epochs=1", "--calibration_images=64"]
    assert cli.main([*words]) == 1
    err = capsys.readouterr().err
    assert "quantized.keras" in err
    assert "Give --overwrite" in err
    before = (work / "student.keras").read_bytes()
    assert cli.main([*words, "--overwrite", "--pixels=int8", "--logits", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "On the validation split: student " in out
    assert "trained for int8 " in out
    assert (work / "student.keras").read_bytes() == before
    report = json.loads((work / "export" / "report.json").read_text())
    # The other files are as they were.
    assert set(report["files"]) == {"saved_model", "float32", "int8"}
    assert report["written"] == ["int8"]
    told = export.about(report["files"]["int8"]["path"])
    assert (told["input"]["dtype"], told["output"]["name"]) == ("int8", "logits")
    assert not (work / "backup").exists() or not (work / "backup" / "quantized").exists()


def test_without_a_teacher_the_student_teaches(work, tmp_path, capsys):
    for name in ("recipe.json", "student.keras"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    words = ["quantize", f"--workdir={tmp_path}", "--epochs=1", "--quiet"]
    assert cli.main(words) == 0
    assert (
        "No teacher.keras there: the student in float32 is the teacher" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give --workdir"),
        (["--workdir=/nowhere"], "recipe.json is expected"),
        (["--workdir=WORK", "--overwrite", "--pixels=uint16"], "--pixels must be one of"),
        (
            ["--workdir=WORK", "--overwrite", "--epochs=0"],
            "--epochs must be an integer of",
        ),
        (["--workdir=WORK", "--overwrite", "--learning_rate=0"], "must be positive"),
        (["--workdir=WORK", "--overwrite", "--calibration_images=3"], "at least 16"),
    ],
)
def test_wrong_use(work, capsys, words, said):
    before = (work / "quantized.keras").read_bytes()
    assert cli.main(["quantize", *(word.replace("WORK", str(work)) for word in words)]) == 1
    assert said in capsys.readouterr().err
    assert (work / "quantized.keras").read_bytes() == before


def test_never_worse_than_at_its_start(work):
    """A training that only does harm is undone."""
    stored = recipe.read(work / "recipe.json")
    stored = dataclasses.replace(
        stored, workdir=str(work), quantize_learning_rate=30.0, quantize_epochs=1
    )
    splits = data.load("digits", max_train=100)
    built = {
        name: keras.models.load_model(work / f"{name}.keras") for name in ("student", "teacher")
    }
    written = (work / "quantized.keras").read_bytes()
    model, record = quantizing.train(built, stored, splits)
    assert record["best"]["val_accuracy"] < record["before"]
    assert record["best_epoch"] == 0
    images = quantization.calibration_images(splits.train, 256, seed=stored.seed)
    begun = quantization.aware(built["student"], images)
    for now, then in zip(model.get_weights(), begun.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)
    (work / "quantized.keras").write_bytes(written)


@pytest.mark.parametrize("method", ["dkd", "fitnet", "rslad", "trades", "mutual"])
def test_the_method_of_this_stage(method):
    settings = recipe.Recipe(method=method, quantize="int8", alpha=None, precision_policy="float32")
    own = quantizing.recipe_of(settings)
    kept = method in ("dkd", "rslad")
    assert own.method == (method if kept else "hinton")
    assert (own.epochs, own.learning_rate, own.optimizer) == (5, 3e-4, "adam")
    assert (own.cache, own.views, own.quantize) == (None, None, "none")


def test_settings_that_would_change_nothing():
    with pytest.raises(ValueError, match="`quantize_epochs` would change nothing.*quantize='int8'"):
        recipe.Recipe(quantize_epochs=3)
    with pytest.raises(ValueError, match="`quantize` must be one of 'none', 'int8'"):
        recipe.Recipe(quantize="int4")
