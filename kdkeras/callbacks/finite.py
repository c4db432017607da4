"""`FiniteLoss`: a training whose loss becomes NaN or infinite stops there, and says why."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kdkeras import arguments, data, distiller
from kdkeras.callbacks import causes
from kdkeras.data import batching

# Ids that a message names.
SHOWN = 8
# Gradients that are not finite though the loss is not scaled up: the model itself overflows.
LOWEST_SCALE = 1.0
# Batches between two looks at the loss scale: from Keras's 2^15 it takes as many to fall below 1.
EVERY = 16
# The share of an epoch's steps, of at least `EVERY`, that may be skipped.
MOST_SKIPPED = 0.5


def ids_of(split, batch_size, *, seed, shuffle=True, drop_remainder=False):
    """Says which examples a batch of `kdkeras.data.batches` holds, for `FiniteLoss`.

    Args:
        split: A split that is in memory (`kdkeras.data.Examples`).
        batch_size, seed, shuffle, drop_remainder: As the batches have them.

    Returns:
        A function `(epoch, step_in_epoch)`, both from 0, to the int64 array of the batch's ids.

    Raises:
        ValueError: The split is not in memory, or the batch size is no positive integer.

    Example:

    >>> ids_of(splits.train, 128, seed=0)(0, 3)
    array([402, 17, ...])
    """
    if not isinstance(split, data.Examples):
        raise ValueError(
            "`split` must be in memory, for its order to be known: a `kdkeras.data.Examples`. "
            f"Received: {type(split).__name__}. Leave `ids` out."
        )
    arguments.integer("batch_size", batch_size, low=1)
    order = batching.order_of(len(split.ids), batch_size, seed, shuffle, drop_remainder)

    def ids(epoch, step):
        batch = order(tf.constant(epoch, tf.int64)).skip(step).take(1)
        found = [split.ids[positions.numpy()] for _, positions in batch]
        return found[0] if found else split.ids[:0]  # behind the last batch

    return ids


class NotFinite(ValueError):
    """A training was stopped, for its numbers are no numbers any more.

    Args:
        message: All that is known, and what to try.
        what: The same in a few words.
        epoch: From 1; None before the first.
        steps: First and last of the epoch's steps in one of which it happened, from 1; or None.
        parts: What is not finite: "hard", terms, "<term>_weight", "alpha", "penalties", those of a
            teacher that is trained with "teacher_" before them; "weights", "gradients", "val_loss",
            "teacher".
        ids: None, or the ids of the examples of these steps.
        learning_rate: That of the last of these steps, or None.
    """

    def __init__(
        self,
        message,
        *,
        what=None,
        epoch=None,
        steps=None,
        parts=(),
        ids=None,
        learning_rate=None,
    ):
        super().__init__(message)
        self.what, self.epoch, self.steps, self.parts = what, epoch, steps, tuple(parts)
        self.ids, self.learning_rate = ids, learning_rate


class FiniteLoss(keras.callbacks.Callback):
    """Stops a training at the first batch whose loss is NaN or infinite, and says what is known.

    Keras logs means over the epoch, which stay NaN once a batch was: the first such batch is the
    one to look at. The message has its step, the part of the loss that it was (the hard loss, a
    term, a weight, the penalties, or the teacher's in mutual learning), the figures until then, the
    learning rate, the examples, and what to try. At the end of an epoch it looks at the weights,
    which a step can spoil without the loss showing it, and at the validation loss. With
    mixed_float16 it stops where the loss scale fell below 1, or more than half of an epoch's steps
    were skipped.

    It looks at what Keras hands to every callback; from the device it reads nothing more, but for
    the loss scale each 16 batches, and the weights once an epoch. Put it before callbacks that
    write checkpoints: an epoch that it stops is not written.

    Args:
        ids: None, or a function `(epoch, step_in_epoch)`, both from 0, to the ids of the examples
            of that batch, as `ids_of` gives it.

    Attributes:
        done: Steps of the first epoch that were taken before this `fit`, 0 at first; set it where
            a training goes on within an epoch.

    Raises:
        NotFinite: In `fit`.

    Example:

    >>> ids = kdkeras.callbacks.ids_of(train, 128, seed=0)
    >>> finite = kdkeras.callbacks.FiniteLoss(ids=ids)
    >>> distiller.fit(kdkeras.data.batches(train, 128, seed=0), callbacks=[finite, checkpoint])
    """

    def __init__(self, *, ids=None):
        super().__init__()
        self.ids, self.done = ids, 0
        self._fine = None

    def on_train_begin(self, logs=None):
        self._fine = None
        teacher = self.model.teacher if isinstance(self.model, distiller.Distiller) else None
        spoilt = causes.broken(teacher) if isinstance(teacher, keras.Model) else []
        if spoilt:
            raise NotFinite(
                f"The teacher's weights hold NaN: {causes.named(spoilt)}. It has nothing to teach. "
                "Take another file of it, or train it again.",
                what="the teacher's weights hold NaN",
                parts=["teacher"],
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._start, self.done = epoch, self.done, 0
        self._first = self._next = self._start
        self._updates = [_updates(optimizer) for optimizer in _scaling(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        if "loss" not in logs:
            raise ValueError(
                "`FiniteLoss` looks at the figure 'loss', which `train_step` must give. Received: "
                f"{', '.join(logs) or 'no figures'}"
            )
        # Keras counts whole calls of several steps, the last of which can have fewer.
        steps = self.params.get("steps")
        taken = batch + 1 if steps is None else min(batch + 1, steps)
        self._first, self._next = self._next, self._start + taken
        if not math.isfinite(logs["loss"]):
            raise self._of_loss(logs)
        self._fine = logs
        if self._next // EVERY > self._first // EVERY:
            self._check_scale()

    def on_epoch_end(self, epoch, logs=None):
        self._check_scale(MOST_SKIPPED)
        learners = causes.learners(self.model)
        spoilt = causes.not_finite([w for one in learners for w in one.trainable_variables])
        if spoilt:
            self._first = self._start
            raise self._error(
                f"weights became NaN or infinite in epoch {epoch + 1}",
                f"They are {causes.named(spoilt)}. The loss of every batch was finite "
                f"(mean {logs['loss']:.4g}), but not every gradient: the last step's, or an "
                "earlier one whose NaN a ReLU took for 0 ever after. "
                + causes.advice(self.model, ["weights"]),
                ["weights"],
                with_ids=False,
            )
        if not math.isfinite(logs.get("val_loss", 0.0)):
            raise NotFinite(
                f"The val_loss became {logs['val_loss']:g} in epoch {epoch + 1}, though the loss "
                f"in training ({logs['loss']:.4g}) and the weights are finite. To try: look for "
                "validation examples that are not finite, or not of the range of those of training;"
                f" a lower learning rate (it was {causes.learning_rate(self.model):.3g}).",
                what=f"the val_loss became {logs['val_loss']:g} in epoch {epoch + 1}",
                epoch=epoch + 1,
                parts=["val_loss"],
                learning_rate=causes.learning_rate(self.model),
            )

    def _of_loss(self, logs):
        """The error of a loss that is not finite."""
        model, found = self.model, causes.culprits(self.model, logs)
        told = ", ".join(causes.described(name, model, logs) for name in found)
        told = [f"Not finite: {told}."]
        of_student = causes.parts(model)
        if len(of_student) > 1 and set(of_student) <= set(found):
            told.append(
                "All at once: the student's logits were not finite, for these examples or for the "
                "weights that the step before had left."
            )
        fine = {n: logs[n] for n in of_student if math.isfinite(logs[n])}
        if fine:
            told.append(f"Still finite: {_figures(fine)}.")
        of = "the epoch's means" if self._first > self._start else "the means of the epoch before"
        if self._fine is not None:
            told.append(f"Until then, {of}: {_figures(self._fine)}.")
        told.append(causes.advice(model, found, ids=self.ids is not None))
        what = f"the loss became {logs['loss']:g} in epoch {self._epoch + 1}"
        return self._error(what, " ".join(told), found)

    def _check_scale(self, most_skipped=None):
        """Stops where mixed_float16 has no loss scale left with which gradients are finite."""
        steps = self._next - self._start
        for optimizer, before in zip(_scaling(self.model), self._updates, strict=True):
            scale = float(ops.convert_to_numpy(optimizer.dynamic_scale))
            skipped = steps - (_updates(optimizer) - before)
            too_low = scale < min(LOWEST_SCALE, optimizer.initial_scale)
            too_many = most_skipped is not None and skipped > most_skipped * steps >= EVERY / 2
            if too_low or too_many:
                raise self._error(
                    f"the loss scale fell to {scale:g} in epoch {self._epoch + 1}",
                    f"The gradients of {skipped} of the epoch's {steps} steps were not finite in "
                    f"float16, and the steps were skipped; the loss was finite "
                    f"({self._fine['loss']:.4g}). To try, the likeliest first: (1) "
                    "precision_policy='float32'; (2) 'mixed_bfloat16', which has float32's range "
                    "and no loss scale; (3) a lower learning rate "
                    f"(it was {causes.learning_rate(self.model):.3g}), or warm-up.",
                    ["gradients"],
                )

    def _error(self, what, told, parts, *, with_ids=True):
        """The error of the steps that were taken last."""
        first, last, rate = self._first + 1, self._next, causes.learning_rate(self.model)
        at = f"step {last}" if first == last else f"one of the steps {first} to {last}"
        known = [
            f"optimizer.iterations: {causes.iterations(self.model)}",
            f"learning rate: {rate:.3g}",
        ]
        ids = None
        if with_ids and self.ids is not None:
            ids = np.concatenate([self.ids(self._epoch, i) for i in range(self._first, last)])
            more = f", ... of {len(ids)}" if len(ids) > SHOWN else ""
            known.append(f"ids of its examples: {', '.join(map(str, ids[:SHOWN]))}{more}")
        return NotFinite(
            f"{what[0].upper()}{what[1:]}, {at} ({'; '.join(known)}). {told}",
            what=f"{what}, {at}",
            epoch=self._epoch + 1,
            steps=(first, last),
            parts=parts,
            ids=ids,
            learning_rate=rate,
        )


def _scaling(model):
    """The optimizers that scale losses, which have been in a step."""
    return [one.optimizer for one in causes.learners(model) if causes.skips(one)]


def _updates(optimizer):
    """How many steps an optimizer that scales losses has not skipped."""
    several = optimizer.inner_optimizer.gradient_accumulation_steps or 1
    return several * int(ops.convert_to_numpy(optimizer.iterations))


def _figures(logs):
    return ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
