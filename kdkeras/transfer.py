"""Transfer learning: a teacher trained on other data, made ready for this one."""

import keras

from kdkeras import arguments
from kdkeras.models import ends, surgery

ACTIVATIONS = (keras.layers.Softmax, keras.layers.Activation)


def with_head(model, num_classes, name=None):
    """The same network with a fresh logits layer for other classes.

    Args:
        model: Functional or Sequential `keras.Model` whose last layer is dense; left as it is.
        num_classes: Number of classes, at least 2.
        name: The new model's name; the old one's unless given.

    Returns:
        A `keras.Model` with weights of its own, copied but for the new last layer, `logits`.

    Raises:
        ValueError: The model does not end in a dense layer of its own.

    Example:

    >>> teacher = kdkeras.transfer.with_head(keras.models.load_model("letters.keras"), 10)
    """
    ends.check_num_classes(num_classes)
    last, features = None, None
    if surgery.is_built_graph(model) and len(model.outputs) == 1:
        output = model.outputs[0]
        if isinstance(output._keras_history.operation, ACTIVATIONS):
            output = surgery.input_behind(output)
        last, features = output._keras_history.operation, surgery.input_behind(output)
    if not isinstance(last, keras.layers.Dense):
        raise ValueError(
            "`model` must be a Functional or Sequential model, built, that ends in a dense layer. "
            f"Received: model='{model.name}' of type {type(model).__name__}"
        )
    body = keras.Model(surgery.input_of(model), features)
    copy = keras.models.clone_model(body)
    copy.set_weights(body.get_weights())
    logits = ends.logits_output(copy.output, num_classes)
    return keras.Model(copy.input, logits, name=name or model.name)


def fine_tune(
    model,
    x,
    y=None,
    *,
    head_epochs,
    epochs,
    head_learning_rate=1e-3,
    learning_rate=1e-4,
    metrics=("accuracy",),
    **kwargs,
):
    """Trains a model's last layer first, and then the whole, gently.

    A fresh head gives large, random gradients; training it alone first keeps them from destroying
    what the layers below it know. Meanwhile these run in inference mode, their BatchNorm statistics
    as they were.

    Args:
        model: `keras.Model` with integer-labelled classes and logits, such as `with_head` gives. It
            is trained in place and left compiled.
        x, y: As in `keras.Model.fit`.
        head_epochs: Epochs of the last layer alone.
        epochs: Epochs of the whole model, after them.
        head_learning_rate, learning_rate: Of Adam, in the first and in the second part; with few
            images, and so few steps, try three times as much.
        metrics: As in `keras.Model.compile`.
        **kwargs: As in `keras.Model.fit`: `validation_data`, `batch_size`, `callbacks`, ...

    Returns:
        Pair of `keras.callbacks.History`, of the head and of the whole.

    Raises:
        ValueError: A number is out of its range.

    Example:

    >>> teacher = kdkeras.transfer.with_head(pretrained, num_classes=10)
    >>> kdkeras.transfer.fine_tune(teacher, x, y, head_epochs=3, epochs=10)

    Reference: https://keras.io/guides/transfer_learning/
    """
    arguments.integer("head_epochs", head_epochs, low=1)
    arguments.integer("epochs", epochs, low=1)
    surgery.check_logits("model", model)
    head = model.outputs[0]._keras_history.operation
    others = [layer for layer in model.layers if layer is not head]
    trainable = [layer.trainable for layer in others]
    histories = []
    try:
        for layer in others:
            layer.trainable = False
        _compile(model, head_learning_rate, metrics)
        histories.append(model.fit(x, y, epochs=head_epochs, **kwargs))
    finally:
        for layer, before in zip(others, trainable, strict=True):
            layer.trainable = before
    _compile(model, learning_rate, metrics)
    histories.append(model.fit(x, y, epochs=epochs, **kwargs))
    return tuple(histories)


def _compile(model, learning_rate, metrics):
    model.compile(
        keras.optimizers.Adam(arguments.positive("learning_rate", learning_rate)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=list(metrics),
    )
