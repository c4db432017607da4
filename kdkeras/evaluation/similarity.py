"""How alike two models' features are: centred kernel alignment."""

import keras
import numpy as np

from kdkeras import runtimes
from kdkeras.models import surgery

# What may stand between the last `Dense` layer and the output.
AFTER = (keras.layers.Activation, keras.layers.Identity, keras.layers.Softmax)


def linear_cka(x, y):
    """Linear centred kernel alignment of two models' features of the same examples.

    `||Y' X||^2 / (||X' X|| ||Y' Y||)`, of the Frobenius norm, with the columns of X and Y centred.
    It does not change when features are rotated or scaled as a whole.

    Args:
        x, y: Arrays `(n, p)` and `(n, q)`; rows of further axes are flattened.

    Returns:
        A float in [0, 1]; 1 for features that are equal but for rotation and scale.

    Raises:
        ValueError: Lengths differ, a feature is not finite, or one side is the same for all
            examples, so that there is nothing to compare.

    Example:

    >>> linear_cka(features, 2.0 * features)
    1.0

    Reference:
        Kornblith et al., [Similarity of Neural Network Representations Revisited](
        https://arxiv.org/abs/1905.00414), ICML 2019.
    """
    x, y = _centred("x", x), _centred("y", y)
    if len(x) != len(y):
        raise ValueError(
            f"`x` and `y` must be of the same examples. Received: {len(x)} and {len(y)} rows."
        )
    shared = np.linalg.norm(y.T @ x) ** 2
    return float(shared / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def feature_similarity(student, teacher, images):
    """Linear CKA of two models' penultimate features: the inputs of their last `Dense` layer.

    Args:
        student, teacher: `keras.Model`s.
        images: Array that both take, one row an example.

    Returns:
        A float in [0, 1]. None where a model has no such layer (it is no graph, has several inputs
        or outputs, or ends in something else), and where a model's features are the same for all
        images.

    Raises:
        ValueError: Features that are not finite.

    Example:

    >>> feature_similarity(student, teacher, images)
    0.93
    """
    pair = [_features(model) for model in (student, teacher)]
    if None in pair:
        return None
    x, y = (_rows(runtimes.KerasModel(model)(images)) for model in pair)
    if _is_constant(x) or _is_constant(y):
        return None
    return linear_cka(x, y)


def _features(model):
    """The model from a model's input to the input of its last `Dense` layer, or None."""
    if not surgery.is_built_graph(model) or len(model.inputs) > 1 or len(model.outputs) > 1:
        return None
    tensor = model.outputs[0]
    operation = tensor._keras_history.operation
    while isinstance(operation, AFTER):
        tensor = surgery.input_behind(tensor)
        operation = tensor._keras_history.operation
    if surgery.is_graph(operation):
        inner = _features(operation)
        return inner and keras.Model(model.inputs[0], inner(surgery.input_behind(tensor)))
    if not isinstance(operation, keras.layers.Dense):
        return None
    return keras.Model(model.inputs[0], surgery.input_behind(tensor))


def _rows(features):
    return np.reshape(features, (len(features), -1)).astype("float64")


def _is_constant(rows):
    return not np.ptp(rows, axis=0).any()


def _centred(name, features):
    features = np.asarray(features)
    if features.ndim < 2 or not len(features) or not np.isfinite(features).all():
        raise ValueError(
            f"`{name}` must be finite features, a row an example. Received: shape {features.shape}"
            + (", with NaN or infinity." if features.ndim > 1 and len(features) else ".")
        )
    rows = _rows(features)
    if _is_constant(rows):
        raise ValueError(
            f"`{name}` must differ from example to example. Received: {len(rows)} rows, all equal."
        )
    return rows - rows.mean(axis=0)
