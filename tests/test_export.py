"""Exported files: right or refused."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import export, processes, runtimes
from kdkeras.export import converting, proving

pytestmark = pytest.mark.usefixtures("quick_children")


def student(policy="float32"):
    """The kinds of layer that MobileNetV2 has, one of each."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(2.0, offset=-1.0)(inputs)
    for layer in (
        keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.ReLU(6.0),
        keras.layers.DepthwiseConv2D(3, padding="same"),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.Conv2D(64, 1),
        keras.layers.Dropout(0.5),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, dtype="float32", name="logits"),
    ):
        x = layer(x)
    model = keras.Model(inputs, x)
    keras.config.set_dtype_policy("float32")
    # Statistics as after a training: those of a fresh BatchNorm hide errors.
    images = np.random.default_rng(0).random((32, 8, 8, 3), "float32")
    for _ in range(10):
        model(images, training=True)
    # And answers that differ between images.
    last = model.get_layer("logits")
    last.set_weights([40 * weights for weights in last.get_weights()])
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias - np.mean(model(images, training=False), axis=0)])
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).integers(0, 256, (40, 8, 8, 3)).astype("float32") / 255


@pytest.fixture(scope="module")
def whole_size(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("whole") / "m.tflite"
    return export.tflite(student(), path, images=images).stat().st_size


def softmax(logits):
    return np.asarray(keras.ops.softmax(logits))


def details(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return interpreter


# What the files are


def test_saved_model_equals_the_student(tmp_path, images):
    model = student()
    path = export.saved_model(model, tmp_path / "m", images=images, class_names=["a", "b", "ö"])
    run = runtimes.load(path)
    assert run.input_shape == (8, 8, 3)
    np.testing.assert_allclose(run(images), model(images), atol=1e-5)
    given = run.loaded.signatures["serving_default"](tf.constant(images))
    assert set(given) == {"probabilities"}
    np.testing.assert_allclose(given["probabilities"], softmax(model(images)), atol=1e-5)
    assert (path / "assets.extra" / "labels.txt").read_text(encoding="utf-8") == "a\nb\nö\n"


def test_saved_model_of_bytes_and_logits(tmp_path, images):
    model = student()
    options = {"images": images, "pixels": "uint8", "output": "logits"}
    run = runtimes.load(export.saved_model(model, tmp_path / "m", **options))
    assert not run.differentiable
    np.testing.assert_allclose(run(images), model(images), atol=1e-4)
    given = run.loaded.serve(tf.constant(np.rint(images * 255).astype("uint8")))
    np.testing.assert_allclose(given["logits"], model(images), atol=1e-4)


def test_a_tflite_file_for_apps(tmp_path, images):
    """One image at a time, named ends, class names inside; probabilities that are the student's."""
    model = student()
    names = ["cat", "dog", "größe"]
    path = export.tflite(model, tmp_path / "m.tflite", images=images, class_names=names)
    interpreter = details(path)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}
    }
    classify = interpreter.get_signature_runner()
    given = [classify(image=image[None])["probabilities"][0] for image in images]
    np.testing.assert_allclose(given, softmax(model(images)), atol=1e-5)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "cat\ndog\ngröße\n"
        told = json.loads(archive.read("kdkeras.json"))
    assert told == export.about(path)
    assert told["labels"] == names
    assert told["input"] == {
        "name": "image",
        "shape": [1, 8, 8, 3],
        "dtype": "float32",
        "pixels": "0..1",
    }
    assert told["output"]["name"] == "probabilities"
    assert told["output"]["scale"] is None
    np.testing.assert_allclose(softmax(runtimes.load(path)(images)), given, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_tflite_equals_the_student_whatever_its_policy(tmp_path, images, policy):
    model = student(policy)
    twin = student()
    twin.set_weights(model.get_weights())
    path = export.tflite(model, tmp_path / "m.tflite", images=images, output="logits")
    run = runtimes.load(path)
    assert run.input_shape == (8, 8, 3)
    np.testing.assert_allclose(run(images), twin(images), atol=1e-3)
    assert model.get_layer("logits").dtype_policy.name == "float32"
    assert model.layers[2].dtype_policy.name == policy


@pytest.mark.parametrize(
    ("precision", "smaller", "largest"),
    [("float16", 0.75, 1e-2), ("dynamic", 0.75, 0.1), ("int16x8", 0.8, 0.1)],
)
def test_smaller_files(tmp_path, images, whole_size, precision, smaller, largest):
    model = student()
    calibration = images if precision == "int16x8" else None
    options = {"images": images, "calibration": calibration}
    small = export.tflite(model, tmp_path / "small.tflite", precision, **options)
    assert small.stat().st_size < smaller * whole_size
    difference = np.abs(softmax(runtimes.load(small)(images)) - softmax(model(images))).max()
    assert 0 < difference < largest


@pytest.mark.parametrize(
    ("pixels", "kind", "zero"),
    [(None, np.uint8, 0), ("int8", np.int8, -128)],
)
def test_int8_takes_and_gives_integers(tmp_path, images, pixels, kind, zero):
    """Steps of 1/255 go in and of 1/256 come out; each channel of weights has its scale."""
    model = student()
    # Calibration images that do not reach from 0 to 1 do not move the input's steps.
    pale = 0.05 + 0.9 * images
    options = {"calibration": pale, "images": images, "pixels": pixels}
    path = export.tflite(model, tmp_path / "m.tflite", "int8", **options)
    interpreter = details(path)
    (given,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], output["dtype"]) == (kind, kind)
    assert given["quantization"] == (pytest.approx(1 / 255, rel=1e-6), zero)
    assert output["quantization"] == (1 / 256, zero)
    kernels = [
        tensor["quantization_parameters"]["scales"]
        for tensor in interpreter.get_tensor_details()
        if len(tensor["shape"]) == 4 and len(tensor["quantization_parameters"]["scales"]) > 1
    ]
    assert sorted(map(len, kernels)) == [32, 32, 64]
    # No tensor of floats is left between input and output.
    assert not [
        tensor["name"]
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.float32 and tensor["name"]
    ]
    difference = np.abs(softmax(runtimes.load(path)(images)) - softmax(model(images)))
    assert 0 < difference.mean() < 0.03
    assert export.about(path)["output"] == {
        "name": "probabilities",
        "shape": [1, 3],
        "dtype": kind.__name__,
        "scale": 1 / 256,
        "zero_point": zero,
    }


def test_int8_inside_and_floats_outside(tmp_path, images):
    options = {"calibration": images, "images": images, "pixels": "float32"}
    path = export.tflite(student(), tmp_path / "m.tflite", "int8", **options)
    told = export.about(path)
    assert (told["input"]["dtype"], told["output"]["dtype"]) == ("float32", "float32")


def test_bytes_into_a_file_of_floats(tmp_path, images):
    model = student()
    path = export.tflite(model, tmp_path / "m.tflite", images=images, pixels="uint8")
    classify = details(path).get_signature_runner()
    seen = np.rint(images * 255).astype("uint8")
    given = [classify(image=image[None])["probabilities"][0] for image in seen]
    np.testing.assert_allclose(given, softmax(model(images)), atol=1e-5)


def test_onnx_equals_the_student(tmp_path, images):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    model = student()
    path = export.onnx(model, tmp_path / "m.onnx", images=images, class_names=["a", "b", "c"])
    made = onnx.load(path)
    assert [one.name for one in made.graph.input] == ["image"]
    assert [one.name for one in made.graph.output] == ["probabilities"]
    assert {one.key: one.value for one in made.metadata_props}["labels"] == "a\nb\nc"
    np.testing.assert_allclose(
        softmax(runtimes.load(path)(images)), softmax(model(images)), atol=1e-5
    )
    with pytest.raises(ValueError, match=r"must end in .onnx"):
        export.onnx(model, tmp_path / "m.tflite")


def test_onnx_without_its_packages(tmp_path, monkeypatch):
    monkeypatch.setattr("kdkeras.export.checks._installed", lambda name: name == "onnx")
    with pytest.raises(ImportError, match=r"need tf2onnx, onnxruntime: pip install 'kdkeras\[onnx"):
        export.onnx(student(), tmp_path / "m.onnx")


def test_the_same_student_gives_the_same_bytes(tmp_path, images, monkeypatch, quick_children):
    model = student()
    options = {"images": images, "class_names": ["a", "b", "c"]}
    one = export.tflite(model, tmp_path / "one.tflite", **options)
    monkeypatch.setattr(processes, "run", quick_children)  # the real one
    other = export.tflite(model, tmp_path / "other.tflite", **options)
    assert one.read_bytes() == other.read_bytes()


# What is refused


def test_a_file_that_differs_is_refused_and_not_kept(tmp_path, images, monkeypatch):
    monkeypatch.setitem(proving.LIMITS, "float16", (1e-9, 1.1, 0.0))
    (tmp_path / "m.tflite").write_text("the last good one")
    with pytest.raises(ValueError, match=r"\(float16\) differs from the student: .* not kept"):
        export.tflite(student(), tmp_path / "m.tflite", "float16", images=images, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_text() == "the last good one"


def test_a_quantised_file_that_disagrees_is_refused(images):
    right = np.float32([[9, 0, 0]] * 20)
    mostly, seldom = right.copy(), right.copy()
    mostly[0] = seldom[:3] = [0, 9, 0]

    class Answers(runtimes.KerasModel):
        def __init__(self, answers):
            self.answers = answers

        def __call__(self, images):
            return self.answers

    assert proving.proven(Answers(mostly), "int8", images[:20], right) is mostly
    with pytest.raises(ValueError, match=r"top class on 85.0% of 20 images.*kdkeras quantize"):
        proving.proven(Answers(seldom), "int8", images[:20], right)


@pytest.mark.parametrize(
    ("kind", "shift", "flipped", "kept"),
    [
        ("float32", 3e-5, 0, True),  # 7e-6 in probability
        ("float32", 6e-5, 0, False),  # 1.4e-5 everywhere: the mean is off too
        ("float16", 0.03, 0, True),
        ("float16", 0.08, 0, False),
        # One of 200 is off by far, the others hardly, as where the student wavers.
        ("float16", 1e-3, 1, True),
        ("float16", 1e-3, 3, False),
        ("float32", 0.0, 1, False),
        ("int8", 0.08, 15, True),
        ("int8", 0.0, 25, False),
    ],
)
def test_how_much_a_file_may_differ(kind, shift, flipped, kept):
    expected = np.zeros((200, 2), "float32")
    expected[:, 0] = 0.5
    given = expected.copy()
    given[:, 0] += shift
    given[:flipped] = [0.24, 0.26]

    class Answers(runtimes.KerasModel):
        def __init__(self):
            pass

        def __call__(self, images):
            return given

    images = np.zeros((200, 1), "float32")
    if kept:
        proving.proven(Answers(), kind, images, expected)
        return
    with pytest.raises(ValueError, match=rf"\({kind}\) differs from the student"):
        proving.proven(Answers(), kind, images, expected)


def test_differences_are_of_probabilities():
    expected = np.log(np.float32([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    given = np.float32([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]])
    found = proving.compared(given, expected)
    assert found["largest_difference"] == pytest.approx(0.25, abs=1e-6)
    assert found["mean_difference"] == pytest.approx(0.5 / 6, abs=1e-6)
    assert found["agreement"] == 0.5


def test_a_file_with_nan_is_refused_and_not_kept(tmp_path, images):
    model = student()
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel * np.nan, bias])
    with pytest.raises(ValueError, match="NaN or infinite outputs; it was not kept"):
        export.saved_model(model, tmp_path / "m", images=images)
    assert list(tmp_path.iterdir()) == []


def test_operators_that_tflite_lacks(tmp_path):
    inputs = keras.Input((4, 4, 3))
    odd = keras.layers.Flatten()(keras.ops.erfinv(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(odd))
    with pytest.raises(ValueError, match="could not be converted.*built-in operators.*Erfinv"):
        export.tflite(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_layers_that_could_not_be_converted_are_named():
    said = (
        'loc(fused["Erfinv:", "functional/odd_one/Erfinv@__inference_<lambda>_9"] at "x"): '
        "error: 'tf.Erfinv' op is neither a custom op nor a flex op\n"
    )
    named = converting._reason(said, ["input", "odd_one", "dense"])
    assert named.startswith("Layers that it lacks operators for: odd_one. Operators: tf.Erfinv.")


def test_the_student_is_left_as_it_was(tmp_path, images):
    model = student("mixed_float16")
    before = model.get_weights()
    export.saved_model(model, tmp_path / "m", images=images)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert model.layers[2].dtype_policy.name == "mixed_float16"


def test_bad_arguments(tmp_path, images):
    model = student()
    path = tmp_path / "m.tflite"
    with pytest.raises(ValueError, match=r"`path` must end in .tflite"):
        export.tflite(model, tmp_path / "m.lite")
    with pytest.raises(ValueError, match="`precision` must be one of.*Did you mean 'float16'"):
        export.tflite(model, path, "float_16")
    (tmp_path / "old.tflite").write_text("mine")
    with pytest.raises(ValueError, match="is there already. Give `overwrite` to replace it"):
        export.tflite(model, tmp_path / "old.tflite")
    with pytest.raises(ValueError, match="cannot be replaced.*which is a file"):
        export.saved_model(model, tmp_path / "old.tflite", overwrite=True)
    assert (tmp_path / "old.tflite").read_text() == "mine"
    with pytest.raises(ValueError, match="`pixels` must be one of"):
        export.tflite(model, path, pixels="uint16")
    with pytest.raises(ValueError, match="'int8' for int8 files"):
        export.tflite(model, path, pixels="int8")
    with pytest.raises(ValueError, match="'uint8' for any but int16x8"):
        export.tflite(model, path, "int16x8", pixels="uint8", calibration=images)
    with pytest.raises(ValueError, match="`output` must be one of"):
        export.tflite(model, path, output="probability")
    with pytest.raises(ValueError, match="must have 3 names, one a class. Received: 2"):
        export.tflite(model, path, class_names=["a", "b"])
    with pytest.raises(ValueError, match="must be strings of one line"):
        export.tflite(model, path, class_names=["a", "b\nc", "d"])
    for precision in ("int8", "int16x8"):
        with pytest.raises(ValueError, match=f"must be training images for {precision}"):
            export.tflite(model, path, precision)
    with pytest.raises(ValueError, match="does not go into float16 files"):
        export.tflite(model, path, "float16", calibration=images)
    for bad, said in (
        (images[:3], "at least 16"),
        (images * 255, "calibration"),
        (images[:, :4], "shape"),
        (images[:0], "at least 16"),
    ):
        with pytest.raises(ValueError, match=said):
            export.tflite(model, path, "int8", calibration=bad)
    assert [one.name for one in tmp_path.iterdir()] == ["old.tflite"]


def test_a_folder_that_cannot_be_written(tmp_path, images, monkeypatch):
    with pytest.raises(ValueError, match="must be in a folder that exists"):
        export.tflite(student(), tmp_path / "none" / "m.tflite", images=images)

    def full(source, target):
        raise OSError(28, "No space left on device", target)

    monkeypatch.setattr("kdkeras.export.writing.shutil.copytree", full)
    with pytest.raises(OSError, match=r"Could not write .*saved: No space left.*Check that"):
        export.saved_model(student(), tmp_path / "saved", images=images)

    monkeypatch.setattr("kdkeras.export.converting.shutil.copyfile", full)
    with pytest.raises(OSError, match=r"Could not write .*m.tflite: No space left.*Check that"):
        export.tflite(student(), tmp_path / "m.tflite", images=images)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_models(tmp_path, images):
    with pytest.raises(ValueError, match="does not exist"):
        runtimes.load(tmp_path / "none.keras")
    for name in ("a.keras", "a.tflite"):
        (tmp_path / name).write_bytes(b"not a model at all, by any means")
        with pytest.raises(ValueError, match="cannot be read as a model"):
            runtimes.load(tmp_path / name)
    whole = export.tflite(student(), tmp_path / "m.tflite", images=images).read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.tflite").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match="cannot be read as a model"):
            runtimes.load(tmp_path / "cut.tflite")
    (tmp_path / "a.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="A model is expected: a .keras, .tflite or .onnx"):
        runtimes.load(tmp_path / "a.pb")


def test_a_softmax_is_taken_off(tmp_path, images):
    model = student()
    keras.Sequential([model, keras.layers.Softmax()]).save(tmp_path / "m.keras")
    np.testing.assert_allclose(
        runtimes.load(tmp_path / "m.keras")(images), model(images), atol=1e-5
    )


def test_pixels_as_files_take_them():
    image = np.float32([0.0, 1.0, 0.5, 100 / 255])
    np.testing.assert_array_equal(runtimes.pixels(image, np.float32), image)
    np.testing.assert_array_equal(runtimes.pixels(image, np.uint8), [0, 255, 128, 100])
    quantised = runtimes.pixels(image, np.int8, 1 / 255, -128)
    np.testing.assert_array_equal(quantised, [-128, 127, 0, -28])
    # A file calibrated on paler images: what is brighter is cut off.
    np.testing.assert_array_equal(runtimes.pixels(image, np.uint8, 0.5 / 255), [0, 255, 255, 200])


def test_many_classes_in_steps_of_1_256(tmp_path):
    """Zeros are zeros: a thousand of them do not add up to anything."""
    random = np.random.default_rng(4)
    images = random.integers(0, 256, (32, 8, 8, 1)).astype("float32") / 255
    inputs = keras.Input((8, 8, 1))
    dense = keras.layers.Dense(1000, kernel_initializer=keras.initializers.RandomNormal(0, 2.0))
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    path = export.tflite(model, tmp_path / "m.tflite", "int8", calibration=images)
    run = runtimes.load(path)
    given = run.as_probabilities(run.given(images))
    np.testing.assert_array_equal(given * 256, np.rint(given * 256))
    expected = softmax(model(images))
    assert np.median(np.abs(given - expected).max(-1)) < 0.1
    logits = run(images)
    np.testing.assert_array_equal(logits.argmax(-1), given.argmax(-1))
    # As logits they stand for the same, but for half a step that all zeros share.
    np.testing.assert_allclose(softmax(logits), given / given.sum(-1, keepdims=True), atol=3e-3)
    assert np.isfinite(logits).all()


def test_students_that_take_bytes_or_give_one_number(tmp_path):
    """What would be exported, proven equal, and be wrong in every app."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255, name="to_unit")(inputs)
    of_bytes = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)), name="bytes")
    with pytest.raises(ValueError, match=r"'bytes', which begins with 'to_unit', a Rescaling by"):
        export.tflite(of_bytes, tmp_path / "m.tflite")
    image = keras.Input((8, 8, 3))
    wrapped = keras.Model(image, of_bytes(255 * image))
    path = export.tflite(wrapped, tmp_path / "wrapped.tflite")
    seen = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("float32")
    given = softmax(runtimes.load(path)(seen / 255))
    np.testing.assert_allclose(given, softmax(of_bytes(seen)), atol=1e-5)
    one = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="each of at least two classes.*two logits for a binary"):
        export.tflite(one, tmp_path / "one.tflite")


def test_a_file_without_its_end(tmp_path, images):
    path = export.tflite(student(), tmp_path / "m.tflite", images=images)
    whole = path.read_bytes()
    for lost in (10, 200):
        path.write_bytes(whole[:-lost])
        with pytest.raises(ValueError, match="it is cut short: its end, with the class names"):
            runtimes.load(path)
