"""Distillation of D-dimensional feature vectors into K classes: an MLP teacher, an MLP student.

The features are the 64 pixel counts of scikit-learn's digits: any table of numbers works alike.

    python examples/mlp_features.py
"""

import sys

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kdkeras


def main(epochs=15):
    """Returns the test metrics of the teacher and the student."""
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        x.astype("float32"), y, test_size=0.2, stratify=y, random_state=0
    )
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.1, stratify=y, random_state=0)
    shape = {"input_shape": (x.shape[1],), "num_classes": 10}
    # Normalisation is a part of the models, so that they take the features as they are.
    moments = {"mean": x.mean(axis=0), "variance": x.var(axis=0) + 1.0}
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    teacher = kdkeras.models.mlp(**shape, hidden=(256, 256), dropout=0.3, **moments)
    teacher.compile("adam", loss=hard, metrics=["accuracy"])
    teacher.fit(x, y, epochs=epochs, validation_data=(x_val, y_val), verbose=2)

    student = kdkeras.models.mlp(**shape, hidden=(16,), **moments)
    distiller = kdkeras.Distiller(student=student, teacher=teacher, alpha=0.1, temperature=4.0)
    distiller.compile(keras.optimizers.Adam(5e-3), loss=hard, metrics=["accuracy"])
    distiller.fit(x, y, epochs=epochs, validation_data=(x_val, y_val), verbose=2)

    found = {
        "teacher": kdkeras.evaluate(teacher, (x_test, y_test)),
        "student": kdkeras.evaluate(student, (x_test, y_test), teacher=teacher),
    }
    for name, metrics in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return found


if __name__ == "__main__":
    sys.exit(not main())
