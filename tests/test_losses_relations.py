"""Losses that compare examples, against float64: values by loops, gradients by plain formulas."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import losses

pytestmark = pytest.mark.core


def smooth_l1(x):
    return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5


def mean_of_rows(matrix):
    return np.array([row.mean() for row in matrix])


def distance_by_loops(teacher, student):
    def relative(x):
        d = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])
        return d / d[d > 0].mean()

    return mean_of_rows(np.vectorize(smooth_l1)(relative(student) - relative(teacher)))


def angle_by_loops(teacher, student):
    def unit(a, b):
        length = np.sqrt(((a - b) ** 2).sum())
        return (a - b) / length if length else np.zeros_like(a)

    def cosines(x):
        return np.array([[[unit(b, a) @ unit(c, a) for c in x] for b in x] for a in x])

    return mean_of_rows(np.vectorize(smooth_l1)(cosines(student) - cosines(teacher)))


def similarity_by_loops(teacher, student):
    def rows(x):
        gram = [[(a * b).sum() for b in x] for a in x]
        return np.array([np.array(row) / np.sqrt(sum(g**2 for g in row)) for row in gram])

    return mean_of_rows((rows(student) - rows(teacher)) ** 2)


def cosine_by_loops(x):
    return np.array([[(a @ b) / np.sqrt((a @ a) * (b @ b)) for b in x] for a in x])


def transfer_by_loops(teacher, student):
    def probabilities(x):
        return np.array([(1 + row) / 2 / sum((1 + row) / 2) for row in cosine_by_loops(x)])

    p, q = probabilities(teacher), probabilities(student)
    return mean_of_rows(p * np.log((p + 1e-7) / (q + 1e-7)))


def congruence_by_loops(teacher, student, gamma=0.4, order=2):
    def kernel(x):
        def expansion(c):
            terms = [(2 * gamma) ** p / math.factorial(p) * c**p for p in range(order + 1)]
            return math.exp(-2 * gamma) * sum(terms)

        return np.vectorize(expansion)(cosine_by_loops(x))

    return mean_of_rows((kernel(student) - kernel(teacher)) ** 2)


def huber_rows(x):
    size = tf.abs(x)
    values = tf.where(size < 1, 0.5 * x**2, size - 0.5)
    return tf.reduce_mean(values, list(range(1, len(x.shape))))


def directions(x):
    """Differences x_j - x_i as [i, j], and their lengths with 1 for 0."""
    gaps = x[None] - x[:, None]
    squared = tf.reduce_sum(gaps**2, 2)
    return gaps, squared > 0, tf.sqrt(tf.where(squared > 0, squared, 1))


def distance_in_tf(teacher, student):
    def relative(x):
        _, apart, lengths = directions(x)
        return tf.where(apart, lengths / tf.reduce_mean(lengths[apart]), 0)

    return huber_rows(relative(student) - relative(teacher))


def angle_in_tf(teacher, student):
    def cosines(x):
        gaps, apart, lengths = directions(x)
        units = tf.where(apart[..., None], gaps / lengths[..., None], 0)
        return tf.einsum("ijf,ikf->ijk", units, units)

    return huber_rows(cosines(student) - cosines(teacher))


def similarity_in_tf(teacher, student):
    def rows(x):
        gram = tf.einsum("if,jf->ij", x, x)
        return gram / tf.norm(gram, axis=1, keepdims=True)

    return tf.reduce_mean((rows(student) - rows(teacher)) ** 2, 1)


def cosine_in_tf(x):
    x = x / tf.norm(x, axis=1, keepdims=True)
    return tf.einsum("if,jf->ij", x, x)


def transfer_in_tf(teacher, student):
    p, q = ((1 + cosine_in_tf(x)) / 2 for x in (teacher, student))
    p, q = (x / tf.reduce_sum(x, 1, keepdims=True) for x in (p, q))
    return tf.reduce_mean(p * (tf.math.log(p + 1e-7) - tf.math.log(q + 1e-7)), 1)


def congruence_in_tf(teacher, student, gamma=0.4, order=2):
    def kernel(x):
        terms = [(2 * gamma * cosine_in_tf(x)) ** p / math.factorial(p) for p in range(order + 1)]
        return math.exp(-2 * gamma) * tf.add_n(terms)

    return tf.reduce_mean((kernel(student) - kernel(teacher)) ** 2, 1)


# function, class, by loops, in TensorFlow
CASES = {
    "distance": (
        losses.relational_distance,
        losses.RelationalDistance,
        distance_by_loops,
        distance_in_tf,
    ),
    "angle": (losses.relational_angle, losses.RelationalAngle, angle_by_loops, angle_in_tf),
    "similarity": (
        losses.similarity_preserving,
        losses.SimilarityPreserving,
        similarity_by_loops,
        similarity_in_tf,
    ),
    "transfer": (
        losses.probabilistic_knowledge_transfer,
        losses.ProbabilisticKnowledgeTransfer,
        transfer_by_loops,
        transfer_in_tf,
    ),
    "congruence": (
        losses.correlation_congruence,
        losses.CorrelationCongruence,
        congruence_by_loops,
        congruence_in_tf,
    ),
}
by_name = pytest.mark.parametrize("name", sorted(CASES))
SIZES = ["small", "many", "extreme", "positive", "offset"]


def draw(size, seed=0):
    """A teacher's and a student's features: few, many, order 60, never negative, far from 0."""
    random = np.random.default_rng(seed)
    features, scale, offset = {
        "small": (3, 1.0, 0.0),
        "many": (100, 1.0, 0.0),
        "extreme": (20, 60.0, 0.0),
        "positive": (64, 1.0, 0.0),
        "offset": (30, 1.0, 100.0),
    }[size]
    teacher = random.normal(offset, scale, (7, features + 4)).astype("float32")
    student = random.normal(offset, scale, (7, features)).astype("float32")
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
    function, _, loops, plain = CASES[name]
    value, gradient = value_and_gradient(function, teacher, student, **arguments)
    by_loops = loops(teacher.astype("float64"), student.astype("float64"), **arguments)
    _, expected = value_and_gradient(plain, teacher, student, "float64", **arguments)
    assert value.dtype == np.float32
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert relative_error(value, by_loops) < 1e-5
    assert relative_error(gradient, expected) < 1e-5


@pytest.mark.parametrize("size", SIZES)
@by_name
def test_value_and_gradient_equal_float64(name, size):
    assert_as_float64(name, *draw(size))


@by_name
def test_near_agreement_equals_float64(name):
    teacher, _ = draw("many")
    noise = np.random.default_rng(1).normal(0, 1e-3, teacher.shape)
    assert_as_float64(name, teacher, (teacher + noise).astype("float32"))


@pytest.mark.parametrize("name", ["distance", "angle"])
def test_near_and_equal_examples_equal_float64(name):
    # In float32, inner products put a pair at 1e-3 of the rest's distance off by a tenth.
    teacher, student = draw("many")
    student[1] = student[0] + np.float32(1e-3)
    student[3] = student[2]
    teacher[5] = teacher[4]
    assert_as_float64(name, teacher, student)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 1), (1.5, 3), (20.0, 6)])
def test_congruence_of_any_order(gamma, order):
    assert_as_float64("congruence", *draw("small"), gamma=gamma, order=order)


def test_golden_values_of_a_line():
    teacher, student = [[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]]
    # Distances 1, 2, 1 over 4/3, and 1, 1, 0 over 1: differences 1/4, -1/2, -3/4.
    value = losses.relational_distance(teacher, student)
    np.testing.assert_allclose(value, [0.15625 / 3, 0.3125 / 3, 0.40625 / 3], rtol=1e-6)
    # Cosines of the teacher, then of the student:
    #   seen from 0: [0 0 0; 0 1 1; 0 1 1], the same.
    #   seen from 1: [1 0 -1; 0 0 0; -1 0 1], [1 0 0; 0 0 0; 0 0 0]: three differ by 1.
    #   seen from 2: [1 1 0; 1 1 0; 0 0 0], [1 0 0; 0 0 0; 0 0 0]: three differ by 1.
    value = losses.relational_angle(teacher, student)
    np.testing.assert_allclose(value, [0.0, 1.5 / 9, 1.5 / 9], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Rows [1, 0] against [1, 1] / sqrt(2): ((1 - .7071)^2 + .7071^2) / 2.
        ("similarity", 0.2928932),
        # [2/3, 1/3] against [1/2, 1/2]: (2/3 log 4/3 + 1/3 log 2/3) / 2.
        ("transfer", 0.0283165),
        # The kernels of cosines 0 and 1 differ by exp(-.8) (.8 + .32) = .5032484: squared, halved.
        ("congruence", 0.1266295),
    ],
)
def test_golden_values_of_two_examples(name, expected):
    value = CASES[name][0]([[1.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(value, [expected] * 2, rtol=2e-6)


@pytest.mark.parametrize("size", SIZES)
@by_name
def test_zero_at_agreement_with_a_finite_gradient(name, size):
    _, student = draw(size)
    value, gradient = value_and_gradient(CASES[name][0], student, student)
    np.testing.assert_allclose(value, np.zeros(7), atol=1e-12)
    # The 1e-7 beside small probabilities moves the minimum of that loss a little.
    tolerance = 1e-6 if name == "transfer" else 1e-7
    np.testing.assert_allclose(gradient, np.zeros_like(student), atol=tolerance)


@by_name
def test_rows_follow_the_order_of_the_batch(name):
    teacher, student = draw("many")
    value = CASES[name][0](teacher, student).numpy()
    order = [3, 0, 6, 1, 5, 2, 4]
    permuted = CASES[name][0](teacher[order], student[order]).numpy()
    np.testing.assert_allclose(permuted, value[order], rtol=1e-6)


@by_name
def test_what_scales_shifts_and_shapes_do_not_change(name):
    teacher, student = draw("small")
    value = CASES[name][0](teacher, student)
    for factors in (256.0, 2.0 ** np.arange(-3, 4)[:, None]):
        one = np.ndim(factors) == 0
        if one or name in ("transfer", "congruence"):  # which see directions only
            scaled = CASES[name][0](teacher, np.float32(factors) * student)
            np.testing.assert_allclose(scaled, value, rtol=1e-5)
    if name in ("distance", "angle"):
        moved = CASES[name][0](teacher, student + np.float32(1.0))
        np.testing.assert_allclose(moved, value, rtol=1e-5)
    maps = teacher.reshape(7, 1, 7, 1)
    np.testing.assert_allclose(CASES[name][0](maps, student), value, rtol=1e-6)


@pytest.mark.parametrize("student_value", [0.0, 1.0, 1000.0, 1e-42])
@pytest.mark.parametrize("teacher_value", [0.0, 1000.0, None])
@by_name
def test_finite_for_equal_examples_and_zeros(name, teacher_value, student_value):
    teacher, _ = draw("small")
    if teacher_value is not None:
        teacher = np.full_like(teacher, teacher_value)
    student = np.full((7, 5), student_value, "float32")
    for change in (0.0, 1e-42, 1.0):  # all equal, or all but one
        student[0] += np.float32(change)
        value, gradient = value_and_gradient(CASES[name][0], teacher, student)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


@by_name
def test_finite_for_features_of_order_1000_and_zero_rows(name):
    random = np.random.default_rng(3)
    teacher, student = random.normal(0, 1000, (2, 16, 50)).astype("float32")
    student[::3] = 0.0
    student[1] = student[2]
    value, gradient = value_and_gradient(CASES[name][0], teacher, student)
    assert (value > 0).all()
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


def test_equal_examples_have_no_distance_whatever_the_rounding():
    # A distance of sqrt(rounding) would be drawn like any other, with a slope of its inverse.
    random = np.random.default_rng(3)
    student = np.repeat(random.normal(5, 3, (4, 20000)), 2, axis=0).astype("float32")
    teacher = random.normal(0, 1, (8, 10)).astype("float32")
    for name in ("distance", "angle"):
        assert_as_float64(name, teacher, student)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@by_name
def test_any_dtype_comes_in(name, dtype):
    teacher, student = (np.round(x) for x in draw("extreme"))
    expected, _ = value_and_gradient(CASES[name][0], teacher, student)
    value, gradient = value_and_gradient(CASES[name][0], teacher, student, dtype)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, expected)
    assert np.isfinite(gradient.astype("float32")).all()


@by_name
def test_a_batch_of_unknown_size(name):
    def in_graph(teacher, student):
        value = CASES[name][0](teacher, student)
        return value, tf.gradients(value, student)[0]

    teacher, student = draw("small")
    specs = [tf.TensorSpec((None, x.shape[1])) for x in (teacher, student)]
    function = tf.function(in_graph, input_signature=specs)
    value, gradient = function(teacher, student)
    np.testing.assert_allclose(value, CASES[name][0](teacher, student), rtol=1e-5)
    value, gradient = function(teacher[:1], student[:1])
    np.testing.assert_allclose(value, [0.0], atol=1e-12)
    np.testing.assert_allclose(gradient, np.zeros((1, 3)), atol=1e-7)


@by_name
def test_the_loss_averages_over_the_batch_and_honours_weights(name):
    teacher, student = draw("small")
    rows, loss = CASES[name][0](teacher, student).numpy(), CASES[name][1]()
    np.testing.assert_allclose(loss(teacher, student), rows.mean(), rtol=1e-6)
    weights = np.arange(7, dtype="float32")
    weighted = loss(teacher, student, sample_weight=weights)
    np.testing.assert_allclose(weighted, (rows * weights).mean(), rtol=1e-6)
    assert float(loss(teacher, student, sample_weight=np.zeros(7))) == 0.0


@by_name
def test_config_round_trip(name):
    loss = CASES[name][1](reduction="sum", name="mine")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(revived, CASES[name][1])
    assert revived.get_config() == loss.get_config()
    assert (revived.reduction, revived.name) == ("sum", "mine")
    assert (loss.same_grid, loss.same_channels, loss.compares_examples) == (False, False, True)
    assert not loss.needs_labels


def test_a_schedule_as_gamma():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.2, 10, 0.6)
    loss = losses.CorrelationCongruence(gamma=schedule, order=3)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert revived.get_config() == loss.get_config()
    teacher, student = draw("small")
    found = revived.at(tf.constant(5))(teacher, student)
    expected = losses.CorrelationCongruence(gamma=0.4, order=3)(teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`gamma` is a schedule"):
        losses.correlation_congruence(teacher, student, gamma=schedule)


@pytest.mark.parametrize("bad", [0, -1.0, float("inf"), "0.4", None])
def test_bad_hyperparameters(bad):
    with pytest.raises(ValueError, match="`gamma` must be positive.*Received: gamma="):
        losses.CorrelationCongruence(gamma=bad)
    with pytest.raises(ValueError, match="`gamma` must be positive.*Received: gamma="):
        losses.correlation_congruence(*draw("small"), gamma=bad)
    with pytest.raises(ValueError, match="`order` must be an integer.*Received: order="):
        losses.CorrelationCongruence(order=bad)
    with pytest.raises(ValueError, match="`order` must be an integer.*Received: order="):
        losses.correlation_congruence(*draw("small"), order=bad)


@by_name
def test_shapes_that_do_not_fit(name):
    function = CASES[name][0]
    with pytest.raises(ValueError, match=r"at least two examples.*compares.*\(1, 3\) and \(1, 4\)"):
        function(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"same batch size. Received: shapes \(2, 3\) and \(4, 3"):
        function(np.zeros((2, 3)), np.zeros((4, 3)))
