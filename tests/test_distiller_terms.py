"""Terms of layers in a Distiller: values, steps, adapters, forwards, saving, bad input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net, pictures, sparse_loss

import kdkeras
from kdkeras import Term, losses

pytestmark = pytest.mark.core


def make(terms, student=None, teacher=None, optimizer=None, **options):
    d = kdkeras.Distiller(
        student=student or conv_net(4, batchnorm=False),
        teacher=teacher or conv_net(6, batchnorm=False),
        terms=terms,
        **options,
    )
    d.compile(optimizer or keras.optimizers.SGD(0.1), loss=sparse_loss(), metrics=["accuracy"])
    return d


def hint(**options):
    layers = {"teacher_layer": "r0", "student_layer": "r0", **options}
    return Term(keras.losses.MeanSquaredError(name="hint"), **layers)


def inner(model, path):
    return keras.Model(model.input, model.get_layer(path).output)


class Calls(keras.layers.Layer):
    """Counts how often a model runs, and in which mode."""

    def __init__(self, **options):
        super().__init__(**options)
        options = {"shape": (), "dtype": "int32", "initializer": "zeros", "trainable": False}
        self.of_training = self.add_weight(name="of_training", **options)
        self.of_inference = self.add_weight(name="of_inference", **options)

    def call(self, x, training=False):
        (self.of_training if training else self.of_inference).assign_add(1)
        return x


def counted(width):
    inputs = keras.Input((8, 8, 1))
    calls = Calls()
    net = conv_net(width, name="net")
    return keras.Model(inputs, net(calls(inputs))), calls


# -- the equation --------------------------------------------------------------------------------


def test_values_and_gradient_step_equal_those_worked_out_apart():
    x, y = pictures()
    student, teacher = conv_net(4, batchnorm=False), conv_net(6, batchnorm=False)
    terms = [Term(losses.SoftTargets(temperature=2.0)), hint(weight=3.0)]
    d = make(terms, student, teacher, alpha=0.25)
    kernel, bias = (weight.numpy() for weight in d.adapters[0].weights)
    copy = keras.models.clone_model(student)
    copy.set_weights(student.get_weights())
    kernel_, bias_ = tf.Variable(kernel), tf.Variable(bias)
    wanted = inner(teacher, "r0")(x)
    with tf.GradientTape() as tape:
        logits = copy(x)
        adapted = tf.nn.conv2d(inner(copy, "r0")(x), kernel_, 1, "VALID") + bias_
        hard = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        p, q = tf.nn.softmax(teacher(x) / 2.0), tf.nn.log_softmax(logits / 2.0)
        soft = 4.0 * tf.reduce_mean(tf.reduce_sum(p * (tf.math.log(p) - q), -1))
        hint_value = tf.reduce_mean(tf.square(adapted - wanted))
        loss = 0.25 * hard + 0.75 * (soft + 3.0 * hint_value)
    variables = [*copy.trainable_variables, kernel_, bias_]
    gradients = tape.gradient(loss, variables)
    logs = d.train_on_batch(x, y, return_dict=True)
    expected = {"loss": loss, "hard": hard, "soft_targets": soft, "hint": hint_value}
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], float(value), rtol=1e-4, err_msg=name)
    after = [*student.trainable_variables, *d.adapters[0].weights]
    for variable, gradient, found in zip(variables, gradients, after, strict=True):
        np.testing.assert_allclose(found, variable - 0.1 * gradient, rtol=1e-3, atol=1e-6)


def test_several_layers_are_summed():
    x, y = pictures()
    terms = [
        Term(losses.AttentionTransfer(), teacher_layer=["r0", "r1"], student_layer=["r0", "r1"]),
        Term(losses.AttentionTransfer(), teacher_layer="r0", student_layer="r0"),
        Term(losses.AttentionTransfer(), teacher_layer="r1", student_layer="r1"),
    ]
    d = make(terms)
    assert d.adapters == []
    logs = d.train_on_batch(x, y, return_dict=True)
    parts = logs["attention_transfer_2"] + logs["attention_transfer_3"]
    np.testing.assert_allclose(logs["attention_transfer"], parts, rtol=1e-5)
    assert logs["attention_transfer"] > 0


def test_maps_meet_at_the_smaller_grid():
    x, y = pictures()
    student, teacher = conv_net(4, batchnorm=False), conv_net(6, batchnorm=False)
    loss = losses.SimilarityPreserving()
    # r0 is 4 x 4, r1 is 2 x 2.
    term = Term(losses.AttentionTransfer(), teacher_layer="r0", student_layer="r1")
    d = make([term, Term(loss, teacher_layer="r0", student_layer="pool")], student, teacher)
    small = tf.image.resize(inner(teacher, "r0")(x), (2, 2), antialias=True)
    of_student = inner(student, "r1")(x)
    expected = tf.reduce_mean(losses.attention_transfer(small, of_student))
    pooled = losses.similarity_preserving(inner(teacher, "r0")(x), inner(student, "pool")(x))
    logs = d.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["attention_transfer"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["similarity_preserving"], tf.reduce_mean(pooled), rtol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_an_adapter_of_ones_own(several):
    class Double(keras.layers.Layer):
        def call(self, x):
            return [2.0 * x[0]] if several else 2.0 * x

    x, y = pictures()
    student = conv_net(4, batchnorm=False)
    teacher = keras.models.clone_model(student)
    layers = ["r0"] if several else "r0"
    d = make([hint(teacher_layer=layers, student_layer=layers, adapter=Double())], student, teacher)
    difference = inner(teacher, "r0")(x) - 2.0 * inner(student, "r0")(x)
    logs = d.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["hint"], tf.reduce_mean(tf.square(difference)), rtol=1e-5)


def test_sample_weights_reach_terms_of_layers():
    x, y = pictures()
    terms = [hint(), Term(losses.AttentionTransfer(), teacher_layer="r0", student_layer="r0")]
    student, teacher = conv_net(4, batchnorm=False), conv_net(4, batchnorm=False)
    weights = np.arange(12, dtype="float32")
    of_teacher, of_student = (inner(model, "r0")(x) for model in (teacher, student))
    squared = np.square(of_teacher - of_student).mean((1, 2, 3))
    attention = losses.attention_transfer(of_teacher, of_student).numpy()
    d = make(terms, student, teacher)
    logs = d.train_on_batch(x, y, sample_weight=weights, return_dict=True)
    np.testing.assert_allclose(logs["hint"], (weights * squared).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["attention_transfer"], (weights * attention).mean(), rtol=1e-5)
    before = student.get_weights()
    d.reset_metrics()  # which older Keras leaves to add up
    logs = d.train_on_batch(x, y, sample_weight=0.0 * weights, return_dict=True)
    assert logs["loss"] == 0.0
    for weight, old in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_float32s_gradients(policy):
    x, y = pictures()
    keras.config.set_dtype_policy(policy)
    student = conv_net(4, batchnorm=False)
    keras.config.set_dtype_policy("float32")
    plain, teacher = conv_net(4, batchnorm=False), conv_net(6, batchnorm=False)
    plain.set_weights(student.get_weights())
    terms = [
        hint(weight=0.1),
        Term(losses.RelationalDistance(), teacher_layer="pool", student_layer="pool"),
    ]
    steps, adapter = [], None
    for model in (student, plain):
        d = make(terms, model, teacher)
        if adapter is None:
            adapter = d.adapters[0].get_weights()
        d.adapters[0].set_weights(adapter)
        before = model.get_weights()
        logs = d.train_on_batch(x, y, return_dict=True)
        assert np.isfinite(logs["loss"])
        after = model.get_weights()
        steps.append(np.concatenate([(a - b).ravel() for a, b in zip(after, before, strict=True)]))
    error = np.linalg.norm(steps[0] - steps[1]) / np.linalg.norm(steps[1])
    assert error < (0.01 if policy == "mixed_float16" else 0.1)


def test_xla_gives_the_same_values():
    x, y = pictures()
    maps = {"teacher_layer": "r0", "student_layer": "r1"}
    pool = {"teacher_layer": "pool", "student_layer": "pool"}
    terms = [
        *(Term(losses.SoftTargets(standardize=True)), Term(losses.Decoupled())),
        *(Term(losses.IntraClassCorrelation()), Term(losses.JensenShannon(temperature=2.0))),
        *(hint(**maps), Term(losses.AttentionTransfer(), **maps)),
        *(Term(losses.NeuronSelectivity(), **maps), Term(losses.HierarchicalContext(), **maps)),
        *(Term(losses.RelationalAngle(), **pool), Term(losses.CorrelationCongruence(), **pool)),
    ]
    logs = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(1)
        d = make(terms)
        d.compile(keras.optimizers.SGD(0.01), loss=sparse_loss(), jit_compile=jit_compile)
        logs.append([d.train_on_batch(x, y, return_dict=True) for _ in range(2)])
    for step in (0, 1):
        for name, value in logs[0][step].items():
            np.testing.assert_allclose(value, logs[1][step][name], rtol=1e-4, err_msg=name)


# -- forwards and modes --------------------------------------------------------------------------


def test_one_forward_of_each_model_a_step_however_many_terms():
    x, y = pictures()
    student, of_student = counted(4)
    teacher, of_teacher = counted(6)
    path = {"teacher_layer": "net/r0", "student_layer": "net/r0"}
    pool = {"teacher_layer": "net/pool", "student_layer": "net/pool"}
    terms = [
        *(Term(losses.SoftTargets()), Term(losses.Decoupled()), hint(**path)),
        *(Term(losses.AttentionTransfer(), **path), Term(losses.RelationalAngle(), **pool)),
    ]
    d = make(terms, student, teacher)
    d.fit(x, y, batch_size=6, epochs=2, verbose=0)
    assert (int(of_student.of_training), int(of_student.of_inference)) == (4, 0)
    assert (int(of_teacher.of_training), int(of_teacher.of_inference)) == (0, 4)
    d.evaluate(x, y, batch_size=6, verbose=0)
    assert (int(of_student.of_inference), int(of_teacher.of_inference)) == (2, 4)


def test_batchnorm_moves_once_a_step_and_not_in_evaluate():
    x, y = pictures()
    student, teacher = conv_net(4), conv_net(6)
    plain = keras.models.clone_model(student)
    plain.set_weights(student.get_weights())
    plain.compile(keras.optimizers.SGD(0.0), loss=sparse_loss())
    plain.train_on_batch(x, y)
    of_teacher = teacher.get_weights()
    d = make([hint()], student, teacher, keras.optimizers.SGD(0.0))
    d.train_on_batch(x, y)
    for mine, theirs in zip(student.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    before = student.get_weights()
    d.evaluate(x, y, verbose=0)
    d.predict(x, verbose=0)
    for model, weights in ((student, before), (teacher, of_teacher)):
        for mine, old in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(mine, old)


def test_logits_and_features_come_from_the_same_dropout_mask():
    inputs = keras.Input((6,))
    dropped = keras.layers.Dropout(0.5, name="dropped")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(3, name="logits")(dropped))
    d = make([hint(teacher_layer="pool", student_layer="dropped", adapter=None)], student,
             mlp_with_pool())  # fmt: skip
    logits, features = d(np.ones((4, 6), "float32"), training=True)
    np.testing.assert_allclose(logits, student.get_layer("logits")(features["dropped"]), rtol=1e-5)


def mlp_with_pool():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(6, name="pool")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


# -- adapters, saving ----------------------------------------------------------------------------


def test_the_adapter_trains_and_is_not_part_of_the_student(tmp_path):
    x, y = pictures()
    student = conv_net(4)
    count = student.count_params()
    d = make([hint()], student)
    (adapter,) = d.adapters
    before = adapter.get_weights()
    d.fit(x, y, verbose=0)
    assert np.abs(adapter.get_weights()[0] - before[0]).max() > 0
    assert student.count_params() == count
    assert len(d.trainable_variables) == len(student.trainable_variables) + 2
    student.save(tmp_path / "student.keras")
    assert keras.models.load_model(tmp_path / "student.keras").count_params() == count
    d.export(tmp_path / "exported", verbose=False)
    reloaded = tf.saved_model.load(tmp_path / "exported")
    assert sum(variable.shape.num_elements() for variable in reloaded.variables) == count
    np.testing.assert_allclose(reloaded.serve(x), student(x), rtol=1e-5)


def test_keras_file_holds_adapters_and_fits_on_as_the_original(tmp_path):
    x, y = pictures()
    terms = [hint(), Term(losses.Decoupled(temperature=3.0), weight=0.5)]
    d = make(terms, conv_net(4), conv_net(6), keras.optimizers.Adam(0.01))
    d.fit(x, y, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    pairs = zip(d.adapters[0].get_weights(), loaded.adapters[0].get_weights(), strict=True)
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine, theirs)
    for _ in range(2):
        d.reset_metrics()
        loaded.reset_metrics()
        logs = [one.train_on_batch(x, y, return_dict=True) for one in (d, loaded)]
        assert logs[0].keys() == logs[1].keys()
        for name in logs[0]:
            np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-4, err_msg=name)
    d.save_weights(tmp_path / "d.weights.h5")
    loaded.load_weights(tmp_path / "d.weights.h5")
    np.testing.assert_array_equal(
        loaded.adapters[0].get_weights()[0], d.adapters[0].get_weights()[0]
    )


# -- recorded features ---------------------------------------------------------------------------


def test_recorded_features_take_the_teachers_place():
    x, y = pictures()
    student, teacher = conv_net(4, batchnorm=False), conv_net(4, batchnorm=False)
    other = keras.models.clone_model(student)
    other.set_weights(student.get_weights())
    terms = [Term(losses.SoftTargets()), hint(adapter=None)]
    recorded = {
        "label": y,
        "logits": teacher(x).numpy(),
        "features": {"r0": inner(teacher, "r0")(x).numpy()},
    }
    live = make(terms, student, teacher).fit(x, y, batch_size=12, verbose=0).history
    d = kdkeras.Distiller(student=other, terms=terms)
    d.compile(keras.optimizers.SGD(0.1), loss=sparse_loss(), metrics=["accuracy"])
    history = d.fit(x, recorded, batch_size=12, verbose=0).history
    for name, value in live.items():
        np.testing.assert_allclose(history[name], value, rtol=1e-5, err_msg=name)


def test_recorded_logits_alone_are_not_enough_for_a_term_of_layers():
    x, y = pictures()
    recorded = {"label": y, "logits": np.zeros((12, 3), "float32")}
    message = r"Term 'hint' needs the teacher's layers \['r0'\].*Record 'features'.*'logits'"
    with pytest.raises(ValueError, match=message):
        make([hint()]).fit(x, recorded, verbose=0)


# -- schedules -----------------------------------------------------------------------------------


def test_schedules_of_alpha_temperature_and_weight_are_used_and_logged(tmp_path):
    x, y = pictures()
    ramp = keras.optimizers.schedules.PolynomialDecay
    alpha, temperature, weight = ramp(0.9, 4, 0.1), ramp(8.0, 4, 1.0), ramp(0.0, 2, 5.0)
    student, teacher = conv_net(4, batchnorm=False), conv_net(6, batchnorm=False)
    terms = [
        Term(losses.SoftTargets(temperature=temperature)),
        Term(losses.AttentionTransfer(), weight, teacher_layer="r0", student_layer="r0"),
    ]
    d = make(terms, student, teacher, alpha=alpha)
    for step in range(3):
        fixed = float(temperature(step))
        soft = losses.SoftTargets(temperature=fixed)(teacher(x), student(x))
        logs = d.train_on_batch(x, y, return_dict=True)
        d.reset_metrics()
        np.testing.assert_allclose(logs["soft_targets"], soft, rtol=1e-4)
        expected = float(alpha(step)) * logs["hard"] + (1 - float(alpha(step))) * (
            soft + float(weight(step)) * logs["attention_transfer"]
        )
        np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)
        # What is logged is what the next step will use.
        np.testing.assert_allclose(logs["alpha"], alpha(step + 1), rtol=1e-5)
        np.testing.assert_allclose(logs["attention_transfer_weight"], weight(step + 1), rtol=1e-5)
        logged = logs["soft_targets_temperature"]
        np.testing.assert_allclose(logged, temperature(step + 1), rtol=1e-5)
    d = kdkeras.Distiller(student=conv_net(4), teacher=teacher, temperature=temperature)
    d.compile("sgd", loss=sparse_loss())
    history = d.fit(x, y, batch_size=6, epochs=2, verbose=0, validation_data=(x, y)).history
    np.testing.assert_allclose(history["temperature"], [4.5, 1.0], rtol=1e-5)
    assert "val_temperature" not in history
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert float(loaded.terms[0].loss.temperature(2)) == 4.5
    assert float(loaded.temperature(2)) == 4.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"`alpha` must be a number in \[0, 1\].*1.5 from .*Decay at step 0"),
        ({"temperature": 0.0}, "`temperature` must be positive.*0.0 from CosineDecay at step 100"),
    ],
)
def test_schedules_that_leave_their_range(options, message):
    ((name, value),) = options.items()
    decay = keras.optimizers.schedules.CosineDecay(value or 4.0, 100)
    with pytest.raises(ValueError, match=message):
        kdkeras.Distiller(student=conv_net(), teacher=conv_net(), **{name: decay})


# -- bad input -----------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = conv_net()

    def call(self, x):
        return self.net(x)


def vector_and_map():
    return Term(keras.losses.MeanSquaredError(), teacher_layer="r0", student_layer="pool")


@pytest.mark.parametrize(
    ("make_term", "models", "message"),
    [
        (
            lambda: hint(teacher_layer="r00"),
            {},
            "Term 'hint', `teacher_layer`: .*no layer 'r00'. Did you mean.*'r0'.*layers: c0, r0",
        ),
        (
            lambda: hint(student_layer="rr1"),
            {},
            "Term 'hint', `student_layer`: .*no layer 'rr1'. Did you mean 'r1'",
        ),
        (hint, {"student": Subclassed}, "`student_layer`: .*no graph of layers.*Functional"),
        (hint, {"teacher": Subclassed}, "`teacher_layer`: .*no graph of layers.*Functional"),
        (
            lambda: Term(losses.AttentionTransfer(), teacher_layer="r0", student_layer="pool"),
            {},
            r"Term 'attention_transfer' compares feature maps.*layer 'pool'.*\(None, 8\)",
        ),
        (vector_and_map, {}, "Term 'mean_squared_error': no adapter joins 3 and 1 axes"),
        (lambda: hint(adapter=None), {}, "Term 'hint' needs tensors of the same shape.*, 6.*, 4"),
        (
            hint,
            {"teacher": lambda: lambda x: x},
            "Term 'hint' compares layers, and the teacher has",
        ),
        (
            lambda: Term(losses.SoftTargets(), output="colour"),
            {},
            "Term 'soft_targets': `output` must be one of",
        ),
    ],
)
def test_terms_that_do_not_fit_the_models_are_named(make_term, models, message):
    made = {name: of() for name, of in models.items()}
    with pytest.raises(ValueError, match=message):
        make([Term(losses.SoftTargets()), make_term()], **made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_layer": "r0"}, "Term 'hint': give both `teacher_layer` and `student_layer`"),
        ({"teacher_layer": ["r0", "r1"], "student_layer": ["r0"]}, "must pair. Received: 2 and 1"),
        ({"teacher_layer": "a", "student_layer": "b", "adapter": "conv"}, "`adapter` must be"),
        ({"teacher_layer": "a", "student_layer": "b", "output": "c"}, "`output` is of logits"),
        ({"teacher_layer": 1, "student_layer": "b"}, "layers are named by their paths.*: 1"),
        ({"teacher_layer": [], "student_layer": []}, "layers are named by their paths"),
        ({"weight": -1.0}, "Term 'hint': `weight` must be a finite number, at least 0"),
        ({"weight": np.inf}, "Term 'hint': `weight` must be a finite number, at least 0"),
    ],
)
def test_bad_terms(options, message):
    with pytest.raises(ValueError, match=message):
        Term(keras.losses.MeanSquaredError(name="hint"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"terms": []}, r"`terms` must be a list of `kdkeras.Term`, at least one"),
        ({"terms": Term(losses.SoftTargets())}, "must be a list of `kdkeras.Term`"),
        ({"terms": [losses.SoftTargets()]}, "must be a list of `kdkeras.Term`.*SoftTargets"),
        ({"terms": {"terms": []}}, "must be a list of `kdkeras.Term`"),
        (
            {"terms": [Term(losses.SoftTargets())], "temperature": 8.0},
            "`temperature` is of the soft targets that stand in for `terms`.*temperature=8.0",
        ),
    ],
)
def test_bad_lists_of_terms(options, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Distiller(student=conv_net(), teacher=conv_net(), **options)


@pytest.mark.parametrize("form", ["arrays", "dataset", "batches of one"])
def test_a_batch_of_one_for_a_loss_that_compares_examples(form):
    x, y = pictures(11)
    d = make([Term(losses.RelationalDistance(), teacher_layer="pool", student_layer="pool")])
    data, options = (x, y), {"batch_size": 5}
    if form == "dataset":
        data, options = (tf.data.Dataset.from_tensor_slices((x, y)).batch(5),), {}
    if form == "batches of one":
        options = {"batch_size": 1}
    message = "Term 'relational_distance' compares the examples of a batch.*batch of one"
    with pytest.raises(ValueError, match=message):
        d.fit(*data, verbose=0, **options)
    assert d.fit(x, y, batch_size=6, verbose=0)


def test_a_loss_that_needs_labels_without_them():
    x, _ = pictures()
    d = kdkeras.Distiller(
        student=conv_net(), teacher=conv_net(), alpha=0.0, terms=[Term(losses.Decoupled())]
    )
    d.compile("sgd")
    with pytest.raises(ValueError, match="Term 'decoupled' needs labels"):
        d.fit(x, verbose=0)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_fewer_than_two_classes(role):
    with pytest.raises(ValueError, match=f"`{role}` must have logits of at least two classes"):
        kdkeras.Distiller(
            **{"student": conv_net(), "teacher": conv_net(), role: conv_net(classes=1)}
        )
