"""Teachers that guess, that are worse than the control, or whose answers are no numbers."""

import json
import re

import keras
import numpy as np
import pytest

from kdkeras import (
    augment,
    cache,
    cli,
    evaluation,
    feeding,
    loading,
    models,
    recipe,
    runner,
    vigilance,
)

# A control that learns a little in seconds.
TINY = (
    *("--dataset=digits", "--max_train=100", "--epochs=3", "--batch_size=20", "--quiet"),
    *("--student=mlp", "--student_width=8", "--optimizer=adam", "--learning_rate=0.01"),
    "--noexport",
)


def given(**settings):
    return recipe.Recipe(max_train=60, quiet=True, student="mlp", **settings)


@pytest.fixture(scope="module")
def splits():
    return runner.load_data(given())


def network(splits, *, says=None, seed=3):
    """An untrained network; or one that says the same class of all pictures."""
    keras.utils.set_random_seed(seed)
    made = models.mlp(input_shape=splits.input_shape, num_classes=10, hidden=(4,))
    if says is not None:
        last = made.layers[-1]
        last.kernel.assign(np.zeros(last.kernel.shape))
        last.bias.assign(np.eye(10)[says])
    return made


class Knowing(keras.layers.Layer):
    """Says of each picture that it knows what it was told to."""

    def __init__(self, images, said):
        super().__init__()
        self.direction = np.random.default_rng(2).normal(size=images[0].size).astype("float32")
        self.known, self.said = images.reshape(len(images), -1) @ self.direction, said

    def call(self, x):
        mark = keras.ops.reshape(x, (-1, len(self.direction))) @ self.direction[:, None]
        nearest = keras.ops.argmin(keras.ops.abs(mark - self.known[None]), axis=1)
        return 5.0 * keras.ops.one_hot(keras.ops.take(self.said, nearest), 10)


def right_on(splits, right):
    """A model that is right on some validation images, by a mask, and wrong on the others."""
    images, labels = evaluation.collect(splits.validation)
    inputs = keras.Input(splits.input_shape)
    said = Knowing(images, np.where(right, labels, (labels + 1) % 10))
    made = keras.Model(inputs, said(inputs))
    np.testing.assert_allclose(share(splits, made), np.mean(right))
    return made


def share(splits, model):
    images, labels = evaluation.collect(splits.validation)
    return np.mean(evaluation.logits_of(model, images).argmax(axis=1) == labels)


# -- at chance -----------------------------------------------------------------------------------


def test_a_teacher_from_a_file_that_guesses_is_told_before_the_student_learns(splits, capsys):
    watched = vigilance.Warnings(given(teacher="x.keras"), splits)
    teacher = network(splits, says=3)
    watched.teacher({"teacher": teacher}, None)
    (said,) = watched.found
    count = len(splits.validation)
    assert said == (
        f"the teacher is at chance level ({share(splits, teacher):.1%} of {count} validation "
        "images; guessing among 10 classes gives 10.0%). It has nothing to teach. Are its classes "
        "in the order of the dataset's, and did it learn from pixels in [0, 1]?"
    )
    assert capsys.readouterr().out == f"Warning: {said}\n"


@pytest.mark.parametrize(("margin", "told"), [(0, True), (1, False)])
def test_two_standard_errors_above_guessing_are_chance_still(splits, margin, told):
    count = len(splits.validation)
    most = int(count * (0.1 + 2.0 * (0.09 / count) ** 0.5))
    teacher = right_on(splits, np.arange(count) < most + margin)
    watched = vigilance.Warnings(given(teacher="x.keras"), splits)
    watched.teacher({"teacher": teacher}, None)
    assert len(watched.found) == told


def test_a_teacher_known_by_its_answers_alone(splits, tmp_path, capsys):
    teacher = network(splits, says=3)
    settings = given(views="2", augment="crop")
    answers = feeding.fill(settings, teacher, splits, tmp_path / "t.cache")
    watched = vigilance.Warnings(settings, splits)
    watched.teacher({}, answers)
    accuracy = share(splits, teacher)
    assert f"({accuracy:.1%} of {len(splits.validation)} validation images;" in watched.found[0]
    of_training = cache.fill(tmp_path / "few.cache", teacher, splits.train, verbose=0)
    watched = vigilance.Warnings(given(), splits)
    watched.teacher({}, of_training)
    accuracy = np.mean(splits.train.labels == 3)
    assert f"({accuracy:.1%} of {len(splits.train)} training images;" in watched.found[0]


@pytest.mark.parametrize("views", ["2", "all"])
def test_recorded_answers_are_compared_on_the_pictures_that_were_seen(splits, tmp_path, views):
    teacher = network(splits)
    settings = given(views=views, augment="crop")
    answers = feeding.fill(settings, teacher, splits, tmp_path / "t.cache")
    said = vigilance.said_by_teacher({}, answers, splits)
    images, labels = evaluation.collect(splits.validation)
    np.testing.assert_array_equal(said.labels, labels)
    assert np.any(said.images != images)
    logits = evaluation.logits_of(teacher, said.images)
    np.testing.assert_allclose(said.logits, logits, atol=2e-3 * np.abs(logits).max())
    assert said.of == "validation images"
    answers.close()


def test_a_teacher_that_is_to_be_trained_is_not_looked_at_before(splits):
    watched = vigilance.Warnings(given(teacher="mlp"), splits)
    watched.teacher({"teacher": network(splits, says=3)}, None)
    together = vigilance.Warnings(given(teacher="mlp", method="mutual"), splits)
    models_ = {"teacher": network(splits), "control": network(splits)}
    together.teacher(models_, None)
    together.beside_control(models_, None)
    assert watched.found + together.found == []


def test_a_training_at_chance_is_told_by_its_record(splits, capsys):
    watched = vigilance.Warnings(given(), splits)
    watched.trained("control", {"best": {"val_accuracy": 0.1}})
    watched.trained("student", {"best": {"val_accuracy": 0.9}})
    watched.trained("teacher", {"loaded": "x.keras", "seconds": 0.0})
    assert watched.found == [
        "the control is at chance level (10.0% of the validation images). Train for more epochs, "
        "or with another learning rate."
    ]
    assert capsys.readouterr().out.startswith("Warning: the control is at chance level (10.0% of")


# -- worse than the control ----------------------------------------------------------------------


def test_a_teacher_that_is_worse_than_the_control_is_told_with_its_interval(splits, capsys):
    count = len(splits.validation)
    half, most = np.arange(count) % 2 == 0, np.arange(count) % 10 != 0
    built = {"teacher": right_on(splits, half), "control": right_on(splits, most)}
    images, labels = evaluation.collect(splits.validation)
    logits = [evaluation.logits_of(built[name], images) for name in ("teacher", "control")]
    found = evaluation.compare(labels, *logits)
    low, high = (100 * end for end in found["interval"])
    assert high < 0.0
    watched = vigilance.Warnings(given(teacher="x.keras"), splits)
    watched.teacher(built, None)
    watched.beside_control(built, None)
    assert watched.found == [
        f"the teacher is right on {half.mean():.1%} of {count} validation images, the control, "
        f"which learned from the labels alone, on {most.mean():.1%}: "
        f"{100 * (half.mean() - most.mean()):+.1f} points (95 % interval {low:+.1f} to "
        f"{high:+.1f}). It has little to teach: begin with a better one."
    ]
    assert capsys.readouterr().out == f"Warning: {watched.found[0]}\n"


def test_a_difference_that_may_be_chance_is_told_as_such(splits):
    count = len(splits.validation)
    built = {
        "teacher": right_on(splits, np.arange(count) > 1),
        "control": right_on(splits, np.arange(count) > 0),
    }
    watched = vigilance.Warnings(given(teacher="mlp"), splits)
    watched.beside_control(built, None)
    assert ", so that they may be as good). It has little to teach" in watched.found[0]
    as_good = vigilance.Warnings(given(teacher="mlp"), splits)
    as_good.beside_control({"teacher": built["control"], "control": built["control"]}, None)
    as_good.beside_control({"teacher": built["teacher"]}, None)
    as_good.beside_control({"control": built["control"]}, None)
    assert as_good.found == []


def test_the_teacher_is_asked_once(splits, monkeypatch):
    built = {"teacher": network(splits), "control": network(splits, seed=4)}
    asked = []
    of = evaluation.logits_of
    monkeypatch.setattr(
        evaluation, "logits_of", lambda model, x: asked.append(model) or of(model, x)
    )
    watched = vigilance.Warnings(given(teacher="x.keras"), splits)
    watched.teacher(built, None)
    watched.beside_control(built, None)
    assert asked == [built["teacher"], built["control"]]


# -- answers that are no numbers -----------------------------------------------------------------


def spoilt(splits, value):
    made = network(splits)
    kernel = made.layers[-1].kernel
    weights = kernel.numpy()
    weights[:, 2] = value
    kernel.assign(weights)
    return made


@pytest.mark.parametrize("role", ["teacher", "clean_teacher"])
def test_a_file_of_nan_is_refused(splits, tmp_path, role):
    made = spoilt(splits, np.nan)
    made.save(tmp_path / "nan.keras")
    path = made.layers[-1].kernel.path
    told = f"`{role}` must have weights that are numbers. Received: .*nan.keras' with NaN in .*"
    with pytest.raises(ValueError, match=told + path.rpartition("/")[2]):
        loading.load(str(tmp_path / "nan.keras"), role, splits)


def test_answers_that_overflow_are_refused_with_an_id(splits):
    watched = vigilance.Warnings(given(teacher="x.keras"), splits)
    count = len(splits.validation)
    made = spoilt(splits, np.inf)
    images, _ = evaluation.collect(splits.validation)
    wrong = np.flatnonzero(~np.isfinite(evaluation.logits_of(made, images)).all(axis=1))
    assert len(wrong) > 0
    told = (
        f"must give finite logits. Received: NaN or infinity for {len(wrong)} of {count} "
        f"validation images, the first with id {splits.validation.ids[wrong[0]]}. It has nothing"
    )
    with pytest.raises(ValueError, match=told):
        watched.teacher({"teacher": made}, None)


# -- by the command line -------------------------------------------------------------------------


def run(capsys, *words):
    status = cli.main(["distill", *TINY, *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_broken_teacher_is_refused_before_a_folder_is_made(splits, capsys, tmp_path):
    spoilt(splits, np.nan).save(tmp_path / "nan.keras")
    work = tmp_path / "work"
    status, out, err = run(capsys, f"--teacher={tmp_path / 'nan.keras'}", f"--workdir={work}")
    assert (status, out) == (1, "")
    assert "must have weights that are numbers" in err
    assert "nan.keras' with NaN in" in err
    spoilt(splits, np.inf).save(tmp_path / "inf.keras")
    status, out, err = run(capsys, f"--teacher={tmp_path / 'inf.keras'}", f"--workdir={work}")
    assert (status, out) == (1, "")
    assert "The teacher must give finite logits" in err
    assert not work.exists()


def test_a_training_that_is_stopped_says_whose_and_where(capsys, tmp_path):
    words = ["--teacher=mlp", f"--workdir={tmp_path / 'w'}", "--learning_rate=1e30"]
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    told = r"kdkeras distill: In training the teacher, the loss became nan in epoch 1, step (\d) "
    step = re.match(told, err).group(1)
    assert f"(optimizer.iterations: {step}; learning rate: " in err
    assert "; ids of its examples: " in err
    assert ", ... of 20)" in err
    assert "(1) a lower learning rate (it was " in err
    assert not list((tmp_path / "w").rglob("*.keras"))
    assert not list((tmp_path / "w").rglob("checkpoint*"))


def test_warnings_are_in_the_results(splits, capsys, tmp_path):
    network(splits, says=3).save(tmp_path / "t.keras")
    words = [f"--teacher={tmp_path / 't.keras'}", f"--workdir={tmp_path / 'work'}"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    found = json.loads((tmp_path / "work" / "results.json").read_text())["warnings"]
    assert [line for line in out.splitlines() if line.startswith("Warning: the teacher")] == [
        f"Warning: {said}" for said in found[:2]
    ]
    assert found[0].startswith("the teacher is at chance level (")
    assert found[1].startswith("the teacher is right on ")


def test_a_student_that_learns_from_answers_alone_is_warned(splits, capsys, tmp_path):
    everything = runner.load_data(recipe.Recipe(dataset="digits", max_train=100, quiet=True))
    teacher = network(splits, says=3)
    cache.fill(
        tmp_path / "t.cache",
        teacher,
        [everything.train, everything.validation],
        views=2,
        augment=augment.pipeline("crop", padding=1),
        verbose=0,
    ).close()
    words = [f"--cache={tmp_path / 't.cache'}", "--nocontrol", f"--workdir={tmp_path / 'w'}"]
    status, out, err = run(capsys, *words)
    assert (status, err) == (0, "")
    count = len(everything.validation)
    accuracy = np.mean(everything.validation.labels == 3)
    told = f"Warning: the teacher is at chance level ({accuracy:.1%} of {count} validation images;"
    assert told in out
