"""Losses between logits: golden values, gradients, properties and extremes, against float64."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import losses

pytestmark = pytest.mark.core


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def reference(teacher, student, temperature):
    """The divergence and its gradient with respect to the student, in float64."""
    log_p = log_softmax(np.asarray(teacher, "float64") / temperature)
    log_q = log_softmax(np.asarray(student, "float64") / temperature)
    value = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
    return value, temperature * (np.exp(log_q) - np.exp(log_p))


def value_and_gradient(teacher, student, temperature):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = losses.soft_target_divergence(teacher, student, temperature)
    return value.numpy(), tape.gradient(value, student).numpy()


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_value_and_gradient_equal_float64(temperature, scale, classes):
    random = np.random.default_rng(classes)
    teacher = random.uniform(-scale, scale, (16, classes)).astype("float32")
    student = random.uniform(-scale, scale, (16, classes)).astype("float32")
    value, gradient = value_and_gradient(teacher, student, temperature)
    expected_value, expected_gradient = reference(teacher, student, temperature)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert relative_error(value, expected_value) < 1e-5
    assert relative_error(gradient, expected_gradient) < 1e-5


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_near_agreement_at_a_high_temperature(classes):
    # The plain sum of p (log p - log q) is off by 0.5 % to 4 % here in float32.
    random = np.random.default_rng(classes)
    teacher, student = random.uniform(-0.1, 0.1, (2, 16, classes)).astype("float32")
    value, gradient = value_and_gradient(teacher, student, 20.0)
    expected_value, expected_gradient = reference(teacher, student, 20.0)
    assert relative_error(value, expected_value) < 1e-4
    assert relative_error(gradient, expected_gradient) < 1e-4


def test_golden_values_worked_out_by_hand():
    # softmax([2, 1, 0]) = [.66524, .24473, .09003] and the student's is its mirror image, so
    # KL = (.66524 - .09003) * 2 = 1.15042.
    value = losses.soft_target_divergence([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]], 1.0)
    np.testing.assert_allclose(value, [1.1504205], rtol=1e-6)
    # With T = 2 the logits halve: KL = (.50648 - .18632) * 1 = .32016, times T^2 = 4.
    value = losses.soft_target_divergence([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]], 2.0)
    np.testing.assert_allclose(value, [1.2806263], rtol=1e-6)


def test_opposite_confident_logits_keep_their_gradient():
    # Where probabilities underflow: the exact value is 30 + log-sum terms, the gradient -0.5, 0.5.
    teacher, student = [[0.0, -40.0, 0.0]], [[-60.0, 0.0, 0.0]]
    value, gradient = value_and_gradient(np.float32(teacher), np.float32(student), 1.0)
    np.testing.assert_allclose(value, [30.0], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-0.5, 0.5, 0.0]], atol=1e-6)


def test_soft_targets_of_the_tutorial():
    logits = [1.2, 0.8, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01]
    expected = [0.1522, 0.1246, 0.1073, 0.0970, 0.0923, 0.0878, 0.0856, 0.0848, 0.0844, 0.0840]
    found = losses.soft_targets(logits, 2.0).numpy()
    np.testing.assert_allclose(found, expected, atol=6e-5)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-6)


def test_zero_at_equality_and_under_shifts():
    logits = np.random.default_rng(0).normal(0, 100, (8, 10)).astype("float32")
    value, gradient = value_and_gradient(logits, logits, 3.0)
    np.testing.assert_array_equal(value, np.zeros(8))
    np.testing.assert_allclose(gradient, np.zeros((8, 10)), atol=1e-6)
    student = np.random.default_rng(1).normal(0, 5, (8, 10)).astype("float32")
    plain = losses.soft_target_divergence(logits, student, 3.0)
    shifted = losses.soft_target_divergence(logits + 16.0, student - 32.0, 3.0)
    np.testing.assert_allclose(shifted, plain, rtol=1e-5)


def test_never_negative_and_blind_to_batch_order():
    random = np.random.default_rng(2)
    teacher, student = random.normal(0, 3, (2, 64, 5)).astype("float32")
    value = losses.soft_target_divergence(teacher, student, 2.0).numpy()
    assert (value > 0).all()
    order = random.permutation(64)
    permuted = losses.soft_target_divergence(teacher[order], student[order], 2.0)
    np.testing.assert_array_equal(permuted, value[order])


def test_temperature_squared_keeps_the_gradient_for_large_temperatures():
    # As T grows, T (q - p) tends to the difference of the centred logits over the classes.
    teacher, student = np.float32([[3.0, 0.0, 0.0]]), np.float32([[0.0, 3.0, 0.0]])
    _, gradient = value_and_gradient(teacher, student, 1000.0)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0, 0.0]], atol=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_float32_inside_whatever_comes_in(dtype):
    teacher = tf.cast([[2.0, 1.0, 0.0]], dtype)
    student = tf.cast([[0.0, 1.0, 2.0]], dtype)
    value = losses.soft_target_divergence(teacher, student, 1.0)
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, [1.1504205], rtol=1e-6)


def test_the_loss_averages_over_the_batch_and_honours_weights():
    random = np.random.default_rng(4)
    teacher, student = random.normal(0, 3, (2, 6, 5)).astype("float32")
    weights = np.float32([0, 1, 2, 0, 0, 3])
    per_example, _ = reference(teacher, student, 4.0)
    loss = losses.SoftTargets()
    np.testing.assert_allclose(loss(teacher, student), per_example.mean(), rtol=1e-5)
    weighted = loss(teacher, student, sample_weight=weights)
    np.testing.assert_allclose(weighted, (per_example * weights).sum() / 6, rtol=1e-5)
    assert float(loss(teacher, student, sample_weight=np.zeros(6))) == 0.0


def test_config_round_trip():
    loss = losses.SoftTargets(temperature=2.5, reduction="sum", name="kd")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    assert (revived.temperature, revived.reduction, revived.name) == (2.5, "sum", "kd")


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), "4", None, True])
def test_bad_temperature(bad):
    with pytest.raises(ValueError, match="`temperature` must be positive.*Received"):
        losses.SoftTargets(temperature=bad)
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        losses.soft_target_divergence([[0.0, 1.0]], [[0.0, 1.0]], bad)
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        losses.soft_targets([0.0, 1.0], bad)


def test_different_numbers_of_classes():
    with pytest.raises(ValueError, match=r"same number of classes. Received: shapes \(1, 3\)"):
        losses.soft_target_divergence([[0.0, 1.0, 2.0]], [[0.0, 1.0]], 1.0)


def test_shapes_that_do_not_fit():
    functions = (
        lambda teacher, student: losses.soft_target_divergence(teacher, student, 1.0),
        lambda teacher, student: losses.jensen_shannon_divergence(teacher, student, 1.0),
        lambda teacher, student: losses.reverse_divergence(teacher, student, 1.0),
        losses.pseudo_label_crossentropy,
    )
    for function in functions:
        with pytest.raises(ValueError, match=r"same number of classes. Received: shapes \(4, 3\)"):
            function(np.zeros((4, 3)), np.zeros((4, 2)))
        with pytest.raises(ValueError, match=r"at least two classes. Received: shapes \(4, 1\)"):
            function(np.zeros((4, 1)), np.zeros((4, 1)))
        with pytest.raises(ValueError, match=r"the same shape. Received: shapes \(1, 3\)"):
            function(np.zeros((1, 3)), np.zeros((4, 3)))
        with pytest.raises(ValueError, match="the same shape"):
            function(np.zeros((4, 4, 3)), np.zeros((4, 3)))
        with pytest.raises(ValueError, match="axis of classes"):
            function(1.0, 1.0)


# The other functions of logits: value and gradient worked out in float64 from the definitions.


def jensen_shannon(teacher, student, temperature):
    log_p, log_q = (log_softmax(np.asarray(x, "float64") / temperature) for x in (teacher, student))
    log_m = np.logaddexp(log_p, log_q) - math.log(2)
    p, q = np.exp(log_p), np.exp(log_q)
    value = (p * (log_p - log_m)).sum(-1) + (q * (log_q - log_m)).sum(-1)
    slope = q * (log_q - log_m)
    gradient = slope - q * slope.sum(-1, keepdims=True)
    return temperature**2 * value / 2, temperature * gradient / 2


def reverse(teacher, student, temperature):
    log_p, log_q = (log_softmax(np.asarray(x, "float64") / temperature) for x in (teacher, student))
    q, r = np.exp(log_q), log_q - log_p
    value = (q * r).sum(-1, keepdims=True)
    return temperature**2 * value[..., 0], temperature * q * (r - value)


def pseudo_label(teacher, student, temperature):
    log_q = log_softmax(np.asarray(student, "float64"))
    one_hot = np.eye(log_q.shape[-1])[np.argmax(teacher, -1)]
    return -(one_hot * log_q).sum(-1), np.exp(log_q) - one_hot


def plain_standardize(z):
    """In float64 TensorFlow, for its gradient."""
    centred = z - tf.reduce_mean(z, -1, keepdims=True)
    variance = tf.reduce_sum(centred**2, -1, keepdims=True) / (z.shape[-1] - 1)
    return centred / (tf.sqrt(variance) + 1e-7)


def standardized(teacher, student, temperature):
    teacher, student = tf.constant(teacher, tf.float64), tf.constant(student, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(student)
        p = tf.nn.softmax(plain_standardize(teacher) / temperature)
        q = tf.nn.softmax(plain_standardize(student) / temperature)
        value = temperature**2 * tf.reduce_sum(p * tf.math.log(p / q), -1)
    return value.numpy(), tape.gradient(value, student).numpy()


def soft_targets_of_standardized(teacher, student, temperature):
    loss = losses.SoftTargets(temperature=temperature, standardize=True)
    return loss.call(teacher, student)


PAIRS = {
    "jensen_shannon": (losses.jensen_shannon_divergence, jensen_shannon),
    "reverse": (losses.reverse_divergence, reverse),
    "pseudo_label": (lambda t, s, _: losses.pseudo_label_crossentropy(t, s), pseudo_label),
    "standardized": (soft_targets_of_standardized, standardized),
}


def found_and_expected(name, teacher, student, temperature):
    function, definition = PAIRS[name]
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = function(teacher, student, temperature)
    found = value.numpy(), tape.gradient(value, student).numpy()
    return found, definition(teacher, student.numpy(), temperature)


# Two standardised logits are always -0.7 and 0.7: their gradient is 0 but for rounding.
NAMES_AND_CLASSES = {(name, classes) for name in PAIRS for classes in (2, 3, 100)}
NAMES_AND_CLASSES = sorted(NAMES_AND_CLASSES - {("standardized", 2)})


@pytest.mark.parametrize(("name", "classes"), NAMES_AND_CLASSES)
@pytest.mark.parametrize("temperature", [1.0, 3.7, 20.0])
@pytest.mark.parametrize("scale", [3.0, 60.0])
def test_the_others_equal_float64(name, temperature, scale, classes):
    for seed in range(4):
        random = np.random.default_rng(seed)
        teacher, student = random.uniform(-scale, scale, (2, 16, classes)).astype("float32")
        found, expected = found_and_expected(name, teacher, student, temperature)
        assert np.isfinite(found[0]).all()
        assert np.isfinite(found[1]).all()
        assert relative_error(found[0], expected[0]) < 1e-5
        assert relative_error(found[1], expected[1]) < 1e-5


@pytest.mark.parametrize("name", ["jensen_shannon", "reverse"])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_others_near_agreement_at_a_high_temperature(name, classes):
    random = np.random.default_rng(classes)
    teacher, student = random.uniform(-0.1, 0.1, (2, 16, classes)).astype("float32")
    found, expected = found_and_expected(name, teacher, student, 20.0)
    assert relative_error(found[0], expected[0]) < 1e-4
    assert relative_error(found[1], expected[1]) < 1e-4


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("size", [0.0, 60.0, 1000.0])
def test_the_others_are_finite_in_any_precision(name, dtype, size):
    teacher = np.array([[size, 0, -size], [0, 0, 0], [size, size, size]], dtype)
    student = np.array([[-size, 0, size], [size, 0, -size], [0, 0, 0]], dtype)
    for one, other in ((teacher, student), (student, teacher), (teacher, teacher)):
        value, gradient = value_and_gradient_of(name, one, other)
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


def value_and_gradient_of(name, teacher, student):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = PAIRS[name][0](teacher, student, 2.0)
    return value.numpy(), tape.gradient(value, student).numpy()


@pytest.mark.parametrize("name", ["jensen_shannon", "reverse", "standardized"])
def test_the_others_are_zero_at_equality(name):
    logits = np.random.default_rng(0).normal(0, 30, (8, 10)).astype("float32")
    value, gradient = value_and_gradient_of(name, logits, logits)
    np.testing.assert_array_equal(value, np.zeros(8))
    np.testing.assert_allclose(gradient, np.zeros((8, 10)), atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_the_others_under_shifts_and_in_any_order(name):
    random = np.random.default_rng(2)
    teacher, student = random.normal(0, 3, (2, 32, 5)).astype("float32")
    function = PAIRS[name][0]
    value = function(teacher, student, 2.0).numpy()
    assert (value > 0).all()
    shifted = function(teacher + 16.0, student - 32.0, 2.0)
    np.testing.assert_allclose(shifted, value, rtol=1e-4)
    order = random.permutation(32)
    permuted = function(teacher[order], student[order], 2.0)
    np.testing.assert_array_equal(permuted, value[order])
    # Any axes between the batch and the classes.
    maps = function(teacher.reshape(4, 2, 4, 5), student.reshape(4, 2, 4, 5), 2.0)
    np.testing.assert_allclose(maps, value.reshape(4, 2, 4), rtol=1e-6)


def test_golden_values_of_the_others_worked_out_by_hand():
    teacher, student = [[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]]
    # p = [.66524, .24473, .09003] and its mirror image have m = [.37764, .24473, .37764]:
    # .66524 log(.66524 / .37764) + .09003 log(.09003 / .37764) = .37667 - .12908.
    value = losses.jensen_shannon_divergence(teacher, student, 1.0)
    np.testing.assert_allclose(value, [0.24759], atol=1e-5)
    # p = [3/4, 1/4], q = [1/2, 1/2]: log(2/3) / 2 + log(2) / 2 = log(4/3) / 2.
    value = losses.reverse_divergence([[math.log(3.0), 0.0]], [[0.0, 0.0]], 1.0)
    np.testing.assert_allclose(value, [math.log(4 / 3) / 2], rtol=1e-6)
    # -log .09003, for the teacher's class is the first.
    value = losses.pseudo_label_crossentropy(teacher, student)
    np.testing.assert_allclose(value, [2.4076059], rtol=1e-6)
    # Mean 4, squares 4 + 0 + 4 over 2 degrees of freedom: a deviation of 2.
    np.testing.assert_allclose(losses.standardize([[6.0, 4.0, 2.0]]), [[1, 0, -1]], atol=1e-6)
    # Those of the teacher and of the student are [1, 0, -1] and [-1, 0, 1]; as logits over T = 2
    # they have KL (.50648 - .18632) * 1, times 4.
    loss = losses.SoftTargets(temperature=2.0, standardize=True)
    value = loss([[6.0, 4.0, 2.0]], [[-3.0, -2.0, -1.0]])
    np.testing.assert_allclose(value, 1.2806263, rtol=1e-6)


def test_jensen_shannon_is_symmetric_and_bounded():
    random = np.random.default_rng(5)
    one, other = random.normal(0, 200, (2, 64, 5)).astype("float32")
    value = losses.jensen_shannon_divergence(one, other, 2.0).numpy()
    swapped = losses.jensen_shannon_divergence(other, one, 2.0)
    np.testing.assert_allclose(swapped, value, rtol=1e-6)
    np.testing.assert_allclose(value.max(), 4 * math.log(2), rtol=1e-6)


def test_standardized_logits_do_not_depend_on_scale():
    logits = np.random.default_rng(6).normal(5, 3, (4, 10)).astype("float32")
    value = losses.standardize(logits).numpy()
    np.testing.assert_allclose(value.mean(-1), np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(value.std(-1, ddof=1), np.ones(4), rtol=1e-6)
    np.testing.assert_allclose(losses.standardize(7 * logits - 3), value, atol=1e-5)
    weights = tf.constant(np.random.default_rng(7).normal(size=(4, 10)))
    found, expected = tf.Variable(logits), tf.Variable(logits, dtype="float64")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(weights, "float32") * losses.standardize(found))
    found_gradient = tape.gradient(loss, found).numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(weights * plain_standardize(expected))
    assert relative_error(found_gradient, tape.gradient(loss, expected).numpy()) < 1e-5


def test_equal_logits_standardize_to_zero_with_a_finite_gradient():
    logits = tf.Variable(np.float32([[5, 5, 5], [0, 0, 0], [-1000, -1000, -1000]]))
    with tf.GradientTape() as tape:
        value = losses.standardize(logits)
    np.testing.assert_array_equal(value, np.zeros((3, 3)))
    gradient = tape.gradient(value, logits, output_gradients=tf.constant([[1.0, 2.0, 6.0]] * 3))
    np.testing.assert_allclose(gradient, [[-2.0, -1.0, 3.0]] * 3, rtol=1e-6)


TEMPERED = (losses.SoftTargets, losses.JensenShannon, losses.ReverseSoftTargets)
CLASSES = {
    losses.JensenShannon: (jensen_shannon, "jensen_shannon"),
    losses.ReverseSoftTargets: (reverse, "reverse_soft_targets"),
    losses.PseudoLabels: (pseudo_label, "pseudo_labels"),
}


@pytest.mark.parametrize("cls", CLASSES)
def test_the_other_losses_average_their_functions(cls):
    random = np.random.default_rng(4)
    teacher, student = random.normal(0, 3, (2, 6, 5)).astype("float32")
    weights = np.float32([0, 1, 2, 0, 0, 3])
    definition, name = CLASSES[cls]
    per_example, _ = definition(teacher, student, 4.0)
    loss = cls()
    assert loss.name == name
    np.testing.assert_allclose(loss(teacher, student), per_example.mean(), rtol=1e-5)
    weighted = loss(teacher, student, sample_weight=weights)
    np.testing.assert_allclose(weighted, (per_example * weights).sum() / 6, rtol=1e-5)
    compiled = tf.function(loss, jit_compile=True)
    np.testing.assert_allclose(compiled(teacher, student), per_example.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "cls", [losses.SoftTargets, losses.JensenShannon, losses.ReverseSoftTargets]
)
def test_a_schedule_as_temperature_survives_saving(cls):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10], [8.0, 2.0])
    loss = cls(temperature=schedule, reduction="sum", name="kd")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    assert (revived.reduction, revived.name) == ("sum", "kd")
    teacher, student = np.random.default_rng(8).normal(0, 3, (2, 6, 5)).astype("float32")
    for step, temperature in ((0, 8.0), (100, 2.0)):
        found = revived.at(tf.constant(step))(teacher, student)
        expected = cls(temperature=temperature, reduction="sum")(teacher, student)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="`temperature` is a schedule"):
        revived(teacher, student)


def test_configs_without_a_temperature():
    loss = losses.SoftTargets(standardize=True)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.standardize is True
    loss = losses.PseudoLabels(reduction="sum", name="labels")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == {"name": "labels", "reduction": "sum"}


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), "4", None])
def test_bad_temperature_of_the_others(bad):
    for cls in (losses.JensenShannon, losses.ReverseSoftTargets):
        with pytest.raises(ValueError, match="`temperature` must be positive.*Received"):
            cls(temperature=bad)
    for function in (losses.jensen_shannon_divergence, losses.reverse_divergence):
        with pytest.raises(ValueError, match="`temperature` must be positive.*Received"):
            function([[0.0, 1.0]], [[0.0, 1.0]], bad)


def test_bad_arguments_of_standardization():
    with pytest.raises(ValueError, match="`standardize` must be True or False. Received"):
        losses.SoftTargets(standardize="yes")
    with pytest.raises(ValueError, match=r"at least two classes. Received: shape \(4, 1\)"):
        losses.standardize(np.zeros((4, 1)))
    with pytest.raises(ValueError, match="at least two classes"):
        losses.standardize(1.0)
