"""Decoupled distillation: golden values, gradients, identities and extremes, against float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import losses

pytestmark = pytest.mark.core


def definition(labels, teacher, student, target_weight, nontarget_weight, temperature):
    """Value and gradient in float64 TensorFlow, class by class as the paper has it."""
    teacher, student = tf.constant(teacher, tf.float64), tf.constant(student, tf.float64)
    values = []
    with tf.GradientTape() as tape:
        tape.watch(student)
        for label, one, other in zip(labels, tf.unstack(teacher), tf.unstack(student), strict=True):
            log_p, log_q = (
                tf.nn.log_softmax(one / temperature),
                tf.nn.log_softmax(other / temperature),
            )
            rest = [k for k in range(len(one)) if k != label]
            p_rest, q_rest = (tf.gather(x, rest) for x in (log_p, log_q))
            p_sum, q_sum = tf.reduce_logsumexp(p_rest), tf.reduce_logsumexp(q_rest)
            target = tf.exp(log_p[label]) * (log_p[label] - log_q[label])
            target += tf.exp(p_sum) * (p_sum - q_sum)
            among = tf.exp(p_rest - p_sum) * ((p_rest - p_sum) - (q_rest - q_sum))
            part = target_weight * target + nontarget_weight * tf.reduce_sum(among)
            values.append(temperature**2 * part)
        value = tf.stack(values)
    return value.numpy(), tape.gradient(value, student).numpy()


def value_and_gradient(labels, teacher, student, **kwargs):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = losses.decoupled_divergence(labels, teacher, student, **kwargs)
    return value.numpy(), tape.gradient(value, student).numpy()


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def batch(scale, classes, seed=0, size=16):
    random = np.random.default_rng(seed)
    teacher, student = random.uniform(-scale, scale, (2, size, classes)).astype("float32")
    return random.integers(0, classes, size), teacher, student


@pytest.mark.parametrize("weights", [(1.0, 8.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("temperature", [1.0, 3.7, 20.0])
@pytest.mark.parametrize(("scale", "classes"), [(3.0, 3), (60.0, 3), (3.0, 100), (60.0, 100)])
def test_value_and_gradient_equal_float64(weights, temperature, scale, classes):
    labels, teacher, student = batch(scale, classes)
    keywords = ("target_weight", "nontarget_weight", "temperature")
    kwargs = dict(zip(keywords, (*weights, temperature), strict=True))
    value, gradient = value_and_gradient(labels, teacher, student, **kwargs)
    expected_value, expected_gradient = definition(labels, teacher, student, **kwargs)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert relative_error(value, expected_value) < 1e-5
    assert relative_error(gradient, expected_gradient) < 1e-5


def test_where_the_teacher_or_the_student_is_sure_beyond_float32():
    # 1 - p_t is e^-60 for the teacher and 1 - e^-60 for the student: the value is 60 + rounding.
    value, gradient = value_and_gradient(
        [0], np.float32([[60, 0, -60]]), np.float32([[-60, 0, -60]]), temperature=1.0
    )
    np.testing.assert_allclose(value, [60.0], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0, 0.0]], atol=1e-6)


def test_golden_value_worked_out_by_hand():
    # softmax([2, 1, 0]) = [.66524, .24473, .09003]. Label 0 against the rest: (.66524, .33476) and
    # (.09003, .90997): .66524 * 2 + .33476 * (-1) = .99572. The rest: (.73106, .26894) and its
    # mirror image: .46212. 1 and 8 times that.
    teacher, student = [[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]]
    value = losses.decoupled_divergence([0], teacher, student, temperature=1.0)
    np.testing.assert_allclose(value, [0.99572 + 8 * 0.46212], atol=5e-5)
    # With T = 2, logits twice as large are the same distributions; T^2 = 4.
    value = losses.decoupled_divergence(
        [0], [[4.0, 2.0, 0.0]], [[0.0, 2.0, 4.0]], temperature=2.0, nontarget_weight=0.0
    )
    np.testing.assert_allclose(value, [4 * 0.99572], atol=5e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 3, 100])
def test_soft_targets_are_the_case_of_weights_1_and_1_minus_p(temperature, classes):
    labels, teacher, student = batch(5.0, classes)
    expected = losses.soft_target_divergence(teacher, student, temperature).numpy()
    scaled = teacher.astype("float64") / temperature
    p = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
    for i, label in enumerate(labels):
        value = losses.decoupled_divergence(
            labels[i : i + 1],
            teacher[i : i + 1],
            student[i : i + 1],
            nontarget_weight=1 - p[i, label],
            temperature=temperature,
        )
        np.testing.assert_allclose(value, expected[i : i + 1], rtol=2e-5)


def test_two_classes_have_no_others():
    labels, teacher, student = batch(5.0, 2)
    with_others = losses.decoupled_divergence(labels, teacher, student, nontarget_weight=100.0)
    expected = losses.soft_target_divergence(teacher, student, 4.0)
    np.testing.assert_allclose(with_others, expected, rtol=1e-5)
    value, gradient = value_and_gradient(labels, teacher, student, target_weight=0.0)
    np.testing.assert_array_equal(value, np.zeros(16))
    np.testing.assert_array_equal(gradient, np.zeros((16, 2)))


def test_zero_at_equality_blind_to_shifts_and_batch_order():
    labels, logits, student = batch(30.0, 10)
    value, gradient = value_and_gradient(labels, logits, logits)
    np.testing.assert_array_equal(value, np.zeros(16))
    np.testing.assert_allclose(gradient, np.zeros((16, 10)), atol=1e-5)
    value = losses.decoupled_divergence(labels, logits, student).numpy()
    assert (value > 0).all()
    shifted = losses.decoupled_divergence(labels, logits + 16.0, student - 32.0)
    np.testing.assert_allclose(shifted, value, rtol=1e-5)
    order = np.random.default_rng(1).permutation(16)
    permuted = losses.decoupled_divergence(labels[order], logits[order], student[order])
    np.testing.assert_array_equal(permuted, value[order])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("size", [0.0, 60.0, 1000.0])
def test_finite_in_any_precision(dtype, size):
    teacher = np.array([[size, 0, -size], [0, 0, 0], [size, size, size]], dtype)
    student = np.array([[-size, 0, size], [size, 0, -size], [0, 0, 0]], dtype)
    for label in range(3):
        for one, other in ((teacher, student), (student, teacher), (teacher, teacher)):
            value, gradient = value_and_gradient([label] * 3, one, other)
            assert value.dtype == np.float32
            assert np.isfinite(value).all()
            assert np.isfinite(gradient).all()


def test_labels_of_any_form():
    labels, teacher, student = batch(5.0, 4)
    expected = losses.decoupled_divergence(labels, teacher, student)
    one_hot = np.eye(4)[labels]
    mixed = 0.7 * one_hot + 0.3 * np.roll(one_hot, 1, axis=0)
    floats = labels.astype("float32")
    for form in (labels[:, None], floats, floats[:, None], one_hot, mixed, labels.astype("uint8")):
        found = losses.decoupled_divergence(form, teacher, student)
        np.testing.assert_array_equal(found, expected)


def test_the_loss_averages_over_the_batch_and_honours_weights():
    labels, teacher, student = batch(5.0, 4, size=6)
    weights = np.float32([0, 1, 2, 0, 0, 3])
    per_example, _ = definition(labels, teacher, student, 1.0, 8.0, 4.0)
    loss = losses.Decoupled()
    assert loss.needs_labels
    y_true = (labels, teacher)
    np.testing.assert_allclose(loss(y_true, student), per_example.mean(), rtol=1e-5)
    weighted = loss(y_true, student, sample_weight=weights)
    np.testing.assert_allclose(weighted, (per_example * weights).sum() / 6, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph_with_a_batch_of_any_size(jit_compile):
    labels, teacher, student = batch(5.0, 4)
    loss = losses.Decoupled()
    signature = [tf.TensorSpec((None,), "int64"), *[tf.TensorSpec((None, 4))] * 2]

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def step(labels, teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = loss((labels, teacher), student)
        return value, tape.gradient(value, student)

    value, gradient = step(labels, teacher, student)
    expected_value, expected_gradient = definition(labels, teacher, student, 1.0, 8.0, 4.0)
    np.testing.assert_allclose(value, expected_value.mean(), rtol=1e-5)
    assert relative_error(gradient, expected_gradient / 16) < 1e-5


def test_config_round_trip_with_schedules():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10], [8.0, 2.0])
    loss = losses.Decoupled(
        target_weight=0.5, nontarget_weight=schedule, temperature=schedule, name="dkd"
    )
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    assert (revived.target_weight, revived.name) == (0.5, "dkd")
    labels, teacher, student = batch(5.0, 4)
    found = revived.at(tf.constant(100))((labels, teacher), student)
    expected = losses.Decoupled(target_weight=0.5, nontarget_weight=2.0, temperature=2.0)
    np.testing.assert_allclose(found, expected((labels, teacher), student), rtol=1e-6)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "4", None])
def test_bad_hyper_parameters(bad):
    checks = {
        "target_weight": "`target_weight` must be a finite number, at least 0. Received",
        "nontarget_weight": "`nontarget_weight` must be a finite number, at least 0. Received",
        "temperature": "`temperature` must be positive and finite. Received",
    }
    for name, message in checks.items():
        with pytest.raises(ValueError, match=message):
            losses.Decoupled(**{name: bad})
        with pytest.raises(ValueError, match=message):
            losses.decoupled_divergence([0], [[0.0, 1.0]], [[0.0, 1.0]], **{name: bad})


def test_shapes_that_do_not_fit():
    function = losses.decoupled_divergence
    with pytest.raises(ValueError, match=r"same number of classes. Received: shapes \(1, 3\)"):
        function([0], [[0.0, 1.0, 2.0]], [[0.0, 1.0]])
    with pytest.raises(ValueError, match="at least two classes"):
        function([0], [[0.0]], [[0.0]])
    with pytest.raises(ValueError, match="must be of rank 2"):
        function([0], np.zeros((1, 2, 3)), np.zeros((1, 2, 3)))
    for shape in ((), (3,), (4, 2), (4, 1, 1), (1, 3)):
        with pytest.raises(ValueError, match="`labels` must be classes of shape .*Received"):
            function(np.zeros(shape), np.zeros((4, 3)), np.zeros((4, 3)))
