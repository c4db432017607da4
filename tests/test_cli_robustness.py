"""The commands that ask how much a model withstands: attack, certify, evaluate --corruptions."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdkeras
from kdkeras import certification, cli, corruptions, data, evaluation, robustness, tables

pytestmark = pytest.mark.usefixtures("quick_children")

DIGITS = ("--dataset=digits", "--image_size=8")


def run(capsys, *words):
    status = cli.main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small network, the same with its logits times 100, and its exports."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("models")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dense(32, activation="relu")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    images, labels = evaluation.collect(data.load("digits", image_size=8).train)
    model.fit(images, labels, epochs=20, batch_size=64, verbose=0)
    model.save(folder / "student.keras")
    keras.Model(inputs, keras.layers.Rescaling(100.0)(model(inputs))).save(folder / "loud.keras")
    kdkeras.export.tflite(model, folder / "student.tflite")
    return folder


# -- attack ---------------------------------------------------------------------------------------


def test_attack(capsys, folder, tmp_path):
    words = ["attack", str(folder / "student.keras"), *DIGITS, "--epsilon=16/255"]
    words += ["--suite=quick", "--max_images=60", f"--output={tmp_path / 'out'}"]
    status, out, err = run(capsys, *words)
    assert status == 0, err
    report = json.loads((tmp_path / "out" / "student.keras" / "report.json").read_text())
    splits = data.load("digits", image_size=8)
    images, labels = robustness.evenly(*evaluation.collect(splits.test), 60)
    model = keras.models.load_model(folder / "student.keras")
    settings = {"epsilon": 16 / 255, "suite": "quick", "verbose": 0}
    expected = robustness.evaluate(model, images, labels, **settings)
    assert report["worst_case"] == expected["worst_case"]
    assert report["threat_model"] == expected["threat_model"]
    assert report["threat_model"]["epsilon"] == 16 / 255
    assert "linf, epsilon 0.06275 = 16/255, white-box, 60 images, seed 0" in out
    for row in (report["clean"], *report["attacks"].values(), report["worst_case"]):
        assert re.search(rf"^{re.escape(row['title'])} +{row['accuracy']:.2%} ", out, re.MULTILINE)
    assert out.count("passed  ") == 5
    assert "-       attack without gradients: not run" in out
    assert f"student.keras: {report['verdict']}" in out
    table = [line for line in out.splitlines() if str(folder) not in line]
    assert max(map(len, table[:-3])) <= 80
    before = (tmp_path / "out" / "student.keras" / "attacks" / "fgsm.npz").stat().st_mtime_ns
    status, again, _ = run(capsys, *words)
    assert (status, again) == (0, out)  # the seconds too: nothing was run again
    after = (tmp_path / "out" / "student.keras" / "attacks" / "fgsm.npz").stat().st_mtime_ns
    assert after == before
    status, _, err = run(capsys, *words, "--epsilon=0.1")
    assert status == 1
    assert "holds the attacks on something else (epsilon: 0.0627450980" in err
    assert "--overwrite" in err
    assert "Traceback" not in err


def test_attack_says_what_cannot_be_believed(capsys, folder):
    loud, tflite = folder / "loud.keras", folder / "student.tflite"
    words = ["attack", str(loud), str(tflite), *DIGITS, "--epsilon=0.1", "--suite=quick"]
    words += [f"--surrogate={folder / 'student.keras'}", "--max_images=40"]
    status, out, _ = run(capsys, *words)
    assert status == 1
    assert re.search(r"FAILED  zero gradients: \d+\.\d % of the examples have no gradient", out)
    assert "FAILED  cross-entropy against margin" in out
    assert f"{loud}: not reliable: zero gradients, cross-entropy against margin" in out
    assert f"Warning: of {loud} no figure but the worst case means anything" in out
    assert f"{tflite}: accuracy" in out
    assert f"by transfer from {folder / 'student.keras'}: an upper bound of robustness" in out
    assert "-       all gates: not applicable" in out
    # Everything was written, beside the models.
    for name in ("loud.keras", "student.tflite"):
        written = {path.name for path in (folder / "attack" / name).iterdir()}
        assert written == {"report.json", "curve.png", "adversarial.png", "attacks"}


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["attack"], 1, "Name the model files to attack"),
        (["attack", "/nowhere.keras"], 1, "does not exist"),
        (["attack", "STUDENT", "--epsilon=8"], 1, "--epsilon is in pixels .* Did you mean 8/255?"),
        (["attack", "STUDENT", "--epsilon=-1/255"], 1, "--epsilon must be positive"),
        (["attack", "STUDENT", "--epsilon=eight"], 2, "epsilon=eight"),
        (["attack", "STUDENT", "--epsilon=8/0"], 2, "it divides by 0"),
        (["attack", "STUDENT", "--norm=l3"], 1, "--norm must be one of 'linf', 'l2'"),
        (["attack", "STUDENT", "--suite=standart"], 1, "Did you mean 'standard'"),
        (["attack", "STUDENT", "--surrogate=STUDENT"], 1, "--surrogate is for .tflite files"),
        (["attack", "TFLITE"], 1, "Give --surrogate"),
        (["attack", "STUDENT", "--image_size=12"], 1, r"takes images of shape \(8, 8, 3\)"),
        (["certify"], 1, "Name one model file"),
        (["certify", "STUDENT", "--sigma=0"], 1, "--sigma must be positive"),
        (["certify", "STUDENT", "--n=5"], 1, "--n must be"),
        (["certify", "STUDENT", "--output=c.csv"], 1, "--output must end in .json"),
        (["evaluate", "STUDENT", "--corruptions=/nowhere"], 1, "existing folder"),
    ],
)
def test_wrong_use(capsys, folder, tmp_path, monkeypatch, words, status, message):
    monkeypatch.chdir(tmp_path)
    paths = {"STUDENT": folder / "student.keras", "TFLITE": folder / "student.tflite"}
    for name, path in paths.items():
        words = [word.replace(name, str(path)) for word in words]
    sized = [] if any("image_size" in word for word in words) else ["--image_size=8"]
    found, out, err = run(capsys, *words, *sized)
    assert found == status
    assert out == ""
    assert re.search(message, err), err
    assert "Traceback" not in err


def test_models_of_one_name_have_reports_of_their_own(capsys, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    paths = [folder / "student.keras", other / "student.keras"]
    paths[1].write_bytes((folder / "loud.keras").read_bytes())
    words = ["--suite=quick", "--max_images=20", "--epsilon=0.2", f"--output={tmp_path / 'out'}"]
    status, _, err = run(capsys, "attack", *map(str, paths), *DIGITS, *words)
    assert status == 1, err  # for the loud one
    names = {path.parent.name for path in (tmp_path / "out").glob("*/report.json")}
    assert names == {f"{folder.name}-student.keras", "other-student.keras"}
    twice = [str(paths[0])] * 2
    status, _, err = run(capsys, "attack", *twice, *DIGITS, *words)
    assert status == 1
    assert "Each model must have a report of its own" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--norm=l2"], "--epsilon must be given with --norm=l2"),
        (["--max_images=0"], "--max_images must be an integer of at least 1"),
    ],
)
def test_nothing_is_attacked_by_a_slip(capsys, folder, tmp_path, words, message):
    path = str(folder / "student.keras")
    status, _, err = run(capsys, "attack", path, *DIGITS, f"--output={tmp_path / 'out'}", *words)
    assert status == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_few_images_are_warned_of(capsys, folder, tmp_path):
    words = [str(folder / "student.keras"), *DIGITS, "--suite=quick", "--max_images=3"]
    status, out, err = run(capsys, "attack", *words, f"--output={tmp_path}")
    assert status in (0, 1)
    assert "Warning: 3 images of 10 classes: not even one for each" in out
    assert "UserWarning" not in err


def test_help_teaches(capsys):
    for command in ("attack", "certify"):
        status, out, _ = run(capsys, command, "--help")
        assert status == 0
        assert "in pixels of [0, 1]" in out
        assert max(map(len, out.splitlines())) <= 80
    status, out, _ = run(capsys, "attack", "--help")
    assert "0.03, or 8/255" in out
    assert "8/255 unless given" in " ".join(out.split())


def test_fractions_on_the_command_line():
    values = cli._define("attack")
    values(["attack", "--epsilon=8/255"])
    assert values.epsilon == 8 / 255
    values = cli._define("distill")
    values(["distill", "--epsilon=4/255", "--alpha=0.5"])
    assert (values.epsilon, values.alpha) == (4 / 255, 0.5)


# -- certify --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["student.keras", "student.tflite"])
def test_certify(capsys, folder, tmp_path, name):
    output = tmp_path / "c.json"
    words = ["certify", str(folder / name), *DIGITS, "--sigma=0.1", "--n=200", "--n0=20"]
    words += ["--max_images=12", f"--output={output}"]
    status, out, err = run(capsys, *words)
    assert status == 0, err
    images, labels = evaluation.collect(data.load("digits", image_size=8).test)
    ids = np.arange(12) * 359 // 12
    drawn = {"sigma": 0.1, "n": 200, "n0": 20, "verbose": 0}
    model = kdkeras.runtimes.load(folder / name)
    found = certification.certify(model, images[ids], ids=ids, **drawn)
    for radius in (0.0, 0.1):
        accuracy = found.certified_accuracy(labels[ids], radius)
        assert re.search(rf"^{radius:.3f} +{accuracy:.2%} ", out, re.MULTILINE)
    assert found.certified_accuracy(labels[ids], 0.0) > 0.5
    most = certification.radius(200, 200, sigma=0.1, alpha=0.001)
    assert f"so many copies certify {most:.3f} at most" in out.replace("\n", " ")
    assert f"Abstained: {np.sum(found.abstained)}." in out
    assert tf.io.decode_png(output.with_suffix(".png").read_bytes()).numpy().std() > 10
    written = output.read_bytes()
    status, again, _ = run(capsys, *words)
    assert (status, again, output.read_bytes()) == (0, out, written)
    status, _, err = run(capsys, *words, "--sigma=0.2")
    assert status == 1
    assert "holds certificates of something else: sigma 0.1 there, 0.2 here" in err
    assert output.read_bytes() == written
    other = folder / ("loud.keras" if name == "student.keras" else "other.tflite")
    if name == "student.tflite":
        other.write_bytes((folder / name).read_bytes() + b"\0")
    status, _, err = run(capsys, *[word.replace(str(folder / name), str(other)) for word in words])
    assert status == 1
    assert "something else" in err


# -- evaluate --corruptions -----------------------------------------------------------------------


def test_evaluate_on_common_corruptions(capsys, folder, monkeypatch):
    monkeypatch.setattr(corruptions.Corrupted, "names", ("gaussian_noise", "contrast"))
    path = folder / "student.keras"
    status, out, err = run(capsys, "evaluate", str(path), *DIGITS, "--corruptions=common")
    assert status == 0, err
    images, labels = evaluation.collect(data.load("digits", image_size=8).test)
    logits = kdkeras.runtimes.load(path)
    pictures = corruptions.Corrupted(images, labels)
    found = corruptions.accuracies(logits, pictures, verbose=0)
    mean = corruptions.mean_accuracy(found)
    assert "tudent.keras: accuracy by corruption and severity (common)" in out
    assert f"mean over all: {mean:.2%}\n" in out
    for name, accuracies in found.items():
        assert re.search(rf"^{name} +" + " +".join(f"{one:.2%}" for one in accuracies), out, re.M)
    status, out, _ = run(capsys, "evaluate", str(path), *DIGITS)
    assert "corruption" not in out


def test_evaluate_on_the_files(capsys, folder, tmp_path):
    images, labels = evaluation.collect(data.load("digits", image_size=8).test)
    labels = labels[:20]
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    clean = np.uint8(np.rint(images[:20] * 255))
    np.save(tmp_path / "fog.npy", np.tile(clean, (5, 1, 1, 1)))
    np.save(tmp_path / "saturate.npy", np.zeros((100, 8, 8, 3), np.uint8))
    path = folder / "student.keras"
    status, out, _ = run(capsys, "evaluate", str(path), *DIGITS, f"--corruptions={tmp_path}")
    assert status == 0
    logits = kdkeras.runtimes.load(path)(np.float32(clean) / 255)
    accuracy = f"{np.mean(logits.argmax(-1) == labels):.2%}"
    # `saturate` is none of the fifteen whose mean is reported.
    assert re.search(rf"^fog +{accuracy}" + f" +{accuracy}" * 5 + "$", out, re.MULTILINE)
    assert "saturate" not in out
    status, _, err = run(
        capsys, "evaluate", str(folder / "student.keras"), "--dataset=digits", "--image_size=12",
        f"--corruptions={tmp_path}",
    )  # fmt: skip
    assert status == 1
    assert "--corruptions must hold images of shape (12, 12, 3)" in err


# -- tables ---------------------------------------------------------------------------------------


def test_tables():
    found = {"fog": [0.9, 0.8], "contrast": [0.5, 0.25]}
    assert tables.corruptions(found).splitlines() == [
        "severity       1       2    mean",
        "fog       90.00%  80.00%  85.00%",
        "contrast  50.00%  25.00%  37.50%",
    ]
    certificates = certification.Certificates(
        predicted=np.array([0, 1, -1, 1]), radius=np.array([0.3, 0.1, 0.0, 0.5]),
        counts=np.array([100, 99, 60, 100]), num_classes=2, sigma=0.25, n=100, n0=10, alpha=0.001,
        seed=0,
    )  # fmt: skip
    lines = tables.certificates(certificates, np.array([0, 1, 0, 0])).splitlines()
    assert lines[:3] == [
        "radius (L2)  certified accuracy  95 % interval",
        "0.000                    50.00%    15.0 - 85.0",
        "0.250                    25.00%     4.6 - 69.9",
    ]
    assert "4 images, 100 noisy copies, sigma 0.25, seed 0. Abstained: 1." in lines[4]
