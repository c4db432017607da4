"""Robust students: distilled, adversarially trained and natural, attacked and certified alike.

python benchmarks/robust_students.py --workdir=runs/robust
python benchmarks/robust_students.py --dataset=cifar10 --data_dir=tfds --epsilon=0.031372549 ...

Two ResNet-20 teachers are trained, one on labels and one adversarially; ResNet-20 students of half
their width and equal budget learn by each method, the last epoch counts. Each is attacked on test
images (clean, noise, FGSM, PGD, restarts: the worst case of `kdkeras.robustness.evaluate`) and
shown common corruptions; the students trained with noise and without are certified by randomised
smoothing. The distilled method is chosen on the validation split. What is finished is kept in the
work directory, so that a run that was stopped goes on. The tables go to docs/robustness.md.
"""

import concurrent.futures
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import statistics
import time

from absl import app, flags

flags.DEFINE_string("workdir", "runs/robust", "where models and finished figures are kept")
flags.DEFINE_string("dataset", "digits", "as of kdkeras distill")
flags.DEFINE_string("data_dir", None, "where tensorflow_datasets finds prepared sets")
flags.DEFINE_integer("seeds", 3, "trainings of each method, with seeds 0, 1, ...", lower_bound=2)
flags.DEFINE_integer("epochs", 10, "epochs of each student", lower_bound=1)
flags.DEFINE_integer("teacher_epochs", 30, "epochs of each teacher", lower_bound=1)
flags.DEFINE_integer("batch_size", 16, "examples a step", lower_bound=1)
flags.DEFINE_float("learning_rate", 3e-3, "of Adam, warmed up, decayed to 0 along a cosine")
flags.DEFINE_float("epsilon", 0.15, "of the attacks, in the maximum norm, pixels of [0, 1]")
flags.DEFINE_integer("steps", 5, "of the attack in training (PGD)", lower_bound=1)
flags.DEFINE_float("sigma", 0.25, "of the Gaussian student, and of the smoothing")
flags.DEFINE_integer("attacked", 200, "test images that are attacked", lower_bound=1)
flags.DEFINE_integer("certified", 100, "test images that are certified", lower_bound=1)
flags.DEFINE_integer("draws", 10_000, "noisy copies of each image for its certificate")
flags.DEFINE_integer("jobs", 2, "jobs at a time, a process with one thread each", lower_bound=1)
flags.DEFINE_string("output", "docs/robustness.md", "the file whose tables are replaced")
FLAGS = flags.FLAGS

# By name: the row's title, the teacher, and whether it trains on attacks.
STUDENTS = {
    "natural": ("natural: labels alone", None),
    "hinton": ("plain distillation", "natural"),
    "gaussian": ("Gaussian noise, distilled", "natural"),
    "adversarial_training": ("PGD-AT: labels alone", None),
    "trades": ("TRADES: labels alone", None),
    "ard": ("ARD", "robust"),
    "rslad": ("RSLAD", "robust"),
    "adaad": ("AdaAD", "robust"),
}
DISTILLED = ("ard", "rslad", "adaad")
CERTIFIED = ("natural", "gaussian")
RADII = (0.25, 0.5, 0.75, 1.0)
MARK = "robust_students.py"


def job(kind, name, seed, settings):
    """One training, attack or certification; its figures are kept as JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from kdkeras import files

    if not tf.config.get_visible_devices("GPU"):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    started = time.perf_counter()
    found = {"train": train, "attack": attack, "certify": certify}[kind](name, seed, settings)
    found |= {"seconds": round(time.perf_counter() - started, 1), "settings": settings}
    files.write_json(record_of(kind, name, seed, settings), found)
    return kind, name, seed


def record_of(kind, name, seed, settings):
    return pathlib.Path(settings["workdir"]) / f"{kind}-{name}-{seed}.json"


def model_of(name, seed, settings):
    return pathlib.Path(settings["workdir"]) / f"{name}-{seed}.keras"


def loaded(name, seed, settings):
    import keras

    return keras.models.load_model(model_of(name, seed, settings), compile=False)


def splits_of(settings):
    import kdkeras

    return kdkeras.data.load(settings["dataset"], settings["data_dir"], verbose=0)


def train(name, seed, settings):
    """Trains a teacher or a student; its validation accuracy, clean and under PGD-20."""
    import keras

    import kdkeras

    splits = splits_of(settings)
    shape = {"input_shape": splits.input_shape, "num_classes": splits.num_classes}
    is_teacher = name.startswith("teacher")
    keras.utils.set_random_seed(seed)
    model = kdkeras.models.resnet(20, **shape, width=16 if is_teacher else 8)
    crop = kdkeras.augment.pipeline("crop", padding=splits.input_shape[0] // 8)
    if settings["dataset"] != "digits":
        crop = kdkeras.augment.pipeline("crop,flip", padding=splits.input_shape[0] // 8)
    batches = kdkeras.data.batches(splits.train, settings["batch_size"], seed=seed, augment=crop)
    learner = kdkeras.Distiller(**how_to_learn(name, model, seed, settings))
    epochs = settings["teacher_epochs" if is_teacher else "epochs"]
    steps = epochs * -(-len(splits.train) // settings["batch_size"])
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - steps // 10,
        warmup_target=settings["learning_rate"],
        warmup_steps=steps // 10,
    )
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    learner.compile(keras.optimizers.Adam(rate), loss=hard, metrics=["accuracy"])
    learner.fit(batches, epochs=epochs, verbose=0)
    model.save(model_of(name, seed, settings))
    images, labels = kdkeras.data.arrays(splits.validation)
    epsilon = settings["epsilon"]
    return kdkeras.robustness.quick(
        model, images, labels, epsilon=epsilon, steps=20, max_examples=1000
    )


def how_to_learn(name, model, seed, settings):
    """The arguments of the `Distiller` that trains a model."""
    from kdkeras import methods

    attack = {"epsilon": settings["epsilon"], "steps": settings["steps"], "seed": seed}
    if name in ("natural", "teacher_natural"):
        return {"student": model, "alpha": 1.0, "terms": []}
    if name == "teacher_robust":
        return methods.adversarial_training(student=model, **attack)
    if name in ("adversarial_training", "trades"):
        return getattr(methods, name)(student=model, **attack)
    teacher = loaded(f"teacher_{STUDENTS[name][1]}", 0, settings)
    options = {"hinton": {}, "gaussian": {"stddev": settings["sigma"], "seed": seed}}
    return getattr(methods, name)(student=model, teacher=teacher, **options.get(name, attack))


def attack(name, seed, settings):
    """Accuracy on test images: clean, at worst, and with common corruptions."""
    import kdkeras
    from kdkeras import robustness

    model, splits = loaded(name, seed, settings), splits_of(settings)
    images, labels = kdkeras.data.arrays(splits.test)
    some = robustness.evenly(images, labels, settings["attacked"])
    epsilon = settings["epsilon"]
    found = robustness.evaluate(model, *some, epsilon=epsilon, suite="standard", verbose=0)
    corrupted = kdkeras.corruptions.accuracies(
        kdkeras.runtimes.KerasModel(model), kdkeras.corruptions.Corrupted(*some), verbose=0
    )
    return {
        "clean": kdkeras.evaluate(model, (images, labels))["accuracy"],
        "robust": found["worst_case"]["accuracy"],
        "corrupted": kdkeras.corruptions.mean_accuracy(corrupted),
        "verdict": found["verdict"],
        "reliable": found["reliable"],
    }


def certify(name, seed, settings):
    """Certified accuracy on test images, by radius in units of sigma."""
    import kdkeras
    from kdkeras import certification, robustness

    model, splits = loaded(name, seed, settings), splits_of(settings)
    some = robustness.evenly(*kdkeras.data.arrays(splits.test), settings["certified"])
    sigma, draws = settings["sigma"], settings["draws"]
    found = certification.certify(model, some[0], sigma=sigma, n=draws, seed=0, verbose=0)
    accuracy = found.certified_accuracy(some[1], [0.0, *(sigma * radius for radius in RADII)])
    return {"certified": [float(share) for share in accuracy]}


def run_all(jobs, settings):
    """Runs the jobs that have not been run with these settings."""
    todo = []
    for one in jobs:
        path = record_of(*one, settings)
        done = path.exists() and json.loads(path.read_text())["settings"] == settings
        todo += [] if done else [one]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(FLAGS.jobs, mp_context=context) as pool:
        futures = [pool.submit(job, *one, settings) for one in todo]
        for count, future in enumerate(concurrent.futures.as_completed(futures), 1):
            kind, name, seed = future.result()
            seconds = figures(kind, name, settings, [seed])[0]["seconds"]
            print(f"{count} of {len(todo)}: {kind} {name}, seed {seed}: {seconds} s", flush=True)


def figures(kind, name, settings, seeds):
    return [json.loads(record_of(kind, name, seed, settings).read_text()) for seed in seeds]


def told(values):
    percent = [100.0 * value for value in values]
    return f"{statistics.mean(percent):.1f} ± {statistics.stdev(percent):.1f}"


def robust_table(settings, seeds):
    lines = [
        "| student | teacher | validation, PGD-20 | test, clean | test, worst case | corrupted "
        "| gates | training, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for name, (title, taught_by) in STUDENTS.items():
        trained, attacked = (figures(kind, name, settings, seeds) for kind in ("train", "attack"))
        cells = [told([one["robust"] for one in trained])]
        cells += [told([one[key] for one in attacked]) for key in ("clean", "robust", "corrupted")]
        passed = sum(one["reliable"] for one in attacked)
        seconds = statistics.median(one["seconds"] for one in trained)
        lines.append(
            f"| {title} | {taught_by or '-'} | {' | '.join(cells)} | {passed} of {len(attacked)} "
            f"| {seconds:.0f} |"
        )
    return "\n".join(lines)


def verdict(settings, seeds):
    """The distilled method chosen on validation against PGD-AT, in a sentence."""

    def mean(name):
        return statistics.mean(one["robust"] for one in figures("train", name, settings, seeds))

    chosen = max(DISTILLED, key=mean)
    pairs = (figures("attack", name, settings, seeds) for name in (chosen, "adversarial_training"))
    gains = [100.0 * (one["robust"] - other["robust"]) for one, other in zip(*pairs, strict=True)]
    spread = statistics.stdev(gains)
    beats = "beats" if statistics.mean(gains) > spread else "does not beat"
    return (
        f"Chosen on validation among the distilled: {STUDENTS[chosen][0]}. In worst-case test "
        f"accuracy it {beats} PGD-AT of the same budget by more than the spread: "
        f"{statistics.mean(gains):+.1f} points, standard deviation {spread:.1f} over "
        f"{len(gains)} paired seeds."
    )


def teachers_line(settings):
    parts = []
    for kind in ("natural", "robust"):
        (found,) = figures("train", f"teacher_{kind}", settings, [0])
        parts.append(f"{kind} {found['clean']:.1%} clean, {found['robust']:.1%} under PGD-20")
    return f"Teachers on the validation images: {'; '.join(parts)}."


def certified_table(settings, seeds):
    sigmas = " | ".join(f"{radius:g} σ" for radius in (0.0, *RADII))
    lines = [f"| student | {sigmas} |", f"| --- |{' ---: |' * (len(RADII) + 1)}"]
    for name in CERTIFIED:
        found = [one["certified"] for one in figures("certify", name, settings, seeds)]
        cells = [told(column) for column in zip(*found, strict=True)]
        lines.append(f"| {STUDENTS[name][0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def how(settings):
    """What was run, on what."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("tensorflow", "keras"))
    words = {"seeds": FLAGS.seeds, **settings}
    words = " ".join(
        f"--{name}={value}"
        for name, value in words.items()
        if name != "workdir" and value is not None
    )
    return (
        f"Percent, mean ± standard deviation of {FLAGS.seeds} seeds. {FLAGS.jobs} jobs at a time "
        f"on {os.cpu_count()} cores, no GPU. {versions}. `python benchmarks/{MARK} {words}`"
    )


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"Flags are written --name=value. Received: {argv[1:]}")
    import pages

    names = ("workdir", "dataset", "data_dir", "epochs", "teacher_epochs", "batch_size")
    names += ("learning_rate", "epsilon", "steps", "sigma", "attacked", "certified", "draws")
    settings = {name: FLAGS[name].value for name in names}
    pathlib.Path(FLAGS.workdir).mkdir(parents=True, exist_ok=True)
    seeds = range(FLAGS.seeds)
    run_all([("train", f"teacher_{kind}", 0) for kind in ("robust", "natural")], settings)
    run_all([("train", name, seed) for seed in seeds for name in STUDENTS], settings)
    run_all([("attack", name, seed) for seed in seeds for name in STUDENTS], settings)
    robust = [robust_table(settings, seeds), verdict(settings, seeds), teachers_line(settings)]
    mark = f"{MARK}: {settings['dataset']}"
    pages.replace(FLAGS.output, f"{mark}, attacked", "\n\n".join([*robust, how(settings)]))
    run_all([("certify", name, seed) for seed in seeds for name in CERTIFIED], settings)
    certified = [certified_table(settings, seeds), how(settings)]
    pages.replace(FLAGS.output, f"{mark}, certified", "\n\n".join(certified))
    print(pathlib.Path(FLAGS.output).read_text())


if __name__ == "__main__":
    app.run(main)
