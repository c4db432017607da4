"""Carries out a `Recipe`: teacher, control, student, tests, exports, and the results on disk."""

import contextlib
import dataclasses
import sys
import time

import keras

from kdkeras import (
    callbacks,
    choices,
    data,
    distribution,
    environment,
    evaluation,
    export,
    feeding,
    files,
    logs,
    models,
    quantizing,
    stages,
    vigilance,
    workdir,
)

# Validation images, fewer than which say little of an epoch.
FEW = 50


def run(recipe):
    """`kdkeras.repeats.run` with one seed."""
    # With a cache alone, the teacher is known by its answers.
    known_by_answers = recipe.cache is not None and not recipe.teacher.endswith(".keras")
    taught = not known_by_answers and recipe.method not in choices.WITHOUT_TEACHER
    names = [*(["teacher"] if taught else []), *(["control"] if recipe.control else [])]
    return _run(recipe, [*names, "student"])


def train(recipe):
    """`kdkeras.repeats.train` with one seed."""
    if recipe.teacher.endswith(".keras"):
        raise ValueError(
            "`teacher` must be an architecture to train. "
            f"Received: teacher={recipe.teacher!r}, which is a file."
        )
    return _run(dataclasses.replace(recipe, export=False), ["teacher"])


def _run(recipe, names):
    # The work directory is this process's until the results stand in it.
    with contextlib.ExitStack() as held:
        return _carried_out(recipe, names, held)


def _carried_out(recipe, names, held):
    started = time.monotonic()
    logs.check(recipe)
    # First of all: TensorFlow takes workers in before anything else has run.
    if recipe.strategy == "multiworker" and not recipe.quiet:
        print("Waiting for the workers that TF_CONFIG lists.", flush=True)
    strategy = distribution.strategy(recipe.strategy)
    recipe = workdir.of_this_worker(recipe)
    workdir.check_free(recipe.directory)
    with precision_policy(recipe.precision_policy):
        with strategy.scope():
            splits, built, trainings, answers, warnings = _trained(recipe, names, held)
        # Outside of the scope, where workers would wait for one another at every new weight.
        folder, exports = recipe.directory, {}
        # The test split is touched here alone.
        images, labels = evaluation.collect(splits.test)
        logits = {name: evaluation.logits_of(model, images) for name, model in built.items()}
        predictions = {"ids": splits.test.ids, "labels": labels, **logits}
        files.write_arrays(folder / workdir.PREDICTIONS, predictions)
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
                verbose=not recipe.quiet,
            )
        results = {
            "format": workdir.FORMAT,
            "dataset": described(splits),
            "models": _tested(built, trainings, logits, images, labels),
            "exports": exports,
            "seconds": {name: record["seconds"] for name, record in trainings.items()},
            "environment": environment.described(),
            "recipe": recipe.to_dict(),
            "warnings": warnings,
        }
        if "student" in names:
            results["distillation"] = stages.described(built, recipe, splits)
        if answers is not None:
            results["cache"] = {"path": str(answers.path), **answers.identity}
        if {"control", "student"} <= set(names):
            results.update(_gain(labels, logits["student"], logits["control"]))
        if recipe.method in choices.ADVERSARIAL:
            results.update(_under_attack(results["models"], built, images, labels, recipe))
    results["seconds"]["all"] = round(time.monotonic() - started, 1)
    return workdir.finish(folder, results, strategy)


def _trained(recipe, names, held):
    """Splits, trained models, the records of their trainings, a cache or None, and warnings."""
    splits = load_data(recipe)
    # Built before anything is trained, so that what does not fit is known at once.
    built = stages.build(recipe, splits, names)
    answers = None
    if recipe.cache is not None and "student" in names:
        terms = stages.terms(built, recipe, splits)
        answers = feeding.opened(recipe, splits, built.get("teacher"), terms)
    for name in names:
        feeding.batches(name, recipe, splits, answers=answers)
    watched = vigilance.Warnings(recipe, splits)
    watched.teacher(built, answers)
    held.enter_context(workdir.alone(recipe.directory))
    folder = workdir.claim(recipe)
    if not recipe.quiet:
        print(_header(recipe, splits, names, folder), flush=True)
    files.write_text(folder / "labels.txt", "".join(f"{n}\n" for n in splits.class_names))
    trainings = {}
    for name in stages.in_turn(recipe, names):
        if name == "student" and recipe.views is not None and answers is None:
            answers = stages.answers(built, recipe, splits)
        if name == "student":
            watched.beside_control(built, answers)
        with _named(name):
            trainings[name] = stages.train(name, built, recipe, splits, answers)
        watched.trained(name, trainings[name])
        if name == "teacher":
            watched.robustness_of_teacher(built)
    if answers is not None:
        answers.close()
    if recipe.quantize != "none" and "student" in names:
        with _named("quantized student"):
            built["quantized"], trainings["quantized"] = quantizing.train(built, recipe, splits)
    return splits, built, trainings, answers, watched.found


@contextlib.contextmanager
def _named(stage):
    """A block in which a training that is stopped says whose it is."""
    try:
        yield
    except callbacks.NotFinite as error:
        told = str(error)
        error.args = (
            f"In training the {stage}, {told[0].lower()}{told[1:]} A run keeps its settings: to "
            "change them give `overwrite`, or another `workdir`.",
        )
        raise


def _header(recipe, splits, names, folder):
    data_ = described(splits)
    sizes = [f"{data_[part]:,} {part}" for part in ("train", "validation", "test")]
    shape = "x".join(map(str, splits.input_shape))
    settings = ""
    if recipe.verbose:
        settings = "".join(f"  {name}: {value}\n" for name, value in recipe.to_dict().items())
    few = ""
    if data_["validation"] < FEW:
        few = (
            f"Warning: epochs are chosen by {data_['validation']} validation images, of which one "
            f"is {100 / data_['validation']:.0f} points.\n"
        )
    return settings + (
        f"{splits.name}: {', '.join(sizes)} images of {shape} in {splits.num_classes} classes\n"
        f"In turn: {', '.join(stages.in_turn(recipe, names))}. "
        f"Each starts slowly: TensorFlow compiles it.\n{few}"
        f"Results go to {folder}"
    )


def _gain(labels, student, control):
    """Test accuracy over the control's, with what can be said of the paired difference."""
    found = evaluation.compare(labels, student, control)
    return {
        "gain": found["difference"],
        "gain_standard_error": found["standard_error"],
        "gain_interval": found["interval"],
        "mcnemar": {name: found[name] for name in ("only_first", "only_second", "p")},
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
        verbose=int(not recipe.quiet and sys.stdout.isatty()),
    )


def described(splits):
    """A dataset in plain values."""
    parts = ("train", "validation", "test")
    return {
        "name": splits.name,
        "class_names": list(splits.class_names),
        "input_shape": list(splits.input_shape),
        **{part: len(getattr(splits, part).ids) for part in parts},
    }


def _tested(built, trainings, logits, images, labels):
    """Size, training and test metrics of each model."""
    found = {}
    for name, model in built.items():
        taught = name != "teacher" and "teacher" in built
        test = evaluation.scores(labels, logits[name], logits["teacher"] if taught else None)
        cka = evaluation.feature_similarity(model, built["teacher"], images) if taught else None
        found[name] = {
            "name": model.name,
            "parameters": model.count_params(),
            "macs": models.macs(model),
            "training": trainings[name],
            "test": test if cka is None else {**test, "cka": cka},
        }
    return found


@contextlib.contextmanager
def precision_policy(name):
    """A block in which new layers have a precision policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
