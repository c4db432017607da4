"""A teacher known by its predictions alone: scikit-learn's, which no Keras code can look into.

The claim: its answers are enough. Asked during training (a Python function as the teacher) or asked
once and recorded (no teacher at all), it teaches the same student, and on images without labels a
better one than 100 labels do. With the labels, on the same 100 images, its answers make a student
that is far closer to it.

    python examples/private_teacher.py
"""

import sys

import keras
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

import kdkeras


def main(epochs=20):
    """Returns the test metrics of the teacher, the control and the students."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    test = kdkeras.data.arrays(splits.test)
    order = np.random.default_rng(0).permutation(len(x))
    private, public = order[:600], order[600:]
    forest = ExtraTreesClassifier(50, random_state=0)
    forest.fit(x[private].reshape(len(private), -1), y[private])

    def probabilities(images):
        return forest.predict_proba(images.reshape(len(images), -1)).astype("float32")

    def teacher(images):
        """From a NumPy batch to logits: of probabilities the logarithm, which must be finite."""
        return np.log(np.maximum(probabilities(images), 1e-7))

    def student():
        keras.utils.set_random_seed(0)
        return kdkeras.models.mlp(input_shape=(16, 16, 3), num_classes=10, hidden=(32,))

    x, y = x[public], y[public]
    few = np.resize(np.arange(100), len(x))  # the labelled ones, as often as there are images
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    control = student()
    control.compile(keras.optimizers.Adam(3e-3), loss=hard)
    control.fit(x[few], y[few], epochs=epochs, verbose=0)

    # Asked: the function is called in each step, on the batch that the student sees. No labels.
    asked = kdkeras.Distiller(student=student(), teacher=teacher, alpha=0.0, temperature=1.0)
    asked.compile(keras.optimizers.Adam(3e-3))
    asked.fit(x, epochs=epochs, verbose=0)

    # Recorded: its probabilities are all there is. The same seed, the same batches.
    said = probabilities(x)
    recorded = kdkeras.Distiller(student=student(), alpha=0.0, temperature=1.0)
    recorded.compile(keras.optimizers.Adam(3e-3))
    recorded.fit(x, {"label": None, "probabilities": said}, epochs=epochs, verbose=0)

    # Recorded, and labels: the control's images in the control's order.
    both = kdkeras.Distiller(student=student(), alpha=0.1, temperature=1.0)
    both.compile(keras.optimizers.Adam(3e-3), loss=hard)
    both.fit(x[few], {"label": y[few], "probabilities": said[few]}, epochs=epochs, verbose=0)

    found = {"teacher": kdkeras.evaluate(teacher, test)}
    students = {
        "control": control,
        "asked": asked.student,
        "recorded": recorded.student,
        "both": both.student,
    }
    for name, model in students.items():
        found[name] = kdkeras.evaluate(model, test, teacher=teacher)
    for name, metrics in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return found


if __name__ == "__main__":
    sys.exit(not main())
