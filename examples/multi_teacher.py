"""Several teachers for one student: two networks that differ in kind, data and image size.

The claim: two teachers averaged are better than the average of the two, for they err on different
images; and a student of 100 labelled images learns more from them than from its labels alone. The
teachers have seen none of these: one is a CNN for 16 x 16 pixels, the other an MLP for 8 x 8.

    python examples/multi_teacher.py
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import kdkeras


def main(epochs=60):
    """Returns the test metrics of the teachers, their ensembles, the control and the student."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    x_val, y_val = kdkeras.data.arrays(splits.validation)
    test = kdkeras.data.arrays(splits.test)
    order = np.random.default_rng(0).permutation(len(x))
    own, one, other = order[:100], order[100:400], order[400:700]  # no image in two of them

    def small(images):
        return tf.image.resize(images, (8, 8), "area").numpy()

    keras.utils.set_random_seed(0)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    cnn = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ],
        name="cnn",
    )
    cnn.compile(keras.optimizers.Adam(3e-3), loss=hard)
    cnn.fit(x[one], y[one], epochs=20, verbose=0)
    mlp = kdkeras.models.mlp(input_shape=(8, 8, 3), num_classes=10, hidden=(64,))
    mlp.compile(keras.optimizers.Adam(3e-3), loss=hard)
    mlp.fit(small(x[other]), y[other], epochs=20, verbose=0)

    # A weighted mean: each counts for one over its error on images that none was trained on.
    right = [
        kdkeras.evaluate(cnn, (x_val, y_val))["accuracy"],
        kdkeras.evaluate(mlp, (small(x_val), y_val))["accuracy"],
    ]
    weights = [1 / (1.01 - accuracy) for accuracy in right]
    weighted = kdkeras.teachers.ensemble([cnn, mlp], weights=weights)

    def student():
        keras.utils.set_random_seed(1)
        return kdkeras.models.mlp(input_shape=(16, 16, 3), num_classes=10, hidden=(32,))

    control = student()
    control.compile(keras.optimizers.Adam(3e-3), loss=hard)
    control.fit(x[own], y[own], epochs=epochs, verbose=0)

    # A list of teachers: their probabilities are averaged, the images resized for the MLP.
    distiller = kdkeras.Distiller(student=student(), teacher=[cnn, mlp], alpha=0.1, temperature=4.0)
    distiller.compile(keras.optimizers.Adam(3e-3), loss=hard)
    distiller.fit(x[own], y[own], epochs=epochs, verbose=0)

    found = {
        "cnn": kdkeras.evaluate(cnn, test),
        "mlp": kdkeras.evaluate(mlp, (small(test[0]), test[1])),
        "mean": kdkeras.evaluate(distiller.teacher, test),
        "weighted": kdkeras.evaluate(weighted, test),
        "control": kdkeras.evaluate(control, test, teacher=distiller.teacher),
        "student": kdkeras.evaluate(distiller.student, test, teacher=distiller.teacher),
    }
    for name, metrics in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return found


if __name__ == "__main__":
    sys.exit(not main())
