"""The ways in which exporting a Keras 3 student breaks: a right file, or a clear refusal."""

import keras
import numpy as np
import pytest
from conftest import conv_net, pictures

import kdkeras
from kdkeras import export, inference, runtimes

pytestmark = pytest.mark.usefixtures("quick_children")

BUILTIN = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "ADD", "MUL", "SOFTMAX"),
    *("DEQUANTIZE", "QUANTIZE"),
}


def written(student, folder, **options):
    """The rows of a float32 `.tflite` and a SavedModel, found equal to the student."""
    x, _ = pictures(16)
    kinds = options.pop("kinds", ["saved_model", "float32"])
    report = export.flavours(student, folder, x, kinds=kinds, timed=False, **options)
    assert report["failed"] == {}
    for row in report["files"].values():
        assert row["largest_difference"] <= 1e-5
        assert row["agreement"] == 1.0
    return report["files"]


def test_no_file_without_its_weights(tmp_path):
    """1. Variables left behind: a tenth of the size, NaN answers, no error."""
    student = conv_net()
    row = written(student, tmp_path)["float32"]
    weights = 4 * sum(w.shape.num_elements() for w in student.trainable_weights)
    assert row["bytes"] > weights
    assert set(row["operators"]) <= BUILTIN


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_students(tmp_path, policy):
    """2. A mixed-precision student becomes a file of operators that no phone has."""
    keras.config.set_dtype_policy(policy)
    student = conv_net()
    keras.config.set_dtype_policy("float32")
    assert student.get_layer("c1").compute_dtype == policy.removeprefix("mixed_")
    row = written(student, tmp_path, kinds=["float32"])["float32"]
    assert set(row["operators"]) <= BUILTIN


def augmented():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.RandomFlip(name="flip")(inputs)
    x = keras.layers.RandomRotation(0.4, name="turn")(x, training=True)
    x = keras.layers.RandomCrop(8, 8, name="cut")(x)
    x = keras.layers.GaussianNoise(0.3)(x)
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_augmentation_layers_stay_behind(tmp_path):
    """3. Augmentation inside the student: random answers from the SavedModel, or no conversion."""
    student = augmented()
    x, _ = pictures(16)
    assert not np.allclose(student(x), student(x))
    files = written(student, tmp_path)
    plain = keras.Sequential(
        [keras.Input((8, 8, 1)), student.get_layer("conv"), *student.layers[-2:]]
    )
    for row in files.values():
        run = runtimes.load(row["path"])
        np.testing.assert_array_equal(run(x), run(x))
        np.testing.assert_allclose(
            keras.ops.softmax(run(x)), keras.ops.softmax(plain(x)), atol=1e-5
        )
    kinds = [type(layer).__name__ for layer in inference.clone(student).layers]
    assert kinds.count("Identity") == 2
    assert "RandomCrop" in kinds


@keras.saving.register_keras_serializable("tests")
class Trembling(keras.layers.Layer):
    """Random whatever `training` says."""

    def call(self, x):
        return x + keras.random.normal((3,))


def test_other_randomness_is_refused(tmp_path):
    """3, too: what is random at inference cannot be equal to anything."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    student = keras.Model(inputs, Trembling(name="tremble")(x))
    with pytest.raises(ValueError, match="random at inference"):
        export.tflite(student, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_int8_without_model_quantize(tmp_path):
    """4. `model.quantize("int8")` knows no convolutions, and what it gives does not convert."""
    student = conv_net()
    x, _ = pictures(16)
    path = export.tflite(student, tmp_path / "m.tflite", "int8", calibration=x)
    assert {"CONV_2D", "FULLY_CONNECTED"} <= set(operators(path))
    student.layers[-1].quantize("int8")
    with pytest.raises(ValueError, match=r"cannot be|could not be converted|not built"):
        export.tflite(student, tmp_path / "quantised.tflite")
    assert [one.name for one in tmp_path.iterdir()] == ["m.tflite"]


def operators(path):
    from kdkeras.export import operators

    return operators.used(None, path)


def test_a_distiller_exports_its_student_alone(tmp_path):
    """5. A Distiller exported whole drags its teacher along."""
    student, teacher = conv_net(4), conv_net(64)
    d = kdkeras.Distiller(student=student, teacher=teacher)
    d.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = pictures(16)
    d.fit(x, y, verbose=0)
    of_distiller = written(d, tmp_path / "d")
    of_student = written(student, tmp_path / "s")
    assert of_distiller["float32"]["sha256"] == of_student["float32"]["sha256"]
    sizes = [files["saved_model"]["bytes"] for files in (of_distiller, of_student)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert sizes[0] < 4 * teacher.count_params()
    d.save(tmp_path / "d.keras")
    from_file = written(str(tmp_path / "d.keras"), tmp_path / "f", kinds=["float32"])
    np.testing.assert_array_equal(
        runtimes.load(from_file["float32"]["path"])(x),
        runtimes.load(of_student["float32"]["path"])(x),
    )


def test_students_that_are_not_built_or_no_graphs(tmp_path):
    """5, too: unbuilt and subclassed models."""

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(keras.ops.reshape(x, (-1, 64)))

    path = tmp_path / "m.tflite"
    with pytest.raises(ValueError, match="must be a built.*Begin it with `keras.Input`"):
        export.tflite(keras.Sequential([keras.layers.Dense(2)], name="s"), path)
    own = Subclassed()
    own(np.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match="Functional or Sequential.*'own' of type Subclassed"):
        export.tflite(own, path)
    for given, said in ((3, "Received: student=3"), ("m.h5", "another ending")):
        with pytest.raises(ValueError, match=said):
            export.tflite(given, path)
    with pytest.raises(ValueError, match="does not exist"):
        export.tflite(tmp_path / "none.keras", path)
    (tmp_path / "broken.keras").write_bytes(b"PK broken")
    with pytest.raises(ValueError, match="cannot be loaded from"):
        export.tflite(tmp_path / "broken.keras", path)
    net = conv_net()
    several = keras.Model(net.inputs, [net.outputs[0], net.get_layer("pool").output])
    with pytest.raises(ValueError, match="must have one output. Received: .* which has 2"):
        export.tflite(several, path)
    assert not path.exists()


def test_only_builtin_operators(tmp_path):
    """6. Keras's own route lets in operators of TensorFlow that phones' runtimes do not have."""
    inputs = keras.Input((8, 8, 1))
    x = keras.ops.image.resize(inputs, (4, 4), interpolation="bicubic")
    x = keras.layers.GlobalAveragePooling2D()(x)
    student = keras.Model(inputs, keras.layers.Dense(3)(x))
    with pytest.raises(ValueError, match="could not be converted.*ResizeBicubic"):
        export.tflite(student, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_endings_and_saved_models_that_live(tmp_path):
    """7. Endings are checked; a loaded SavedModel keeps its variables alive."""
    with pytest.raises(ValueError, match=r"must end in .tflite"):
        export.tflite(conv_net(), tmp_path / "model.lite")
    student = conv_net()
    x, _ = pictures(16)
    path = export.saved_model(student, tmp_path / "m")
    np.testing.assert_allclose(runtimes.load(path)(x), student(x), atol=1e-5)


def test_after_other_layers_were_called(tmp_path):
    """8. Keras and TensorFlow out of step: the student exports after it was trained and called."""
    student = conv_net()
    x, y = pictures(16)
    student.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    student.fit(x, y, verbose=0)
    student.predict(x, verbose=0)
    written(student, tmp_path, kinds=["float32"])


def test_one_image_at_a_time(tmp_path):
    """9. A free batch size puts shape arithmetic into the file, which delegates refuse."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Reshape((16, 4))(inputs)
    x = keras.layers.Flatten()(x)
    student = keras.Model(inputs, keras.layers.Dense(3)(x))
    row = written(student, tmp_path, kinds=["float32"])["float32"]
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & set(row["operators"])
    assert export.about(row["path"])["input"]["shape"] == [1, 8, 8, 1]


def test_images_of_any_size(tmp_path):
    inputs = keras.Input((None, None, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    student = keras.Model(inputs, keras.layers.Dense(3)(x), name="any_size")
    with pytest.raises(ValueError, match="fixed size. Received: 'any_size' with input shape"):
        export.tflite(student, tmp_path / "m.tflite")
    image = keras.Input((8, 8, 1))
    written(keras.Model(image, student(image)), tmp_path, kinds=["float32"])


def test_a_softmax_is_not_applied_twice(tmp_path):
    student = conv_net()
    ends = keras.Model(student.inputs, keras.layers.Softmax()(student.outputs[0]))
    x, _ = pictures(16)
    path = export.tflite(ends, tmp_path / "m.tflite", images=x)
    given = keras.ops.softmax(runtimes.load(path)(x))
    np.testing.assert_allclose(given, keras.ops.softmax(student(x)), atol=1e-5)
