"""Sizes and costs against published figures; logits, precision, saving, conversion, surgery."""

import inspect
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdkeras import models
from kdkeras.models import applications

pytestmark = pytest.mark.core

CIFAR = {"input_shape": (32, 32, 3), "num_classes": 10}
TINY = {"input_shape": (16, 16, 3), "num_classes": 5}
TINY_MODELS = {
    "resnet20": lambda: models.resnet(20, width=4, **TINY),
    "mobilenet_v2": lambda: models.mobilenet_v2(alpha=0.1, dropout=0.1, **TINY),
    "shufflenet_v2": lambda: models.shufflenet_v2(width=0.5, **TINY),
    "mlp": lambda: models.mlp(input_shape=(6,), num_classes=5, mean=0.5, variance=[2.0] * 6),
    "application": lambda: models.application("MobileNetV3Small", **CIFAR),
    "caffe": lambda: preprocessing("ResNet50"),
    "torch": lambda: preprocessing("DenseNet121"),
}


def preprocessing(name):
    pixels = keras.Input((4, 5, 3))
    return keras.Model(pixels, applications.preprocess(pixels, name))


def images(model, count=3):
    rng = np.random.default_rng(0)
    return rng.random((count, *model.input_shape[1:])).astype("float32")


def run(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def randomize(model):
    """Makes every weight matter, the moving statistics and the zero biases too."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(weight + 0.1 * rng.random(weight.shape).astype("float32"))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The tiny models, where each is saved, and its outputs."""
    folder, known = tmp_path_factory.mktemp("models"), {}
    for name, make in TINY_MODELS.items():
        model = randomize(make())
        model.save(folder / f"{name}.keras")
        known[name] = model, folder / f"{name}.keras", run(model, images(model))
    return known


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("depth", "millions", "mega_macs"),
    [
        # He et al. 2016, table 6, for the parameters of 20 to 110, which leave out the moving
        # statistics (1 % here); costs are those of parameter-free shortcuts.
        (20, "0.27", "40.6"),
        (32, "0.47", "68.9"),
        (44, "0.66", "97.2"),
        (56, "0.86", "125.5"),
        (110, "1.74", "252.9"),
        (18, "11.18", "555.4"),
        (34, "21.30", "1159.4"),
        (50, "23.57", "1297.8"),
    ],
)
def test_resnet_size(depth, millions, mega_macs):
    expected = f"resnet{depth}: {millions} M parameters, {mega_macs} MMAC for 32x32x3"
    assert models.describe(models.resnet(depth, **CIFAR)) == expected


@pytest.mark.parametrize(
    ("alpha", "pixels", "strides", "millions", "mega_macs"),
    [
        (0.35, 32, "auto", 0.423, 15.61),
        (0.50, 32, "auto", 0.719, 27.97),
        (0.75, 32, "auto", 1.395, 59.31),
        (1.00, 32, "small", 2.271, 87.98),
        (0.35, 32, "stock", 0.423, 1.20),
        (0.50, 32, "stock", 0.719, 1.97),
        (0.75, 32, "stock", 1.395, 4.25),
        (1.00, 32, "stock", 2.271, 6.12),
        (0.35, 96, "auto", 0.423, 10.67),
        (0.35, 224, "auto", 0.423, 58.02),
    ],
)
def test_mobilenet_v2_size(alpha, pixels, strides, millions, mega_macs):
    model = models.mobilenet_v2(
        input_shape=(pixels, pixels, 3), num_classes=10, alpha=alpha, strides=strides
    )
    assert round(model.count_params() / 1e6, 3) == millions
    assert round(models.macs(model) / 1e6, 2) == mega_macs
    assert momenta(model) == {0.9 if pixels < 96 else 0.999}


def momenta(model):
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return {layer.momentum for layer in layers}


@pytest.mark.parametrize(
    ("width", "parameters", "mega_macs"), [(0.5, 1_366_792, 41), (1.0, 2_278_604, 146)]
)
def test_shufflenet_v2_size_is_the_published_one(width, parameters, mega_macs):
    model = models.shufflenet_v2(input_shape=(224, 224, 3), num_classes=1000, width=width)
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == parameters
    assert models.macs(model) / 1e6 == pytest.approx(mega_macs, rel=0.02)


def test_application_size():
    model = models.application("ResNet50", **CIFAR)
    assert models.describe(model) == "ResNet50: 23.61 M parameters, 78.7 MMAC for 32x32x3"


def test_strides_follow_the_image_size():
    def last_map(model):
        return model.get_layer("pool").input.shape[1:3]

    for size, expected in {(95, 200, 1): (12, 25), (96, 96, 3): (3, 3)}.items():
        assert last_map(models.shufflenet_v2(input_shape=size, num_classes=10)) == expected
    mobilenet = models.mobilenet_v2(input_shape=(28, 95, 1), num_classes=10, alpha=0.1)
    assert last_map(mobilenet) == (4, 12)
    assert last_map(models.resnet(20, input_shape=(28, 28, 1), num_classes=10)) == (7, 7)
    assert last_map(models.resnet(18, width=4, input_shape=(9, 13, 1), num_classes=2)) == (2, 2)


def test_resnet_shortcut_subsamples_and_adds_zero_channels(saved):
    model = saved["resnet20"][0]
    add = model.get_layer("stage2_block1_add")
    before, shortcut = (
        run(keras.Model(model.input, tensor), images(model))
        for tensor in (model.get_layer("stage1_block3_relu").output, add.input[0])
    )
    np.testing.assert_array_equal(shortcut[..., 2:6], before[:, ::2, ::2])
    assert not shortcut[..., :2].any()
    assert not shortcut[..., 6:].any()


def test_shuffle_takes_channels_in_turns(saved):
    model = saved["shufflenet_v2"][0]
    concatenated, shuffled = (
        run(keras.Model(model.input, model.get_layer(f"stage2_unit1_{name}").output), images(model))
        for name in ("concat", "ungroup")
    )
    np.testing.assert_array_equal(shuffled[..., 0::2], concatenated[..., :24])
    np.testing.assert_array_equal(shuffled[..., 1::2], concatenated[..., 24:])


def test_mobilenet_v2_takes_the_weights_of_the_application(tmp_path):
    shape = (224, 224, 3)
    stock = randomize(keras.applications.MobileNetV2(shape, 0.35, include_top=False, weights=None))
    path = tmp_path / "backbone.weights.h5"
    stock.save_weights(path)
    small = models.mobilenet_v2(
        input_shape=(33, 32, 3), num_classes=4, alpha=0.35, weights=str(path)
    )
    *backbone, kernel, bias = small.get_weights()
    assert (kernel.shape, bias.shape) == ((1280, 4), (4,))
    for transferred, original in zip(backbone, stock.get_weights(), strict=True):
        np.testing.assert_array_equal(transferred, original)


def test_mobilenet_v2_at_stock_strides_is_the_application(tmp_path):
    shape = (49, 60, 1)
    stock = randomize(keras.applications.MobileNetV2(shape, 0.35, include_top=False, weights=None))
    path = tmp_path / "backbone.weights.h5"
    stock.save_weights(path)
    model = models.mobilenet_v2(
        input_shape=shape, num_classes=4, alpha=0.35, weights=str(path), strides="stock"
    )
    x = images(model)
    features = keras.Model(model.input, model.get_layer("out_relu").output)
    np.testing.assert_allclose(run(features, x), run(stock, 2 * x - 1), atol=1e-5)


def test_batchnorm_momentum_can_be_given():
    for build in (models.mobilenet_v2, models.shufflenet_v2):
        assert momenta(build(batchnorm_momentum=0.97, **TINY)) == {0.97}


def test_mobilenet_v2_activations_keep_their_scale_at_the_start():
    model = models.mobilenet_v2(**CIFAR)
    depthwise = model.get_layer("block_16_depthwise")
    features = run(keras.Model(model.input, depthwise.output), images(model))
    assert features.var() > 0.1  # against the 0.001 of BatchNormalization's epsilon


@pytest.mark.parametrize("name", applications.NAMES)
def test_preprocessing_is_that_of_the_family(name):
    model = preprocessing(name)
    x = images(model)
    family = inspect.getmodule(getattr(keras.applications, name))
    np.testing.assert_allclose(run(model, x), family.preprocess_input(255 * x), atol=1e-4)


def test_every_application_is_listed():
    classes = [name for name in dir(keras.applications) if name[0].isupper()]
    assert sorted(applications.NAMES) == sorted(classes)


def test_application_computes_what_keras_does(tmp_path):
    backbone = keras.applications.EfficientNetB0(
        input_shape=(32, 32, 3), include_top=False, weights=None, pooling="avg"
    )
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    path = str(tmp_path / "backbone.weights.h5")
    model = models.build("EfficientNetB0", **CIFAR, weights=path)
    x = images(model)
    features = run(keras.Model(model.input, model.layers[-2].output), x)
    np.testing.assert_allclose(features, run(backbone, 255 * x), atol=1e-5)
    assert model.layers[-1].name == "logits"


def test_mlp_normalizes_with_the_given_constants():
    x = np.random.default_rng(0).normal([1.0, -3.0], [2.0, 0.5], (9, 2)).astype("float32")
    options = {"input_shape": (2,), "num_classes": 3}
    model = models.mlp(mean=x.mean(axis=0), variance=x.var(axis=0), hidden=(), **options)
    kernel, bias = model.layers[-1].get_weights()
    expected = (x - x.mean(axis=0)) / x.std(axis=0) @ kernel + bias
    np.testing.assert_allclose(run(model, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("mixed_float16", "mobilenet_v2"),
        ("mixed_float16", "resnet20"),
        ("mixed_float16", "shufflenet_v2"),
        ("mixed_float16", "mlp"),
        ("mixed_bfloat16", "resnet20"),
        ("mixed_bfloat16", "application"),
    ],
    indirect=["policy"],
)
def test_logits_are_float32_under_mixed_precision(policy, name):
    model = TINY_MODELS[name]()
    y = model(images(model, 2))
    assert y.dtype == "float32"
    assert tuple(y.shape) == (2, model.output_shape[-1])
    assert model.layers[-2].compute_dtype == policy.removeprefix("mixed_")
    assert model.layers[-1].name == "logits"


@pytest.mark.parametrize("name", TINY_MODELS)
def test_saved_model_computes_the_same(saved, name):
    model, path, expected = saved[name]
    assert expected.shape == (3, *model.output_shape[1:])
    np.testing.assert_array_equal(run(keras.models.load_model(path), images(model)), expected)


def test_saved_models_load_without_kdkeras(saved, tmp_path):
    names = ["caffe", "mlp", "resnet20"]
    for name in names:
        model, path, expected = saved[name]
        np.savez(tmp_path / f"{name}.npz", x=images(model), y=expected)
        shutil.copy(path, tmp_path)
    script = f"""
import sys, keras, numpy as np
for name in {names}:
    data = np.load(name + ".npz")
    y = keras.models.load_model(name + ".keras")(data["x"], training=False)
    np.testing.assert_allclose(y, data["y"], atol=1e-5)
    print(name)
sys.exit(any(name.startswith("kdkeras") for name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == names


@pytest.mark.parametrize("name", ["resnet20", "shufflenet_v2", "caffe"])
def test_converts_to_tflite_with_builtin_operations(saved, name, tmp_path):
    tf = pytest.importorskip("tensorflow")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    model, _, expected = saved[name]
    model.export(tmp_path / "saved_model", verbose=False)
    # Without tf.lite.OpsSet.SELECT_TF_OPS the converter fails where it would need a Flex operation.
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved_model"))
    interpreter = litert.Interpreter(model_content=converter.convert())
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(x["index"], (3, *model.input_shape[1:]))
    interpreter.allocate_tensors()
    interpreter.set_tensor(x["index"], images(model))
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(y["index"]), expected, rtol=1e-4, atol=1e-4)


class Scaled(keras.layers.Dense):
    """A layer of one's own, registered nowhere, with an activation."""


def functional(head):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, head(x), name="classifier")


def sequential(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), *layers])


def nested(inner):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, inner(keras.layers.Activation("tanh")(inputs)))


def dense(activation="softmax", kind=keras.layers.Dense):
    return kind(5, activation=activation, bias_initializer="ones")


SOFTMAX_MODELS = {
    "dense": lambda: functional(dense()),
    "custom": lambda: functional(dense(kind=Scaled)),
    "layer": lambda: functional(lambda x: keras.layers.Softmax()(dense(None)(x))),
    "activation": lambda: functional(
        lambda x: keras.layers.Activation("softmax", dtype="float32")(dense(None)(x))
    ),
    "function": lambda: functional(lambda x: keras.ops.softmax(dense(None)(x))),
    "sequential": lambda: sequential(dense()),
    "sequential layer": lambda: sequential(dense(None), keras.layers.Softmax()),
    "nested": lambda: nested(functional(dense())),
    "nested layer": lambda: nested(functional(lambda x: keras.layers.Softmax()(dense(None)(x)))),
    "nested sequential": lambda: nested(sequential(dense(None), keras.layers.Softmax())),
    "in sequential": lambda: keras.Sequential([keras.Input((8, 8, 3)), functional(dense())]),
    "twice nested": lambda: nested(nested(functional(dense()))),
}


@pytest.mark.parametrize("name", SOFTMAX_MODELS)
def test_logits_are_the_model_before_its_softmax(name):
    model = randomize(SOFTMAX_MODELS[name]())
    # Neither the loss nor the metric of the model may come along, or be needed.
    model.compile("sgd", loss=lambda y, p: keras.ops.mean(p - y))
    x = images(model)
    probabilities, config, weights = run(model, x), model.get_config(), model.get_weights()
    assert models.final_softmax(model)

    stripped = models.logits(model)
    z = run(stripped, x)
    assert not models.final_softmax(stripped)
    assert not stripped.compiled
    assert models.logits(stripped) is stripped
    np.testing.assert_allclose(run(keras.layers.Softmax(), z), probabilities, atol=1e-6)
    log_p = np.log(probabilities)
    np.testing.assert_allclose(
        z - z.mean(-1, keepdims=True), log_p - log_p.mean(-1, keepdims=True), atol=1e-5
    )

    for weight in stripped.weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(run(model, x), probabilities)
    assert models.final_softmax(model)
    assert model.compiled
    assert model.get_config() == config
    for now, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
@pytest.mark.parametrize("name", ["dense", "activation", "nested layer", "function"])
def test_logits_keep_the_precision(policy, name):
    model = SOFTMAX_MODELS[name]()
    keras.config.set_dtype_policy("float32")
    stripped = models.logits(model)
    assert stripped.output.dtype == model.output.dtype
    assert stripped.count_params() == model.count_params()
    policies = {layer.name: layer.dtype_policy.name for layer in model.layers}
    for layer in stripped.layers:
        if not isinstance(layer, keras.Model | keras.layers.InputLayer):
            # Only the node of keras.ops.softmax is no layer of the original.
            assert layer.dtype_policy.name == policies.get(layer.name, "float16")


def test_logits_of_several_heads():
    inputs = keras.Input((4,))
    heads = {"a": dense()(inputs), "b": dense(None)(inputs)}
    model = keras.Model(inputs, heads)
    x = images(model)
    before, after = model(x), models.logits(model)(x)
    assert models.final_softmax(model)
    np.testing.assert_allclose(keras.ops.softmax(after["a"]), before["a"], atol=1e-6)
    np.testing.assert_array_equal(after["b"], before["b"])


def test_logits_of_a_sequential_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Flatten(), dense()])
    assert models.final_softmax(model)
    assert not models.final_softmax(models.logits(model))


@pytest.mark.parametrize(
    "model", [functional(dense(None)), sequential(dense("relu")), nested(functional(dense(None)))]
)
def test_logits_of_a_model_without_softmax_is_the_model(model):
    assert not models.final_softmax(model)
    assert models.logits(model) is model


class Subclassed(keras.Model):
    def call(self, x):
        return keras.ops.softmax(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (functional(dense("sigmoid")), "model='classifier', which ends in sigmoid. Rebuild it"),
        (nested(functional(dense("sigmoid"))), "which ends in sigmoid"),
        (functional(lambda x: keras.ops.sigmoid(dense(None)(x))), "which ends in sigmoid"),
        (Subclassed(), "`model` must be a Functional or Sequential model.*Let its `call` return"),
    ],
)
def test_logits_cannot_be_recovered(model, message):
    assert not models.final_softmax(model)
    with pytest.raises(ValueError, match=message):
        models.logits(model)


def test_macs_of_each_layer():
    def cost(shape, *layers):
        return models.macs(keras.Sequential([keras.Input(shape), *layers]))

    layers = keras.layers
    assert cost((5,), layers.Dense(3)) == 15
    assert cost((7, 5), layers.Dense(3)) == 7 * 15
    assert cost((8, 6, 4), layers.Conv2D(10, 3, strides=2, padding="same")) == 4 * 3 * 9 * 4 * 10
    assert cost((8, 6, 4), layers.Conv2D(10, 3, groups=2)) == 6 * 4 * 9 * 2 * 10
    assert cost((8, 6, 4), layers.DepthwiseConv2D(3, depth_multiplier=2)) == 6 * 4 * 9 * 4 * 2
    assert cost((8, 6, 4), layers.SeparableConv2D(10, 3)) == 6 * 4 * (9 * 4 + 4 * 10)
    assert cost((8, 6, 4), layers.Conv2DTranspose(10, 3, strides=2)) == 8 * 6 * 9 * 4 * 10
    assert cost((8, 6, 4), layers.BatchNormalization(), layers.ReLU()) == 0


def test_macs_count_every_call():
    shared, inputs = keras.layers.Dense(4), keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    x = inner(shared(shared(inputs)))
    twice = keras.Model(inputs, keras.layers.Add()([x, inner(x)]))
    keras.Model(inputs, shared(inputs))  # a call in another model
    assert models.macs(twice) == 4 * 16


def test_macs_of_a_backbone_for_any_size():
    backbone = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    model = keras.Sequential([keras.Input((4, 5, 3)), backbone])
    calls = len(backbone.layers[0]._inbound_nodes)
    assert models.macs(model) == 4 * 5 * 3 * 2
    assert len(backbone.layers[0]._inbound_nodes) == calls
    with pytest.raises(ValueError, match=r"`model` must have a fixed input shape.*None, None, 3"):
        models.macs(backbone)


def test_describe_without_a_cost():
    model = keras.Sequential([keras.Input((None, 200)), keras.layers.Dense(50)], name="any")
    assert models.describe(model) == "any: 0.01 M parameters"
    with pytest.raises(ValueError, match="Begin a Sequential model with `keras.Input`"):
        models.macs(Subclassed())


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("resnet20", 4, "resnet20: 0.02 M parameters, 0.7 MMAC for 16x16x3"),
        ("mobilenet_v2", 0.35, "mobilenet_v2: 0.42 M parameters, 3.9 MMAC for 16x16x3"),
        ("shufflenet_v2", 0.5, "shufflenet_v2: 0.35 M parameters, 2.7 MMAC for 16x16x3"),
    ],
)
def test_build_passes_the_width(name, width, expected):
    assert models.describe(models.build(name, **TINY, width=width)) == expected


def test_mlp_of_images_normalizes_and_flattens_pixels():
    model = models.mlp(input_shape=(4, 4, 3), num_classes=2, hidden=())
    x = np.random.default_rng(0).random((5, 4, 4, 3), "float32")
    kernel, bias = model.get_layer("logits").get_weights()
    expected = (2 * x.reshape(5, -1) - 1) @ kernel + bias
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_build_mlp_and_load_weights(tmp_path):
    options = {"input_shape": (6,), "num_classes": 3, "width": 7}
    model = randomize(models.build("mlp", **options))
    assert [layer.units for layer in model.layers[2:]] == [7, 7, 3]
    model.save_weights(tmp_path / "mlp.weights.h5")
    again = models.build("mlp", **options, weights=str(tmp_path / "mlp.weights.h5"))
    np.testing.assert_array_equal(run(again, images(model)), run(model, images(model)))


def test_architectures():
    names = models.architectures()
    assert len(set(names)) == len(names) == 8 + 3 + 40
    assert {"resnet110", "resnet50", "ResNet50", "mlp", "mobilenet_v2", "MobileNetV2"} < set(names)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.resnet(21, **CIFAR), r"`depth` must be one of .*110, 18.* depth=21"),
        (lambda: models.resnet(20, width=0, **CIFAR), "`width` must be a positive .* width=0"),
        (
            lambda: models.resnet(18, input_shape=(7, 32, 3), num_classes=10),
            r"`input_shape` must have sides of at least 8 pixels.*\(7, 32, 3\). Resize",
        ),
        (
            lambda: models.resnet(20, input_shape=(32, 32), num_classes=10),
            r"`input_shape` must be \(height, width, channels\).*Received: input_shape=\(32, 32\)",
        ),
        (
            lambda: models.resnet(20, input_shape=(None, 32, 3), num_classes=10),
            r"Received: input_shape=\(None, 32, 3\)",
        ),
        (
            lambda: models.resnet(20, input_shape=(32, 32, 3), num_classes=1),
            "`num_classes` must be an integer of at least 2.*Received: num_classes=1",
        ),
        (
            lambda: models.mlp(input_shape=(3,), num_classes=2.0),
            "`num_classes` must be .*Received: num_classes=2.0",
        ),
        (
            lambda: models.resnet(20, batchnorm_momentum=1.0, **CIFAR),
            r"`batchnorm_momentum` must be a number in \[0, 1\). Received: batchnorm_momentum=1.0",
        ),
        (lambda: models.mobilenet_v2(alpha=0, **CIFAR), "`alpha` must be .*Received: alpha=0"),
        (lambda: models.mobilenet_v2(dropout=1.0, **CIFAR), "`dropout` must be a number"),
        (
            lambda: models.mobilenet_v2(strides="big", **CIFAR),
            "`strides` must be one of 'auto', 'small', 'stock'. Received: strides='big'",
        ),
        (
            lambda: models.mobilenet_v2(input_shape=(31, 32, 3), num_classes=2, strides="stock"),
            "at least 32 pixels",
        ),
        (
            lambda: models.mobilenet_v2(input_shape=(96, 96, 1), num_classes=2, weights="imagenet"),
            r"must have 3 channels with weights='imagenet'. Received: input_shape=\(96, 96, 1\)",
        ),
        (lambda: models.shufflenet_v2(width=0.7, **CIFAR), r"one of \(0.5, 1.0, 1.5, 2.0\)"),
        (
            lambda: models.mlp(input_shape=(8, 8), num_classes=2),
            r"`input_shape` must be \(features,\) or \(height, width, channels\)",
        ),
        (
            lambda: models.mlp(input_shape=(8, 8, 3), num_classes=2, mean=1.0),
            "`mean` and `variance` are for features",
        ),
        (
            lambda: models.mlp(input_shape=(3,), num_classes=2, mean=[0.0, 1.0]),
            r"`mean` must be a finite number, or 3 of them.*Received: mean=\[0.0, 1.0\]",
        ),
        (
            lambda: models.mlp(input_shape=(2,), num_classes=2, variance=[0.0, 1.0]),
            r"`variance` must be above 0. Received: variance=\[0.0, 1.0\]",
        ),
        (
            lambda: models.mlp(input_shape=(2,), num_classes=2, hidden=8),
            "`hidden` must be a tuple of positive integers. Received: hidden=8",
        ),
        (
            lambda: models.build("resnt20", **CIFAR),
            r"`name` must be one of .*Received: name='resnt20'. Did you mean 'resnet20'",
        ),
        (lambda: models.application("ResNet5", **CIFAR), "Did you mean 'ResNet50'"),
        (
            lambda: models.application("ResNet50", input_shape=(32, 32, 1), num_classes=2),
            r"must have 3 channels \(RGB\).*\(32, 32, 1\)",
        ),
        (
            lambda: models.build("ResNet50", width=2, **CIFAR),
            "`width` must be None for 'ResNet50', which has one width. Received: width=2",
        ),
        (lambda: models.build("mlp", input_shape=(2,), num_classes=2, width=1.5), "width=1.5"),
        (
            lambda: models.build("resnet50", weights="imagenet", **CIFAR),
            "`weights` must be None or the path .*Received: weights='imagenet'. Take",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
