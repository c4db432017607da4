"""Weights that training decides: of examples by the teacher, of terms by their progress."""

import keras
from keras import ops

from kdkeras import arguments
from kdkeras.losses import base


@keras.saving.register_keras_serializable("kdkeras")
class Reliability:
    """The weight of an example by how far its teacher can be relied upon.

    `w = p_T(label)^power`, or `1 - p_T(label)^power` if `inverted`, of the teacher's probabilities
    at temperature 1. For `Term(example_weight=...)`.

    Args:
        power: Positive number.
        inverted: Whether the weight is of distrust.

    Call arguments:
        labels: Integers `(batch,)`, or one-hot labels.
        teacher_logits: Tensor of shape `(batch, classes)`.

    Returns:
        float32 tensor of shape `(batch,)`, in [0, 1], a constant to gradients.

    Raises:
        ValueError: `power` is not positive.

    Example:

    >>> kdkeras.losses.Reliability(power=1.0)([0], [[0.0, 0.0]]).numpy()
    array([0.5], dtype=float32)

    Reference:
        Zhu et al., [Reliable Adversarial Distillation with Unreliable Teachers](
        https://arxiv.org/abs/2106.04928), ICLR 2022, equations 4 and 5.
    """

    def __init__(self, *, power=1.0, inverted=False):
        self.power, self.inverted = arguments.positive("power", power), bool(inverted)

    def __call__(self, labels, teacher_logits):
        log_p = ops.log_softmax(ops.cast(teacher_logits, "float32"), axis=-1)
        at_label = ops.take_along_axis(log_p, base.class_indices(labels)[:, None], axis=-1)[:, 0]
        weight = ops.exp(self.power * at_label)
        return ops.stop_gradient(1.0 - weight if self.inverted else weight)

    def get_config(self):
        return {"power": self.power, "inverted": self.inverted}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("kdkeras")
class RelativeProgress(keras.layers.Layer):
    """Weighs terms by how little each has come down, so that none is left behind.

    `r_i = value_i / first value_i`; `w_i <- w_i - rate * (w_i - r_i / sum_j r_j)` at each step,
    from equal weights of sum 1. For `Distiller(balance=...)`.

    Args:
        rate: In [0, 1]; 0 leaves the weights equal.
        name: The layer's name.

    Call arguments:
        values: List of scalars, the terms' values in this step.

    Returns:
        List of float32 scalars, of sum 1.

    Raises:
        ValueError: `rate` is out of its range.

    Reference:
        Zhao et al., [Enhanced Accuracy and Robustness via Multi-Teacher Adversarial Distillation](
        https://arxiv.org/abs/2306.16170), ECCV 2022, equations 9 to 11; the rate of their code.
    """

    def __init__(self, *, rate=0.025, name=None):
        super().__init__(name=name, dtype="float32")
        self.rate = arguments.fraction("rate", rate)

    def build(self, input_shape):
        (count,) = input_shape
        options = {"trainable": False, "aggregation": "mean"}
        equal = keras.initializers.Constant(1.0 / count)
        self.first = self.add_weight(shape=(count,), initializer="zeros", name="first", **options)
        self.shares = self.add_weight(shape=(count,), initializer=equal, name="shares", **options)
        self.built = True

    def call(self, values):
        values = ops.stop_gradient(ops.stack([ops.cast(value, "float32") for value in values]))
        first = ops.where(self.first > 0.0, self.first, ops.maximum(values, keras.config.epsilon()))
        relative = values / first
        # Of terms that have all come down to nothing, each has its share.
        total = ops.maximum(ops.sum(relative), keras.config.epsilon())
        shares = self.shares - self.rate * (self.shares - relative / total)
        shares = shares / ops.sum(shares)
        self.first.assign(first)
        self.shares.assign(shares)
        return ops.unstack(shares, self.shares.shape[0])

    def get_config(self):
        return {"rate": self.rate, "name": self.name}
