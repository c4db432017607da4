"""Distillation of inner layers: attention maps and a hint, from a teacher with a nested backbone.

The claim: a term on layers needs their paths and nothing else. Where the shapes differ it brings an
adapter, which is trained with the student and is no part of it: what is saved and deployed has the
parameters it had. And it looks where the teacher looks, and is closer to the teacher's opinion on
new images than a student of the soft targets alone.

    python examples/features.py
"""

import pathlib
import sys
import tempfile

import keras
import numpy as np

import kdkeras


def conv_net(widths, name):
    """Convolutions, each of which halves height and width."""
    inputs = keras.Input((16, 16, 3), name="image")
    x = inputs
    for i, width in enumerate(widths):
        x = keras.layers.Conv2D(
            width, 3, strides=2, padding="same", activation="relu", name=f"stage{i}"
        )(x)
    return keras.Model(inputs, x, name=name)


def classifier(backbone):
    """A model with the other one nested in it, as in transfer learning."""
    inputs = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Flatten(name="flatten")(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x))


def main(epochs=20):
    """Returns test metrics, parameter counts and how alike the attention maps are."""
    splits = kdkeras.data.load("digits")
    x, y = kdkeras.data.arrays(splits.train)
    test = kdkeras.data.arrays(splits.test)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    few = np.random.default_rng(0).permutation(len(x))[:200]

    keras.utils.set_random_seed(0)
    teacher = classifier(conv_net([32, 64], "backbone"))
    teacher.compile(keras.optimizers.Adam(3e-3), loss=hard)
    teacher.fit(x, y, epochs=10, verbose=0)

    def student():
        keras.utils.set_random_seed(1)
        return classifier(conv_net([8, 16], "small"))

    learner = student()
    before = learner.count_params()
    pairs = kdkeras.match_layers(teacher, learner)
    print("the teacher's layers:", *kdkeras.taps.paths(teacher))
    print("matched:", pairs)

    # The control: the soft targets alone.
    control = kdkeras.Distiller(student=student(), teacher=teacher, alpha=0.1)
    control.compile(keras.optimizers.Adam(3e-3), loss=hard)
    control.fit(x[few], y[few], batch_size=20, epochs=epochs, verbose=0)

    distiller = kdkeras.Distiller(
        student=learner,
        teacher=teacher,
        alpha=0.1,
        terms=[
            kdkeras.Term(kdkeras.losses.SoftTargets(temperature=4.0)),
            # Lists of layers: the loss is summed over the pairs.
            kdkeras.Term(
                kdkeras.losses.AttentionTransfer(),
                weight=100.0,
                teacher_layer=[path for path, _ in pairs],
                student_layer=[path for _, path in pairs],
            ),
            # 16 channels against 64: a 1x1 convolution is made that joins them.
            kdkeras.Term(
                keras.losses.MeanSquaredError(name="hint"),
                teacher_layer="backbone/stage1",
                student_layer="small/stage1",
            ),
        ],
    )
    (adapter,) = distiller.adapters  # the hint's; attention maps have no channels to join
    fresh = adapter.get_weights()[0]
    distiller.compile(keras.optimizers.Adam(3e-3), loss=hard)
    history = distiller.fit(x[few], y[few], batch_size=20, epochs=epochs, verbose=0).history
    print("logged, in the last epoch:", {name: values[-1] for name, values in history.items()})

    # What is saved is the student: no adapter, no teacher.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "student.keras"
        distiller.student.save(path)
        loaded = keras.models.load_model(path)

    def attention_distance(model):
        """How far a student's attention is from the teacher's on the test images."""
        maps = [
            kdkeras.taps.tap(net, [path])(test[0])["features"][path]
            for net, path in zip((teacher, model), pairs[-1], strict=True)
        ]
        return float(kdkeras.losses.AttentionTransfer()(*maps))

    found = {
        "teacher": kdkeras.evaluate(teacher, test),
        "control": kdkeras.evaluate(control.student, test, teacher=teacher),
        "student": kdkeras.evaluate(loaded, test, teacher=teacher),
        "attention": {
            "control": attention_distance(control.student),
            "student": attention_distance(loaded),
        },
        "parameters": {"before": before, "after": loaded.count_params()},
        "adapter": {
            "parameters": adapter.count_params(),
            "moved by": float(np.abs(adapter.get_weights()[0] - fresh).max()),
        },
        "hint": {"first": history["hint"][0], "last": history["hint"][-1]},
    }
    for name, values in found.items():
        print(f"{name}: {values}")
    return found


if __name__ == "__main__":
    sys.exit(not main())
