"""The command line: help, wrong use, and small runs of every command."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import kdkeras
from kdkeras import cli, commands, data, files, models, recipe, versions

pytestmark = pytest.mark.usefixtures("quick_children")

# A run of seconds: the control, the noise, the mixed labels and the exports are all in it.
TINY = (
    *("--dataset=digits", "--max_train=100", "--epochs=1", "--batch_size=50", "--quiet"),
    *("--teacher=mlp", "--student=mlp", "--student_width=8", "--optimizer=adam"),
    "--learning_rate=0.001",
)


def run(capsys, *words):
    status = cli.main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# -- help and wrong use --------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_overview(capsys, words):
    status, out, err = run(capsys, *words)
    assert (status, err) == (0, "")
    for command in cli.COMMANDS:
        assert f"  {command} " in out


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_help_of_each_command(capsys, command):
    status, out, err = run(capsys, command, "--help")
    assert (status, err) == (0, "")
    assert f"Example:\n  kdkeras {command} " in out
    assert "Flags" in out
    assert max(map(len, out.splitlines())) <= 110
    if command == "distill":
        assert "--epochs (default: 12)" in out
        assert "--precision_policy (default: float32)" in out


def test_the_worked_examples_parse():
    for command, (_, example) in cli.COMMANDS.items():
        words = example.split()
        assert words[:2] == ["kdkeras", command]
        values = cli._define(command)
        values([command, *words[2:]])


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"{kdkeras.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["distil"], "(?s)`command` must be one of .*Did you mean 'distill'.*Try: kdkeras --help"),
        (["distill", "--temprature=4"], "Unknown command line flag 'temprature'.*temperature"),
        (["distill", "--temperature=warm"], "temperature=warm"),
        (["distill", "--temperature=0"], "--temperature must be positive"),
        (["attack", "a.keras", "--output=a\0b"], "Flags must be text without NUL characters"),
        (["attack", "a\0b"], "Flags must be text without NUL characters"),
        (["distill", "--alpha=2"], r"--alpha must be a number in \[0, 1\]"),
        (["distill", "--optimizer=adamm"], "Did you mean 'adam'"),
        (["distill", "digits"], "Flags are written --name=value. Received: digits"),
        (["train", "--student=mlp"], "Unknown command line flag 'student'"),
        (["distill", "--overwrite", "--resume"], "Give --overwrite or --resume, not both"),
        (
            ["distill", "--resume", "--workdir=nowhere", "--quiet"],
            "--resume needs a run to go on with. Received: --workdir=nowhere, where none is.",
        ),
        (["distill", "--flagfile=/nowhere/flags"], "/nowhere/flags"),
    ],
)
def test_wrong_use(capsys, words, message):
    status, out, err = run(capsys, *words)
    assert status == 2
    assert out == ""
    assert re.search(message, err), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset=digit"], "--dataset must be 'digits', 'folder:PATH' or"),
        (["--dataset=digit"], "Did you mean 'digits'"),
        (["--dataset=folder:/nowhere"], "--dataset must name an existing folder"),
        (["--teacher=resnt20"], "Did you mean 'resnet20'"),
        (["--teacher=/nowhere.keras"], "--teacher cannot be loaded from '/nowhere.keras'"),
        (["--batch_size=5000"], "--batch_size must be at most"),
        (["--augment=crop,flop"], "Did you mean 'flip'"),
        (["--student=a.keras"], "--student must be an architecture"),
        (["--student=mobilnet_v2"], "--student must be one of"),
        (["--student=mobilnet_v2"], "Did you mean 'mobilenet_v2'"),
    ],
)
def test_what_does_not_fit_is_said_before_training(capsys, tmp_path, words, message):
    work = tmp_path / "work"
    status, _, err = run(capsys, "distill", *TINY, f"--workdir={work}", *words)
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert not work.exists()


def test_a_set_that_is_not_there(capsys, tmp_path):
    words = ["--dataset=mnist", f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'w'}"]
    status, _, err = run(capsys, "distill", *TINY, *words)
    assert status == 1
    assert "not prepared" in err
    assert "--data_dir" in err
    assert "--download" in err
    assert "folder:PATH" in err


# -- one small run, and what can be done with it ---------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main(["distill", *TINY, f"--workdir={folder}"]) == 0
    return folder


def test_everything_is_written(work):
    assert {path.name for path in work.iterdir()} == {
        *("recipe.json", "results.json", "labels.txt", "logs", "export"),
        *("teacher.keras", "control.keras", "student.keras", "predictions.npz"),
    }
    assert (work / "labels.txt").read_text().split() == list("0123456789")
    results = json.loads((work / "results.json").read_text())
    for name in results["models"]:
        with zipfile.ZipFile(work / f"{name}.keras") as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights) as stored:
            assert "optimizer" not in stored
    for name, model in results["models"].items():
        assert set(model["training"]) >= {"best_epoch", "best", "last", "seconds"}
        assert 0 <= model["test"]["accuracy"] <= 1
        assert (work / "logs" / f"{name}.csv").exists()
    accuracy = {name: model["test"]["accuracy"] for name, model in results["models"].items()}
    assert results["gain"] == pytest.approx(accuracy["student"] - accuracy["control"])
    # At most the standard error of a difference of two independent shares.
    assert 0 < results["gain_standard_error"] < (2 * 0.25 / 359) ** 0.5
    assert set(results["environment"]) >= {"tensorflow", "keras", "python", "git_revision"}
    assert results["seconds"]["all"] > 0
    assert results["files"]["student.keras"] == files.digest(work / "student.keras")
    assert results["exports"]["files"]["float32"]["agreement"] == 1.0
    assert results["exports"]["failed"] == {}
    assert files.read_json(work / "export" / "report.json") == results["exports"]
    assert recipe.read(work / "recipe.json").learning_rate == 0.001


def test_written_models_give_the_written_figures(work):
    results = json.loads((work / "results.json").read_text())
    splits = data.load("digits")
    teacher = keras.models.load_model(work / "teacher.keras")
    student = keras.models.load_model(work / "student.keras")
    found = kdkeras.evaluate(student, splits.test, teacher=teacher)
    assert found == pytest.approx(results["models"]["student"]["test"], rel=1e-5)
    assert kdkeras.evaluate(teacher, splits.test) == results["models"]["teacher"]["test"]


def test_control_and_student_started_alike_and_learned_differently(work):
    control = keras.models.load_model(work / "control.keras").get_weights()
    student = keras.models.load_model(work / "student.keras").get_weights()
    difference = max(np.abs(c - s).max() for c, s in zip(control, student, strict=True))
    assert 0 < difference < 0.1  # two steps of Adam at 0.001 from one start


def test_evaluate(capsys, work):
    models_ = [work / "student.keras", work / "export/student.tflite", work / "export/saved_model"]
    words = [*map(str, models_), f"--teacher={work / 'teacher.keras'}"]
    status, out, _ = run(capsys, "evaluate", *words)
    assert status == 0
    accuracy = json.loads((work / "results.json").read_text())["models"]["student"]["test"]
    assert out.count(f" {100 * accuracy['accuracy']:.2f} ") >= 3
    assert "359 test images of digits" in out


def test_predict(capsys, work, tmp_path):
    splits = data.load("digits")
    image, _ = next(iter(splits.test))
    picture = tmp_path / "digit.png"
    picture.write_bytes(tf.io.encode_png(tf.cast(image * 255, tf.uint8)).numpy())
    said = []
    for model in ("student.keras", "export/student.tflite"):
        status, out, _ = run(capsys, "predict", str(picture), f"--model={work / model}")
        assert status == 0
        said.append(out)
    assert said[0] == said[1]
    student = keras.models.load_model(work / "student.keras")
    probabilities = np.asarray(keras.ops.softmax(student(image[None])))[0]
    best = int(np.argmax(probabilities))
    assert f"digit.png: {best} {probabilities[best]:.1%}, " in said[0]


def test_export(capsys, work, tmp_path):
    words = [f"--model={work / 'student.keras'}", f"--output={tmp_path / 'out'}"]
    status, out, _ = run(capsys, "export", *words, "--precision=float16")
    assert status == 0
    assert "Each file on 64 images." in out
    row = next(line for line in out.splitlines() if line.startswith("float16 "))
    assert row.split()[4] == "100.00%"
    assert (tmp_path / "out" / "student.float16.tflite").exists()
    assert (tmp_path / "out" / "labels.txt").exists()
    status, out, _ = run(capsys, "export", *words, "--nolatency")
    assert status == 0
    assert "saved_model: there already" in out
    assert "Written and measured earlier: saved_model, float16." in out
    status, _, err = run(capsys, "export", *words, "--logits")
    assert status == 1
    assert "is there already. Give --overwrite to replace it" in err
    status, out, _ = run(capsys, "export", *words, "--overwrite", "--formats=tflite")
    assert status == 0
    assert (tmp_path / "out" / "saved_model").exists()
    status, _, err = run(capsys, "export", *words, "--formats=tflight", "--overwrite")
    assert status == 1
    assert "Did you mean 'tflite'" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate"], "Name the model files"),
        (["evaluate", "/nowhere.keras"], "'/nowhere.keras', which does not exist"),
        (["predict", "a.png"], "--model must name a model file"),
        (["predict", "--model=m.keras"], "Name the pictures"),
        (["export"], "Give --workdir, or both"),
        (["export", "--workdir=/nowhere"], "--workdir must hold a student.keras"),
        (["export", "--model=m.h5", "--output=o"], "--model must be a .keras file"),
        (["export", "--model=m.keras", "--output=o"], "'m.keras', which does not exist"),
    ],
)
def test_wrong_use_of_the_other_commands(capsys, words, message):
    status, _, err = run(capsys, *words)
    assert status == 1
    assert message in err


def test_a_saved_distiller_is_no_student(capsys, tmp_path):
    made = kdkeras.Distiller(
        student=models.mlp(input_shape=(16, 16, 3), num_classes=2),
        teacher=models.mlp(input_shape=(16, 16, 3), num_classes=2),
    )
    made.save(tmp_path / "d.keras")
    status, _, err = run(capsys, "evaluate", str(tmp_path / "d.keras"))
    assert status == 1
    assert "holds a Distiller. Of a Distiller, save `distiller.student`" in err


def test_a_model_at_chance_is_reported(capsys, tmp_path):
    words = [*TINY, "--learning_rate=1e-9", "--nocontrol", "--noexport"]
    status, out, _ = run(capsys, "distill", *words, f"--workdir={tmp_path / 'w'}")
    assert status == 0
    assert "Warning: the student is at chance level" in out


def test_predict_names_bad_files(capsys, work, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    words = [str(tmp_path / "notes.png"), f"--model={work / 'student.keras'}"]
    status, _, err = run(capsys, "predict", *words)
    assert status == 1
    assert "notes.png' cannot be used as a picture" in err


# -- a work directory that is taken --------------------------------------------------------------


def test_results_are_never_replaced_unasked(capsys, work):
    before = files.digest(work / "results.json")
    status, _, err = run(capsys, "distill", *TINY, f"--workdir={work}")
    assert status == 1
    assert "--overwrite" in err
    assert "--resume" in err
    status, _, err = run(capsys, "distill", *TINY, f"--workdir={work}", "--resume")
    assert status == 1
    assert "is finished" in err
    assert files.digest(work / "results.json") == before


def test_overwrite_spares_what_is_not_a_runs(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    status, _, err = run(capsys, "distill", *TINY, f"--workdir={tmp_path}", "--overwrite")
    assert status == 1
    assert "thesis.txt" in err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_overwrite_and_resume(capsys, tmp_path, monkeypatch):
    from kdkeras import training

    words = ["distill", *TINY, f"--workdir={tmp_path / 'w'}", "--epochs=3", "--noexport"]
    assert cli.main(words) == 0
    whole = json.loads((tmp_path / "w" / "results.json").read_text())
    weights = keras.models.load_model(tmp_path / "w" / "student.keras").get_weights()

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2 and self.model.name == "distiller":
                raise KeyboardInterrupt

    def interrupted(model, *arguments, **options):
        fit = model.fit

        def with_interrupt(*a, callbacks, **o):
            return fit(*a, callbacks=[*callbacks, Interrupt()], **o)

        model.fit = with_interrupt
        return original(model, *arguments, **options)

    original = training.fit
    monkeypatch.setattr(training, "fit", interrupted)
    status, _, err = run(capsys, *words, "--overwrite")
    assert status == 130
    assert f"To go on: kdkeras distill --resume --workdir='{tmp_path / 'w'}'" in err
    monkeypatch.setattr(training, "fit", original)
    status, _, err = run(capsys, *words, "--resume", "--temperature=2")
    assert status == 1
    assert "temperature: None there, 2.0 here" in err
    assert cli.main(["distill", "--resume", f"--workdir={tmp_path / 'w'}"]) == 0
    resumed = json.loads((tmp_path / "w" / "results.json").read_text())
    for name in ("teacher", "control", "student"):
        assert resumed["models"][name]["test"] == pytest.approx(whole["models"][name]["test"])
    again = keras.models.load_model(tmp_path / "w" / "student.keras").get_weights()
    for now, then in zip(again, weights, strict=True):
        np.testing.assert_allclose(now, then, atol=1e-6)


# -- other settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dkd", "fitnet"])
def test_a_method_by_name(capsys, tmp_path, method):
    words = [*TINY, f"--method={method}", "--nocontrol", "--noexport", f"--workdir={tmp_path}"]
    status, _, err = run(capsys, "distill", *words)
    assert (status, err) == (0, "")
    results = files.read_json(tmp_path / "results.json")
    assert results["recipe"]["method"] == method
    name = {"dkd": "decoupled", "fitnet": "hint"}[method]
    (term,) = results["distillation"]["terms"]
    assert (results["distillation"]["alpha"], term["loss"]) == (0.5, name)
    assert name in (tmp_path / "logs" / "student.csv").read_text().splitlines()[0]


def test_frameworks_that_are_too_old(capsys, tmp_path, monkeypatch):
    def too_old():
        raise ImportError("kdkeras needs keras>=3.12. Received: keras 3.11.3.")

    monkeypatch.setattr(versions, "check", too_old)
    status, out, err = run(capsys, "distill", f"--workdir={tmp_path / 'w'}")
    assert (status, out) == (1, "")
    assert err == "kdkeras needs keras>=3.12. Received: keras 3.11.3.\n"
    assert not (tmp_path / "w").exists()


def test_out_of_memory(capsys, tmp_path, monkeypatch):
    def too_much(command, settings):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nat ...")

    monkeypatch.setattr(commands, "train", too_much)
    status, out, err = run(capsys, "distill", f"--workdir={tmp_path}")
    assert (status, out) == (1, "")
    assert err.startswith("kdkeras distill: there is not enough memory.")
    assert "Halve --batch_size or --image_size; --views (8, say) trains without the teacher" in err
    assert err.endswith("OOM when allocating tensor\n")


def test_verbose_quiet_and_weights_of_terms(capsys, tmp_path):
    short = ["distill", *TINY, "--nocontrol", "--noexport", f"--workdir={tmp_path / 'w'}"]
    status, out, err = run(capsys, *short, "--term_weights=1,2")
    assert status == 1
    assert "--term_weights must have one number for each of the method's terms: soft_targets" in err
    assert not (tmp_path / "w").exists()
    status, out, err = run(capsys, *short, "--term_weights=0.5")
    assert (status, err) == (0, "")
    assert "Results go to" not in out
    summary = out.partition("best epoch")[2].partition("Results:")[0]
    assert len(summary) > 200
    assert max(map(len, summary.splitlines())) <= 80
    (term,) = files.read_json(tmp_path / "w" / "results.json")["distillation"]["terms"]
    assert (term["weight"], term["temperature"]) == (0.5, 4.0)
    loud = [word for word in short if word != "--quiet"]
    status, out, _ = run(capsys, *loud, "--verbose", "--overwrite")
    assert status == 0
    for said in ("term_weights: None", "Total params", "Results go to", "accuracy: "):
        assert said in out


def test_mutual_learning_trains_both_and_resumes(capsys, tmp_path):
    words = [*TINY, "--method=mutual", "--nocontrol", "--noexport", f"--workdir={tmp_path}"]
    status, _, err = run(capsys, "distill", *words)
    assert (status, err) == (0, "")
    results = files.read_json(tmp_path / "results.json")
    header = (tmp_path / "logs" / "student.csv").read_text().splitlines()[0]
    assert "teacher_accuracy" in header
    assert results["models"]["teacher"]["training"]["trained with"] == "student"
    accuracy = results["models"]["teacher"]["test"]["accuracy"]
    written = keras.models.load_model(tmp_path / "teacher.keras")
    assert kdkeras.evaluate(written, data.load("digits").test)["accuracy"] == accuracy
    (tmp_path / "results.json").unlink()
    status, _, err = run(capsys, "distill", "--resume", f"--workdir={tmp_path}")
    assert (status, err) == (0, "")
    again = files.read_json(tmp_path / "results.json")
    assert again["models"]["teacher"]["test"] == results["models"]["teacher"]["test"]
    assert again["models"]["student"]["test"] == results["models"]["student"]["test"]


def test_a_student_born_again(capsys, work, tmp_path):
    words = [*TINY, "--method=born_again", f"--teacher={work / 'student.keras'}", "--nocontrol"]
    status, _, err = run(capsys, "distill", *words, "--noexport", f"--workdir={tmp_path}")
    assert (status, err) == (0, "")
    results = files.read_json(tmp_path / "results.json")["models"]
    assert results["teacher"]["parameters"] == results["student"]["parameters"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method=dkt"], "--method must be one of.*Did you mean.*'dkd'"),
        (
            ["--method=attention", "--temperature=2"],
            "--temperature is not a setting of method 'att",
        ),
        (["--method=born_again", "--teacher=mlp"], "needs a teacher of the student's architecture"),
    ],
)
def test_what_a_method_cannot_do_is_said_before_training(capsys, tmp_path, words, message):
    given = [*TINY, "--student=mobilenet_v2", "--student_width=0.35", f"--workdir={tmp_path}/w"]
    if words[0] == "--method=attention":
        given += ["--teacher=resnet20"]
    status, _, err = run(capsys, "distill", *given, *words)
    assert status in (1, 2)
    assert re.search(message, err, re.DOTALL)
    assert "Traceback" not in err
    assert not (tmp_path / "w").exists()


def test_train_then_distil_from_its_file(capsys, tmp_path):
    flags = [word for word in TINY if "student" not in word]
    status, out, _ = run(capsys, "train", *flags, f"--workdir={tmp_path / 't'}")
    assert status == 0
    assert "teacher" in out
    assert not (tmp_path / "t" / "student.keras").exists()
    teacher = tmp_path / "t" / "teacher.keras"
    settings = tmp_path / "settings.txt"
    settings.write_text("--nocontrol\n--noexport\n--perturbation=gaussian\n--noise_stddev=0.2\n")
    words = [*TINY, f"--teacher={teacher}", f"--workdir={tmp_path / 'd'}", f"--flagfile={settings}"]
    for place in ("step", "pipeline"):
        status, out, _ = run(capsys, "distill", *words, f"--perturb_in={place}", "--overwrite")
        assert status == 0
    results = json.loads((tmp_path / "d" / "results.json").read_text())
    assert set(results["models"]) == {"teacher", "student"}
    assert "gain" not in results
    assert results["models"]["teacher"]["training"]["loaded"] == str(teacher)
    of_file = keras.models.load_model(teacher)
    kept = keras.models.load_model(tmp_path / "d" / "teacher.keras")
    for ours, theirs in zip(kept.get_weights(), of_file.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_and_mixup(capsys, tmp_path, policy):
    words = [f"--precision_policy={policy}", "--augment=crop,mixup", "--optimizer=adamw"]
    words += [f"--workdir={tmp_path / 'w'}", "--nocontrol", "--schedule=constant"]
    status, out, err = run(capsys, "distill", *TINY, *words)
    assert status == 0, err
    assert "student.tflite" in out
    assert keras.config.dtype_policy().name == "float32"


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_logs(capsys, tmp_path, monkeypatch):
    words = ["distill", *TINY, "--nocontrol", "--noexport", "--tensorboard"]
    noisy = ["--perturbation=gaussian", "--noise_stddev=0.5"]
    status, _, err = run(capsys, *words, *noisy, f"--workdir={tmp_path / 'w'}")
    assert status == 0, err
    seen = {}
    for stage in ("teacher", "student"):
        folder = tmp_path / "w" / "logs" / "tensorboard" / stage
        for part in ("train", "validation"):
            assert {"epoch_accuracy", "epoch_loss"} <= set(events(folder / part).Tags()["tensors"])
        written = events(folder / "pictures")
        assert written.Tags()["graph"]
        wrong = tf.make_ndarray(written.Tensors("wrong validation images")[0].tensor_proto)
        log = (tmp_path / "w" / "logs" / f"{stage}.csv").read_text().splitlines()
        last = float(list(csv.DictReader(log))[-1]["val_accuracy"])
        images = round(float(wrong) / (1.0 - last))
        assert images == 144
        _, _, *pictures = written.Tensors("seen in training")[0].tensor_proto.string_val
        assert len(pictures) == 16
        seen[stage] = tf.image.decode_png(pictures[0]).numpy()
    # A digit's ground is even; noise of 0.5 is not.
    roughness = {stage: np.abs(np.diff(seen[stage].astype(int), axis=1)).mean() for stage in seen}
    assert roughness["student"] > 2 * roughness["teacher"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = run(capsys, *words, f"--workdir={tmp_path / 'none'}")
    assert status == 1
    assert "pip install 'kdkeras[tensorboard]'" in err
    assert not (tmp_path / "none").exists()


def test_a_teacher_of_other_classes_or_images(capsys, tmp_path):
    models.mlp(input_shape=(16, 16, 3), num_classes=7).save(tmp_path / "t.keras")
    words = [f"--teacher={tmp_path / 't.keras'}", f"--workdir={tmp_path / 'w'}"]
    status, _, err = run(capsys, "distill", *TINY, *words)
    assert status == 1
    assert "--teacher must take images of shape (16, 16, 3) and give 10 classes" in err


def test_no_chatter_from_tensorflow(tmp_path):
    """In a process of its own: what a terminal would show."""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    command = [sys.executable, "-m", "kdkeras", "distill", *TINY, f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for line in (done.stderr + done.stdout).splitlines():
        for noise in ("oneDNN", "absl", "tensorflow:", "I0000", "W0000", "E0000", "INFO:", "cuda"):
            assert noise not in line
