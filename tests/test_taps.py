"""Taps: paths, inner tensors in one forward, and pairs of layers."""

import keras
import numpy as np
import pytest
from conftest import conv_net, pictures

import kdkeras
from kdkeras import taps

pytestmark = pytest.mark.core


def nested(size=8, frozen=False):
    """A backbone inside a Functional model, inside another."""
    backbone = conv_net(size=size, name="backbone")
    inputs = keras.Input((size, size, 1))
    inner = keras.Model(inputs, backbone(inputs), name="middle")
    outer = keras.Input((size, size, 1))
    x = keras.layers.Rescaling(2.0, -1.0)(outer)
    x = inner(x, training=False) if frozen else inner(x)
    return keras.Model(outer, keras.layers.Dense(3, name="head")(x), name="outer"), backbone


def test_paths_follow_the_graph_and_enter_nested_models():
    model, _ = nested()
    found = taps.paths(model)
    assert found[0].startswith("rescaling")
    assert found[1:4] == ["middle/backbone/c0", "middle/backbone/b0", "middle/backbone/r0"]
    assert found[-3:] == ["middle/backbone", "middle", "head"]


@pytest.mark.parametrize("training", [False, True])
def test_tapped_tensors_are_those_of_the_model(training):
    model = conv_net()
    x, _ = pictures()
    statistics = [weight.numpy() for weight in model.non_trainable_weights]
    expected_inner = keras.Model(model.input, model.get_layer("r1").output)(x, training=training)
    expected = model(x, training=training)
    for weight, before in zip(model.non_trainable_weights, statistics, strict=True):
        weight.assign(before)
    found = taps.tap(model, ["r1", "logits"])(x, training=training)
    np.testing.assert_allclose(found["outputs"], expected, rtol=1e-6)
    np.testing.assert_allclose(found["features"]["r1"], expected_inner, rtol=1e-6)
    np.testing.assert_allclose(found["features"]["logits"], expected, rtol=1e-6)
    assert list(found["features"]) == ["r1", "logits"]


@pytest.mark.parametrize("frozen", [False, True])
def test_tapped_tensors_of_nested_models(frozen):
    model, backbone = nested(frozen=frozen)
    x, _ = pictures()
    path = "middle/backbone/r0"
    tapped = taps.tap(model, [path])
    expected = keras.Model(backbone.input, backbone.get_layer("r0").output)(2.0 * x - 1.0)
    found = tapped(x)
    np.testing.assert_allclose(found["features"][path], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found["outputs"], model(x), rtol=1e-6)
    # In training the BatchNorm statistics go where the model itself would move them.
    moving_mean, moved = backbone.get_layer("b0").moving_mean, []
    for one in (model, tapped):
        moving_mean.assign(np.zeros(4))
        one(x, training=True)
        moved.append(moving_mean.numpy())
    np.testing.assert_allclose(*moved, rtol=1e-6)


def test_the_weights_are_shared_and_the_model_stays_as_it_was(tmp_path):
    model, _ = nested()
    model.compile("sgd", "mse")
    weights = [id(weight) for weight in model.weights]
    x, _ = pictures()
    expected = model(x).numpy()
    tapped = taps.tap(model, ["middle/backbone/r1"])
    assert {id(weight) for weight in tapped.weights} == set(weights)
    assert [id(weight) for weight in model.weights] == weights
    np.testing.assert_array_equal(keras.Model(model.input, model.layers[-1].output)(x), expected)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-6)


def test_sequential_models_and_structured_outputs():
    x, _ = pictures()
    sequential = keras.Sequential(
        [keras.Input((8, 8, 1)), conv_net(name="backbone"), keras.layers.Dense(2, name="top")]
    )
    found = taps.tap(sequential, ["backbone/r0", "top"])(x)
    assert found["features"]["backbone/r0"].shape == (12, 4, 4, 4)
    np.testing.assert_allclose(found["features"]["top"], sequential(x), rtol=1e-6)
    inputs = keras.Input((4,), name="a")
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    model = keras.Model({"a": inputs}, {"p": hidden, "q": keras.layers.Dense(2)(hidden)})
    found = taps.tap(model, ["hidden"])({"a": np.ones((2, 4), "float32")})
    np.testing.assert_array_equal(found["outputs"]["p"], found["features"]["hidden"])
    assert set(found["outputs"]) == {"p", "q"}


def test_a_layer_that_is_not_there():
    model, _ = nested()
    near = "no layer 'middle/backbone/r00'. Did you mean 'middle/backbone/r0'.*middle/backbone/pool"
    with pytest.raises(ValueError, match=near):
        taps.tap(model, ["middle/backbone/r00"])


def test_a_layer_that_is_called_twice():
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)))
    with pytest.raises(ValueError, match="layer 'shared'.*called more than once"):
        taps.tap(model, ["shared"])
    assert taps.shapes(model) == {}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("make", [Subclassed, lambda: keras.Sequential([keras.layers.Dense(3)])])
def test_a_model_without_a_graph(make):
    for look in (taps.paths, taps.shapes, taps.penultimate, lambda model: taps.tap(model, ["x"])):
        with pytest.raises(
            ValueError, match="no graph of layers.*keras.Model\\(inputs, outputs\\)"
        ):
            look(make())


def test_shapes_are_those_in_the_outer_model():
    inputs = keras.Input((None, None, 1))
    inner = keras.Model(inputs, keras.layers.Conv2D(2, 3, padding="same")(inputs), name="inner")
    inner.layers[1].name = "conv"
    outer = keras.Input((8, 8, 1))
    model = keras.Model(outer, inner(outer))
    assert taps.shapes(model) == {"inner/conv": (None, 8, 8, 2), "inner": (None, 8, 8, 2)}


def test_layers_match_by_stride_the_last_of_each():
    teacher = kdkeras.models.resnet(20, input_shape=(32, 32, 3), num_classes=10)
    student = kdkeras.models.mobilenet_v2(input_shape=(32, 32, 3), num_classes=10, alpha=0.35)
    pairs = kdkeras.match_layers(teacher, student)
    assert [pair[0] for pair in pairs] == [f"stage{i}_block3_relu" for i in (1, 2, 3)]
    of_teacher, of_student = taps.shapes(teacher), taps.shapes(student)
    for (one, other), size in zip(pairs, (32, 16, 8), strict=True):
        assert of_teacher[one][1:3] == of_student[other][1:3] == (size, size)
        # The deepest at that size: what comes behind it is smaller.
        later = list(of_student)[list(of_student).index(other) + 1 :]
        assert all(of_student[path][1:3] != (size, size) for path in later)


def test_layers_match_by_stride_whatever_the_input_size_and_nesting():
    base = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3), alpha=0.35
    )
    inputs = keras.Input((64, 64, 3))
    x = base(keras.layers.Rescaling(2.0, -1.0)(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    student = keras.Model(inputs, keras.layers.Dense(5)(x))
    pairs = kdkeras.match_layers(conv_net(size=16, channels=3), student)
    assert pairs == [
        ("r0", f"{base.name}/block_1_expand_relu"),
        ("r1", f"{base.name}/block_3_expand_relu"),
    ]
    assert taps.penultimate(student) == "pool"
    model, _ = nested()
    inner = [("r0", "middle/backbone/r0"), ("r1", "middle/backbone/r1")]
    assert kdkeras.match_layers(conv_net(), model) == inner


def test_models_without_maps_match_in_front_of_the_logits():
    one = kdkeras.models.mlp(input_shape=(4,), num_classes=3, hidden=(8, 8))
    other = kdkeras.models.mlp(input_shape=(4,), num_classes=3, hidden=(5,))
    ((of_one, of_other),) = kdkeras.match_layers(one, other)
    shapes = taps.shapes(one)[of_one], taps.shapes(other)[of_other]
    assert shapes == ((None, 8), (None, 5))
    assert kdkeras.match_layers(
        conv_net(), kdkeras.models.mlp(input_shape=(8, 8, 1), num_classes=3)
    )


def test_penultimate_of_nested_models_and_of_none():
    model, _ = nested()
    assert taps.penultimate(model) == "middle"
    inputs = keras.Input((8, 8, 1))
    assert taps.penultimate(keras.Model(inputs, conv_net(name="net")(inputs))) == "net/pool"
    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match="no layer in front of its logits"):
        taps.penultimate(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
