"""The Kotlin class of examples/android fits the files that kdkeras writes."""

import pathlib
import re
import zipfile

import numpy as np
import pytest
from conftest import conv_net

from kdkeras import export
from kdkeras.cli import known
from kdkeras.export import contents

pytestmark = pytest.mark.usefixtures("quick_children")

ANDROID = pathlib.Path(__file__).parent.parent / "examples" / "android"
KOTLIN = (ANDROID / "StudentClassifier.kt").read_text()
README = (ANDROID / "README.md").read_text()
NAMES = ["cat", "dog", "Bär"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    images = np.random.default_rng(0).random((16, 8, 8, 3), "float32")
    path = tmp_path_factory.mktemp("android") / "student.tflite"
    return export.tflite(conv_net(channels=3), path, "int8", calibration=images, class_names=NAMES)


def body(name):
    """The text of a Kotlin function."""
    return re.search(rf"^( *)(?:private )?fun {name}\(.*?^\1\}}", KOTLIN, re.M | re.S)[0]


def test_signature_and_names(file):
    from ai_edge_litert.interpreter import Interpreter

    (key, names), *others = Interpreter(str(file)).get_signature_list().items()
    assert not others
    assert re.search(r'SIGNATURE = "(\w+)"', KOTLIN)[1] == key
    assert re.findall(r'getInputTensorFromSignature\("(\w+)"', KOTLIN) == names["inputs"]
    assert re.findall(r'getOutputTensorFromSignature\("(\w+)"', KOTLIN) == names["outputs"]
    run = body("classify")
    assert re.findall(r'"(\w+)" to', run) == names["inputs"] + names["outputs"]


def test_shape_and_types(file):
    about = contents.about(file)
    assert about["input"]["shape"] == [1, 8, 8, 3]
    assert "val (_, height, width, channels) = input.shape()" in body("pixels")
    assert about["output"]["shape"] == [1, len(NAMES)]
    assert "output.shape()[1]" in KOTLIN
    kinds = {kind.upper() for kind in contents.PIXELS}
    assert set(re.findall(r"DataType\.(\w+) ->", body("put"))) == kinds
    assert set(re.findall(r"DataType\.(\w+) ->", body("probability"))) == kinds


def kotlin_number(expression, **names):
    """An arithmetic expression of Kotlin's, in Python."""
    for kotlin, python in ((r"(\d)f\b", r"\1"), (r"\.to\w+\(\)", ""), (r"\band\b", "&")):
        expression = re.sub(kotlin, python, expression)
    return eval(expression, {"__builtins__": {}}, names)


def test_levels_and_quantities_are_the_files():
    """The Kotlin arithmetic, evaluated, against what `kdkeras.json` says of each type."""
    arms = dict(re.findall(r"DataType\.(\w+) -> buffer\.\w+\((.*)\)$", body("put"), re.M))
    for kind, pixels in contents.PIXELS.items():
        low, high = map(int, pixels.split(".."))
        found = [kotlin_number(arms[kind.upper()], level=level) for level in (0, 51, 255)]
        np.testing.assert_allclose(found, low + (high - low) * np.array([0, 0.2, 1]), atol=1e-12)
    arms = dict(re.findall(r"DataType\.(\w+) -> (.*)$", body("probability"), re.M))
    for kind, byte, zero_point in (("UINT8", -56, 0), ("INT8", 72, -128)):
        expression = arms[kind].replace("answers.get()", "byte")
        given = kotlin_number(expression, byte=byte, scale=1 / 256, zeroPoint=zero_point)
        assert given == 200 / 256


def test_labels_are_read_from_the_same_file(file):
    (entry,) = re.findall(r'getEntry\("(.*?)"\)', KOTLIN)
    with zipfile.ZipFile(file) as archive:
        assert archive.read(entry).decode().splitlines() == NAMES
    assert 'asset: String = "student.tflite"' in KOTLIN


def test_gradle_lines_and_the_export_in_the_readme():
    coordinates = re.findall(r'implementation\("([^"]+)"\)', README)
    assert [one.split(":")[:2] for one in coordinates] == [["com.google.ai.edge.litert", "litert"]]
    assert re.fullmatch(r"\d+\.\d+\.\d+", coordinates[0].split(":")[2])
    assert int(re.search(r"minSdk = (\d+)", README)[1]) >= 24
    (words,) = re.findall(r"kdkeras export (.*)", README)
    flags = {name for name, *_ in known.FLAGS["export"]}
    assert set(re.findall(r"--(\w+)=", words)) <= flags
    assert "classifier.classify(bitmap)" in README
    assert "fun classify(picture: Bitmap): List<Pair<String, Float>>" in KOTLIN


def test_nothing_is_left_open():
    for opening, closing in ("()", "{}", "[]"):
        assert KOTLIN.count(opening) == KOTLIN.count(closing)
    for text in (KOTLIN, README):
        assert not re.search(r"TODO|FIXME|XXX|\.\.\.\s*$|<your|com\.example", text, re.M)
    imported = re.findall(r"^import [\w.]+\.(\w+)$", KOTLIN, re.M)
    code = re.sub(r"^import .*$", "", KOTLIN, flags=re.M)
    assert [name for name in imported if not re.search(rf"\b{name}\b", code)] == []
    assert imported
