"""`Distiller`: the equation, the steps, Keras's verbs, saving, precision, bad input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import classifier, examples, sparse_loss
from test_losses_logits import reference

import kdkeras
from kdkeras import inputs, losses, perturbations

pytestmark = pytest.mark.core


def make(student=None, teacher=None, optimizer="sgd", **options):
    """A compiled Distiller of tiny models."""
    compile_options = {
        name: options.pop(name)
        for name in ("jit_compile", "run_eagerly", "steps_per_execution", "weighted_metrics")
        if name in options
    }
    d = kdkeras.Distiller(
        student=student or classifier(4), teacher=teacher or classifier(12), **options
    )
    d.compile(optimizer, loss=sparse_loss(), metrics=["accuracy"], **compile_options)
    return d


def hard_loss(labels, logits):
    logits = np.asarray(logits, "float64")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels]


class Calls(keras.layers.Layer):
    """Counts how often a model runs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.count = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="count"
        )

    def call(self, x):
        self.count.assign_add(1)
        return x


def counted(width):
    inputs_ = keras.Input((6,))
    calls = Calls()
    x = keras.layers.Dense(width, activation="relu")(calls(inputs_))
    return keras.Model(inputs_, keras.layers.Dense(3)(x)), calls


# -- the equation --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_is_the_weighted_sum(alpha, temperature):
    x, y = examples(16)
    penalty = keras.regularizers.L2(0.01)
    student, teacher = classifier(4, penalty=penalty, batchnorm=False), classifier(12)
    hard = hard_loss(y, student(x)).mean()
    soft = reference(teacher(x), student(x), temperature)[0].mean()
    l2 = 0.01 * float(np.sum(np.square(student.layers[1].kernel)))
    d = make(student, teacher, alpha=alpha, temperature=temperature)
    logs = d.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["hard"], hard, rtol=1e-5)
    np.testing.assert_allclose(logs["soft_targets"], soft, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], alpha * hard + (1 - alpha) * soft + l2, rtol=1e-5)


def test_gradient_step_equals_one_worked_out_by_hand():
    x, y = examples(16)
    student, teacher = classifier(4, batchnorm=False), classifier(12, batchnorm=False)
    hidden = np.maximum(x @ student.layers[1].kernel + student.layers[1].bias, 0)
    z, t = np.asarray(student(x)), np.asarray(teacher(x))
    softmax = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    of_logits = 0.3 * (softmax - np.eye(3)[y]) + 0.7 * reference(t, z, 2.0)[1]
    before = student.layers[2].get_weights()[0]
    d = make(student, teacher, alpha=0.3, temperature=2.0, optimizer=keras.optimizers.SGD(0.5))
    d.train_on_batch(x, y)
    expected = before - 0.5 * hidden.T @ of_logits / 16
    np.testing.assert_allclose(student.layers[2].kernel, expected, atol=1e-6)


def test_terms_are_weighted_and_logged_by_name():
    x, y = examples(16)
    student, teacher = classifier(4, batchnorm=False), classifier(12)
    mse = float(np.mean(np.square(np.asarray(teacher(x)) - np.asarray(student(x)))))
    soft = reference(teacher(x), student(x), 2.0)[0].mean()
    terms = [
        kdkeras.Term(losses.SoftTargets(temperature=2.0), weight=0.5),
        kdkeras.Term(keras.losses.MeanSquaredError(), weight=3.0),
        kdkeras.Term(keras.losses.MeanSquaredError(), weight=1.0),
    ]
    logs = make(student, teacher, alpha=0.0, terms=terms).train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["mean_squared_error"], mse, rtol=1e-5)
    np.testing.assert_allclose(logs["mean_squared_error_2"], mse, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 0.5 * soft + 4.0 * mse, rtol=1e-5)


def test_logs_are_means_over_examples_of_ragged_batches():
    x, y = examples(20)
    student, teacher = classifier(4, batchnorm=False), classifier(12)
    soft = reference(teacher(x), student(x), 4.0)[0].mean()
    d = make(student, teacher, optimizer=keras.optimizers.SGD(0.0))
    logs = d.fit(x, y, batch_size=8, verbose=0).history
    np.testing.assert_allclose(logs["soft_targets"], [soft], rtol=1e-5)
    np.testing.assert_allclose(logs["hard"], [hard_loss(y, student(x)).mean()], rtol=1e-5)


# -- the step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_one_forward_of_each_model_a_step(options):
    x, y = examples(32)
    (student, of_student), (teacher, of_teacher) = counted(4), counted(8)
    d = make(student, teacher, perturbation=perturbations.Gaussian(stddev=0.1), **options)
    d.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert (int(of_student.count), int(of_teacher.count)) == (8, 8)
    d.evaluate(x, y, batch_size=8, verbose=0)
    d.predict(x, batch_size=8, verbose=0)
    assert (int(of_student.count), int(of_teacher.count)) == (16, 8)


def test_the_teacher_is_left_as_it_was_and_the_student_learns():
    x, y = examples()
    student, teacher = classifier(4), classifier(12, dropout=0.5)
    teacher.layers[2].trainable = False
    weights = teacher.get_weights()
    flags = [layer.trainable for layer in teacher.layers]
    trainable = len(teacher.trainable_variables)
    before = student.get_weights()
    d = make(student, teacher)
    d.fit(x, y, epochs=2, verbose=0)
    for now, then in zip(teacher.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    assert [layer.trainable for layer in teacher.layers] == flags
    assert len(teacher.trainable_variables) == trainable
    assert all(np.abs(n - t).max() > 0 for n, t in zip(student.get_weights(), before, strict=True))


def test_only_the_students_variables_are_the_distillers():
    student, teacher = classifier(4), classifier(12, penalty=keras.regularizers.L2(1.0))
    d = make(student, teacher)
    assert {id(v) for v in d.trainable_variables} == {id(v) for v in student.trainable_variables}
    assert d.count_params() == student.count_params()
    assert not d.losses


def test_evaluate_is_the_student_alone():
    x, y = examples()
    student = classifier(4)
    d = make(student)
    d.fit(x, y, epochs=1, verbose=0)
    before = student.get_weights()
    found = d.evaluate(x, y, return_dict=True, verbose=0)
    assert set(found) == {"loss", "accuracy"}
    np.testing.assert_allclose(found["loss"], hard_loss(y, student(x)).mean(), rtol=1e-5)
    accuracy = np.mean(np.argmax(student(x), -1) == y)
    np.testing.assert_allclose(found["accuracy"], accuracy, rtol=1e-6)
    for now, then in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(d.predict(x, verbose=0), student.predict(x, verbose=0))


def test_validation_logs_and_callbacks():
    x, y = examples()
    d = make()
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, min_delta=1e9)
    history = d.fit(x, y, epochs=9, validation_data=(x, y), callbacks=[stop], verbose=0).history
    assert set(history) == {
        *("accuracy", "hard", "loss", "soft_targets"),
        *("val_accuracy", "val_loss"),
    }
    assert len(history["loss"]) == 2


def test_recorded_teacher_logits_replace_the_teacher():
    x, y = examples(16)
    student, (teacher, calls) = classifier(4, batchnorm=False), counted(8)
    recorded = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    soft = reference(recorded, student(x), 4.0)[0].mean()
    targets = {"label": y, "logits": recorded, "id": np.arange(16)}
    data = tf.data.Dataset.from_tensor_slices((x, targets)).batch(16)
    history = make(student, teacher).fit(data, verbose=0).history
    np.testing.assert_allclose(history["soft_targets"], [soft], rtol=1e-5)
    assert int(calls.count) == 0


# -- perturbations and views -------------------------------------------------------------------


class Shift:
    """Adds 1: what each model sees can then be told apart."""

    def __call__(self, model, x, targets, teacher=None):
        return x + 1.0


@pytest.mark.parametrize(("view", "shift"), [("clean", 0.0), ("perturbed", 1.0)])
def test_what_the_teacher_sees(view, shift):
    x, y = examples(16)
    student, teacher = classifier(4, batchnorm=False), classifier(12)
    soft = reference(teacher(x + shift), student(x + 1.0), 4.0)[0].mean()
    d = make(student, teacher, perturbation=Shift(), teacher_view=view)
    logs = d.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["soft_targets"], soft, rtol=1e-5)


def test_inputs_perturbed_in_the_pipeline():
    x, y = examples(16)
    student, teacher = classifier(4, batchnorm=False), classifier(12)
    soft = reference(teacher(x), student(x + 1.0), 4.0)[0].mean()
    data = tf.data.Dataset.from_tensor_slices((x + 1.0, {"label": y, "clean": x})).batch(16)
    history = make(student, teacher).fit(data, verbose=0).history
    np.testing.assert_allclose(history["soft_targets"], [soft], rtol=1e-5)


def test_noise_in_the_step_is_fresh_each_step():
    x, y = examples(16)
    d = make(
        classifier(4, batchnorm=False),
        optimizer=keras.optimizers.SGD(0.0),
        perturbation=perturbations.Gaussian(stddev=1.0, seed=1),
    )
    values = d.fit(x, y, epochs=3, batch_size=16, verbose=0).history["soft_targets"]
    assert len(set(values)) == 3


# -- a teacher that trains too -------------------------------------------------------------------


def test_train_teacher():
    x, y = examples()
    student, teacher = classifier(4), classifier(12)
    alone = keras.models.clone_model(teacher)
    alone.set_weights(teacher.get_weights())
    for model in (teacher, alone):
        model.compile(keras.optimizers.SGD(0.1), sparse_loss(), metrics=["accuracy"])
    d = make(student, teacher, train_teacher=True)
    history = d.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0).history
    expected = alone.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0).history
    # It learns as it would alone: nothing of the student's loss reaches it.
    np.testing.assert_allclose(history["teacher_loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["teacher_accuracy"], expected["accuracy"], rtol=1e-5)
    for now, then in zip(teacher.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(now, then, atol=1e-6)
    assert {id(v) for v in d.trainable_variables} == {id(v) for v in student.trainable_variables}
    assert set(d.evaluate(x, y, return_dict=True, verbose=0)) == {"loss", "accuracy"}


def test_train_teacher_travels_in_weights_files(tmp_path):
    x, y = examples()
    teacher = classifier(12)
    teacher.compile("adam", sparse_loss())
    d = make(classifier(4), teacher, train_teacher=True)
    d.fit(x, y, verbose=0)
    weights = teacher.get_weights()
    d.save_weights(tmp_path / "d.weights.h5")
    d.fit(x, y, verbose=0)
    d.load_weights(tmp_path / "d.weights.h5")
    for now, then in zip(teacher.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


# -- weights of examples and classes -------------------------------------------------------------


def test_sample_weight_reaches_hard_and_soft_losses():
    x, y = examples(8)
    weights = np.float32([0, 1, 2, 0, 0.5, 0, 3, 1])
    student, teacher = classifier(4, batchnorm=False), classifier(12)
    hard = (hard_loss(y, student(x)) * weights).sum() / 8
    soft = (reference(teacher(x), student(x), 4.0)[0] * weights).sum() / 8
    d = make(student, teacher)
    logs = d.train_on_batch(x, y, sample_weight=weights, return_dict=True)
    np.testing.assert_allclose(logs["hard"], hard, rtol=1e-5)
    np.testing.assert_allclose(logs["soft_targets"], soft, rtol=1e-5)


@pytest.mark.parametrize("form", ["arrays", "dataset", "enriched"])
def test_class_weight_whatever_form_the_data_has(form):
    x, y = examples(8)
    class_weight = {0: 0.0, 2: 3.0}
    weights = np.float32([0.0, 1.0, 3.0])[y]
    student, teacher = classifier(4, batchnorm=False), classifier(12)
    hard = (hard_loss(y, student(x)) * weights).sum() / 8
    soft = (reference(teacher(x), student(x), 4.0)[0] * weights).sum() / 8
    data = {
        "arrays": (x, y),
        "dataset": (tf.data.Dataset.from_tensor_slices((x, y)).batch(8),),
        "enriched": (tf.data.Dataset.from_tensor_slices((x, {"label": y})).batch(8),),
    }[form]
    d = make(student, teacher, optimizer=keras.optimizers.SGD(0.0))
    logs = d.fit(*data, class_weight=class_weight, verbose=0).history
    np.testing.assert_allclose(logs["hard"], [hard], rtol=1e-5)
    np.testing.assert_allclose(logs["soft_targets"], [soft], rtol=1e-5)
    again = d.fit(*data, verbose=0).history
    np.testing.assert_allclose(again["hard"], [hard_loss(y, student(x)).mean()], rtol=1e-5)


def test_class_weight_multiplies_sample_weight():
    x, y = examples(8)
    weights = np.arange(8, dtype="float32")
    student = classifier(4, batchnorm=False)
    hard = (hard_loss(y, student(x)) * weights * np.float32([2.0, 1.0, 1.0])[y]).sum() / 8
    d = make(student, optimizer=keras.optimizers.SGD(0.0))
    logs = d.fit(x, y, sample_weight=weights, class_weight={0: 2.0}, verbose=0).history
    np.testing.assert_allclose(logs["hard"], [hard], rtol=1e-5)


class MeanActivity(keras.layers.Layer):
    """Adds the mean of its inputs to the loss."""

    def call(self, x):
        self.add_loss(keras.ops.mean(x))
        return x


def test_add_loss_is_not_scaled_by_alpha():
    x, y = examples(8)
    inputs_ = keras.Input((6,))
    hidden = MeanActivity()(keras.layers.Dense(4)(inputs_))
    student = keras.Model(inputs_, keras.layers.Dense(3)(hidden))
    activity = (x @ student.layers[1].get_weights()[0]).mean()
    d = make(student, alpha=0.5)
    logs = d.train_on_batch(x, y, return_dict=True)
    expected = 0.5 * logs["hard"] + 0.5 * logs["soft_targets"] + activity
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_student_with_a_float32_teacher(policy):
    x, y = examples()
    teacher = classifier(12)
    keras.config.set_dtype_policy(policy)
    student = classifier(4)
    keras.config.set_dtype_policy("float32")
    d = make(student, teacher, optimizer=keras.optimizers.SGD(0.1), temperature=2.0)
    scaled = isinstance(d.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    twin = classifier(4)
    twin.set_weights(student.get_weights())
    reference_d = make(twin, teacher, optimizer=keras.optimizers.SGD(0.1), temperature=2.0)
    history = d.fit(x, y, epochs=3, shuffle=False, verbose=0).history
    expected = reference_d.fit(x, y, epochs=3, shuffle=False, verbose=0).history
    tolerance = 0.01 if policy == "mixed_float16" else 0.05
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=tolerance)
    assert all(v.dtype == "float32" for v in student.trainable_variables)


# -- saving --------------------------------------------------------------------------------------


def test_keras_file_is_complete_and_fits_on(tmp_path):
    x, y = examples()
    student, teacher = classifier(4), classifier(12)
    d = make(
        student,
        teacher,
        optimizer="adam",
        alpha=0.3,
        terms=[kdkeras.Term(losses.SoftTargets(temperature=3.0), weight=0.7)],
        perturbation=perturbations.Gaussian(stddev=0.2, seed=4),
        teacher_view="perturbed",
    )
    d.fit(x, y, epochs=2, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    np.testing.assert_array_equal(loaded.student.predict(x), student.predict(x))
    np.testing.assert_array_equal(loaded.teacher.predict(x), teacher.predict(x))
    assert loaded.get_config()["terms"] == d.get_config()["terms"]
    for name in ("alpha", "temperature", "teacher_view", "train_teacher", "name"):
        assert getattr(loaded, name) == getattr(d, name)
    assert loaded.perturbation.get_config() == d.perturbation.get_config()
    assert int(loaded.optimizer.iterations) == int(d.optimizer.iterations) == 2
    for ours, theirs in zip(loaded.optimizer.variables, d.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    history = loaded.fit(x, y, verbose=0).history
    assert set(history) == {"accuracy", "hard", "loss", "soft_targets"}


def test_loaded_and_original_train_alike(tmp_path):
    x, y = examples()
    d = make(optimizer="adam")
    d.fit(x, y, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    ours = d.fit(x, y, epochs=2, shuffle=False, verbose=0).history
    theirs = loaded.fit(x, y, epochs=2, shuffle=False, verbose=0).history
    np.testing.assert_allclose(theirs["loss"], ours["loss"], rtol=1e-6)


def test_weights_files_leave_the_teacher_out(tmp_path):
    student, teacher = classifier(4), classifier(500)
    d = make(student, teacher)
    d.save_weights(tmp_path / "d.weights.h5")
    assert (tmp_path / "d.weights.h5").stat().st_size < 4 * teacher.count_params()
    weights = student.get_weights()
    x, y = examples()
    d.fit(x, y, verbose=0)
    d.load_weights(tmp_path / "d.weights.h5")
    for now, then in zip(student.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


def test_export_leaves_the_teacher_out(tmp_path):
    x, _ = examples()
    d = make(classifier(4), classifier(500))
    d.export(tmp_path / "student", verbose=False)
    size = sum(path.stat().st_size for path in (tmp_path / "student" / "variables").iterdir())
    assert size < 4000
    served = tf.saved_model.load(tmp_path / "student")
    np.testing.assert_allclose(served.serve(x), d.predict(x, verbose=0), atol=1e-6)


class Stop(keras.callbacks.Callback):
    """Interrupts a training."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise RuntimeError("stopped")


def test_backup_and_restore_resumes(tmp_path):
    x, y = examples()
    teacher, start = classifier(12), classifier(4).get_weights()

    def fresh():
        student = classifier(4)
        student.set_weights(start)
        return make(student, teacher, optimizer=keras.optimizers.Adam(0.01))

    options = {"epochs": 4, "shuffle": False, "verbose": 0}
    whole = fresh()
    whole.fit(x, y, **options)
    stopped = fresh()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "b")
    with pytest.raises(RuntimeError, match="stopped"):
        stopped.fit(x, y, callbacks=[backup, Stop()], **options)
    resumed = fresh()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "b")
    history = resumed.fit(x, y, callbacks=[backup], **options)
    assert history.epoch == [2, 3]
    for ours, theirs in zip(
        resumed.student.get_weights(), whole.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_found_by_load_model_after_one_import(tmp_path):
    import subprocess
    import sys

    make().save(tmp_path / "d.keras")
    for first in ("import kdkeras, keras", "import kdkeras.losses.logits, keras"):
        script = f"{first}; print(type(keras.models.load_model({str(tmp_path / 'd.keras')!r})))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout.strip() == "<class 'kdkeras.distiller.Distiller'>", done.stderr


# -- models of other kinds -----------------------------------------------------------------------


class Subclassed(keras.Model):
    """A student without a graph."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def test_subclassed_and_unbuilt_students():
    x, y = examples()
    d = make(Subclassed(), keras.Sequential([keras.layers.Dense(3)]))
    history = d.fit(x, y, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_one_hot_labels():
    x, y = examples(16)
    student, teacher = classifier(4, batchnorm=False), classifier(12)
    hard = hard_loss(y, student(x)).mean()
    d = kdkeras.Distiller(student=student, teacher=teacher)
    d.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    logs = d.train_on_batch(x, np.eye(3, dtype="float32")[y], return_dict=True)
    np.testing.assert_allclose(logs["hard"], hard, rtol=1e-5)


# -- bad input -----------------------------------------------------------------------------------


def softmax_model():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, r"`alpha` must be a number in \[0, 1\]. Received: alpha=-0.1"),
        ({"alpha": 1.5}, "`alpha` must be"),
        ({"alpha": float("nan")}, "`alpha` must be"),
        ({"alpha": "0.5"}, "`alpha` must be"),
        ({"temperature": 0.0}, "`temperature` must be positive and finite. Received: temp.*0.0"),
        ({"temperature": -1}, "`temperature` must be positive"),
        ({"temperature": float("nan")}, "`temperature` must be positive"),
        ({"temperature": "4"}, "`temperature` must be positive"),
        ({"teacher_view": "cleen"}, "`teacher_view` must be one of .*Did you mean 'clean'"),
        ({"perturbation": 0.1}, "`perturbation` must be None or a callable"),
        ({"train_teacher": True}, "needs a compiled teacher"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Distiller(student=classifier(), teacher=classifier(), **options)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            softmax_model,
            classifier,
            r"`student` must give logits.*kdkeras.models.logits\(student\)",
        ),
        (
            classifier,
            softmax_model,
            r"`teacher` must give logits.*kdkeras.models.logits\(teacher\)",
        ),
        (classifier, lambda: classifier(classes=5), "student with 3 and a teacher with 5"),
        (lambda: "model", classifier, "`student` must be a `keras.Model`"),
        (lambda: classifier(features=7), classifier, "must take the same inputs"),
    ],
)
def test_models_that_do_not_fit(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Distiller(student=student(), teacher=teacher())


def test_one_model_twice():
    model = classifier()
    with pytest.raises(ValueError, match="must be two models"):
        kdkeras.Distiller(student=model, teacher=model)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.CategoricalCrossentropy(),
    ],
)
def test_hard_loss_on_probabilities(loss):
    d = kdkeras.Distiller(student=classifier(), teacher=classifier())
    with pytest.raises(ValueError, match="`loss` must take logits.*from_logits=True"):
        d.compile("sgd", loss)


def test_missing_hard_loss():
    d = kdkeras.Distiller(student=classifier(), teacher=classifier())
    with pytest.raises(ValueError, match="`loss` must be given unless `alpha` is 0"):
        d.compile("sgd")


def test_no_hard_loss_is_needed_with_alpha_0():
    x, y = examples()
    d = kdkeras.Distiller(student=classifier(), teacher=classifier(), alpha=0.0)
    d.compile("sgd")
    assert d.fit(x, y, verbose=0).history["soft_targets"][0] > 0
    assert d.evaluate(x, y, return_dict=True, verbose=0) == {"loss": 0.0}


def bad_batches():
    x, y = examples(16)
    return {
        "one-hot": (x, np.eye(3)[y], "Labels must be integers.*looks one-hot.*argmax"),
        "above": (x, y + 1, r"Labels must be in 0..2. Received: smallest and largest label \d 3"),
        "below": (x, y - 1, r"Labels must be in 0..2. Received: smallest and largest label -1"),
        "nan": (np.where(x == x[3], np.nan, x), y, "`x` must be finite"),
        "infinite": (np.where(x == x[3], np.inf, x), y, "`x` must be finite"),
    }


@pytest.mark.parametrize("form", ["arrays", "dataset", "validation"])
@pytest.mark.parametrize("case", ["one-hot", "above", "below", "nan", "infinite"])
def test_bad_batches(case, form):
    x, y, message = bad_batches()[case]
    data = (x, y)
    if form != "arrays":
        data = (tf.data.Dataset.from_tensor_slices(data).batch(8),)
    d = make()
    weights = d.student.get_weights()
    use = d.evaluate if form == "validation" else d.fit
    with pytest.raises(ValueError, match=message):
        use(*data, verbose=0)
    if form == "arrays" or case == "one-hot":
        for now, then in zip(d.student.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(now, then)


def test_integer_labels_for_a_one_hot_loss():
    x, y = examples(16)
    d = kdkeras.Distiller(student=classifier(), teacher=classifier())
    d.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="must be one-hot.*to_categorical"):
        d.fit(x, y, verbose=0)


def test_no_labels_for_a_hard_loss():
    with pytest.raises(ValueError, match="`y` must be given"):
        make().fit(examples()[0], verbose=0)


def test_targets_without_a_label():
    x, y = examples(16)
    with pytest.raises(ValueError, match=r"key 'label'.*Received: keys \['y'\]"):
        make().fit(x, {"y": y}, verbose=0)


@pytest.mark.parametrize("form", ["arrays", "dataset"])
def test_pixels_in_bytes(form):
    model = kdkeras.models.resnet(20, input_shape=(8, 8, 3), num_classes=3, width=4)
    teacher = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    x = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3)).astype("float32")
    data = (x, np.zeros(8, int))
    if form == "dataset":
        data = (tf.data.Dataset.from_tensor_slices(data).batch(8),)
    with pytest.raises(ValueError, match=r"Pixels must lie in \[0, 1\].*divide by 255"):
        make(model, teacher).fit(*data, verbose=0)


def test_class_weight_of_an_unknown_class():
    x, y = examples(16)
    with pytest.raises(ValueError, match=r"`class_weight` must map class indices 0..2"):
        make().fit(x, y, class_weight={5: 1.0}, verbose=0)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), "1"])
def test_bad_term_weight(weight):
    with pytest.raises(ValueError, match="`weight` must be a finite number, at least 0"):
        kdkeras.Term(losses.SoftTargets(), weight=weight)


def test_term_wants_a_loss_instance():
    with pytest.raises(ValueError, match=r"must be a `keras.losses.Loss` instance.*Received"):
        kdkeras.Term("kl_divergence")


def test_other_errors_of_tensorflow_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError), inputs.clear_errors():
        tf.debugging.assert_equal(1, 2)
