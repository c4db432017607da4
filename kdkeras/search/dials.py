"""Numbers that are turned between trainings: what is compiled with them is compiled once."""

import keras
from keras import ops


class Dial(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose value is a variable, the same at every step.

    Args:
        value: The number at first.
    """

    def __init__(self, value):
        self.variable = keras.Variable(value, dtype="float32", trainable=False, name="dial")

    def __call__(self, step):
        return ops.convert_to_tensor(self.variable)

    def turn(self, value):
        """Sets the number."""
        self.variable.assign(value)

    def get_config(self):
        return {"value": float(ops.convert_to_numpy(self.variable))}


class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """`factor(step) * schedule(step)`.

    Args:
        schedule: A schedule, or a number.
        factor: `Dial`.
    """

    def __init__(self, schedule, factor):
        self.schedule, self.factor = schedule, factor

    def __call__(self, step):
        callable_ = isinstance(self.schedule, keras.optimizers.schedules.LearningRateSchedule)
        shape = self.schedule(step) if callable_ else self.schedule
        return ops.cast(self.factor(step), "float32") * ops.cast(shape, "float32")

    def get_config(self):
        return {"schedule": self.schedule, "factor": self.factor}
