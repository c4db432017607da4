"""Trainings that are stopped and gone on with end in the same bits."""

import json
import signal

import keras
import numpy as np
import pytest

import kdkeras
from kdkeras import callbacks, data, methods, perturbations
from kdkeras.callbacks import states

EPOCHS, BATCHES = 3, 5
FOREVER = 10**9


def split():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50, 8, 8, 3)).astype("uint8")
    return data.Examples(images, random.integers(0, 3, 50))


SPLIT = split()


def net(name, width=8):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(width, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x), name=name)


def compiled(model, optimizer=None):
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9) if optimizer is None else optimizer
    model.compile(optimizer, loss=hard, metrics=["accuracy"])
    return model


def plain():
    return compiled(net("plain"))


def distilled():
    noise = perturbations.Gaussian(stddev=0.1, seed=3)
    both = {"student": net("s"), "teacher": net("t")}
    return compiled(kdkeras.Distiller(**both, perturbation=noise), keras.optimizers.AdamW(0.01))


def attacked():
    attack = {"epsilon": 8 / 255, "steps": 2, "norm": "linf", "seed": 5}
    return compiled(kdkeras.Distiller(**methods.adversarial_training(student=net("s"), **attack)))


def mutual():
    teacher = compiled(net("t"))
    return compiled(kdkeras.Distiller(**methods.mutual(student=net("s"), teacher=teacher)))


def averaged():
    student = net("s")
    teacher = net("t")
    teacher.set_weights(student.get_weights())
    return compiled(kdkeras.Distiller(student=student, teacher=teacher, teacher_momentum=0.9))


def mixed():
    keras.config.set_dtype_policy("mixed_float16")
    return distilled()


def features():
    student, teacher = net("s"), net("t", width=6)
    named = {"student_layer": student.layers[2].name, "teacher_layer": teacher.layers[2].name}
    term = kdkeras.Term(keras.losses.MeanSquaredError(name="hint"), **named)
    return compiled(kdkeras.Distiller(student=student, teacher=teacher, terms=[term]))


def batches(first_epoch):
    crop = kdkeras.augment.pipeline("crop,flip", padding=1)
    return data.batches(SPLIT, 10, seed=0, augment=crop, first_epoch=first_epoch)


def on_device(first_epoch):
    return data.OnDevice(SPLIT, 10, seed=0, first_epoch=first_epoch)


def of_pairs(first_epoch):
    return batches(first_epoch).map(lambda x, y: (x, y["label"]))


class Signal(keras.callbacks.Callback):
    """Stops a training in the step of a number, as Ctrl-C would."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)


def trained(make, training, path, *stops, minutes=100.0):
    """Weights, figures and the places gone on from, of a training that is stopped at some steps."""
    places = []
    for stop in (*stops, FOREVER):
        keras.utils.set_random_seed(1)
        model = make()
        checkpoint = callbacks.Checkpoint(path, monitor="val_accuracy", minutes=minutes)
        checkpoint.restore(model)
        places.append((checkpoint.epoch, checkpoint.done))
        options = {"validation_data": SPLIT.batch(25), "verbose": 0, "shuffle": False}
        try:
            checkpoint.fit(model, training, epochs=EPOCHS, callbacks=[Signal(stop)], **options)
        except KeyboardInterrupt:
            continue
        last = states.digest(model)
        checkpoint.load_best(model)
        return last, states.digest(model), checkpoint.rows, places
    raise AssertionError("never at its end")


@pytest.mark.parametrize(
    ("make", "training"),
    [
        (plain, of_pairs),
        (distilled, batches),
        (distilled, on_device),
        (attacked, batches),
        (mutual, batches),
        (averaged, batches),
        (mixed, batches),
        (features, batches),
    ],
)
def test_what_is_gone_on_with_ends_in_the_same_bits(tmp_path, make, training):
    *whole, places = trained(make, training, tmp_path / "whole")
    assert places == [(0, 0)]
    # In the midst of an epoch, then in another's last step.
    *stopped, places = trained(make, training, tmp_path / "stopped", 3, 7)
    assert places == [(0, 0), (0, 3), (2, 0)]
    assert stopped == whole
    last, best, rows = whole
    assert len(rows) == EPOCHS
    assert rows[0]["loss"] != rows[1]["loss"]
    accuracies = [row["val_accuracy"] for row in rows]
    assert (last == best) == (max(accuracies) > max(accuracies[:-1]))
    assert not list(tmp_path.glob("*.tmp*"))
    assert len(list(tmp_path.glob("stopped*"))) == 2


class Crash(keras.callbacks.Callback):
    """Ends a training after a step without a chance to write, as SIGKILL would."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise RuntimeError("killed")


def test_it_is_written_every_few_minutes_within_an_epoch(tmp_path):
    *whole, _ = trained(plain, of_pairs, tmp_path / "whole")
    options = {"validation_data": SPLIT.batch(25), "verbose": 0, "shuffle": False}
    done = []
    for crash in (4, 4, FOREVER):
        keras.utils.set_random_seed(1)
        model = plain()
        checkpoint = callbacks.Checkpoint(tmp_path / "c", monitor="val_accuracy", minutes=1e-9)
        assert checkpoint.restore(model) == bool(done)
        done.append((checkpoint.epoch, checkpoint.done))
        given = {"epochs": EPOCHS, "callbacks": [Crash(crash)], **options}
        if crash < FOREVER:
            with pytest.raises(RuntimeError, match="killed"):
                checkpoint.fit(model, of_pairs, **given)
    checkpoint.fit(model, of_pairs, **given)
    # Three steps are written; the one in which it crashed is not.
    assert done == [(0, 0), (0, 3), (1, 1)]
    last = states.digest(model)
    checkpoint.load_best(model)
    assert [last, states.digest(model), checkpoint.rows] == whole


# -- what is refused -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "checkpoint"
    keras.utils.set_random_seed(1)
    model = plain()
    checkpoint = callbacks.Checkpoint(path, monitor="val_accuracy", identity={"alpha": 0.1})
    checkpoint.restore(model)
    options = {"validation_data": SPLIT.batch(25), "verbose": 0, "shuffle": False}
    checkpoint.fit(model, of_pairs, epochs=2, **options)
    return path


def refused(path, match, make=plain, identity=("alpha", 0.1)):
    model = make()
    before = states.digest(model)
    checkpoint = callbacks.Checkpoint(path, identity=dict([identity]))
    with pytest.raises(ValueError, match=match):
        checkpoint.restore(model)
    assert states.digest(model) == before
    assert (checkpoint.epoch, checkpoint.rows) == (0, [])


def test_of_another_training(written):
    said = rf"The checkpoint '{written}' is of another training\."
    refused(written, said, identity=("alpha", 0.2))
    refused(written, said, make=distilled)
    refused(written, said, make=lambda: compiled(net("n"), keras.optimizers.Adam()))
    callbacks.Checkpoint(written, identity={"alpha": 0.1}).restore(plain())


@pytest.mark.parametrize("count", [0, 1, 100, -1])
def test_half_a_file(written, tmp_path, count):
    content = written.read_bytes()
    path = tmp_path / "half"
    path.write_bytes(content[:count])
    refused(path, rf"{path} .*damaged")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_flipped_bit(written, tmp_path, share):
    content = bytearray(written.read_bytes())
    content[int(share * len(content))] ^= 4
    path = tmp_path / "flipped"
    path.write_bytes(content)
    refused(path, rf"{path} .*damaged")


def test_of_another_version(written, tmp_path):
    with np.load(written) as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays["about"]))
    arrays["about"] = np.array(json.dumps({**about, "format": 2, "kdkeras": "9.9"}))
    path = tmp_path / "newer.npz"
    np.savez(path, **arrays)
    refused(path, rf"'{path}' must be of format 1\. Received: format 2\. It was written by a newer")
    np.savez(path, numbers=np.ones(2))
    refused(path, rf"{path} is no checkpoint, or is damaged: KeyError\('about'\)")


def test_arguments():
    with pytest.raises(
        ValueError, match=r"`minutes` must be positive and finite\. Received: minutes=0"
    ):
        callbacks.Checkpoint("c", minutes=0)


def test_figures(tmp_path):
    model = plain()
    checkpoint = callbacks.Checkpoint(tmp_path / "c", monitor="val_acc")
    with pytest.raises(ValueError, match="`load_best` needs a `monitor`, and an epoch that was"):
        checkpoint.load_best(model)
    with pytest.raises(ValueError, match=r"`monitor` must be one of the figures: accuracy, loss"):
        checkpoint.fit(model, of_pairs, epochs=1, verbose=0, shuffle=False)


def test_the_best_of_another_model(written):
    checkpoint = callbacks.Checkpoint(written, identity={"alpha": 0.1})
    checkpoint.restore(plain())
    with pytest.raises(ValueError, match=r"`model` must be the one .* Received: 'distiller'"):
        checkpoint.load_best(distilled())


# -- signals -------------------------------------------------------------------------------------


def test_handlers_are_put_back_and_get_the_signal(tmp_path):
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        model = plain()
        checkpoint = callbacks.Checkpoint(tmp_path / "c")

        class Twice(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                if batch == 2:
                    signal.raise_signal(signal.SIGTERM)  # noted
                    calls.append("in the step")
                    signal.raise_signal(signal.SIGTERM)  # again: at once
                    calls.append("after it")

        checkpoint.fit(model, of_pairs, epochs=1, callbacks=[Twice()], verbose=0, shuffle=False)
        assert calls == ["in the step", signal.SIGTERM, "after it", signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert calls[4:] == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert states.read(tmp_path / "c")[0]["epoch"] == 1
