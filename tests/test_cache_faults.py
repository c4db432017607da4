"""Caches that are interrupted, shared, damaged or of something else: mended, or refused by name."""

import builtins
import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_cache import filled, lazy, part_of, plain, small_split, streamed, teacher_net

from kdkeras import augment, cache, data, teachers
from kdkeras.cache import layout, store

CROPS = augment.pipeline("crop,flip", padding=1)


def scores(x):
    """Logits of each picture, the same to the last bit in any batch."""
    weights = np.cos(np.arange(3 * 8 * 8 * 3, dtype="float32")).reshape(3, 1, 8, 8, 3)
    return (x[None] * weights).sum(axis=(2, 3, 4), dtype="float32").T


class Counted:
    """A teacher that is a function: counts pictures, and stops after some of its calls."""

    def __init__(self, stop_after=10**6):
        self.calls, self.pictures, self.stop_after = 0, 0, stop_after
        self.teacher = teachers.Predictions(self.answer, 3)

    def answer(self, x):
        if self.calls == self.stop_after:
            raise RuntimeError("no more answers")
        self.calls, self.pictures = self.calls + 1, self.pictures + len(x)
        return scores(x)


@pytest.fixture
def small_blocks(monkeypatch):
    """Five examples of two views in a block."""
    monkeypatch.setattr(layout, "BLOCK", 10)


def fill_scores(path, teacher=None, split=None, **options):
    split = small_split() if split is None else split
    options = {"augment": CROPS, "views": 2, "name": "scores", "batch_size": 4} | options
    return filled(path, teacher or teachers.Predictions(scores, 3), split, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def unchanged(folder):
    before = contents(folder)
    yield
    assert contents(folder) == before


# Interrupted


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 7, 22])
def test_a_filling_that_stopped_goes_on_where_it_was(tmp_path, small_blocks, stop_after):
    whole = fill_scores(tmp_path / "whole").path.read_bytes()
    path, first, second = tmp_path / "t.cache", Counted(stop_after), Counted()
    with pytest.raises(tf.errors.OpError, match="no more answers"):
        fill_scores(path, first.teacher)
    assert not path.exists()
    assert (tmp_path / "t.cache.partial").exists()
    fill_scores(path, second.teacher)
    # Three calls a block, of ten pictures: eight blocks.
    assert second.pictures == 80 - 10 * (stop_after // 3)
    assert path.read_bytes() == whole
    assert sorted(contents(tmp_path)) == ["t.cache", "whole"]
    third = Counted()
    assert fill_scores(path, third.teacher).identity["teacher"] == {"name": "scores"}
    assert third.calls == 0


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_cache_faults import fill_scores, layout, scores, teachers
layout.BLOCK = 10
calls = 0
def slow(x):
    global calls
    calls += 1
    if calls == 11:
        print("at work", flush=True)
        time.sleep(600)
    return scores(x)
fill_scores({path!r}, teachers.Predictions(slow, 3))
"""


def test_a_filling_that_was_killed_goes_on_and_two_do_not_write_one_file(tmp_path, small_blocks):
    path = tmp_path / "t.cache"
    script = KILLED.format(tests=os.path.dirname(__file__), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "at work\n"
        with (
            unchanged(tmp_path),
            pytest.raises(ValueError, match=r"'.*/t.cache' is being written: process \d+ on \S+ "),
        ):
            fill_scores(path)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    teacher = Counted()
    fill_scores(path, teacher.teacher)
    assert teacher.pictures == 80 - 3 * 10
    assert path.read_bytes() == fill_scores(tmp_path / "whole").path.read_bytes()


def test_two_lazy_ones_do_not_write_one_file(tmp_path, small_blocks):
    path, split = tmp_path / "t.cache", small_split()
    teacher = teachers.Predictions(scores, 3)
    one = lazy(path, teacher, split, name="scores")
    with pytest.raises(ValueError, match="Another process is writing '.*t.cache'. Wait for it"):
        lazy(path, teacher, split, name="scores")
    one.close()
    lazy(path, teacher, split, name="scores").close()


def test_a_damaged_partial_is_mended(tmp_path, small_blocks, capsys):
    whole = fill_scores(tmp_path / "whole").path.read_bytes()
    path, partial = tmp_path / "t.cache", tmp_path / "t.cache.partial"
    with pytest.raises(tf.errors.OpError):
        fill_scores(path, Counted(15).teacher)
    raw = bytearray(partial.read_bytes())
    sections = layout.read(partial).sections()[0]
    raw[sections["logits"][0] + 3 * 12] ^= 1  # of the fourth example: the first block
    raw[sections["prints"][0] + 12 * 8] ^= 1  # the third block
    raw[sections["sums"][0] + 3 * 4] ^= 1  # the fourth
    partial.write_bytes(raw)
    teacher = Counted()
    fill_scores(path, teacher.teacher, verbose=1)
    assert "3 blocks of" in capsys.readouterr().out
    assert teacher.pictures == 80 - 20
    assert path.read_bytes() == whole


def test_a_partial_of_something_else_is_refused(tmp_path, small_blocks):
    path, partial = tmp_path / "t.cache", tmp_path / "t.cache.partial"
    with pytest.raises(tf.errors.OpError):
        fill_scores(path, Counted(9).teacher)
    other = small_split(seed=1)
    other = data.Examples(other.images, other.labels, small_split().ids)
    with unchanged(tmp_path):
        with pytest.raises(ValueError, match="t.cache.partial' was begun with other pictures"):
            fill_scores(path, split=other)
        for options, message in (
            ({"seed": 1}, "seed: 0 there, 1 here"),
            ({"views": 3}, "views: 2 there, 3 here"),
            ({"name": "other"}, 'teacher: {"name": "scores"} there, {"name": "other"} here'),
            ({"split": small_split(39)}, "other examples"),
            ({"teacher": teachers.Predictions(lambda x: scores(x)[:, :2], 2)}, "classes: 3 there"),
        ):
            with pytest.raises(ValueError, match=f"partial' is of something else: {message}"):
                fill_scores(path, **options)
    fill_scores(path, seed=1, overwrite=True)
    assert not partial.exists()
    assert cache.load(path).seed == 1


def test_examples_must_come_in_a_fixed_order(tmp_path, small_blocks):
    mixed = plain(small_split()).shuffle(40, reshuffle_each_iteration=True)
    with pytest.raises(ValueError, match="must give their examples in a fixed order"):
        fill_scores(tmp_path / "t.cache", split=mixed)
    assert not (tmp_path / "t.cache").exists()


# Shards


@pytest.mark.parametrize("order", [(1,), (1, 2, 3), (3, 1, 2), (7, 6, 5, 4, 3, 2, 1)])
def test_shards_in_any_order_give_the_same_file(tmp_path, small_blocks, order, capsys):
    whole = fill_scores(tmp_path / "whole").path.read_bytes()
    path, pictures = tmp_path / "t.cache", 0
    for shard in order:
        teacher = Counted()
        found = fill_scores(path, teacher.teacher, shard=(shard, len(order)), verbose=1)
        assert (found is None) == (shard != order[-1])
        assert ("Still to come" in capsys.readouterr().out) == (shard != order[-1])
        pictures += teacher.pictures
    assert pictures == 80
    assert path.read_bytes() == whole
    assert sorted(contents(tmp_path)) == ["t.cache", "whole"]
    assert fill_scores(path, shard=(order[0], len(order))).path == path


def test_a_shard_goes_on_where_it_was_and_is_not_done_twice(tmp_path, small_blocks):
    path = tmp_path / "t.cache"
    with pytest.raises(tf.errors.OpError):
        fill_scores(path, Counted(6).teacher, shard=(2, 2))
    for expected in (20, 0):
        teacher = Counted()
        assert fill_scores(path, teacher.teacher, shard=(2, 2)) is None
        assert teacher.pictures == expected
    fill_scores(path, shard=(1, 2))
    assert path.read_bytes() == fill_scores(tmp_path / "whole").path.read_bytes()


def test_shards_of_something_else_are_refused(tmp_path, small_blocks):
    path = tmp_path / "t.cache"
    fill_scores(path, shard=(1, 2))
    with unchanged(tmp_path), pytest.raises(ValueError, match="part-1-of-2' is of.*seed: 0 there"):
        fill_scores(path, shard=(1, 2), seed=5)


def test_shards_of_two_kinds_are_not_put_together(tmp_path, small_blocks):
    path = tmp_path / "t.cache"
    fill_scores(path, shard=(1, 2))
    with pytest.raises(ValueError, match="part-1-of-2' is of something else: seed: 0 there, 5 her"):
        fill_scores(path, shard=(2, 2), seed=5)
    assert sorted(contents(tmp_path)) == ["t.cache.part-1-of-2", "t.cache.part-2-of-2"]
    fill_scores(path, shard=(1, 2), seed=5, overwrite=True)
    whole = fill_scores(tmp_path / "whole", seed=5).path.read_bytes()
    assert path.read_bytes() == whole


def test_shards_replace_another_cache_when_told_to(tmp_path, small_blocks):
    path = tmp_path / "t.cache"
    fill_scores(path, seed=1)
    old = path.read_bytes()
    assert fill_scores(path, shard=(1, 2), overwrite=True) is None
    assert path.read_bytes() == old
    assert fill_scores(path, shard=(2, 2), overwrite=True).seed == 0
    assert path.read_bytes() == fill_scores(tmp_path / "whole").path.read_bytes()


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((0, 2), r"`shard` must be \(i, n\).*Received: shard=\(0, 2\)"),
        ((3, 2), r"i in 1 ... n.*Received: shard=\(3, 2\)"),
        ((1, 41), "at most the number of examples, 40"),
        ((1, 0), "i in 1 ... n"),
        ((1.0, 2), "`shard` must be an integer"),
        (3, r"`shard` must be \(i, n\).*Received: shard=3"),
        ((1, 2, 3), r"`shard` must be \(i, n\)"),
    ],
)
def test_shards_that_cannot_be(tmp_path, shard, message):
    with unchanged(tmp_path), pytest.raises(ValueError, match=message):
        fill_scores(tmp_path / "t.cache", shard=shard)


# Whose answers, to what


def test_what_differs_is_named_and_nothing_is_changed(tmp_path, monkeypatch):
    split, path = small_split(), tmp_path / "t.cache"
    settings = {"augment": CROPS, "views": 2, "seed": 3}
    filled(path, teacher_net(), split, **settings)
    other_pictures = data.Examples(small_split(seed=1).images, split.labels, split.ids)
    cases = [
        ({"teacher": teacher_net(2)}, r"the teacher's weights \('.*' there\)"),
        ({"teacher": with_activation("elu")}, r"the teacher's architecture \('"),
        ({"teacher": teacher_net(2, width=5)}, r"the teacher's architecture and weights \('"),
        ({"seed": 4}, "seed: 3 there, 4 here"),
        ({"views": 3}, "views: 2 there, 3 here"),
        ({"augment": augment.pipeline("crop,flip", padding=2)}, 'augment: .*"padding": 1} there'),
        ({"augment": augment.pipeline("flip,crop", padding=1)}, r'augment: .*\["flip", "crop"\]'),
        ({"augment": None}, "augment: .* there, null here"),
        ({"augment": augment.EveryShift(padding=1), "views": None}, "views: 2 there, 18 here; aug"),
        ({"splits": small_split(41)}, "other examples"),
        ({"splits": [split, small_split(5, first=1)]}, "other examples"),
    ]
    with unchanged(tmp_path):
        for options, message in cases:
            options = {"teacher": teacher_net(), "splits": split} | settings | options
            for make in (filled, lazy):
                with pytest.raises(ValueError, match=f"t.cache' is of something else: {message}"):
                    make(path, **options)
        for form in (other_pictures, streamed(other_pictures), plain(other_pictures)):
            with pytest.raises(ValueError, match="t.cache' was filled with other pictures: 40 of"):
                filled(path, teacher_net(), form, **settings)
        # Names, and what a cache knows besides, do not matter.
        filled(path, teacher_net(name="renamed"), part_of(split, slice(3, 9)), **settings)
        monkeypatch.setattr(augment.views, "VERSION", 2)
        monkeypatch.setattr(augment, "VERSION", 2)
        with pytest.raises(ValueError, match="version of views: 1 there, 2 here"):
            filled(path, teacher_net(), split, **settings)
        with pytest.raises(ValueError, match="version of views: 1 there, 2 here"):
            cache.load(path).batches(split, 8, seed=0)


def with_activation(name):
    """The architecture of `teacher_net`, with its weights, but for one activation."""
    teacher = teacher_net()
    config = teacher.get_config()
    layer = next(layer for layer in config["layers"] if layer["config"]["name"] == "c1")
    layer["config"]["activation"] = name
    other = keras.Model.from_config(config)
    other.set_weights(teacher.get_weights())
    return other


def test_batches_of_other_pictures_are_refused(tmp_path):
    split = small_split()
    known = fill_scores(tmp_path / "t.cache", split=split)
    images = split.images.copy()
    images[17, 3, 3, 1] ^= 1
    one_pixel = data.Examples(images, split.labels, split.ids)
    message = f"other pictures: 1 of the 40 compared differ, the first with id {split.ids[17]}"
    with unchanged(tmp_path):
        for form in (one_pixel, streamed(one_pixel), plain(one_pixel)):
            with pytest.raises(ValueError, match=message):
                known.batches(form, 8, seed=0)
        more = small_split(44)
        known_elsewhere = f"'{known.path}' does not hold 44 of 44 examples, the first with id 10"
        far = data.Examples(more.images, more.labels, more.ids + 9000)
        for form in (far, streamed(far), plain(far)):
            with pytest.raises(ValueError, match=known_elsewhere):
                known.batches(form, 8, seed=0)
        for name, value in (("augment", None), ("views", 2), ("view_seed", 0)):
            with pytest.raises(ValueError, match=f"`{name}` are the cache's own. Received: .*"):
                known.batches(split, 8, seed=0, **{name: value})
        with pytest.raises(ValueError, match="`batch_size` must be at most"):
            known.batches(split, 41, seed=0)


def automatic(epsilon=1e-3, rate=0.5):
    """A model whose layers Keras names."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.BatchNormalization(epsilon=epsilon)(x)
    x = keras.layers.Add()([keras.layers.ReLU()(x), x])
    inner = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Flatten()])
    x = keras.layers.Dropout(rate)(inner(x))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_a_teacher_is_known_by_its_layers_and_weights():
    one, other = automatic(), automatic()
    weights = one.get_weights()
    other.set_weights(weights)
    assert [layer.name for layer in one.layers] != [layer.name for layer in other.layers]
    of = cache.identity.of_teacher
    known = of(one, "t")
    assert of(other, "t") == known
    other.trainable = False
    other.layers[1].trainable = True
    other.compile("adam", loss="mse", metrics=["accuracy"])
    other.predict(np.zeros((2, 8, 8, 3)), verbose=0)
    other(np.zeros((2, 8, 8, 3)), training=True)  # draws for dropout
    other.set_weights(weights)
    assert of(other, "t") == known
    assert of(keras.models.clone_model(one), "t")["architecture"] == known["architecture"]

    epsilon = automatic(epsilon=2e-3)
    epsilon.set_weights(weights)
    assert of(epsilon, "t")["weights"] == known["weights"]
    assert of(epsilon, "t")["architecture"] != known["architecture"]
    assert of(automatic(rate=0.4), "t")["architecture"] != known["architecture"]
    moved = one.layers[2].moving_variance
    moved.assign(moved * 1.0001)
    assert of(one, "t")["architecture"] == known["architecture"]
    assert of(one, "t")["weights"] != known["weights"]
    assert cache.identity.differences({"teacher": known}, {"teacher": of(one, "t")}) == [
        "the teacher's weights ('t' there)"
    ]


def test_a_teacher_read_from_a_file_is_the_same(tmp_path):
    teacher = teacher_net()
    teacher.save(tmp_path / "t.keras")
    again = keras.models.load_model(tmp_path / "t.keras")
    assert cache.identity.of_teacher(again) == cache.identity.of_teacher(teacher)


def test_settings_may_be_numbers_of_numpy(tmp_path):
    step = augment.pipeline("crop,color", padding=np.int64(1), brightness=np.float32(0.25))
    path, split = tmp_path / "t.cache", small_split(8)
    known = filled(path, teacher_net(), split, augment=step, views=np.int64(2), seed=np.int32(3))
    assert (known.views, known.seed) == (2, 3)
    assert known.augment.settings["brightness"] == 0.25
    plain_step = augment.pipeline("crop,color", padding=1, brightness=0.25)
    filled(path, teacher_net(), split, augment=plain_step, views=2, seed=3)


def test_checks_of_an_open_cache(tmp_path):
    known = filled(tmp_path / "t.cache", teacher_net(), small_split(8))
    known.check(teacher=teacher_net(), split=small_split(8))
    with pytest.raises(ValueError, match="the teacher's weights"):
        known.check(teacher=teacher_net(2))
    with pytest.raises(ValueError, match="the teacher's architecture and weights|teacher: "):
        known.check(teacher=teachers.Predictions(scores, 3), name="scores")


# Faults


def refused(path, values):
    """Whether a cache is refused by a `ValueError` with its path; or else its values are right."""
    message = None
    try:
        known = cache.load(path)
    except ValueError as error:
        message = str(error)
    if message is not None:
        assert str(path) in message
        return True
    split = small_split()
    np.testing.assert_array_equal(known.said(split.ids, np.zeros(40, int))[0], values[:, 0])
    np.testing.assert_array_equal(known.said(split.ids, np.ones(40, int))[0], values[:, 1])
    known.check(split=split)
    known.close()
    return False


@pytest.fixture
def whole(tmp_path, small_blocks):
    """The bytes of a cache, its values, and a path for spoilt ones."""
    known = fill_scores(tmp_path / "whole")
    ids = small_split().ids
    values = np.stack([known.said(ids, np.full(40, view))[0] for view in (0, 1)], axis=1)
    return known.path.read_bytes(), values, tmp_path / "spoilt", known.store.layout


def test_what_is_no_cache(tmp_path, whole):
    raw, values, path, _ = whole
    path.write_bytes(raw)
    assert not refused(path, values)
    for spoilt in (b"", b"kdkeras", os.urandom(5000), bytes(5000), b"{}", raw[1:]):
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=f"'{path}' is not a kdkeras cache"):
            cache.load(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        cache.load(tmp_path / "absent")


def test_truncated_or_longer_files(whole):
    raw, values, path, _ = whole
    for length in sorted({*np.linspace(0, len(raw) - 1, 30).astype(int), 15, 16, 31, 32, 33}):
        path.write_bytes(raw[:length])
        assert refused(path, values), length
    path.write_bytes(raw + b"\0")
    assert refused(path, values)


def test_flipped_bits_are_found_or_harmless(whole):
    raw, values, path, made = whole
    sections, size = made.sections()
    assert size == len(raw)
    random = np.random.default_rng(0)
    spans = {"lead": (0, len(made.lead()))}
    for name, (offset, dtype, shape) in sections.items():
        spans[name] = (offset, offset + np.dtype(dtype).itemsize * int(np.prod(shape)))
    positions = {
        name: random.choice(np.arange(*span), min(20, span[1] - span[0]), replace=False)
        for name, span in spans.items()
    }
    everything = set(range(size)) - {i for span in spans.values() for i in range(*span)}
    positions["padding"] = random.choice(sorted(everything), 20, replace=False)
    # The four bytes behind the header's checksum are not used.
    positions["lead"] = [*range(28), *(i for i in positions["lead"] if i >= 32)]
    assert sum(map(len, positions.values())) > 100
    for name, places in positions.items():
        for place in places:
            for bit in range(8) if name == "states" else [int(random.integers(8))]:
                spoilt = bytearray(raw)
                spoilt[place] ^= 1 << bit
                path.write_bytes(spoilt)
                assert refused(path, values) == (name != "padding"), (name, place, bit)


def test_caches_of_another_version(whole, monkeypatch):
    raw, _, path, _ = whole
    monkeypatch.setattr(layout, "FORMAT", 2)
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"'{path}' is a cache of another version of kdkeras"):
        cache.load(path)


# Disks


def test_no_room_is_said_before_anything_is_written(tmp_path, small_blocks, monkeypatch):
    path = tmp_path / "t.cache"
    fill_scores(path)
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1000))
    with unchanged(tmp_path):
        message = r"Could not write .*t.cache.partial: it needs \d,\d{3} bytes, and .* has 1,000 le"
        with pytest.raises(OSError, match=message) as caught:
            fill_scores(path, seed=1, overwrite=True)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match=message):
            lazy(tmp_path / "t.cache.partial", teachers.Predictions(scores, 3), small_split(),
                 name="scores")  # fmt: skip
    assert cache.load(path).seed == 0


def test_a_disk_that_is_full_while_it_is_written(tmp_path, small_blocks, monkeypatch):
    path = tmp_path / "t.cache"
    fill_scores(path)

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *failure):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, written):
            if self.file.tell() > 4096:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(written)

    def open_full(path, mode):
        file = builtins.open(path, mode)  # noqa: SIM115
        return Full(file) if mode == "wb" else file

    with unchanged(tmp_path):
        monkeypatch.setattr(store, "open", open_full, raising=False)
        with pytest.raises(
            OSError, match="Could not write .*t.cache.*No space.*has room"
        ) as caught:
            fill_scores(path, seed=1, overwrite=True)
        assert caught.value.errno == errno.ENOSPC
    assert cache.load(path).seed == 0


def test_a_limit_on_the_size_of_files(tmp_path, small_blocks):
    path = tmp_path / "t.cache"
    fill_scores(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with unchanged(tmp_path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4500, limits[1]))
        try:
            with pytest.raises(OSError, match=r"Could not write .*t.cache.*has room") as caught:
                fill_scores(path, seed=1, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.errno == errno.EFBIG


def test_a_folder_that_may_not_be_written(small_blocks):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "t.cache")
        fill_scores(path).close()
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # nobody: what root may write says nothing
        try:
            with pytest.raises(PermissionError, match="Could not write .*other.*you may write"):
                fill_scores(os.path.join(folder, "other"))
            with pytest.raises(PermissionError, match="Could not write .*t.cache.*you may write"):
                fill_scores(path, seed=1, overwrite=True)
            known = cache.load(path)
            assert len(list(known.batches(small_split(), 8, seed=0))) == 5
            assert fill_scores(path).views == 2
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o755)
        assert os.listdir(folder) == ["t.cache"]


# Teachers that do not fit


class Subclassed(keras.Model):
    def call(self, x):
        return keras.ops.mean(x, axis=(1, 2))


def two_outputs():
    model = teacher_net()
    return keras.Model(model.input, [model.output, model.output])


def scaled_by(factor):
    model = teacher_net()
    dense = model.get_layer("logits")
    dense.set_weights([w * factor for w in dense.get_weights()])
    return model


def softmax_net():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def of_any_size():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(3, 3, name="c")(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def unnamed(x):
    return scores(x)


DOES_NOT_FIT = {
    "nan": (lambda: scaled_by(np.nan), {}, "logits must be finite.*float16. Received: nan"),
    "large": (lambda: scaled_by(1e5), {}, "at most 65504, to be kept as float16"),
    "infinite": (lambda: scaled_by(np.inf), {}, "must be finite"),
    "softmax": (softmax_net, {}, "which ends in softmax. Use kdkeras.models.logits"),
    "outputs": (two_outputs, {}, "`teacher` must have one output"),
    "subclassed": (Subclassed, {}, "`teacher` must be a Functional or Sequential"),
    "not a model": (lambda: 3, {}, "`teacher` must be"),
    "function": (lambda: unnamed, {}, "use kdkeras.teachers.Predictions"),
    "no name": (lambda: teachers.Predictions(scores, 3), {}, "give `name`, which must change"),
    "wrong shape": (
        lambda: teachers.Predictions(lambda x: x, 3), {"name": "x"},
        r"^A teacher's function must give finite logits of shape \(40, 3\). Received: shape \(4",
    ),
    "function of layers": (
        lambda: teachers.Predictions(scores, 3), {"name": "x", "layers": ["a"]}, "has no layers",
    ),
    "mixup": (teacher_net, {"augment": augment.pipeline("crop,mixup")}, "Leave mixup out"),
    "callable": (teacher_net, {"augment": lambda x, y, k: (x, y)}, "can be recorded if it is None"),
    "views": (
        teacher_net, {"augment": augment.EveryShift(padding=1), "views": 4},
        "An `EveryShift` has 18 views, all of which are kept. Received: views=4",
    ),
    "no views": (teacher_net, {"views": 0}, "`views` must be an integer of at least 1"),
    "seed": (teacher_net, {"seed": 0.5}, "`seed` must be an integer"),
    "batch size": (teacher_net, {"batch_size": 0}, "`batch_size` must be an integer of at least"),
    "layer": (teacher_net, {"layers": ["r00"]}, "has no layer 'r00'. Did you mean 'r0'"),
    "layer of any size": (of_any_size, {"layers": ["c"]}, r"of a known shape: .*layers \['c'\]"),
    "ids twice": (
        teacher_net, {"splits": [small_split(5), small_split(8)]}, "distinct ids.*5 ids twice"
    ),
    "no splits": (teacher_net, {"splits": []}, "`splits` must hold at least one split"),
    "empty": (teacher_net, {"splits": plain(small_split()).take(0)}, "Received: an empty split"),
    "kinds": (
        teacher_net,
        {"splits": [small_split(), plain(small_split()).map(lambda x, y: (x[:4], y))]},
        "pictures of one size and type",
    ),
    "batched": (teacher_net, {"splits": small_split().batch(4)}, "single images"),
    "no dataset": (teacher_net, {"splits": np.zeros(4)}, "must be a tf.data.Dataset"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOES_NOT_FIT)
def test_what_does_not_fit_is_said(tmp_path, name):
    make, options, message = DOES_NOT_FIT[name]
    options = {"splits": small_split()} | options
    with pytest.raises(ValueError, match=message):
        filled(tmp_path / "t.cache", make(), **options)
    assert not (tmp_path / "t.cache").exists()
    # What cannot be filled at all leaves nothing behind.
    fails_at_work = ("nan", "large", "infinite", "wrong shape")
    assert (os.listdir(tmp_path) == []) == (name not in fails_at_work)


def test_labels_of_different_types_go_together(tmp_path):
    split, others = small_split(8), small_split(8, first=3000)
    wide = plain(others).map(lambda x, y: (x, {**y, "label": tf.cast(y["label"], tf.int64)}))
    known = filled(tmp_path / "t.cache", teacher_net(), [split, wide])
    assert len(known.store.ids) == 16
    assert len(list(known.batches(wide, 4, seed=0))) == 2


def test_what_is_no_cache_is_never_replaced(tmp_path):
    path = tmp_path / "teacher.keras"
    path.write_text("something dear")
    for options in ({}, {"shard": (1, 1)}):
        with pytest.raises(ValueError, match="is not a kdkeras cache, and was left as it is"):
            filled(path, teacher_net(), small_split(), overwrite=True, **options)
    assert path.read_text() == "something dear"
    with pytest.raises(ValueError, match="A cache is a file.*which is a folder"):
        filled(tmp_path, teacher_net(), small_split())


def test_a_closed_cache_says_so(tmp_path):
    found = filled(tmp_path / "t.cache", teacher_net(), small_split())
    found.close()
    found.close()
    with pytest.raises(ValueError, match="The cache '.*t.cache' is closed. Load it again"):
        found.batches(small_split(), 8, seed=0)
