"""Teacher and student trained together: a peer that learns to stand what the student cannot.

The claim: trained together by PeerAiD, with no teacher beforehand, the student withstands attacks,
and the peer the attacks that are made on the student; against attacks made on itself the peer has
less to offer. It is a teacher for this student, not a defence of its own.

    python examples/train_together.py
"""

import sys

import keras
import numpy as np

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


def main(epochs=20):
    """Returns accuracies of student and peer: clean, on the student's attacks, on their own."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras.utils.set_random_seed(0)
    student, peer = convnet(splits, 6), convnet(splits, 24)
    peer.compile(keras.optimizers.Adam(2e-3), loss=hard)
    method = kdkeras.methods.peer
    distiller = kdkeras.Distiller(
        **method(student=student, teacher=peer, epsilon=EPSILON, steps=5, seed=0)
    )
    distiller.compile(keras.optimizers.Adam(2e-3), loss=hard)
    distiller.fit(x, y, batch_size=64, epochs=epochs, verbose=0)

    test_x, test_y = kdkeras.data.arrays(splits.test)
    attack = kdkeras.perturbations.PGD(epsilon=EPSILON, steps=20, objective="margin", seed=1)

    def accuracy(model, images):
        return float(np.mean(np.argmax(model(images), axis=-1) == test_y))

    of_student = attack(student, test_x, {"label": test_y})
    found = {}
    print(f"{'':8}{'clean':>8}{'student attacked':>18}{'itself attacked':>17}")
    for name, model in (("student", student), ("peer", peer)):
        own = attack(model, test_x, {"label": test_y})
        found[name] = {
            "clean": accuracy(model, test_x),
            "student attacked": accuracy(model, of_student),
            "itself attacked": accuracy(model, own),
        }
        clean, shared, alone = found[name].values()
        print(f"{name:8}{clean:8.1%}{shared:18.1%}{alone:17.1%}")
    return found


if __name__ == "__main__":
    sys.exit(not main())
