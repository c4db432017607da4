"""Robust methods: their losses worked out by hand, forwards counted, and what they refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net, pictures, sparse_loss

import kdkeras
from kdkeras import losses, methods, perturbations

ATTACK = {"epsilon": 0.1, "steps": 2, "random_start": 0.01}


def moved(model, x, targets, teacher=None):
    """A perturbation that is easy to repeat."""
    return tf.cast(x, "float32") * 0.7 + 0.1


def log_p(z):
    z = np.float64(z)
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def kl(target, z, temperature=1.0):
    """Mean over the batch of the sum over classes, times T^2, in float64."""
    p, q = log_p(np.float64(target) / temperature), log_p(np.float64(z) / temperature)
    return temperature**2 * np.mean(np.sum(np.exp(p) * (p - q), axis=-1))


def plain_net(width, seed):
    """Without BatchNorm and Dropout: the same in training and at inference."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(width, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@pytest.fixture
def nets():
    student, teacher, other = (plain_net(width, seed) for seed, width in enumerate((4, 6, 5)))
    for model in (teacher, other):  # sure of something
        model.layers[-1].kernel.assign(3.0 * model.layers[-1].kernel)
    return student, teacher, other


def first_loss(d, x, y):
    """The loss of the first step, and its logs, with the perturbation that is easy to repeat."""
    d.perturbation = moved
    d.compile(keras.optimizers.SGD(0.0), loss=sparse_loss(), metrics=["accuracy"])
    return d.train_on_batch(x, y, return_dict=True)


def test_losses_by_hand(nets):
    student, teacher, other = nets
    x, y = pictures()
    x2 = moved(None, x, {}).numpy()
    (s, s2), (t, t2), (o, _) = ([model(one).numpy() for one in (x, x2)] for model in nets)
    hard = -np.mean(log_p(s)[np.arange(len(y)), y])
    hard2 = -np.mean(log_p(s2)[np.arange(len(y)), y])
    trusted = np.exp(log_p(t2))[np.arange(len(y)), y] ** 0.5
    p, q = log_p(s), log_p(s2)
    introspection = np.mean((1.0 - trusted) * np.sum(np.exp(p) * (p - q), axis=-1))
    both = {"student": student, "teacher": teacher, **ATTACK}
    expected = {
        "adversarial_training": hard2,
        "trades": 0.5 * hard + 0.5 * 6.0 * kl(s, s2),
        "ard": 0.2 * hard + 0.8 * kl(t, s2, 30.0),
        "rslad": 5 / 6 * kl(t, s2) + 1 / 6 * kl(t, s),
        "adaad": 0.75 * kl(t2, s2) + 0.25 * kl(t, s),
        "iad": 0.2 * hard + 0.8 * (kl(t, s2, 2.0) + introspection),
        "mtard": 0.5 * kl(t2, s2) + 0.5 * kl(o, s),
        "gaussian": 0.1 * hard2 + 0.9 * kl(t, s2, 4.0),
    }
    options = {
        "trades": {"beta": 6.0},
        "ard": {"alpha": 0.2},
        "adaad": {"robust_weight": 0.75},
        "iad": {"alpha": 0.2, "temperature": 2.0, "power": 0.5},
        "mtard": {"clean_teacher": other},
    }
    for name, value in expected.items():
        given = {"student": student, "teacher": teacher} if name == "gaussian" else both
        made = getattr(methods, name)(**given, **options.get(name, {}))
        logs = first_loss(kdkeras.Distiller(**made), x, y)
        assert logs["loss"] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def test_defensive_logits_are_too_large_by_the_temperature(nets):
    student, teacher, _ = nets
    x, y = pictures()
    made = methods.defensive(student=student, teacher=teacher, temperature=20.0)
    logs = first_loss(kdkeras.Distiller(**made), x, y)
    x2 = moved(None, x, {}).numpy()
    expected = kl(20.0 * teacher(x).numpy(), student(x2).numpy(), 20.0) / 20.0
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_trades_gradient_goes_through_both_sides(nets):
    """Against differences of the whole loss; with one side held constant they do not agree."""
    student, *_ = nets
    x, y = pictures()
    d = kdkeras.Distiller(**methods.trades(student=student, beta=6.0, **ATTACK))
    first_loss(d, x, y)
    weights = student.get_weights()

    def loss():
        s, s2 = student(x).numpy(), student(moved(None, x, {})).numpy()
        return 0.5 * -np.mean(log_p(s)[np.arange(len(y)), y]) + 3.0 * kl(s, s2)

    kernel = student.layers[0].kernel
    before = kernel.numpy()
    d.optimizer.learning_rate.assign(1.0)
    d.train_on_batch(x, y)
    gradient = before - kernel.numpy()
    student.set_weights(weights)
    for index in [(0, 0, 0, 0), (1, 2, 0, 3), (2, 1, 0, 2)]:
        values = []
        for sign in (1.0, -1.0):
            shifted = before.copy()
            shifted[index] += sign * 1e-2
            kernel.assign(shifted)
            values.append(loss())
        assert gradient[index] == pytest.approx((values[0] - values[1]) / 2e-2, rel=0.05, abs=2e-3)


def test_peer_learns_from_the_student_on_the_same_attack(nets):
    student, peer, _ = nets
    x, y = pictures()
    x2 = moved(None, x, {}).numpy()
    peer.compile(keras.optimizers.SGD(0.0), loss=sparse_loss())
    made = methods.peer(student=student, teacher=peer, temperature=5.0, peer_weight=0.1, **ATTACK)
    logs = first_loss(kdkeras.Distiller(**made), x, y)
    s, s2, p2 = student(x).numpy(), student(x2).numpy(), peer(x2).numpy()
    expected = kl(p2, s2, 5.0) + kl(s, s2, 5.0)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    hard = -np.mean(log_p(p2)[np.arange(len(y)), y])
    of_peer = (hard + 0.1 * kl(s2, p2)) / 1.1
    assert logs["teacher_loss"] == pytest.approx(of_peer, rel=1e-5)


def test_peer_trains_both(nets):
    student, peer, _ = nets
    x, y = pictures()
    peer.compile(keras.optimizers.Adam(0.01), loss=sparse_loss())
    before = [model.get_weights() for model in (student, peer)]
    d = kdkeras.Distiller(**methods.peer(student=student, teacher=peer, **ATTACK))
    d.compile(keras.optimizers.Adam(0.01), loss=sparse_loss())
    d.fit(x, y, batch_size=6, verbose=0)
    for old, model in zip(before, (student, peer), strict=True):
        moved_by = [np.abs(a - b).max() for a, b in zip(old, model.get_weights(), strict=True)]
        assert min(moved_by) > 1e-4


def test_iad_begins_when_told(nets):
    student, teacher, _ = nets
    made = methods.iad(student=student, teacher=teacher, begin_steps=3, **ATTACK)
    weight = made["terms"][1].weight
    assert [float(weight(step)) for step in (0, 2, 3, 4)] == [0.0, 0.0, 1.0, 1.0]


def test_one_forward_a_model_and_view():
    """Beyond the attack's own: the student twice where both views count, the teacher once."""
    x, y = pictures()
    calls = {"student": [], "teacher": []}

    class Counting(keras.layers.Layer):
        def __init__(self, role):
            super().__init__()
            self.role = role

        def call(self, x, training=False):
            calls[self.role].append(bool(training))
            return x

    def net(role):
        inputs = keras.Input((8, 8, 1))
        outputs = keras.layers.Dense(3)(keras.layers.Flatten()(Counting(role)(inputs)))
        return keras.Model(inputs, outputs)

    for name, students, asked in (("ard", 2, 1), ("rslad", 2, 1), ("hinton", 1, 1)):
        student, teacher = net("student"), net("teacher")
        d = kdkeras.Distiller(**getattr(methods, name)(student=student, teacher=teacher))
        d.perturbation = moved
        d.compile("sgd", loss=sparse_loss(), run_eagerly=True)
        d.train_on_batch(x, y)
        calls["student"].clear(), calls["teacher"].clear()
        d.train_on_batch(x, y)
        assert calls == {"student": [True] * students, "teacher": [False] * asked}, name


def test_reliability_golden():
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    weight = losses.Reliability(power=2.0)(np.array([0, 0]), logits)
    np.testing.assert_allclose(weight, [0.25, 0.01], rtol=1e-5)
    distrust = losses.Reliability(power=2.0, inverted=True)(np.eye(3)[[0, 0]], logits)
    np.testing.assert_allclose(distrust, [0.75, 0.99], rtol=1e-5)
    with pytest.raises(ValueError, match="`power` must be positive"):
        losses.Reliability(power=0.0)


def test_relative_progress_golden():
    balance = losses.RelativeProgress(rate=0.5)
    balance.build((2,))
    # The first comes down to a half, the second to an eighth: 0.8 and 0.2 of the sum.
    steps = [([2.0, 4.0], [0.5, 0.5]), ([1.0, 0.5], [0.65, 0.35]), ([1.0, 0.5], [0.725, 0.275])]
    for values, shares in steps:
        given = [tf.constant(value) for value in values]
        np.testing.assert_allclose(balance(given), shares, rtol=1e-6)
    np.testing.assert_allclose(balance([tf.constant(0.0)] * 2), [0.725, 0.275], rtol=1e-5)
    with pytest.raises(ValueError, match=r"`rate` must be a number in \[0, 1\]"):
        losses.RelativeProgress(rate=2.0)


def test_balance_is_saved(nets, tmp_path):
    student, teacher, other = nets
    x, y = pictures()
    made = methods.mtard(student=student, teacher=teacher, clean_teacher=other, rate=0.5, **ATTACK)
    d = kdkeras.Distiller(**made)
    d.compile(keras.optimizers.Adam(0.01), loss=sparse_loss())
    d.fit(x, y, batch_size=6, epochs=2, verbose=0)
    shares = d.balance.shares.numpy()
    assert np.abs(shares - 0.5).max() > 1e-3
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    np.testing.assert_allclose(loaded.balance.shares, shares)


def test_pixels_are_checked_before_an_attack(nets):
    student, teacher, _ = nets
    x, y = pictures()
    d = kdkeras.Distiller(**methods.rslad(student=student, teacher=teacher, **ATTACK))
    d.compile("sgd", loss=sparse_loss())
    for wrong in (x * 255.0, x - 0.5):
        with pytest.raises(ValueError, match="`x` must lie in the attack's `bounds`"):
            d.fit(wrong, y, verbose=0)
        batches = tf.data.Dataset.from_tensor_slices((wrong, y)).batch(4)
        with pytest.raises(ValueError, match="`x` must lie in the attack's `bounds`"):
            d.fit(batches, verbose=0)


def test_metrics_are_of_what_the_hard_loss_sees(nets):
    student, *_ = nets
    x, y = pictures()
    right = [np.mean(student(one).numpy().argmax(-1) == y) for one in (x, 1.0 - x)]
    for view, expected in zip(("clean", "perturbed"), right, strict=True):
        d = kdkeras.Distiller(
            student=student,
            alpha=1.0,
            terms=[],
            hard_view=view,
            perturbation=lambda model, x, targets, teacher=None: 1.0 - x,
        )
        d.compile(keras.optimizers.SGD(0.0), loss=sparse_loss(), metrics=["accuracy"])
        logs = d.train_on_batch(x, y, return_dict=True)
        assert logs["accuracy"] == pytest.approx(expected)


def test_pipeline_noise_with_a_clean_term(nets):
    """`"clean"` in the data gives the student its clean view too."""
    student, teacher, _ = nets
    x, y = pictures()
    term = kdkeras.Term
    soft = losses.SoftTargets(temperature=1.0)
    clean = losses.SoftTargets(temperature=1.0, name="clean")
    d = kdkeras.Distiller(
        student=student,
        teacher=teacher,
        alpha=0.0,
        terms=[term(soft), term(clean, student_view="clean")],
    )
    d.compile(keras.optimizers.SGD(0.0))
    noisy = 1.0 - x
    logs = d.train_on_batch(noisy, {"label": y, "clean": x}, return_dict=True)
    t, s, s2 = teacher(x).numpy(), student(x).numpy(), student(noisy).numpy()
    assert logs["loss"] == pytest.approx(kl(t, s2) + kl(t, s), rel=1e-5)


def test_terms_of_layers_with_the_students_own_view(nets):
    """A layer of the student on both views, the gradient through both."""
    student, *_ = nets
    x, y = pictures()
    path = kdkeras.taps.paths(student)[0]
    same = kdkeras.Term(
        keras.losses.MeanSquaredError(name="stable"),
        teacher_layer=path,
        student_layer=path,
        source="student",
    )
    d = kdkeras.Distiller(student=student, alpha=0.5, terms=[same], perturbation=moved)
    d.compile(keras.optimizers.SGD(0.0), loss=sparse_loss())
    logs = d.train_on_batch(x, y, return_dict=True)
    tapped = keras.Model(student.inputs[0], student.layers[0].output)
    one, other = tapped(x).numpy(), tapped(moved(None, x, {})).numpy()
    assert logs["stable"] == pytest.approx(np.mean((np.float64(one) - other) ** 2), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "teachr"}, "Did you mean 'teacher'"),
        ({"student_view": "noisy"}, "`student_view` must be one of"),
        ({"teacher_view": "noisy"}, "`teacher_view` must be one of"),
        ({"source": "student", "student_view": "clean"}, "student_view must be 'perturbed'"),
        ({"example_weight": 0.5}, "`example_weight` must be a function"),
    ],
)
def test_bad_terms(options, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Term(losses.SoftTargets(), **options)


def test_teacher_outputs_that_are_not_there(nets):
    student, teacher, other = nets
    both = kdkeras.teachers.one_a_head({"robust": teacher, "clean": other})
    for name in ("robst", None):
        terms = [
            kdkeras.Term(losses.SoftTargets(), teacher_output="clean"),
            kdkeras.Term(losses.SoftTargets(), teacher_output=name),
        ]
        with pytest.raises(ValueError, match="`teacher_output` must be one of the teacher's"):
            kdkeras.Distiller(student=student, teacher=both, terms=terms)


def test_settings_of_an_attack_are_known_by_name(nets):
    student, teacher, _ = nets
    with pytest.raises(ValueError, match="setting='eps'. Did you mean .*'epsilon'"):
        methods.rslad(student=student, teacher=teacher, eps=0.1)


def test_no_terms_only_with_alpha_1(nets):
    student, teacher, _ = nets
    with pytest.raises(ValueError, match="at least one unless `alpha` is 1"):
        kdkeras.Distiller(student=student, teacher=teacher, alpha=0.5, terms=[])


def test_half_precision_learns_the_same(nets):
    """A step of RSLAD in mixed_float16: losses within float16's error, weights float32."""
    x, y = pictures()
    found = {}
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        student, teacher = plain_net(4, 0), plain_net(6, 1)
        d = kdkeras.Distiller(
            **methods.rslad(student=student, teacher=teacher, **{**ATTACK, "seed": 0})
        )
        d.compile(keras.optimizers.SGD(0.1), loss=sparse_loss())
        found[policy] = [d.train_on_batch(x, y, return_dict=True)["loss"] for _ in range(5)]
        assert all(weight.dtype == "float32" for weight in student.weights)
    np.testing.assert_allclose(found["mixed_float16"], found["float32"], rtol=0.02)


def test_no_statistics_of_the_attack_in_the_student():
    """BatchNorm moves once a view: by the batches of training, not by those of the attack."""
    x, y = pictures()
    student = conv_net(4)
    d = kdkeras.Distiller(**methods.adversarial_training(student=student, **ATTACK))
    d.compile(keras.optimizers.SGD(0.0), loss=sparse_loss())
    (norm,) = [
        layer for layer in student.layers if isinstance(layer, keras.layers.BatchNormalization)
    ][:1]
    before = norm.moving_variance.numpy()
    still = perturbations.PGD(epsilon=0.1, steps=2)
    still(student, x, {"label": y})
    np.testing.assert_array_equal(norm.moving_variance, before)
    d.train_on_batch(x, y)
    after = norm.moving_variance.numpy()
    inner = keras.Model(student.inputs[0], norm.input)
    d.perturbation = None
    variance = inner(x).numpy().var(axis=(0, 1, 2))
    momentum = norm.momentum
    once = momentum * before + (1.0 - momentum) * variance
    # The batch is the attacked one: near the clean one's statistics, and taken once.
    np.testing.assert_allclose(after - before, once - before, rtol=0.5)
