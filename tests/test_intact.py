"""Digests of files and in files: what is damaged, replaced, or of another version is refused."""

import hashlib
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from conftest import conv_net

from kdkeras import export, files, inference, intact, recipe, runtimes, seals, workdir
from kdkeras.commands import subjects

pytestmark = pytest.mark.usefixtures("quick_children")

# -- digests in a file -----------------------------------------------------------------------------


def test_a_seal_is_the_digest_of_all_else():
    content = {"ü": [0.1, None, -0.0], "b": {"1": True}}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    assert seals.sealed(content) == {**content, "digest": digest}
    assert list(seals.sealed(content)) == ["ü", "b", "digest"]
    assert seals.opened(seals.sealed(content), "x") == content
    assert seals.opened(content, "x") == content
    assert seals.opened({}, "x") == {}
    assert seals.opened({**content, "b": 0, "digest": None}, "x") == {**content, "b": 0}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("0.5", "0.7"),
        lambda text: text.replace('"accuracy"', '"eccuracy"'),
        lambda text: text.replace('"digest"', '"dygest"'),
        lambda text: re.sub(r'"digest": "(.)', '"digest": "x', text),
        lambda text: text.replace('"accuracy": 0.5,', ""),
        lambda text: re.sub(r'"digest": ".*"', '"digest": ""', text),
    ],
)
def test_changed_contents_are_refused(change, tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"format": 1, "accuracy": 0.5}, sealed=True)
    assert files.read_json(path) == {"format": 1, "accuracy": 0.5}
    changed = change(path.read_text())
    path.write_text(changed)
    with pytest.raises(ValueError, match="results.json' is damaged: its content does not have its"):
        files.read_json(path)
    assert path.read_text() == changed


def test_a_change_on_purpose_is_read(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"accuracy": 0.5}, sealed=True)
    path.write_text(re.sub('"digest": ".*"', '"digest": null', path.read_text().replace("5", "7")))
    assert files.read_json(path) == {"accuracy": 0.7}


# -- formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (2, r"x.json' must be of format 1. Received: format 2. It was written by a newer kdk"),
        (0, "Received: format 0. Bring it back, or make the file anew"),
        (None, "Received: format None. Bring it back"),
        (True, "Received: format True. Bring it back"),
        ("1", "Received: format '1'. Bring it back"),
    ],
)
def test_other_formats_are_refused(found, message, tmp_path):
    files.write_json(tmp_path / "x.json", {"format": found})
    with pytest.raises(ValueError, match=message):
        intact.read(tmp_path / "x.json", 1)


def test_formats_that_are_read(tmp_path):
    files.write_json(tmp_path / "x.json", {"format": 1, "a": 2}, sealed=True)
    assert intact.read(tmp_path / "x.json", 1) == {"format": 1, "a": 2}
    files.write_json(tmp_path / "x.json", {"a": 2})
    assert intact.read(tmp_path / "x.json", 1) == {"a": 2}
    files.write_json(tmp_path / "x.json", [1, 2])
    with pytest.raises(ValueError, match=r"x.json' is damaged: a JSON object .*Received: \[1, 2\]"):
        intact.read(tmp_path / "x.json", 1)


def test_recipes_of_newer_versions_are_refused(tmp_path):
    path = tmp_path / "recipe.json"
    files.write_json(path, {"format": 2, **recipe.Recipe().to_dict(), "new": 1})
    with pytest.raises(ValueError, match="recipe.json' must be of format 1.*newer kdkeras: update"):
        recipe.read(path)


# -- files of a run --------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """A finished run: a model, a folder, and their digests."""
    folder = tmp_path / "run"
    (folder / "export" / "saved").mkdir(parents=True)
    conv_net().save(folder / "student.keras")
    (folder / "export" / "saved" / "a").write_text("first")
    (folder / "export" / "saved" / "b").write_text("second")
    (folder / ".lock").write_text("")
    results = {"format": 1, "models": {}, "recipe": recipe.Recipe().to_dict()}
    named = workdir.finish(folder, results)["files"]
    assert list(named) == ["export/saved/a", "export/saved/b", "student.keras"]
    return folder


OTHERS = [
    ("student.keras", "student.keras"),
    ("export/saved/b", "export/saved"),
    ("export/saved/b", "export/saved/b"),
]


@pytest.mark.parametrize(("changed", "asked"), OTHERS)
def test_what_is_not_what_was_written_is_refused(changed, asked, run):
    intact.check(run / asked)
    intact.check(run / "results.json")
    conv_net(width=5).save(run / "other.keras")
    shutil.copy(run / "other.keras", run / changed)
    intact.check(run / "other.keras")
    message = f"{changed}' is not what '.*results.json' says was written: it is damaged, or was rep"
    with pytest.raises(ValueError, match=message):
        intact.check(run / asked)
    results = json.loads((run / "results.json").read_text())
    results["files"][changed] = results["digest"] = None
    (run / "results.json").write_text(json.dumps(results))
    intact.check(run / asked)


def test_models_of_a_run_are_checked_wherever_they_are_read(run):
    conv_net(width=5).save(run / "student.keras")
    for read in (runtimes.load, inference.student):
        with pytest.raises(ValueError, match="student.keras' is not what"):
            read(run / "student.keras")
    shutil.copy(run / "student.keras", run.parent / "copy.keras")
    assert runtimes.load(run.parent / "copy.keras").input_shape == (8, 8, 1)


def test_a_lost_part_of_a_folder_is_named(run):
    (run / "export" / "saved" / "a").unlink()
    with pytest.raises(ValueError, match="export/saved/a' is not what"):
        intact.check(run / "export" / "saved")


@pytest.mark.parametrize("content", ["", "[]", '{"files": {"student.keras": "0"}}', "{"])
def test_results_of_somebody_else_are_not_judged_by(content, run):
    (run / "results.json").write_text(content)
    intact.check(run / "student.keras")


def test_what_a_command_writes_anew_is_named_anew(run):
    path = run / "results.json"
    before = files.read_json(path)
    with workdir.rewriting(run, "export"):
        assert list(files.read_json(path)["files"]) == ["student.keras"]
        files.write_text(run / "export" / "saved" / "b", "third")
        files.write_text(run / "export" / "c", "new")
    named = files.read_json(path)["files"]
    changed = {"export/saved/b": files.digest(run / "export/saved/b")}
    assert named == {**before["files"], **changed, "export/c": files.digest(run / "export/c")}
    intact.check(run / "export" / "saved")
    with workdir.rewriting(run, "export"):
        pass
    assert files.read_json(path)["files"] == named


def test_damage_is_not_taken_for_what_a_command_wrote(run):
    spoilt = run / "export" / "saved" / "a"
    spoilt.write_text("First")
    with workdir.rewriting(run, "export"):
        pass
    with pytest.raises(ValueError, match="export/saved/a' is not what"):
        intact.check(spoilt)


def test_evaluate_refuses_results_that_were_changed(run):
    path = run / "results.json"
    path.write_text(path.read_text().replace('"epochs": 12', '"epochs": 13'))
    asked = dict.fromkeys(("dataset", "data_dir", "image_size", "teacher", "control"))
    with pytest.raises(ValueError, match="results.json' is damaged: its content does not have"):
        subjects.read({**asked, "download": False}, [str(run)])


# -- models of themselves --------------------------------------------------------------------------


def test_flipped_weights_of_a_keras_file_are_found(tmp_path):
    """Keras reads parts of the weights, and so never comes to their checksum."""
    path = tmp_path / "x.keras"
    net = conv_net()
    net.save(path)
    kernel = net.get_layer("c1").kernel.numpy().tobytes()
    contents = path.read_bytes()
    assert contents.count(kernel) == 1
    place = contents.index(kernel)
    path.write_bytes(contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :])
    with pytest.raises(ValueError, match=r"model: its model.weights.h5 is damaged. Bring it back"):
        runtimes.load(path)


def test_a_tflite_file_knows_its_own_digest(tmp_path):
    path, spoilt = tmp_path / "x.tflite", tmp_path / "spoilt.tflite"
    net = conv_net()
    export.tflite(net, path, class_names=["a", "b", "c"])
    contents = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        first = min(member.header_offset for member in archive.infolist())
    digest = hashlib.sha256(contents[:first]).hexdigest()
    assert export.about(path)["network_sha256"] == digest
    kernel = np.ascontiguousarray(net.get_layer("logits").kernel.numpy().T).tobytes()
    for part, message in (
        (kernel, "its network is damaged: it does not have its digest"),
        (b"a\nb\nc\n", "its class names and settings are damaged .labels.txt does not have its"),
        (b'"float32"', "its class names and settings are damaged .Bad CRC-32"),
    ):
        place = contents.index(part)
        spoilt.write_bytes(contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :])
        with pytest.raises(ValueError, match=f"cannot be read as a model: {message}"):
            runtimes.load(spoilt)
    assert runtimes.load(path).input_shape == (8, 8, 1)
    newer = tmp_path / "newer.tflite"
    newer.write_bytes(contents[:first])
    with zipfile.ZipFile(newer, "a") as archive:
        archive.writestr("kdkeras.json", json.dumps({"format": 2, "labels": None}))
    with pytest.raises(ValueError, match="newer.tflite' must be of format 1.*format 2"):
        export.about(newer)
