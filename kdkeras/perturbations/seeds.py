"""Seeds of perturbations."""

import keras
import tensorflow as tf


class OfReplica(keras.random.SeedGenerator):
    """Under a strategy each device draws numbers of its own; on one device, the same as ever."""

    def next(self, ordered=True):
        seed = super().next(ordered)
        replica = tf.distribute.get_replica_context()
        number = 0 if replica is None else replica.replica_id_in_sync_group
        return seed + keras.ops.cast(keras.ops.stack([number, 0]), seed.dtype)
