"""Exported files: right or refused."""

import keras
import numpy as np
import pytest

from kdkeras import export, models, runtimes


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
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).random((12, 8, 8, 3), "float32")


def softmax(logits):
    return np.asarray(keras.ops.softmax(logits))


def test_saved_model_equals_the_student(tmp_path, images):
    model = student()
    path = export.saved_model(model, tmp_path / "m", images=images)
    run = runtimes.load(path)
    assert run.input_shape == (8, 8, 3)
    np.testing.assert_allclose(run(images), model(images), atol=1e-5)


def test_mobilenet_v2_as_tflite(tmp_path):
    images = np.random.default_rng(2).random((6, 16, 16, 3), "float32")
    model = models.mobilenet_v2(input_shape=(16, 16, 3), num_classes=3, alpha=0.35)
    for _ in range(10):
        model(images, training=True)
    run = runtimes.load(export.tflite(model, tmp_path / "m.tflite", images=images))
    np.testing.assert_allclose(run(images), model(images), atol=1e-3)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_tflite_equals_the_student_whatever_its_policy(tmp_path, images, policy):
    model = student(policy)
    twin = student()
    twin.set_weights(model.get_weights())
    run = runtimes.load(export.tflite(model, tmp_path / "m.tflite", images=images))
    assert run.input_shape == (8, 8, 3)
    np.testing.assert_allclose(run(images), twin(images), atol=1e-4)
    assert model.get_layer("logits").dtype_policy.name == "float32"
    details = run.interpreter._get_ops_details()
    assert not [op["op_name"] for op in details if "Flex" in op["op_name"]]


@pytest.mark.parametrize(("precision", "smaller"), [("float16", 0.75), ("dynamic", 0.75)])
def test_smaller_files(tmp_path, images, precision, smaller):
    model = student()
    whole = export.tflite(model, tmp_path / "whole.tflite", images=images)
    small = export.tflite(model, tmp_path / "small.tflite", precision, images=images)
    assert small.stat().st_size < smaller * whole.stat().st_size
    difference = np.abs(softmax(runtimes.load(small)(images)) - softmax(model(images))).max()
    assert 0 < difference < export.TOLERANCES[precision]


def test_a_file_that_differs_is_refused_and_not_kept(tmp_path, images, monkeypatch):
    monkeypatch.setitem(export.TOLERANCES, "dynamic", 1e-9)
    with pytest.raises(ValueError, match="differs from the student by .* It was not kept"):
        export.tflite(student(), tmp_path / "m.tflite", "dynamic", images=images)
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(ValueError, match="could not be converted.*built-in operators"):
        export.tflite(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_the_student_is_left_as_it_was(tmp_path, images):
    model = student("mixed_float16")
    before = model.get_weights()
    export.saved_model(model, tmp_path / "m", images=images)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert model.layers[2].dtype_policy.name == "mixed_float16"


def test_bad_arguments(tmp_path):
    model = student()
    with pytest.raises(ValueError, match=r"`path` must end in .tflite"):
        export.tflite(model, tmp_path / "m.lite")
    with pytest.raises(ValueError, match="`precision` must be one of.*Did you mean 'float16'"):
        export.tflite(model, tmp_path / "m.tflite", "float_16")
    (tmp_path / "old.tflite").write_text("mine")
    with pytest.raises(ValueError, match="`path` must not exist yet"):
        export.tflite(model, tmp_path / "old.tflite")
    assert (tmp_path / "old.tflite").read_text() == "mine"
    with pytest.raises(ValueError, match="must be a built `keras.Model`"):
        export.saved_model(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "m")


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        runtimes.load(tmp_path / "none.keras")
    for name in ("a.keras", "a.tflite"):
        (tmp_path / name).write_bytes(b"not a model at all, by any means")
        with pytest.raises(ValueError, match="cannot be read as a model"):
            runtimes.load(tmp_path / name)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="must be a .keras file"):
        runtimes.load(tmp_path / "a.onnx")


def test_a_softmax_is_taken_off(tmp_path, images):
    model = student()
    keras.Sequential([model, keras.layers.Softmax()]).save(tmp_path / "m.keras")
    np.testing.assert_allclose(
        runtimes.load(tmp_path / "m.keras")(images), model(images), atol=1e-5
    )
