"""One student with two heads and two inputs, each head with a teacher of its own.

The inputs are a picture of a digit and a table: how dark each of its 16 rows is. One teacher knows
the ten digits, the other odd from even. The claim: a small student of both inputs learns each task
from its teacher on pictures without labels, better than from 100 labels.

    python examples/multi_task.py
"""

import sys

import keras
import numpy as np

import kdkeras


def read(split):
    """The inputs and the labels of a split, dicts by name."""
    images, digits = kdkeras.data.arrays(split)
    rows = images.mean(axis=(2, 3))
    return {"image": images, "rows": rows}, {"digit": digits, "parity": digits % 2}


def network(hidden, logits):
    """An MLP on both inputs, a dict by name; `logits` makes the outputs."""
    inputs = {
        "image": keras.Input((16, 16, 3), name="image"),
        "rows": keras.Input((16,), name="rows"),
    }
    x = keras.layers.Concatenate()([keras.layers.Flatten()(inputs["image"]), inputs["rows"]])
    x = keras.layers.Dense(hidden, activation="relu")(x)
    return keras.Model(inputs, logits(x))


def main(epochs=12):
    """Returns the accuracy on the test images of teachers, control and student, by task."""
    splits = kdkeras.data.load("digits")
    (x, y), (x_test, y_test) = read(splits.train), read(splits.test)
    classes = {"digit": 10, "parity": 2}
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    keras.utils.set_random_seed(0)
    teachers = {task: network(256, keras.layers.Dense(n)) for task, n in classes.items()}
    for task, teacher in teachers.items():
        teacher.compile(keras.optimizers.Adam(1e-3), loss=hard, metrics=["accuracy"])
        teacher.fit(x, y[task], epochs=epochs, verbose=0)

    def student():
        keras.utils.set_random_seed(1)
        heads = {task: keras.layers.Dense(n, name=task) for task, n in classes.items()}
        return network(32, lambda h: {task: head(h) for task, head in heads.items()})

    accuracies = {task: ["accuracy"] for task in classes}
    control = student()
    loss = dict.fromkeys(classes, hard)
    control.compile(keras.optimizers.Adam(3e-3), loss=loss, metrics=accuracies)
    few = np.random.default_rng(0).permutation(len(y["digit"]))[:100]
    again = np.resize(few, len(y["digit"]))  # the 100 as often as the student sees the others
    x_few, y_few = ({name: part[again] for name, part in whole.items()} for whole in (x, y))
    control.fit(x_few, y_few, epochs=epochs, verbose=0)

    # With alpha above 0 the labels count too: compile(..., loss=loss), fit(x, y), dicts as above.
    distiller = kdkeras.Distiller(student=student(), teacher=teachers, alpha=0.0, temperature=2.0)
    distiller.compile(keras.optimizers.Adam(3e-3), metrics=accuracies)
    distiller.fit(x, epochs=epochs, verbose=0)

    found = {
        task: {"teacher": teacher.evaluate(x_test, y_test[task], verbose=0)[1]}
        for task, teacher in teachers.items()
    }
    for name, model in {"control": control, "student": distiller}.items():
        metrics = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
        for task in classes:
            found[task][name] = metrics[f"{task}_accuracy"]
    for task, values in found.items():
        print(f"{task}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    return found


if __name__ == "__main__":
    sys.exit(not main())
