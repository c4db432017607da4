"""Distils a small MLP from a ResNet on real scans of digits, and measures it against its control.

The claim: a student that has the teacher's soft targets needs no labels. The control learns from
the 100 pictures that somebody has labelled; the student, the same network from the same start, from
the teacher's opinion of all 1,294, without a label, in as many steps.

    python examples/distill_digits.py

About a minute on 2 cores.
"""

import sys

import keras

import kdkeras


def main(epochs=40, teacher_epochs=6):
    """Returns the test metrics of the teacher, the control and the student."""
    splits = kdkeras.data.load("digits")
    few = kdkeras.data.load("digits", max_train=100)
    shape = {"input_shape": splits.input_shape, "num_classes": splits.num_classes}
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def plain(x, y):
        return x, y["label"]

    keras.utils.set_random_seed(0)
    teacher = kdkeras.models.resnet(20, **shape)
    print(kdkeras.models.describe(teacher))
    teacher.compile(keras.optimizers.Adam(3e-3), loss=hard, metrics=["accuracy"])
    shifts = kdkeras.augment.pipeline("crop", padding=1)
    batches = kdkeras.data.batches(splits.train, 64, seed=0, augment=shifts).map(plain)
    teacher.fit(batches, epochs=teacher_epochs, shuffle=False, verbose=2)

    def student():
        keras.utils.set_random_seed(1)
        return kdkeras.models.mlp(**shape, hidden=(64,))

    control = student()
    control.compile(keras.optimizers.Adam(3e-3), loss=hard)
    batches = kdkeras.data.batches(few.train, 50, seed=1, augment=shifts).map(plain)
    steps = len(splits.train.ids) // 50 + 1  # an epoch of the student's
    control.fit(batches.repeat(), steps_per_epoch=steps, epochs=epochs, shuffle=False, verbose=0)

    # alpha = 0: the labels have no part in the loss.
    distiller = kdkeras.Distiller(student=student(), teacher=teacher, alpha=0.0, temperature=4.0)
    distiller.compile(keras.optimizers.Adam(3e-3))
    batches = kdkeras.data.batches(splits.train, 50, seed=1, augment=shifts)
    distiller.fit(batches, epochs=epochs, verbose=0)

    found = {
        name: kdkeras.evaluate(model, splits.test, teacher=teacher)
        for name, model in [
            ("teacher", teacher),
            ("control", control),
            ("student", distiller.student),
        ]
    }
    for name, metrics in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return found


if __name__ == "__main__":
    sys.exit(not main())
