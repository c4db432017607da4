"""Steps per call: what is chosen, exact whatever is chosen, traced once; XLA where it pays."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import classifier, conv_net, examples, pictures, sparse_loss

import kdkeras
from kdkeras import Term, losses, perturbations, steps

PER_EPOCH = 11  # batches of 4 in 41 examples, the last of one


def make(student=None, teacher=None, **options):
    compiled = {
        name: options.pop(name)
        for name in ("steps_per_execution", "jit_compile", "run_eagerly")
        if name in options
    }
    student, teacher = student or classifier(4), teacher or classifier(8)
    d = kdkeras.Distiller(student=student, teacher=teacher, **options)
    optimizer = keras.optimizers.Adam(0.01)
    d.compile(optimizer, loss=sparse_loss(), metrics=["accuracy"], **compiled)
    return d


def iterations(d):
    return int(d.optimizer.iterations.numpy())


def batches(*, endless=False, known=True):
    data = tf.data.Dataset.from_tensor_slices(examples(41)).batch(4)
    data = data.repeat() if endless else data
    return data if known else data.filter(lambda *batch: True)


def depthwise_net(layer):
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Flatten()])
    return keras.Model(image, keras.layers.Dense(3)(inner(image)))


@pytest.fixture
def gpu(monkeypatch):
    """Choices are made as on a GPU."""
    monkeypatch.setattr(steps, "on_cpu", lambda: False)


class Own(keras.callbacks.Callback):
    """Looks at batches."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(batch)


# -- what is chosen ------------------------------------------------------------------------------


def test_one_on_a_cpu_and_what_is_given_everywhere():
    assert steps.on_cpu()
    assert steps.steps_per_execution() == 1
    assert steps.steps_per_execution(8, lengths=(3,), callbacks=[Own()], run_eagerly=True) == 8
    assert make().steps_per_execution == 1
    with pytest.raises(ValueError, match="`steps_per_execution` must be an integer.*Received.*0"):
        make(steps_per_execution=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 16),
        ({"run_eagerly": True}, 1),
        ({"lengths": (None, None)}, 16),
        ({"lengths": (100, None)}, 4),
        ({"lengths": (320, 24)}, 8),
        ({"lengths": (11,)}, 1),
        ({"callbacks": [Own()]}, 1),
        ({"callbacks": Own()}, 1),
        ({"callbacks": keras.callbacks.CallbackList([Own()])}, 1),
        ({"callbacks": [keras.callbacks.LambdaCallback(on_train_batch_end=print)]}, 1),
        ({"callbacks": [keras.callbacks.LambdaCallback(on_epoch_end=print)]}, 16),
        ({"callbacks": [None, keras.callbacks.TerminateOnNaN()]}, 16),
    ],
)
def test_several_on_a_gpu(gpu, options, expected):
    assert steps.steps_per_execution(**options) == expected


def test_a_fit_as_on_a_gpu_keeps_to_the_steps_it_is_told(gpu):
    """Keras alone runs 12 steps of 11, and evaluates 16 of 5."""
    d = make()
    assert d.steps_per_execution == 16
    d.fit(batches(), verbose=0)
    assert (d.steps_per_execution, iterations(d)) == (16, PER_EPOCH)
    d.fit(batches(endless=True), steps_per_epoch=10, verbose=0)
    assert (d.steps_per_execution, iterations(d)) == (2, PER_EPOCH + 10)
    own = Own()
    d.fit(batches(), verbose=0, callbacks=[own])
    assert (d.steps_per_execution, own.ends) == (1, list(range(PER_EPOCH)))
    d.fit(batches(), verbose=0)
    exact = d.evaluate(batches().take(5), verbose=0, return_dict=True)
    cut = d.evaluate(batches(endless=True), steps=5, verbose=0, return_dict=True)
    np.testing.assert_allclose([cut[k] for k in exact], list(exact.values()), rtol=1e-6)
    assert d.steps_per_execution == 16
    whole = d.evaluate(batches(), verbose=0, return_dict=True)
    logs = d.fit(
        batches(), validation_data=batches(endless=True), validation_steps=5, verbose=0
    ).history
    after = d.evaluate(batches().take(5), verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["val_loss"], after["loss"], rtol=1e-6)
    assert whole["loss"] != after["loss"]


def test_predict_as_on_a_gpu_is_traced_for_one_step(gpu, monkeypatch):
    x, _ = examples(41)
    traced = []
    step = kdkeras.Distiller.predict_step
    monkeypatch.setattr(
        kdkeras.Distiller, "predict_step", lambda self, data: traced.append(1) or step(self, data)
    )
    d = make()
    logits = d.predict(x, batch_size=4, verbose=0)
    np.testing.assert_allclose(logits, d.student(x), atol=1e-6)
    # Batches of 4, of 1, of any size. Sixteen steps a call would trace 16 + 11 copies.
    assert len(traced) <= 3
    assert d.steps_per_execution == 16


def test_a_file_holds_what_was_given_and_chooses_anew(tmp_path, monkeypatch):
    x, y = examples(16)
    for number, jit in ((None, "auto"), (5, False)):
        given = {"jit_compile": jit} if number is None else {"steps_per_execution": number}
        if jit is False:
            given["jit_compile"] = False
        monkeypatch.setattr(steps, "on_cpu", lambda: False)
        d = make(**given)
        d.fit(x, y, verbose=0)
        config = d.get_compile_config()
        assert (config["steps_per_execution"], config["jit_compile"]) == (number, jit)
        d.save(tmp_path / "d.keras")
        monkeypatch.setattr(steps, "on_cpu", lambda: True)
        loaded = keras.models.load_model(tmp_path / "d.keras")
        assert loaded.steps_per_execution == (number or 1)
        assert loaded.jit_compile is False


def test_arguments_of_compile_by_position():
    d = kdkeras.Distiller(student=classifier(4), teacher=classifier(8))
    # optimizer, loss, loss_weights, metrics, weighted_metrics, run_eagerly, steps, jit
    d.compile("sgd", sparse_loss(), None, ["accuracy"], None, False, 3, False)
    assert (d.steps_per_execution, d.jit_compile) == (3, False)
    assert d.get_compile_config()["steps_per_execution"] == 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'steps'"):
        d.compile("sgd", sparse_loss(), steps=3)


# -- exact, however many steps a call runs -------------------------------------------------------


def pipeline():
    x, y = pictures(41)
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return kdkeras.data.batches(data, 4, seed=3, perturbation=perturbations.Gaussian(stddev=0.1))


def trained(data, validation=None, **options):
    keras.utils.set_random_seed(1)
    student, teacher = conv_net(4), conv_net(6)
    ramp = keras.optimizers.schedules.PolynomialDecay(0.9, 30, 0.1)
    noise = perturbations.Gaussian(stddev=0.1)
    terms = [
        Term(losses.SoftTargets(temperature=3.0)),
        Term(losses.AttentionTransfer(), teacher_layer="r0", student_layer="r0"),
    ]
    d = make(student, teacher, alpha=ramp, terms=terms, perturbation=noise, **options)
    logs = d.fit(data, epochs=2, verbose=0, validation_data=validation).history
    return d, logs


def test_several_steps_a_call_give_the_same_weights_and_logs():
    x, y = pictures(41)
    validation = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    d, logs = trained(pipeline(), validation)
    logits = d.student(x)
    for number in (4, 5):
        other, found = trained(pipeline(), validation, steps_per_execution=number)
        assert iterations(other) == 2 * PER_EPOCH
        for name, values in logs.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)
        for weight, expected in zip(other.get_weights(), d.get_weights(), strict=True):
            # Bit for bit here; where sums are split over threads, the last place may differ.
            np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        other.evaluate(validation, verbose=0)[0], logs["val_loss"][-1], rtol=1e-5
    )
    np.testing.assert_allclose(other.predict(validation, verbose=0), logits, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 4}, {"jit_compile": True}])
def test_data_of_unknown_length_count_no_step_that_never_was(options):
    """With `keras.Model` alone and one step a call, iterations are 12 an epoch of 11 batches."""
    teacher, start = classifier(8), classifier(4).get_weights()
    ends = []
    for known in (False,) if options else (False, True):
        student = classifier(4)
        student.set_weights(start)
        d = make(student, teacher, **options)
        d.fit(batches(known=known), epochs=2, verbose=0)
        assert iterations(d) == 2 * PER_EPOCH
        ends.append(student.get_weights())
    for weight, other in zip(ends[0], ends[-1], strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [1, 4])
def test_a_bad_batch_is_named_within_a_call(number):
    x, y = examples(41)
    y[30] = 7
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    with pytest.raises(ValueError, match=r"Labels must be in 0\.\.2.*largest label 0 7"):
        make(steps_per_execution=number).fit(data, verbose=0)


def test_class_weights_of_a_second_fit_count_with_several_steps():
    x, y = examples(41)
    d = make(student=classifier(4, batchnorm=False), steps_per_execution=4)
    d.optimizer.learning_rate = 0.0
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    logits = tf.constant(d.student(x))
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits).numpy()
    for class_weight in ({0: 3.0}, {1: 0.0}, None):
        weights = np.float32([(class_weight or {}).get(label, 1.0) for label in y])
        logs = d.fit(data, class_weight=class_weight, verbose=0).history
        np.testing.assert_allclose(logs["hard"], [(weights * each).mean()], rtol=1e-5)


# -- traced once ---------------------------------------------------------------------------------


def schedule(first, last):
    return keras.optimizers.schedules.PolynomialDecay(first, 30, last)


HINT = {"teacher_layer": "r0", "student_layer": "r0"}
CASES = {
    "arrays": {},
    "schedules, several": {
        "alpha": schedule(0.9, 0.1),
        "terms": [Term(losses.SoftTargets(temperature=schedule(8.0, 1.0)), schedule(0.0, 2.0))],
        "steps_per_execution": 4,
    },
    "perturbation, layers": {
        "perturbation": perturbations.Gaussian(stddev=0.1),
        "terms": [Term(keras.losses.MeanSquaredError(), **HINT)],
    },
    "batches": {},
    "class weights": {},
}


@pytest.mark.parametrize("case", CASES)
def test_the_step_is_traced_in_the_first_epoch_alone(case, monkeypatch):
    traced = {"train": 0, "test": 0}

    def count(name):
        step = getattr(kdkeras.Distiller, f"{name}_step")

        def counting(self, data):
            traced[name] += 1
            return step(self, data)

        monkeypatch.setattr(kdkeras.Distiller, f"{name}_step", counting)

    count("train")
    count("test")
    x, y = pictures(41)
    d = make(conv_net(4), conv_net(6), **CASES[case])
    seen = []
    options = {"class_weight": {0: 2.0}} if case == "class weights" else {}
    if case != "batches":
        options |= {"batch_size": 4}
    d.fit(
        *((pipeline(),) if case == "batches" else (x, y)),
        **options,
        epochs=4,
        verbose=0,
        validation_data=(x, y),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append({**traced}))],
    )
    # Keras traces the first step twice: once makes the optimizer's and metrics' variables, which
    # is never run; then without making any. What runs was traced once.
    assert seen == [{"train": 2, "test": 1}] * 4
    for function in (d.train_function, d.test_function):
        function = inspect.getclosurevars(function).nonlocals["multi_step_on_iterator"]
        assert function.experimental_get_tracing_count() == 1


# -- XLA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.DepthwiseConv2D(3, padding="same"),
        keras.layers.SeparableConv2D(4, 3, padding="same"),
    ],
)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_depthwise_convolutions_by_xla_on_a_cpu(role, layer, monkeypatch):
    models = {"student": conv_net(4, channels=3), "teacher": conv_net(6, channels=3)}
    models[role] = depthwise_net(layer)
    message = f"20 to 100 times slower.*Leave `jit_compile` out.*1 depthwise.*'{layer.name}'"
    with pytest.warns(UserWarning, match=message) as warned:
        d = make(**models, jit_compile=True)
    assert d.jit_compile is True
    assert [warning.filename for warning in warned] == [__file__]
    assert make(**models).jit_compile is False
    # A GPU that is there and hidden: Keras would say yes.
    assert steps.jit_compile("auto", models.values()) is False
    monkeypatch.setattr(steps, "on_cpu", lambda: False)
    assert steps.jit_compile("auto", models.values()) == "auto"
    assert make(**models, jit_compile=True).jit_compile is True


def test_xla_is_kerass_choice_otherwise():
    models = [conv_net(4), None, conv_net(6)]
    for given in ("auto", True, False, None):
        assert steps.jit_compile(given, models) == given
    assert make().jit_compile is False


class Host(keras.layers.Layer):
    """Runs in NumPy."""

    def __init__(self, **options):
        super().__init__(**options)
        self.supports_jit = False

    def call(self, x):
        return x


def test_xla_and_what_it_cannot_compile():
    def function(x):
        return np.zeros((len(x), 3), "float32")

    inputs_ = keras.Input((6,))
    host = keras.Model(inputs_, keras.layers.Dense(3)(Host(name="host")(inputs_)))
    message = "`jit_compile` must be left out.*Received: jit_compile=True with "
    for teacher, reason in ((function, "a teacher known by its"), (host, "layer 'host'")):
        with pytest.raises(ValueError, match=message + reason):
            make(teacher=teacher, jit_compile=True)
        d = make(teacher=teacher)
        assert d.jit_compile is False
        assert steps.jit_compile("auto", (d.student, d.teacher)) is False
