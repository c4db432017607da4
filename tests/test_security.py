"""Files of strangers: no code in them is run, nothing absurd is unpacked, no name does anything."""

import ast
import html
import io
import json
import pathlib
import struct
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net
from report_runs import write_run

import kdkeras
from kdkeras import archives, cli, data, export, files, inference, loading, report, runtimes
from kdkeras.data import folders, pictures

PACKAGE = pathlib.Path(kdkeras.__file__).parent

# -- .keras files --------------------------------------------------------------------------------


def digits_net():
    return conv_net(classes=10)


@pytest.fixture
def unsafe():
    """What a user may have called: every Lambda of every file is run from then on."""
    attribute = "safe_mode_saving"
    before = keras.src.backend.common.global_state.get_global_attribute(attribute)
    keras.config.enable_unsafe_deserialization()
    yield
    keras.src.backend.common.global_state.set_global_attribute(attribute, before)


@pytest.fixture(scope="module")
def lambda_file(tmp_path_factory):
    """A file whose Lambda leaves a marker when it is run, and the marker's path."""
    folder = tmp_path_factory.mktemp("lambda")
    marker = str(folder / "ran")
    net = digits_net()
    trap = keras.layers.Lambda(
        lambda x: (__import__("pathlib").Path(marker).touch(), x)[1],
        output_shape=(10,),
    )
    keras.Model(net.input, trap(net.output)).save(folder / "x.keras")
    pathlib.Path(marker).unlink(missing_ok=True)
    return folder / "x.keras", pathlib.Path(marker)


def test_the_trap_works(lambda_file):
    path, marker = lambda_file
    keras.models.load_model(path, compile=False, safe_mode=False)(np.zeros((1, 8, 8, 1)))
    assert marker.exists()
    marker.unlink()


OPENED = {
    "archives": archives.model,
    "runtimes": runtimes.load,
    "student": inference.student,
    "teacher": lambda path: loading.load(str(path), "teacher", data.load("digits")),
}


@pytest.mark.parametrize("way", sorted(OPENED))
def test_a_lambda_is_refused_even_if_the_user_allows_them_elsewhere(way, lambda_file, unsafe):
    path, marker = lambda_file
    said = r"x\.keras'.*: it holds a Lambda layer, that is Python code of whoever wrote it: not "
    with pytest.raises(ValueError, match=said) as caught:
        OPENED[way](path)
    assert "\n" not in str(caught.value)
    assert "safe_mode=False, put layers of Keras in its place" in str(caught.value)
    assert not marker.exists()


def test_keras_itself_is_in_safe_mode_and_the_users_switch_stays(lambda_file, unsafe, monkeypatch):
    path, marker = lambda_file
    monkeypatch.setattr(archives, "CODE", {})
    with pytest.raises(ValueError, match="cannot be read as a model: .*[lL]ambda"):
        archives.model(path)
    assert not marker.exists()
    assert keras.models.load_model(path, compile=False).output_shape == (None, 10)
    marker.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "words",
    [
        "evaluate {path} --dataset=digits",
        "attack {path} --dataset=digits --max_images=4 --output={folder}/attack",
        "predict {folder}/1.png --model={path}",
        "export --model={path} --output={folder}/export",
        "distill --dataset=digits --teacher={path} --student=mlp --quiet --workdir={folder}/run",
    ],
)
def test_commands_refuse_a_lambda_with_status_1(words, lambda_file, unsafe, tmp_path, capsys):
    path, marker = lambda_file
    given = words.format(path=path, folder=tmp_path).split()
    assert cli.main(given) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kdkeras {given[0]}: ")
    assert "it holds a Lambda layer" in error
    assert "Traceback" not in error
    assert not marker.exists()
    assert not (tmp_path / "export").exists()


def keras_file(path, config, **members):
    """A `.keras` file of some configuration."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        for name, contents in members.items():
            archive.writestr(name, contents)
    return path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": [{"class_name": "TorchModuleWrapper", "config": {}}]}, "it holds a pickled PyTorch"),
        ({"class_name": "TFSMLayer", "config": {}}, "it holds a TFSMLayer, that is a program in"),
        ({"config": {"activation": {"class_name": "__lambda__"}}}, "it holds a Lambda layer"),
        ("[" * 100_000, "recursion"),
        ("not json", "Expecting value"),
        ({"class_name": "popen", "module": "os", "config": {}}, "popen"),
        ({"class_name": "a\x1b[31m", "module": "x", "config": {}}, r"a\\x1b\[31m"),
    ],
)
def test_other_code_and_damage_are_refused_in_a_plain_line(config, message, tmp_path):
    path = keras_file(tmp_path / "x.keras", config)
    with pytest.raises(ValueError, match=f"x.keras' cannot be read as a model: .*{message}") as e:
        runtimes.load(path)
    assert archives.is_plain(str(e.value))
    assert len(str(e.value)) < 600


def test_what_is_no_keras_file_is_said(tmp_path):
    (tmp_path / "x.keras").write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(
        ValueError, match="`teacher` cannot be loaded from .*: it is no .keras file"
    ):
        archives.model(tmp_path / "x.keras", "teacher")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(ValueError, match="it is no .keras file"):
        archives.model(tmp_path / "folder.keras")
    with pytest.raises(ValueError, match="`teacher` cannot be loaded from 'hf://.*not exist"):
        archives.model("hf://somebody/x.keras", "teacher")


def test_an_honest_file_is_loaded(tmp_path):
    net = digits_net()
    net.save(tmp_path / "x.keras")
    images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    np.testing.assert_array_equal(archives.model(tmp_path / "x.keras")(images), net(images))


# -- archives ------------------------------------------------------------------------------------


def bomb(path, name, declared=2**31, **others):
    """A zip of few bytes whose member declares `declared` in the archive's directory."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(1000))
        for other, contents in others.items():
            archive.writestr(other, contents)
    contents = bytearray(path.read_bytes())
    entry = contents.index(b"PK\x01\x02")
    contents[entry + 24 : entry + 28] = struct.pack("<I", declared)
    path.write_bytes(contents)
    return path


@pytest.fixture
def never_unpacked(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "read", refuse)


REFUSED = r"bytes and says that it unpacks to 2,147,48\d,\d\d\d, more than 100 times as many: not"


@pytest.mark.parametrize(
    ("name", "member", "read"),
    [
        ("x.keras", "model.weights.h5", runtimes.load),
        ("x.keras", "config.json", inference.student),
        ("predictions.npz", "student.npy", files.read_arrays),
        ("x.tflite", "kdkeras.json", export.about),
    ],
)
def test_zip_bombs_are_refused_before_they_are_unpacked(name, member, read, tmp_path, request):
    path = bomb(tmp_path / name, member)
    request.getfixturevalue("never_unpacked")
    with pytest.raises(ValueError, match=REFUSED):
        read(path)


def test_a_bomb_behind_a_network_is_found(tmp_path):
    path = bomb(tmp_path / "zip", "kdkeras.json")
    path.write_bytes(b"TFL3" * 100 + path.read_bytes())
    with pytest.raises(ValueError, match=REFUSED):
        export.about(path)


def test_many_members_count_together(tmp_path):
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(2):
            archive.writestr(f"{i}", bytes(1000))
    contents = path.read_bytes()
    sized = struct.pack("<I", 1000)
    directory = contents.index(b"PK\x01\x02")
    each = 2**27 + 1  # two of them are just above 256 MiB, one is below
    entries = contents[directory:].replace(sized, struct.pack("<I", each))
    path.write_bytes(contents[:directory] + entries)
    with pytest.raises(ValueError, match="unpacks to 268,435,458"):
        archives.check_size(path)


@pytest.mark.parametrize(
    ("declared", "stuffing", "fine"),
    [
        (2**28, 0, True),
        (2**28 + 1, 0, False),
        (2**28 + 1, 2_700_000, True),  # less than 100 times the file
        (300_000_000, 2_700_000, False),
    ],
)
def test_the_limits_of_archives(declared, stuffing, fine, tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("a", b"")
    path = bomb(tmp_path / "x", "a", declared)
    path.write_bytes(bytes(stuffing) + path.read_bytes())
    if fine:
        archives.check_size(path)
    else:
        with pytest.raises(ValueError, match="not unpacked"):
            archives.check_size(path)


def test_arrays_that_are_pickled_or_declare_what_no_memory_holds(tmp_path):
    np.savez(tmp_path / "pickled.npz", labels=np.array([print], object))
    with pytest.raises(ValueError, match="pickled.npz holds no arrays.*allow_pickle=False"):
        files.read_arrays(tmp_path / "pickled.npz")
    header = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": (2**50,)}
    np.lib.format.write_array_header_1_0(header, described)
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.writestr("labels.npy", header.getvalue())
    with pytest.raises(ValueError, match="large.npz holds no arrays, or is damaged"):
        files.read_arrays(tmp_path / "large.npz")
    np.save(tmp_path / "one.npz.npy", np.zeros(3))
    with pytest.raises(ValueError, match="one.npz.npy holds no arrays"):
        files.read_arrays(tmp_path / "one.npz.npy")


@pytest.mark.parametrize("labels", [["cat", "dog\x1b[31m"], ["a\nb"], [1, 2], "cat", {"a": 1}])
def test_labels_in_a_tflite_file_are_plain_text(labels, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.tflite", "w") as archive:
        archive.writestr("kdkeras.json", json.dumps({"labels": labels}))
    with pytest.raises(ValueError, match="class names of plain text.*Export it again") as caught:
        export.about(tmp_path / "x.tflite")
    assert archives.is_plain(str(caught.value))


# -- the package's own code ----------------------------------------------------------------------

ATTRIBUTES = {"extractall", "unpack_archive", "run_path"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", *ATTRIBUTES}
FORBIDDEN_IMPORTS = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("tarfile", "code", "codeop"),
}


def calls():
    """(file, name of what is called, whether it is an attribute, the call) all over the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                where = path.relative_to(PACKAGE).as_posix()
                if isinstance(node.func, ast.Name):
                    yield where, node.func.id, None, node
                elif isinstance(node.func, ast.Attribute):
                    yield where, node.func.attr, ast.unparse(node.func.value), node


def test_nothing_is_evaluated_or_unpickled():
    # `model.compile(...)` and `re.compile(...)` are no `compile(...)`.
    assert not [
        (where, name)
        for where, name, of, _ in calls()
        if name in FORBIDDEN_CALLS and (of is None or name in ATTRIBUTES)
    ]
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    assert not imported & FORBIDDEN_IMPORTS
    assert "numpy" in imported


def literals(node):
    return {
        word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)
    }


def test_arrays_are_loaded_without_pickle_and_commands_run_without_a_shell():
    found = [
        (where, literals(node)) for where, name, of, node in calls() if (of, name) == ("np", "load")
    ]
    assert {where for where, _ in found} == {"files.py", "conversion.py"}
    for where, given in found:
        assert given.get("allow_pickle") is False, where
    assert not [where for where, _, _, node in calls() if literals(node).get("shell")]
    assert not [where for where, name, of, _ in calls() if (of, name) == ("os", "system")]


def test_models_are_loaded_in_safe_mode():
    found = [(where, literals(node)) for where, name, _, node in calls() if name == "load_model"]
    assert found == [("archives.py", {"compile": False, "safe_mode": True})]
    switch = "enable_unsafe_deserialization"
    assert not [where for where, name, _, _ in calls() if name == switch]


# -- pictures ------------------------------------------------------------------------------------


def png_header(width, height, kind=b"IHDR"):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, kind, width, height) + bytes(20)


def jpeg_header(width, height):
    return b"\xff\xd8" + struct.pack(">HHBHHB", 0xFFC0, 17, 8, height, width, 3) + bytes(9)


def gif(screen, frames, palette=False):
    """A GIF of frames without colours; (width, height) each."""
    made = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80 if palette else 0, 0, 0)
    made += bytes(6) if palette else b""
    made += b"!\xf9\x04" + bytes(4) + b"\0"
    for width, height in frames:
        made += b"," + struct.pack("<HHHHB", 0, 0, width, height, 0x80) + bytes(6)
        made += b"\x02\x02\x4c\x01\0"
    return made + b";"


def bmp_header(width, height):
    return b"BM" + bytes(16) + struct.pack("<iiHH", width, height, 1, 24) + bytes(24)


def webp_header(kind, payload):
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", 10) + payload


HUGE = {
    "png": png_header(60_000, 60_000),
    "jpeg": jpeg_header(60_000, 60_000),
    "gif": gif((60_000, 60_000), []),
    "gif of a small screen": gif((1, 1), [(2, 2), (60_000, 60_000)], palette=True),
    "bmp": bmp_header(60_000, -60_000),
    "lossy webp": webp_header(b"VP8 ", bytes(6) + struct.pack("<HH", 16_383, 16_383)),
    "lossless webp": webp_header(b"VP8L", b"\x2f" + struct.pack("<I", 2**28 - 1)),
    "extended webp": webp_header(b"VP8X", bytes(4) + b"\x5f\xea\0" * 2 + bytes(4)),
}


@pytest.mark.parametrize("kind", sorted(HUGE))
def test_pictures_that_declare_too_much_are_not_decoded(kind, tmp_path, monkeypatch):
    def decoded(contents):
        raise AssertionError("decoded")

    monkeypatch.setattr(pictures, "decode", decoded)
    (tmp_path / "huge").write_bytes(HUGE[kind])
    said = r"it declares \d+ x \d+ pixels, more than 67,108,864"
    if kind == "gif of a small screen":
        said = "its frames declare more than 268,435,456 pixels together"
    with pytest.raises(ValueError, match=f"huge' cannot be used as a picture: {said}"):
        data.read_picture(tmp_path / "huge", 8)


def test_the_limits_of_pictures():
    pictures.check_header(png_header(8192, 8192))
    with pytest.raises(ValueError, match="8192 x 8193 pixels, more than 67,108,864; scale it down"):
        pictures.check_header(png_header(8192, 8193))
    frames = [(8192, 8192)] * 4
    pictures.check_header(gif((1, 1), frames))
    with pytest.raises(ValueError, match="frames declare more than 268,435,456 pixels together"):
        pictures.check_header(gif((1, 1), [*frames, (1, 1)]))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        # What decoders skip, and so find the second size, not the first.
        (b"\xff\xd8\xff\xd0" + jpeg_header(9, 9)[2:], "damaged JPEG"),
        (b"\xff\xd8\xff\x01" + jpeg_header(9, 9)[2:], "damaged JPEG"),
        (b"\xff\xd8\xff\x00" + jpeg_header(9, 9)[2:], "damaged JPEG"),
        (png_header(9, 9, b"abCd"), "damaged PNG"),
        (webp_header(b"\x2fabc", bytes(30)), "damaged WebP"),
        (gif((1, 1), [(9, 9)])[:-14], "cut short"),
    ],
)
def test_headers_that_hide_a_size_are_refused(contents, message):
    with pytest.raises(ValueError, match=message):
        pictures.check_header(contents)


def test_an_animation_is_its_first_frame(tmp_path):
    image = pytest.importorskip("PIL.Image")
    frames = [image.new("L", (12, 12), value) for value in (255, 0, 90)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert pictures._declared_size((tmp_path / "x.gif").read_bytes()) == (12, 12)
    np.testing.assert_array_equal(data.read_picture(tmp_path / "x.gif", 4), np.ones((4, 4, 3)))


def test_predict_refuses_a_huge_picture_with_status_1(tmp_path, capsys):
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "x.keras")
    (tmp_path / "huge.png").write_bytes(HUGE["png"])
    words = ["predict", str(tmp_path / "huge.png"), f"--model={tmp_path / 'x.keras'}"]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert "huge.png' cannot be used as a picture: it declares 60000 x 60000 pixels" in error
    assert "Traceback" not in error


# -- folders and names ---------------------------------------------------------------------------


def pictures_in(root, *classes):
    png = tf.io.encode_png(np.full((6, 6, 3), 90, np.uint8)).numpy()
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(3):
            (root / name / f"{i}.png").write_bytes(png)
    return root


@pytest.mark.parametrize(
    "name", ["red\x1b[31m", "two\nlines", "bell\a", "c1\x9b31m", "u\u2028x", "tac\u202egnp"]
)
@pytest.mark.parametrize("of", ["class", "file"])
def test_names_with_control_characters_are_refused(name, of, tmp_path):
    root = pictures_in(tmp_path / "p", "cat", name if of == "class" else "dog")
    if of == "file":
        (root / "dog" / "0.png").rename(root / "dog" / f"{name}.png")
    with pytest.raises(ValueError, match="names without control characters.*Rename it") as caught:
        folders.source(str(root), 4, 2**20, 0)
    assert archives.is_plain(str(caught.value))
    assert ascii(name)[1:-1] in str(caught.value)


def test_names_of_all_the_world_are_fine(tmp_path):
    names = ("<script>alert(1)<", "eÌ\u0301clair", "קפה", "नमस्ते", "👩\u200d🔬")
    root = pictures_in(tmp_path / "p", *names)
    assert set(folders.source(str(root), 4, 2**20, 0).class_names) == set(names)


def test_links_out_of_a_folder_are_refused_and_their_goal_is_shown_plainly(tmp_path):
    root = pictures_in(tmp_path / "p", "cat", "dog")
    pictures_in(tmp_path / "out\x1b[31m", "x")
    (root / "elk").symlink_to("../out\x1b[31m/x", target_is_directory=True)
    with pytest.raises(ValueError, match=r"links stay inside.*leads to '.*\\x1b\[31m") as caught:
        folders.source(str(root), 4, 2**20, 0)
    assert archives.is_plain(str(caught.value))


def test_a_class_called_script_is_text_in_labels_and_report(tmp_path):
    name = "<script>alert(1)<"
    root = pictures_in(tmp_path / "p", name, "dog")
    classes = folders.source(str(root), 4, 2**20, 0).class_names
    assert export.contents.lines(classes).splitlines() == [name, "dog"]
    labels = np.arange(60) % 2
    said = {"student": np.where(np.arange(60) < 20, 1 - labels, labels)}
    run = write_run(tmp_path / "run", labels, said, classes=classes)
    page = report.write(run, pictures=False).read_text(encoding="utf-8")
    assert html.escape(name) in page
    assert "<script" not in page


@pytest.mark.parametrize("text", ["plain", "a b", "日本", "tab\t", "\udc80", "\x7f"])
def test_what_is_plain(text):
    assert archives.is_plain(text) == (text in ("plain", "a b", "日本"))
