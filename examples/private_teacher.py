"""A teacher known by its predictions alone: scikit-learn's, which no Keras code can look into.

The claim: its answers are enough. Asked during training (a Python function as the teacher), or
asked once and recorded (no teacher in the training at all), it teaches the same student; and where
only 100 images have labels, its answers on the others beat the labels.

    python examples/private_teacher.py
"""

import sys

import keras
import numpy as np
from sklearn.svm import SVC

import kdkeras


def main(epochs=30):
    """Returns the test metrics of the control and of the students, likeness to the teacher too."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    x_test, y_test = kdkeras.data.arrays(splits.test)
    svm = SVC(probability=True, random_state=0).fit(x.reshape(len(x), -1), y)

    def teacher(images):
        """NumPy images to logits; the logarithm of probabilities will do."""
        return np.log(svm.predict_proba(images.reshape(len(images), -1)) + 1e-7)

    def student():
        keras.utils.set_random_seed(0)
        return kdkeras.models.mlp(input_shape=(16, 16, 3), num_classes=10, hidden=(32,))

    def distiller(**arguments):
        made = kdkeras.Distiller(student=student(), temperature=2.0, **arguments)
        hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        made.compile(keras.optimizers.Adam(3e-3), loss=hard if made.alpha else None)
        return made

    # Only these have labels for the student.
    few = np.random.default_rng(0).permutation(len(x))[:100]
    control = student()
    control.compile(
        keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    control.fit(x[few], y[few], epochs=epochs * len(x) // len(few), verbose=0)

    # The function is called in each step, on the batch that the student sees.
    asked = distiller(teacher=teacher, alpha=0.1)
    asked.fit(x[few], y[few], epochs=epochs, verbose=0)

    # Recorded: a file of probabilities is all there is. Same seed, same batches, same student.
    probabilities = svm.predict_proba(x.reshape(len(x), -1)).astype("float32")
    recorded = distiller(alpha=0.1)
    targets = {"label": y[few], "probabilities": probabilities[few]}
    recorded.fit(x[few], targets, epochs=epochs, verbose=0)

    # No labels at all: alpha is 0, and every image that the teacher was asked about counts.
    unlabelled = distiller(alpha=0.0)
    unlabelled.fit(x, {"label": None, "probabilities": probabilities}, epochs=epochs, verbose=0)

    found = {"teacher": kdkeras.evaluate(teacher, (x_test, y_test))}
    students = {
        "control": control,
        "asked": asked.student,
        "recorded": recorded.student,
        "unlabelled": unlabelled.student,
    }
    for name, model in students.items():
        found[name] = kdkeras.evaluate(model, (x_test, y_test), teacher=teacher)
    for name, metrics in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return found


if __name__ == "__main__":
    sys.exit(not main())
