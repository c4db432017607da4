"""`Checkpoint`: a training that is stopped or killed goes on as if it had not been."""

import contextlib
import json
import os
import pathlib
import signal
import threading
import time

import keras

from kdkeras import arguments, data, distribution
from kdkeras.callbacks import states

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpoint(keras.callbacks.Callback):
    """Writes all that a training needs to go on, and goes on with it.

    The file has the weights, the optimizer, the states of Dropout's and of perturbations' seed
    generators, the figures of each epoch, and the place in the data. It is written at each epoch's
    end, every few minutes within an epoch, and when Ctrl-C or SIGTERM stops the training; each time
    atomically, so that there is always a whole one. What is gone on with ends in the same bits as
    what was never stopped, on devices whose operations are deterministic (those of a CPU are, after
    `tf.config.experimental.enable_op_determinism()`), where the data of an epoch hang on its number
    alone, as those of `kdkeras.data.batches` do, where other callbacks keep nothing in mind, and
    where metrics add up over batches, as Keras's do.

    Keras's own `BackupAndRestore` leaves the seed generators out, overwrites its file in place, and
    knows no place in an epoch.

    Args:
        path: The file. The best epoch's weights stand beside it, as `<path>.best-<epoch>`.
        monitor: None, or the figure by which the best epoch is chosen: the first with the highest.
        minutes: How often to write within an epoch. Not under a `tf.distribute` strategy, where
            epochs alone are written.
        identity: None, or a dict that JSON can hold, of what makes this training this one: a file
            with another is refused.

    Attributes:
        rows: List of each epoch's figures, as Keras logs them.
        seconds: How long the training has taken, in all the processes that had a part in it.
        best: None, or the index of the best epoch.
        epoch: The index of the epoch in which the training is.
        done: How many of its batches earlier processes trained on.

    Raises:
        ValueError: `minutes` is not positive.

    Example:

    >>> checkpoint = kdkeras.callbacks.Checkpoint("student.checkpoint", monitor="val_accuracy")
    >>> def batches(first_epoch):
    ...     return kdkeras.data.batches(train, 128, seed=0, first_epoch=first_epoch)
    >>> checkpoint.restore(distiller)
    >>> checkpoint.fit(distiller, batches, epochs=100, validation_data=validation)
    >>> checkpoint.load_best(distiller)
    """

    def __init__(self, path, *, monitor=None, minutes=10.0, identity=None):
        super().__init__()
        self.path, self.monitor = pathlib.Path(path), monitor
        self.minutes = arguments.positive("minutes", minutes)
        self.identity = json.loads(json.dumps(identity))
        self.rows, self.seconds, self.best, self.epoch = [], 0.0, None, 0
        self.done, self._sums = 0, None
        self._stop, self._unsaved = None, False

    def restore(self, model):
        """Puts a model, and this object, where the file stands; without a file nothing changes.

        Args:
            model: Compiled and built `keras.Model`.

        Returns:
            Whether there is a file.

        Raises:
            ValueError: The file is damaged, or is of another training, or other workers' files are
                of other epochs; the model is as it was.
        """
        states.prepare(model)
        found = states.variables(model)
        stored, problem = None, None
        try:
            stored = self._read(found)
        except ValueError as error:
            problem = error
        # Workers in different epochs would wait for one another for ever.
        epoch = -1 if stored is None else stored[0]["epoch"]
        agreed = distribution.agreed(epoch, model.distribute_strategy)
        if problem is not None:
            raise problem
        if not agreed:
            raise ValueError(f"Other workers' checkpoints are of other epochs than '{self.path}'.")
        if stored is None:
            return False
        about, arrays = stored
        states.assign(found, arrays[: len(found)])
        self._sums = arrays[len(found) :]
        self.rows, self.seconds = about["rows"], about["seconds"]
        self.best, self.epoch, self.done = about["best"], about["epoch"], about["done"]
        return True

    def _read(self, found):
        """What the file has of variables, or None where there is none."""
        if not self.path.exists():
            return None
        about, arrays = states.read(self.path)
        if about["identity"] != self.identity or not states.fits(about, found):
            raise ValueError(f"The checkpoint '{self.path}' is of another training.")
        return about, arrays

    def fit(self, model, training, *, epochs, callbacks=(), **options):
        """Trains a model up to the last epoch, as `model.fit` does.

        Args:
            model: Compiled and built `keras.Model`; `restore` puts it where the file stands.
            training: A function of the first epoch's number that gives the training data: a
                `tf.data.Dataset` whose next iterators are the next epochs, or a
                `kdkeras.data.OnDevice`.
            epochs: How many there are in all.
            callbacks: Other callbacks; this one comes last.
            **options: Other arguments of `model.fit`.

        Returns:
            `rows`.

        Raises:
            ValueError: The figures lack `monitor`.
        """
        options["callbacks"] = [*callbacks, self]
        model.stop_training = False
        while self.epoch < epochs and not model.stop_training:
            made, end = training(self.epoch), epochs
            if self.done:
                # The rest of an epoch is a dataset of another length.
                made, end = _rest(made, self.done), self.epoch + 1
            with self._signals_wait(model):
                model.fit(made, initial_epoch=self.epoch, epochs=end, **options)
        return self.rows

    def load_best(self, model):
        """Gives a model the weights of its best epoch.

        Args:
            model: The `keras.Model` that was trained.

        Raises:
            ValueError: There is no best epoch, or its file is damaged or of another model.
        """
        if self.best is None:
            raise ValueError(
                "`load_best` needs a `monitor`, and an epoch that was trained. "
                f"Received: monitor={self.monitor!r}, {len(self.rows)} epochs"
            )
        about, arrays = states.read(self._of_best(self.best))
        found = states.weights(model)
        if not states.fits(about, found):
            raise ValueError(f"`model` must be the one that was trained. Received: '{model.name}'")
        states.assign(found, arrays)

    def on_epoch_begin(self, epoch, logs=None):
        self._written = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self._sums:
            # Keras makes its metrics in the first step.
            states.add(states.metrics(self.model), self._sums)
        self._sums = None
        steps = self.params["steps"]
        # Not after the last step: the epoch ends with its validation.
        if steps is None or batch + 1 >= steps or _is_shared(self.model):
            return
        self._unsaved = True
        if self._stop or time.monotonic() - self._written > 60.0 * self.minutes:
            self._write(self.epoch, self.done + batch + 1, states.metrics(self.model))
        self._leave()

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({name: float(value) for name, value in logs.items()})
        before = self.best
        if self.monitor is not None and self._is_best():
            self.best = epoch
            states.write(self._of_best(epoch), {}, states.weights(self.model))
        self.epoch, self.done = epoch + 1, 0
        self._write(self.epoch, 0, [])
        if before not in (None, self.best):
            self._of_best(before).unlink(missing_ok=True)
        self._leave()

    def _is_best(self):
        if self.monitor not in self.rows[-1]:
            raise ValueError(
                f"`monitor` must be one of the figures: {', '.join(self.rows[-1])}. "
                f"Received: monitor={self.monitor!r}"
            )
        return self.best is None or self.rows[-1][self.monitor] > self.rows[self.best][self.monitor]

    def _of_best(self, epoch):
        return self.path.with_name(f"{self.path.name}.best-{epoch}")

    def _write(self, epoch, done, sums):
        now = time.monotonic()
        self.seconds += now - self._written
        about = {
            "identity": self.identity,
            "epoch": epoch,
            "done": done,
            "rows": self.rows,
            "seconds": self.seconds,
            "best": self.best,
        }
        states.write(self.path, about, [*states.variables(self.model), *sums])
        self._written = now
        self._unsaved = False

    @contextlib.contextmanager
    def _signals_wait(self, model):
        """A block in which a signal waits until what was learned is written; the next does not."""
        if threading.current_thread() is not threading.main_thread() or _is_shared(model):
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number, frame):
            if self._stop is not None or not self._unsaved:
                _pass_on(before[number], number, frame)
            else:
                self._stop = lambda: _pass_on(before[number], number, frame)

        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            self._stop = None
            for number, handler in before.items():
                # None: a handler that Python cannot know, nor put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _leave(self):
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()


def _pass_on(handler, number, frame):
    """Does with a signal what was to be done with it."""
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _is_shared(model):
    """Whether several devices train it, of which each has figures of its own."""
    return model.distribute_strategy.num_replicas_in_sync > 1


def _rest(training, done):
    """The data without so many batches of its next epoch."""
    if isinstance(training, data.OnDevice):
        training.order = training.order.skip(done)
        return training
    return training.skip(done)
