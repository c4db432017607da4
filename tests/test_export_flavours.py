"""A student in every form: proven, measured, reported; what fails leaves the rest as it was."""

import itertools
import pathlib
import shutil

import keras
import numpy as np
import pytest
from conftest import conv_net

from kdkeras import (
    cli,
    data,
    evaluation,
    export,
    files,
    latency,
    models,
    runtimes,
    tables,
)
from kdkeras.export import writing

pytestmark = pytest.mark.usefixtures("quick_children")


@pytest.fixture(scope="module")
def splits():
    return data.load("digits", image_size=8, max_train=300)


@pytest.fixture(scope="module")
def student(splits):
    """A small net that tells digits apart, so that agreement means something."""
    keras.utils.set_random_seed(3)
    model = conv_net(8, channels=3, classes=10)
    model.compile(
        keras.optimizers.Adam(0.02), loss=keras.losses.SparseCategoricalCrossentropy(True)
    )
    model.fit(splits.train.batch(32), epochs=15, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def test_images(splits):
    return data.arrays(splits.test)


@pytest.fixture(scope="module")
def report(student, splits, test_images, tmp_path_factory):
    return export.flavours(
        student,
        tmp_path_factory.mktemp("flavours") / "export",
        *test_images,
        kinds=["saved_model", "float32", "float16", "int8"],
        teacher=student,
        calibration=data.arrays(splits.train)[0][:64],
        class_names=splits.class_names,
    )


def test_each_file_is_measured_as_the_student_is(report, student, test_images):
    images, labels = test_images
    logits = evaluation.logits_of(student, images)
    assert report["failed"] == {}
    assert (report["images"], report["calibration"]) == (359, 64)
    assert report["student"]["test"] == evaluation.scores(labels, logits)
    assert report["student"]["test"]["accuracy"] > 0.6
    assert report["student"]["bytes"] == 4 * student.count_params()
    least = {"saved_model": 1.0, "float32": 1.0, "float16": 1.0, "int8": 0.97}
    for kind, row in report["files"].items():
        given = runtimes.load(row["path"])(images)
        assert row["test"] == pytest.approx(evaluation.scores(labels, given, logits), rel=1e-5)
        assert row["agreement"] == row["test"]["agreement"] >= least[kind]
        run = runtimes.load(row["path"])
        p, q = run.as_probabilities(run.given(images)), keras.ops.softmax(logits).numpy()
        assert row["largest_difference"] == pytest.approx(np.abs(p - q).max(), abs=1e-6)
        assert row["mean_difference"] == pytest.approx(np.abs(p - q).mean(), abs=1e-6)
        assert row["latency"]["runs"] == latency.RUNS
        assert 0 < row["latency"]["median_ms"] <= row["latency"]["p95_ms"]
    sizes = {kind: row["bytes"] for kind, row in report["files"].items()}
    assert sizes["float32"] > sizes["float16"]


def test_the_report_is_written_and_names_its_files(report):
    for row in report["files"].values():
        assert row["sha256"] == files.digest(row["path"])
    folder = pathlib.Path(row["path"]).parent
    assert files.read_json(folder / "report.json") == report
    assert (folder / "labels.txt").read_text().split() == list("0123456789")
    # BatchNormalization and ReLU are part of the convolutions.
    assert report["files"]["float32"]["operators"] == {
        "CONV_2D": 2,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }


def test_the_table_says_it_in_80_columns(report):
    table = tables.exports(report)
    lines = table.splitlines()
    assert lines[0].split()[:4] == ["KB", "takes", "accuracy", "agrees"]
    assert [line.split()[0] for line in lines[1:7]] == [
        *("teacher", "student", "saved_model", "float32", "float16", "int8")
    ]
    assert max(len(line) for line in lines if not line.startswith("Written")) <= 80
    accuracy = report["files"]["int8"]["test"]["accuracy"]
    assert f"uint8    {accuracy:.2%}" in lines[6]
    assert "Calibrated on 64 training images." in table
    assert "SOFTMAX" in table


def test_what_fails_is_named_and_leaves_the_rest(student, test_images, tmp_path, monkeypatch):
    images, labels = test_images
    (tmp_path / "student.float16.tflite").write_text("the last good one")
    write = writing.write

    def failing(model, path, kind, *args, **options):
        if kind == "float16":
            raise ValueError("The exported file (float16) is broken")
        return write(model, path, kind, *args, **options)

    monkeypatch.setattr(writing, "write", failing)
    report = export.flavours(
        student,
        tmp_path,
        images,
        labels,
        kinds=["float16", "float32"],
        overwrite=True,
        timed=False,
    )
    assert list(report["files"]) == ["float32"]
    assert "broken" in report["failed"]["float16"]
    assert "FAILED  float16: The exported file" in tables.exports(report)
    assert (tmp_path / "student.float16.tflite").read_text() == "the last good one"


def test_earlier_files_stay_in_the_report(student, test_images, tmp_path):
    images = test_images[0][:8]
    first = export.flavours(student, tmp_path, images, kinds=["float32"], timed=False)
    second = export.flavours(student, tmp_path, images, kinds=["float16"], timed=False)
    assert second["files"]["float32"] == first["files"]["float32"]
    assert second["written"] == ["float16"]
    table = tables.exports(second)
    assert "Written and measured earlier: float32." in table
    assert table.count("Written: ") == 1
    # Wherever the folder goes, the report goes with it.
    moved = shutil.copytree(tmp_path, tmp_path / "moved")
    third = export.flavours(student, moved, images, kinds=["dynamic"], timed=False)
    assert third["files"]["float32"]["path"] == str(moved / "student.tflite")
    # A file that is no longer what was reported is not in it.
    (tmp_path / "student.tflite").write_bytes(b"another")
    third = export.flavours(
        student, tmp_path, images, kinds=["float16"], timed=False, overwrite=True
    )
    assert list(third["files"]) == ["float16"]
    # What is there and would be the same stays; what would be another is refused.
    digest = files.digest(tmp_path / "student.float16.tflite")
    again = export.flavours(student, tmp_path, images, kinds=["float16"], timed=False)
    assert (again["written"], again["files"]) == ([], third["files"])
    assert files.digest(tmp_path / "student.float16.tflite") == digest
    other = keras.models.clone_model(student)
    kinds = ["saved_model", "float16"]
    for model, options in (
        (student, {"output": "logits"}),
        (student, {"pixels": "uint8"}),
        (student, {"class_names": list("0123456789")}),
        (other, {}),
    ):
        with pytest.raises(ValueError, match="is there already. Give `overwrite`"):
            export.flavours(model, tmp_path, images, kinds=kinds, **options)
    assert not (tmp_path / "saved_model").exists()


def test_bad_arguments(student, test_images, tmp_path):
    images = test_images[0][:8]
    with pytest.raises(ValueError, match="`kinds` must be one of.*Did you mean 'float16'"):
        export.flavours(student, tmp_path, images, kinds=["float61"])
    with pytest.raises(ValueError, match="`calibration` must be training images for int8"):
        export.flavours(student, tmp_path / "new", images, kinds=["float32", "int8"])
    assert not (tmp_path / "new").exists()
    for labels, said in (
        (test_images[1][:3], "must be 8 integers, one an image. Received: an array of shape .3,"),
        (np.arange(8) + 5, "label"),
        (np.eye(10)[:8], "must be 8 integers"),
    ):
        with pytest.raises(ValueError, match=said):
            export.flavours(student, tmp_path / "new", images, labels)
    for pixels, kinds in (("int8", ["float32"]), ("uint8", ["int16x8"])):
        given = {"pixels": pixels, "calibration": test_images[0][:16]}
        with pytest.raises(ValueError, match=f"`pixels` can be '{pixels}' for"):
            export.flavours(student, tmp_path / "new", images, kinds=kinds, **given)
    for bad, said in (
        (images[:, :4], r"shape \(images, 8, 8, 3\).*Received: an array of shape \(8, 4, 8, 3\)"),
        (images[:0], "Received: an array of shape"),
        (images * 255, "in .0, 1.: divide bytes by 255"),
        (images * np.nan, "in .0, 1."),
    ):
        with pytest.raises(ValueError, match=said):
            export.flavours(student, tmp_path / "new", bad)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`folder` must be a folder"):
        export.flavours(student, tmp_path / "file", images)
    with pytest.raises(ValueError, match="a place where one can be made"):
        export.flavours(student, tmp_path / "file" / "below", images)


def test_latency_of_what_cannot_be_read(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as a model"):
        latency.measure([tmp_path / "m.tflite"])


def test_a_report_without_latency(student, test_images, tmp_path, monkeypatch):
    def failing(paths):
        raise ValueError("no clock")

    monkeypatch.setattr(latency, "measure", failing)
    report = export.flavours(student, tmp_path, test_images[0][:8], kinds=["float32"])
    assert report["failed"] == {"latency": "no clock"}
    assert files.read_json(tmp_path / "report.json") == report
    assert "FAILED  latency: no clock" in tables.exports(report)


def test_what_stands_in_the_current_folder_is_not_run(tmp_path, monkeypatch, quick_children):
    run = quick_children  # the real one
    (tmp_path / "random.py").write_text("raise SystemExit('mine was run')")
    monkeypatch.chdir(tmp_path)
    done = run("kdkeras.latency")
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_latency_is_in_milliseconds(monkeypatch):
    ticks = itertools.count(0.0, 0.002)  # each look at the clock takes 2 ms
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(latency, "MOST", 1e9)
    found = latency.of(lambda: None)
    assert found["median_ms"] == pytest.approx(2.0)
    assert found["p95_ms"] == pytest.approx(2.0)
    assert found["runs"] == 200


def test_the_command_on_a_file_and_a_dataset(student, tmp_path, capsys):
    big = models.mlp(input_shape=(16, 16, 3), num_classes=10, hidden=(8,))
    big.save(tmp_path / "student.keras")
    words = [f"--model={tmp_path / 'student.keras'}", f"--output={tmp_path / 'out'}"]
    options = ["--dataset=digits", "--precision=int8", "--formats=tflite", "--pixels=int8"]
    assert cli.main(["export", *words, *options, "--calibration_images=32", "--logits"]) == 0
    assert "Calibrated on 32 training images." in capsys.readouterr().out
    told = export.about(tmp_path / "out" / "student.int8.tflite")
    assert (told["input"]["dtype"], told["output"]["name"]) == ("int8", "logits")
    assert told["labels"] == list("0123456789")
    for more, said in (
        (["--precision=int8"], "calibrated on training images: give --workdir, or"),
        (["--precision=float61"], "--precision must be one of 'float32'"),
        (["--dataset=digits", "--precision=int8", "--pixels=uint16"], "--pixels must be one of"),
        (["--formats=tflight"], "Did you mean 'tflite'"),
        (["--dataset=digits", "--precision=int8", "--calibration_images=3"], "at least 16"),
    ):
        assert cli.main(["export", *words, "--overwrite", *more]) == 1
        assert said in capsys.readouterr().err
    assert export.about(tmp_path / "out" / "student.int8.tflite") == told
