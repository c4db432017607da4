"""Atomic writes: all of the new contents, or the old ones."""

import hashlib
import json
import os

import keras
import numpy as np
import pytest

from kdkeras import files

pytestmark = pytest.mark.core


def test_write_text_replaces_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "note.txt"
    files.write_text(path, "first\n")
    files.write_text(path, "zweite Zeile: äöü\n")
    assert path.read_bytes() == "zweite Zeile: äöü\n".encode()
    assert os.listdir(tmp_path) == ["note.txt"]


def test_write_json_keeps_order_and_indents(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"z": 1, "a": [0.5, None, "ü"]})
    text = path.read_text(encoding="utf-8")
    assert text.startswith('{\n  "z": 1,\n  "a": [')
    assert text.endswith("}\n")
    assert json.loads(text) == {"z": 1, "a": [0.5, None, "ü"]}
    assert files.read_json(path) == {"z": 1, "a": [0.5, None, "ü"]}
    path.write_text("{")
    with pytest.raises(ValueError, match="results.json is not JSON"):
        files.read_json(path)
    with pytest.raises(FileNotFoundError, match="Could not read .*absent"):
        files.read_json(tmp_path / "absent")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.zeros(2), {1, 2}])
def test_write_json_refuses_and_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "results.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="plain JSON.*results.json"):
        files.write_json(path, {"x": value})
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["results.json"]


def test_digest(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert files.digest(path) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(FileNotFoundError, match="Could not read .*absent.*Check the path"):
        files.digest(tmp_path / "absent")


def test_atomic_path_keeps_suffixes_and_saves_models(tmp_path):
    path = tmp_path / "student.keras"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with files.atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".student.tmp-")
        assert temporary.suffix == ".keras"
        assert not path.exists()
        model.save(temporary)
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(keras.models.load_model(path)(x), model(x))
    with files.atomic_path(tmp_path / "student.weights.h5") as temporary:
        assert temporary.name.endswith(".weights.h5")
        model.save_weights(temporary)
    assert sorted(os.listdir(tmp_path)) == ["student.keras", "student.weights.h5"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_removes_the_temporary_and_keeps_the_old(tmp_path, folder):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail():
        with files.atomic_path(path) as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "part").write_text("half")
            else:
                temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_atomic_path_replaces_a_folder(tmp_path):
    path = tmp_path / "saved"
    for content in ("one", "two"):
        with files.atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert os.listdir(path) == ["two"]
    assert os.listdir(tmp_path) == ["saved"]
    with pytest.raises(IsADirectoryError, match="is a folder, and the new contents are a file"):
        files.write_text(path, "text")
    assert os.listdir(path) == ["two"]


def test_errors_name_the_file_and_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Could not write .*absent/a.txt.*Check that"):
        files.write_text(tmp_path / "absent" / "a.txt", "text")
    with (
        pytest.raises(FileNotFoundError, match="Could not write .*nothing was written"),
        files.atomic_path(tmp_path / "a.txt"),
    ):
        pass


def test_digest_of_a_folder(tmp_path):
    """Names and bytes count, the folder's own name and the order of writing do not."""
    for name, order in (("one", "ab"), ("two", "ba")):
        (tmp_path / name / "below").mkdir(parents=True)
        for letter in order:
            (tmp_path / name / "below" / letter).write_text(letter)
    before = files.digest(tmp_path / "one")
    assert before == files.digest(tmp_path / "two")
    expected = "".join(
        f"below/{letter} {hashlib.sha256(letter.encode()).hexdigest()}\n" for letter in "ab"
    )
    assert before == hashlib.sha256(expected.encode()).hexdigest()
    (tmp_path / "two" / "below" / "a").rename(tmp_path / "two" / "below" / "c")
    assert files.digest(tmp_path / "two") != before
    (tmp_path / "one" / "below" / "b").write_text("B")
    assert files.digest(tmp_path / "one") != before


def test_arrays_come_back_or_are_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {"ids": np.array(["a", "ü"]), "logits": np.eye(2, 3, dtype="float32")}
    files.write_arrays(path, arrays)
    found = files.read_arrays(path)
    assert sorted(found) == ["ids", "logits"]
    np.testing.assert_array_equal(found["ids"], arrays["ids"])
    np.testing.assert_array_equal(found["logits"], arrays["logits"])
    assert found["logits"].dtype == np.float32
    assert [file.name for file in tmp_path.iterdir()] == ["arrays.npz"]
    whole = path.read_bytes()
    changed = whole.replace(arrays["logits"].tobytes(), np.eye(2, 3, 1, "float32").tobytes())
    assert changed != whole
    for damaged in (whole[:-30], b"", changed):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="holds no arrays, or is damaged"):
            files.read_arrays(path)
    # Objects would be pickled: code of whoever wrote the file.
    np.savez(path, objects=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="damaged"):
        files.read_arrays(path)
    with pytest.raises(OSError, match="Check the path"):
        files.read_arrays(tmp_path / "absent.npz")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names cannot be put on the disk")
def test_contents_and_then_names_are_put_on_the_disk(tmp_path, monkeypatch):
    seen, fsync, replace = [], os.fsync, os.replace

    def noted(number):
        seen.append(os.readlink(f"/proc/self/fd/{number}"))
        fsync(number)

    def renamed(source, target):
        seen.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    files.write_text(tmp_path / "x", "text")
    assert [len(seen), *seen[1:]] == [3, "rename", str(tmp_path)]
    assert seen[0].startswith(f"{tmp_path}/.x.tmp-")
    seen.clear()
    with files.atomic_path(tmp_path / "folder") as temporary:
        (temporary / "below").mkdir(parents=True)
        (temporary / "below" / "part").write_text("text")
    below = [path.partition("tmp-")[2][8:] for path in seen[:3]]
    assert (sorted(below), seen[3:]) == (
        ["", "/below", "/below/part"],
        ["rename", str(tmp_path)],
    )
    seen.clear()
    files.rename(tmp_path / "x", tmp_path / "y")
    assert seen == ["rename", str(tmp_path)]
    with pytest.raises(FileNotFoundError, match="Could not write .*z: .*It is whole in .*x"):
        files.rename(tmp_path / "x", tmp_path / "z")


def test_names_that_cannot_be_put_on_the_disk_are_no_failure(tmp_path, monkeypatch):
    fsync = os.fsync

    def of_files_alone(number):
        if os.path.isdir(f"/proc/self/fd/{number}"):
            raise OSError(22, "Invalid argument")
        fsync(number)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    files.write_text(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"


def test_a_disk_that_is_gone_is_said_though_nothing_can_be_removed(tmp_path, monkeypatch):
    def gone(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(files, "_remove", gone)
    monkeypatch.setattr(os, "fsync", gone)
    with pytest.raises(OSError, match="Could not write .*x.txt: Input/output error"):
        files.write_text(tmp_path / "x.txt", "text")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b'{"a": 1'])
def test_what_is_no_json_is_said(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="x.json is not JSON, or is damaged: "):
        files.read_json(path)
