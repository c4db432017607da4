"""The page of examples/web answers in a browser as the student does in Keras."""

import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net

from kdkeras import data, export

pytestmark = pytest.mark.usefixtures("quick_children")

WEB = pathlib.Path(__file__).parent.parent / "examples" / "web"
NAMES = [f"digit {i}" for i in range(10)]
COUNT = 100


def chromium():
    given = os.environ.get("CHROMIUM")
    names = [given] if given else ["chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """examples/web with its packages; in a copy where they are not installed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if (WEB / "node_modules").exists():
        return WEB
    copy = tmp_path_factory.mktemp("site") / "web"
    shutil.copytree(WEB, copy)
    done = subprocess.run(["npm", "ci"], cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm ci cannot run: {done.stderr.strip()[-300:]}")
    return copy


def write_png(path, pixels):
    path.write_bytes(tf.io.encode_png(pixels).numpy())
    return path


def trained(images, labels):
    student = conv_net(8, size=16, channels=images.shape[-1], classes=10)
    student.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True))
    student.fit(images, labels, epochs=4, batch_size=64, verbose=0)
    return student


def of_file(path, pixels):
    """What a `.tflite` file gives for uint8 pictures, in ai_edge_litert."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = output["quantization"]
    found = []
    for one in pixels.astype(int) - (128 if image["dtype"] == np.int8 else 0):
        interpreter.set_tensor(image["index"], one[None].astype(image["dtype"]))
        interpreter.invoke()
        levels = interpreter.get_tensor(output["index"])[0].astype(float)
        found.append((levels - zero_point) * scale)
    return np.array(found)


def in_order(answers):
    return np.array([[answer[name] for name in NAMES] for answer in answers])


def files_of(folder, digits):
    """The three students' files, what each is asked, and what it should answer."""
    train = data.arrays(digits.train)
    test, _ = data.arrays(digits.test)
    shown = np.round(test[:COUNT] * 255).astype(np.uint8)
    pictures = [write_png(folder / f"{i}.png", picture) for i, picture in enumerate(shown)]
    random = np.random.default_rng(1)
    odd = [
        write_png(folder / "wide.png", random.integers(0, 256, (37, 61, 3), np.uint8)),
        write_png(folder / "small.png", random.integers(0, 256, (7, 5, 3), np.uint8)),
        write_png(folder / "half.png", random.integers(0, 256, (32, 32, 3), np.uint8)),
        write_png(folder / "grey.png", random.integers(0, 256, (16, 16, 1), np.uint8)),
        write_png(folder / "clear.png", random.integers(0, 256, (16, 16, 4), np.uint8)),
        write_png(folder / "colours.png", random.integers(0, 256, (16, 16, 3), np.uint8)),
    ]
    student = trained(*train)
    seen = np.stack([data.read_picture(path, 16) for path in pictures + odd])
    float32, uint8, int8 = (folder / f"{name}.tflite" for name in ("float32", "uint8", "int8"))
    export.tflite(student, float32, class_names=NAMES)
    calibrated = {"calibration": train[0][:64], "class_names": NAMES}
    export.tflite(student, uint8, "int8", **calibrated, output="logits")
    one = train[0][..., :1]
    calibrated["calibration"] = one[:64]
    export.tflite(trained(one, train[1]), int8, "int8", **calibrated, pixels="int8")
    logits = of_file(uint8, shown[:5])
    return [
        (float32, pictures + odd, np.asarray(keras.ops.softmax(student(seen)))),
        (uint8, pictures[:5], np.asarray(keras.ops.softmax(logits))),
        (int8, pictures[:5], of_file(int8, shown[:5, ..., :1])),
    ]


@pytest.fixture(scope="module")
def shown(site, tmp_path_factory):
    """What the page showed, and what it should have shown."""
    browser = chromium()
    if browser is None:
        pytest.skip("Chromium is not installed")
    folder = tmp_path_factory.mktemp("pictures")
    keras.utils.set_random_seed(7)
    students = files_of(folder, data.load("digits", image_size=16))
    broken = folder / "broken.tflite"
    broken.write_bytes(b"not a network, whatever its name says")
    (folder / "broken.png").write_bytes(b"not a picture")
    cut = folder / "cut.tflite"
    cut.write_bytes(students[0][0].read_bytes()[:5000])
    hollow = folder / "hollow.tflite"  # the settings are whole, the network is not
    whole = students[0][0].read_bytes()
    start = whole.index(b"PK\x03\x04")
    hollow.write_bytes(whole[:8] + bytes(start - 8) + whole[start:])
    job = {
        "students": [
            {"file": str(file), "pictures": list(map(str, pictures))}
            for file, pictures, _ in students
        ],
        "wrong": [str(path) for path in (broken, folder / "broken.png", cut, hollow)],
    }
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        ["node", "test.mjs", str(folder / "job.json")],
        cwd=site,
        env={**os.environ, "CHROMIUM": browser},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), [expected for *_, expected in students]


def test_the_page_answers_as_keras_does(shown):
    found, (expected, *_) = shown
    answers = in_order(found["answers"][0])
    assert len(set(expected[:COUNT].argmax(1))) == 10
    difference = np.abs(answers - expected).max(1)
    print(f"\nlargest difference of probabilities: {difference.max():.1e}")
    assert difference[:COUNT].max() <= 1e-3
    assert (answers[:COUNT].argmax(1) == expected[:COUNT].argmax(1)).all()


def test_other_sizes_and_colours_are_prepared_as_by_kdkeras_predict(shown):
    found, (expected, *_) = shown
    answers = in_order(found["answers"][0])[COUNT:]
    # Half-transparent pixels ("clear.png", the fifth) may be a level off in the browser.
    limits = np.array([1e-3, 1e-3, 1e-3, 1e-3, 2e-2, 1e-3])
    assert (np.abs(answers - expected[COUNT:]).max(1) <= limits).all()


@pytest.mark.parametrize(("index", "limit"), [(1, 2e-2), (2, 1 / 256)])
def test_integer_files_answer_as_in_python(shown, index, limit):
    found, expected = shown
    answers = in_order(found["answers"][index])
    assert len(set(expected[index].argmax(1))) > 1
    assert np.abs(answers - expected[index]).max() <= limit


def test_drop_paste_and_drawing(shown):
    found, _ = shown
    first = found["answers"][0][0]
    assert found["dropped"] == first
    assert found["pasted"] == first
    drawn = list(found["drawn"].values())
    assert sum(drawn) == pytest.approx(1, abs=1e-4)
    assert found["drawn"] != first


def test_wrong_files_are_told_in_words_and_cost_nothing(shown):
    found, _ = shown
    broken, picture, cut, hollow = found["wrong"]
    assert broken == "This is not a .tflite file."
    assert picture == "broken.png is no picture that this browser can read."
    assert cut.startswith("This file does not say what it takes: there is no kdkeras.json in it.")
    assert hollow == "LiteRT cannot run this file: it is damaged. Reload the page."
    assert found["afterwards"] == found["answers"][0][0]


def test_nothing_goes_wrong_or_elsewhere(shown):
    found, _ = shown
    assert found["errors"] == []
    assert found["elsewhere"] == []


def served(site, *arguments, cwd=None):
    """`node serve.mjs` on a free port, its address in `address`."""
    process = subprocess.Popen(
        ["node", str(site / "serve.mjs"), "--port=0", *arguments],
        env={name: value for name, value in os.environ.items() if name != "INIT_CWD"},
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    process.address = re.match(r"http://(127\.0\.0\.1:\d+)/ shows ", line)[1]
    return process


def get(address, path):
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.getheader("Content-Type"), answer.read()


def test_the_server_gives_the_page_and_nothing_else(site, tmp_path):
    (tmp_path / "s.tflite").write_bytes(b"TFL3")
    with served(site, "s.tflite", cwd=tmp_path) as process:
        try:
            status, kind, body = get(process.address, "/")
            assert (status, kind) == (200, "text/html; charset=utf-8")
            assert body == (site / "index.html").read_bytes()
            wasm = "/node_modules/@litertjs/core/wasm/litert_wasm_internal"
            assert get(process.address, f"{wasm}.wasm")[:2] == (200, "application/wasm")
            kinds = (200, "text/javascript; charset=utf-8")
            assert get(process.address, f"{wasm}.js")[:2] == kinds
            assert get(process.address, "/model.mjs")[:2] == kinds
            assert get(process.address, "/student.tflite")[::2] == (200, b"TFL3")
            for path in (
                "/serve.mjs",
                "/package.json",
                "/../../setup.py",
                "/%2e%2e/%2e%2e/setup.py",
                "/..%2f..%2fsetup.py",
                "/node_modules/fflate/..%2f..%2fserve.mjs",
                "/node_modules/playwright-core/package.json",
                "/node_modules/fflate",
                "/%00",
                "/%",
            ):
                assert get(process.address, path)[0] == 404, path
        finally:
            process.terminate()


def test_without_a_file_the_page_asks_for_one(site):
    with served(site) as process:
        try:
            assert get(process.address, "/student.tflite")[0] == 204
        finally:
            process.terminate()


def refusal(site, *arguments):
    done = subprocess.run(
        ["node", "serve.mjs", *arguments], cwd=site, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    return done.stderr.strip()


def test_the_server_refuses_in_words(site, tmp_path):
    missing = tmp_path / "no.tflite"
    assert refusal(site, str(missing)) == f"There is no file {missing}"
    assert refusal(site, "a", "b") == "Name one file. Received: a b"
    assert refusal(site, "--port=web") == "--port must be a number up to 65535. Received: web"
    assert "--speed" in refusal(site, "--speed=9")
    with served(site) as process:
        try:
            port = process.address.split(":")[1]
            assert refusal(site, f"--port={port}").startswith("Another program has this port.")
        finally:
            process.terminate()


def test_the_lock_file_fits_and_names_no_registry():
    wanted = json.loads((WEB / "package.json").read_text())
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for kind in ("dependencies", "devDependencies"):
        assert locked[""][kind] == wanted[kind]
        for name, version in wanted[kind].items():
            assert locked[f"node_modules/{name}"]["version"] == version
    others = [package for path, package in locked.items() if path]
    assert all("resolved" not in package for package in others)
    assert all(package["integrity"].startswith("sha512-") for package in others)
