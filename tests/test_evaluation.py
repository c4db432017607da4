"""Metrics against numbers worked out by hand, float64 NumPy and scikit-learn."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from conftest import classifier, conv_net, examples, pictures
from sklearn import metrics
from test_losses_logits import reference

import kdkeras
from kdkeras import evaluation, export, latency, runtimes
from kdkeras.evaluation import calibration

pytestmark = pytest.mark.core

LABELS = np.array([0, 0, 0, 1, 1, 2])
# Predicted: 0 0 1 1 2 2.
LOGITS = np.float32(
    [[3, 1, 0], [2, 0, 1], [0, 5, 1], [0, 1, 0], [0, 1, 4], [-1, 0, 1]],
)


def drawn(count=400, classes=7, margin=2.0):
    """Labels, and logits that are often right and too sure."""
    random = np.random.default_rng(1)
    labels = random.integers(0, classes, count)
    logits = random.normal(0, 2, (count, classes))
    logits[np.arange(count), labels] += margin
    return labels, logits


# -- scores ----------------------------------------------------------------------------------------


def test_golden_scores():
    found = evaluation.scores(LABELS, LOGITS)
    # Precision of the classes: 2/2, 1/2, 1/2; recall: 2/3, 1/2, 1/1; F1: 4/5, 1/2, 2/3.
    exp = np.exp(np.float64(LOGITS))
    p = exp / exp.sum(axis=1, keepdims=True)
    truth = np.eye(3)[LABELS]
    # Largest probabilities .8438 .6652 .9753 .5761 .9362 .6652: bins 12, 9, 14, 8, 14, 9 of 15.
    # Bin 9 holds two that are right, bin 14 two that are wrong.
    top = p.max(axis=1)
    gaps = [1 - top[0], abs(2 - top[1] - top[5]), top[2] + top[4], 1 - top[3]]
    assert {name: found[name] for name in found if name not in ("temperature", "ece_scaled")} == (
        pytest.approx(
            {
                "accuracy": 4 / 6,
                "precision": (1 + 0.5 + 0.5) / 3,
                "recall": (2 / 3 + 0.5 + 1) / 3,
                "f1": (4 / 5 + 1 / 2 + 2 / 3) / 3,
                "nll": -np.log((p * truth).sum(axis=1)).mean(),
                "brier": ((p - truth) ** 2).sum(axis=1).mean(),
                "ece": sum(gaps) / 6,
            }
        )
    )


def test_two_classes_by_hand():
    # p = 3/4, 3/4, 9/10; right, wrong, right.
    logits = np.log([[3.0, 1.0], [3.0, 1.0], [1.0, 9.0]])
    found = evaluation.scores(np.array([0, 1, 1]), logits)
    assert found["nll"] == pytest.approx(-np.log(3 / 4 * 1 / 4 * 9 / 10) / 3)
    # 2 (1/4)^2, 2 (3/4)^2, 2 (1/10)^2.
    assert found["brier"] == pytest.approx((0.125 + 1.125 + 0.02) / 3)
    # Two in (11/15, 12/15], one of them right; one in (13/15, 14/15].
    assert found["ece"] == pytest.approx((2 * abs(0.5 - 0.75) + 0.1) / 3)


def test_scores_are_those_of_scikit_learn():
    labels, logits = drawn()
    found = evaluation.scores(labels, logits)
    predicted, probabilities = logits.argmax(1), scipy.special.softmax(logits, 1)
    macro = {"average": "macro"}
    assert found["accuracy"] == metrics.accuracy_score(labels, predicted)
    assert found["top_5"] == metrics.top_k_accuracy_score(labels, logits, k=5)
    assert found["top_5"] > found["accuracy"]
    assert found["precision"] == pytest.approx(metrics.precision_score(labels, predicted, **macro))
    assert found["recall"] == pytest.approx(metrics.recall_score(labels, predicted, **macro))
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, predicted, **macro))
    assert found["nll"] == pytest.approx(metrics.log_loss(labels, probabilities))
    # Of two classes scikit-learn has the form with one of them: half of ours.
    two = logits[:, :2]
    of_one = metrics.brier_score_loss(labels % 2, scipy.special.softmax(two, 1)[:, 1])
    assert evaluation.scores(labels % 2, two)["brier"] == pytest.approx(2 * of_one)


def test_top_5_is_there_with_more_than_five_classes():
    labels, logits = drawn(30, classes=5)
    assert "top_5" not in evaluation.scores(labels, logits)
    labels, logits = drawn(30, classes=6)
    expected = np.mean(logits[np.arange(30), labels] > logits.min(axis=1))
    assert evaluation.scores(labels, logits)["top_5"] == expected


def test_likeness_to_a_teacher():
    teacher = np.float32(np.random.default_rng(0).normal(0, 2, (6, 3)))
    found = evaluation.scores(LABELS, LOGITS, teacher)
    assert found["agreement"] == np.mean(teacher.argmax(-1) == [0, 0, 1, 1, 2, 2])
    assert found["kl"] == pytest.approx(reference(teacher, LOGITS, 1.0)[0].mean(), rel=1e-6)
    same = evaluation.scores(LABELS, LOGITS, LOGITS)
    assert (same["agreement"], same["kl"]) == (1.0, 0.0)


def test_a_class_that_is_never_predicted_has_precision_0():
    found = evaluation.scores(np.array([0, 1]), np.float32([[1, 0], [1, 0]]))
    assert found["precision"], found["recall"] == pytest.approx((0.25, 0.5))


def test_a_class_without_examples():
    labels, logits = np.array([0, 1]), np.float32([[2, 0, 0, 0], [0, 0, 2, 0]])
    found = evaluation.scores(labels, logits)
    # Class 2 is predicted and has no examples: its recall counts as 0. Class 3 is left out.
    assert found["recall"] == pytest.approx((1 + 0 + 0) / 3)
    one, two, three, four = evaluation.details(labels, logits)["classes"]
    assert one == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "count": 1}
    assert two == {"precision": None, "recall": 0.0, "f1": 0.0, "count": 1}
    assert three == {"precision": 0.0, "recall": None, "f1": 0.0, "count": 0}
    assert four == {"precision": None, "recall": None, "f1": None, "count": 0}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_extreme_logits(dtype):
    logits = np.array([[1000, -1000], [1000, -1000]], dtype)
    found = evaluation.scores(np.array([0, 1]), logits, logits)
    assert found["nll"] == 1000.0  # 0 and 2000
    assert found["brier"] == 1.0  # 0 and 2
    assert found["ece"] == 0.5  # sure of both, right on one
    assert found["kl"] == 0.0
    opposed = evaluation.scores(np.array([0, 1]), logits, -logits)
    assert opposed["kl"] == 2000.0


def test_one_example():
    found = evaluation.scores(np.array([1]), np.log([[0.25, 0.75]]))
    assert found["ece"] == found["ece_scaled"] == pytest.approx(0.25)
    told = evaluation.details(np.array([1]), np.log([[0.25, 0.75]]))
    assert told["intervals"]["nll"] == pytest.approx([-np.log(0.75)] * 2)
    assert told["confusion"] == [[0, 0], [0, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite(bad):
    logits = LOGITS.copy()
    logits[[1, 4], 2] = bad
    message = r"`logits` must be finite. Received: NaN or infinity in 2 of 6 rows: 1, 4\."
    for function in (evaluation.scores, evaluation.details):
        with pytest.raises(ValueError, match=message):
            function(LABELS, logits)
    with pytest.raises(ValueError, match="`teacher_logits` must be finite.* rows: 1, 4"):
        evaluation.scores(LABELS, LOGITS, logits)
    with pytest.raises(ValueError, match="`second_logits` must be finite"):
        evaluation.compare(LABELS, LOGITS, logits)
    many = np.full((9, 3), bad)
    with pytest.raises(ValueError, match="9 of 9 rows: 0, 1, 2, 3, 4, "):
        evaluation.scores(np.zeros(9, int), many)


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        (LABELS[:4], LOGITS, "of the same examples. Received: 4 labels, 6 rows"),
        (LABELS + 1, LOGITS, r"in 0 ... 2 for 3 classes. Received: labels\[5\]=3"),
        (LABELS - 1, LOGITS, r"labels\[0\]=-1"),
        (LABELS * 1.0, LOGITS, "must be integers"),
        (LABELS, LOGITS[:, :1], r"two classes. Received: shape \(6, 1\)"),
        (LABELS, LOGITS[0], r"shape \(3,\)"),
        (LABELS[:0], LOGITS[:0], r"shape \(0, 3\)"),
    ],
)
def test_labels_and_logits_that_do_not_fit(labels, logits, message):
    with pytest.raises(ValueError, match=message):
        evaluation.scores(labels, logits)


def test_a_teacher_of_other_classes():
    with pytest.raises(ValueError, match="as many classes as `logits`. Received: 2 and 3"):
        evaluation.scores(LABELS % 2, LOGITS, LOGITS[:, :2])


# -- calibration -----------------------------------------------------------------------------------


def test_bins_hold_their_upper_edge():
    found = evaluation.reliability([0, 1, 0], [[0.5, 0.5], [0.5, 0.5], [0.6, 0.4]], bins=2)
    assert found == [
        {"low": 0.0, "high": 0.5, "confidence": 0.5, "accuracy": 0.5, "count": 2},
        {"low": 0.5, "high": 1.0, "confidence": pytest.approx(0.6), "accuracy": 1.0, "count": 1},
    ]
    assert calibration.bin_of(np.array([0.0, 1 / 15, np.nextafter(1 / 15, 1), 1.0])).tolist() == [
        *(0, 0, 1, 14),
    ]


def test_reliability_adds_up_to_the_calibration_error():
    labels, logits = drawn()
    probabilities = scipy.special.softmax(logits, 1)
    bins = evaluation.reliability(labels, probabilities)
    assert len(bins) == 15
    assert sum(one["count"] for one in bins) == 400
    assert bins[0] == {
        "low": 0.0, "high": 1 / 15, "confidence": None, "accuracy": None, "count": 0,
    }  # fmt: skip
    full = [one for one in bins if one["count"]]
    ece = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in full) / 400
    assert evaluation.scores(labels, logits)["ece"] == pytest.approx(ece)
    assert ece > 0.05


def test_reliability_of_what_are_no_probabilities():
    with pytest.raises(ValueError, match=r"in \[0, 1\]. Received: values in -1 ... 5. Of logits"):
        evaluation.reliability(LABELS, LOGITS)
    with pytest.raises(ValueError, match="`bins` must be an integer of at least 1"):
        evaluation.reliability(LABELS, np.full((6, 3), 1 / 3), bins=0)


def test_the_temperature_undoes_a_scale():
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, (4000, 4))
    # Labels drawn as the logits say: calibrated, but for the sample.
    labels = (scipy.special.softmax(logits, 1).cumsum(1) < random.random((4000, 1))).sum(1)
    found = evaluation.scores(labels, logits)
    assert found["temperature"] == pytest.approx(1.0, abs=0.05)
    scaled = evaluation.scores(labels, 3.0 * logits)
    assert scaled["temperature"] == pytest.approx(3.0 * found["temperature"], rel=1e-6)
    assert scaled["ece"] > 0.1
    assert scaled["ece_scaled"] == pytest.approx(found["ece_scaled"], abs=1e-6)
    assert scaled["ece_scaled"] < 0.03
    # The slope of the loss is 0 there: E[z_label] = E[sum p z].
    z = logits / found["temperature"]
    slope = (scipy.special.softmax(z, 1) * z).sum(1) - z[np.arange(4000), labels]
    assert abs(slope.mean()) < 1e-6


def test_no_example_is_scaled_by_a_temperature_that_it_was_fitted_to():
    labels, logits = drawn(200)
    scaled = logits.copy()
    scaled[::2] /= evaluation.scores(labels[1::2], logits[1::2])["temperature"]
    scaled[1::2] /= evaluation.scores(labels[::2], logits[::2])["temperature"]
    expected = evaluation.scores(labels, scaled)["ece"]
    assert evaluation.scores(labels, logits)["ece_scaled"] == pytest.approx(expected)


def test_the_temperature_has_bounds():
    sure = np.array([[1e9, 0.0], [0.0, 1e9]])
    # Right on none, however it is scaled: the flatter the better.
    assert evaluation.scores(np.array([1, 0]), sure)["temperature"] == pytest.approx(1e4, rel=1e-5)
    faint = 1e-6 * sure / 1e9
    assert evaluation.scores(np.array([0, 1]), faint)["temperature"] == pytest.approx(
        0.01, rel=1e-5
    )


# -- details ---------------------------------------------------------------------------------------


def test_golden_details():
    found = evaluation.details(LABELS, LOGITS)
    assert found["classes"][1] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "count": 2}
    assert found["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert len(found["reliability"]) == 15
    assert found["intervals"]["accuracy"] == list(evaluation.wilson(4, 6))


def test_intervals_are_where_they_should_be():
    labels, logits = drawn(2000)
    found, told = evaluation.scores(labels, logits), evaluation.details(labels, logits)
    for name in ("nll", "brier", "f1"):
        low, high = told["intervals"][name]
        assert low < found[name] < high
    probabilities = scipy.special.log_softmax(logits, 1)
    losses = -probabilities[np.arange(2000), labels]
    # Of a mean, the bootstrap and the normal interval agree.
    error = 1.96 * losses.std() / 2000**0.5
    expected = [losses.mean() - error, losses.mean() + error]
    assert told["intervals"]["nll"] == pytest.approx(expected, abs=0.15 * error)
    assert told == evaluation.details(labels, logits)


def test_resampled_f1_and_calibration_error_are_those_of_scores(monkeypatch):
    labels, logits = drawn()

    def once(function, *arrays):
        value = np.array(function(*arrays))
        return value, value

    monkeypatch.setattr(evaluation.metrics.intervals, "bootstrap", once)
    told, found = evaluation.details(labels, logits), evaluation.scores(labels, logits)
    for name in ("nll", "brier", "ece", "f1"):
        assert told["intervals"][name][0] == pytest.approx(found[name], rel=1e-12)


# -- comparison ------------------------------------------------------------------------------------


def test_compare():
    first = np.eye(2)[[0, 0, 1, 1, 1]]
    second = np.eye(2)[[0, 1, 0, 0, 1]]
    labels = np.array([0, 0, 1, 1, 0])
    found = evaluation.compare(labels, first, second)
    assert (found["only_first"], found["only_second"]) == (3, 0)
    assert found["difference"] == pytest.approx(3 / 5)
    assert found["standard_error"] == pytest.approx((0.6 * 0.4 / 5) ** 0.5)
    assert found["interval"] == list(evaluation.newcombe(3, 0, 1, 1))
    assert found["p"] == 0.25
    with pytest.raises(ValueError, match="`second_logits` must be of the same examples"):
        evaluation.compare(labels, first, second[:3])


# -- similarity of features ------------------------------------------------------------------------


def test_cka_in_gram_form_and_by_hand():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 5)), random.normal(size=(30, 3))
    y[:, 0] += x[:, 1]
    # HSIC of the n x n Gram matrices, centred from both sides (Kornblith et al., equation 3).
    centre = np.eye(30) - 1 / 30
    k, g = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = np.sum(k * g) / np.sqrt(np.sum(k * k) * np.sum(g * g))
    assert evaluation.linear_cka(x, y) == pytest.approx(expected, rel=1e-12)
    assert 0.1 < expected < 0.9
    # One feature each: the squared correlation, of (-1, 0, 1) and (-1, 2, -1) 0; of (0, 0, 1) 3/4.
    one = np.array([[-1.0], [0.0], [1.0]])
    assert evaluation.linear_cka(one, np.array([[-1.0], [2.0], [-1.0]])) == pytest.approx(0.0)
    assert evaluation.linear_cka(one, np.array([[0.0], [0.0], [1.0]])) == pytest.approx(0.75)


def test_cka_ignores_rotation_scale_and_offset():
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 4))
    rotation = np.linalg.qr(random.normal(size=(4, 4)))[0]
    assert evaluation.linear_cka(x, 7.0 * x @ rotation + 3.0) == pytest.approx(1.0, rel=1e-12)
    assert evaluation.linear_cka(x, x.reshape(20, 2, 2)) == pytest.approx(1.0, rel=1e-12)
    assert evaluation.linear_cka(x, np.concatenate([x, 0 * x], 1)) == pytest.approx(1.0)


def test_cka_errors():
    x = np.arange(6.0).reshape(3, 2)
    with pytest.raises(ValueError, match="`y` must differ from example to example. Received: 3"):
        evaluation.linear_cka(x, np.full((3, 2), 0.1))
    with pytest.raises(ValueError, match="same examples. Received: 3 and 2 rows"):
        evaluation.linear_cka(x, x[:2])
    with pytest.raises(ValueError, match="`x` must be finite features.* with NaN"):
        evaluation.linear_cka(x * np.nan, x)
    with pytest.raises(ValueError, match=r"`x` must be finite features.*shape \(3,\)\."):
        evaluation.linear_cka(x[:, 0], x)


def test_feature_similarity_is_of_the_inputs_of_the_last_dense_layer():
    x, _ = pictures(20)
    student, teacher = conv_net(), conv_net(6)

    def features(model):
        return keras.Model(model.inputs[0], model.get_layer("pool").output)(x).numpy()

    expected = evaluation.linear_cka(features(student), features(teacher))
    assert evaluation.feature_similarity(student, teacher, x) == pytest.approx(expected, abs=1e-6)
    assert evaluation.feature_similarity(student, student, x) == pytest.approx(1.0)
    # Behind an activation, and inside another model.
    linear = keras.layers.Activation("linear")(student.output)
    inputs = keras.Input((8, 8, 1))
    nested = keras.Sequential([inputs, keras.layers.Rescaling(1.0), student])
    wrapped = keras.Model(inputs, student(keras.layers.Rescaling(1.0)(inputs)))
    for same in (keras.Model(student.inputs, linear), nested, wrapped):
        assert evaluation.feature_similarity(same, teacher, x) == pytest.approx(expected, abs=1e-6)


def test_feature_similarity_where_there_is_nothing_to_compare():
    x, _ = pictures(20)
    model = conv_net()
    inputs = keras.Input((8, 8, 1))
    convolution = keras.layers.Conv2D(3, 8)(inputs)
    without = keras.Model(inputs, keras.layers.Flatten()(convolution))
    two = keras.Model(inputs, [model(inputs), model(inputs)])
    assert evaluation.feature_similarity(model, without, x) is None
    assert evaluation.feature_similarity(two, model, x) is None
    dead = conv_net()
    dead.get_layer("b1").set_weights([np.zeros(8), -np.ones(8), np.zeros(8), np.ones(8)])
    assert evaluation.feature_similarity(dead, model, x) is None
    assert evaluation.feature_similarity(model, model, x[:1]) is None


# -- evaluate --------------------------------------------------------------------------------------


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
    cka = evaluation.feature_similarity(model, teacher, x)
    expected = evaluation.scores(y, model(x).numpy(), teacher(x).numpy())
    assert found == {**expected, "cka": cka}
    assert 0.0 < cka < 1.0
    assert all(type(value) is float for value in found.values())


def test_a_file_is_measured_as_its_model_is(tmp_path):
    x, y = pictures(40)
    student, teacher = conv_net(), conv_net(6)
    student.save(tmp_path / "student.keras")
    teacher.save(tmp_path / "teacher.keras")
    path = export.tflite(student, tmp_path / "student.tflite")
    files = [tmp_path / "student.keras", str(path)]
    kept, exported = (
        kdkeras.evaluate(file, (x, y), teacher=tmp_path / "teacher.keras") for file in files
    )
    assert kept == pytest.approx(kdkeras.evaluate(student, (x, y), teacher=teacher))
    assert "cka" in kept
    del kept["cka"]
    assert exported == pytest.approx(kept, rel=1e-5, abs=1e-5)
    told = [evaluation.details(y, runtimes.load(file)(x)) for file in files]
    for name, interval in told[0]["intervals"].items():
        assert told[1]["intervals"][name] == pytest.approx(interval, abs=1e-5)
    assert told[0]["confusion"] == told[1]["confusion"]


def test_cost(tmp_path, monkeypatch):
    model = conv_net()
    model.save(tmp_path / "m.keras")
    monkeypatch.setattr(latency, "measure", lambda paths: [{"of": str(path)} for path in paths])
    path = tmp_path / "m.keras"
    assert evaluation.cost(path) == {
        "bytes": path.stat().st_size,
        "parameters": model.count_params(),
        "macs": kdkeras.models.macs(model),
        "latency": {"of": str(path)},
    }
    folder = tmp_path / "saved"
    model.export(folder, verbose=False)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert evaluation.cost(folder, timed=False) == {"bytes": size}
    inputs = keras.Input((None, None, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(pooled)).save(path)
    assert evaluation.cost(path, timed=False)["macs"] is None
    with pytest.raises(ValueError, match="which does not exist"):
        evaluation.cost(tmp_path / "nothing.keras")


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
