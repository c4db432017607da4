"""Metrics against numbers worked out by hand and float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import classifier, examples
from test_losses_logits import reference

import kdkeras
from kdkeras import evaluation

LABELS = np.array([0, 0, 0, 1, 1, 2])
# Predicted: 0 0 1 1 2 2.
LOGITS = np.float32(
    [[3, 1, 0], [2, 0, 1], [0, 5, 1], [0, 1, 0], [0, 1, 4], [-1, 0, 1]],
)


def test_golden_scores():
    found = evaluation.scores(LABELS, LOGITS)
    # Precision of the classes: 2/2, 1/2, 1/2; recall: 2/3, 1/2, 1/1.
    assert found == pytest.approx(
        {"accuracy": 4 / 6, "precision": (1 + 0.5 + 0.5) / 3, "recall": (2 / 3 + 0.5 + 1) / 3}
    )


def test_likeness_to_a_teacher():
    teacher = np.float32(np.random.default_rng(0).normal(0, 2, (6, 3)))
    found = evaluation.scores(LABELS, LOGITS, teacher)
    assert found["agreement"] == np.mean(teacher.argmax(-1) == [0, 0, 1, 1, 2, 2])
    assert found["kl"] == pytest.approx(reference(teacher, LOGITS, 1.0)[0].mean(), rel=1e-5)
    same = evaluation.scores(LABELS, LOGITS, LOGITS)
    assert (same["agreement"], same["kl"]) == (1.0, 0.0)


def test_a_class_that_is_never_predicted_has_precision_0():
    found = evaluation.scores(np.array([0, 1]), np.float32([[1, 0], [1, 0]]))
    assert found == pytest.approx({"accuracy": 0.5, "precision": 0.25, "recall": 0.5})


@pytest.mark.parametrize("form", ["arrays", "examples", "batches"])
def test_evaluate_takes_any_form_of_data(form):
    x, y = examples(20)
    model, teacher = classifier(), classifier(8)
    data = {
        "arrays": (x, y),
        "examples": tf.data.Dataset.from_tensor_slices((x, y)),
        "batches": tf.data.Dataset.from_tensor_slices((x, y)).batch(7),
    }[form]
    found = kdkeras.evaluate(model, data, teacher=teacher)
    assert found == evaluation.scores(y, model(x).numpy(), teacher(x).numpy())
    assert all(type(value) is float for value in found.values())


def test_a_mixed_precision_model_gives_float32_logits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    assert evaluation.logits_of(model, examples()[0]).dtype == np.float32


def test_an_empty_dataset():
    x, y = examples(4)
    with pytest.raises(ValueError, match="at least one example"):
        kdkeras.evaluate(classifier(), tf.data.Dataset.from_tensor_slices((x, y)).take(0))


def test_probabilities_where_logits_are_needed():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    with pytest.raises(
        ValueError, match=r"`model` must give logits.*kdkeras.models.logits\(model\)"
    ):
        kdkeras.evaluate(model, examples())


def test_labels_out_of_range():
    x, y = examples()
    with pytest.raises(ValueError, match="labels"):
        kdkeras.evaluate(classifier(), (x, y + 20))
