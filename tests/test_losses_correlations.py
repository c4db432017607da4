"""Correlations: golden values, gradients, properties and extremes, against float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import losses

pytestmark = pytest.mark.core


def definition(teacher, student, temperature, axis):
    """Values along the other axis and the gradient of their sum, in float64 TensorFlow."""
    teacher, student = tf.constant(teacher, tf.float64), tf.constant(student, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(student)
        p, q = tf.nn.softmax(teacher / temperature), tf.nn.softmax(student / temperature)
        a = p - tf.reduce_mean(p, axis, keepdims=True)
        b = q - tf.reduce_mean(q, axis, keepdims=True)
        norms = tf.norm(a, axis=axis) * tf.norm(b, axis=axis)
        value = temperature**2 * (1 - tf.reduce_sum(a * b, axis) / (norms + 1e-8))
    return value.numpy(), tape.gradient(value, student).numpy()


def inter(teacher, student, temperature):
    return definition(teacher, student, temperature, axis=-1)


def intra(teacher, student, temperature):
    values, gradient = definition(teacher, student, temperature, axis=0)
    return values.mean(), gradient / len(values)


PAIRS = {
    "inter": (losses.inter_class_correlation, inter),
    "intra": (losses.intra_class_correlation, intra),
}


def value_and_gradient(name, teacher, student, temperature=1.0):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = PAIRS[name][0](teacher, student, temperature=temperature)
    return value.numpy(), tape.gradient(value, student).numpy()


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def batch(scale, classes, seed=0, size=16):
    random = np.random.default_rng(seed)
    return random.uniform(-scale, scale, (2, size, classes)).astype("float32")


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("temperature", [1.0, 3.7])
@pytest.mark.parametrize(("scale", "classes"), [(3.0, 3), (60.0, 3), (3.0, 100), (60.0, 100)])
def test_value_and_gradient_equal_float64(name, temperature, scale, classes):
    for seed in range(4):
        teacher, student = batch(scale, classes, seed)
        value, gradient = value_and_gradient(name, teacher, student, temperature)
        expected_value, expected_gradient = PAIRS[name][1](teacher, student, temperature)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        assert relative_error(value, expected_value) < 1e-5
        assert relative_error(gradient, expected_gradient) < 1e-5


@pytest.mark.parametrize("name", PAIRS)
def test_near_agreement(name):
    # Plain 1 - correlation has lost all digits but one or two here.
    random = np.random.default_rng(0)
    teacher = random.normal(0, 1, (16, 10)).astype("float32")
    student = teacher + random.normal(0, 1e-3, (16, 10)).astype("float32")
    value, gradient = value_and_gradient(name, teacher, student)
    expected_value, expected_gradient = PAIRS[name][1](teacher, student, 1.0)
    assert np.abs(expected_value).max() < 1e-5
    assert relative_error(value, expected_value) < 2e-3
    assert relative_error(gradient, expected_gradient) < 2e-3


def test_golden_values_worked_out_by_hand():
    # p - 1/3 = [.33191, -.08861, -.24330] and its mirror image: the products sum to
    # -.16151 + .00785 = -.15366, the squares to .17721; the correlation is -.86709.
    value = losses.inter_class_correlation([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])
    np.testing.assert_allclose(value, [1.86709], atol=2e-5)
    # With T = 2, logits twice as large are the same distributions; T^2 = 4.
    value = losses.inter_class_correlation([[4.0, 2.0, 0.0]], [[0.0, 2.0, 4.0]], temperature=2.0)
    np.testing.assert_allclose(value, [4 * 1.86709], atol=8e-5)
    # Two examples whose classes are swapped: every class has correlation -1, over any distance.
    value = losses.intra_class_correlation([[1.0, 0.0], [0.0, 1.0]], [[0.0, 9.0], [3.0, 0.0]])
    np.testing.assert_allclose(value, 2.0, rtol=1e-6)
    # Three examples with p_1 = [1/4, 1/2, 3/4] and q_1 = [1/2, 1/4, 3/4]: centred
    # [-1/4, 0, 1/4] and [0, -1/4, 1/4], a correlation of 1/2, and p_2 = 1 - p_1 has the same.
    odds = np.log([1 / 3, 1.0, 3.0])
    teacher = np.stack([odds, np.zeros(3)], axis=1)
    value = losses.intra_class_correlation(teacher, teacher[[1, 0, 2]])
    np.testing.assert_allclose(value, 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_least_at_equality_blind_to_shifts_and_batch_order(name):
    teacher, student = batch(3.0, 5, size=32)
    value, gradient = value_and_gradient(name, teacher, teacher)
    # 1e-8 over the squared length of the centred probabilities.
    np.testing.assert_allclose(value, np.zeros(value.shape), atol=1e-5)
    np.testing.assert_allclose(gradient, np.zeros((32, 5)), atol=1e-5)
    assert np.abs(value - PAIRS[name][1](teacher, teacher, 1.0)[0]).max() < 1e-9
    function = PAIRS[name][0]
    value = function(teacher, student).numpy()
    np.testing.assert_allclose(function(teacher + 16.0, student - 32.0), value, rtol=1e-4)
    order = np.random.default_rng(1).permutation(32)
    permuted = function(teacher[order], student[order]).numpy()
    np.testing.assert_allclose(permuted, value[order] if name == "inter" else value, rtol=1e-6)


def test_correlations_between_classes_take_any_axes_in_between():
    teacher, student = batch(3.0, 5)
    value = losses.inter_class_correlation(teacher, student)
    maps = losses.inter_class_correlation(teacher.reshape(4, 2, 2, 5), student.reshape(4, 2, 2, 5))
    np.testing.assert_allclose(maps, np.reshape(value, (4, 2, 2)), rtol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("size", [0.0, 60.0, 1000.0])
def test_finite_in_any_precision(name, dtype, size):
    teacher = np.array([[size, 0, -size], [0, 0, 0], [size, size, size]], dtype)
    student = np.array([[-size, 0, size], [size, 0, -size], [0, 0, 0]], dtype)
    for one, other in ((teacher, student), (student, teacher), (teacher, teacher)):
        value, gradient = value_and_gradient(name, one, other)
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


def test_uniform_predictions_are_uncorrelated_and_have_no_gradient():
    varied, uniform = batch(3.0, 5)[0], np.zeros((16, 5), "float32")
    for one, other in ((varied, uniform), (uniform, varied), (uniform, uniform)):
        value, gradient = value_and_gradient("inter", one, other, 2.0)
        np.testing.assert_array_equal(value, np.full(16, 4.0))
        np.testing.assert_array_equal(gradient, np.zeros((16, 5)))


def test_a_batch_of_one_is_refused_or_without_gradient():
    logits = np.zeros((1, 3), "float32")
    with pytest.raises(ValueError, match=r"at least two. Received: a batch of one.*\(1, 3\)"):
        losses.intra_class_correlation(logits, logits)
    with pytest.raises(ValueError, match="a batch of one"):
        losses.IntraClassCorrelation()(logits, logits)

    @tf.function(input_signature=[tf.TensorSpec((None, 3))] * 2)
    def step(teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = losses.IntraClassCorrelation(temperature=2.0)(teacher, student)
        return value, tape.gradient(value, student)

    value, gradient = step([[1.0, 2.0, 3.0]], [[3.0, 0.0, 0.0]])
    np.testing.assert_array_equal(value, 4.0)
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


CLASSES = {
    "inter": (losses.InterClassCorrelation, "inter_class_correlation", False),
    "intra": (losses.IntraClassCorrelation, "intra_class_correlation", True),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_loss_averages_over_the_batch_and_honours_weights(name):
    teacher, student = batch(3.0, 5, size=6)
    weights = np.float32([0, 1, 2, 0, 0, 3])
    cls, label, compares_examples = CLASSES[name]
    loss = cls()
    assert (loss.name, cls.compares_examples, cls.needs_labels) == (label, compares_examples, False)
    expected, _ = PAIRS[name][1](teacher, student, 1.0)
    np.testing.assert_allclose(loss(teacher, student), expected.mean(), rtol=1e-5)
    # The one number of a batch is multiplied by the weights' mean.
    weighted = loss(teacher, student, sample_weight=weights)
    np.testing.assert_allclose(weighted, (expected * weights).mean(), rtol=1e-5)
    compiled = tf.function(loss, jit_compile=True)
    np.testing.assert_allclose(compiled(teacher, student), expected.mean(), rtol=1e-5)


@pytest.mark.parametrize("cls", [cls for cls, *_ in CLASSES.values()])
def test_config_round_trip_with_a_schedule(cls):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10], [8.0, 2.0])
    loss = cls(temperature=schedule, reduction="sum", name="dist")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    assert (revived.reduction, revived.name) == ("sum", "dist")
    teacher, student = batch(3.0, 5)
    found = revived.at(tf.constant(100))(teacher, student)
    expected = cls(temperature=2.0, reduction="sum")(teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), "4", None])
def test_bad_temperature(name, bad):
    with pytest.raises(ValueError, match="`temperature` must be positive.*Received"):
        CLASSES[name][0](temperature=bad)
    with pytest.raises(ValueError, match="`temperature` must be positive.*Received"):
        PAIRS[name][0](np.zeros((2, 3)), np.zeros((2, 3)), temperature=bad)


@pytest.mark.parametrize("name", PAIRS)
def test_shapes_that_do_not_fit(name):
    function = PAIRS[name][0]
    with pytest.raises(ValueError, match=r"same number of classes. Received: shapes \(4, 3\)"):
        function(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="at least two classes"):
        function(np.zeros((4, 1)), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="the same shape"):
        function(np.zeros((3, 3)), np.zeros((4, 3)))
    if name == "intra":
        with pytest.raises(ValueError, match="must be of rank 2"):
            function(np.zeros((4, 2, 3)), np.zeros((4, 2, 3)))
