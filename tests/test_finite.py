"""`FiniteLoss`: where and why a loss became NaN or infinite."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import classifier, conv_net, examples, pictures, sparse_loss

import kdkeras
from kdkeras import callbacks, data, losses, recipe, runner
from kdkeras.search import worlds

EXAMPLES, BATCH = 32, 8
# With which example 17 is in the third batch of the first epoch.
SEED = 5


def split(count=EXAMPLES):
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return data.Examples(images, random.integers(0, 3, count))


IDS = callbacks.ids_of(split(), BATCH, seed=SEED)


def net(width=4, **options):
    return conv_net(width, channels=3, **options)


def place_of(example, epoch):
    """The step of an epoch, from 0, whose batch holds an example."""
    held = [step for step in range(EXAMPLES // BATCH) if example in IDS(epoch, step)]
    assert len(held) == 1
    return held[0]


def batches(planted=None, first_epoch=0):
    """The batches of the split, `planted` in the pixels of the picture with id 17."""

    def plant(x, y):
        chosen = (y["id"] == 17)[:, None, None, None]
        return tf.where(chosen, tf.constant(planted, tf.float32), x), y

    made = data.batches(split(), BATCH, seed=SEED, first_epoch=first_epoch)
    return made if planted is None else made.map(plant)


def pairs(planted=None, first_epoch=0):
    return batches(planted, first_epoch).map(lambda x, y: (x, y["label"]))


def compiled(model, rate=0.01, **options):
    model.compile(keras.optimizers.SGD(rate), sparse_loss(), **options)
    return model


def caught(model, x, **options):
    """The error that stops a training, and how many epochs had ended."""
    ended = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    epochs = []
    watching = [callbacks.FiniteLoss(ids=options.pop("ids", IDS)), ended]
    with pytest.raises(callbacks.NotFinite) as found:
        model.fit(x, verbose=0, shuffle=False, callbacks=watching, **options)
    return found.value, epochs


class Planted(keras.callbacks.Callback):
    """Does something before a step of an epoch."""

    def __init__(self, act, *, epoch, step):
        super().__init__()
        self.act, self.at = act, (epoch, step)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            self.act()


# -- which examples ------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("remainder", [False, True])
def test_ids_are_those_of_the_batches(epoch, remainder):
    few = split(20)
    made = data.batches(few, 8, seed=5, first_epoch=epoch, drop_remainder=remainder)
    ids = callbacks.ids_of(few, 8, seed=5, drop_remainder=remainder)
    seen = [batch["id"].numpy() for _, batch in made]
    assert len(seen) == (2 if remainder else 3)
    for step, expected in enumerate(seen):
        np.testing.assert_array_equal(ids(epoch, step), expected)
    assert len(ids(epoch, len(seen))) == 0


def test_ids_of_a_stream_are_not_known():
    stream = tf.data.Dataset.from_tensor_slices(pictures())
    with pytest.raises(ValueError, match="must be in memory.*Received: _TensorSlice.*Leave `ids`"):
        callbacks.ids_of(stream, 8, seed=0)
    with pytest.raises(ValueError, match="batch_size"):
        callbacks.ids_of(split(), 0, seed=0)


# -- a planted NaN -------------------------------------------------------------------------------


def test_a_pixel_that_is_nan_is_found_by_step_and_example():
    step = place_of(17, epoch=2)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.16, 16, end_learning_rate=0.0)
    model = compiled(net(), schedule)
    clean = callbacks.FiniteLoss()
    model.fit(pairs(), epochs=2, verbose=0, shuffle=False, callbacks=[clean])
    error, ended = caught(model, pairs(np.nan, 2), initial_epoch=2, epochs=4)
    assert (error.epoch, error.steps, error.parts) == (3, (step + 1, step + 1), ("loss",))
    assert 17 in error.ids
    assert len(error.ids) == BATCH
    assert error.learning_rate == pytest.approx(0.16 - 0.01 * (8 + step))
    assert ended == []
    told = str(error)
    assert told.startswith(f"The loss became nan in epoch 3, step {step + 1} (optimizer.iterations")
    assert f"optimizer.iterations: {8 + step + 1};" in told
    assert f"ids of its examples: {', '.join(map(str, error.ids))})" in told
    assert "(1) a lower learning rate (it was" in told
    assert "(2) look at these examples: pixels" in told
    assert error.what == f"the loss became nan in epoch 3, step {step + 1}"


def test_the_means_until_then_are_told():
    step = place_of(17, epoch=0)
    losses_ = []
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses_.append(logs["loss"])
    )
    model = compiled(net())
    with pytest.raises(callbacks.NotFinite) as found:
        model.fit(pairs(np.nan), verbose=0, shuffle=False, callbacks=[seen, callbacks.FiniteLoss()])
    assert len(losses_) == step + 1
    assert math.isnan(losses_[-1])
    assert f"Until then, the epoch's means: loss {losses_[-2]:.4g}." in str(found.value)
    assert "(2) look at the examples: pixels" in str(found.value)
    assert found.value.ids is None


def test_in_the_first_step_the_examples_are_likelier_than_the_learning_rate():
    images, labels = pictures(16, channels=3)
    images[:] = np.nan
    error, _ = caught(compiled(net()), images, y=labels, batch_size=8, ids=None)
    assert "(1) look at the examples" in str(error)
    assert "Until then" not in str(error)
    assert str(error).index("look at") < str(error).index("a lower learning rate")


def test_a_range_of_steps_where_keras_takes_several_at_once():
    step = place_of(17, epoch=0)
    model = compiled(net(), steps_per_execution=3)
    error, _ = caught(model, pairs(np.nan))
    assert error.steps == ((1, 3) if step < 3 else (4, 4))
    assert 17 in error.ids
    assert len(error.ids) == (24 if step < 3 else 8)
    if step < 3:
        assert "in epoch 1, one of the steps 1 to 3 (" in str(error)
        assert ", ... of 24)" in str(error)


def test_the_last_call_can_have_fewer_steps():
    model = compiled(net(), steps_per_execution=3)
    # Behind the third step: the fourth is one of "4 to 6" for Keras.
    spoil = Planted(lambda: model.trainable_variables[0].assign_add(np.inf), epoch=0, step=3)
    watching = [spoil, callbacks.FiniteLoss(ids=IDS)]
    with pytest.raises(callbacks.NotFinite) as found:
        model.fit(pairs(), verbose=0, shuffle=False, callbacks=watching)
    assert found.value.steps == (4, 4)
    np.testing.assert_array_equal(found.value.ids, IDS(0, 3))


def test_a_training_that_goes_on_within_an_epoch_counts_on():
    step = place_of(17, epoch=0)
    finite = callbacks.FiniteLoss(ids=IDS)
    finite.done = 1
    with pytest.raises(callbacks.NotFinite) as found:
        compiled(net()).fit(pairs(np.nan).skip(1), verbose=0, callbacks=[finite], shuffle=False)
    assert found.value.steps == (step + 1, step + 1)
    assert 17 in found.value.ids
    assert finite.done == 0


def test_a_finite_training_is_as_without():
    ends = []
    for watching in ([], [callbacks.FiniteLoss()]):
        keras.utils.set_random_seed(1)
        model = compiled(net())
        model.fit(pairs(), epochs=2, verbose=0, shuffle=False, callbacks=watching)
        ends.append(np.concatenate([np.ravel(weight) for weight in model.get_weights()]))
    np.testing.assert_array_equal(*ends)


# -- the part of the loss ------------------------------------------------------------------------


def distilled(terms=None, *, student=None, rate=0.01, alpha=0.5, **options):
    student = classifier() if student is None else student
    teacher = options.pop("teacher", None)
    keras.utils.set_random_seed(2)
    teacher = classifier(6) if teacher is None else teacher
    made = kdkeras.Distiller(student=student, teacher=teacher, alpha=alpha, terms=terms, **options)
    return compiled(made, rate)


def test_all_parts_at_once_are_the_students_logits():
    # Finite, as a Distiller wants it, but too large for float32 once it is multiplied.
    flat = [[keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)] for _ in "ab"]
    student, teacher = map(keras.Sequential, flat)
    error, _ = caught(distilled(student=student, teacher=teacher), batches(3e38))
    step = place_of(17, epoch=0)
    assert error.steps == (step + 1, step + 1)
    assert 17 in error.ids
    assert error.parts == ("hard", "soft_targets")
    assert "All at once: the student's logits were not finite" in str(error)
    assert "Not finite: hard (inf), soft_targets (nan). All at once" in str(error)


class Broken(keras.losses.Loss):
    """A loss that is NaN from a value of a variable on."""

    def __init__(self, name="broken"):
        super().__init__(name=name)
        self.added = keras.Variable(0.0, trainable=False)

    def call(self, y_true, y_pred):
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1) + self.added


@pytest.mark.parametrize("layer", [None, "dense"])
def test_a_term_is_named_and_the_finite_ones_are_told(layer):
    student, loss = classifier(), Broken()
    teacher = classifier()
    hint = {}
    if layer:
        hint = {"teacher_layer": teacher.layers[1].name, "student_layer": student.layers[1].name}
    terms = [kdkeras.Term(losses.SoftTargets()), kdkeras.Term(loss, **hint)]
    made = distilled(terms, student=student, teacher=teacher, rate=0.03)
    x, y = examples()
    spoil = Planted(lambda: loss.added.assign(np.nan), epoch=1, step=2)
    with pytest.raises(callbacks.NotFinite) as found:
        made.fit(x, y, 8, 2, verbose=0, callbacks=[spoil, callbacks.FiniteLoss()])
    error = found.value
    assert (error.epoch, error.steps, error.parts) == (2, (3, 3), ("broken",))
    assert error.learning_rate == pytest.approx(0.03)
    told = str(error)
    assert "Not finite: broken (nan). Still finite: hard " in told
    assert ", soft_targets " in told
    assert "optimizer.iterations: 7;" in told
    tried = [
        "(1) a lower learning rate (it was 0.03), or warm-up",
        "(2) look at the teacher: its answers",
    ]
    tried += ["(3) a lower weight of `broken`", "(4) look at the examples"]
    assert all(one in told for one in tried)


def test_the_first_batch_of_an_epoch_tells_the_means_of_the_one_before():
    loss = Broken()
    made = distilled([kdkeras.Term(loss)])
    x, y = examples()
    spoil = Planted(lambda: loss.added.assign(np.inf), epoch=1, step=0)
    watching = [spoil, callbacks.FiniteLoss()]
    with pytest.raises(callbacks.NotFinite, match="Until then, the means of the epoch before: "):
        made.fit(x, y, 8, 2, verbose=0, callbacks=watching)


@pytest.mark.parametrize(
    ("attribute", "value", "part", "told"),
    [
        ("weight", np.inf, "soft_targets_weight", "soft_targets_weight (inf)"),
        ("weight", 3e38, "soft_targets_weight", "soft_targets_weight (3e+38)"),
    ],
)
def test_a_weight_that_makes_infinity_of_a_finite_term(attribute, value, part, told):
    made = distilled([kdkeras.Term(losses.SoftTargets())], alpha=0.0)
    setattr(made.terms[0], attribute, value)
    x, y = examples()
    x = 100.0 * x  # so that the term is above 2
    error, _ = caught(made, x, y=y, batch_size=8, ids=None)
    assert error.parts == (part,)
    assert f"Not finite: {told}. Still finite: hard " in str(error)
    assert "(1) a finite, smaller `soft_targets_weight`; (2) look at" in str(error)


class Late(keras.optimizers.schedules.LearningRateSchedule):
    """Infinite at a step which the probes of a schedule do not try."""

    def __call__(self, step):
        return keras.ops.where(keras.ops.cast(step, "int32") == 5, np.inf, 1.0)


def test_a_schedule_of_a_weight_is_looked_up_at_its_step():
    made = distilled([kdkeras.Term(losses.SoftTargets(), weight=Late())])
    x, y = examples()
    error, ended = caught(made, x, y=y, batch_size=8, epochs=3, ids=None)
    assert (error.epoch, error.steps) == (2, (2, 2))
    assert error.parts == ("soft_targets_weight",)
    assert ended == [0]


class Penalty(keras.regularizers.Regularizer):
    def __init__(self):
        self.factor = keras.Variable(0.01, trainable=False)

    def __call__(self, weight):
        return self.factor * keras.ops.sum(weight**2)


def test_a_penalty_is_found_where_all_else_is_finite():
    penalty = Penalty()
    made = distilled(student=classifier(penalty=penalty))
    x, y = examples()
    spoil = Planted(lambda: penalty.factor.assign(np.inf), epoch=0, step=3)
    with pytest.raises(callbacks.NotFinite) as found:
        made.fit(x, y, 8, verbose=0, callbacks=[spoil, callbacks.FiniteLoss()])
    assert (found.value.steps, found.value.parts) == ((4, 4), ("penalties",))
    told = str(found.value)
    assert "Not finite: penalties (regularisers and `add_loss`). Still finite: hard " in told
    assert "(2) smaller factors of the regularisers" in told


def test_the_outputs_of_a_plain_model_are_told_apart():
    inputs = keras.Input((6,))
    outputs = {name: keras.layers.Dense(3, name=name)(inputs) for name in ("shape", "color")}
    model = keras.Model(inputs, outputs)
    kinds = {"shape": sparse_loss(), "color": "mse"}
    model.compile("sgd", kinds)
    x, y = examples()
    wanted = np.zeros((32, 3), "float32")
    wanted[9] = np.inf
    with pytest.raises(callbacks.NotFinite) as found:
        model.fit(
            x, {"shape": y, "color": wanted}, batch_size=8, shuffle=False, verbose=0,
            callbacks=[callbacks.FiniteLoss()],
        )  # fmt: skip
    assert (found.value.steps, found.value.parts) == ((2, 2), ("color_loss",))


# -- teachers ------------------------------------------------------------------------------------


def mutual(rate, teacher_rate):
    teacher = kdkeras.Distiller(student=classifier(5), alpha=0.5)
    compiled(teacher, teacher_rate)
    made = kdkeras.Distiller(student=classifier(), teacher=teacher, alpha=0.5, train_teacher=True)
    return compiled(made, rate)


def test_a_teacher_that_is_trained_is_named_first():
    made = mutual(0.01, 0.01)
    kernel = made.teacher.student.layers[-1].kernel
    spoil = Planted(lambda: kernel.assign(kernel * np.nan), epoch=0, step=2)
    x, y = examples()
    with pytest.raises(callbacks.NotFinite) as found:
        made.fit(x, y, 8, verbose=0, callbacks=[spoil, callbacks.FiniteLoss()])
    parts = ("teacher_hard", "teacher_soft_targets", "soft_targets")
    assert (found.value.steps, found.value.parts) == ((3, 3), parts)
    told = "Not finite: teacher_hard (nan), teacher_soft_targets (nan), soft_targets (nan). Still"
    assert told in str(found.value)
    assert "(1) a lower learning rate of the teacher's own optimizer (it was 0.01)" in str(
        found.value
    )


def test_a_teacher_that_its_update_spoilt_is_suspected():
    x, y = examples()
    error, _ = caught(mutual(0.01, 1e38), x, y=y, batch_size=8, epochs=2, ids=None)
    # Its own loss was finite still.
    assert (error.steps, error.parts) == ((1, 1), ("soft_targets",))
    assert "(1) a lower learning rate of the teacher's own optimizer (it was 1e+38)" in str(error)


def test_a_student_that_diverges_is_not_taken_for_its_teacher():
    x, y = examples()
    error, _ = caught(mutual(1e38, 0.01), x, y=y, batch_size=8, epochs=2, ids=None)
    assert (error.steps, error.parts) == (
        (2, 2),
        ("hard", "soft_targets", "teacher_soft_targets"),
    )
    assert "(1) a lower learning rate (it was 1e+38)" in str(error)
    assert "teacher's own optimizer" not in str(error)


def test_a_frozen_teacher_of_nan_is_refused_before_the_first_step():
    teacher = classifier(6)
    kernel = teacher.layers[1].kernel
    value = kernel.numpy()
    value[2, 1] = np.nan
    kernel.assign(value)
    made = distilled(teacher=teacher)
    x, y = examples()
    before = made.student.get_weights()
    error, _ = caught(made, x, y=y, ids=None)
    assert error.parts == ("teacher",)
    assert error.epoch is None
    assert f"The teacher's weights hold NaN: '{kernel.path}'. It has nothing" in str(error)
    for one, other in zip(before, made.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_recorded_logits_of_nan_are_refused_by_name():
    x, y = examples()
    logits = np.zeros((32, 3), "float32")
    logits[17, 1] = np.nan
    made = compiled(kdkeras.Distiller(student=classifier()))
    said = "The teacher's 'logits' must be finite. Received: NaN or infinity."
    with pytest.raises(ValueError, match=said):
        made.fit(x, {"label": y, "logits": logits}, verbose=0)
    targets = {"label": y, "logits": logits, "id": np.arange(100, 132)}
    dataset = tf.data.Dataset.from_tensor_slices((x, targets)).batch(8)
    said = "The teacher's 'logits' must be finite. .* in the examples of ids .*117"
    with pytest.raises(ValueError, match=said):
        made.fit(dataset, verbose=0)


def test_pixels_of_nan_are_refused_with_their_ids():
    made = distilled(student=net(), teacher=net(6))
    with pytest.raises(
        ValueError, match="`x` must be finite. Received: .* in the examples of ids .*17"
    ):
        made.fit(batches(np.nan), verbose=0)


def test_a_trial_of_a_search_is_stopped_alike():
    tiny = {"max_train": 60, "quiet": True, "student": "mlp", "teacher": "mlp", "batch_size": 20}
    given = recipe.Recipe(**tiny, learning_rate=1e30)
    world = worlds.World(given, runner.load_data(given), ["teacher", "student"])
    with pytest.raises(callbacks.NotFinite, match="^The loss became nan in epoch 1, ") as found:
        world.fit(given)
    assert 1e29 < found.value.learning_rate <= 1e30
    assert found.value.what.startswith("the loss became nan in epoch 1, step ")
    assert "hard" in found.value.parts


# -- the end of an epoch -------------------------------------------------------------------------


def test_weights_that_the_last_step_spoilt_are_found_before_a_checkpoint(tmp_path):
    model = compiled(net())
    kernel = model.trainable_variables[2]

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                kernel.assign(kernel * np.nan)

    written = keras.callbacks.ModelCheckpoint(str(tmp_path / "m.weights.h5"))
    watching = [callbacks.FiniteLoss(ids=IDS), Spoil(), written]
    watching = [watching[1], watching[0], watching[2]]
    with pytest.raises(callbacks.NotFinite) as found:
        model.fit(pairs(), verbose=0, shuffle=False, callbacks=watching)
    assert list(tmp_path.iterdir()) == []
    assert (found.value.epoch, found.value.steps, found.value.parts) == (1, (1, 4), ("weights",))
    told = str(found.value)
    assert told.startswith("Weights became NaN or infinite in epoch 1, one of the steps 1 to 4 (")
    assert f"They are '{kernel.path}'. The loss of every batch was finite (mean" in told
    assert "but not every gradient: the last step's, or an earlier one whose NaN a ReLU" in told
    assert "(3) `tf.debugging.enable_check_numerics()`" in told
    assert found.value.ids is None


def test_a_validation_loss_that_is_not_finite():
    model = compiled(net())
    images, labels = pictures(8, channels=3)
    images[3] = np.nan
    x, y = pictures(16, channels=3)
    finite = callbacks.FiniteLoss()
    with pytest.raises(callbacks.NotFinite) as found:
        model.fit(x, y, verbose=0, validation_data=(images, labels), callbacks=[finite])
    assert found.value.parts == ("val_loss",)
    assert str(found.value).startswith("The val_loss became nan in epoch 1, though the loss in tr")
    assert found.value.what == "the val_loss became nan in epoch 1"


def test_figures_without_a_loss_are_refused():
    class Silent(keras.Model):
        def call(self, x):
            return x

        def train_step(self, batch):
            return {"other": 1.0}

    model = Silent()
    model.compile("sgd")
    with pytest.raises(ValueError, match="looks at the figure 'loss'.* Received: other"):
        model.fit(np.ones((4, 2)), verbose=0, callbacks=[callbacks.FiniteLoss()])


# -- float16 -------------------------------------------------------------------------------------


def steep(x):
    """The identity, whose gradient is 6e4 times too large."""
    return x + keras.ops.cast(6e4, "float16") * (x - keras.ops.stop_gradient(x))


def half(times=0):
    """A network in mixed_float16, whose first layer's gradient is `6e4 ** times` too large."""
    keras.config.set_dtype_policy("mixed_float16")
    inputs = keras.Input((6,))
    x = keras.layers.Dense(4)(inputs)
    for _ in range(times):
        x = keras.layers.Lambda(steep)(x)
    return compiled(keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x)), 0.1)


def test_a_loss_scale_that_falls_below_one_is_told():
    model = half(times=2)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    x, y = examples(8 * 20)
    before = model.get_weights()
    error, ended = caught(model, x, y=y, batch_size=8, ids=lambda epoch, step: [epoch, step])
    assert (error.epoch, error.steps, error.parts) == (1, (16, 16), ("gradients",))
    assert ended == []
    # 2^15 halved 16 times, without one update.
    assert float(model.optimizer.dynamic_scale) == 0.5
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    told = str(error)
    assert told.startswith("The loss scale fell to 0.5 in epoch 1, step 16 (optimizer.iterations: ")
    assert "(optimizer.iterations: 0; learning rate: 0.1; ids of its examples: 0, 15)" in told
    assert "The gradients of 16 of the epoch's 16 steps were not finite in float16" in told
    assert "(1) precision_policy='float32'; (2) 'mixed_bfloat16'" in told
    assert "(3) a lower learning rate (it was 0.1), or warm-up." in told


def test_an_epoch_of_which_most_steps_are_skipped(tmp_path):
    model = half(times=2)
    x, y = examples(8 * 18)
    # From so high a scale it takes longer to fall below 1.
    model.optimizer.initial_scale = 2.0**60
    error, ended = caught(model, x, y=y, batch_size=8, ids=None)
    assert (error.steps, error.parts) == ((18, 18), ("gradients",))
    assert "The gradients of 18 of the epoch's 18 steps were not finite" in str(error)
    assert error.what == f"the loss scale fell to {2.0**42:g} in epoch 1, step 18"
    few = half(times=2)
    few.optimizer.initial_scale = 2.0**60
    few.fit(x[: 8 * 15], y[: 8 * 15], 8, verbose=0, callbacks=[callbacks.FiniteLoss()])


def test_half_precision_that_goes_well_is_let_be():
    model = half()
    x, y = examples(8 * 20)
    model.fit(x, y, 8, 2, verbose=0, callbacks=[callbacks.FiniteLoss()])
    assert int(model.optimizer.iterations) == 40
    assert float(model.optimizer.dynamic_scale) == 2.0**15


def test_a_loss_of_nan_in_half_precision_proposes_others():
    model = half()
    x, y = examples()
    x[12] = np.nan
    error, _ = caught(model, x, y=y, batch_size=8, ids=None)
    assert (error.steps, error.parts) == ((2, 2), ("loss",))
    assert "(3) precision_policy='float32', or 'mixed_bfloat16'." in str(error)
    assert error.learning_rate == pytest.approx(0.1)
