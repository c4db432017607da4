"""A small student that withstands attacks, from a big teacher that does.

The claim: distilled plainly, a student is right on nearly every clean picture and on nearly none
under attack; distilled by RSLAD from a robust teacher, it keeps most of both. Cross-entropy is what
training attacks; here the margin is, from which large logits cannot hide.

    python examples/robust_student.py
"""

import sys

import keras

import kdkeras

EPSILON = 0.1


def convnet(splits, width):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(splits.input_shape),
            layers.Conv2D(width, 3, strides=2, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2D(2 * width, 3, strides=2, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(8 * width, activation="relu"),
            layers.Dense(splits.num_classes),
        ]
    )


def main(epochs=15):
    """Returns the clean and the robust accuracy of the teachers and the students."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    attack = {"epsilon": EPSILON, "steps": 5, "seed": 0}

    def trained(method, width, **options):
        keras.utils.set_random_seed(0)
        model = convnet(splits, width)
        distiller = kdkeras.Distiller(**method(student=model, **options))
        distiller.compile(keras.optimizers.Adam(3e-3), loss=hard)
        distiller.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
        return model

    methods = kdkeras.methods
    models = {"robust teacher": trained(methods.adversarial_training, 24, **attack)}
    models["plain student"] = trained(methods.hinton, 6, teacher=models["robust teacher"])
    models["robust student"] = trained(methods.rslad, 6, teacher=models["robust teacher"], **attack)

    test_x, test_y = kdkeras.data.arrays(splits.test)
    found = {}
    print(f"{'':16}{'parameters':>10}{'clean':>8}{'PGD-20':>8}   epsilon {EPSILON}")
    for name, model in models.items():
        one = kdkeras.robustness.quick(model, test_x, test_y, epsilon=EPSILON, steps=20)
        found[name] = {"clean": one["clean"], "robust": one["robust"]}
        size = model.count_params()
        print(f"{name:16}{size:10,}{one['clean']:8.1%}{one['robust']:8.1%}")
    return found


if __name__ == "__main__":
    sys.exit(not main())
