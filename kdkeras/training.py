"""Trains one model of a run: optimizer, logs, and the best epoch by validation."""

import sys

import keras

from kdkeras import callbacks, distribution, files, logs
from kdkeras import recipe as recipes
from kdkeras.callbacks import states


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


def is_finished(recipe, stage):
    """Whether a model was trained and written, with its record, by every worker.

    Args:
        recipe: `kdkeras.Recipe`.
        stage: "teacher", "control", "student" or "quantized".
    """
    folder = recipe.directory
    written = folder / f"{stage}.keras", folder / "logs" / f"{stage}.json"
    finished = all(path.exists() for path in written)
    return distribution.agreed(int(finished)) and finished


def fit(model, training, validation, *, recipe, stage, epochs, watched=None, ids=None):
    """Fits a compiled model with progress, logs and checkpoints, and leaves it at its best epoch.

    The best epoch is the first of highest validation accuracy, or of what `watched` measures. Logs
    go to `logs/<stage>.csv` (and `logs/tensorboard/<stage>`), checkpoints to `backup/<stage>`; a
    checkpoint of the same training that stands there is gone on with.

    Args:
        model: Compiled `keras.Model` with the metric `accuracy`.
        training: A function of the first epoch's number that gives the training batches.
        validation: Validation batches.
        recipe: `kdkeras.Recipe`.
        stage: "teacher", "control" or "student".
        epochs: Number of epochs.
        watched: None, or a callback that adds a figure of its attribute `measures` to the logs of
            each epoch.
        ids: None, or what says which examples a batch holds, as of `kdkeras.callbacks.FiniteLoss`.

    Returns:
        Dict: `epochs`, `best_epoch` (from 1), logs of the `best` and the `last` epoch, `seconds`.

    Raises:
        kdkeras.callbacks.NotFinite: The loss, or a weight, became NaN or infinite.
    """
    folder = recipe.directory
    log = folder / "logs" / f"{stage}.csv"
    backup = folder / "backup" / stage
    for parent in (log.parent, backup):
        parent.mkdir(parents=True, exist_ok=True)
    settings = recipe.to_dict()
    checkpoint = callbacks.Checkpoint(
        backup / "checkpoint",
        monitor="val_accuracy" if watched is None else watched.measures,
        identity={
            "stage": stage,
            "start": states.digest(model),
            **{name: settings[name] for name in settings if name not in recipes.NOT_OF_THE_RESULT},
        },
    )
    try:
        checkpoint.restore(model)
    except ValueError as error:
        print(f"Warning: {error} The {stage} begins anew.", flush=True)
    _write_history(log, checkpoint.rows)
    finite = callbacks.FiniteLoss(ids=ids)
    finite.done = checkpoint.done
    watching = [finite, *([] if watched is None else [watched]), _Log(log, checkpoint.rows)]
    if recipe.tensorboard:
        events = folder / "logs" / "tensorboard" / stage
        watching += logs.callbacks(events, training(checkpoint.epoch), validation)
    rows = checkpoint.fit(
        model,
        training,
        epochs=epochs,
        validation_data=validation,
        callbacks=watching,
        shuffle=False,
        verbose=(1 if sys.stdout.isatty() else 2) if not recipe.quiet else 0,
    )
    checkpoint.load_best(model)
    return {
        "epochs": epochs,
        "best_epoch": checkpoint.best + 1,
        "best": rows[checkpoint.best],
        "last": rows[-1],
        "seconds": round(checkpoint.seconds, 1),
    }


class _Log(keras.callbacks.Callback):
    """Writes each epoch's figures to a CSV file, after those that are there."""

    def __init__(self, path, rows):
        super().__init__()
        self.path, self.rows = path, list(rows)

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({name: float(value) for name, value in logs.items()})
        _write_history(self.path, self.rows)


def _write_history(log, rows):
    names = list(rows[0]) if rows else []
    lines = [",".join(["epoch", *names])] if rows else []
    lines += [
        ",".join(map(str, [epoch, *(row[name] for name in names)]))
        for epoch, row in enumerate(rows)
    ]
    files.write_text(log, "".join(line + "\n" for line in lines))
