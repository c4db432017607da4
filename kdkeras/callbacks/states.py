"""All that a training changes, and a file that holds it whole or is refused."""

import hashlib
import json

import keras
import numpy as np

import kdkeras
from kdkeras import distiller, files, intact, perturbations
from kdkeras.callbacks import causes

FORMAT = 1
DRAWING = (perturbations.Gaussian, perturbations.Uniform, perturbations.PGD)


def weights(model):
    """The variables that make a model what it is: its own, and those of a teacher that is trained.

    With the states of its seed generators, which draw for Dropout and for perturbations.
    """
    found = list(model.variables)
    if isinstance(model, distiller.Distiller):
        if isinstance(model.perturbation, DRAWING):
            found.append(model.perturbation.seed_generator.state)
        if _is_moved(model):
            found += weights(model.teacher)
    return found


def variables(model):
    """`weights`, and the variables of the optimizers."""
    return weights(model) + [v for one in causes.learners(model) for v in one.optimizer.variables]


def metrics(model):
    """The sums that an epoch's figures are means of."""
    return [v for one in causes.learners(model) for v in one.metrics_variables]


def prepare(model):
    """Makes the variables of the optimizers, which otherwise the first step would."""
    with model.distribute_strategy.scope():
        for one in causes.learners(model):
            one.optimizer.build(one.trainable_variables)


def digest(model):
    """The SHA-256 of a model's weights, and of its teacher's, as 64 hexadecimal digits."""
    found = weights(model)
    if isinstance(model, distiller.Distiller) and isinstance(model.teacher, keras.Model):
        found += model.teacher.weights  # without its seeds, of which nothing is drawn
    return _digest([_array(variable) for variable in found])


def write(path, about, found):
    """Writes variables and a dict of plain values to a file, atomically.

    Args:
        path: The file.
        about: Dict that JSON can hold.
        found: List of variables.
    """
    arrays = [_array(variable) for variable in found]
    about = {
        "format": FORMAT,
        "kdkeras": kdkeras.__version__,
        **about,
        "variables": [_described(array) for array in arrays],
        "digest": _digest(arrays),
    }
    # As bytes: NumPy has no files for all of Keras's dtypes.
    stored = {str(i): np.frombuffer(array.tobytes(), np.uint8) for i, array in enumerate(arrays)}
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **stored, about=np.array(json.dumps(about)))


def read(path):
    """What `write` wrote: the dict, and the arrays as bytes.

    Raises:
        ValueError: It is damaged, or of another version.
        OSError: It could not be read.
    """
    stored = files.read_arrays(path)
    try:
        about = json.loads(str(stored.pop("about")))
        version, count = about["format"], len(about["variables"])
        arrays = [stored[str(i)] for i in range(count)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no checkpoint, or is damaged: {error!r}") from error
    intact.check_format(path, version, FORMAT)
    if _digest(arrays) != about["digest"]:
        raise ValueError(f"{path} is damaged: its digest is not that of its contents.")
    return about, arrays


def fits(about, found):
    """Whether variables are the first of those that a file was written of."""
    described = [_described(_array(variable)) for variable in found]
    return described == about["variables"][: len(found)]


def assign(found, arrays):
    """Gives variables the values of a file's arrays, which `fits` them."""
    for variable, array in zip(found, arrays, strict=True):
        variable.assign(_like(_array(variable), array))


def add(found, arrays):
    """Adds a file's arrays to variables."""
    for variable, array in zip(found, arrays, strict=True):
        now = _array(variable)
        variable.assign(_like(now, array) + now)


def _is_moved(model):
    """Whether the teacher of a `Distiller` is no longer what it was."""
    return model.train_teacher or model.teacher_momentum is not None


def _array(variable):
    return np.asarray(variable.numpy())  # of several workers' variables, too


def _like(now, stored):
    """An array of bytes in the dtype and shape of another."""
    return np.frombuffer(stored.tobytes(), now.dtype).reshape(now.shape)


def _described(array):
    # No name: Keras numbers those of layers anew in each process.
    return [list(array.shape), array.dtype.name]


def _digest(arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(array.tobytes())
    return found.hexdigest()
