"""Soft targets: golden values, gradients, properties and extremes, against float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import losses


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
