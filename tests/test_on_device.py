"""A training whose batches are made in the step learns what one fed by tf.data learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net, sparse_loss

import kdkeras
from kdkeras import augment, data, feeding, perturbations, recipe, steps

SHIFTS = augment.pipeline("crop,flip", padding=1)


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (26, 8, 8, 3), dtype=np.uint8)
    return data.Examples(images, random.integers(0, 3, 26), 100 + np.arange(26))


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(11)
    return conv_net(6, channels=3, batchnorm=False)


def trained(batches, teacher=None, **options):
    """The weights and the losses of three epochs."""
    keras.utils.set_random_seed(5)
    d = kdkeras.Distiller(student=conv_net(4, channels=3), teacher=teacher, **options)
    d.compile(keras.optimizers.SGD(0.1), loss=sparse_loss(), metrics=["accuracy"])
    history = d.fit(batches, epochs=3, verbose=0).history
    return d, np.concatenate([w.ravel() for w in d.student.get_weights()]), history


@pytest.mark.parametrize(
    "options",
    [
        {"augment": SHIFTS, "views": 2},
        {"augment": augment.EveryShift(padding=1), "drop_remainder": True},
        {"perturbation": perturbations.Gaussian(stddev=0.1)},
    ],
)
def test_a_live_teacher(split, teacher, options):
    options = {"seed": 3, **options}
    _, fed, fed_history = trained(data.batches(split, 8, **options), teacher)
    _, made, history = trained(data.OnDevice(split, 8, **options), teacher)
    np.testing.assert_allclose(made, fed, atol=1e-5)
    for name, values in fed_history.items():
        np.testing.assert_allclose(history[name], values, atol=1e-5)


def test_a_recorded_teacher_with_its_layers(split, teacher, tmp_path):
    cache = kdkeras.cache.fill(
        tmp_path / "t.cache", teacher, split, views=2, augment=SHIFTS, layers=["r1"], verbose=0
    )
    hint = kdkeras.Term(
        keras.losses.MeanSquaredError(), teacher_layer="r1", student_layer="r1", adapter="auto"
    )
    terms = {"terms": [kdkeras.Term(kdkeras.losses.SoftTargets()), hint]}
    _, fed, _ = trained(cache.batches(split, 8, seed=1), teacher, **terms)
    _, made, _ = trained(cache.on_device(split, 8, seed=1), teacher, **terms)
    np.testing.assert_allclose(made, fed, atol=1e-5)
    _, other, _ = trained(cache.on_device(split, 8, seed=2), teacher, **terms)
    assert np.abs(other - fed).max() > 1e-4


def test_what_a_fit_trains_on_is_its_own(split, teacher):
    # The step's data are constants of its trace: a second fit on others is traced anew.
    d, _, _ = trained(data.OnDevice(split, 8, seed=3), teacher)
    other = data.Examples(split.images, np.zeros(26, int), split.ids)
    d.optimizer.learning_rate = 0.0
    logs = d.fit(data.OnDevice(other, 26, seed=0), verbose=0).history
    x, y = data.arrays(other)
    np.testing.assert_allclose(
        logs["accuracy"], [np.mean(d.student(x, training=True).numpy().argmax(-1) == y)]
    )
    again = d.fit(data.batches(other, 26, seed=0), verbose=0).history
    np.testing.assert_allclose(again["hard"], logs["hard"], rtol=1e-5)
    assert d.fit(x, y, batch_size=26, verbose=0).history["hard"] == pytest.approx(logs["hard"])


def test_labels_are_checked_once(split):
    wrong = data.Examples(split.images, split.labels + 1, split.ids)
    with pytest.raises(ValueError, match="Labels must be in 0..2.*0|1 3"):
        trained(data.OnDevice(wrong, 8, seed=0), conv_net(4, channels=3))


def test_a_strategy_has_no_split_on_the_device(split):
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        d = kdkeras.Distiller(student=conv_net(4, channels=3), teacher=conv_net(4, channels=3))
        d.compile("sgd", loss=sparse_loss())
    with pytest.raises(ValueError, match="A split on the device goes without a strategy"):
        d.fit(data.OnDevice(split, 8, seed=0))


def test_a_gpu_has_its_batches_made_there(monkeypatch, split):
    splits = data.load("digits", max_train=100)
    settings = recipe.Recipe(dataset="digits", batch_size=20)
    assert isinstance(feeding.batches("student", settings, splits), tf.data.Dataset)
    monkeypatch.setattr(steps, "on_cpu", lambda: False)
    assert isinstance(feeding.batches("student", settings, splits), data.OnDevice)
    assert isinstance(feeding.batches("control", settings, splits), tf.data.Dataset)
    monkeypatch.setattr(feeding, "ON_DEVICE", 1000)
    assert isinstance(feeding.batches("student", settings, splits), tf.data.Dataset)
