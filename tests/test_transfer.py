"""A teacher from other data: a fresh head, trained first, then the whole."""

import keras
import numpy as np
import pytest
from conftest import classifier, conv_net, examples, pictures

from kdkeras import transfer


@pytest.mark.parametrize("form", ["functional", "sequential", "softmax", "nested"])
def test_a_fresh_head_on_copied_weights(form):
    x, _ = pictures()
    body = conv_net(4)
    model = body
    if form == "sequential":
        model = keras.Sequential([*body.layers[1:]])
        model.build((None, 8, 8, 1))
    if form == "softmax":
        model = keras.Model(body.input, keras.layers.Softmax()(body.output))
    if form == "nested":
        pooled = keras.Model(body.input, body.get_layer("pool").output, name="backbone")
        inputs = keras.Input((8, 8, 1))
        model = keras.Model(inputs, keras.layers.Dense(3)(pooled(inputs)))
    before = body.get_weights()
    fresh = transfer.with_head(model, 7)
    assert fresh.output_shape == (None, 7)
    assert fresh.layers[-1].name == "logits"
    embedding = keras.Model(body.input, body.get_layer("pool").output)(x)
    expected = fresh.layers[-1](embedding)
    np.testing.assert_allclose(fresh(x), expected, rtol=1e-5, atol=1e-6)
    for weight in fresh.weights:
        weight.assign(0.0 * weight)
    for weight, old in zip(body.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_the_head_first_and_then_the_whole():
    x, y = examples(32)
    model = transfer.with_head(classifier(8, classes=5), 3)
    kernel, logits = model.layers[1].kernel, model.layers[-1].kernel
    moving_mean = model.layers[2].moving_mean
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([v.numpy().copy() for v in (kernel, moving_mean, logits)])

    start = [v.numpy().copy() for v in (kernel, moving_mean, logits)]
    histories = transfer.fine_tune(
        model, x, y, head_epochs=2, epochs=2, callbacks=[Watch()], verbose=0
    )
    assert [len(history.epoch) for history in histories] == [2, 2]
    for epoch in (0, 1):
        np.testing.assert_array_equal(seen[epoch][0], start[0])
        np.testing.assert_array_equal(seen[epoch][1], start[1])
        assert (seen[epoch][2] != start[2]).any()
    assert all((seen[2][i] != seen[1][i]).any() for i in range(3))
    assert all(layer.trainable for layer in model.layers)


def test_what_was_frozen_stays_frozen_even_if_training_fails():
    model = classifier(8)
    model.layers[1].trainable = False
    with pytest.raises(ValueError):  # noqa: PT011
        transfer.fine_tune(model, np.ones((4, 9)), np.zeros(4), head_epochs=1, epochs=1, verbose=0)
    assert [layer.trainable for layer in model.layers[1:]] == [False, True, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transfer.with_head(classifier(4), 1), "`num_classes` must be an integer of at"),
        (
            lambda: transfer.with_head(keras.Sequential([keras.layers.Dense(3)]), 4),
            "must be a Functional or Sequential model, built, that ends in a dense layer",
        ),
        (
            lambda: transfer.fine_tune(classifier(4), None, head_epochs=0, epochs=1),
            "`head_epochs` must be an integer of at least 1",
        ),
        (
            lambda: transfer.fine_tune(
                classifier(4), None, head_epochs=1, epochs=1, head_learning_rate=0.0
            ),
            "`learning_rate` must be positive",
        ),
    ],
)
def test_bad_transfer(call, message):
    with pytest.raises(ValueError, match=message):
        call()
