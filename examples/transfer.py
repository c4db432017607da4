"""A teacher from elsewhere: trained on other data, fine-tuned on few images of the task at hand.

A network that knows the digits 0 to 4 gets a fresh head for 5 to 9, of which 50 images are
labelled. The claim: fine-tuned, head first and then whole, it beats the same network trained from
scratch on the 50, and so does a smaller student that it teaches on images without labels.

    python examples/transfer.py
"""

import sys

import keras
import numpy as np

import kdkeras


def network(widths=(32, 64)):
    """A small CNN with logits for five classes."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            *(keras.layers.Conv2D(w, 3, strides=2, activation="relu") for w in widths),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(5),
        ]
    )


def main(epochs=40):
    """Returns the test metrics on the digits 5 to 9."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    x_test, y_test = kdkeras.data.arrays(splits.test)
    old, new, new_test = y < 5, y >= 5, y_test >= 5
    test = x_test[new_test], y_test[new_test] - 5
    images, labels = x[new], y[new] - 5
    few = np.random.default_rng(0).permutation(len(images))[:50]
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    keras.utils.set_random_seed(0)
    elsewhere = network()
    elsewhere.compile(keras.optimizers.Adam(1e-3), loss=hard)
    elsewhere.fit(x[old], y[old], epochs=20, verbose=0)

    teacher = kdkeras.transfer.with_head(elsewhere, num_classes=5)
    kdkeras.transfer.fine_tune(
        teacher,
        images[few],
        labels[few],
        head_epochs=epochs,
        epochs=epochs,
        learning_rate=3e-4,
        batch_size=10,
        verbose=0,
    )
    keras.utils.set_random_seed(0)
    scratch = network()
    scratch.compile(keras.optimizers.Adam(1e-3), loss=hard)
    scratch.fit(images[few], labels[few], batch_size=10, epochs=2 * epochs, verbose=0)

    student = kdkeras.models.mlp(input_shape=(16, 16, 3), num_classes=5, hidden=(16,))
    distiller = kdkeras.Distiller(student=student, teacher=teacher, alpha=0.0, temperature=2.0)
    distiller.compile(keras.optimizers.Adam(3e-3))
    distiller.fit(images, epochs=epochs, verbose=0)  # no labels

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
