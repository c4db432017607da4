"""Where `keras.distillation` is wrong and kdkeras is right, a test for each defect.

Each test shows kdkeras right first. If a later Keras has mended the defect, the test then skips and
says so.
"""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import classifier, conv_net, examples, pictures, sparse_loss
from test_losses_logits import reference

import kdkeras

keras_distillation = pytest.importorskip("keras.distillation")


def still_wrong(shown, defect):
    """Ends the test as skipped where Keras does not show the defect any more."""
    if not shown:
        pytest.skip(f"mended in Keras {keras.__version__}: {defect}")


def ours(student, teacher, **options):
    d = kdkeras.Distiller(student=student, teacher=teacher, **options)
    d.compile(keras.optimizers.SGD(0.1), loss=sparse_loss(), metrics=["accuracy"])
    return d


def theirs(student, teacher, loss=None, weight=0.5, compiled=True):
    loss = loss or keras_distillation.LogitsDistillation(
        temperature=4.0, loss=keras.losses.KLDivergence()
    )
    d = keras_distillation.Distiller(teacher, student, loss, student_loss_weight=weight)
    if compiled:
        d.compile(keras.optimizers.SGD(0.1), loss=sparse_loss())
    return d


def divergence_and_gradient(function, student):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = tf.reduce_mean(function(student))
    return float(value), tape.gradient(value, student).numpy()


def test_1_the_default_loss():
    random = np.random.default_rng(0)
    teacher, student = random.normal(0, 4, (2, 16, 10)).astype("float32")
    expected, gradient = reference(teacher, student, 3.0)
    value, found = divergence_and_gradient(
        lambda z: kdkeras.losses.soft_target_divergence(teacher, z, 3.0), student
    )
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(found, gradient / 16, atol=1e-6)
    default = keras_distillation.LogitsDistillation(temperature=3.0)
    value, found = divergence_and_gradient(lambda z: default.compute_loss(teacher, z), student)
    still_wrong(abs(value / expected.mean() - 1) > 0.2, "the default loss on raw logits")
    cosine = (found * gradient).sum() / np.linalg.norm(found) / np.linalg.norm(gradient)
    assert cosine < 0.7


def test_1b_learning_from_the_teacher_alone():
    # Nearly separable features: whoever follows this teacher is right.
    x, _ = examples(256, features=6)
    y = np.argmax(x[:, :3], -1)
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, use_bias=False)])
    teacher.layers[0].set_weights([8.0 * np.eye(6, 3, dtype="float32")])
    start = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])

    def accuracy(distill):
        student = keras.models.clone_model(start)
        student.set_weights(start.get_weights())
        distill(student).fit(x, y, batch_size=32, epochs=15, shuffle=False, verbose=0)
        return np.mean(np.argmax(student(x), -1) == y)

    assert accuracy(lambda s: ours(s, teacher, alpha=0.0)) > 0.97
    default = keras_distillation.LogitsDistillation(temperature=4.0)
    still_wrong(
        accuracy(lambda s: theirs(s, teacher, loss=default, weight=0.0)) < 0.9,
        "a student of the default loss does not follow its teacher",
    )


def test_1c_cross_entropy_by_name():
    teacher, student = np.float32([[-3.0, 0.0, 1.0]]), np.float32([[0.1, 1.0, 5.0]])
    # In kdkeras a loss is an instance; a name, which could mean anything, is refused.
    with pytest.raises(ValueError, match="must be a `keras.losses.Loss` instance"):
        kdkeras.Term("categorical_crossentropy")
    named = keras_distillation.LogitsDistillation(loss="categorical_crossentropy")
    value = float(np.mean(named.compute_loss(teacher, student)))
    still_wrong(not value >= 0, "a cross-entropy below 0")


def test_2_the_right_path_loses_the_gradient_of_confident_logits():
    teacher, student = np.float32([[0.0, -100.0]]), np.float32([[-100.0, 0.0]])
    value, gradient = divergence_and_gradient(
        lambda z: kdkeras.losses.soft_target_divergence(teacher, z, 1.0), student
    )
    np.testing.assert_allclose(value, 100.0, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0]], atol=1e-6)
    right_path = keras_distillation.LogitsDistillation(
        temperature=1.0, loss=keras.losses.KLDivergence()
    )
    value, gradient = divergence_and_gradient(
        lambda z: right_path.compute_loss(teacher, z), student
    )
    still_wrong(value < 20.0, "probabilities clipped at 1e-7")
    np.testing.assert_array_equal(gradient, np.zeros((1, 2)))


def theirs_of_layers(student, teacher, of_teacher="r0", of_student="r0"):
    loss = keras_distillation.FeatureDistillation(
        loss="mse", teacher_layer_name=of_teacher, student_layer_name=of_student
    )
    return theirs(student, teacher, loss=loss)


def ours_of_layers(student, teacher, of_teacher="r0", of_student="r0"):
    hint = kdkeras.Term(
        keras.losses.MeanSquaredError(), teacher_layer=of_teacher, student_layer=of_student
    )
    return ours(student, teacher, terms=[hint])


def statistics(model):
    return np.concatenate([weight.numpy() for weight in model.non_trainable_weights])


def test_3_evaluate_changes_no_statistic_of_the_student():
    x, y = pictures()
    moved = {}
    for name, make in (("ours", ours_of_layers), ("theirs", theirs_of_layers)):
        student = conv_net(4)
        d = make(student, conv_net(4))
        before = statistics(student)
        d.evaluate(x, y, verbose=0)
        moved[name] = np.abs(statistics(student) - before).max()
    assert moved["ours"] == 0.0
    still_wrong(moved["theirs"] > 0.01, "evaluate moves BatchNorm statistics")


def test_4_one_forward_of_the_student_a_step():
    x, y = pictures()
    start, alone = conv_net(4), conv_net(4)
    alone.set_weights(start.get_weights())
    alone.compile(keras.optimizers.SGD(0.0), loss=sparse_loss())
    alone.train_on_batch(x, y)
    off = {}
    for name, make in (("ours", ours_of_layers), ("theirs", theirs_of_layers)):
        student = conv_net(4)
        student.set_weights(start.get_weights())
        make(student, conv_net(4)).train_on_batch(x, y)
        off[name] = np.abs(statistics(student) - statistics(alone)).max()
    # BatchNorm's statistics move as far as in a plain step: the student ran once.
    assert off["ours"] < 1e-6
    still_wrong(off["theirs"] > 1e-3, "the student runs twice a step")


def test_5_regularisers_and_add_loss():
    x, y = examples(16)

    def loss_with(make, l2):
        keras.utils.set_random_seed(1)
        penalty = keras.regularizers.L2(l2) if l2 else None
        student = classifier(4, penalty=penalty, batchnorm=False)
        logs = make(student, classifier(8)).train_on_batch(x, y, return_dict=True)
        kernel = student.layers[1].get_weights()[0]
        return logs["loss"], kernel

    without, _ = loss_with(ours, 0.0)
    keras.utils.set_random_seed(1)
    kernel = classifier(4, batchnorm=False).layers[1].get_weights()[0]
    with_l2, _ = loss_with(ours, 0.5)
    np.testing.assert_allclose(with_l2 - without, 0.5 * np.square(kernel).sum(), rtol=1e-4)
    still_wrong(
        abs(loss_with(theirs, 0.5)[0] - loss_with(theirs, 0.0)[0]) < 1e-6, "penalties are dropped"
    )


def test_6_sample_weight_and_class_weight():
    x, y = examples(16)
    nothing = np.zeros(16, "float32")
    student = classifier(4)
    d = ours(student, classifier(8))
    before = student.trainable_variables[0].numpy()
    history = d.fit(x, y, sample_weight=nothing, verbose=0).history
    assert history["loss"] == [0.0]
    history = d.fit(x, y, class_weight=dict.fromkeys(range(3), 0.0), verbose=0).history
    assert history["loss"] == [0.0]
    np.testing.assert_array_equal(student.trainable_variables[0].numpy(), before)
    history = theirs(classifier(4), classifier(8)).fit(x, y, sample_weight=nothing, verbose=0)
    still_wrong(history.history["loss"][0] > 0.1, "sample weights are ignored")


def test_7_a_loaded_distiller_fits_on(tmp_path):
    x, y = examples(16)
    d = ours(classifier(4), classifier(8))
    d.fit(x, y, verbose=0)
    d.save(tmp_path / "ours.keras")
    loaded = keras.models.load_model(tmp_path / "ours.keras")
    assert loaded.fit(x, y, verbose=0).history["loss"][0] > 0
    assert int(loaded.optimizer.iterations) == 2
    d = theirs(classifier(4), classifier(8))
    d.fit(x, y, verbose=0)
    d.save(tmp_path / "theirs.keras")
    try:
        with pytest.warns(UserWarning, match="compile"):
            loaded = keras.models.load_model(tmp_path / "theirs.keras")
        loaded.fit(x, y, verbose=0)
    except (AttributeError, ValueError):
        return
    still_wrong(False, "compile state is lost on load")


def test_8_the_teacher_in_what_is_written(tmp_path):
    x, y = examples(16)
    sizes = {}
    for name, make in (("ours", ours), ("theirs", theirs)):
        student = classifier(4)
        d = make(student, classifier(2000))
        d.fit(x, y, verbose=0)
        d.save_weights(tmp_path / f"{name}.weights.h5")
        d.export(tmp_path / name, verbose=False)
        variables = tmp_path / name / "variables"
        sizes[name] = (
            (tmp_path / f"{name}.weights.h5").stat().st_size,
            sum(path.stat().st_size for path in variables.iterdir()),
        )
    of_teacher = 4 * classifier(2000).count_params()
    assert max(sizes["ours"]) < of_teacher
    # The .keras file, to fit on from, is complete.
    d = ours(classifier(4), classifier(2000))
    d.save(tmp_path / "whole.keras")
    assert "assets/teacher.weights.h5" in zipfile.ZipFile(tmp_path / "whole.keras").namelist()
    still_wrong(min(sizes["theirs"]) > of_teacher, "the teacher is written with the student")


def test_9_a_mixed_precision_student_with_a_float32_teacher():
    x, y = examples(16)
    teacher = classifier(8)
    keras.config.set_dtype_policy("mixed_float16")
    inputs = keras.Input((6,))
    student = keras.Model(inputs, keras.layers.Dense(3)(inputs))  # logits in float16
    keras.config.set_dtype_policy("float32")
    expected = reference(teacher(x), student(x), 4.0)[0].mean()
    logs = ours(student, teacher, alpha=0.0).train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-3)
    try:
        theirs(student, teacher).fit(x, y, verbose=0)
    except ValueError:
        return
    still_wrong(False, "different dtypes are refused")


def refused(make, *data):
    try:
        make().fit(*data, verbose=0)
    except Exception:  # whatever it is, the user did not get to train
        return True
    return False


def test_10_other_channels_and_grids():
    x, y = pictures()
    for of_teacher, of_student in (("r0", "r0"), ("r0", "r1"), ("r1", "r0")):
        history = ours_of_layers(conv_net(4), conv_net(6), of_teacher, of_student).fit(
            x, y, verbose=0
        )
        assert history.history["mean_squared_error"][0] > 0
    wrong = refused(lambda: theirs_of_layers(conv_net(4), conv_net(6)), x, y)
    still_wrong(wrong, "no adapters of channels and grids")


def test_11_layers_of_nested_models():
    def nested():
        inputs = keras.Input((8, 8, 1))
        return keras.Model(inputs, conv_net(4, name="net")(inputs))

    x, y = pictures()
    d = ours_of_layers(nested(), nested(), "net/r0", "net/r0")
    assert d.fit(x, y, verbose=0).history["mean_squared_error"][0] > 0
    wrong = [
        refused(lambda path=path: theirs_of_layers(nested(), nested(), path, path), x, y)
        for path in ("r0", "net/r0")
    ]
    still_wrong(all(wrong), "only layers of the outermost model are found")


def test_12_other_input_sizes():
    x, y = pictures(size=16)
    d = ours(conv_net(4, size=8), conv_net(4, size=16))
    assert d.fit(x, y, verbose=0).history["soft_targets"][0] > 0
    wrong = refused(lambda: theirs(conv_net(4, size=8), conv_net(4, size=16)), x, y)
    still_wrong(wrong, "teacher and student must take inputs of one shape")


def test_13_the_callers_teacher_stays_trainable():
    teacher = classifier(8)
    ours(classifier(4), teacher)
    assert teacher.trainable
    assert len(teacher.trainable_variables) == 6
    theirs(classifier(4), teacher)
    still_wrong(not teacher.trainable, "the caller's teacher is frozen for good")


def test_14_backup_and_restore_at_first_fit(tmp_path):
    x, y = examples(16)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "ours")
    history = ours(classifier(4), classifier(8)).fit(x, y, callbacks=[backup], verbose=0)
    assert history.epoch == [0]
    backup = keras.callbacks.BackupAndRestore(tmp_path / "theirs")
    try:
        theirs(classifier(4), classifier(8)).fit(x, y, callbacks=[backup], verbose=0)
    except ValueError:
        return
    still_wrong(False, "BackupAndRestore needs a call first")


def test_15_evaluate_is_the_students_and_terms_are_told_apart():
    x, y = examples(16)
    terms = [
        kdkeras.Term(kdkeras.losses.SoftTargets()),
        kdkeras.Term(keras.losses.MeanSquaredError()),
    ]
    student = classifier(4)
    d = ours(student, classifier(8), terms=terms)
    history = d.fit(x, y, verbose=0).history
    assert {"hard", "soft_targets", "mean_squared_error"} <= set(history)
    student_loss = float(sparse_loss()(y, student(x)))
    np.testing.assert_allclose(d.evaluate(x, y, verbose=0)[0], student_loss, rtol=1e-5)
    student = classifier(4)
    d = theirs(student, classifier(8))
    d.fit(x, y, verbose=0)
    student_loss = float(sparse_loss()(y, student(x)))
    loss = d.evaluate(x, y, return_dict=True, verbose=0)["loss"]
    still_wrong(abs(loss - student_loss) > 1e-3, "validation loss is the mixed loss")


def test_16_perturbed_inputs_recorded_teachers_and_a_command_line():
    x, y = examples(16)
    noise = kdkeras.perturbations.Gaussian(stddev=0.1)
    assert ours(classifier(4), classifier(8), perturbation=noise).fit(x, y, verbose=0)
    recorded = {"label": y, "logits": np.zeros((16, 3), "float32")}
    assert ours(classifier(4), classifier(8)).fit(x, recorded, verbose=0)
    from kdkeras import cli

    assert set(cli.COMMANDS) >= {"train", "distill", "evaluate", "predict", "export"}
    public = {name for name in dir(keras_distillation) if name[0].isupper()}
    still_wrong(
        public <= {"Distiller", "DistillationLoss", "LogitsDistillation", "FeatureDistillation"},
        "nothing but logits and features of one teacher",
    )
