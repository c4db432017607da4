"""What stopped commands leave, and what goes on with it; see `python -m tests.faults` for kills."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import optuna
import pytest
from conftest import conv_net, pictures
from test_cache_faults import fill_scores
from test_robustness import linear, linear_problem

from kdkeras import (
    certification,
    cli,
    export,
    files,
    locks,
    models,
    robustness,
    search,
)
from kdkeras import recipe as recipes
from kdkeras.commands import deploying
from kdkeras.export import writing
from kdkeras.search import studies

pytestmark = pytest.mark.usefixtures("quick_children")

BEING_WRITTEN = (
    rf"' is being written: process {os.getpid()} on \S+ has been at work since [\d-]{{10}} "
    r"[\d:]{8}\. Wait for it, or write elsewhere\."
)


class Killed(BaseException):
    """The process is gone."""


def killed(*_, **__):
    raise Killed


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# -- files ----------------------------------------------------------------------------------------


def test_what_was_half_written_goes_and_what_was_moved_aside_comes_back(tmp_path):
    for name in (".a.tmp-01234567.tar.gz", ".b.tmp-01234567", ".c.tmp-01234567.keras"):
        (tmp_path / name).write_text("half")
    for name in ("saved.tmp-01234567", "saved.tmp-01234567.old", "kept.tmp-89abcdef.old"):
        (tmp_path / f".{name}").mkdir()
        (tmp_path / f".{name}" / "whole").write_text(name)
    (tmp_path / "kept").mkdir()
    mine = (".a.tmp-mine.gz", ".a.tmp-0123456.x", "a.tmp-01234567", ".tmp-01234567", ".saved.old")
    for name in mine:
        (tmp_path / name).write_text("mine")
    files.sweep(tmp_path / "absent")
    files.sweep(tmp_path, ["c.keras", "saved"])
    assert (tmp_path / "saved" / "whole").read_text() == "saved.tmp-01234567.old"
    left = {".a.tmp-01234567.tar.gz", ".b.tmp-01234567", ".kept.tmp-89abcdef.old", "kept", "saved"}
    assert set(os.listdir(tmp_path)) == {*left, *mine}
    files.sweep(tmp_path)
    assert set(os.listdir(tmp_path)) == {"kept", "saved", *mine}


# -- locks ----------------------------------------------------------------------------------------


def test_the_first_to_join_tidies_up_alone(tmp_path):
    path, said = tmp_path / "running", []
    with locks.joined(path, lambda: said.append("first")):
        with locks.joined(path, lambda: said.append("second")):
            pass
        with pytest.raises(ValueError, match="a search is running"), locks.idle(path, tmp_path):
            pass

    def while_alone():
        with pytest.raises(ValueError, match="a search is running"), locks.idle(path, tmp_path):
            pass
        said.append("again")

    with locks.joined(path, while_alone):
        assert said == ["first", "again"]


def test_a_lock_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match=r"Could not write .*lock: .*Check that you may write"),
        locks.alone(tmp_path / "file" / "lock"),
    ):
        pass


def test_two_do_not_write_one_cache(tmp_path):
    path = tmp_path / "t.cache"
    with (
        locks.alone(locks.beside(path)),
        pytest.raises(ValueError, match="t.cache" + BEING_WRITTEN),
    ):
        fill_scores(path)
    assert contents(tmp_path) == {}
    fill_scores(path).close()
    whole = contents(tmp_path)
    assert list(whole) == ["t.cache"]
    # Killed as it was done, with its lock; after the parts were put together.
    (tmp_path / ".t.cache.lock").write_text("1 elsewhere 2020-01-01 00:00:00")
    (tmp_path / ".t.tmp-01234567.cache.partial").write_text("half")
    fill_scores(path).close()
    (tmp_path / "t.cache.part-1-of-2").write_bytes(whole["t.cache"])
    fill_scores(path, shard=(2, 2)).close()
    (tmp_path / ".t.tmp-01234567.cache.partial").unlink()
    assert contents(tmp_path) == whole
    path.unlink()
    (tmp_path / ".t.tmp-01234567.cache.partial").write_text("half")
    fill_scores(path).close()
    assert contents(tmp_path) == whole


# -- attack and certify ---------------------------------------------------------------------------


def test_two_do_not_write_one_report_of_attacks(tmp_path):
    kernel, bias, images, labels = linear_problem(3, count=20)
    given = {"epsilon": 0.1, "suite": "quick", "verbose": 0, "path": tmp_path / "r"}
    model = linear(kernel, bias)
    with (
        locks.alone(tmp_path / "r" / locks.NAME),
        pytest.raises(ValueError, match="r" + BEING_WRITTEN),
    ):
        robustness.evaluate(model, images, labels, **given)
    report = robustness.evaluate(model, images, labels, **given)
    names = set(contents(tmp_path))
    assert not any(".lock" in name for name in names)
    for left in (".report.tmp-01234567.json", "attacks/.fgsm.tmp-01234567.npz", locks.NAME):
        (tmp_path / "r" / left).write_text("1 elsewhere 2020-01-01 00:00:00")
    assert robustness.evaluate(model, images, labels, **given) == report
    assert set(contents(tmp_path)) == names


def test_who_is_killed_while_an_old_report_is_removed_goes_on(tmp_path, monkeypatch):
    kernel, bias, images, labels = linear_problem(3, count=20)
    given = {"epsilon": 0.1, "suite": "quick", "verbose": 0, "path": tmp_path}
    robustness.evaluate(linear(kernel, bias), images, labels, **given)
    other, unlink, calls = linear(kernel, bias + 0.3), os.unlink, []

    def killed_in_the_middle(path, **_):
        calls.append(path)
        if len(calls) == 3:
            raise Killed
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", killed_in_the_middle)
        with pytest.raises(Killed):
            robustness.evaluate(other, images, labels, **given, overwrite=True)
    assert list((tmp_path / "attacks").glob("*.npz"))  # of the old model
    with pytest.raises(ValueError, match="holds the attacks on something else"):
        robustness.evaluate(linear(kernel, bias), images, labels, **given)
    found = robustness.evaluate(other, images, labels, **given)
    fresh = robustness.evaluate(other, images, labels, **{**given, "path": None})
    assert [row["right"] for row in found["attacks"].values()] == [
        row["right"] for row in fresh["attacks"].values()
    ]


def test_two_do_not_write_one_file_of_certificates(tmp_path, monkeypatch):
    path = tmp_path / "radii.json"
    model, (images, _) = conv_net(), pictures()
    given = {"sigma": 0.25, "n": 100, "n0": 10, "verbose": 0, "path": path}
    with locks.alone(locks.beside(path)), pytest.raises(ValueError, match="json" + BEING_WRITTEN):
        certification.certify(model, images, **given)
    (tmp_path / ".radii.tmp-01234567.json").write_text("half")
    certification.certify(model, images, **given)
    assert list(contents(tmp_path)) == ["radii.json"]


def test_a_picture_of_others_is_not_replaced_by_certificates(tmp_path, capsys):
    (tmp_path / "radii.png").write_bytes(b"holiday")
    words = [str(tmp_path / "m.keras"), "--dataset=digits", f"--output={tmp_path / 'radii.json'}"]
    assert cli.main(["certify", *words]) == 1
    assert "radii.png' is there already, and not '" in capsys.readouterr().err
    assert contents(tmp_path) == {"radii.png": b"holiday"}


# -- export and quantize --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(1)
    return models.mlp(input_shape=(8, 8, 1), num_classes=3, hidden=(4,))


@pytest.fixture
def written(monkeypatch):
    """The kinds that were written; before the one that is put in front of it all ends."""
    write, kinds = writing.write, []

    def noted(model, path, kind, *args, **options):
        if kinds[:1] == [f"not {kind}"]:
            raise Killed
        kinds.append(kind)
        return write(model, path, kind, *args, **options)

    monkeypatch.setattr(writing, "write", noted)
    return kinds


def exported(student, folder, **options):
    images = options.pop("images", np.random.default_rng(0).random((8, 8, 8, 1), "float32"))
    given = {"kinds": ["saved_model", "float32", "float16"], "timed": False, **options}
    return export.flavours(student, folder, images, **given)


def test_a_stopped_export_goes_on_with_what_is_proved(student, written, tmp_path):
    whole = exported(student, tmp_path / "whole")
    written[:] = ["not float16"]
    folder = tmp_path / "e"
    with pytest.raises(Killed):
        exported(student, folder)
    assert written[1:] == ["saved_model", "float32"]
    unfinished = files.read_json(folder / "report.json")
    assert (list(unfinished["files"]), unfinished["unfinished"]) == (written[1:], ["float16"])
    # What it was about to write is replaced, though the report does not know it.
    (folder / "student.float16.tflite").write_text("half a record")
    with pytest.raises(ValueError, match="float16.tflite' is there already. Give `overwrite`"):
        exported(student, folder)
    written[:] = []
    found = exported(student, folder, resume=True)
    assert written == ["float16"]
    assert found["written"] == whole["written"] == ["saved_model", "float32", "float16"]
    assert "unfinished" not in found
    of_files = ("path", "sha256", "bytes")  # TensorFlow's folders have no fixed bytes
    for kind, row in found["files"].items():
        assert row["sha256"] == files.digest(row["path"])
        for name in set(row) - set(of_files):
            assert row[name] == whole["files"][kind][name]
    assert (folder / "student.tflite").read_bytes() == (
        tmp_path / "whole" / "student.tflite"
    ).read_bytes()
    written[:] = []
    assert exported(student, folder, resume=True) == found
    assert written == []


@pytest.mark.parametrize("changed", ["images", "class_names", "output", "student"])
def test_what_is_of_something_else_is_made_anew_or_refused(student, written, tmp_path, changed):
    written[:] = ["not float32"]
    with pytest.raises(Killed):
        exported(student, tmp_path)
    other = {
        "images": {"images": np.zeros((8, 8, 8, 1), "float32")},
        "class_names": {"class_names": ["a", "b", "c"]},
        "output": {"output": "logits"},
        "student": {},
    }[changed]
    model = keras.models.clone_model(student) if changed == "student" else student
    written[:] = []
    with pytest.raises(ValueError, match="saved_model' is there already. Give `overwrite`"):
        exported(model, tmp_path, **other, resume=True)
    found = exported(model, tmp_path, **other, resume=True, overwrite=True)
    assert written == found["written"] == ["saved_model", "float32", "float16"]


def test_files_of_others_stay_when_an_export_goes_on(student, tmp_path):
    (tmp_path / "student.tflite").write_text("theirs")
    with pytest.raises(ValueError, match="student.tflite' is there already. Give `overwrite`"):
        exported(student, tmp_path, resume=True)
    assert contents(tmp_path) == {"student.tflite": b"theirs"}
    (tmp_path / "student.tflite").unlink()
    (tmp_path / "labels.txt").write_text("theirs\n")
    with pytest.raises(ValueError, match="labels.txt' is there already, with other names"):
        exported(student, tmp_path, class_names=["a", "b", "c"])
    for theirs in ("[]", '{"files": 3}', '{"files": {"x": {}}}', '{"files": {}, "unfinished": 1}'):
        (tmp_path / "report.json").write_text(theirs)
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(ValueError, match="report.json' is no report of an export"):
                exported(student, tmp_path, **options)
        assert contents(tmp_path) == {"labels.txt": b"theirs\n", "report.json": theirs.encode()}


def test_two_do_not_export_to_one_folder(student, tmp_path):
    with (
        locks.alone(tmp_path / locks.NAME),
        pytest.raises(ValueError, match=tmp_path.name + BEING_WRITTEN),
    ):
        exported(student, tmp_path, overwrite=True)
    assert contents(tmp_path) == {}


def test_a_student_with_a_dead_layer_is_refused_as_int8(tmp_path):
    """LiteRT ends the whole process when it is to run such a file."""
    student = models.mlp(input_shape=(8, 8, 1), num_classes=3, hidden=(8, 8))
    for name in ("hidden1", "hidden2"):
        kernel, bias = student.get_layer(name).get_weights()
        student.get_layer(name).set_weights([kernel, bias - 100.0])
    images = np.random.default_rng(0).random((16, 8, 8, 1), "float32")
    with pytest.raises(ValueError, match="hidden1.* are 0 whatever the image is.*was the model"):
        export.tflite(student, tmp_path / "m.tflite", "int8", calibration=images)
    assert contents(tmp_path) == {}


def quantized(*words):
    return cli.main(["quantize", "--epochs=2", "--calibration_images=16", "--quiet", *words])


def test_quantize_goes_on(tmp_path, monkeypatch, capsys):
    words = ["--dataset=digits", "--max_train=60", "--teacher=mlp", "--teacher_width=4"]
    words += ["--student=mlp", "--student_width=4", "--epochs=1", "--noexport", "--nocontrol"]
    words += ["--quiet", f"--workdir={tmp_path}"]
    assert cli.main(["distill", *words]) == 0
    before = contents(tmp_path)
    assert quantized(f"--workdir={tmp_path}") == 0
    whole = contents(tmp_path)
    assert quantized(f"--workdir={tmp_path}", "--resume") == 1  # it is done
    told = capsys.readouterr().err
    assert "There is nothing unfinished to go on with, and " in told
    assert "would be replaced. Give --overwrite" in told
    # Killed once trained, and before that.
    flavours = deploying.exports.flavours

    monkeypatch.setattr(deploying.exports, "flavours", killed)
    with pytest.raises(Killed):
        quantized(f"--workdir={tmp_path}", "--overwrite", "--pixels=int8")
    monkeypatch.setattr(deploying.exports, "flavours", flavours)
    capsys.readouterr()
    assert quantized(f"--workdir={tmp_path}", "--resume") == 1
    assert "differ: pixels: 'int8' there, 'uint8' here" in capsys.readouterr().err
    monkeypatch.setattr(deploying.quantizing.stages, "fit", killed)  # not again
    assert quantized(f"--workdir={tmp_path}", "--resume", "--pixels=int8") == 0
    assert (set(contents(tmp_path)), set(before) <= set(whole)) == (set(whole), True)
    told = export.about(tmp_path / "export" / "student.int8.tflite")
    assert told["input"]["dtype"] == "int8"
    # A model that stands there from earlier is not taken for the one that was to be trained.
    with pytest.raises(Killed):
        quantized(f"--workdir={tmp_path}", "--overwrite")
    with pytest.raises(Killed):
        quantized(f"--workdir={tmp_path}", "--resume")


def test_a_child_of_a_process_that_is_gone_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    words = ["-m", "kdkeras.processes", str(gone.pid), "timeit", "-n1", "-r1", "while True: pass"]
    assert subprocess.run([sys.executable, "-P", *words], timeout=60, check=False).returncode == 1


# -- search ---------------------------------------------------------------------------------------


def test_places_are_given_again_and_the_dead_do_not_count(tmp_path):
    study = optuna.create_study(pruner=studies.pruner(12), direction="maximize")
    for number in range(7):
        assert studies.free_place(study) == number
        trial = study.ask()
        trial.set_user_attr("place", number)
        if number == 6:
            trial.report(0.99, 2)
            trial.should_prune()
            continue
        trial.report(0.5 + 0.01 * number, 2)
        trial.should_prune()
        study.tell(trial, 0.5)
    assert studies.counted(study) == 7
    studies.abandon(study)
    assert (studies.counted(study), studies.free_place(study)) == (6, 6)
    assert [studies.place(trial) for trial in studies.living(study)] == list(range(6))
    assert [trial.state.name for trial in study.get_trials()][6] == "FAIL"
    # The rung that the dead one climbed is no measure for others: 0.53 is in the better half.
    trial = study.ask()
    trial.set_user_attr("place", studies.free_place(study))
    trial.report(0.53, 2)
    assert not trial.should_prune()


def small(folder, **changed):
    return recipes.Recipe(
        max_train=60, teacher="mlp", teacher_width=4.0, student="mlp", student_width=4.0, epochs=1,
        batch_size=16, augment="none", quiet=True, workdir=str(folder), **changed,
    )  # fmt: skip


def test_a_search_goes_on_wherever_it_was_killed(tmp_path, monkeypatch):
    folder = tmp_path / "s"
    options = {"space": "alpha=0:0.9", "trials": 2, "compare_seeds": 0}
    # Before the study says what it is of; the tables are there whole or not at all.
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", killed)
        with pytest.raises(Killed):
            search.run(small(folder), **options)
    (folder / ".study.tmp-01234567.db").write_text("half")
    # A trial that some process was at.
    begun = optuna.load_study(study_name=studies.NAME, storage=f"sqlite:///{folder / 'study.db'}")
    results = search.run(small(folder), **options)
    begun.ask().set_user_attr("place", 2)
    more = search.run(small(folder, resume=True), **{**options, "trials": 3})
    states = [trial.state.name for trial in begun.get_trials()]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert sum(more["trials"].values()) == 3
    assert more["as_given"] == results["as_given"]
    assert not list(folder.glob(".*"))
    rows = (folder / "trials.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["0", "1", "2"]
    assert json.loads((folder / "recipe.json").read_text())["resume"] is False
    # While an old one is removed.
    (folder / "recipe.json").unlink()
    (folder / "best" / "recipe.json").unlink()
    anew = search.run(small(folder, overwrite=True), **{**options, "trials": 1})
    assert sum(anew["trials"].values()) == 1
