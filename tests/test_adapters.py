"""Adapters: resizing without weights, channels with them, and ReviewKD's fusion."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import adapters, losses


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (8, 8), (13, 20), (1, 1)])
def test_resized_equals_tensorflows(size):
    x = np.random.default_rng(0).normal(size=(2, 8, 10, 3)).astype("float32")
    expected = tf.image.resize(x, size, antialias=True)
    np.testing.assert_allclose(adapters.resized(x, size), expected, atol=2e-6)
    compiled = tf.function(adapters.resized, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(x), size), expected, atol=2e-6)
    assert adapters.Resize.from_config(adapters.Resize(size).get_config()).size == size


def test_resized_to_its_own_size_is_itself():
    x = tf.ones((1, 4, 4, 2), "float16")
    assert adapters.resized(x, (4, 4)) is x
    assert adapters.resized(x, (2, 2)).dtype == "float32"


def test_common_grid_takes_the_smaller_of_each():
    teacher, student = adapters.common_grid(tf.ones((2, 8, 4, 5)), tf.ones((2, 6, 9, 3)))
    assert teacher.shape == (2, 6, 4, 5)
    assert student.shape == (2, 6, 4, 3)
    vectors = tf.ones((2, 5)), tf.ones((2, 3))
    assert adapters.common_grid(*vectors) == vectors


MAPS = (None, 8, 8, 6), (None, 4, 4, 2)
VECTORS = (None, 6), (None, 2)


@pytest.mark.parametrize(
    ("shapes", "loss", "kind"),
    [
        (MAPS, keras.losses.MeanSquaredError(), keras.layers.Conv2D),
        (MAPS, losses.HierarchicalContext(), keras.layers.Conv2D),
        (VECTORS, keras.losses.MeanSquaredError(), keras.layers.Dense),
        (VECTORS, losses.ContrastiveRepresentation(), keras.layers.Dense),
        (MAPS, losses.AttentionTransfer(), None),
        (MAPS, losses.NeuronSelectivity(), None),
        (MAPS, losses.SimilarityPreserving(), None),
        ((MAPS[0], VECTORS[1]), losses.RelationalDistance(), None),
        (((None, 8, 8, 2), MAPS[1]), keras.losses.MeanSquaredError(), None),
        (((None, None, None, 6), (None, 4, 4, 2)), losses.SimilarityPreserving(), None),
    ],
)
def test_what_is_matched_is_what_the_loss_needs(shapes, loss, kind):
    layer = adapters.adapter(*shapes, loss)
    assert (layer if kind is None else type(layer)) is kind
    if kind is not None:
        assert layer.compute_output_shape(shapes[1])[-1] == 6


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ((MAPS[0], VECTORS[1]), "no adapter joins 3 and 1 axes.*(None, 8, 8, 6).*(None, 2)"),
        (((None, None, None, 6), MAPS[1]), "fixed input size"),
        (((None, 7, 6), (None, 5, 6)), "only heights and widths"),
    ],
)
def test_shapes_that_no_adapter_joins(shapes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        adapters.adapter(*shapes, keras.losses.MeanSquaredError())


def numpy_norm(layer, x):
    gamma, beta, mean, variance = (weight.astype("float64") for weight in layer.get_weights())
    return gamma * (x - mean) / np.sqrt(variance + layer.epsilon) + beta


def test_review_fusion_follows_its_equation():
    random = np.random.default_rng(1)
    fine, coarse = random.normal(size=(2, 4, 4, 3)), random.normal(size=(2, 2, 2, 5))
    layer = adapters.ReviewFusion(channels=[6, 7], sizes=[(4, 4), (2, 2)], width=4)
    found = layer([tf.constant(fine, "float32"), tf.constant(coarse, "float32")])
    layer.set_weights([random.normal(0.5, 0.2, weight.shape) ** 2 for weight in layer.weights])
    found = layer([tf.constant(fine, "float32"), tf.constant(coarse, "float32")])

    def conv(of, x, bias=0.0):
        kernel = of.get_weights()[0].astype("float64")
        return tf.nn.conv2d(x, kernel, 1, "SAME").numpy() + bias

    deep = numpy_norm(layer.enter_norm[1], conv(layer.enter[1], coarse))
    m = numpy_norm(layer.enter_norm[0], conv(layer.enter[0], fine))
    r = tf.image.resize(deep, (4, 4)).numpy().astype("float64")
    attend = layer.attend[0]
    share = conv(attend, np.concatenate([m, r], -1), attend.get_weights()[1])
    share = 1.0 / (1.0 + np.exp(-share))
    fused = share[..., :1] * m + share[..., 1:] * r
    expected = [
        numpy_norm(layer.leave_norm[0], conv(layer.leave[0], fused)),
        numpy_norm(layer.leave_norm[1], conv(layer.leave[1], deep)),
    ]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_review_fusion_resizes_and_is_restored():
    layer = adapters.ReviewFusion(channels=[6, 7], sizes=[(2, 2), (2, 2)], width=4)
    given = layer([tf.ones((1, 4, 4, 3)), tf.ones((1, 1, 1, 5))])
    assert [tuple(x.shape) for x in given] == [(1, 2, 2, 6), (1, 2, 2, 7)]
    again = adapters.ReviewFusion.from_config(layer.get_config())
    again.build([(1, 4, 4, 3), (1, 1, 1, 5)])
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]
