"""One student, two tasks, two teachers, two inputs.

The pictures are digits, and with each comes a table of numbers: how dark each of the rows is. One
teacher looks at the picture and knows the digits; the other reads the table and knows odd from
even. The claim: a student with both inputs and a head for each task learns each from its own
teacher, without a label.

    python examples/multi_task.py
"""

import sys

import keras
import numpy as np

import kdkeras


def read(split):
    """The inputs and the labels of a split, dicts by name."""
    images, digit = kdkeras.data.arrays(split)
    rows = images.mean(axis=(2, 3))
    return {"image": images, "rows": rows}, {"digit": digit, "parity": digit % 2}


def main(epochs=30):
    """Returns the test accuracy of each teacher, of the control and of the student, by task."""
    splits = kdkeras.data.load("digits")
    (x, y), (x_test, y_test) = read(splits.train), read(splits.test)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    keras.utils.set_random_seed(0)
    teachers = {
        "digit": kdkeras.models.mlp(input_shape=(16, 16, 3), num_classes=10, hidden=(256,)),
        "parity": kdkeras.models.mlp(input_shape=(16,), num_classes=2, hidden=(256, 256)),
    }
    for (task, teacher), given in zip(teachers.items(), ["image", "rows"], strict=True):
        teacher.compile(keras.optimizers.Adam(1e-3), loss=hard)
        teacher.fit(x[given], y[task], epochs=20, verbose=0)
    print({task: teacher.input for task, teacher in teachers.items()})


if __name__ == "__main__":
    sys.exit(not main())
