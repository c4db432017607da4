"""Trains one model of a run: optimizer, logs, and the best epoch by validation."""

import csv
import math
import sys
import time

import keras

from kdkeras import files, logs


def optimizer(recipe, *, steps_per_epoch, epochs):
    """The optimizer of a recipe, its learning rate a schedule over the whole training.

    Args:
        recipe: `kdkeras.Recipe`.
        steps_per_epoch, epochs: The length of the training.

    Returns:
        A `keras.optimizers.Optimizer`. Biases and BatchNorm's scales and shifts do not decay.
    """
    rate = learning_rate(recipe, steps_per_epoch=steps_per_epoch, epochs=epochs)
    if recipe.optimizer == "sgd":
        made = keras.optimizers.SGD(
            rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay or None
        )
    elif recipe.optimizer == "adamw":
        made = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    else:
        return keras.optimizers.Adam(rate)
    # Nor do ends of ranges, in which nothing is to be as small as it can.
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "range_low", "range_high"])
    return made


def learning_rate(recipe, *, steps_per_epoch, epochs):
    """The learning rate of a recipe: a schedule, or a number."""
    steps = max(1, steps_per_epoch * epochs)
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps - 1)
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            decay_steps=steps - warmup,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    if warmup:
        return keras.optimizers.schedules.PolynomialDecay(0.0, warmup, end_learning_rate=rate)
    return rate


def fit(model, training, validation, *, recipe, stage, epochs, watched=None):
    """Fits a compiled model with progress, logs and backups, and leaves it at its best epoch.

    The best epoch is the first of highest validation accuracy, or of what `watched` measures. Logs
    go to `logs/<stage>.csv` (and `logs/tensorboard/<stage>`), backups to `backup/<stage>`.

    Args:
        model: Compiled `keras.Model` with the metric `accuracy`.
        training: A function of the first epoch's number that gives the training batches.
        validation: Validation batches.
        recipe: `kdkeras.Recipe`.
        stage: "teacher", "control" or "student".
        epochs: Number of epochs.
        watched: None, or a callback that adds a figure of its attribute `measures` to the logs of
            each epoch.

    Returns:
        Dict: `epochs`, `best_epoch` (from 1), logs of the `best` and the `last` epoch, `seconds`.
    """
    folder = recipe.directory
    log = folder / "logs" / f"{stage}.csv"
    best_weights = folder / "backup" / f"{stage}.best.weights.h5"
    backup = folder / "backup" / stage
    for parent in (log.parent, backup):
        parent.mkdir(parents=True, exist_ok=True)
    first_epoch = _epochs_done(backup)
    earlier = _history(log)[:first_epoch] if first_epoch else []
    _write_history(log, earlier)
    monitor = "val_accuracy" if watched is None else watched.measures
    # In this order: the log has an epoch's row before the backup says that the epoch is done.
    callbacks = [] if watched is None else [watched]
    callbacks += [
        keras.callbacks.ModelCheckpoint(
            best_weights,
            monitor=monitor,
            mode="max",
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=max((row[monitor] for row in earlier), default=None),
        ),
        keras.callbacks.CSVLogger(str(log), append=bool(earlier)),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.BackupAndRestore(str(backup), delete_checkpoint=False),
    ]
    if recipe.tensorboard:
        events = folder / "logs" / "tensorboard" / stage
        callbacks += logs.callbacks(events, training(first_epoch), validation)
    started = time.monotonic()
    history = model.fit(
        training(first_epoch),
        epochs=epochs,
        validation_data=validation,
        callbacks=callbacks,
        shuffle=False,
        verbose=(1 if sys.stdout.isatty() else 2) if not recipe.quiet else 0,
    )
    seconds = time.monotonic() - started
    for epoch, loss in zip(history.epoch, history.history.get("loss", []), strict=True):
        if not math.isfinite(loss):
            raise ValueError(
                f"The {stage}'s loss became {loss} in epoch {epoch + 1}: try a lower "
                f"`learning_rate`. Received: learning_rate={recipe.learning_rate}"
            )
    rows = _history(log)
    best = max(range(epochs), key=lambda epoch: (rows[epoch][monitor], -epoch))
    model.load_weights(best_weights)
    return {
        "epochs": epochs,
        "best_epoch": best + 1,
        # Without the log's own count of epochs, which starts at 0.
        "best": {key: value for key, value in rows[best].items() if key != "epoch"},
        "last": {key: value for key, value in rows[-1].items() if key != "epoch"},
        "seconds": round(seconds, 1),
    }


def _epochs_done(backup):
    metadata = backup / "training_metadata.json"
    return files.read_json(metadata)["epoch"] if metadata.exists() else 0


def _history(log):
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: float(value) for key, value in row.items()} for row in rows]


def _write_history(log, rows):
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)] if rows else []
    files.write_text(log, "".join(line + "\n" for line in lines))
