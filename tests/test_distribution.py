"""Several devices and several processes train as one does: the same examples, weights and logs."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import free_ports

from kdkeras import distribution, slicing

ROOT = pathlib.Path(__file__).parent.parent
BROKEN = 'TF_CONFIG, which lists the workers and says which one this is.*"index": 0'

# What a process does, whichever its strategy; it prints what it found as JSON.
SCRIPT = """
import json, os, sys
strategy_name, devices = sys.argv[1], int(sys.argv[2])
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
if devices > 1:
    two = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, two)
import keras
import numpy as np
import kdkeras
from kdkeras import distribution

named = [f"CPU:{i}" for i in range(devices)] if strategy_name == "mirrored" else None
strategy = distribution.strategy(strategy_name, devices=named)
random = np.random.default_rng(0)
x = random.random((24, 8, 8, 1)).astype("float32")
y = np.arange(24) % 3
logits = random.normal(size=(24, 3)).astype("float32")
split = tf.data.Dataset.from_tensor_slices((x, y))
found = {"chief": distribution.is_chief()}

def net(width, synchronized=None):
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Conv2D(width, 3, strides=2, kernel_regularizer="l2")(inputs)
    if synchronized is not None:
        h = keras.layers.BatchNormalization(momentum=0.5, synchronized=synchronized)(h)
    h = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(h))
    return keras.Model(inputs, keras.layers.Dense(3)(h))

def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

def batches(size=8):
    return kdkeras.data.batches(split, size, seed=3)

def recorded(x, y):
    return x, {"label": y["label"], "logits": tf.gather(logits, y["id"])}

def plain(x, y):
    return x, y["label"]

def refused(function):
    try:
        function()
    except ValueError as error:
        return str(error)

def built(make, optimizer=None, **compiled):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = make()
        optimizer = keras.optimizers.SGD(0.3, momentum=0.9) if optimizer is None else optimizer()
        model.compile(optimizer, loss=loss(), metrics=["accuracy"], **compiled)
    return model

def trained(name, make, dataset, optimizer=None, validation=None):
    model = built(make, optimizer)
    history = model.fit(
        dataset, epochs=2, validation_data=validation, verbose=0, shuffle=False
    ).history
    found[name] = {"logs": history, "weights": [w.tolist() for w in model.get_weights()]}
    return model

def live(**options):
    return kdkeras.Distiller(student=net(4), teacher=net(6), **options)
"""

TRAININGS = """
seen = found["seen"] = []

class Watched:
    "Draws the noise, but does not add it: what is drawn differs from device to device."

    def __init__(self):
        self.gaussian = kdkeras.perturbations.Gaussian(stddev=1.0, seed=5)

    def __call__(self, model, x, targets, teacher=None):
        noise = self.gaussian(model, tf.zeros_like(x), targets)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        tf.numpy_function(
            lambda *now: seen.append([part.tolist() for part in now]),
            [replica, targets["id"], targets["view"], noise[0, 0, :3, 0]],
            [],
        )
        return x

# 24 = 3 * 7 + 3: the last batch of the validation is smaller, and not even.
model = trained("live", lambda: live(perturbation=Watched()), batches(), validation=split.batch(7))
found["evaluated"] = model.evaluate(x, y, batch_size=7, verbose=0)
found["predicted"] = model.predict(x[:13], batch_size=8, verbose=0).tolist()
trained("recorded", lambda: kdkeras.Distiller(student=net(4)), batches().map(recorded))
cosine = keras.optimizers.schedules.CosineDecay(0.3, 6)
trained(
    "synchronized",
    lambda: kdkeras.Distiller(student=net(4, True), teacher=net(6, False)),
    batches(),
    lambda: keras.optimizers.SGD(cosine),
)
pairs = batches().map(plain)
trained("plain", lambda: distribution.ready(net(4)), pairs, validation=split.batch(7))

def taught_teacher():
    teacher = net(6)
    teacher.compile(keras.optimizers.SGD(0.1), loss=loss(), metrics=["accuracy"])
    return kdkeras.Distiller(student=net(4), teacher=teacher, train_teacher=True)

trained("train_teacher", taught_teacher, batches())

def attacked():
    "With the attack's random start at rest: what is drawn differs from device to device."
    attack = {"epsilon": 0.1, "steps": 2, "random_start": False}
    return kdkeras.methods.rslad(student=net(4), teacher=net(6), **attack)

trained("attacked", lambda: kdkeras.Distiller(**attacked()), batches())

def weighed(x, y):
    # As slices of 3 and 4 of 7 examples weigh them: 1/6 and 1/8, not 1/7.
    count = tf.shape(x)[0]
    first = count // 2
    weights = [tf.fill([part], count / (2 * part)) for part in (first, count - first)]
    return x, y["label"], tf.cast(tf.concat(weights, 0), "float32")

uneven = batches(7).map(weighed if strategy_name == "none" else plain)
trained("uneven", lambda: distribution.ready(net(4)), uneven)
"""

# Stops after one of two epochs and goes on; and what is not so at all workers.
CHECKPOINTS = """
import pathlib, tempfile

def of_epochs(first):
    return kdkeras.data.batches(split, 8, seed=3, first_epoch=first).map(plain)

def checkpointed(path, epochs):
    model = built(lambda: distribution.ready(net(4)))
    checkpoint = kdkeras.callbacks.Checkpoint(path)
    restored = checkpoint.restore(model)
    rows = checkpoint.fit(model, of_epochs, epochs=epochs, verbose=0, shuffle=False)
    weights = [w.tolist() for w in model.get_weights()]
    found[f"{path.name} {epochs}"] = {"rows": rows, "weights": weights}
    return restored

with tempfile.TemporaryDirectory() as folder:
    whole, stopped = (pathlib.Path(folder) / name for name in ("whole", "stopped"))
    found["gone on with"] = [checkpointed(stopped, 1)]
    earlier = stopped.read_bytes()
    found["gone on with"] += [checkpointed(stopped, 2), checkpointed(whole, 2)]
    if not found["chief"]:
        stopped.write_bytes(earlier)
    found["apart"] = refused(lambda: checkpointed(stopped, 2))
    if not found["chief"]:
        stopped.unlink()
    found["missing"] = refused(lambda: checkpointed(stopped, 2))
found["agreed"] = [distribution.agreed(number, strategy) for number in (7, int(found["chief"]))]
"""

# In mixed precision one example overflows: on one device, in one of two, in one of two processes.
OVERFLOW = """
keras.config.set_dtype_policy("mixed_float16")
bright = x.copy()
bright[12] = 6e4
trained(
    "overflow",
    lambda: distribution.ready(net(4)),
    tf.data.Dataset.from_tensor_slices((bright, y)).batch(8),
    lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1024.0),
)
keras.config.set_dtype_policy("float32")
"""

REFUSALS = """
found["few"] = refused(lambda: built(live).fit(batches(23), verbose=0))
found["together"] = refused(lambda: built(live, steps_per_execution=2).fit(batches(), verbose=0))
student = net(4)
elsewhere = built(lambda: kdkeras.Distiller(student=student, teacher=net(6)))
found["elsewhere"] = refused(lambda: elsewhere.fit(batches(), verbose=0))
relations = [kdkeras.Term(kdkeras.losses.RelationalDistance())]
compared = built(lambda: kdkeras.Distiller(student=net(4), teacher=net(6), terms=relations))
found["compared"] = refused(lambda: compared.fit(x, y, batch_size=3, verbose=0))
"""


def start(script, name, devices=1, **environment):
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    command = [sys.executable, "-c", SCRIPT + script + "\nprint(json.dumps(found))"]
    return subprocess.Popen(
        [*command, name, str(devices)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes, seconds=400):
    """What each process found; all are ended, whatever happens."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def workers(script, count=2):
    ports = free_ports(count)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    configs = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(count)]
    return [start(script, "multiworker", TF_CONFIG=json.dumps(config)) for config in configs]


@pytest.fixture(scope="module")
def runs():
    """What one device, two devices and each of two processes found."""
    single = start(TRAININGS + OVERFLOW, "none")
    mirrored = start(TRAININGS + OVERFLOW + REFUSALS, "mirrored", 2)
    single, mirrored = finish([single, mirrored])
    first, second = finish(workers(TRAININGS + CHECKPOINTS + OVERFLOW + REFUSALS))
    return {"single": single, "mirrored": mirrored, "first": first, "second": second}


SEVERAL = ("mirrored", "first", "second")


def largest_difference(one, other):
    pairs = zip(one["weights"], other["weights"], strict=True)
    return max(np.abs(np.subtract(a, b)).max() for a, b in pairs)


@pytest.mark.parametrize("run", SEVERAL)
@pytest.mark.parametrize(
    "name", ["live", "recorded", "synchronized", "plain", "train_teacher", "attacked"]
)
def test_weights_and_logs_are_those_of_one_device(runs, run, name):
    expected, got = runs["single"][name], runs[run][name]
    assert largest_difference(expected, got) < 1e-4
    assert got["logs"].keys() == expected["logs"].keys() >= {"loss", "accuracy"}
    for key, values in expected["logs"].items():
        np.testing.assert_allclose(got["logs"][key], values, atol=1e-4, err_msg=key)
    before, after = expected["logs"]["loss"]
    assert before != pytest.approx(after, abs=1e-3)  # or nothing was trained


@pytest.mark.parametrize("run", SEVERAL)
def test_evaluate_and_predict_too(runs, run):
    np.testing.assert_allclose(runs[run]["evaluated"], runs["single"]["evaluated"], atol=1e-4)
    np.testing.assert_allclose(runs[run]["predicted"], runs["single"]["predicted"], atol=1e-4)
    assert np.shape(runs[run]["predicted"]) == (13, 3)


def steps(seen, epoch):
    """The examples of each step of an epoch, those of the first replica first."""
    by_replica = {}
    for replica, ids, views, _ in seen:
        assert len(set(views)) == 1
        if views[0] == epoch:
            by_replica.setdefault(replica, []).append(ids)
    slices = [by_replica[replica] for replica in sorted(by_replica)]
    return [sum(parts, []) for parts in zip(*slices, strict=True)]


def test_every_step_has_the_examples_of_one_device_and_every_epoch_each_once(runs):
    both = runs["first"]["seen"] + runs["second"]["seen"]
    for epoch in (0, 1):
        expected = steps(runs["single"]["seen"], epoch)
        assert sorted(sum(expected, [])) == list(range(24))
        assert [len(ids) for ids in expected] == [8, 8, 8]
        assert steps(runs["mirrored"]["seen"], epoch) == expected
        assert steps(both, epoch) == expected
    assert {replica for replica, *_ in both} == {0, 1}


def test_replicas_draw_noise_of_their_own(runs):
    both = runs["first"]["seen"] + runs["second"]["seen"]
    for seen in (runs["single"]["seen"], runs["mirrored"]["seen"], both):
        draws = {tuple(noise) for *_, noise in seen}
        assert len(draws) == len(seen)
    assert sorted(both) == sorted(runs["mirrored"]["seen"])


@pytest.mark.parametrize("run", SEVERAL)
def test_slices_that_differ_by_one_weigh_a_little_differently(runs, run):
    assert largest_difference(runs["single"]["uneven"], runs[run]["uneven"]) < 1e-4


@pytest.mark.parametrize("run", ["first", "second"])
def test_workers_go_on_from_a_checkpoint(runs, run):
    found = runs[run]
    assert found["gone on with"] == [False, True, False]
    stopped, whole = found["stopped 2"], found["whole 2"]
    assert largest_difference(stopped, whole) <= 1e-6
    assert len(stopped["rows"]) == 2
    for one, other in zip(stopped["rows"], whole["rows"], strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_workers_whose_checkpoints_differ_are_refused_and_do_not_wait_for_ever(runs):
    for run in ("first", "second"):
        assert runs[run]["agreed"] == [True, False]
        for case in ("apart", "missing"):
            assert "Other workers' checkpoints are of other epochs than '" in runs[run][case]


def test_slices_of_any_batch_are_the_batch():
    x = np.arange(17)
    batches = tf.data.Dataset.from_tensor_slices({"id": x, "x": x / 2}).batch(7)
    for replicas, workers in ((1, 1), (2, 1), (3, 3), (2, 2), (3, 1)):
        here = replicas // workers
        dealt = [
            [
                part["id"].numpy().tolist()
                for part in slicing.slices(batches, replicas, i * here, here)
            ]
            for i in range(workers)
        ]
        for step, batch in enumerate(batches):
            parts = [part for of in dealt for part in of[step * here : (step + 1) * here]]
            assert sum(parts, []) == batch["id"].numpy().tolist()
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    whole = slicing.slices(batches.take(2).unbatch().batch(6, drop_remainder=True), 2, 0, 2)
    assert whole.element_spec["x"].shape == (3,)


@pytest.mark.parametrize("run", SEVERAL)
def test_an_overflow_on_one_device_is_an_overflow_on_all(runs, run):
    expected, got = runs["single"]["overflow"], runs[run]["overflow"]
    assert np.isfinite(largest_difference(expected, got))
    assert largest_difference(expected, got) < 2e-3  # float16
    np.testing.assert_allclose(got["logs"]["loss"], expected["logs"]["loss"], rtol=1e-3)


@pytest.mark.parametrize("run", SEVERAL)
def test_what_cannot_work_is_refused(runs, run):
    assert "example for each of the 2 devices" in runs[run]["few"]
    assert runs[run]["few"].endswith("Received: a batch of 1")
    assert "`steps_per_execution` must be 1 on several devices" in runs[run]["together"]
    assert "inside `with strategy.scope():`" in runs[run]["elsewhere"]
    assert "at least two for each device" in runs[run]["compared"]


def test_one_process_is_the_chief(runs):
    assert [runs[run]["chief"] for run in runs] == [True, True, True, False]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "no JSON",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["a:2"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_broken_tf_config_is_refused_with_a_whole_one(monkeypatch, given):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_CONFIG", given)
        with pytest.raises(ValueError, match=BROKEN):
            distribution.is_chief()
    with pytest.raises(ValueError, match=BROKEN):
        distribution.strategy("multiworker")


def test_the_chief_of_a_cluster_with_one(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for kind, index, expected in (("chief", 0, True), ("worker", 0, False), ("worker", 1, False)):
        task = {"type": kind, "index": index}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
        assert distribution.is_chief() is expected


def test_names_and_devices():
    with pytest.raises(ValueError, match="'none'.*'mirrored'.*'multiworker'.*Received.*'gpus'"):
        distribution.strategy("gpus")
    with pytest.raises(ValueError, match="setting of 'mirrored'. Received: devices="):
        distribution.strategy("none", devices=["CPU:0"])
    assert distribution.strategy("none").num_replicas_in_sync == 1
    assert distribution.strategy("mirrored", devices=["CPU:0"]).num_replicas_in_sync == 1
