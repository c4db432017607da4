"""Randomised smoothing against published figures, closed forms and counts made by hand."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net
from scipy import stats

from kdkeras import certification, randomness, runtimes
from kdkeras.certification import drawing, smoothing

SHAPE = (4, 4, 1)


def linear(classes=2, *, seed=1, bias=0.0, name=None):
    """Logits `W (x - 1/2) + bias`; of two classes the first logit is 0."""
    weights = np.random.default_rng(seed).normal(size=(16, classes))
    if classes == 2:
        weights[:, 0] = 0.0
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(classes)
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)), name=name)
    offset = np.arange(classes) * bias
    dense.set_weights([weights, offset - 0.5 * weights.sum(axis=0)])
    return model


def images(count, *, seed=0):
    return np.random.default_rng(seed).random((count, *SHAPE)).astype("float32")


def certify(model, x, **options):
    options = {"sigma": 0.5, "n": 100, "n0": 20, "verbose": 0} | options
    return certification.certify(model, x, **options)


def columns(found):
    return {name: getattr(found, name).tolist() for name in ("predicted", "radius", "counts")}


def counts_by_hand(answer, image, number, *, stream, draws, sigma=0.5, seed=0):
    """All draws in one eager batch."""
    keys = randomness.keys(seed, np.full(draws, number), np.arange(draws))
    logits = np.asarray(answer(image + sigma * randomness.normal(keys, SHAPE, stream=stream)))
    return np.bincount(np.argmax(logits, axis=1), minlength=logits.shape[1])


class Recorded:
    """A model that is a function: keeps what it saw, and stops after some of its calls."""

    def __init__(self, model=None, stop_after=10**6, error=RuntimeError):
        self.model, self.stop_after, self.error = model or linear(), stop_after, error
        self.seen = []

    def __call__(self, x):
        if len(self.seen) == self.stop_after:
            raise self.error("no more answers")
        self.seen.append(x)
        return self.model(x).numpy()


# Bounds and radii.


@pytest.mark.parametrize(
    ("successes", "trials", "probability", "radius"),
    [
        # locuslab/smoothing core.py, at alpha = 0.001 and sigma = 1.
        (99_000, 100_000, 0.98898934, 2.29000),
        (100_000, 100_000, 0.99993092, 3.81146),
        (990, 1000, 0.97603619, 1.97801),
    ],
)
def test_golden_values(successes, trials, probability, radius):
    found = certification.clopper_pearson(successes, trials, 0.001)
    assert found == pytest.approx(probability, abs=6e-9)
    for sigma in (1.0, 0.25):
        found = certification.radius(successes, trials, sigma=sigma, alpha=0.001)
        assert found == pytest.approx(sigma * radius, abs=6e-6)


@pytest.mark.parametrize(("trials", "radius"), [(10_000, 3.1986), (1000, 2.4633)])
def test_the_largest_radius_of_a_number_of_draws(trials, radius):
    found = certification.radius(trials, trials, sigma=1.0, alpha=0.001)
    assert found == pytest.approx(radius, abs=6e-5)


@pytest.mark.parametrize(("successes", "trials"), [(1, 10), (7, 10), (10, 10), (31, 40)])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.9])
def test_the_bound_by_its_definition(successes, trials, alpha):
    # At p = bound, as many successes or more have the probability alpha.
    p = certification.clopper_pearson(successes, trials, alpha)
    tail = (
        math.comb(trials, k) * p**k * (1.0 - p) ** (trials - k)
        for k in range(successes, trials + 1)
    )
    assert math.fsum(tail) == pytest.approx(alpha, rel=1e-9)


def test_no_radius_without_a_majority():
    assert certification.clopper_pearson(0, 100_000, 0.001) == 0.0
    for successes in (0, 1, 50_000, 50_400):
        assert certification.radius(successes, 100_000, sigma=1.0, alpha=0.001) == 0.0
    assert certification.radius(50_500, 100_000, sigma=1.0, alpha=0.001) > 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 4, 0.1), "`successes` must be at most trials=4. Received: successes=5"),
        ((-1, 4, 0.1), "`successes` must be an integer of at least 0"),
        ((1.5, 4, 0.1), "`successes` must be an integer"),
        ((0, 0, 0.1), "`trials` must be an integer of at least 1"),
        ((1, 4, 0.0), r"`alpha` must be a number in \(0, 1\). Received: alpha=0.0"),
        ((1, 4, 1), r"`alpha` must be a number in \(0, 1\). Received: alpha=1"),
        ((1, 4, float("nan")), r"`alpha` must be a number in \(0, 1\)"),
    ],
)
def test_bounds_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        certification.clopper_pearson(*arguments)
    with pytest.raises(ValueError, match=message):
        certification.radius(*arguments[:2], sigma=1.0, alpha=arguments[2])


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), "0.5", True])
def test_sigma_must_be_positive(sigma):
    with pytest.raises(ValueError, match="`sigma` must be positive"):
        certification.radius(9, 10, sigma=sigma, alpha=0.1)
    with pytest.raises(ValueError, match="`sigma` must be positive"):
        certify(linear(), images(1), sigma=sigma)


def test_sigma_counts_in_pixels_of_the_unit_interval():
    with pytest.raises(ValueError, match="`sigma` must be in pixels.*divide it by 255.*sigma=25"):
        certify(linear(), images(1), sigma=25.0)


# A linear model, whose smoothed model is known: g(x) = [w.x + b > 0].


def truth(model, x, sigma=0.5):
    """The smoothed model's class, its probability and its true radius."""
    weights, bias = (w.astype(np.float64) for w in model.layers[-1].get_weights())
    normal = weights[:, 1] - weights[:, 0]
    margin = x.reshape(len(x), -1).astype(np.float64) @ normal + bias[1] - bias[0]
    distance = np.abs(margin) / np.linalg.norm(normal)
    return (margin > 0).astype(int), stats.norm.cdf(distance / sigma), distance


def test_a_linear_model_in_closed_form():
    model, x, n = linear(), images(16), 10_000
    x[3] = 0.5  # on the boundary
    found = certify(model, x, n=n, n0=100, alpha=0.001)
    label, probability, true_radius = truth(model, x)
    sure = ~found.abstained
    assert np.flatnonzero(~sure).tolist() == [3]
    np.testing.assert_array_equal(found.predicted[sure], label[sure])
    assert (found.radius[sure] > 0.0).all()
    # Below the true radius, and no further than five standard errors of the count explain.
    assert (found.radius <= true_radius).all()
    error = np.sqrt(n * probability * (1.0 - probability))
    assert (np.abs(found.counts - n * probability)[sure] < 5.0 * error[sure]).all()
    expected = [
        certification.radius(int(low), n, sigma=0.5, alpha=0.001)
        for low in n * probability - 5.0 * error
    ]
    assert (found.radius >= expected).all()


def test_no_change_within_the_radius_changes_the_class():
    model, x = linear(), images(16)
    found = certify(model, x, n=1000)
    normal = model.layers[-1].get_weights()[0][:, 1].reshape(SHAPE)
    random = np.random.default_rng(2)
    worst = np.where(found.predicted == 1, -1.0, 1.0).reshape(-1, 1, 1, 1) * normal
    for direction in (worst, *random.normal(size=(20, 16, *SHAPE))):
        norms = np.linalg.norm(direction.reshape(16, -1), axis=1)
        step = (found.radius / norms).reshape(-1, 1, 1, 1) * direction
        label, _, _ = truth(model, x + step)
        assert (found.abstained | (label == found.predicted)).all()
    # The direction is the worst: a step of twice the radius does change classes.
    further = x + 2.0 * (found.radius / np.linalg.norm(normal)).reshape(-1, 1, 1, 1) * worst
    assert (truth(model, further)[0] != found.predicted)[~found.abstained].any()


def test_a_radius_is_too_large_as_often_as_alpha_allows():
    # One image under 1,000 ids: as many independent certificates.
    model, n, alpha, trials = linear(), 40, 0.1, 1000
    x = images(1, seed=5)
    _, (probability,), (true_radius,) = truth(model, x)
    assert 0.7 < probability < 0.9
    found = certify(model, np.repeat(x, trials, axis=0), n=n, alpha=alpha)
    smallest = min(
        k for k in range(n + 1) if certification.radius(k, n, sigma=0.5, alpha=alpha) > true_radius
    )
    expected = stats.binom.sf(smallest - 1, n, probability)
    assert 0.3 * alpha < expected <= alpha
    too_large = np.mean(found.radius > true_radius)
    assert too_large == pytest.approx(expected, abs=4.0 * math.sqrt(expected / trials))
    assert found.counts.mean() == pytest.approx(n * probability, abs=0.4)


# The draws.


def test_counts_made_by_hand():
    model, x, ids = linear(4), images(5), np.array([9, 2, 700, 31, 4])
    found = certify(model, x, sigma=0.2, n=250, n0=30, seed=5, batch_size=64, ids=ids)
    for i, number in enumerate(ids):
        by_hand = [
            counts_by_hand(model, x[i], number, stream=stream, draws=draws, sigma=0.2, seed=5)
            for stream, draws in ((drawing.SELECTION, 30), (drawing.ESTIMATION, 250))
        ]
        selected = np.argmax(by_hand[0])
        assert found.counts[i] == by_hand[1][selected]
        radius = certification.radius(int(found.counts[i]), 250, sigma=0.2, alpha=0.001)
        assert found.radius[i] == radius
        assert found.predicted[i] == (selected if radius else certification.ABSTAIN)
    assert len(set(found.predicted)) > 2
    assert (found.num_classes, found.sigma, found.n) == (4, 0.2, 250)
    assert (found.n0, found.alpha, found.seed) == (30, 0.001, 5)


def test_noise_is_gaussian_unclipped_and_drawn_anew_for_the_count():
    model, x = Recorded(), np.full((2, *SHAPE), 0.5, np.float32)
    certify(model, x, n=2000, n0=1000, batch_size=500, sigma=0.3)
    drawn = np.concatenate(model.seen[3:])  # after the three looks at the model
    assert drawn.shape == (6000, *SHAPE)
    assert drawn.dtype == np.float32
    noise = (drawn - 0.5).ravel()
    # 96,000 numbers: standard errors 0.001 and 0.0007.
    assert noise.mean() == pytest.approx(0.0, abs=0.004)
    assert noise.std() == pytest.approx(0.3, abs=0.003)
    assert stats.kstest(noise / 0.3, "norm").pvalue > 0.01
    assert noise.max() > 1.0
    assert len(np.unique(drawn.reshape(6000, -1), axis=0)) == 6000


def test_batches_order_and_company_change_nothing():
    model, x = linear(3), images(8)
    whole = columns(certify(model, x, n=150))
    assert len(set(whole["counts"])) > 4
    for batch_size in (7, 64, 100_000):
        assert columns(certify(model, x, n=150, batch_size=batch_size)) == whole
    order = np.array([5, 0, 7, 2])
    some = columns(certify(model, x[order], n=150, ids=order))
    assert some == {name: [values[i] for i in order] for name, values in whole.items()}
    assert columns(certify(model, x, n=150, seed=1))["counts"] != whole["counts"]


@pytest.mark.parametrize("form", ["function", "file", "eager"])
def test_any_form_of_a_model_gives_the_same(form, tmp_path):
    model, x = linear(3), images(4)
    expected = columns(certify(model, x))
    if form == "file":
        model.save(tmp_path / "model.keras")
        model = runtimes.load(tmp_path / "model.keras")
    if form == "function":
        model = Recorded(model)
    if form == "eager":
        tf.config.run_functions_eagerly(True)
    try:
        assert columns(certify(model, x)) == expected
    finally:
        tf.config.run_functions_eagerly(False)


@keras.saving.register_keras_serializable("tests")
class CountedCalls(keras.layers.Layer):
    """Counts how often Python runs it: traced once, a function does not run it again."""

    calls = 0

    def call(self, x):
        CountedCalls.calls += 1
        return x


def test_a_keras_model_is_compiled_once_whatever_the_images():
    model = keras.Sequential([keras.Input(SHAPE), CountedCalls(), linear(3)])
    made = []
    for count in (1, 6):
        before = CountedCalls.calls
        certify(model, images(count), n=130, batch_size=50)
        made.append(CountedCalls.calls - before)
    assert made == [5, 5]  # three looks, and a graph for each of the two numbers of draws


def test_inference_leaves_batch_statistics_alone():
    model = conv_net()
    before = [np.array(weight) for weight in model.weights]
    x = np.random.default_rng(0).random((2, 8, 8, 1))
    certify(model, x)
    for weight, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_dropout_is_off():
    plain = linear(3)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Dropout(0.5), plain])
    assert columns(certify(model, images(4))) == columns(certify(plain, images(4)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    reference, x = linear(3), images(6)
    keras.config.set_dtype_policy(policy)
    model = linear(3)
    assert model(x).dtype == policy.removeprefix("mixed_")
    found, expected = certify(model, x, n=500), certify(reference, x, n=500)
    # Rounded logits move a few draws to another class.
    np.testing.assert_allclose(found.counts, expected.counts, atol=6)
    assert (found.radius > 0.0).sum() == 3


def test_extreme_logits():
    found = certify(lambda x: np.float64([[-np.inf, 1e30]] * len(x)), images(2))
    assert found.counts.tolist() == [100, 100]
    assert found.predicted.tolist() == [1, 1]


def test_one_image_one_draw_of_selection_and_the_smallest_n():
    found = certify(linear(bias=50.0), images(1), n=10, n0=1)
    assert found.counts.tolist() == [10]
    assert found.radius[0] == pytest.approx(0.5 * stats.norm.ppf(0.001**0.1))
    assert 0.0 < found.radius[0] < 0.01


# Certified accuracy.


def test_certified_accuracy():
    found = certification.Certificates(
        predicted=np.array([0, 1, 2, certification.ABSTAIN, 1]),
        radius=np.array([0.5, 0.25, 1.0, 0.0, 0.75]),
        counts=np.array([9, 8, 10, 5, 9]),
        num_classes=3,
        sigma=0.5,
        n=10,
        n0=1,
        alpha=0.1,
        seed=0,
    )
    labels = np.array([0, 1, 0, 0, 1])  # right, right, wrong, abstained, right
    assert found.abstained.tolist() == [False, False, False, True, False]
    radii = [0.0, 0.25, 0.2500001, 0.5, 0.75, 0.8]
    expected = [0.6, 0.6, 0.4, 0.4, 0.2, 0.0]
    assert found.certified_accuracy(labels, radii).tolist() == expected
    assert float(found.certified_accuracy(labels, 0.3)) == 0.4
    for wrong, message in [
        (labels[:4], "one label for each of 5 images. Received: 4"),
        (labels - 1, "`labels` must be in 0 ... 2"),
        (labels.astype("float32"), "`labels` must be integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            found.certified_accuracy(wrong, radii)
    for wrong in (-0.1, [0.0, np.nan]):
        with pytest.raises(ValueError, match="`radii` must be finite, at least 0"):
            found.certified_accuracy(labels, wrong)


# Resumption.


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_run_goes_on(tmp_path, error):
    x, path, name = images(6), tmp_path / "radii.json", "linear, 1"
    expected = columns(certify(linear(), x))
    # Three looks at the model, two calls an image: stopped in the fourth image's second.
    with pytest.raises(error, match="no more answers"):
        certify(Recorded(stop_after=10, error=error), x, path=path, name=name)
    assert len(json.loads(path.read_text())["rows"]) == 3
    rest = Recorded()
    assert columns(certify(rest, x, path=path, name=name)) == expected
    assert len(rest.seen) == 3 + 2 * 3
    done = Recorded()
    assert columns(certify(done, x, path=path, name=name)) == expected
    assert len(done.seen) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["radii.json"]


def test_a_keras_model_is_known_by_its_weights(tmp_path, monkeypatch):
    x, path = images(5), tmp_path / "radii.json"
    expected = columns(certify(linear(3), x))

    def stop_after(done):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(smoothing.sources, "progress", lambda *_: stop_after)
        with pytest.raises(KeyboardInterrupt):
            certify(linear(3), x, path=path)
    assert len(json.loads(path.read_text())["rows"]) == 2
    # The same model under another name, from a file, with another batch size.
    linear(3, name="another").save(tmp_path / "model.keras")
    model = runtimes.load(tmp_path / "model.keras")
    assert columns(certify(model, x, path=path, batch_size=33)) == expected


def test_written_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(smoothing, "SECONDS_BETWEEN_WRITES", 0.0)
    path, lengths = tmp_path / "radii.json", []
    answer = linear()

    def model(x):
        if path.exists():
            lengths.append(len(json.loads(path.read_text())["rows"]))
        return answer(x).numpy()

    certify(model, images(3), path=path, name="linear")
    assert lengths == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.25}, r"sigma 0.5 there, 0.25 here"),
        ({"n": 101}, "n 100 there, 101 here"),
        ({"n0": 21, "seed": 1}, "n0 20 there, 21 here; seed 0 there, 1 here"),
        ({"alpha": 0.01}, "alpha 0.001 there, 0.01 here"),
        ({"ids": np.array([0, 2])}, "other images"),
        ({"images": images(2, seed=1)}, "other images"),
        ({"images": images(3)}, "other images"),
        ({"model": linear(seed=2)}, ": other weights. It was left as it is"),
        ({"model": linear(3)}, "other architecture; other weights"),
        ({"model": Recorded(), "name": "x"}, "name None there, 'x' here"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, change, message):
    path = tmp_path / "radii.json"
    given = {"model": linear(), "images": images(2), "path": path}
    certify(given["model"], given["images"], path=path)
    before = path.read_bytes()
    given |= change
    with pytest.raises(ValueError, match=message):
        certify(given.pop("model"), given.pop("images"), **given)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON, or is damaged"),
        ("[1, 2]", "must hold certificates .*Received: 'list'"),
        ('{"accuracy": 0.9}', "must hold certificates .*Received: None"),
        ('{"format": "kdkeras certificates, version 9"}', "Received: 'kdkeras certificates, ver"),
        ('{"format": "kdkeras certificates, version 1"}', "is damaged: its content"),
    ],
)
def test_a_file_that_is_no_certificates_is_refused(tmp_path, content, message):
    path = tmp_path / "radii.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        certify(linear(), images(1), path=path)
    assert path.read_text() == content


def test_a_file_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "radii.json"
    certify(linear(bias=50.0), images(1), path=path)
    content = path.read_text().replace('"counts": 100', '"counts": 101')
    path.write_text(content)
    with pytest.raises(ValueError, match="is damaged: its content does not have its digest"):
        certify(linear(bias=50.0), images(1), path=path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path):
    model = Recorded()
    with pytest.raises(OSError, match="Could not write .*Check that its folder exists"):
        certify(model, images(1), path=tmp_path / "nowhere" / "radii.json", name="linear")
    assert len(model.seen) == 3


def test_a_function_needs_a_name_to_be_resumed(tmp_path):
    with pytest.raises(ValueError, match="give `name`, which must change when its answers change"):
        certify(Recorded(), images(1), path=tmp_path / "radii.json")
    assert not list(tmp_path.iterdir())


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, r"`alpha` must be a number in \(0, 1\)"),
        ({"alpha": 1.0}, r"`alpha` must be a number in \(0, 1\)"),
        ({"n": 0}, "`n` must be an integer of at least 1"),
        ({"n": 1e3}, "`n` must be an integer of at least 1"),
        ({"n0": 0}, "`n0` must be an integer of at least 1"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"n": 9}, "`n` must be at least 10 for alpha=0.001: .*Received: n=9"),
        ({"n": 2, "alpha": 0.25}, "`n` must be at least 3 for alpha=0.25"),
        ({"ids": [0, 0]}, "`ids` must be distinct integers.*1 distinct"),
        ({"ids": [0]}, r"`ids` must be distinct integers.*shape \(1,\)"),
        ({"ids": [0.0, 1.0]}, "`ids` must be distinct integers.*dtype float64"),
    ],
)
def test_bad_arguments(options, message):
    model = Recorded()
    with pytest.raises(ValueError, match=message):
        certify(model, images(2), **options)
    assert model.seen == []


@pytest.mark.parametrize(
    ("alpha", "needed"), [(0.001, 10), (0.5, 2), (0.25, 3), (0.3, 2), (0.9, 1), (1e-9, 30)]
)
def test_the_smallest_n_is_the_smallest_that_certifies(alpha, needed):
    assert certification.radius(needed, needed, sigma=1.0, alpha=alpha) > 0.0
    if needed > 1:
        below = needed - 1
        assert certification.radius(below, below, sigma=1.0, alpha=alpha) == 0.0
        with pytest.raises(ValueError, match=f"`n` must be at least {needed} for"):
            certify(linear(), images(1), n=below, alpha=alpha)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, *SHAPE), "uint8"), "`images` must be floats in .*Divide by 255"),
        (images(2) * 255.0, r"`images` must be in \[0, 1\].*Divide by 255"),
        (images(2) - 0.5, r"`images` must be in \[0, 1\].*Undo any normalisation"),
        (images(2) * np.nan, "`images` must be finite"),
        (images(0), "`images` must be an array .*of at least one"),
        (np.zeros(3), r"`images` must be an array .*shape \(3,\)"),
        (np.array([["a"]]), "`images` must be an array"),
        (None, "`images` must be an array .*dtype object"),
    ],
)
def test_bad_images(x, message):
    with pytest.raises(ValueError, match=message):
        certify(linear(), x)


def clipping(low, high):
    """A model that clips its pixels, after it has scaled [0, 1] to [low, high]."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Rescaling(high - low, offset=low)(inputs)
    return keras.Model(inputs, linear(3)(keras.ops.clip(x, low, high)))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_a_model_that_clips_is_refused(bounds, sigma):
    # On images whose noise stays inside as on others.
    for x in (images(2), np.full((2, *SHAPE), 0.5, np.float32)):
        with pytest.raises(ValueError, match="Received: a model that clips its input"):
            certify(clipping(*bounds), x, sigma=sigma)


def test_a_model_that_does_not_clip_is_not_refused():
    weights = np.zeros((16, 2), "float32")
    constant = linear()
    constant.set_weights([weights, np.float32([0.0, 1.0])])
    assert certify(constant, images(1)).counts.tolist() == [100]
    weights[5, 1] = 1.0
    one_pixel = linear()
    one_pixel.set_weights([weights, np.float32([0.0, -0.5])])
    for sigma in (1e-9, 0.5):
        assert certify(one_pixel, images(1), sigma=sigma).counts[0] > 50


def test_a_random_model_is_refused():
    dropout = keras.Sequential([keras.Input(SHAPE), keras.layers.Dropout(0.5), linear(3)])
    with pytest.raises(ValueError, match="the same logits for the same images"):
        certify(lambda x: dropout(x, training=True).numpy(), images(1))


def nan_for_some(x):
    logits = linear()(x).numpy()
    logits[np.mean(x, axis=(1, 2, 3)) > 0.6] = np.nan
    return logits


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            keras.Sequential([linear(3), keras.layers.Softmax()]),
            r"`model` must give logits.*ends in softmax.*kdkeras.models.logits\(model\)",
        ),
        ("model.keras", "`model` must be a keras.Model or a function .*Received: str"),
        (conv_net(), r"must take float32 images of shape \(8, 4, 4, 1\).*It raised"),
        (lambda x: {"logits": x}, "must take float32 images .*It raised TypeError"),
        (lambda x: x[:, 0, 0, 0], r"of shape \(batch, classes\).*Received: shape \(8,\)"),
        (lambda x: x[:, 0, 0], r"of at least 2 classes. Received: shape \(8, 1\)"),
        (lambda x: x[:4, :, 0, 0], r"Received: shape \(4, 4\) for 8 images"),
        (nan_for_some, "Received: NaN for .* of 20 noisy images of image 0"),
    ],
)
def test_bad_models(model, message):
    with pytest.raises(ValueError, match=message):
        certify(model, images(1))


def test_progress_is_said_when_it_takes_a_while(capsys, monkeypatch):
    said = smoothing.sources.progress
    monkeypatch.setattr(
        smoothing.sources, "progress", lambda count, verbose: said(count, verbose, 0.0, 0.0)
    )
    certify(linear(), images(3), verbose=0)
    assert capsys.readouterr().err == ""
    certify(linear(), images(3), verbose=1)
    assert "3 of 3 images" in capsys.readouterr().err
