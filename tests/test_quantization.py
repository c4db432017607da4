"""Quantisation-aware students: they round as their int8 files do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net

import kdkeras
from kdkeras import models, quantization
from kdkeras.quantization import assembling, folding, graph, layers, pixels, rounding

L = keras.layers
OPERATORS = {
    *("ADD", "CONCATENATION", "CONV_2D", "DELEGATE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
    *("MAX_POOL_2D", "MEAN", "MUL", "PAD", "QUANTIZE", "RELU", "RESHAPE", "SOFTMAX", "SPLIT"),
    "TRANSPOSE",
}


def images(model, count=32, seed=1):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32") / 255


def randomised(model):
    """A model whose BatchNormalization and biases are not those that it began with."""
    random = np.random.default_rng(2)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            for weight, low, high in (
                (layer.gamma if layer.scale else None, 0.5, 1.5),
                (layer.beta if layer.center else None, -0.3, 0.3),
                (layer.moving_mean, -0.3, 0.3),
                (layer.moving_variance, 0.5, 2.0),
            ):
                if weight is not None:
                    weight.assign(random.uniform(low, high, channels))
        elif isinstance(getattr(layer, "bias", None), keras.Variable):
            layer.bias.assign(random.normal(0, 0.1, layer.bias.shape))
    return model


# -- rounding ------------------------------------------------------------------------------------


def test_activations_by_hand():
    # step 0.02, zero point round(1 / 0.02) = 50: from -1 to 4.1.
    y, step = rounding.activations([-2.0, -0.011, 0.009, 0.0, 1.234, 9.0], -1.0, 4.1)
    assert float(step) == pytest.approx(0.02)
    np.testing.assert_allclose(y, [-1.0, -0.02, 0.0, 0.0, 1.24, 4.1], atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.3, 2.9), (-5.0, 0.0), (-1e-3, 7.0)])
def test_activations_as_float64(low, high):
    x = np.random.default_rng(0).normal(0, 3, 4000).astype("float32")
    y, _ = rounding.activations(x, low, high)
    expected = pixels.rounded(x.astype(np.float64), low, high)
    step = (high - low) / 255
    np.testing.assert_allclose(np.abs(y - expected) / step < 1e-3, 1.0, atol=0)
    assert 0.0 in pixels.rounded(np.linspace(low, high, 1000), low, high)


def test_activations_gradients():
    low, high = tf.Variable(-1.0), tf.Variable(4.1)
    x = tf.Variable([-2.0, -3.0, 0.5, 9.0])
    with tf.GradientTape() as tape:
        y, _ = rounding.activations(x, low, high)
        total = tf.reduce_sum(y * [1.0, 10.0, 100.0, 1000.0])
    of_x, of_low, of_high = tape.gradient(total, (x, low, high))
    np.testing.assert_allclose(of_x, [0.0, 0.0, 100.0, 0.0])
    assert (float(of_low), float(of_high)) == (11.0, 1000.0)


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_as_float64(per_channel):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 4, 5)).astype("float32") * np.float32([1, 2, 3, 4, 0.1])
    bias = random.normal(size=5).astype("float32")
    found = rounding.weights(tf.constant(kernel), bias, 0.013, per_channel=per_channel)
    limits = np.abs(kernel.astype(np.float64)).max(axis=(0, 1, 2) if per_channel else None)
    codes = np.round(kernel / limits * 127)
    np.testing.assert_allclose(found[0], codes * limits / 127, rtol=1e-5, atol=1e-7)
    units = 0.013 * limits / 127 * np.ones(5 if per_channel else ())
    np.testing.assert_allclose(found[1], np.round(bias / units) * units, rtol=1e-5)
    np.testing.assert_allclose(found[2], units, rtol=1e-6)


def test_weights_gradients_pass_and_dead_channels_keep_int32_biases():
    kernel, bias = tf.Variable([[0.3, 0.0], [-0.7, 0.0]]), tf.Variable([0.5, 1000.0])
    with tf.GradientTape() as tape:
        rounded, rounded_bias, units = rounding.weights(kernel, bias, 0.01)
        total = tf.reduce_sum(rounded * [[1.0, 2.0], [3.0, 4.0]]) + tf.reduce_sum(rounded_bias)
    of_kernel, of_bias = tape.gradient(total, (kernel, bias))
    np.testing.assert_allclose(of_kernel, [[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(of_bias, [1.0, 1.0])
    np.testing.assert_allclose(rounded_bias[1], 1000.0, rtol=1e-6)
    assert float(rounded_bias[1] / units[1]) <= 2**30 * 1.001


def test_sums_and_additions_by_hand():
    # unit 0.5, step 1: midpoints go to the even code, as in XNNPACK.
    found = rounding.sums(tf.constant([0.5, 1.5, 2.5, -0.5, 300.0]), 0.5, 0.0, 255.0)
    np.testing.assert_array_equal(found, [0.0, 2.0, 2.0, 0.0, 255.0])
    # steps 0.5, 0.5 and 1: midpoints go up.
    x, y = tf.constant([0.5, 1.0, -1.0, 3.0]), tf.constant([0.0, 1.5, 0.5, 3.0])
    found = rounding.addition(x, 0.5, y, 0.5, -100.0, 155.0)
    np.testing.assert_array_equal(found, [1.0, 3.0, 0.0, 6.0])


# -- the pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "offset"),
    [
        (2.0, -1.0),
        (255.0, 0.0),
        (1.0, -0.5),
        (-2.0, 1.0),
        (255.0, [-103.939, -116.779, -123.68]),
        ([1 / 0.229, 1 / 0.224, 1 / 0.225], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
    ],
)
def test_no_pixel_lies_near_a_midpoint(scale, offset):
    found = pixels.settings(scale, offset)
    x = np.arange(256.0)[:, None] / 255.0
    product = x * found["scale"]
    total = pixels.rounded(product, *found["product_range"]) + found["offset"]
    for values, ends in ((product, found["product_range"]), (total, found["sum_range"])):
        low, high = ends
        codes = values / ((high - low) / 255.0)
        assert np.abs(codes % 1.0 - 0.5).min() > 1e-3
        assert low <= min(values.min(), 0.0)
        assert high >= max(values.max(), 0.0)
        assert high - low <= 1.051 * (max(values.max(), 0.0) - min(values.min(), 0.0))
    np.testing.assert_allclose(found["scale"], np.atleast_1d(scale), rtol=0.01)


def test_tightest_range_of_pixels_has_them_all_at_midpoints():
    assert pixels.from_midpoints(2.0 * np.arange(256.0) / 255.0 - 1.0, -1.0, 1.0) < 1e-9


# -- folding -------------------------------------------------------------------------------------


def test_folding_by_hand():
    # g = 3 / sqrt(3 + 1) = 1.5
    kernel, bias = folding.fold(
        [[2.0]], [1.0], gamma=[3.0], beta=[5.0], mean=[2.0], variance=[3.0], epsilon=1.0
    )
    assert (kernel.tolist(), bias.tolist()) == ([[3.0]], [3.5])


def chain(*made, size=8, channels=3):
    return keras.Sequential([keras.Input((size, size, channels)), *made])


FOLDED = {
    "bias": lambda: [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(6.0), L.Flatten()],
    "no bias": lambda: [L.Conv2D(4, 3, use_bias=False), L.BatchNormalization(), L.Flatten()],
    "no scale": lambda: [L.Conv2D(4, 3), L.BatchNormalization(scale=False), L.Flatten()],
    "no center": lambda: [L.Conv2D(4, 3), L.BatchNormalization(center=False), L.Flatten()],
    "depthwise": lambda: [
        L.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.Activation("relu6"),
        L.Flatten(),
    ],
    "dense": lambda: [L.Flatten(), L.Dense(6), L.BatchNormalization(), L.ReLU(), L.Dense(3)],
    "after the activation": lambda: [
        L.Conv2D(4, 3, activation="relu"),
        L.BatchNormalization(),
        L.Flatten(),
    ],
    "pooling": lambda: [L.AveragePooling2D(2), L.BatchNormalization(), L.Flatten()],
}


@pytest.mark.parametrize("kind", FOLDED)
def test_folded_network_is_the_same(kind):
    model = randomised(chain(*FOLDED[kind]()))
    order, last = graph.steps(model)
    image = keras.Input(model.input_shape[1:])
    output = assembling.assembled(
        order, last, image, mark=lambda step, x, parts: (x,), rounds=False
    )
    folded = keras.Model(image, output)
    assert not any(isinstance(layer, L.BatchNormalization) for layer in folded.layers)
    x = images(model)
    np.testing.assert_allclose(folded(x), model(x, training=False), atol=1e-5)


# -- files ---------------------------------------------------------------------------------------


def sequential():
    return chain(
        L.Conv2D(6, 3, activation="relu"),
        L.BatchNormalization(),
        L.MaxPooling2D(),
        L.Conv2D(8, 3, padding="same", strides=2),
        L.BatchNormalization(),
        L.Activation("relu6"),
        L.Dropout(0.2),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.Dense(5, activation="softmax"),
        size=12,
        channels=1,
    )


def nested():
    """Models in a model, with names in common; channels rescaled each its own way."""
    inner = keras.Sequential(
        [L.ZeroPadding2D(1), L.Conv2D(6, 3, strides=2, name="c"), L.BatchNormalization(), L.ReLU()]
    )
    start = keras.Input((8, 8, 6))
    branch = L.DepthwiseConv2D(3, padding="same", name="c")(start)
    joined = L.ReLU()(L.Concatenate()([branch, start]))
    image = keras.Input((16, 16, 3))
    x = inner(L.Rescaling(4.0, [-2.1, -2.0, -1.8])(image))
    x = keras.Model(start, joined)(x)
    return keras.Model(image, L.Dense(5)(L.GlobalAveragePooling2D()(x)))


def small(build, **settings):
    return lambda: build(input_shape=(16, 16, 3), num_classes=5, **settings)


STUDENTS = {
    "mobilenet_v2": small(models.mobilenet_v2, alpha=0.35),
    "resnet20": small(lambda **given: models.resnet(20, width=4, **given)),
    "shufflenet_v2": small(models.shufflenet_v2, width=0.5),
    "mlp": small(models.mlp, hidden=(8,)),
    "sequential": sequential,
    "nested": nested,
}


def converted(model, folder):
    """An interpreter of a file of logits, bytes in and out, made without calibration images."""
    from ai_edge_litert.interpreter import Interpreter

    model = quantization.plain(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32", name="image")
    archive.add_endpoint("serve", lambda image: model(image, training=False), [signature])
    archive.write_out(str(folder), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("name", STUDENTS)
def test_file_is_int8_and_gives_what_keras_gives(name, tmp_path):
    student = randomised(STUDENTS[name]())
    aware = quantization.aware(student, images(student))
    interpreter = converted(aware, tmp_path)
    types = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    assert types == {"uint8", "int8", "int32"}
    assert {operator["op_name"] for operator in interpreter._get_ops_details()} <= OPERATORS

    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert taken["quantization"] == (pytest.approx(1 / 255), 0)
    step, zero = given["quantization"]
    x = images(student, 64, seed=3)
    codes = []
    for image in np.round(x * 255).astype("uint8"):
        interpreter.set_tensor(taken["index"], image[None])
        interpreter.invoke()
        codes.append(interpreter.get_tensor(given["index"])[0].astype(float) - zero)
    expected = aware(x, training=False).numpy() / step
    assert len(np.unique(codes)) > 10
    assert np.abs(codes - expected).max() <= 1.001

    probabilities = tf.nn.softmax(models.logits(student)(x, training=False))
    assert np.mean(np.abs(tf.nn.softmax(expected * step) - probabilities)) < 0.05


# -- training ------------------------------------------------------------------------------------


def blobs(count=96):
    """Three kinds of pictures of 8 x 8 pixels, told apart by where they are bright."""
    random = np.random.default_rng(4)
    y = random.integers(0, 3, count)
    x = random.random((count, 8, 8, 1)) * 0.4
    x[np.arange(count)[:, None], (2 * y)[:, None] + np.arange(3)] += 0.5
    return x.astype("float32"), y


def distilled(student, **options):
    teacher = conv_net(8, batchnorm=False, name="teacher")
    d = kdkeras.Distiller(student=student, teacher=teacher, alpha=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.Adam(0.01), loss=loss, **options)
    return d


def test_distiller_trains_weights_and_ranges(tmp_path):
    x, y = blobs()
    student = quantization.aware(conv_net(6), x)
    before = {weight.path: weight.numpy() for weight in student.weights}
    d = distilled(student)
    history = d.fit(x, y, batch_size=16, epochs=6, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    moved = [path for path, value in before.items() if np.any(value != _named(student, path))]
    assert any(path.endswith("kernel") for path in moved)
    assert any(path.endswith("range_high") for path in moved)
    ranges = [layer for layer in student.layers if isinstance(layer, layers.FakeQuantize)]
    assert len(ranges) == 5
    assert all(float(fake.low) <= 0.0 < float(fake.high) for fake in ranges)

    d.student.save(tmp_path / "aware.keras")
    again = keras.models.load_model(tmp_path / "aware.keras", compile=False)
    np.testing.assert_array_equal(again(x), student(x))
    assert quantization.is_aware(again)
    assert distilled(again).fit(x, y, epochs=1, verbose=0).history["loss"][0] < history[0]


def test_mixed_precision_does_not_matter():
    x, y = blobs(32)
    student = conv_net(4)
    expected = quantization.aware(student, x)(x)
    keras.config.set_dtype_policy("mixed_float16")
    aware = quantization.aware(student, x)
    np.testing.assert_array_equal(aware(x), expected)
    assert {weight.dtype for weight in aware.weights} == {"float32"}
    assert np.isfinite(distilled(aware).fit(x, y, epochs=1, verbose=0).history["loss"][0])


def _named(model, path):
    (found,) = (weight.numpy() for weight in model.weights if weight.path == path)
    return found


def test_ranges_keep_zero_and_width_in_training():
    fake = quantization.FakeQuantize(-0.5, 2.0)
    fake(tf.zeros(3))
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.apply([tf.constant(-9.0), tf.constant(9.0)], fake.trainable_variables)
    assert (float(fake.low), float(fake.high)) == (0.0, pytest.approx(0.0025))


def test_dead_activations_have_a_range():
    never = keras.initializers.Constant(-99.0)
    model = chain(L.Conv2D(4, 3, activation="relu", bias_initializer=never), L.Flatten())
    assert np.isfinite(quantization.aware(model, images(model))(images(model))).all()


def test_is_aware():
    student = conv_net(4)
    aware = quantization.aware(student, images(student), name="int8")
    assert aware.name == "int8"
    assert not quantization.is_aware(student)
    assert quantization.is_aware(keras.Sequential([keras.Input((8, 8, 1)), aware]))
    assert quantization.is_aware(distilled(aware))
    assert not quantization.is_aware(distilled(student))
    fixed = aware.get_layer("image_range")
    assert (fixed.trainable_variables, fixed.first) == ([], (0.0, 1.0))


def test_plain_ignores_parts_only():
    student = randomised(conv_net(4))
    aware = quantization.aware(student, images(student))
    outer = keras.Sequential([keras.Input((8, 8, 1)), aware])
    for model in (aware, outer):
        plain = quantization.plain(model)
        inner = plain if model is aware else plain.layers[0]
        assert all(fake.plain for fake in inner.layers if isinstance(fake, layers.FakeQuantize))
        np.testing.assert_allclose(plain(images(student)), model(images(student)), atol=0.1)


# -- refusals ------------------------------------------------------------------------------------


def twice():
    image = keras.Input((8, 8, 3))
    conv = L.Conv2D(3, 3, padding="same", name="shared")
    return keras.Model(image, L.Flatten()(conv(conv(image))))


def with_pixels():
    image = keras.Input((8, 8, 3))
    joined = L.Concatenate(name="both")([image, L.Conv2D(3, 3, padding="same")(image)])
    return keras.Model(image, L.Flatten()(joined))


def three():
    image = keras.Input((8, 8, 3))
    branches = [L.Conv2D(2, 3)(image) for _ in range(3)]
    return keras.Model(image, L.Flatten()(L.Add(name="sum")(branches)))


REFUSED = {
    "'gate' \\(Multiply\\), 'squash' \\(Activation, activation sigmoid\\)": lambda: (
        keras.Sequential(
            [
                (image := keras.Input((8, 8, 3))),
                keras.Model(image, L.Multiply(name="gate")([image, image])),
                L.Activation("sigmoid", name="squash"),
                L.Flatten(),
            ]
        )
    ),
    "export --precision=int8": lambda: chain(L.Conv2DTranspose(2, 3), L.Flatten()),
    "'r' \\(ReLU, activation clipped\\)": lambda: chain(L.ReLU(3.0, name="r"), L.Flatten()),
    "activation leaky": lambda: chain(L.ReLU(negative_slope=0.1), L.Flatten()),
    "Conv2D, activation gelu": lambda: chain(L.Conv2D(2, 3, activation="gelu"), L.Flatten()),
    "groups 3": lambda: chain(L.Conv2D(3, 3, groups=3), L.Flatten()),
    "depth_multiplier 2": lambda: chain(L.DepthwiseConv2D(3, depth_multiplier=2), L.Flatten()),
    "padding same": lambda: chain(L.AveragePooling2D(2, padding="same"), L.Flatten()),
    "axis 1": lambda: chain(L.Conv2D(2, 3), L.BatchNormalization(axis=1), L.Flatten()),
    "input of 4 dimensions": lambda: chain(L.Dense(2), L.Flatten()),
    "3 inputs": three,
    "call a layer that has a kernel once.*'shared'": twice,
    "rescale nothing but its input.*'late'": lambda: chain(
        L.Conv2D(2, 3), L.Rescaling(2.0, name="late"), L.Flatten()
    ),
    "must not concatenate its pixels.*'both'": with_pixels,
    "Dense layer without activation.*'norm'": lambda: chain(
        L.Flatten(), L.Dense(4, activation="relu"), L.BatchNormalization(name="norm"), L.Dense(2)
    ),
    "from images": lambda: keras.Sequential([keras.Input((4,)), L.Dense(2)]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_students_that_are_refused(message):
    student = REFUSED[message]()
    with pytest.raises(ValueError, match=f"(?s)`student` .*{message}"):
        quantization.aware(student, images(student))


def test_an_aware_student_is_refused():
    student = conv_net(4)
    aware = quantization.aware(student, images(student))
    with pytest.raises(ValueError, match="must not be quantised yet"):
        quantization.aware(aware, images(student))


@pytest.mark.parametrize(
    ("low", "high"), [(0.1, 1.0), (-1.0, -0.1), (0.0, 0.0), (float("nan"), 1.0)]
)
def test_ranges_that_are_refused(low, high):
    with pytest.raises(ValueError, match="must be a range with zero in it"):
        quantization.FakeQuantize(low, high)


# -- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((0, 8, 8, 1)), "at least 16 images.*Received: 0"),
        (np.zeros((15, 8, 8, 1)), "at least 16 images.*Received: 15"),
        (np.zeros((16, 8, 8, 3)), r"shape \(images, 8, 8, 1\).*\(16, 8, 8, 3\)"),
        (np.zeros((8, 8, 1)), r"shape \(images, 8, 8, 1\)"),
        (np.full((16, 8, 8, 1), np.nan), "cannot be used: `images` must be finite"),
        (np.full((16, 8, 8, 1), 255.0), "cannot be used.*Divide by 255"),
        (np.full((16, 8, 8, 1), -0.5), "cannot be used.*Undo any normalisation"),
        (np.zeros((16, 8, 8, 1), "uint8"), "cannot be used.*must be floats"),
        (np.full((16, 8, 8, 1), "x"), "must be an array"),
    ],
)
def test_calibration_that_is_refused(given, message):
    with pytest.raises(ValueError, match=f"`calibration` .*{message}"):
        quantization.check_calibration(given, (8, 8, 1))
    with pytest.raises(ValueError, match=f"`calibration` .*{message}"):
        quantization.aware(conv_net(4), given)


def split(count, dtype="uint8"):
    x = np.arange(count, dtype=dtype)[:, None, None, None] * np.ones((1, 2, 2, 3), dtype)
    return x, np.zeros(count, "int32")


def test_calibration_images_are_drawn_without_order():
    x, y = split(200)
    examples = kdkeras.data.Examples(x, y)
    found = quantization.calibration_images(examples, 16)
    assert (found.shape, found.dtype) == ((16, 2, 2, 3), np.float32)
    numbers = np.round(found[:, 0, 0, 0] * 255).astype(int)
    assert len(set(numbers)) == 16
    assert numbers.max() > 100
    np.testing.assert_array_equal(found, quantization.calibration_images(examples, 16))
    other = quantization.calibration_images(examples, 16, seed=1)
    assert not np.array_equal(found, other)
    pairs = tf.data.Dataset.from_tensor_slices((x.astype("float32") / np.float32(255), y))
    np.testing.assert_array_equal(found, quantization.calibration_images(pairs, 16))
    assert len(quantization.calibration_images(examples, 999)) == 200


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (lambda x, y: x, {}, "must be a tf.data.Dataset"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).repeat(), {}, "must end"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(4), {}, "not batches"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).take(9), {}, "Received: 9"),
        (lambda x, y: kdkeras.data.Examples(x, y), {"count": 3}, "`count` must be an integer of"),
        (lambda x, y: kdkeras.data.Examples(x, y), {"seed": -1}, "`seed` must be an integer of"),
    ],
)
def test_splits_that_are_refused(dataset, options, message):
    with pytest.raises(ValueError, match=message):
        quantization.calibration_images(dataset(*split(32)), **options)
