"""Strategies of `tf.distribute` that deal each global batch, in its order, to the devices."""

import tensorflow as tf


def slices(dataset, replicas, first, here):
    """Each batch of a dataset as the slices of it that some replicas take, one after another.

    Args:
        dataset: `tf.data.Dataset` of batches; scalars in them go to every replica.
        replicas: The number of slices of a batch, whose sizes differ by one at most.
        first, here: Which of them are wanted: `here`, from number `first`.

    Raises:
        ValueError: When a batch is made: it has fewer examples than there are replicas.
    """

    def cut(*batch):
        if not isinstance(dataset.element_spec, tuple):
            (batch,) = batch
        size = next(tf.shape(part)[0] for part in tf.nest.flatten(batch) if part.shape.rank != 0)
        # Marked as `kdkeras.inputs.clear_errors` finds it.
        few = (
            f"kdkeras: A batch must hold an example for each of the {replicas} devices: take "
            "another batch size, or drop the remainder. Received: a batch of"
        )

        def slice_of(number):
            enough = tf.debugging.Assert(size >= replicas, [few, size])
            with tf.control_dependencies([enough]):
                number = tf.cast(number, size.dtype)
            start, end = (size * at // replicas for at in (number, number + 1))
            return tf.nest.map_structure(lambda part: _part(part, start, end, replicas), batch)

        return tf.data.Dataset.range(first, first + here).map(slice_of)

    return dataset.flat_map(cut).prefetch(2 * here)


def _part(part, start, end, replicas):
    if part is None or part.shape.rank == 0:
        return part
    cut = part[start:end]
    size = part.shape[0]
    if size is not None and size % replicas == 0:
        cut.set_shape([size // replicas, *part.shape[1:]])
    return cut


class Sliced:
    """What the strategies here do otherwise than TensorFlow's, in its own terms."""

    def experimental_distribute_dataset(self, dataset, options=None):
        del options
        replicas = self.num_replicas_in_sync

        def of_worker(context):
            here = replicas // context.num_input_pipelines
            return slices(dataset, replicas, context.input_pipeline_id * here, here)

        return self.distribute_datasets_from_function(of_worker)


class Mirrored(Sliced, tf.distribute.MirroredStrategy):
    """`tf.distribute.MirroredStrategy`, each global batch dealt in slices."""


class MultiWorker(Sliced, tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy`, each global batch dealt in slices."""

    def reduce(self, reduce_op, value, axis=None):
        # Keras asks for the mean of its logs along an axis that scalars do not have.
        parts = self.experimental_local_results(value)
        scalars = all(tf.convert_to_tensor(part).shape.rank == 0 for part in parts)
        return super().reduce(reduce_op, value, axis=None if scalars else axis)
