"""TensorBoard's logs of a training: scalars, the pictures that are seen, the model's graph."""

import importlib.util

import keras
import numpy as np
import tensorflow as tf

from kdkeras import data, distiller, evaluation, inputs, teaching

# Pictures of each kind.
SHOWN = 16


def check(recipe):
    """Raises a `ValueError` if the logs that a recipe asks for need a package that is missing."""
    if recipe.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ValueError(
            "`tensorboard` needs a package that is not installed. Received: tensorboard=True. "
            "Run: pip install 'kdkeras[tensorboard]'"
        )


def callbacks(folder, training, validation):
    """The callbacks that write a training's logs for TensorBoard.

    Args:
        folder: Where to; `train/`, `validation/` and `pictures/` are made in it.
        training: The training batches, a `tf.data.Dataset` or `kdkeras.data.OnDevice`.
        validation: `tf.data.Dataset` of batches of (image, label).
    """
    pictures = Pictures(folder / "pictures", training, validation)
    return [keras.callbacks.TensorBoard(str(folder)), pictures]


class Pictures(keras.callbacks.Callback):
    """Writes a model's graph, the pictures that it sees, and those that it has wrong at the end.

    Args:
        folder: Where to.
        training, validation: As in `callbacks`.
    """

    def __init__(self, folder, training, validation):
        super().__init__()
        self.folder, self.training, self.validation = str(folder), training, validation

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(self.folder)
        network = _network(self.model)
        function = tf.function(lambda images: network(images, training=False), autograph=False)
        image = tf.TensorSpec((1, *network.input_shape[1:]), tf.float32)
        with self.writer.as_default(step=0):
            tf.summary.graph(function.get_concrete_function(image).graph)
            tf.summary.image("seen in training", self._seen(), max_outputs=SHOWN)

    def on_train_end(self, logs=None):
        images, labels = evaluation.collect(self.validation)
        labels = labels.argmax(-1) if labels.ndim == 2 else labels
        said = evaluation.logits_of(_network(self.model), images).argmax(-1)
        wrong = np.flatnonzero(said != labels)
        with self.writer.as_default(step=self.params["epochs"]):
            tf.summary.scalar("wrong validation images", len(wrong))
            if len(wrong):
                shown = wrong[:SHOWN]
                tf.summary.image("wrong at the end", images[shown], max_outputs=SHOWN)
                lines = [f"1. label {labels[i]}, said {said[i]}" for i in shown]
                tf.summary.text("wrong at the end", "\n".join(lines))
        self.writer.close()

    def _seen(self):
        """The pictures of a batch as the model gets to see them: augmented, and perturbed."""
        if isinstance(self.training, data.OnDevice):
            x, y = self.training(*next(iter(self.training.order)))[:2]
        else:
            x, y = next(iter(self.training))[:2]
        if not isinstance(self.model, distiller.Distiller) or self.model.perturbation is None:
            return x
        targets = inputs.enriched(y)
        targets = self.model.teach(targets.pop("clean", x), targets)
        known = teaching.known(targets, self.model.teacher_view)
        return self.model.perturbation(self.model.student, x, known, teacher=self.model.teacher)


def _network(model):
    return model.student if isinstance(model, distiller.Distiller) else model
