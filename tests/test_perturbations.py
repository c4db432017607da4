"""Gaussian noise: its moments, its key, its place in a step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import perturbations, randomness

pytestmark = pytest.mark.core


def test_stddev_and_lambda_are_two_names_of_one_thing():
    assert perturbations.Gaussian(lam=200.0).stddev == pytest.approx(0.05)
    assert perturbations.Gaussian(lam=0.5).stddev == pytest.approx(1.0)
    assert perturbations.Gaussian(stddev=0.2).stddev == 0.2


def test_moments_and_no_clipping():
    x = tf.fill((50, 20, 20, 3), 0.9)
    noise = (perturbations.Gaussian(stddev=0.25, seed=1)(None, x, {}) - x).numpy()
    # 60,000 draws: standard errors 0.001 (mean) and 0.0007 (standard deviation).
    assert noise.mean() == pytest.approx(0.0, abs=0.004)
    assert noise.std() == pytest.approx(0.25, abs=0.003)
    assert (noise + 0.9).max() > 1.0


def test_each_call_draws_anew_and_a_seed_repeats_the_sequence():
    x = tf.zeros((2, 4))
    one, two = (perturbations.Gaussian(stddev=1.0, seed=5) for _ in range(2))
    first, second = one(None, x, {}), one(None, x, {})
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(two(None, x, {}), first)
    np.testing.assert_array_equal(two(None, x, {}), second)


def test_draws_anew_inside_a_traced_function():
    perturb = perturbations.Gaussian(stddev=1.0, seed=5)
    step = tf.function(lambda x: perturb(None, x, {}))
    x = tf.zeros((2, 4))
    assert np.abs(step(x) - step(x)).max() > 0.1


def test_float32_whatever_the_policy():
    keras.config.set_dtype_policy("mixed_float16")
    perturb = perturbations.Gaussian(stddev=0.1)
    assert perturb(None, tf.zeros((2, 3), "float16"), {}).dtype == tf.float32


def test_stateless_noise_follows_the_key_not_the_batch():
    perturb = perturbations.Gaussian(stddev=0.5)
    x = tf.random.stateless_uniform((6, 8, 8, 3), seed=(0, 1))
    keys = randomness.keys(0, tf.range(6, dtype=tf.int64), tf.zeros(6, tf.int64))
    whole = perturb.stateless(x, keys).numpy()
    np.testing.assert_array_equal(perturb.stateless(x[4:], keys[4:]), whole[4:])
    noise = (whole - x).numpy()
    assert np.std(noise) == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2


def test_config_round_trip():
    perturb = perturbations.Gaussian(lam=8.0, seed=3)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(perturb))
    assert revived.get_config() == perturb.get_config() == {"stddev": 0.25, "seed": 3}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "exactly one of `stddev` and `lam`"),
        ({"stddev": 1.0, "lam": 1.0}, "exactly one of `stddev` and `lam`"),
        ({"stddev": 0.0}, "`stddev` must be positive"),
        ({"stddev": -0.1}, "`stddev` must be positive"),
        ({"lam": float("nan")}, "`lam` must be positive"),
        ({"lam": "x"}, "`lam` must be positive"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        perturbations.Gaussian(**given)
