"""Carries out a `Recipe`: teacher, control, student, tests, exports, and the results on disk."""

import contextlib
import dataclasses
import sys
import time

import keras

from kdkeras import (
    choices,
    data,
    distribution,
    environment,
    evaluation,
    export,
    feeding,
    files,
    models,
    quantizing,
    stages,
    training,
    vigilance,
    workdir,
)


def run(recipe):
    """Distils a student as a recipe says, measures it against its control, and writes everything.

    A teacher is trained, or loaded from a file; the control (the same student, seed and budget, on
    labels only) and the student are trained; each is kept at its best epoch by validation; all are
    tested, once; the student is exported.

    Args:
        recipe: `kdkeras.Recipe`.

    Returns:
        The dict that `results.json` in the work directory holds: `models` (for each its size, its
        `training` and its `test` metrics), `distillation` (alpha and the terms), `gain` (test
        accuracy over the control's), `exports` (what `kdkeras.export.flavours` reports), `seconds`,
        `environment`, `recipe`, `files`.

    Raises:
        ValueError: Something in the settings, the data or the work directory does not fit; nothing
            was trained or changed.

    Example:

    >>> kdkeras.run(kdkeras.Recipe(dataset="digits"))["gain"]
    """
    # With a cache alone, the teacher is known by its answers.
    known_by_answers = recipe.cache is not None and not recipe.teacher.endswith(".keras")
    taught = not known_by_answers and recipe.method not in choices.WITHOUT_TEACHER
    names = [*(["teacher"] if taught else []), *(["control"] if recipe.control else [])]
    return _run(recipe, [*names, "student"])


def train(recipe):
    """Trains a teacher alone, as `run` does, and writes it with its results.

    Args:
        recipe: `kdkeras.Recipe`; only its teacher's settings are used.

    Returns:
        As `run`, with the teacher alone.

    Raises:
        ValueError: As `run`; or `teacher` is a file.
    """
    if recipe.teacher.endswith(".keras"):
        raise ValueError(
            "`teacher` must be an architecture to train. "
            f"Received: teacher={recipe.teacher!r}, which is a file."
        )
    return _run(dataclasses.replace(recipe, export=False), ["teacher"])


def _run(recipe, names):
    started = time.monotonic()
    training.check_logs(recipe)
    # First of all: TensorFlow takes workers in before anything else has run.
    if recipe.strategy == "multiworker" and recipe.verbose:
        print("Waiting for the workers that TF_CONFIG lists.", flush=True)
    strategy = distribution.strategy(recipe.strategy)
    recipe = workdir.of_this_worker(recipe)
    with _precision_policy(recipe.precision_policy):
        with strategy.scope():
            splits, built, trainings, answers = _trained(recipe, names)
        # Outside of the scope, where workers would wait for one another at every new weight.
        folder, exports = recipe.directory, {}
        # The test split is touched here alone.
        images, labels = evaluation.collect(splits.test)
        logits = {name: evaluation.logits_of(model, images) for name, model in built.items()}
        if recipe.export:
            exports = export.flavours(
                built["student"],
                folder / "export",
                images,
                labels,
                kinds=["saved_model", "float32", *(["int8"] if "quantized" in built else [])],
                quantized=built.get("quantized"),
                teacher=built.get("teacher"),
                class_names=splits.class_names,
                overwrite=recipe.resume,
                verbose=recipe.verbose,
            )
        results = {
            "format": workdir.FORMAT,
            "models": _tested(built, trainings, logits, labels),
            "exports": exports,
            "seconds": {name: record["seconds"] for name, record in trainings.items()},
            "environment": environment.described(),
            "recipe": recipe.to_dict(),
        }
        if "student" in names:
            results["distillation"] = stages.described(built, recipe, splits)
        if answers is not None:
            results["cache"] = {"path": str(answers.path), **answers.identity}
        if {"control", "student"} <= set(names):
            results.update(_gain(logits, labels))
        if recipe.method in choices.ADVERSARIAL:
            results.update(_under_attack(results["models"], built, images, labels, recipe))
    results["seconds"]["all"] = round(time.monotonic() - started, 1)
    return workdir.finish(folder, results)


def _trained(recipe, names):
    """The splits, the trained models, the records of their trainings, and the cache or None."""
    splits = load_data(recipe)
    # Built before anything is trained, so that what does not fit is known at once.
    built = stages.build(recipe, splits, names)
    answers = None
    if recipe.cache is not None and "student" in names:
        terms = stages.terms(built, recipe, splits)
        answers = feeding.opened(recipe, splits, built.get("teacher"), terms)
    for name in names:
        feeding.batches(name, recipe, splits, answers=answers)
    folder = workdir.claim(recipe)
    if recipe.verbose:
        print(_header(recipe, splits, names, folder), flush=True)
    files.write_text(folder / "labels.txt", "".join(f"{n}\n" for n in splits.class_names))
    trainings = {}
    for name in stages.in_turn(recipe, names):
        if name == "student" and recipe.views is not None and answers is None:
            answers = stages.answers(built, recipe, splits)
        trainings[name] = stages.train(name, built, recipe, splits, answers)
        if name == "teacher" and distribution.leads(recipe.strategy):
            vigilance.warn_of_teacher(built, recipe, splits)
    if answers is not None:
        answers.close()
    if recipe.quantize != "none" and "student" in names:
        built["quantized"], trainings["quantized"] = quantizing.train(built, recipe, splits)
    return splits, built, trainings, answers


def _header(recipe, splits, names, folder):
    parts = ("train", "validation", "test")
    sizes = [f"{len(getattr(splits, part).ids):,} {part}" for part in parts]
    shape = "x".join(map(str, splits.input_shape))
    return (
        f"{splits.name}: {', '.join(sizes)} images of {shape} in {splits.num_classes} classes\n"
        f"In turn: {', '.join(stages.in_turn(recipe, names))}. "
        "Each starts slowly: TensorFlow compiles it.\n"
        f"Results go to {folder}"
    )


def _gain(logits, labels):
    """Test accuracy over the control's, with the standard error of the paired difference."""
    right = {name: of_model.argmax(-1) == labels for name, of_model in logits.items()}
    difference = right["student"].astype("float64") - right["control"]
    return {
        "gain": float(difference.mean()),
        "gain_standard_error": float(difference.std() / len(labels) ** 0.5),
    }


def _under_attack(tested, built, images, labels, recipe):
    """The attack, and the gain under it; each model's accuracy goes beside its test metrics."""
    shares = {}
    for name, model in built.items():
        found = vigilance.under_attack(model, images, labels, recipe, examples=1000)
        shares[name] = tested[name]["test"]["robust_accuracy"] = found["robust"]
    attack = {**vigilance.settings(recipe), "examples": found["count"]}
    if not {"control", "student"} <= set(shares):
        return {"attack": attack}
    pair = shares["student"], shares["control"]
    variance = sum(share * (1.0 - share) for share in pair) / found["count"]
    gain = {"robust_gain": pair[0] - pair[1], "robust_gain_standard_error": variance**0.5}
    return {"attack": attack, **gain}


def load_data(recipe):
    """The splits that a recipe asks for."""
    return data.load(
        recipe.dataset,
        recipe.data_dir,
        seed=recipe.seed,
        image_size=recipe.image_size,
        max_train=recipe.max_train,
        download=recipe.download,
        verbose=int(recipe.verbose and sys.stdout.isatty()),
    )


def _tested(built, trainings, logits, labels):
    """Size, training and test metrics of each model."""
    return {
        name: {
            "name": model.name,
            "parameters": model.count_params(),
            "macs": models.macs(model),
            "training": trainings[name],
            "test": evaluation.scores(
                labels, logits[name], None if name == "teacher" else logits.get("teacher")
            ),
        }
        for name, model in built.items()
    }


@contextlib.contextmanager
def _precision_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
