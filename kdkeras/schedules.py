"""Numbers that may change with the training step: constants, or Keras's schedules."""

import keras
from keras import ops

from kdkeras import arguments

# A schedule cannot say its range; these steps find the usual slip, a decay to 0.
PROBES = (0, *(10**power for power in range(9)))


def is_schedule(value):
    """Whether `value` is a `keras.optimizers.schedules.LearningRateSchedule`."""
    return isinstance(value, keras.optimizers.schedules.LearningRateSchedule)


def checked(check, name, value):
    """`value` once `check(name, value)` accepts it: a number, or a schedule at steps 0 .. 10^8.

    Args:
        check: A check of `kdkeras.arguments`, such as `arguments.positive`.
        name: The argument's name, for the message.
        value: A number, or a `keras.optimizers.schedules.LearningRateSchedule`.

    Returns:
        The number that `check` returns, or the schedule as it is.

    Raises:
        ValueError: As `check`, for the number or for the schedule at some step.
    """
    if not is_schedule(value):
        return check(name, value)
    for step in PROBES:
        try:
            check(name, float(value(step)))
        except ValueError as error:
            raise ValueError(f"{error} from {type(value).__name__} at step {step}") from None
    return value


def known(check, name, value):
    """`value` once `check(name, value)` accepts it; a scalar tensor passes as float32.

    For functions of tensors, which may get a schedule's value at a step, but not a schedule.
    """
    if is_schedule(value):
        raise ValueError(
            f"`{name}` is a schedule, whose value is known in a training step only: put the loss "
            f"into a `kdkeras.Term` of a `Distiller`. Received: {name}={value!r}"
        )
    return ops.cast(value, "float32") if ops.is_tensor(value) else check(name, value)


def at(value, step):
    """A schedule's value at a step, float32; a constant as it is."""
    return ops.cast(value(step), "float32") if is_schedule(value) else value


def values(given, step):
    """Those of a dict that are schedules, with their values at a step."""
    return {name: at(value, step) for name, value in given.items() if is_schedule(value)}


def warmed_up(value, steps):
    """A schedule from 0 to `value`, linear over `steps` steps and constant behind; or `value`."""
    if not arguments.integer("warmup_steps", steps, low=0):
        return value
    return keras.optimizers.schedules.PolynomialDecay(0.0, steps, end_learning_rate=value)
