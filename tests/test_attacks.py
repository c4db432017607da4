"""FGSM and PGD: closed forms, two libraries, balls and bounds, objectives, precision, seeds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net, sparse_loss

from kdkeras import perturbations
from kdkeras.perturbations import balls, objectives

EPSILON = 0.1


@pytest.fixture(scope="module")
def trained():
    """A trained convolutional network with BatchNorm and Dropout, and pictures it mostly has right.

    Class k is brighter in band k, with noise.
    """
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    y = np.arange(96) % 3
    x = random.random((96, 8, 8, 1)) * 0.6 + 0.2
    for k in range(3):
        x[y == k, 2 * k : 2 * k + 3] += 0.15
    x = np.clip(x, 0.0, 1.0).astype("float32")
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), loss=sparse_loss())
    model.fit(x, y, epochs=30, batch_size=32, verbose=0)
    assert np.mean(np.argmax(model(x), -1) == y) > 0.9
    return model, x, y


def linear(classes=2, seed=0):
    """Logits `W x + b` of 4 x 4 pixels, and pixels far from their bounds."""
    random = np.random.default_rng(seed)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    weights = random.normal(size=(16, classes)).astype("float32")
    model.set_weights([weights, random.normal(size=classes).astype("float32")])
    x = (0.5 + 0.1 * random.random((20, 4, 4, 1))).astype("float32")
    return model, weights, x, random.integers(0, classes, 20)


# --- Against libraries and closed forms


@pytest.mark.parametrize("steps", [1, 10])
def test_equal_to_foolbox(trained, steps):
    foolbox = pytest.importorskip("foolbox")
    model, x, y = trained
    theirs = foolbox.TensorFlowModel(model, bounds=(0, 1))
    if steps == 1:
        ours = perturbations.FGSM(epsilon=EPSILON)
        attack = foolbox.attacks.FGSM()
    else:
        options = {"steps": steps, "random_start": False}
        ours = perturbations.PGD(epsilon=EPSILON, step_size=0.02, **options)
        attack = foolbox.attacks.LinfPGD(abs_stepsize=0.02, **options)
    _, found, _ = attack(theirs, tf.constant(x), tf.constant(y), epsilons=EPSILON)
    np.testing.assert_allclose(ours(model, x, {"label": y}), found, atol=1e-6)


def test_l2_equal_to_foolbox(trained):
    foolbox = pytest.importorskip("foolbox")
    model, x, y = trained
    theirs = foolbox.TensorFlowModel(model, bounds=(0, 1))
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.2, steps=8, random_start=False)
    _, found, _ = attack(theirs, tf.constant(x), tf.constant(y), epsilons=0.8)
    ours = perturbations.PGD(epsilon=0.8, step_size=0.2, steps=8, norm="l2", random_start=False)
    np.testing.assert_allclose(ours(model, x, {"label": y}), found, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 10])
def test_equal_to_art(trained, steps):
    estimators = pytest.importorskip("art.estimators.classification")
    from art.attacks import evasion

    model, x, y = trained
    theirs = estimators.TensorFlowV2Classifier(
        model, 3, (8, 8, 1), loss_object=sparse_loss(), clip_values=(0, 1)
    )
    if steps == 1:
        ours = perturbations.FGSM(epsilon=EPSILON)
        attack = evasion.FastGradientMethod(theirs, eps=EPSILON)
    else:
        ours = perturbations.PGD(epsilon=EPSILON, step_size=0.02, steps=10, random_start=False)
        attack = evasion.ProjectedGradientDescent(
            theirs, eps=EPSILON, eps_step=0.02, max_iter=10, verbose=False
        )
    found = attack.generate(x, y=np.eye(3)[y])
    np.testing.assert_allclose(ours(model, x, {"label": y}), found, atol=1e-6)


@pytest.mark.parametrize("objective", ["cross_entropy", "margin"])
def test_linear_model_in_closed_form(objective):
    model, weights, x, y = linear()
    away = (weights[:, 1] - weights[:, 0])[None] * np.where(y == 0, 1.0, -1.0)[:, None]
    away = away.reshape(x.shape)
    for norm, best in (
        ("linf", np.sign(away)),
        ("l2", away / np.sqrt(np.sum(away**2, axis=(1, 2, 3), keepdims=True))),
    ):
        options = {"epsilon": EPSILON, "norm": norm, "objective": objective}
        for attack in (
            perturbations.FGSM(**options),
            perturbations.PGD(**options, step_size=EPSILON / 4, steps=60, seed=0),
            perturbations.PGD(**options, random_start=False, steps=4),
        ):
            found = attack(model, x, {"label": y}).numpy()
            # From a random start in "l2" PGD glides along the sphere to the best point.
            tolerance = 1e-3 if norm == "l2" and attack.random_start else 1e-6
            np.testing.assert_allclose(found, x + EPSILON * best, atol=tolerance)


def test_gradient_steps_in_numpy():
    """Three steps with projection and clipping, in float64, where all of them take part."""
    model, weights, x, y = linear(seed=4)
    x = np.where(x > 0.55, 0.98, x).astype("float32")  # near the upper bound
    away = (weights[:, 1] - weights[:, 0])[None] * np.where(y == 0, 1.0, -1.0)[:, None]
    place = x.astype("float64")
    for _ in range(3):
        place = place + 0.04 * np.sign(away.reshape(x.shape))
        place = np.clip(x + np.clip(place - x, -EPSILON, EPSILON), 0.0, 1.0)
    attack = perturbations.PGD(epsilon=EPSILON, step_size=0.04, steps=3, random_start=False)
    found = attack(model, x, {"label": y}).numpy()
    np.testing.assert_allclose(found, place, atol=1e-6)
    assert (found == 1.0).any()
    assert np.isclose(found - x, EPSILON, atol=1e-6).any()


# --- The ball and the bounds


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stays_in_the_ball_and_in_the_bounds(policy, norm):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = conv_net(4)
    x = np.random.default_rng(0).random((12, 8, 8, 1)).astype("float32")
    y = np.arange(12) % 3
    epsilon = EPSILON if norm == "linf" else 0.8
    attack = perturbations.PGD(epsilon=epsilon, norm=norm, seed=0)
    found = attack(model, tf.cast(x, model.compute_dtype), {"label": y})
    assert found.dtype == tf.float32
    clean = tf.cast(tf.cast(x, model.compute_dtype), "float32").numpy()
    change = (found - clean).numpy().reshape(12, -1)
    size = np.abs(change).max(-1) if norm == "linf" else np.sqrt((change**2).sum(-1))
    assert size.max() <= epsilon + 1e-6
    assert size.min() > 0.5 * epsilon
    assert found.numpy().min() >= 0.0
    assert found.numpy().max() <= 1.0


def test_mixed_precision_attacks_as_well(trained):
    model, x, y = trained
    keras.config.set_dtype_policy("mixed_float16")
    half = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": "mixed_float16"}
        ),
    )
    half.set_weights(model.get_weights())
    attack = perturbations.PGD(epsilon=EPSILON, random_start=False)
    found = [attack(one, x, {"label": y}).numpy() for one in (model, half)]
    same = np.isclose(*found, atol=1e-6).mean()
    assert same > 0.9  # of the signs of gradients, few are within float16's error of 0
    right = [np.mean(np.argmax(model(one), -1) == y) for one in found]
    assert right[1] <= right[0] + 0.05


def test_pixels_beyond_the_bounds_are_not_moved_out_of_the_ball():
    centre = tf.constant([[1.3, 0.5, -0.2]])
    moved = balls.projected(
        centre + [[0.5, 0.5, -0.5]], centre, epsilon=0.1, norm="linf", bounds=(0.0, 1.0)
    )
    np.testing.assert_allclose(moved, [[1.3, 0.6, -0.2]], atol=1e-6)


def test_random_starts_fill_the_ball_evenly():
    centre = tf.zeros((4000, 2, 2))
    seed = keras.random.SeedGenerator(0)
    cube = balls.somewhere(centre, seed, epsilon=0.3, norm="linf").numpy()
    # Uniform: variance eps^2 / 3, within three standard errors of 16,000 draws.
    assert abs(cube.var() - 0.03) < 0.0007
    assert np.abs(cube).max() <= 0.3
    ball = balls.somewhere(centre, seed, epsilon=0.3, norm="l2").numpy().reshape(4000, -1)
    radius = np.sqrt((ball**2).sum(-1)) / 0.3
    # In 4 dimensions radius^4 is uniform: mean 1/2 with standard error 0.0046.
    assert abs((radius**4).mean() - 0.5) < 0.014
    assert abs(ball.mean()) < 0.005


def test_epsilon_zero_changes_nothing(trained):
    model, x, y = trained
    for norm in ("linf", "l2"):
        attack = perturbations.PGD(epsilon=0.0, norm=norm)
        np.testing.assert_array_equal(attack(model, x, {"label": y}), x)


def test_other_bounds_and_none():
    model, _, x, y = linear()
    options = {"epsilon": EPSILON, "random_start": False}
    low = perturbations.PGD(**options, bounds=(0.45, 0.62))(model, x, {"label": y}).numpy()
    assert low.min() >= 0.45
    assert low.max() <= 0.62
    assert np.ptp(low) > 0.15
    free = perturbations.PGD(**options, bounds=None)(model, x - 3.0, {"label": y}).numpy()
    np.testing.assert_allclose(np.abs(free - (x - 3.0)), EPSILON, atol=1e-6)


# --- The model is looked at, not changed


def test_statistics_and_dropout_stay_out_of_it(trained):
    model, x, y = trained
    before = [weight.numpy() for weight in model.weights]
    attack = perturbations.PGD(epsilon=EPSILON, random_start=False)
    once, again = (attack(model, x, {"label": y}).numpy() for _ in range(2))
    np.testing.assert_array_equal(once, again)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


def test_no_gradient_flows_through_it(trained):
    model, x, y = trained
    x = tf.constant(x[:4])
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = perturbations.PGD(epsilon=EPSILON, steps=2)(model, x, {"label": y[:4]})
    assert tape.gradient(out, x) is None


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_and_eager_agree(trained, jit_compile):
    model, x, y = trained
    attack = perturbations.PGD(epsilon=EPSILON, random_start=False, restarts=2)

    @tf.function(jit_compile=jit_compile)
    def compiled(x, y):
        return attack(model, x, {"label": y})

    eager = attack(model, x, {"label": y}).numpy()
    # XLA rounds otherwise: signs of gradients next to 0 may differ.
    assert np.isclose(compiled(x, y), eager, atol=1e-6).mean() > (0.999 if jit_compile else 0.9999)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(40)
    traced = tf.function(lambda x, y: attack(model, x, {"label": y}))
    parts = [traced(*batch) for batch in batches]  # the last has 16: of unknown batch size
    np.testing.assert_allclose(tf.concat(parts, 0), eager, atol=1e-6)


def test_seeds(trained):
    model, x, y = trained
    one, two, other = (perturbations.PGD(epsilon=EPSILON, steps=2, seed=seed) for seed in (5, 5, 6))
    first, second = (one(model, x, {"label": y}).numpy() for _ in range(2))
    np.testing.assert_array_equal(two(model, x, {"label": y}), first)
    assert np.abs(first - second).max() > 0.01
    assert np.abs(other(model, x, {"label": y}) - first).max() > 0.01


def test_restarts_only_raise_the_objective(trained):
    model, x, y = trained
    heights = [
        objectives.cross_entropy(
            y,
            model(
                perturbations.PGD(epsilon=EPSILON, steps=2, restarts=restarts, seed=1)(
                    model, x, {"label": y}
                )
            ),
        ).numpy()
        for restarts in (1, 5)
    ]
    assert (heights[1] >= heights[0] - 1e-6).all()
    assert (heights[1] > heights[0] + 1e-4).mean() > 0.5


# --- Objectives


def test_margin_and_cross_entropy_golden():
    logits = [[3.0, 1.0, 0.0], [2.0, 0.5, 4.0], [0.0, 1e4, -1e4]]
    np.testing.assert_allclose(objectives.margin([0, 0, 2], logits), [-2.0, 2.0, 2e4])
    np.testing.assert_allclose(objectives.margin([[0], [0], [2]], logits), [-2.0, 2.0, 2e4])
    one_hot = np.eye(3)[[0, 0, 2]]
    np.testing.assert_allclose(objectives.margin(one_hot, logits), [-2.0, 2.0, 2e4])
    z = np.float64(logits)
    expected = np.logaddexp.reduce(z, axis=-1) - z[[0, 1, 2], [0, 0, 2]]
    np.testing.assert_allclose(objectives.cross_entropy([0, 0, 2], logits), expected, rtol=1e-6)
    np.testing.assert_allclose(objectives.cross_entropy(one_hot, logits), expected, rtol=1e-6)


def test_margin_finds_a_way_where_cross_entropy_has_no_gradient(trained):
    model, x, y = trained
    scaled = keras.Sequential([model, keras.layers.Rescaling(1000.0)])
    right = {}
    for objective in ("cross_entropy", "margin"):
        attack = perturbations.PGD(epsilon=0.2, steps=20, objective=objective, random_start=False)
        right[objective] = np.mean(np.argmax(model(attack(scaled, x, {"label": y})), -1) == y)
    assert right["margin"] < 0.1
    assert right["cross_entropy"] > right["margin"] + 0.3


def test_teacher_objective_takes_the_recorded_answer(trained):
    model, x, _ = trained
    calls = []

    def teacher(x, training=False):
        calls.append(training)
        return model(x, training=training)

    attack = perturbations.PGD(epsilon=EPSILON, objective="teacher", random_start=0.001, seed=0)
    recorded = attack(model, x, {"logits": model(x)}, teacher=teacher)
    assert calls == []
    attack = perturbations.PGD.from_config(attack.get_config())
    np.testing.assert_array_equal(attack(model, x, {}, teacher=teacher), recorded)
    assert calls == [False]
    before, after = (objectives.divergence(model(x), model(one)).numpy() for one in (x, recorded))
    assert np.abs(before).max() < 1e-6
    assert after.mean() > 0.1


@pytest.mark.parametrize("view", ["clean", "perturbed"])
def test_gradient_through_the_teacher(view):
    """Of two linear models, against differences of `KL(p_T || p_S)` in float64."""
    student, of_student, x, _ = linear(3, seed=1)
    teacher, of_teacher, _, _ = linear(3, seed=2)
    biases = [np.float64(model.weights[1]) for model in (student, teacher)]

    def height(x, clean):
        z_s = x.reshape(len(x), 16) @ np.float64(of_student) + biases[0]
        seen = x if view == "perturbed" else clean
        z_t = seen.reshape(len(x), 16) @ np.float64(of_teacher) + biases[1]
        log_s, log_t = (z - np.logaddexp.reduce(z, -1)[:, None] for z in (z_s, z_t))
        return (np.exp(log_t) * (log_t - log_s)).sum(-1)

    clean, slope = np.float64(x), np.zeros_like(x, "float64")
    for index in np.ndindex(x.shape[1:]):
        step = np.zeros(x.shape[1:])
        step[index] = 1e-5
        slope[(slice(None), *index)] = height(clean + step, clean) - height(clean - step, clean)
    attack = perturbations.FGSM(epsilon=EPSILON, objective="teacher", teacher_view=view)
    found = attack(student, x, {}, teacher=teacher)
    clear = np.abs(slope) > 1e-9  # where differences and float32 can tell the sign
    assert clear.mean() > 0.95
    np.testing.assert_allclose(((found - x) / EPSILON)[clear], np.sign(slope)[clear], atol=1e-5)


def test_student_objective_moves_away_from_itself(trained):
    model, x, _ = trained
    attack = perturbations.PGD(epsilon=EPSILON, objective="student", random_start=0.001, seed=0)
    found = attack(model, x, {"label": None})
    assert objectives.divergence(model(x), model(found)).numpy().mean() > 0.1


# --- Settings


@pytest.mark.parametrize(
    "attack",
    [
        perturbations.PGD(
            epsilon=0.5,
            step_size=0.1,
            steps=7,
            norm="l2",
            random_start=0.01,
            restarts=2,
            objective="margin",
            bounds=(-1.0, 2.0),
            seed=3,
        ),
        perturbations.PGD(epsilon=8 / 255, bounds=None),
        perturbations.FGSM(epsilon=0.1, norm="l2", objective="margin"),
        perturbations.Uniform(epsilon=0.1, seed=4),
    ],
)
def test_config_round_trip(attack):
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert type(revived) is type(attack)
    assert revived.get_config() == attack.get_config()


def test_default_step_is_the_papers():
    assert perturbations.PGD(epsilon=8 / 255).step_size == pytest.approx(2 / 255)
    assert perturbations.PGD(epsilon=0.1, steps=1).step_size == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, "`epsilon` must be a finite number, at least 0"),
        ({"epsilon": float("nan")}, "`epsilon` must be a finite number"),
        ({"epsilon": 8.0}, r"pixels of \[0, 1\].*did you mean 8 / 255"),
        ({"step_size": -0.01}, "`step_size` must be a finite number, at least 0"),
        ({"step_size": float("nan")}, "`step_size` must be a finite number"),
        ({"steps": 0}, "`steps` must be an integer of at least 1"),
        ({"steps": 2.5}, "`steps` must be an integer"),
        ({"restarts": 0}, "`restarts` must be an integer of at least 1"),
        ({"norm": "l1"}, "`norm` must be one of"),
        ({"random_start": -1.0}, "`random_start` must be positive"),
        ({"objective": "teachr"}, "Did you mean 'teacher'"),
        ({"teacher_view": "noisy"}, "`teacher_view` must be one of"),
        ({"bounds": (1.0, 0.0)}, r"`bounds` must be \(low, high\)"),
        ({"objective": "student", "random_start": False}, "needs a `random_start`"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        perturbations.PGD(**{"epsilon": 0.1, **options})


def test_steps_that_cannot_reach_epsilon():
    with pytest.warns(UserWarning, match="3 steps of 0.01 cannot reach epsilon=0.1"):
        perturbations.PGD(epsilon=0.1, step_size=0.01, steps=3)


def test_pixels_out_of_range(trained):
    model, x, y = trained
    attack = perturbations.PGD(epsilon=EPSILON)
    with pytest.raises(ValueError, match=r"`x` must lie in \[0, 1\].*Divide pixels in 0..255"):
        attack(model, 255.0 * x, {"label": y})
    with pytest.raises(ValueError, match="from nan to nan"):
        attack(model, np.full_like(x, np.nan), {"label": y})


def test_what_an_objective_needs(trained):
    model, x, _ = trained
    with pytest.raises(ValueError, match="objective='cross_entropy' needs labels"):
        perturbations.PGD(epsilon=0.1)(model, x, {"label": None})
    for view in ("clean", "perturbed"):
        attack = perturbations.PGD(epsilon=0.1, objective="teacher", teacher_view=view)
        with pytest.raises(ValueError, match="objective='teacher' needs a teacher"):
            attack(model, x, {})


def test_labels_go_in_a_dict(trained):
    model, x, y = trained
    with pytest.raises(ValueError, match="`targets` must be a dict with the labels under 'label'"):
        perturbations.PGD(epsilon=0.1)(model, x, y)


def test_a_model_without_gradients(trained):
    _, x, y = trained

    def blind(x, training=False):
        return tf.one_hot(tf.cast(tf.reduce_sum(x, [1, 2, 3]), tf.int32) % 3, 3)

    with pytest.raises(ValueError, match="gives no gradient of its inputs"):
        perturbations.PGD(epsilon=0.1)(blind, x, {"label": y})


# --- Noise


def test_uniform_noise():
    x = tf.fill((50, 20, 20, 3), 0.9)
    noise = (perturbations.Uniform(epsilon=0.3, seed=1)(None, x, {}) - x).numpy()
    assert np.abs(noise).max() <= 0.3 + 1e-6
    assert noise.mean() == pytest.approx(0.0, abs=0.003)  # standard error 0.0007
    assert noise.std() == pytest.approx(0.3 / 3**0.5, abs=0.002)
    with pytest.raises(ValueError, match="`epsilon` must be positive"):
        perturbations.Uniform(epsilon=0.0)


def test_uniform_noise_without_state():
    from kdkeras import randomness

    perturb = perturbations.Uniform(epsilon=0.5)
    x = tf.zeros((6, 8, 8, 3))
    keys = randomness.keys(0, tf.range(6, dtype=tf.int64), tf.zeros(6, tf.int64))
    whole = perturb.stateless(x, keys).numpy()
    np.testing.assert_array_equal(perturb.stateless(x[4:], keys[4:]), whole[4:])
    assert np.abs(whole).max() <= 0.5
    assert whole.std() == pytest.approx(0.2887, abs=0.01)
