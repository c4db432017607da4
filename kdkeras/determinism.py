"""Whether TensorFlow's operations give the same bits each time."""

import tensorflow as tf


def turn_on():
    """Makes operations deterministic, in this process, for good.

    Raises:
        RuntimeError: Later, where an operation has no deterministic form on a device, or would draw
            random numbers without a seed.
    """
    tf.config.experimental.enable_op_determinism()


def is_on():
    """Whether they are."""
    # TensorFlow has no public name for it.
    from tensorflow.python.framework import config

    return config.is_op_determinism_enabled()
