"""Keyed random numbers and augmentation: distributions, references, independence of the batch."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kdkeras import augment, randomness
from kdkeras.augment import pictures as draws

pytestmark = pytest.mark.core

KEYS = randomness.keys(1, tf.range(100_000, dtype=tf.int64), 0)
IMAGES = tf.random.stateless_uniform([37, 12, 14, 3], [3, 4])
SOME_KEYS = randomness.keys(5, tf.range(37, dtype=tf.int64), 2)

AUGMENTATIONS = {
    "crop": lambda x, keys: augment.pad_and_crop(x, keys, padding=3),
    "flip": augment.flip,
    "color": augment.color_jitter,
    "cutout": lambda x, keys: augment.cutout(x, keys, size=5),
    "normal": lambda x, keys: x + randomness.normal(keys, x.shape[1:], stream=1000),
    "pipeline": lambda x, keys: augment.pipeline("crop,flip,color,cutout")(x, x, keys)[0],
}


def splitmix(word):
    """The reference finaliser, on Python integers."""
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) % 2**64
    return word ^ word >> 31


def test_keys_follow_the_equation_and_are_distinct():
    gamma = 0x9E3779B97F4A7C15
    assert splitmix(gamma) == 0xE220A8397B1DCDAF  # The first output of splitmix64 for seed 0.
    for seed, example, view in ((0, 0, 0), (7, 123, 4), (-1, 2**40, 999)):
        start = splitmix((seed + gamma) % 2**64)
        of_id = splitmix((start + gamma * (example + 1)) % 2**64)
        expected = splitmix((of_id + gamma * (view + 1)) % 2**64)
        key = randomness.keys(seed, tf.constant([example], tf.int64), view)
        assert int(key[0]) % 2**64 == expected
    grid = [randomness.keys(s, tf.range(1000), v).numpy() for s in range(3) for v in range(3)]
    assert len(np.unique(grid)) == 9000


def test_uniform_is_uniform():
    u = randomness.uniform(KEYS, stream=0).numpy()
    assert u.dtype == np.float32
    assert 0.0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1.0
    assert abs(u.mean() - 0.5) < 3 / np.sqrt(12 * len(u))
    assert abs(u.var() - 1 / 12) < 1e-3
    assert stats.kstest(u, "uniform").pvalue > 0.01
    other = randomness.uniform(KEYS, stream=1).numpy()
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.01
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.01
    assert randomness.uniform(KEYS[:3], [2, 5], stream=0).shape == (3, 2, 5)


@pytest.mark.parametrize("limit", [1, 2, 9, 1000])
def test_integers_are_uniform(limit):
    draws = randomness.integers(KEYS, limit, stream=3).numpy()
    counts = np.bincount(draws, minlength=limit)
    assert len(counts) == limit
    assert limit == 1 or stats.chisquare(counts).pvalue > 0.01


def test_normal_has_the_moments_of_a_normal_and_no_correlations():
    n = randomness.normal(KEYS[:4000], (5, 5, 3), stream=1000).numpy()
    assert n.shape == (4000, 5, 5, 3)
    assert n.dtype == np.float32
    flat = n.reshape(4000, 75)
    assert abs(flat.mean()) < 3 / np.sqrt(flat.size)
    assert abs(flat.var() - 1) < 0.01
    assert abs(stats.skew(flat, None)) < 0.02
    assert abs(stats.kurtosis(flat, None)) < 0.04
    assert stats.kstest(flat[:, :10].ravel(), "norm").pvalue > 0.01
    assert 4.0 < np.abs(flat).max() < 6.8
    correlation = np.corrcoef(flat.T) - np.eye(75)
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(flat[1:].ravel(), flat[:-1].ravel())[0, 1]) < 0.01
    other = randomness.normal(KEYS[:4000], (5, 5, 3), stream=1001).numpy().reshape(4000, 75)
    assert abs(np.corrcoef(flat.ravel(), other.ravel())[0, 1]) < 0.01
    with pytest.raises(ValueError, match="`shape` must be known"):
        randomness.normal(KEYS, tf.TensorShape([None, 3]), stream=0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_key_gives_the_same_picture(name):
    function = AUGMENTATIONS[name]
    expected = function(IMAGES, SOME_KEYS).numpy()
    assert (expected != IMAGES.numpy()).mean() > 0.1
    graph = tf.function(function)
    np.testing.assert_array_equal(graph(IMAGES, SOME_KEYS), expected)
    backwards = function(IMAGES[::-1], SOME_KEYS[::-1])
    np.testing.assert_array_equal(backwards[::-1], expected)
    for batch in (1, 2, 7):
        dataset = tf.data.Dataset.from_tensor_slices((IMAGES, SOME_KEYS)).batch(batch)
        pieces = list(dataset.map(function, num_parallel_calls=2).as_numpy_iterator())
        np.testing.assert_array_equal(np.concatenate(pieces), expected)


def test_crop_equals_numpy_and_reaches_every_offset_and_flip():
    x = tf.reshape(tf.range(1, 1 + 8 * 8 * 3, dtype=tf.float32), [1, 8, 8, 3])
    padded = np.pad(x[0], [[4, 4], [4, 4], [0, 0]])
    pictures = {}
    for a in range(9):
        for b in range(9):
            crop = padded[a : a + 8, b : b + 8]
            pictures[crop.tobytes()] = (a, b, 0)
            pictures[crop[:, ::-1].tobytes()] = (a, b, 1)
    assert len(pictures) == 162
    keys = KEYS[:16_200]
    shown = augment.pad_and_crop(tf.repeat(x, len(keys), axis=0), keys, padding=4)
    shown = augment.flip(shown, keys).numpy()
    found = [pictures[picture.tobytes()] for picture in shown]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 162
    assert stats.chisquare(counts).pvalue > 0.01
    top = randomness.integers(keys, 9, stream=draws.CROP_TOP).numpy()
    left = randomness.integers(keys, 9, stream=draws.CROP_LEFT).numpy()
    assert [f[:2] for f in found[:50]] == list(zip(top[:50], left[:50], strict=True))
    np.testing.assert_array_equal(augment.pad_and_crop(x, keys[:1], padding=0), x)


def test_color_jitter_equals_numpy():
    shown = augment.color_jitter(IMAGES, SOME_KEYS, brightness=0.5, contrast=0.4, saturation=0.3)
    luma = np.array([0.299, 0.587, 0.114])

    def factor(width, stream):
        u = randomness.uniform(SOME_KEYS, stream=stream).numpy().astype(np.float64)
        return (1 + width * (2 * u - 1))[:, None, None, None]

    x = IMAGES.numpy() * factor(0.5, draws.BRIGHTNESS)
    mean = (x @ luma).mean(axis=(1, 2))[:, None, None, None]
    x = mean + factor(0.4, draws.CONTRAST) * (x - mean)
    gray = (x @ luma)[..., None]
    x = np.clip(gray + factor(0.3, draws.SATURATION) * (x - gray), 0, 1)
    np.testing.assert_allclose(shown, x, atol=2e-6)
    same = augment.color_jitter(IMAGES, SOME_KEYS, brightness=0.0, contrast=0.0, saturation=0.0)
    np.testing.assert_allclose(same, IMAGES, atol=1e-6)


def test_cutout_covers_a_square_whose_centre_is_uniform():
    x = tf.ones([8000, 10, 10, 3])
    shown = augment.cutout(x, KEYS[:8000], size=4).numpy()
    assert set(np.unique(shown)) == {0.5, 1.0}
    covered = shown[..., 0] == 0.5
    top = randomness.integers(KEYS[:8000], 10, stream=draws.CUTOUT_TOP).numpy() - 2
    left = randomness.integers(KEYS[:8000], 10, stream=draws.CUTOUT_LEFT).numpy() - 2
    for i in range(20):
        expected = np.zeros((10, 10), bool)
        expected[max(top[i], 0) : top[i] + 4, max(left[i], 0) : left[i] + 4] = True
        np.testing.assert_array_equal(covered[i], expected)
    # By the place of its centre, 2, 3, 4 (seven times) or 3 of the square's lines are inside.
    assert abs(covered.sum(axis=(1, 2)).mean() - 3.6**2) < 0.1
    every = augment.cutout(x[:5], KEYS[:5], size=40).numpy()
    assert (every == 0.5).all()


def test_mixup_mixes_with_the_one_before_by_beta_numbers():
    labels = tf.one_hot(tf.range(37) % 10, 10)
    x, y = augment.mixup(IMAGES, labels, SOME_KEYS, alpha=0.4)
    lam = randomness.symmetric_beta(SOME_KEYS, alpha=0.4, stream=draws.MIXUP).numpy()
    np.testing.assert_allclose(tf.reduce_sum(y, axis=1), 1.0, atol=1e-6)
    previous = np.roll(IMAGES, 1, axis=0)
    weights = lam[:, None, None, None]
    np.testing.assert_allclose(x, weights * IMAGES + (1 - weights) * previous, atol=1e-6)
    np.testing.assert_allclose(y.numpy()[np.arange(37), np.arange(37) % 10], lam, atol=1e-6)
    with pytest.raises(ValueError, match="must be one-hot floats.*one_hot=num_classes"):
        augment.mixup(IMAGES, tf.range(37), SOME_KEYS)
    with pytest.raises(ValueError, match="`alpha` must be positive"):
        augment.mixup(IMAGES, labels, SOME_KEYS, alpha=0.0)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 5.0])
def test_symmetric_beta_is_beta(alpha):
    lam = randomness.symmetric_beta(KEYS, alpha=alpha, stream=8).numpy()
    assert lam.min() >= 0.0
    assert lam.max() <= 1.0
    assert abs(lam.mean() - 0.5) < 0.005
    assert abs(lam.var() - 1 / (4 * (2 * alpha + 1))) < 2e-3
    probabilities = np.array([0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
    at = stats.beta(alpha, alpha).ppf(probabilities)
    # Above, quantiles are equal to 1 in float32.
    at, probabilities = at[at < 1 - 1e-6], probabilities[at < 1 - 1e-6]
    np.testing.assert_allclose([(lam <= a).mean() for a in at], probabilities, atol=0.006)


def test_pipeline_applies_in_order_and_says_what_it_does_not_know():
    labels = tf.one_hot(tf.range(37) % 10, 10)
    x, y = augment.pipeline("flip, mixup", alpha=1.0)(IMAGES, labels, SOME_KEYS)
    expected = augment.mixup(augment.flip(IMAGES, SOME_KEYS), labels, SOME_KEYS, alpha=1.0)
    np.testing.assert_array_equal(x, expected[0])
    np.testing.assert_array_equal(y, expected[1])
    half, _ = augment.pipeline("cutout")(IMAGES, labels, SOME_KEYS)
    np.testing.assert_array_equal(half, augment.cutout(IMAGES, SOME_KEYS, size=6))
    assert augment.pipeline("none") is None
    assert augment.pipeline("") is None
    with pytest.raises(ValueError, match="Received: 'cutut'.*Did you mean 'cutout'"):
        augment.pipeline("flip,cutut")
    with pytest.raises(ValueError, match="each augmentation once"):
        augment.pipeline("flip,flip")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.pad_and_crop(IMAGES, SOME_KEYS, padding=-1), "`padding` must be an integ"),
        (lambda: augment.cutout(IMAGES, SOME_KEYS, size=0), "`size` must be an integer of at leas"),
        (lambda: augment.color_jitter(IMAGES, SOME_KEYS, contrast=2.0), "`contrast` must be"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("flip", [True, False])
def test_every_shift_is_every_crop_and_flip(flip):
    shifts = augment.EveryShift(padding=2, flip=flip)
    assert shifts.count == 25 * (2 if flip else 1)
    views = tf.range(shifts.count, dtype=tf.int64)
    x = tf.repeat(IMAGES[:1], shifts.count, axis=0)
    padded = np.pad(IMAGES[0].numpy(), [(2, 2), (2, 2), (0, 0)])
    expected = [
        padded[top : top + 12, left : left + 14][:, :: -1 if mirrored else 1]
        for top in range(5)
        for left in range(5)
        for mirrored in range(1 + flip)
    ]
    np.testing.assert_array_equal(shifts.at(x, views), expected)


def test_the_drawn_shifts_are_those_of_crop_and_flip():
    keys = SOME_KEYS
    top, left = (
        randomness.integers(keys, 9, stream=stream) for stream in (draws.CROP_TOP, draws.CROP_LEFT)
    )
    mirrored = randomness.integers(keys, 2, stream=draws.FLIP)
    by_number = augment.EveryShift(padding=4).at(IMAGES, (top * 9 + left) * 2 + mirrored)
    drawn, _ = augment.pipeline("crop,flip")(IMAGES, None, keys)
    np.testing.assert_array_equal(by_number, drawn)


def test_descriptions_come_back():
    for made in (
        None,
        augment.EveryShift(padding=3, flip=False),
        augment.pipeline("crop,color", padding=2, brightness=0.3),
    ):
        description = augment.described(made)
        again = augment.from_description(description)
        assert augment.described(again) == description
        x, _ = augment.viewed(
            IMAGES, None, *(tf.range(37, dtype=tf.int64),) * 2, seed=1, augment=made
        )
        y, _ = augment.viewed(
            IMAGES, None, *(tf.range(37, dtype=tf.int64),) * 2, seed=1, augment=again
        )
        np.testing.assert_array_equal(x, y)
    with pytest.raises(ValueError, match="Mixup mixes what a batch happens to hold"):
        augment.described(augment.pipeline("crop,mixup"))
    with pytest.raises(ValueError, match="can be recorded if it is None"):
        augment.described(lambda x, y, keys: (x, y))
    with pytest.raises(ValueError, match="`padding` must be an integer of at least 0"):
        augment.EveryShift(padding=-1)
