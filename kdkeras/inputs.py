"""What a Distiller takes in: batches, checked before they are used, and fitted to each model."""

import contextlib
import functools
import re

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kdkeras import adapters, compatibility, problems
from kdkeras.models import ends, surgery

CHUNK = 4096
MARK = "kdkeras:"


def fitted(x, model):
    """What a model takes of `x`: inputs by name, images at its height and width.

    Args:
        x: Tensor, or a structure of them.
        model: A `keras.Model`; of a subclassed one nothing is known, and `x` comes back as it is.
    """
    if not surgery.is_built_graph(model):
        return x
    wanted = surgery.input_of(model)
    if isinstance(x, dict):
        if not isinstance(wanted, dict):
            return _fitted(x[wanted.name], wanted) if wanted.name in x else x
        return {name: _fitted(x[name], wanted[name]) for name in wanted if name in x}
    if isinstance(x, (list, tuple)):
        return type(x)(map(_fitted, x, keras.tree.flatten(wanted)))
    return _fitted(x, keras.tree.flatten(wanted)[0])


def _fitted(x, wanted):
    x = ops.convert_to_tensor(x)
    if len(x.shape) != 4 or len(wanted.shape) != 4 or None in wanted.shape[1:3]:
        return x
    return adapters.resized(x, wanted.shape[1:3])


def single(x):
    """`x` if it is one tensor, as perturbations take it."""
    if isinstance(x, (dict, list, tuple)):
        raise ValueError(
            "`perturbation` works on models of one input. Received: a structure of several. "
            "Perturb in the pipeline, with the unperturbed inputs as targets['clean']."
        )
    return x


def enriched(y, heads=(None,)):
    """`y` as the dict that targets travel in: labels under `"label"`.

    Args:
        y: Labels; or a dict with them under `"label"`; or, of a student with several outputs, a
            dict of labels by the outputs' names.
        heads: The names of the student's outputs; (None,) for a single one.
    """
    if not isinstance(y, dict) or set(y) <= set(heads):
        return {"label": y}
    if "label" not in y:
        raise ValueError(
            "A dict of targets must hold the labels under the key 'label' (the labels of several "
            f"outputs nest under it). Received: keys {sorted(y)}"
        )
    return dict(y)


def expectations(distiller):
    """What `checked` needs to know of a Distiller."""
    loss = distiller.loss
    labels = {
        name: (_kind(loss.get(name) if isinstance(loss, dict) else loss), classes)
        for name, classes in compatibility.heads(distiller.student).items()
    }
    unit_pixels = any(
        layer.name == ends.NORMALIZE_PIXELS
        for model in (distiller.student, distiller.teacher)
        if isinstance(model, keras.Model)
        for layer in model.layers
    )
    devices = distiller.distribute_strategy.num_replicas_in_sync
    return {"labels": labels, "unit_pixels": unit_pixels, "devices": devices}


def _kind(loss):
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return "integer"
    return "one-hot" if isinstance(loss, keras.losses.CategoricalCrossentropy) else None


def checked(
    x,
    y=None,
    *,
    labels,
    unit_pixels,
    devices,
    comparing=(),
    bounds=None,
    batch_size=None,
    labels_needed=True,
):
    """`x`, once it and its labels are found fit to use.

    Arrays are checked at once. Of a `tf.data.Dataset` each batch is checked on the host when it is
    made, at no cost to the training step. Generators and the like come back as they are.

    Args:
        x, y: As given to `fit`.
        labels, unit_pixels, devices: From `expectations`.
        comparing: Names of terms that compare the examples of a batch, and need two.
        bounds: None, or the range that an attack keeps pixels in.
        batch_size: For arrays; Keras's 32 unless given.
        labels_needed: Whether examples without labels are refused.

    Raises:
        ValueError: NaN or infinite inputs, pixels in 0..255, labels out of range, one-hot labels
            for a sparse loss or the reverse, too small a batch. For datasets, see `clear_errors`.
    """
    few = (
        f"Term '{next(iter(comparing), '')}' compares the examples of a batch, which must hold at "
        "least two for each device: take another batch size, or drop the remainder. Received: a "
        + ("batch of one." if devices == 1 else f"smaller batch for {devices} devices.")
    )
    if isinstance(x, tf.data.Dataset):
        _, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        problems.check_forms(enriched(y, labels), labels, labels_needed)

        def check(*batch):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
            wrongs = problems.found(x, enriched(y, labels), labels, unit_pixels, bounds)
            if comparing:
                wrongs.append((tf.shape(keras.tree.flatten(x)[0])[0] < 2 * devices, few, []))
            asserts = [
                tf.debugging.Assert(tf.logical_not(wrong), [f"{MARK} {message}", *values])
                for wrong, message, values in wrongs
            ]
            with tf.control_dependencies(asserts):
                batch = keras.tree.map_structure(
                    lambda part: None if part is None else tf.identity(part), batch
                )
            return batch if len(batch) > 1 else batch[0]

        return x.map(check, num_parallel_calls=tf.data.AUTOTUNE)
    arrays = keras.tree.flatten(x)
    if not arrays or not all(isinstance(part, np.ndarray) for part in arrays):
        return x
    problems.check_forms(enriched(y, labels), labels, labels_needed)
    count = len(arrays[0])
    smallest = min(batch_size or 32, count % (batch_size or 32) or count)
    if comparing and smallest < 2 * devices:
        raise ValueError(few)
    targets = enriched(y, labels)
    for name, given in targets.items():
        targets[name] = np.asarray(given) if isinstance(given, list) else given
    for start in range(0, count, CHUNK):
        cut = functools.partial(_cut, start, start + CHUNK)
        cut = [keras.tree.map_structure(cut, given) for given in (x, targets)]
        for wrong, message, values in problems.found(*cut, labels, unit_pixels, bounds):
            if wrong:
                raise ValueError(" ".join([message, *(str(value.numpy()) for value in values)]))
    return x


def checked_pair(data, **expected):
    """`checked` for data that may be arrays in a tuple, such as `validation_data`."""
    if isinstance(data, (tuple, list)):
        checked(*data[:2], **expected)
        return data
    return None if data is None else checked(data, **expected)


def order_of(source, **expected):
    """The positions that a `kdkeras.data.OnDevice` trains on, once its labels are found fit.

    Args:
        source: `kdkeras.data.OnDevice`.
        **expected: As for `checked`.

    Raises:
        ValueError: As `checked`.
    """
    count = len(source.split.ids)
    count -= count % source.batch_size if source.drop_remainder else 0
    labels = source.split.labels[:count]
    if source.one_hot is not None:
        labels = np.eye(source.one_hot, dtype="float32")[labels]
    # Its pixels are bytes: the labels alone may be wrong.
    checked(np.zeros((count, 1), "float32"), labels, **expected, batch_size=source.batch_size)
    return source.order


def _cut(start, end, array):
    return None if array is None else array[start:end]


@contextlib.contextmanager
def clear_errors():
    """Turns what a batch of `checked` raised inside tf.data into the `ValueError` it stands for."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        found = re.search(rf"\[{MARK} (.*?)\](?:\s*\n|\s*$|\s*\[\[)", error.message, re.DOTALL)
        if found is None:
            raise
        message = found.group(1).replace("] [", " ").replace("\\'", "'")
        raise ValueError(message) from None
