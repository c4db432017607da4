"""A teacher from elsewhere: trained for another question, fine-tuned on few images for this one.

A network that reads the ten digits gets a fresh head that tells odd from even, a question for
which 40 other images have labels. The claim: fine-tuned, head first and then whole, it beats the
same network trained from scratch on the 40; and so does a smaller student that it teaches without
labels.

    python examples/transfer.py
"""

import sys

import keras
import numpy as np

import kdkeras


def network(num_classes):
    """A small CNN with logits."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3), name="image"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(num_classes),
        ]
    )


def main(epochs=20):
    """Returns the test metrics of odd and even."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    x_test, y_test = kdkeras.data.arrays(splits.test)
    order = np.random.default_rng(0).permutation(len(x))
    elsewhere, here, few = order[:800], order[800:], order[800:840]
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    keras.utils.set_random_seed(0)
    reader = network(10)
    reader.compile(keras.optimizers.Adam(2e-3), loss=hard)
    reader.fit(x[elsewhere], y[elsewhere], epochs=epochs, verbose=0)

    teacher = kdkeras.transfer.with_head(reader, num_classes=2)
    of_head, of_whole = kdkeras.transfer.fine_tune(
        teacher,
        x[few],
        y[few] % 2,
        head_epochs=epochs,
        epochs=epochs,
        head_learning_rate=3e-3,
        learning_rate=3e-4,
        batch_size=10,
        verbose=0,
    )
    for part, history in {"head": of_head, "whole": of_whole}.items():
        print(f"{part}: loss {history.history['loss'][-1]:.4f} in the last epoch")

    keras.utils.set_random_seed(0)
    scratch = network(2)
    scratch.compile(keras.optimizers.Adam(1e-3), loss=hard)
    scratch.fit(x[few], y[few] % 2, batch_size=10, epochs=2 * epochs, verbose=0)

    student = kdkeras.models.mlp(input_shape=(16, 16, 3), num_classes=2, hidden=(32,))
    distiller = kdkeras.Distiller(student=student, teacher=teacher, alpha=0.0, temperature=2.0)
    distiller.compile(keras.optimizers.Adam(3e-3))
    distiller.fit(x[here], epochs=epochs, verbose=0)  # images alone, no labels

    test = x_test, y_test % 2
    found = {
        "scratch": kdkeras.evaluate(scratch, test),
        "teacher": kdkeras.evaluate(teacher, test),
        "student": kdkeras.evaluate(distiller.student, test, teacher=teacher),
    }
    for name, metrics in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return found


if __name__ == "__main__":
    sys.exit(not main())
