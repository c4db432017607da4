"""Training on several devices or machines: strategies that feed each its slice of every batch."""

import json
import os
import re
import types

import keras
import tensorflow as tf

from kdkeras import arguments, slicing

__all__ = ["is_chief", "ready", "strategy"]

NAMES = ("none", "mirrored", "multiworker")
EXAMPLE = (
    '\'{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


def strategy(name, *, devices=None):
    """The `tf.distribute` strategy of a name, under whose scope models are built and compiled.

    It hands each global batch, in its order, to the devices in slices: the same examples, step for
    step, as on one device. All of Keras goes through it: `fit`, `evaluate` and `predict`, of
    datasets and of arrays.

    Args:
        name: "none", one device; "mirrored", the GPUs of this machine; or "multiworker", the
            machines that the environment variable `TF_CONFIG` lists.
        devices: For "mirrored": names such as `["GPU:0", "GPU:1"]`. All GPUs unless given.

    Returns:
        A `tf.distribute.Strategy`. Of "none" it is TensorFlow's default one, and changes nothing.

    Raises:
        ValueError: Another name; devices for another strategy; "multiworker" without a `TF_CONFIG`
            that names this worker.

    Example:

    >>> with kdkeras.distribution.strategy("mirrored").scope():
    ...     distiller = kdkeras.Distiller(student=make_student(), teacher=make_teacher())
    ...     distiller.compile("adam", loss=hard_loss)
    >>> distiller.fit(kdkeras.data.batches(splits.train, 128, seed=0), epochs=10)
    """
    arguments.one_of("name", name, NAMES)
    if devices is not None and name != "mirrored":
        raise ValueError(
            f"`devices` is a setting of 'mirrored'. Received: devices={devices!r}, name={name!r}"
        )
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return slicing.Mirrored(devices)
    _task()
    return slicing.MultiWorker()


def is_chief():
    """Whether this process is the one that writes files: the chief, or the first of the workers.

    Without `TF_CONFIG` there is one process, and it is.

    Raises:
        ValueError: `TF_CONFIG` does not name this worker.

    Example:

    >>> if kdkeras.distribution.is_chief():
    ...     distiller.student.save("student.keras")
    """
    if "TF_CONFIG" not in os.environ:
        return True
    cluster, kind, index = _task()
    return kind == "chief" or ("chief" not in cluster and index == 0)


def leads(name):
    """Whether this process speaks and writes, under a strategy of that name.

    Args:
        name: As in `strategy`; only of "multiworker" there are processes that do not.
    """
    return name != "multiworker" or is_chief()


def worker():
    """The name of this process among its workers, such as "worker-1".

    Raises:
        ValueError: `TF_CONFIG` does not name this worker.
    """
    _, kind, index = _task()
    return f"{kind}-{index}"


def agreed(number, strategy=None):
    """Whether all workers of a strategy say the same number; each waits for all of them.

    Args:
        number: Integer.
        strategy: As of `strategy`; that in scope unless given. Without workers there is no doubt.
    """
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    if not isinstance(strategy, slicing.MultiWorker):
        return True

    said = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([number]))
    return len(set(strategy.gather(said, axis=0).numpy().tolist())) == 1


def ready(model):
    """Makes `fit` and `evaluate` of a plain model work under `strategy`; a Distiller's do.

    Args:
        model: A `keras.Model`. Without a strategy it stays as it was.

    Returns:
        The model.

    Example:

    >>> with strategy.scope():
    ...     teacher = kdkeras.distribution.ready(make_teacher())
    ...     teacher.compile("adam", loss=hard_loss, metrics=["accuracy"])
    >>> teacher.fit(dataset, epochs=10)
    """
    model._maybe_symbolic_build = types.MethodType(symbolic_build, model)
    return model


def symbolic_build(model, iterator=None, data_batch=None):
    """What Keras does before `fit` under a strategy, without a batch of the data.

    Keras takes a batch for its shapes. That starts a dataset's first epoch before the training
    does, and of several workers the batches cannot be put together (keras-team/keras#20585).

    Args:
        model: A `keras.Model`.
        iterator: Keras's iterator over the epochs of a dataset.
        data_batch: Or a batch.

    Raises:
        ValueError: A model was built outside the scope, or compiled with `steps_per_execution`.
    """
    _check(model)
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        model.optimizer.check_finite = types.MethodType(_finite_everywhere, model.optimizer)
    batch = symbols(iterator) if data_batch is None else data_batch
    # What the caller distributed himself has no shapes to tell.
    iterator = iterator if batch is None else None
    keras.Model._maybe_symbolic_build(model, iterator=iterator, data_batch=batch)


def _check(model):
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    if replicas > 1 and model.steps_per_execution > 1:
        raise ValueError(
            "`steps_per_execution` must be 1 on several devices, where Keras cannot put steps "
            f"together. Received: steps_per_execution={model.steps_per_execution} on {replicas} "
            "devices"
        )
    for variable in model.trainable_variables:
        if not strategy.extended.variable_created_in_scope(variable.value):
            raise ValueError(
                "A model is trained on several devices only if it was built and compiled inside "
                f"`with strategy.scope():`. Received: '{model.name}', with variable "
                f"'{variable.path}' built elsewhere."
            )


def _finite_everywhere(optimizer, gradients):
    # Keras asks each replica for itself. Where one alone overflows, as loss scales make them do now
    # and then, it would wait for the others for ever, or they would take its NaN.
    finite = keras.optimizers.LossScaleOptimizer.check_finite(optimizer, gradients)
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce("SUM", tf.cast(~finite, "float32")) == 0.0


def symbols(iterator):
    """A batch as Keras's symbols, of the shapes that a dataset gives; None if it gives none.

    Args:
        iterator: Keras's iterator over the epochs of a dataset.
    """
    dataset = iterator.data_adapter.get_tf_dataset()
    if not isinstance(dataset, tf.data.Dataset):
        return None
    return keras.tree.map_structure(_symbol, dataset.element_spec)


def _symbol(spec):
    known = isinstance(spec, tf.TensorSpec)  # the others stand for None
    return keras.KerasTensor(spec.shape, spec.dtype.name) if known else None


def _task():
    """The cluster, and this process's type and index in it, as `TF_CONFIG` says."""
    given = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(given)
        cluster, task = config["cluster"], config["task"]
        kind, index = task["type"], int(task["index"])
        addresses = [address for of_kind in cluster.values() for address in of_kind]
        with_ports = all(re.fullmatch(r".+:\d+", address) for address in addresses)
        known = 0 <= index < len(cluster[kind]) and with_ports
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known = False
    if not known or not set(cluster) <= {"chief", "worker"}:
        raise ValueError(
            "'multiworker' needs the environment variable TF_CONFIG, which lists the workers and "
            f"says which one this is, as JSON: TF_CONFIG={EXAMPLE}. "
            f"Received: TF_CONFIG={given!r}"
        )
    return cluster, kind, index
