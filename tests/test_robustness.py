"""Attacks and what is said of them: closed forms, broken models, resuming, files, bad input."""

import importlib.util
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net, pictures
from scipy import stats

import kdkeras
from kdkeras import data, evaluation, robustness
from kdkeras.robustness import checks, library, running, suites, targets

EPSILON = 0.1


def linear(kernel, bias, size=4, channels=1):
    """`logits = W x + b` on images."""
    inputs = keras.Input((size, size, channels))
    dense = keras.layers.Dense(kernel.shape[1])
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    dense.set_weights([np.float32(kernel), np.float32(bias)])
    return model


def linear_problem(classes, count=120, seed=0):
    """A linear model, images away from the bounds of pixels, and the labels of a like model."""
    random = np.random.default_rng(seed)
    kernel = random.normal(size=(16, classes))
    images = np.float32(random.uniform(0.4, 0.6, (count, 4, 4, 1)))
    flat = images.reshape(count, -1)
    bias = -np.mean(flat @ kernel, axis=0)
    labels = np.argmax(flat @ (kernel + 0.1 * random.normal(size=kernel.shape)) + bias, axis=1)
    return kernel, bias, images, labels


def survives(kernel, bias, images, labels, epsilon, order):
    """Closed form, in float64: `z_y - z_j > epsilon ||w_y - w_j||_q` for all other classes."""
    logits = np.float64(images.reshape(len(images), -1)) @ kernel + bias
    right = np.ones(len(images), bool)
    for j in range(kernel.shape[1]):
        lead = logits[np.arange(len(labels)), labels] - logits[:, j]
        reach = epsilon * np.linalg.norm(kernel[:, labels] - kernel[:, [j]], order, axis=0)
        right &= (labels == j) | (lead > reach)
    return right


def right(row):
    return np.array([character == "1" for character in row["right"]])


def attacked(model, images, labels, **settings):
    settings = {"epsilon": EPSILON, "suite": "quick", "verbose": 0, **settings}
    return robustness.evaluate(model, images, labels, **settings)


@pytest.fixture(scope="module")
def digits():
    """A small network that is right on nearly all digits, and the digits it was not trained on."""
    keras.utils.set_random_seed(0)
    splits = data.load("digits", image_size=8)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.Conv2D(16, 3, padding="same", strides=2, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)), name="digits")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    model.fit(*evaluation.collect(splits.train), epochs=15, batch_size=64, verbose=0)
    images, labels = evaluation.collect(splits.test)
    return model, images[:120], labels[:120]


# -- what can be known exactly --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [(50, 100, (0.4038315, 0.5961685)), (0, 10, (0.0, 0.2775328)), (10, 10, (0.7224672, 1.0))],
)
def test_wilson(successes, trials, interval):
    found = evaluation.wilson(successes, trials)
    assert found == pytest.approx(interval, abs=1e-7)
    oracle = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert found == pytest.approx(tuple(oracle), abs=1e-12)


@pytest.mark.parametrize(("norm", "order", "epsilon"), [("linf", 1, 0.01), ("l2", 2, 0.03)])
def test_two_classes_in_closed_form(norm, order, epsilon):
    kernel, bias, images, labels = linear_problem(2)
    model = linear(kernel, bias)
    expected = survives(kernel, bias, images, labels, epsilon, order)
    assert 0.2 < expected.mean() < 0.8
    report = attacked(model, images, labels, epsilon=epsilon, norm=norm, suite="standard")
    for name in ("fgsm", "pgd20_cross_entropy", "pgd20_margin", "pgd100_margin_restarts"):
        np.testing.assert_array_equal(right(report["attacks"][name]), expected, err_msg=name)
    assert report["worst_case"]["accuracy"] == expected.mean()
    assert [gate["passed"] for gate in report["gates"]] == [True] * 4 + [None, True]
    low, high = evaluation.wilson(expected.sum(), len(expected))
    said = f"{100 * expected.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    assert report["verdict"] == f"robust accuracy {said}"
    assert report["reliable"] is True


@pytest.mark.parametrize(("norm", "order", "epsilon"), [("linf", 1, 0.005), ("l2", 2, 0.02)])
def test_several_classes_in_closed_form(norm, order, epsilon):
    kernel, bias, images, labels = linear_problem(4, seed=1)
    expected = survives(kernel, bias, images, labels, epsilon, order)
    assert 0.2 < expected.mean() < 0.8
    model = linear(kernel, bias)
    report = attacked(model, images, labels, epsilon=epsilon, norm=norm, suite="standard")
    np.testing.assert_array_equal(right(report["worst_case"]), expected)
    assert report["reliable"] is True
    curve = report["curve"]
    exact = [survives(kernel, bias, images, labels, p["epsilon"], order).mean() for p in curve[:4]]
    assert [point["accuracy"] for point in curve[:4]] == pytest.approx(exact, abs=0.02)
    top = 0.5 if norm == "linf" else 0.5 * 4
    assert (curve[0]["epsilon"], curve[-1]["epsilon"]) == (0.0, top)
    assert curve[-1]["accuracy"] == 0.0
    inner = [point["epsilon"] / epsilon for point in curve[1:-1]]
    assert inner == pytest.approx([2.0**i for i in range(-2, len(inner) - 2)])


def test_an_adversarially_trained_network_passes(digits):
    _, images, labels = digits
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Dense(32, activation="relu")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    x, y = evaluation.collect(data.load("digits", image_size=8).train)
    attack = kdkeras.perturbations.PGD(epsilon=EPSILON, steps=3, seed=0)
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        x = attack(model, x, {"label": y})
        with tf.GradientTape() as tape:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x))
            loss = tf.reduce_mean(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients)

    for start in range(0, 8 * 1280, 64):
        some = slice(start % 1280, start % 1280 + 64)
        step(tf.constant(x[some]), tf.constant(y[some]))
    report = attacked(model, images, labels)
    assert report["reliable"] is True, report["verdict"]
    assert report["clean"]["accuracy"] > 0.8
    assert 0.3 < report["worst_case"]["accuracy"] < report["clean"]["accuracy"]


# -- models that are not what they seem -----------------------------------------------------------


def test_large_logits_do_not_pass_for_robustness(digits):
    model, images, labels = digits
    inputs = keras.Input((8, 8, 3))
    loud = keras.Model(inputs, keras.layers.Rescaling(100.0)(model(inputs)), name="loud")
    plain, shouted = (attacked(one, images, labels, epsilon=0.2) for one in (model, loud))
    assert plain["clean"]["right"] == shouted["clean"]["right"]
    assert plain["worst_case"]["accuracy"] < 0.02
    assert plain["reliable"] is True
    # What an evaluation by cross-entropy alone would print, of a network with no robustness at all.
    assert shouted["attacks"]["pgd20_cross_entropy"]["accuracy"] > 0.9
    assert shouted["attacks"]["fgsm"]["accuracy"] > 0.9
    assert shouted["worst_case"]["accuracy"] < 0.02
    gates = {gate["name"]: gate for gate in shouted["gates"]}
    failed = {name for name, gate in gates.items() if gate["passed"] is False}
    assert failed == {"zero gradients", "cross-entropy against margin"}
    assert gates["zero gradients"]["figures"]["zero_gradients"] > 0.9
    assert shouted["verdict"] == "not reliable: zero gradients, cross-entropy against margin"
    assert shouted["reliable"] is False


@keras.saving.register_keras_serializable("tests")
class Misleading(keras.layers.Layer):
    """`x`, with a gradient that points the wrong way."""

    def call(self, x):
        return 2.0 * tf.stop_gradient(x) - x


def test_misleading_gradients_are_found_by_the_full_suite(monkeypatch):
    pytest.importorskip("art")
    monkeypatch.setattr(suites, "SQUARE_QUERIES", 60)
    monkeypatch.setattr(suites, "APGD_STEPS", 4)
    random = np.random.default_rng(2)
    kernel = random.normal(size=(64, 3))
    images = np.float32(random.uniform(0.4, 0.6, (40, 8, 8, 1)))
    honest = linear(kernel, -0.5 * kernel.sum(axis=0), size=8)
    labels = np.argmax(honest(images), axis=1)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, honest(Misleading()(inputs)))
    state = np.random.get_state()[1].copy()
    report = attacked(model, images, labels, epsilon=0.05, suite="full")
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    gates = {gate["name"]: gate for gate in report["gates"]}
    # Each of these attacks alone, and any two of them together, would say: robust.
    for name in ("fgsm", "pgd20_cross_entropy", "pgd20_margin", "pgd100_margin_restarts"):
        assert report["attacks"][name]["accuracy"] > 0.9, name
    assert gates["cross-entropy against margin"]["passed"] is True
    assert gates["zero gradients"]["passed"] is True
    assert gates["attack without gradients"]["passed"] is False
    assert gates["epsilon curve"]["passed"] is False
    assert gates["attack without gradients"]["figures"]["square_alone"] > 0.2
    square = report["attacks"]["square"]
    assert square["accuracy"] == report["worst_case"]["accuracy"]
    assert square["settings"]["queries"] == 60
    assert "not reliable: epsilon curve, attack without gradients" in report["verdict"]
    assert report["versions"]["adversarial-robustness-toolbox"]
    assert "AutoAttack" not in json.dumps(report)
    # With its gradients the right way round the same network passes.
    good = attacked(honest, images, labels, epsilon=0.05, suite="full")
    assert good["reliable"] is True
    assert all(gate["passed"] for gate in good["gates"])


def test_a_model_without_gradients_is_refused(digits):
    model, images, labels = digits
    inputs = keras.Input((8, 8, 3))
    rounded = keras.Model(inputs, model(keras.ops.round(inputs * 15.0) / 15.0))
    with pytest.raises(ValueError, match="gives no gradient of its inputs"):
        attacked(rounded, images[:20], labels[:20])


# -- rows -----------------------------------------------------------------------------------------


def test_rows_hold_together(digits):
    model, images, labels = digits
    labels = labels.copy()
    labels[:10] = (labels[:10] + 1) % 10  # the model has these wrong
    report = attacked(model, images, labels, suite="standard")
    json.dumps(report, allow_nan=False)
    rows, clean = report["attacks"], right(report["clean"])
    assert not clean[:10].any()
    worst = clean.copy()
    for name, row in rows.items():
        assert row["accuracy"] == right(row).mean()
        assert row["interval"] == list(evaluation.wilson(right(row).sum(), 120))
        assert row["seconds"] > 0.0
        inside = name not in ("gaussian", "uniform")
        assert row["counts_for_worst_case"] is inside
        if inside:
            assert not (right(row) & ~clean).any()
            worst &= right(row)
    np.testing.assert_array_equal(right(report["worst_case"]), worst)
    strongest = rows["pgd100_margin_restarts"]
    assert not (right(strongest) & ~right(rows["pgd20_margin"])).any()
    ball = {"epsilon": EPSILON, "norm": "linf"}
    settings = {"steps": 100, "step_size": EPSILON / 40, "objective": "margin"}
    assert strongest["settings"] == {**ball, **settings, "restarts": 5}
    assert rows["pgd20_margin"]["settings"]["step_size"] == EPSILON / 4
    assert rows["gaussian"]["title"] == "Gaussian noise, stddev 0.1000"
    assert report["worst_case"]["of"] == [
        *("FGSM", "PGD-20 cross-entropy", "PGD-20 margin", "PGD-40 margin"),
        "PGD-100 margin, 5 restarts",
    ]
    known = {"epsilon_in_255": "25.5/255", "pixels": "[0, 1]", "access": "white-box", "seed": 0}
    assert report["threat_model"] == {**ball, **known, "examples": 120, "classes": 10}
    assert set(report["versions"]) == {"kdkeras", "tensorflow", "keras", "numpy"}
    quick, _ = suites.attacks("quick", **ball, seed=0, shape=(8, 8, 3), classes=10)
    assert [attack.name for attack in quick] == list(rows)[:6]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_counts_stays_in_the_ball(norm):
    random = np.random.default_rng(0)
    images = np.float32(random.random((6, 12, 12, 1)))
    labels = np.int32(random.integers(0, 3, 6))
    model = conv_net(size=12)
    network = targets.opened(model).network
    batch = tf.TensorSpec([6, 12, 12, 1]), tf.TensorSpec([6], tf.int32)
    ball = {"epsilon": 0.2, "norm": norm, "seed": 0, "shape": (12, 12, 1)}
    wanted, left_out = suites.attacks("standard", **ball, classes=3)
    if importlib.util.find_spec("art"):
        settings = {"epsilon": 0.2, "norm": norm}
        steps = {**settings, "steps": 3}
        art = {"shape": (12, 12, 1), "classes": 3, "seed": 0}
        losses = ("cross_entropy", "difference_logits_ratio")
        made = [library.apgd({**steps, "loss": loss}, **art) for loss in losses]
        made.append(library.square({**settings, "queries": 3}, **art))
        wanted += [suites.Attack(f"art {i}", "", {}, one) for i, one in enumerate(made)]
    assert left_out == {}
    for attack in wanted:
        changed = attack.make(network, batch)(images, labels)
        change = (changed - images).reshape(6, -1)
        size = np.linalg.norm(change, np.inf if norm == "linf" else 2, axis=1)
        if attack.inside:
            assert size.max() <= 0.2 + 1e-6, attack.name
            assert changed.min() >= 0.0
            assert changed.max() <= 1.0
            # Wherever there is a gradient, something is done. (An image that is wrong is left.)
            assert size.max() > 0.05, attack.name
        else:
            expected = 0.2 * (12.0 if norm == "linf" else 1.0)
            by_uniform = 3.0**-0.5 if (norm, attack.name) == ("linf", "uniform") else 1.0
            length = np.linalg.norm(change, axis=1).mean()
            assert length == pytest.approx(expected * by_uniform, rel=0.1)


def test_an_epsilon_beyond_the_last_point_of_the_curve():
    points, more = suites.curve(epsilon=0.6, norm="linf", seed=0, shape=(8, 8, 1))
    assert [point for point, _ in points] == [0.0, 0.15, 0.3, 0.6]
    assert len(more) == 2


def test_seeds_and_batches(digits):
    model, images, labels = digits
    batch_of = running._batch(images, 120)
    ball = {"norm": "linf", "epsilon": EPSILON, "shape": (8, 8, 3), "classes": 10}
    network = targets.opened(model).network

    def made(name, seed):
        (attack,) = [
            one for one in suites.attacks("quick", **ball, seed=seed)[0] if one.name == name
        ]
        return attack.make(network, batch_of)(images, np.int32(labels))

    for name in ("gaussian", "uniform", "pgd20_margin"):
        first, again, other = (made(name, seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > EPSILON / 2
    # 120 images in batches of 50, the last filled up: FGSM has nothing random in it.
    (fgsm,) = [one for one in suites.attacks("quick", **ball, seed=0)[0] if one.name == "fgsm"]
    standing, shown = np.arange(120) % 5 > 0, np.array([0, 61, 119])
    found = [
        running.run(
            fgsm, targets.opened(model), images, labels, standing, shown,
            batch_size=size, verbose=0,
        )
        for size in (200, 50)
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0]["right"], found[1]["right"])
    assert not found[0]["right"][~standing].any()
    np.testing.assert_allclose(found[0]["pictures"], found[1]["pictures"], atol=1e-6)
    np.testing.assert_array_equal(found[0]["pictures"][0], images[0])  # had fallen before
    adversarial = fgsm.make(network, batch_of)(images, np.int32(labels))
    np.testing.assert_allclose(found[1]["pictures"][1:], adversarial[shown[1:]], atol=1e-6)
    expected = standing & (model(adversarial).numpy().argmax(-1) == labels)
    np.testing.assert_array_equal(found[0]["right"], expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_hides_nothing(digits, policy):
    model, images, labels = digits
    x = inputs = keras.Input((8, 8, 3))
    for layer in model.layers[1:]:
        x = type(layer).from_config({**layer.get_config(), "dtype": policy})(x)
    half = keras.Model(inputs, x)
    half.set_weights(model.get_weights())
    # In its own precision confident examples may have no gradient: a copy's is followed.
    own = targets.of_keras(half, "half")
    assert own.network(images[:1]).dtype == tf.float32
    if policy == "mixed_float16":
        assert running.without_gradient(own, images, np.int32(labels), batch_size=120) > 0.0
    full = targets.opened(half)
    assert running.without_gradient(full, images, np.int32(labels), batch_size=120) == 0.0
    np.testing.assert_array_equal(full.network(images), targets.opened(model).network(images))
    np.testing.assert_array_equal(full.logits(images), own.logits(images))  # what decides


# -- bad input ------------------------------------------------------------------------------------

IMAGES, LABELS = pictures(24)


def changed(index, value):
    images = IMAGES.copy()
    images[index] = value
    return images


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": -0.1}, "`epsilon` must be positive and finite"),
        ({"epsilon": 0.0}, "`epsilon` must be positive and finite"),
        ({"epsilon": float("nan")}, "`epsilon` must be positive and finite"),
        ({"epsilon": 8}, r"pixels of \[0, 1\].*epsilon=8. Did you mean 8/255\?"),
        ({"epsilon": 128, "norm": "l2"}, "at most 8 for images of shape .*Divide a distance"),
        ({"norm": "l1"}, "`norm` must be one of 'linf', 'l2'"),
        ({"suite": "fulll"}, "Did you mean 'full'"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"images": IMAGES * 255}, "Divide by 255"),
        ({"images": np.uint8(IMAGES * 255)}, "dtype uint8. Divide by 255"),
        ({"images": changed((3, 0, 0, 0), -0.1)}, "Undo any normalisation"),
        ({"images": changed((3, 0, 0, 0), np.nan)}, "must be finite.*image 3"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "at least one image"),
        ({"images": IMAGES[..., 0]}, r"shape \(n, height, width, channels\)"),
        ({"images": IMAGES[:, :4]}, r"shape \(8, 8, 1\), as .*Received: shape \(4, 8, 1\)"),
        ({"labels": LABELS[:-1]}, "24 images, 23 labels"),
        ({"labels": np.where(LABELS == 2, 3, LABELS)}, "must be in 0 ... 2 for 3 classes"),
        ({"labels": LABELS - 1}, "must be in 0 ... 2"),
        ({"labels": np.eye(3)[LABELS]}, "not one-hot"),
        ({"model": "/nowhere.keras"}, "does not exist"),
        ({"model": 3}, "`model` must be a `keras.Model`, or the path"),
    ],
)
def test_bad_input(given, message):
    settings = {"model": conv_net(), "images": IMAGES, "labels": LABELS, **given}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        attacked(**settings)


def network_ending_in(*layers):
    inputs = keras.Input((8, 8, 1))
    x = conv_net()(inputs)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


@keras.saving.register_keras_serializable("tests")
class Hidden(keras.layers.Layer):
    """Softmax that cannot be seen from outside."""

    def call(self, x):
        return tf.nn.softmax(x) * 1.0


@keras.saving.register_keras_serializable("tests")
class Noisy(keras.layers.Layer):
    """Random at inference."""

    def call(self, x):
        return x + 0.1 * tf.random.normal(tf.shape(x))


@keras.saving.register_keras_serializable("tests")
class Broken(keras.layers.Layer):
    """NaN."""

    def call(self, x):
        return x / (0.0 * x)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras.layers.Softmax()], "must give logits. .*ends in softmax"),
        ([Hidden()], "whose outputs are probabilities"),
        ([Noisy()], "random at inference"),
        ([Broken()], "finite logits.*for 24 of 24 images"),
        ([keras.layers.Dense(1)], "at least 2 classes"),
        ([keras.layers.RepeatVector(2)], r"gives \(24, 2, 3\) for 24 images"),
    ],
)
def test_models_that_cannot_be_attacked(layers, message):
    with pytest.raises(ValueError, match=message):
        attacked(network_ending_in(*layers), IMAGES, LABELS)


def test_one_input_and_one_output():
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, [conv_net()(inputs), conv_net()(inputs)])
    with pytest.raises(ValueError, match="one input and one output. Received: .* with 1 and 2"):
        attacked(model, IMAGES, LABELS)


def test_fewer_examples_than_classes_warn():
    with pytest.warns(UserWarning, match="2 images of 3 classes"):
        report = attacked(conv_net(), IMAGES[:2], LABELS[:2])
    assert report["threat_model"]["examples"] == 2


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(library, "NAME", "no-such-library")
    with pytest.raises(ValueError, match=r"pip install 'kdkeras\[robustness\]'"):
        attacked(conv_net(), IMAGES, LABELS, suite="full")


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("apgd_dlr", {"shape": (8, 8, 1), "classes": 2, "norm": "linf"}, "at least 3 classes"),
        ("square", {"shape": (4, 4, 1), "classes": 3, "norm": "linf"}, "images of 4 x 4 in linf"),
        ("square", {"shape": (8, 8, 1), "classes": 3, "norm": "l2"}, "images of 8 x 8 in l2"),
        ("square", {"shape": (12, 16, 1), "classes": 3, "norm": "l2"}, "images of 12 x 16 in l2"),
    ],
)
def test_attacks_of_the_library_that_do_not_fit_are_left_out(name, given, reason):
    assert reason in library.misfit(name, **given)
    assert library.misfit(name, shape=(12, 12, 3), classes=3, norm=given["norm"]) is None
    settings = {**given, "epsilon": 0.1, "seed": 0}
    wanted, left_out = suites.attacks("full", **settings)
    assert name not in [attack.name for attack in wanted]
    assert reason in "".join(left_out.values())


# -- quick ----------------------------------------------------------------------------------------


def test_quick_in_closed_form():
    kernel, bias, images, labels = linear_problem(2, count=100)
    model = linear(kernel, bias)
    found = robustness.quick(model, images, labels, epsilon=0.01)
    clean = survives(kernel, bias, images, labels, 0.0, 1)
    robust = survives(kernel, bias, images, labels, 0.01, 1)
    assert found == {"clean": clean.mean(), "robust": robust.mean(), "count": 100}
    assert 0.2 < found["robust"] < found["clean"] - 0.1
    found = robustness.quick(model, images, labels, epsilon=0.03, norm="l2", max_examples=50)
    some = slice(None, None, 2)
    robust = survives(kernel, bias, images[some], labels[some], 0.03, 2)
    assert (found["robust"], found["count"]) == (robust.mean(), 50)


def test_quick_is_traced_once_and_sees_new_weights(digits):
    model, images, labels = digits
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, x):
            traces.append(x.shape)
            return x

    inputs = keras.Input((8, 8, 3))
    wrapped = keras.Model(inputs, model(Traced()(inputs)))
    first = robustness.quick(wrapped, images, labels, epsilon=EPSILON)
    count = len(traces)
    assert robustness.quick(wrapped, images[:70], np.int64(labels[:70]), epsilon=EPSILON)["clean"]
    assert robustness.quick(wrapped, images, labels, epsilon=EPSILON) == first
    assert len(traces) == count
    assert first["clean"] > 0.9
    assert first["robust"] < first["clean"] - 0.2
    kept = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in kept])
    zeroed = robustness.quick(wrapped, images, labels, epsilon=EPSILON)
    model.set_weights(kept)
    assert zeroed["clean"] == zeroed["robust"] == np.mean(labels == 0)
    assert len(traces) == count


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": 8}, "Did you mean 8/255"),
        ({"images": IMAGES * 255}, "Divide by 255"),
        ({"labels": LABELS + 1}, "must be in 0 ... 2"),
        ({"max_examples": 0}, "`max_examples` must be"),
        ({"steps": 0}, "`steps` must be"),
        ({"model": "m.keras"}, "`model` must be a `keras.Model`. Received: str"),
    ],
)
def test_bad_input_of_quick(given, message):
    settings = {"model": conv_net(), "images": IMAGES, "labels": LABELS, "epsilon": 0.1, **given}
    with pytest.raises(ValueError, match=message):
        robustness.quick(**settings)


def test_evenly():
    images, labels = np.arange(359), np.arange(359) % 10
    some, of_some = robustness.evenly(images, labels, 100)
    assert len(some) == 100
    assert (some[0], some[-1]) == (0, 355)
    assert set(np.diff(some)) == {3, 4}
    np.testing.assert_array_equal(of_some, some % 10)
    assert robustness.evenly(images, labels, 400)[0] is images
    assert robustness.evenly(np.arange(10_000), np.arange(10_000), 500)[0][1] == 20


def test_logits_that_are_not_finite_are_no_class():
    logits = np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, 0.0]])
    np.testing.assert_array_equal(targets.classes_of(logits), [1, -1, -1])
    assert checks.epsilon_of(1, "l2", (8, 8, 1)) == 1.0
