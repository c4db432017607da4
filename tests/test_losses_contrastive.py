"""Contrastive distillation, against float64: values by loops, gradients by plain formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import losses

pytestmark = pytest.mark.core

LABELS = np.array([0, 1, 2, 0, 1, 0, 3])


def by_loops(labels, teacher, student, temperature):
    def cosine(a, b):
        return (a @ b) / np.sqrt((a @ a) * (b @ b))

    def anchored(i, anchors, others):
        z = [cosine(anchors[i], other) / temperature for other in others]
        negatives = [z[j] for j in range(len(z)) if labels[j] != labels[i]]
        return np.log(1 + sum(np.exp(np.array(negatives) - z[i])))

    pairs = [(student, teacher), (teacher, student)]
    return np.array([sum(anchored(i, a, b) for a, b in pairs) for i in range(len(labels))])


def in_tf(labels, teacher, student, temperature):
    t, s = (x / tf.norm(x, axis=1, keepdims=True) for x in (teacher, student))
    z = tf.einsum("if,jf->ij", s, t) / temperature
    kept = (labels[:, None] != labels[None]) | np.eye(len(labels), dtype=bool)
    total = 0.0
    for logits in (z, tf.transpose(z)):
        exponentials = tf.where(kept, tf.exp(logits - tf.linalg.diag_part(logits)[:, None]), 0)
        total += tf.math.log(tf.reduce_sum(exponentials, 1))
    return total


def draw(size, seed=0):
    """A teacher's and a student's embeddings: few features, many, order 60, or never negative."""
    random = np.random.default_rng(seed)
    features, scale = {"small": (3, 1), "many": (100, 1), "extreme": (20, 60), "positive": (64, 1)}[
        size
    ]
    teacher, student = random.normal(0, scale, (2, 7, features)).astype("float32")
    return (abs(teacher), abs(student)) if size == "positive" else (teacher, student)


def value_and_gradient(function, labels, teacher, student, temperature, dtype="float32"):
    """The rows' values, and the gradient of their sum with weights 1, 2, 3, ..."""
    teacher, student = tf.constant(teacher, dtype), tf.constant(student, dtype)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = function(labels, teacher, student, temperature=temperature)
        weights = tf.range(1, len(value) + 1, dtype=value.dtype)
        total = tf.reduce_sum(value * weights)
    return value.numpy(), tape.gradient(total, student).numpy()


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def assert_as_float64(labels, teacher, student, temperature):
    value, gradient = value_and_gradient(
        losses.contrastive_representation, labels, teacher, student, temperature
    )
    loops = by_loops(labels, teacher.astype("float64"), student.astype("float64"), temperature)
    _, expected = value_and_gradient(in_tf, labels, teacher, student, temperature, "float64")
    assert value.dtype == np.float32
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert relative_error(value, loops) < 1e-5
    assert relative_error(gradient, expected) < 1e-5


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0, 20.0])
@pytest.mark.parametrize("size", ["small", "many", "extreme", "positive"])
def test_value_and_gradient_equal_float64(size, temperature):
    assert_as_float64(LABELS, *draw(size), temperature)


def test_a_good_student_keeps_its_small_loss_and_gradient():
    # The softmax of the positive pair is 1 in float32; the loss is of order 1e-8.
    random = np.random.default_rng(0)
    teacher = np.eye(7, dtype="float32")
    student = (teacher + random.normal(0, 0.01, (7, 7))).astype("float32")
    assert_as_float64(np.arange(7), teacher, student, 0.05)


def test_golden_values_worked_out_by_hand():
    # Each anchor: cosine 1 with its other view, 0 with the negative: log(1 + 1 / e), twice.
    views = [[2.0, 0.0], [0.0, 3.0]]
    value = losses.contrastive_representation([0, 1], views, views, temperature=1.0)
    np.testing.assert_allclose(value, [0.6265234, 0.6265234], rtol=1e-6)
    # With the views exchanged: log(1 + e) each, at temperature 1/2 log(1 + e^2).
    other = [[0.0, 1.0], [1.0, 0.0]]
    value = losses.contrastive_representation([0, 1], views, other, temperature=0.5)
    np.testing.assert_allclose(value, [4.2538560, 4.2538560], rtol=1e-6)


def test_no_negative_no_loss():
    teacher, student = draw("many")
    for labels in (np.zeros(7), np.full((7, 1), 5)):
        value, gradient = value_and_gradient(
            losses.contrastive_representation, labels, teacher, student, 0.07
        )
        np.testing.assert_array_equal(value, np.zeros(7))
        np.testing.assert_array_equal(gradient, np.zeros_like(student))


def test_an_example_of_the_same_class_is_no_negative():
    teacher, student = draw("many")
    labels = np.array([0, 0, 1])
    value = losses.contrastive_representation(labels, teacher[:3], student[:3]).numpy()
    alone = losses.contrastive_representation([0, 1], teacher[[0, 2]], student[[0, 2]]).numpy()
    np.testing.assert_allclose(value[0], alone[0], rtol=1e-6)


def test_labels_of_any_form():
    teacher, student = draw("many")
    value = losses.contrastive_representation(LABELS, teacher, student)
    one_hot = np.eye(4, dtype="float32")[LABELS]
    mixed = 0.6 * one_hot + 0.4 * one_hot[::-1]
    wide = np.array(10**6 + LABELS, "int64")
    forms = [LABELS[:, None], LABELS.astype("float32"), LABELS.tolist(), one_hot, mixed, wide]
    for labels in (*forms, tf.constant(LABELS, "uint8"), tf.constant(one_hot, "float16")):
        found = losses.contrastive_representation(labels, teacher, student)
        np.testing.assert_array_equal(found, value)


def test_least_where_all_negatives_are_opposite():
    views = np.float32([[1.0, 2.0], [-1.0, -2.0]])
    value, gradient = value_and_gradient(
        losses.contrastive_representation, [0, 1], views, views, 0.5
    )
    np.testing.assert_allclose(value, np.full(2, 2 * np.log1p(np.exp(-4.0))), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros((2, 2)), atol=1e-7)


def test_rows_follow_the_order_of_the_batch_and_lengths_do_not_matter():
    teacher, student = draw("many")
    value = losses.contrastive_representation(LABELS, teacher, student).numpy()
    order = [3, 0, 6, 1, 5, 2, 4]
    permuted = losses.contrastive_representation(LABELS[order], teacher[order], student[order])
    np.testing.assert_allclose(permuted, value[order], rtol=1e-6)
    lengths = 10 ** np.arange(-3, 4, dtype="float32")[:, None]
    scaled = losses.contrastive_representation(LABELS, teacher * lengths, student / lengths)
    np.testing.assert_allclose(scaled, value, rtol=1e-5)
    maps = [x.reshape(7, 5, 5, 4) for x in (teacher, student)]
    np.testing.assert_array_equal(losses.contrastive_representation(LABELS, *maps), value)


@pytest.mark.parametrize("temperature", [1e-6, 0.07, 1e6])
@pytest.mark.parametrize("student_value", [0.0, 1.0, 1000.0, 1e-42])
@pytest.mark.parametrize("teacher_value", [0.0, 1000.0])
def test_finite_for_equal_examples_and_zeros(teacher_value, student_value, temperature):
    teacher, student = np.full((2, 7, 5), teacher_value, "float32")
    student[:] = student_value
    for change in (0.0, -1.0):  # all equal, or all but one
        student[0] += np.float32(change)
        value, gradient = value_and_gradient(
            losses.contrastive_representation, LABELS, teacher, student, temperature
        )
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_any_dtype_comes_in(dtype):
    teacher, student = (np.round(x) for x in draw("extreme"))
    function = losses.contrastive_representation
    expected, _ = value_and_gradient(function, LABELS, teacher, student, 0.07)
    value, gradient = value_and_gradient(function, LABELS, teacher, student, 0.07, dtype)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, expected)
    assert np.isfinite(gradient.astype("float32")).all()


@pytest.mark.parametrize("label_shape", [(None,), (None, 1), (None, 4), (None, None)])
def test_a_batch_of_unknown_size(label_shape):
    def in_graph(labels, teacher, student):
        value = losses.contrastive_representation(labels, teacher, student)
        return value, tf.gradients(value, student)[0]

    teacher, student = draw("small")
    labels = np.eye(4)[LABELS] if label_shape[-1] in (4, None) else LABELS
    labels = np.reshape(labels, [-1, *[n or 4 for n in label_shape[1:]]])
    if label_shape == (None,):
        labels = LABELS
    specs = [tf.TensorSpec(label_shape), *[tf.TensorSpec((None, 3))] * 2]
    function = tf.function(in_graph, input_signature=specs)
    value, gradient = function(labels.astype("float32"), teacher, student)
    expected = losses.contrastive_representation(LABELS, teacher, student)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    value, gradient = function(labels[:1].astype("float32"), teacher[:1], student[:1])
    np.testing.assert_array_equal(value, [0.0])
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


def test_the_loss_averages_over_the_batch_and_honours_weights():
    teacher, student = draw("small")
    rows = losses.contrastive_representation(LABELS, teacher, student, temperature=0.1).numpy()
    loss = losses.ContrastiveRepresentation(temperature=0.1)
    np.testing.assert_allclose(loss((LABELS, teacher), student), rows.mean(), rtol=1e-6)
    weights = np.arange(7, dtype="float32")
    weighted = loss((LABELS, teacher), student, sample_weight=weights)
    np.testing.assert_allclose(weighted, (rows * weights).mean(), rtol=1e-6)
    assert float(loss((LABELS, teacher), student, sample_weight=np.zeros(7))) == 0.0


def test_config_round_trip():
    loss = losses.ContrastiveRepresentation(temperature=0.2, reduction="sum", name="mine")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    assert (revived.temperature, revived.reduction, revived.name) == (0.2, "sum", "mine")
    assert losses.ContrastiveRepresentation().temperature == 0.07
    assert (loss.needs_labels, loss.compares_examples) == (True, True)
    assert (loss.same_grid, loss.same_channels) == (True, True)


def test_a_schedule_as_the_temperature():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.2, 10, 0.6)
    loss = losses.ContrastiveRepresentation(temperature=schedule)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    teacher, student = draw("small")
    found = revived.at(tf.constant(5))((LABELS, teacher), student)
    expected = losses.ContrastiveRepresentation(temperature=0.4)((LABELS, teacher), student)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`temperature` is a schedule"):
        losses.contrastive_representation(LABELS, teacher, student, temperature=schedule)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), "4", None, True])
def test_bad_temperature(bad):
    with pytest.raises(ValueError, match="`temperature` must be positive.*Received"):
        losses.ContrastiveRepresentation(temperature=bad)
    with pytest.raises(ValueError, match="`temperature` must be positive.*Received"):
        losses.contrastive_representation(LABELS, *draw("small"), temperature=bad)


def test_shapes_that_do_not_fit():
    function, x = losses.contrastive_representation, np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"number of features. Received: shapes \(3, 4\).*\(3, 5"):
        function([0, 1, 2], x, np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"`labels` and .*same batch size.*\(2,\) and \(3, 4\)"):
        function([0, 1], x, x)
    with pytest.raises(ValueError, match=r"`teacher` and .*same batch size.*\(3, 4\) and \(2, 4"):
        function([0, 1], x, x[:2])
    with pytest.raises(ValueError, match=r"at least two examples.*compares.*\(1, 4\) and \(1, 4"):
        function([0], x[:1], x[:1])
    with pytest.raises(ValueError, match=r"`labels` must be classes.*shape \(3, 1, 1\)"):
        function(np.zeros((3, 1, 1)), x, x)
