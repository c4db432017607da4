"""Keras's class weights, as weights of examples."""

import numpy as np
from keras import ops

from kdkeras import compatibility
from kdkeras.losses import base


def class_weight_vector(class_weight, model):
    """Keras's `class_weight` dict as a vector; a class that it leaves out weighs 1."""
    if class_weight is None:
        return None
    heads = compatibility.heads(model)
    if None not in heads:
        raise ValueError(
            "`class_weight` is for models of one output. Received: class_weight="
            f"{class_weight!r} for outputs {list(heads)}. Use sample weights."
        )
    classes = heads[None] or max(class_weight) + 1
    if any(key not in range(classes) for key in class_weight):
        raise ValueError(
            f"`class_weight` must map class indices 0..{classes - 1} to weights. "
            f"Received: class_weight={class_weight!r}"
        )
    return np.array([class_weight.get(i, 1.0) for i in range(classes)], "float32")


def weighed(class_weights, label, sample_weight):
    """The sample weights times the weight of each example's class."""
    if class_weights is None:
        return sample_weight
    weight = ops.take(class_weights, base.class_indices(label))
    return weight if sample_weight is None else weight * ops.cast(sample_weight, "float32")
