"""Losses between feature maps, against float64: values by loops, gradients by plain formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import losses

pytestmark = pytest.mark.core

POWERS = [0.5, 1, 2, 3.5]


def attention_by_loops(teacher, student, power=2):
    def attention(f):
        a = np.zeros(f.shape[:2])
        for y, x in np.ndindex(a.shape):
            a[y, x] = sum(abs(v) ** power for v in f[y, x]) / f.shape[2]
        return a / np.sqrt((a**2).sum())

    pairs = zip(teacher, student, strict=True)
    return np.array([((attention(s) - attention(t)) ** 2).mean() for t, s in pairs])


def attention_in_tf(teacher, student, power=2):
    def attention(f):
        a = tf.reduce_mean(tf.abs(f) ** power, 3)
        return a / tf.norm(a, axis=[1, 2], keepdims=True)

    return tf.reduce_mean((attention(student) - attention(teacher)) ** 2, [1, 2])


def selectivity_by_loops(teacher, student):
    def kernel(f, g):
        total = 0.0
        for i, j in np.ndindex(f.shape[2], g.shape[2]):
            a, b = f[..., i], g[..., j]
            total += ((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())) ** 2
        return total / (f.shape[2] * g.shape[2])

    pairs = zip(teacher, student, strict=True)
    return np.array([kernel(t, t) + kernel(s, s) - 2 * kernel(t, s) for t, s in pairs])


def selectivity_in_tf(teacher, student):
    def operator(f):  # the mean of v v^T over the neurons v: the loss is a distance of these
        f = tf.reshape(f, (len(f), -1, f.shape[3]))
        v = f / tf.norm(f, axis=1, keepdims=True)
        return tf.matmul(v, v, transpose_b=True) / v.shape[2]

    return tf.reduce_sum((operator(teacher) - operator(student)) ** 2, [1, 2])


def borders(size, bins):
    starts = [int(np.floor(i * size / bins)) for i in range(bins)]
    ends = [int(np.ceil((i + 1) * size / bins)) for i in range(bins)]
    return list(zip(starts, ends, strict=True))


def context_by_loops(teacher, student):
    def pooled(f, bins):
        cells = np.zeros((bins, bins, f.shape[2]))
        for i, (top, bottom) in enumerate(borders(f.shape[0], bins)):
            for j, (left, right) in enumerate(borders(f.shape[1], bins)):
                cells[i, j] = f[top:bottom, left:right].mean((0, 1))
        return cells

    values = []
    for t, s in zip(teacher, student, strict=True):
        total, weight, weights = ((t - s) ** 2).mean(), 1.0, 1.0
        for bins in (4, 2, 1):
            if bins < min(t.shape[:2]):
                weight /= 2
                total += ((pooled(t, bins) - pooled(s, bins)) ** 2).mean() * weight
                weights += weight
        values.append(total / weights)
    return np.array(values)


def context_in_tf(teacher, student):
    def means(size, bins):  # as a matrix (bins, size)
        rows = np.zeros((bins, size))
        for i, (start, end) in enumerate(borders(size, bins)):
            rows[i, start:end] = 1 / (end - start)
        return rows

    def pooled(f, bins):
        rows, columns = means(f.shape[1], bins), means(f.shape[2], bins)
        return tf.einsum("ih,bhwc,jw->bijc", rows, f, columns)

    total, weight, weights = tf.reduce_mean((teacher - student) ** 2, [1, 2, 3]), 1.0, 1.0
    for bins in (4, 2, 1):
        if bins < min(student.shape[1:3]):
            weight, weights = weight / 2, weights + weight / 2
            gap = pooled(teacher, bins) - pooled(student, bins)
            total += weight * tf.reduce_mean(gap**2, [1, 2, 3])
    return total / weights


# function, by loops, in TensorFlow, whether channels may differ
CASES = {
    "attention": (losses.attention_transfer, attention_by_loops, attention_in_tf, True),
    "selectivity": (losses.neuron_selectivity, selectivity_by_loops, selectivity_in_tf, True),
    "context": (losses.hierarchical_context, context_by_loops, context_in_tf, False),
}
CLASSES = {
    "attention": losses.AttentionTransfer,
    "selectivity": losses.NeuronSelectivity,
    "context": losses.HierarchicalContext,
}
by_name = pytest.mark.parametrize("name", sorted(CASES))


def draw(name, size, seed=0):
    """A teacher's and a student's maps: few or many channels, order 60, or never negative."""
    random = np.random.default_rng(seed)
    grid, channels, scale = {
        "small": ((5, 6), 3, 1.0),
        "many": ((6, 5), 100, 1.0),
        "extreme": ((4, 4), 8, 60.0),
        "positive": ((7, 7), 60, 1.0),
    }[size]
    other = channels + 5 if CASES[name][3] else channels
    teacher = random.normal(0, scale, (4, *grid, other)).astype("float32")
    student = random.normal(0, scale, (4, *grid, channels)).astype("float32")
    return (abs(teacher), abs(student)) if size == "positive" else (teacher, student)


def value_and_gradient(function, teacher, student, dtype="float32", **arguments):
    """The rows' values, and the gradient of their sum with weights 1, 2, 3, ..."""
    teacher, student = tf.constant(teacher, dtype), tf.constant(student, dtype)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = function(teacher, student, **arguments)
        weights = tf.range(1, len(value) + 1, dtype=value.dtype)
        total = tf.reduce_sum(value * weights)
    return value.numpy(), tape.gradient(total, student).numpy()


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def assert_as_float64(name, teacher, student, **arguments):
    function, loops, plain, _ = CASES[name]
    value, gradient = value_and_gradient(function, teacher, student, **arguments)
    by_loops = loops(teacher.astype("float64"), student.astype("float64"), **arguments)
    _, expected = value_and_gradient(plain, teacher, student, "float64", **arguments)
    assert value.dtype == np.float32
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert relative_error(value, by_loops) < 1e-5
    assert relative_error(gradient, expected) < 1e-5


@pytest.mark.parametrize("size", ["small", "many", "extreme", "positive"])
@by_name
def test_value_and_gradient_equal_float64(name, size):
    assert_as_float64(name, *draw(name, size))


@pytest.mark.parametrize("size", ["small", "many", "extreme"])
@pytest.mark.parametrize("power", POWERS)
def test_attention_of_any_power(power, size):
    assert_as_float64("attention", *draw("attention", size), power=power)


@pytest.mark.parametrize("grid", [(1, 1), (2, 9), (3, 2), (4, 5), (9, 3), (8, 8)])
def test_context_of_any_grid(grid):
    random = np.random.default_rng(1)
    teacher, student = random.normal(size=(2, 3, *grid, 2)).astype("float32")
    assert_as_float64("context", teacher, student)


def test_golden_values_worked_out_by_hand():
    # Two positions, two channels. a_t = [25, 0] / 2 and a_s = [1, 1] / 2, of length 1: [1, 0] and
    # [.7071, .7071]: ((1 - .7071)^2 + .7071^2) / 2 = (.085786 + .5) / 2.
    teacher, student = [[[[3.0, -4.0], [0.0, 0.0]]]], [[[[1.0, 0.0], [0.0, -1.0]]]]
    value = losses.attention_transfer(teacher, student)
    np.testing.assert_allclose(value, [0.2928932], rtol=1e-6)
    # Neurons e1, -e1 and e1, -e2: means of squared products 1 + (1 + 0 + 0 + 1) / 4 - 2 * 2 / 4.
    student = [[[[1.0, 0.0], [0.0, -1.0]]]]
    value = losses.neuron_selectivity(teacher, student)
    np.testing.assert_allclose(value, [0.5], rtol=1e-6)
    # Differences [[4, 0], [0, 0]]: mean square 16 / 4 = 4, of the mean 1: (4 + 1 / 2) / 1.5.
    teacher, student = [[[[4.0], [1.0]], [[1.0], [1.0]]]], [[[[0.0], [1.0]], [[1.0], [1.0]]]]
    value = losses.hierarchical_context(teacher, student)
    np.testing.assert_allclose(value, [3.0], rtol=1e-6)


@by_name
def test_zero_at_agreement_with_a_finite_gradient(name):
    for size in ("small", "many", "extreme", "positive"):
        _, student = draw(name, size)
        value, gradient = value_and_gradient(CASES[name][0], student, student)
        np.testing.assert_array_equal(value, np.zeros(4))
        np.testing.assert_allclose(gradient, np.zeros_like(student), atol=1e-7)


@by_name
def test_rows_follow_the_order_of_the_batch(name):
    teacher, student = draw(name, "small")
    value = CASES[name][0](teacher, student).numpy()
    order = [2, 0, 3, 1]
    permuted = CASES[name][0](teacher[order], student[order]).numpy()
    np.testing.assert_allclose(permuted, value[order], rtol=1e-6)
    alone = CASES[name][0](teacher[2:3], student[2:3]).numpy()
    np.testing.assert_allclose(alone, value[2:3], rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e15])
def test_what_scales_do_not_change(factor):
    teacher, student = draw("attention", "small")
    value = losses.attention_transfer(teacher, student)
    scaled = losses.attention_transfer(np.float32(factor) * teacher, student)
    np.testing.assert_allclose(scaled, value, rtol=1e-5)
    value = losses.neuron_selectivity(teacher, student)
    channels = np.float32(factor) * np.arange(1, 4, dtype="float32")
    scaled = losses.neuron_selectivity(teacher, student * channels)
    np.testing.assert_allclose(scaled, value, rtol=1e-5)
    value = losses.hierarchical_context(*draw("context", "small"))
    teacher, student = (1000 * x for x in draw("context", "small"))
    np.testing.assert_allclose(
        losses.hierarchical_context(teacher, student), 1e6 * value, rtol=1e-5
    )


@pytest.mark.parametrize("student_value", [0.0, 1.0, 1000.0, 1e-20])
@pytest.mark.parametrize("teacher_value", [0.0, 1.0, 1000.0])
@by_name
def test_finite_for_constant_maps(name, teacher_value, student_value):
    teacher, student = (np.full((3, 4, 4, 5), v, "float32") for v in (teacher_value, student_value))
    value, gradient = value_and_gradient(CASES[name][0], teacher, student)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("power", [0.5, 1, 2, 50])
def test_attention_is_finite_where_features_vanish_or_are_huge(power):
    random = np.random.default_rng(0)
    teacher = random.normal(0, 1000, (3, 4, 4, 5)).astype("float32")
    student = np.maximum(random.normal(0, 1000, (3, 4, 4, 5)), 0).astype("float32")
    student[0, 0], student[1, :, 1:] = 1e-30, 0.0
    value, gradient = value_and_gradient(losses.attention_transfer, teacher, student, power=power)
    assert (value > 0).all()
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@by_name
def test_any_dtype_comes_in(name, dtype):
    teacher, student = (x.astype("float16").astype("float32") for x in draw(name, "extreme"))
    if dtype == "bfloat16":
        teacher, student = np.round(teacher), np.round(student)
    expected, _ = value_and_gradient(CASES[name][0], teacher, student)
    value, gradient = value_and_gradient(CASES[name][0], teacher, student, dtype)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, expected)
    assert np.isfinite(gradient.astype("float32")).all()


@by_name
def test_a_batch_of_unknown_size(name):
    teacher, student = draw(name, "small")
    specs = [tf.TensorSpec((None, *x.shape[1:])) for x in (teacher, student)]
    function = tf.function(
        lambda t, s: value_and_gradient_in_graph(CASES[name][0], t, s), input_signature=specs
    )
    for count in (1, 4):
        value, gradient = function(teacher[:count], student[:count])
        expected, slope = value_and_gradient(CASES[name][0], teacher[:count], student[:count])
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert relative_error(gradient[0], slope[0]) < 1e-5


def value_and_gradient_in_graph(function, teacher, student):
    value = function(teacher, student)
    return value, tf.gradients(value, student)[0]


@by_name
def test_the_loss_averages_over_the_batch_and_honours_weights(name):
    teacher, student = draw(name, "small")
    rows, loss = CASES[name][0](teacher, student).numpy(), CLASSES[name]()
    np.testing.assert_allclose(loss(teacher, student), rows.mean(), rtol=1e-6)
    weights = np.float32([0, 1, 2, 3])
    weighted = loss(teacher, student, sample_weight=weights)
    np.testing.assert_allclose(weighted, (rows * weights).mean(), rtol=1e-6)
    assert float(loss(teacher, student, sample_weight=np.zeros(4))) == 0.0


@by_name
def test_config_round_trip(name):
    loss = CLASSES[name](reduction="sum", name="mine")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(revived, CLASSES[name])
    assert revived.get_config() == loss.get_config()
    assert (revived.reduction, revived.name) == ("sum", "mine")
    assert (loss.same_grid, loss.same_channels) == (True, not CASES[name][3])
    assert not loss.needs_labels
    assert not loss.compares_examples


def test_a_schedule_as_the_power():
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 10, 3.0)
    loss = losses.AttentionTransfer(power=schedule)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    teacher, student = draw("attention", "small")
    found = revived.at(tf.constant(5))(teacher, student)
    expected = losses.AttentionTransfer(power=2)(teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`power` is a schedule"):
        losses.attention_transfer(teacher, student, power=schedule)


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), "2", None, True])
def test_bad_power(bad):
    with pytest.raises(ValueError, match="`power` must be positive.*Received: power="):
        losses.AttentionTransfer(power=bad)
    with pytest.raises(ValueError, match="`power` must be positive.*Received: power="):
        losses.attention_transfer(*draw("attention", "small"), power=bad)


@by_name
def test_shapes_that_do_not_fit(name):
    function, teacher = CASES[name][0], np.zeros((2, 4, 4, 3))
    with pytest.raises(ValueError, match=r"same height.* shapes \(2, 4, 4, 3\) and \(2, 4, 5"):
        function(teacher, np.zeros((2, 4, 5, 3)))
    with pytest.raises(ValueError, match=r"same batch size. Received: shapes \(2, 4.*\(3, 4"):
        function(teacher, np.zeros((3, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"must be feature maps .*\(2, 4, 4, 3\) and \(2, 48\)"):
        function(teacher, np.zeros((2, 48)))
    if not CASES[name][3]:
        with pytest.raises(ValueError, match=r"and channels. Received: shapes .*\(2, 4, 4, 2\)"):
            function(teacher, np.zeros((2, 4, 4, 2)))


def test_context_needs_a_static_grid():
    specs = [tf.TensorSpec((None, None, 4, 1))] * 2
    with pytest.raises(ValueError, match=r"static height and width.*\(None, None, 4, 1\)"):
        tf.function(losses.hierarchical_context).get_concrete_function(*specs)
