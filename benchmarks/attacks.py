"""The attack of one training step: kdkeras in the graph, foolbox and ART beside it.

python benchmarks/attacks.py

PGD with 10 steps on one batch, of a trained network, in turn and in shuffled order; the times are
medians, the ratios medians of the rounds' ratios with 95 % bootstrap intervals. What the three find
is compared too. The table goes to benchmarks/RESULTS.md.
"""

import importlib.metadata
import os
import platform
import time

import numpy as np
from absl import app, flags

flags.DEFINE_integer("rounds", 15, "rounds, after one that is not counted", lower_bound=3)
flags.DEFINE_integer("batch_size", 128, "pictures of a step", lower_bound=1)
flags.DEFINE_integer("steps", 10, "steps of the attack", lower_bound=1)
flags.DEFINE_string("output", "benchmarks/RESULTS.md", "the file whose table is replaced")
FLAGS = flags.FLAGS

EPSILON, STEP_SIZE = 8 / 255, 2 / 255
TARGETS = {"foolbox": 0.40, "ART": 0.30}


def network(name, shape, classes):
    """A small network of convolutions, or a student as people train it."""
    import keras

    import kdkeras

    layers = keras.layers
    if name != "small":
        return kdkeras.models.mobilenet_v2(input_shape=shape, num_classes=classes, alpha=0.35)
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(16, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(32, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(classes),
        ]
    )


def attackers(model, shape, classes):
    """By name, functions from pictures and labels to adversarial pictures; no random start."""
    import foolbox
    import keras
    import tensorflow as tf
    from art.attacks import evasion
    from art.estimators import classification

    import kdkeras

    common = {"steps": FLAGS.steps, "random_start": False}
    pgd = kdkeras.perturbations.PGD(epsilon=EPSILON, step_size=STEP_SIZE, **common)
    ours = tf.function(lambda x, y: pgd(model, x, {"label": y}))
    of_foolbox = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, **common)
    for_foolbox = foolbox.TensorFlowModel(model, bounds=(0, 1))
    for_art = classification.TensorFlowV2Classifier(
        model,
        classes,
        shape,
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    of_art = evasion.ProjectedGradientDescent(
        for_art,
        eps=EPSILON,
        eps_step=STEP_SIZE,
        max_iter=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        verbose=False,
    )
    return {
        "kdkeras": lambda x, y: ours(x, y).numpy(),
        "foolbox": lambda x, y: of_foolbox(for_foolbox, x, y, epsilons=EPSILON)[1].numpy(),
        "ART": lambda x, y: of_art.generate(x.numpy(), y=np.eye(classes)[y.numpy()]),
    }


def measured(name):
    """Seconds of each round by attacker, and the largest difference from what kdkeras finds."""
    import keras
    import tensorflow as tf

    import kdkeras

    keras.utils.set_random_seed(0)
    splits = kdkeras.data.load("digits", image_size=32)
    x, y = kdkeras.data.arrays(splits.train)
    model = network(name, splits.input_shape, splits.num_classes)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=hard)
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    # foolbox compares labels with tf.argmax's int64.
    batch = tf.constant(x[: FLAGS.batch_size]), tf.constant(y[: FLAGS.batch_size], tf.int64)
    runs = attackers(model, splits.input_shape, splits.num_classes)
    found = {name: run(*batch) for name, run in runs.items()}  # traced and warm
    seconds = {name: [] for name in runs}
    random = np.random.default_rng(0)
    for _ in range(FLAGS.rounds):
        for who in random.permutation(list(runs)):
            started = time.perf_counter()
            runs[who](*batch)
            seconds[who].append(time.perf_counter() - started)
    apart = {who: float(np.abs(one - found["kdkeras"]).max()) for who, one in found.items()}
    return {who: np.array(values) for who, values in seconds.items()}, apart


def ratio(ours, theirs):
    """The median ratio of the rounds, and its bootstrap interval."""
    ratios = ours / theirs
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def table(name):
    seconds, apart = measured(name)
    lines = [
        f"| PGD-{FLAGS.steps}, {name} | ms | kdkeras of this | at most | largest difference |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for who, values in seconds.items():
        cells = ["", "", ""]
        if who != "kdkeras":
            middle, low, high = ratio(seconds["kdkeras"], values)
            met = "met" if middle <= TARGETS[who] else "missed"
            cells = [f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{TARGETS[who]:.2f}: {met}"]
            cells.append(f"{apart[who]:.0e}")
        lines.append(f"| {who} | {1000 * np.median(values):.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def how():
    names = ("tensorflow", "keras", "foolbox", "adversarial-robustness-toolbox")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        f"Batches of {FLAGS.batch_size} digits of 32 x 32 pixels, epsilon 8/255, step 2/255, "
        f"{FLAGS.rounds} rounds, {os.cpu_count()} cores ({platform.machine()}), no GPU. "
        f"{versions}. `python benchmarks/attacks.py --rounds={FLAGS.rounds}`\n\nRun eagerly, "
        "kdkeras finds what the two find, bit for bit; compiled, it rounds otherwise, and in a "
        "deep network signs of gradients next to 0 turn, and paths part."
    )


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"Flags are written --name=value. Received: {argv[1:]}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import pages

    text = "\n\n".join([*map(table, ("small", "MobileNetV2 0.35")), how()])
    print(text)
    pages.replace(FLAGS.output, "attacks.py", text, "## Attacks")


if __name__ == "__main__":
    app.run(main)
