"""`DistillationLoss`: what the losses of this package have in common."""

import keras
from keras import ops

from kdkeras import schedules


def class_indices(labels):
    """Classes as int32 `(batch,)`; of one-hot or mixed labels, `(batch, classes)`, the largest."""
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) > 1 and labels.shape[-1] != 1:
        labels = ops.argmax(labels, axis=-1)
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


class DistillationLoss(keras.losses.Loss):
    """A `keras.losses.Loss` between a teacher's tensor and a student's.

    `call(y_true, y_pred)` gets the teacher's tensor and the student's; if `needs_labels`, `y_true`
    is the pair `(labels, teacher's tensor)`. What a loss needs is said by its class:

    Attributes:
        settings: The names of the hyper-parameters, attributes and arguments of `__init__`.
        needs_labels: Whether the labels matter.
        same_grid: Whether both tensors must have the same height and width.
        same_channels: Whether both tensors must have the same last axis.
        maps_only: Whether both tensors must be feature maps.
        compares_examples: Whether examples of a batch are compared, so that one is too few.

    Any hyper-parameter may be a Keras schedule; a `Distiller` takes its value at each step.

    Args:
        name: The name in logs.
        reduction: As in `keras.losses.Loss`; the mean over the batch unless told.
        dtype: As in `keras.losses.Loss`.
    """

    settings = ()
    needs_labels = False
    same_grid = True
    same_channels = True
    maps_only = False
    compares_examples = False

    def at(self, step):
        """This loss with its schedules' values at a step.

        Args:
            step: Scalar integer tensor.

        Returns:
            The loss itself if no hyper-parameter is a schedule; else a copy.
        """
        attributes = vars(self).items()
        scheduled = {name: value for name, value in attributes if schedules.is_schedule(value)}
        if not scheduled:
            return self
        loss = type(self).__new__(type(self))
        values = {name: schedules.at(value, step) for name, value in scheduled.items()}
        vars(loss).update({**vars(self), **values})
        return loss

    def get_config(self):
        values = {name: getattr(self, name) for name in self.settings}
        return {**super().get_config(), **keras.saving.serialize_keras_object(values)}

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))
