"""The last stage of a run: the student made ready for int8, learning from the teacher meanwhile."""

import dataclasses
import shutil

import keras

from kdkeras import (
    archives,
    choices,
    evaluation,
    files,
    inference,
    quantization,
    recipe,
    stages,
    training,
)

CALIBRATION = 256
# Settings that methods have which are not carried over.
OF_METHODS = (
    *("alpha", "temperature", "epsilon", "attack_steps", "attack_norm", "clean_teacher"),
    *("noise_stddev", "perturbation"),
)


def train(built, settings, splits, *, calibration_images=CALIBRATION):
    """Trains a student with fake-quantised weights and activations, against its teacher.

    It begins as the student, with BatchNormalization folded and ranges measured on training
    images, and is written as `quantized.keras`, at its best epoch by validation; epoch 0 is the
    start.

    Args:
        built: Dict of trained models: "student", and "teacher" if there is one; else the student
            in float32 teaches.
        settings: `kdkeras.Recipe`: `quantize_epochs`, `quantize_learning_rate`, and the run's.
        splits: `kdkeras.data.Splits`.
        calibration_images: How many training images the ranges are measured on.

    Returns:
        The model, and the record of its training, as `kdkeras.training.fit` gives it, with the
        validation accuracy of the `student`, and of the quantised model `before` the training.
        With `settings.resume`, what was finished is loaded.
    """
    path = settings.directory / "quantized.keras"
    record_path = settings.directory / "logs" / "quantized.json"
    if settings.resume and training.is_finished(settings, "quantized"):
        return archives.model(path), files.read_json(record_path)
    keras.utils.set_random_seed(settings.seed)
    images = quantization.calibration_images(splits.train, calibration_images, seed=settings.seed)
    model = quantization.aware(built["student"], images, name="quantized")
    seen, labels = evaluation.collect(splits.validation)

    def accuracy(of):
        return evaluation.scores(labels, evaluation.logits_of(of, seen))["accuracy"]

    start = {"student": accuracy(built["student"]), "before": accuracy(model)}
    if not settings.quiet:
        print(
            f"\nquantized: int8 weights and activations, ranges of {len(images)} training images; "
            f"{start['before']:.2%} of the validation images before training, the student "
            f"{start['student']:.2%}"
            + (". Nothing is lost as it is." if start["before"] >= start["student"] else ""),
            flush=True,
        )
    teacher = built.get("teacher") or inference.clone(built["student"])
    own = recipe_of(settings)
    keras.utils.set_random_seed(settings.seed)
    learners, begun = {"student": model, "teacher": teacher}, model.get_weights()
    record = {**start, **stages.fit("student", learners, own, splits, stage="quantized")}
    if record["best"]["val_accuracy"] < start["before"]:
        model.set_weights(begun)
        record["best_epoch"] = 0
    stages.write("quantized", {"quantized": model}, own, record)
    shutil.rmtree(settings.directory / "backup" / "quantized", ignore_errors=True)
    return model, record


def recipe_of(settings):
    """The recipe of this stage: short, with Adam, the run's method where it looks at logits alone.

    Args:
        settings: `kdkeras.Recipe` of the run.
    """
    plain = {
        field.name: field.default
        for field in dataclasses.fields(recipe.Recipe)
        if field.name in ("cache", "views", "quantize", "quantize_epochs")
        or field.name in ("quantize_learning_rate", "teacher_method", "teacher_epochs")
        or (field.name in OF_METHODS and settings.method not in choices.OF_LOGITS)
    }
    method = settings.method if settings.method in choices.OF_LOGITS else "hinton"
    return dataclasses.replace(
        settings,
        **plain,
        method=method,
        epochs=settings.quantize_epochs,
        learning_rate=settings.quantize_learning_rate,
        optimizer="adam",
        warmup_epochs=0.0,
        # Fake quantisers are float32.
        precision_policy="float32",
        strategy="none",
        workdir=str(settings.directory),
        overwrite=False,
        resume=False,
    )
