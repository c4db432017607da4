"""Kinds of teacher: several, one a head, other sizes and inputs, predictions, peers, averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import classifier, conv_net, examples, pictures, sparse_loss
from test_losses_logits import reference

import kdkeras
from kdkeras import Term, losses, teachers

pytestmark = pytest.mark.core


def make(student, teacher=None, **options):
    compile_options = {"loss": sparse_loss(), "metrics": ["accuracy"]}
    for name in ("loss", "metrics", "optimizer"):
        if name in options:
            compile_options[name] = options.pop(name)
    optimizer = compile_options.pop("optimizer", None) or keras.optimizers.SGD(0.1)
    d = kdkeras.Distiller(student=student, teacher=teacher, **options)
    d.compile(optimizer, **compile_options)
    return d


def softmax(z):
    e = np.exp(np.asarray(z, "float64") - np.max(z, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# -- several teachers ----------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_probabilities_are_averaged_never_logits(weights):
    x, _ = examples(16)
    models = [classifier(4), classifier(8)]
    models[1].layers[-1].kernel.assign(50.0 * models[1].layers[-1].kernel)  # another scale
    shares = np.array(weights or [1.0, 1.0]) / sum(weights or [1.0, 1.0])
    mean = sum(share * softmax(model(x)) for share, model in zip(shares, models, strict=True))
    ensemble = teachers.ensemble(models, weights)
    np.testing.assert_allclose(softmax(ensemble(x)), mean, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(np.exp(ensemble(x)).sum(-1), 1.0, rtol=1e-5)
    of_logits = softmax(sum(np.asarray(model(x)) for model in models) / 2)
    assert np.abs(of_logits - mean).max() > 0.1


def test_mean_probabilities_stay_finite_where_probabilities_underflow():
    logits = [tf.constant([[0.0, 200.0]]), tf.constant([[0.0, 300.0]])]
    layer = teachers.MeanProbabilities()
    expected = [[np.logaddexp(-200.0, -300.0) - np.log(2.0), 0.0]]
    np.testing.assert_allclose(layer(logits), expected, rtol=1e-6, atol=1e-6)
    layer = teachers.MeanProbabilities([1.0, 3.0])
    again = teachers.MeanProbabilities.from_config(layer.get_config())
    np.testing.assert_array_equal(layer(logits), again(logits))


def test_a_list_of_teachers_of_other_sizes_and_equal_names(tmp_path):
    x, y = pictures(size=16)
    models = [conv_net(4, size=16, name="net"), conv_net(6, size=8, name="net")]
    weights = [model.get_weights() for model in models]
    student = conv_net(4, size=16, batchnorm=False)
    small = tf.image.resize(x, (8, 8), antialias=True)
    mean = (softmax(models[0](x)) + softmax(models[1](small))) / 2
    expected = reference(np.log(mean), student(x), 4.0)[0].mean()
    d = make(student, models)
    logs = d.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["soft_targets"], expected, rtol=1e-4)
    for model, before in zip(models, weights, strict=True):
        for weight, old in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, old)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    np.testing.assert_allclose(loaded.teacher(x), d.teacher(x), rtol=1e-5, atol=1e-6)


def test_layers_of_one_of_several_teachers():
    x, y = pictures()
    models = [conv_net(4), conv_net(6)]
    term = Term(losses.AttentionTransfer(), teacher_layer="teacher_2/r0", student_layer="r0")
    student = conv_net(4, batchnorm=False)
    inner = [keras.Model(m.input, m.get_layer("r0").output)(x) for m in (models[1], student)]
    expected = tf.reduce_mean(losses.attention_transfer(*inner))
    logs = make(student, models, terms=[term]).train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["attention_transfer"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("models", "weights", "message"),
    [
        ([], None, "At least one teacher"),
        ([classifier(4), classifier(4, classes=4)], None, r"same number of classes.*\[3, 4\]"),
        ([classifier(4)], [1.0, 2.0], "2 weights for 1 models"),
        ([classifier(4)], [0.0], "`weights` must be positive"),
        ([lambda x: x], None, "must be Functional or Sequential"),
        (
            [keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, "softmax")])],
            None,
            "ends in softmax",
        ),
    ],
)
def test_bad_ensembles(models, weights, message):
    with pytest.raises(ValueError, match=message):
        teachers.ensemble(models, weights)


# -- sizes and inputs ----------------------------------------------------------------------------


@pytest.mark.parametrize(("of_student", "of_teacher"), [(8, 16), (16, 8)])
def test_teacher_and_student_of_other_sizes(of_student, of_teacher):
    x, y = pictures(size=16)
    student, teacher = conv_net(4, size=of_student, batchnorm=False), conv_net(6, size=of_teacher)
    x_student = tf.image.resize(x, (of_student,) * 2, antialias=True)
    x_teacher = tf.image.resize(x, (of_teacher,) * 2, antialias=True)
    d = make(student, teacher)
    expected = reference(teacher(x_teacher), student(x_student), 4.0)[0].mean()
    logs = d.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["soft_targets"], expected, rtol=1e-4)
    np.testing.assert_allclose(d.predict(x, verbose=0), student(x_student), rtol=1e-4, atol=1e-5)
    accuracy = (np.argmax(student(x_student), -1) == y).mean()
    assert d.evaluate(x, y, return_dict=True, verbose=0)["accuracy"] == pytest.approx(accuracy)


def test_noise_is_made_at_the_students_size():
    x, y = pictures(size=16)
    noise = kdkeras.perturbations.Gaussian(stddev=0.1, seed=0)
    d = make(conv_net(4, size=8), conv_net(4, size=16), perturbation=noise)
    assert np.isfinite(d.train_on_batch(x, y)).all()
    d = make(conv_net(4), conv_net(4, size=16), perturbation=noise, teacher_view="perturbed")
    assert np.isfinite(d.train_on_batch(x, y)).all()


def two_inputs(width):
    image, text = keras.Input((8, 8, 1), name="image"), keras.Input((5,), name="text")
    x = keras.layers.Concatenate()([keras.layers.Flatten()(image), text])
    x = keras.layers.Dense(width, activation="relu", name="hidden")(x)
    return keras.Model({"image": image, "text": text}, keras.layers.Dense(3)(x))


@pytest.mark.parametrize("form", ["arrays", "dataset"])
@pytest.mark.parametrize("students", ["both", "one"])
def test_models_of_several_inputs(form, students, tmp_path):
    x, y = pictures()
    x = {"image": x, "text": np.ones((12, 5), "float32")}
    teacher = two_inputs(8)
    # A student of the picture alone learns from a teacher that reads the text as well.
    student = two_inputs(4) if students == "both" else conv_net(4, batchnorm=False)
    of_student = student(x if students == "both" else x["image"])
    expected = reference(teacher(x), of_student, 4.0)[0].mean()
    d = make(student, teacher)
    data = (x, y) if form == "arrays" else (tf.data.Dataset.from_tensor_slices((x, y)).batch(12),)
    history = d.fit(*data, verbose=0).history
    np.testing.assert_allclose(history["soft_targets"], [expected], rtol=1e-4)
    assert d.predict(x, verbose=0).shape == (12, 3)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), d.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_inputs_that_do_not_fit_and_noise_on_several():
    with pytest.raises(ValueError, match="must take the same inputs.*resized"):
        kdkeras.Distiller(student=conv_net(4, channels=3), teacher=conv_net(4))
    x, y = pictures()
    x = {"image": x, "text": np.ones((12, 5), "float32")}
    noise = kdkeras.perturbations.Gaussian(stddev=0.1)
    d = make(two_inputs(4), two_inputs(8), perturbation=noise)
    with pytest.raises(ValueError, match="`perturbation` works on models of one input"):
        d.fit(x, y, verbose=0)
    bad = {**x, "text": np.full((12, 5), np.nan, "float32")}
    with pytest.raises(ValueError, match="`x` must be finite"):
        make(two_inputs(4), two_inputs(8)).fit(bad, y, verbose=0)


def test_teachers_of_heads_each_take_their_own_inputs():
    image, rows = keras.Input((8, 8, 1), name="image"), keras.Input((5,), name="text")
    x = keras.layers.Concatenate()([keras.layers.Flatten()(image), rows])
    outputs = {"shape": keras.layers.Dense(3)(x), "color": keras.layers.Dense(2)(x)}
    student = keras.Model({"image": image, "text": rows}, outputs)
    text = keras.Input((5,), name="text")
    own = {
        "shape": conv_net(4, size=16),  # of the picture alone, and larger
        "color": keras.Model({"text": text}, keras.layers.Dense(2)(text)),
    }
    x, y = pictures(size=16)
    x = {"image": x, "text": np.random.default_rng(0).random((12, 5)).astype("float32")}
    small = {"image": tf.image.resize(x["image"], (8, 8), antialias=True).numpy()}
    of_student = student({**x, **small})
    expected = reference(own["shape"](x["image"]), of_student["shape"], 4.0)[0].mean()
    expected += reference(own["color"]({"text": x["text"]}), of_student["color"], 4.0)[0].mean()
    d = make(student, own, loss=two_losses(), metrics=None)
    history = d.fit(x, {"shape": y, "color": y % 2}, batch_size=12, verbose=0).history
    np.testing.assert_allclose(history["soft_targets"], [expected], rtol=1e-4)


def test_teachers_of_inputs_that_cannot_be_told_apart():
    with pytest.raises(ValueError, match="must take the same inputs.*told apart by name"):
        teachers.one_a_head({"shape": conv_net(4), "color": classifier(4)})


# -- predictions alone ---------------------------------------------------------------------------


def test_a_function_teaches(tmp_path):
    x, y = examples(16)
    private = classifier(8)
    student = classifier(4, batchnorm=False)
    expected = reference(private(x), student(x), 4.0)[0].mean()
    d = make(student, lambda batch: private(batch).numpy())
    history = d.fit(x, y, batch_size=16, verbose=0).history
    np.testing.assert_allclose(history["soft_targets"], [expected], rtol=1e-4)
    assert not d.supports_jit
    # Its code is not saved: the loaded Distiller says what it needs.
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.teacher is None
    with pytest.raises(ValueError, match="Without a `teacher`, the targets must hold"):
        loaded.fit(x, y, verbose=0)
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.fit(x, {"label": y, "logits": private(x).numpy()}, verbose=0)


@pytest.mark.parametrize("wrong", [np.zeros((16, 4)), np.zeros(16), np.full((16, 3), np.nan)])
def test_a_function_that_answers_wrongly(wrong):
    x, y = examples(16)
    d = make(classifier(4), lambda batch: wrong)
    with pytest.raises(ValueError, match="^A teacher's function must give finite logits of shape"):
        d.fit(x, y, batch_size=16, verbose=0)


def test_recorded_probabilities_are_taken_for_what_they_are():
    x, y = examples(16)
    private = classifier(8)
    student = classifier(4, batchnorm=False)
    probabilities = softmax(private(x)).astype("float32")
    expected = reference(private(x), student(x), 4.0)[0].mean()
    d = make(student)
    history = d.fit(x, {"label": y, "probabilities": probabilities}, batch_size=16, verbose=0)
    np.testing.assert_allclose(history.history["soft_targets"], [expected], rtol=1e-3)
    # Answers rounded to 0 and 1 stay finite.
    rounded = np.round(probabilities)
    assert np.isfinite(d.fit(x, {"label": y, "probabilities": rounded}, verbose=0).history["loss"])


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"probabilities": np.full((16, 3), -1.0)}, r"'probabilities' must lie in \[0, 1\]"),
        ({"probabilities": np.full((16, 3), 2.0)}, r"'probabilities' must lie in \[0, 1\]"),
        ({"probabilities": np.full((16, 4), 0.25)}, "'probabilities' must be of 3 classes"),
        ({"logits": np.zeros((16, 7))}, r"'logits' must be of 3 classes.*\(16, 7\)"),
    ],
)
def test_recorded_answers_that_are_wrong(recorded, message):
    x, y = examples(16)
    targets = {"label": y, **{name: value.astype("float32") for name, value in recorded.items()}}
    with pytest.raises(ValueError, match=message):
        make(classifier(4)).fit(x, targets, verbose=0)


def test_a_generator_without_labels_at_an_alpha_that_needs_them():
    x, _ = examples(16)
    with pytest.raises(ValueError, match="`y` must be given.*unless `alpha` is 0.*alpha=0.1"):
        make(classifier(4), classifier(8)).fit(
            ((x,) for _ in range(2)), steps_per_epoch=2, verbose=0
        )


@pytest.mark.parametrize("given", ["resnet.keras", 3, keras.layers.Dense])
def test_what_is_no_teacher(given):
    with pytest.raises(ValueError, match="`teacher` must be a `keras.Model`, a list of them"):
        kdkeras.Distiller(student=classifier(4), teacher=given)


def test_unlabelled_images_with_alpha_0():
    x, y = examples(16)
    for data in ((x,), (tf.data.Dataset.from_tensor_slices(x).batch(8),)):
        student, teacher = classifier(4, batchnorm=False), classifier(8)
        expected = reference(teacher(x), student(x), 4.0)[0].mean()
        d = make(student, teacher, alpha=0.0, loss=None, optimizer=keras.optimizers.SGD(0.0))
        history = d.fit(*data, epochs=2, validation_data=(x, y), verbose=0).history
        np.testing.assert_allclose(history["loss"], [expected] * 2, rtol=1e-4)
        accuracy = (np.argmax(student(x), -1) == y).mean()
        np.testing.assert_allclose(history["val_accuracy"], [accuracy] * 2, rtol=1e-6)
        assert "accuracy" not in history or len(history["accuracy"]) < 2
    with pytest.raises(ValueError, match="`y` must be given.*unless `alpha` is 0"):
        make(classifier(4), classifier(8)).fit(x, verbose=0)
    # A loss may be there for `evaluate` alone.
    d = make(classifier(4), classifier(8), alpha=0.0)
    history = d.fit(x, validation_data=(x, y), verbose=0).history
    assert history["hard"] == [0.0]
    assert history["val_loss"][0] > 0
    recorded = {"label": None, "probabilities": np.full((16, 3), 1 / 3, "float32")}
    assert d.fit(x, recorded, verbose=0).history["loss"][0] > 0


# -- heads ---------------------------------------------------------------------------------------


def two_heads(width, dtype=None):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(width, activation="relu")(inputs)
    heads = {"shape": keras.layers.Dense(3)(x), "color": keras.layers.Dense(2)(x)}
    return keras.Model(inputs, heads)


def two_losses():
    return {"shape": sparse_loss(), "color": sparse_loss()}


@pytest.mark.parametrize("form", ["plain", "nested", "dataset"])
def test_each_head_learns_from_its_own_teacher(form, tmp_path):
    x, y = examples(16)
    labels = {"shape": y, "color": y % 2}
    student = two_heads(4)
    own = {"shape": classifier(8), "color": classifier(8, classes=2)}
    of_student = student(x)
    soft = {
        name: reference(model(x), of_student[name], 4.0)[0].mean() for name, model in own.items()
    }
    terms = [Term(losses.SoftTargets()), Term(losses.SoftTargets(name="again"), output="color")]
    d = make(student, own, terms=terms, loss=two_losses(), metrics=None)
    data = (x, labels) if form == "plain" else (x, {"label": labels})
    if form == "dataset":
        data = (tf.data.Dataset.from_tensor_slices(data).batch(16),)
    options = {} if form == "dataset" else {"batch_size": 16}
    history = d.fit(*data, verbose=0, **options).history
    np.testing.assert_allclose(history["soft_targets"], [sum(soft.values())], rtol=1e-4)
    np.testing.assert_allclose(history["again"], [soft["color"]], rtol=1e-4)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    found, expected = loaded.evaluate(x, labels, verbose=0), d.evaluate(x, labels, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_head_without_a_teacher_learns_from_labels_alone():
    x, y = examples(16)
    labels = {"shape": y, "color": y % 2}
    student = two_heads(4)
    teacher = classifier(8)
    expected = reference(teacher(x), student(x)["shape"], 4.0)[0].mean()
    kernel = student.layers[-1].kernel.numpy()
    d = make(student, {"shape": teacher}, loss=two_losses(), metrics=None)
    history = d.fit(x, labels, batch_size=16, verbose=0).history
    np.testing.assert_allclose(history["soft_targets"], [expected], rtol=1e-4)
    assert np.abs(student.layers[-1].kernel.numpy() - kernel).max() > 0


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"shape": classifier(4, classes=4)}, "student with 3 and a teacher with 4 for output"),
        ({"size": classifier(4)}, r"outputs that the student does not have: \['size'\]"),
        (classifier(4), "must have the same outputs"),
    ],
)
def test_heads_that_do_not_fit(teacher, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Distiller(student=two_heads(4), teacher=teacher)


def test_bad_labels_of_a_head_are_named():
    x, y = examples(16)
    own = {"shape": classifier(8), "color": classifier(8, classes=2)}
    d = make(two_heads(4), own, loss=two_losses(), metrics=None)
    with pytest.raises(ValueError, match="Labels of 'color' must be in 0..1.*0 2"):
        d.fit(x, {"shape": y, "color": y}, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((x, {"shape": y, "color": y})).batch(16)
    with pytest.raises(ValueError, match="Labels of 'color' must be in 0..1.*0 2"):
        d.fit(data, verbose=0)
    with pytest.raises(ValueError, match="The labels of 'color' must be given"):
        d.fit(x, {"shape": y}, verbose=0)
    with pytest.raises(ValueError, match="`class_weight` is for models of one output"):
        d.fit(x, {"shape": y, "color": y % 2}, class_weight={0: 1.0}, verbose=0)


# -- teachers that change ------------------------------------------------------------------------


def test_mutual_learning_is_two_steps_in_turn():
    x, y = examples(16)
    student, peer = classifier(4, batchnorm=False), classifier(8, batchnorm=False)
    of_student, of_peer = (keras.models.clone_model(model) for model in (student, peer))
    of_student.set_weights(student.get_weights())
    of_peer.set_weights(peer.get_weights())

    def step(model, other):
        target = tf.nn.softmax(other(x))
        with tf.GradientTape() as tape:
            logits = model(x)
            hard = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
            log_q = tf.nn.log_softmax(logits)
            soft = tf.reduce_mean(tf.reduce_sum(target * (tf.math.log(target) - log_q), -1))
            loss = 0.5 * hard + 0.5 * soft
        for variable, gradient in zip(
            model.trainable_variables,
            tape.gradient(loss, model.trainable_variables),
            strict=True,
        ):
            variable.assign_sub(0.1 * gradient)

    step(of_peer, of_student)
    step(of_student, of_peer)
    peer.compile(keras.optimizers.SGD(0.1), loss=sparse_loss(), metrics=["accuracy"])
    d = kdkeras.Distiller(**kdkeras.methods.mutual(student=student, teacher=peer))
    d.compile(keras.optimizers.SGD(0.1), loss=sparse_loss(), metrics=["accuracy"])
    history = d.fit(x, y, batch_size=16, verbose=0).history
    assert {"teacher_accuracy", "teacher_soft_targets", "soft_targets"} <= set(history)
    for mine, expected in ((student, of_student), (peer, of_peer)):
        for weight, wanted in zip(mine.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(weight, wanted, rtol=1e-4, atol=1e-6)


def test_an_average_of_past_students_as_the_teacher(tmp_path):
    x, y = examples(16)
    student = classifier(4)
    teacher = keras.models.clone_model(student)
    teacher.set_weights(student.get_weights())
    d = make(student, teacher, teacher_momentum=0.75)
    expected = [weight.copy() for weight in teacher.get_weights()]
    for _ in range(3):
        d.train_on_batch(x, y)
        expected = [
            0.75 * past + 0.25 * present
            for past, present in zip(expected, student.get_weights(), strict=True)
        ]
    for weight, wanted in zip(teacher.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-5, atol=1e-7)
    # It is part of the training's state: weights files carry it.
    d.save_weights(tmp_path / "d.weights.h5")
    other = make(
        keras.models.clone_model(student),
        keras.models.clone_model(student),
        teacher_momentum=0.75,
    )
    other.load_weights(tmp_path / "d.weights.h5")
    for weight, wanted in zip(other.teacher.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-5, atol=1e-7)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.teacher_momentum == 0.75
    np.testing.assert_allclose(loaded.teacher(x), teacher(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("momentum", "teacher", "message"),
    [
        (1.0, classifier(4), r"`teacher_momentum` must be None or a number in \[0, 1\)"),
        (0.9, classifier(5), "needs a teacher of the student's architecture"),
        (0.9, None, "needs a teacher of the student's architecture"),
    ],
)
def test_bad_averages(momentum, teacher, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Distiller(student=classifier(4), teacher=teacher, teacher_momentum=momentum)
