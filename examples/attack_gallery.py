"""What an attack looks like: the same change of pixels fools one student and not the other.

The claim: two students of one architecture are right on the same clean pictures; a change that is
hard to see makes the plainly trained one wrong on nearly all of them, and the adversarially trained
one on few. The picture shows both, with the change amplified.

    python examples/attack_gallery.py gallery.png
"""

import pathlib
import sys

import keras
import numpy as np
from matplotlib.figure import Figure

import kdkeras

EPSILON = 0.1
SHOWN = 8


def convnet(splits, width=12):
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
            layers.Dense(splits.num_classes),
        ]
    )


def labels_alone(*, student, **attack):
    del attack
    return {"student": student, "alpha": 1.0, "terms": []}


def draw(path, clean, rows):
    """A row of clean pictures; for each student what was added, and what it then says."""
    figure = Figure(figsize=(1.1 * SHOWN + 1.2, 1.25 * (1 + 2 * len(rows))), layout="constrained")
    axes = figure.subplots(1 + 2 * len(rows), SHOWN)

    def show(row, pictures, titles, label):
        for place, picture, title in zip(axes[row], pictures, titles, strict=True):
            place.imshow(np.clip(picture, 0.0, 1.0))
            place.set_title(title, fontsize=8)
            place.set_xticks([])
            place.set_yticks([])
        axes[row, 0].set_ylabel(label, fontsize=8)

    nothing = [""] * SHOWN
    show(0, clean, nothing, "clean")
    for index, (name, pictures, labels, said) in enumerate(rows):
        change = 0.5 + 0.5 * (pictures - clean) / EPSILON
        show(1 + 2 * index, change, nothing, f"added,\nx {0.5 / EPSILON:.0f}")
        titles = [
            f"says {b}" + ("" if a == b else ", wrong") for a, b in zip(labels, said, strict=True)
        ]
        show(2 + 2 * index, pictures, titles, name)
    figure.savefig(path, dpi=130)


def main(path="gallery.png", epochs=10):
    """Writes the picture; returns clean and robust accuracy of both students."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    test_x, test_y = kdkeras.data.arrays(splits.test)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    attack = kdkeras.perturbations.PGD(epsilon=EPSILON, steps=20, objective="margin", seed=0)
    ways = {"plain": labels_alone, "robust": kdkeras.methods.adversarial_training}
    found, rows = {}, []
    for name, way in ways.items():
        keras.utils.set_random_seed(0)
        student = convnet(splits)
        distiller = kdkeras.Distiller(**way(student=student, epsilon=EPSILON, steps=5, seed=0))
        distiller.compile(keras.optimizers.Adam(3e-3), loss=hard)
        distiller.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
        attacked = attack(student, test_x, {"label": test_y}).numpy()
        said = [np.argmax(student(pictures), axis=-1) for pictures in (test_x, attacked)]
        right = [float(np.mean(one == test_y)) for one in said]
        found[name] = dict(zip(("clean", "robust"), right, strict=True))
        rows.append((f"{name} student", attacked[:SHOWN], test_y[:SHOWN], said[1][:SHOWN]))
        print(f"{name:8} clean {right[0]:.1%}, under PGD-20 {right[1]:.1%}")
    draw(path, test_x[:SHOWN], rows)
    print(f"Written: {pathlib.Path(path).absolute()}")
    return found


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
