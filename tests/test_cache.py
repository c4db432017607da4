"""A cache gives what its teacher says live: batch by batch, in training, lazily, of layers too."""

import functools
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net, sparse_loss

import kdkeras
from kdkeras import augment, cache, data, perturbations

pytestmark = pytest.mark.core

AUGMENTATIONS = {
    "none": None,
    "pipeline": augment.pipeline("crop,flip,color,cutout", padding=1),
    "shifts": augment.EveryShift(padding=1),
}


def teacher_net(seed=1, **options):
    """A small teacher with weights and moving statistics of its seed."""
    model = conv_net(channels=3, **options)
    random = np.random.default_rng(seed)
    weights = [
        random.normal(size=w.shape) * 0.5 if w.ndim > 1 else 0.5 + random.random(w.shape)
        for w in model.get_weights()
    ]
    model.set_weights(weights)
    return model


def small_split(count=40, *, first=1000, seed=0):
    """Random images of 8 pixels, their ids not in order."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    ids = first + random.permutation(count)
    return data.Examples(images, random.integers(0, 3, count), ids)


def part_of(split, rows):
    return data.Examples(split.images[rows], split.labels[rows], split.ids[rows])


def streamed(split):
    images = tf.data.Dataset.from_tensor_slices(split.images)
    return data.Streamed(images, split.labels, split.ids)


def plain(split):
    targets = {"label": split.labels, "id": split.ids}
    return tf.data.Dataset.from_tensor_slices((split.images, targets))


def quiet(make, *arguments, **options):
    return make(*arguments, **{"verbose": 0, **options})


filled = functools.partial(quiet, cache.fill)
lazy = functools.partial(quiet, cache.lazy)


def assert_rounded(kept, live):
    """The kept values are the live ones, rounded to float16: 11 bits, or steps of 2^-25."""
    kept, live = np.asarray(kept), np.asarray(live)
    assert kept.dtype == np.float32
    np.testing.assert_array_less(np.abs(kept - live), 2**-11 * np.abs(live) + 2e-6)


def assert_live(batches, teacher, expected=None):
    """Every batch holds what the teacher says of its views; returns the pairs (id, view) seen."""
    seen = []
    expected = [None] * 10**6 if expected is None else list(expected)
    count = 0
    for (x, y), plain_batch in zip(batches, expected, strict=False):
        assert_rounded(y["logits"], teacher(y.get("clean", x), training=False))
        seen += zip(y["id"].numpy().tolist(), y["view"].numpy().tolist(), strict=True)
        if plain_batch is not None:
            y = {key: value for key, value in y.items() if key != "logits"}
            tf.nest.map_structure(np.testing.assert_array_equal, (x, y), plain_batch)
        count += 1
    assert count == (len(expected) if expected[0] is not None else count) > 0
    return seen


@pytest.fixture(scope="module")
def teacher():
    return teacher_net()


@pytest.fixture(scope="module")
def caches(teacher, tmp_path_factory):
    """A filled cache of each augmentation, for training and validation examples together."""
    folder = tmp_path_factory.mktemp("caches")
    both = [small_split(), small_split(12, first=5000, seed=1)]
    return {
        name: filled(
            folder / name,
            teacher,
            both,
            augment=step,
            seed=11,
            batch_size=32,
            views=3 if name == "pipeline" else None,
            layers=["r0", "pool"] if not step else (),
        )  # fmt: skip
        for name, step in AUGMENTATIONS.items()
    }


# Exactness

BATCHES = {
    "shuffled": (7, {"seed": 0}),
    "another_seed": (7, {"seed": 3}),
    "ordered": (40, {"seed": 0, "shuffle": False}),
    "one_by_one": (1, {"seed": 2, "first_epoch": 1}),
    "dropped": (16, {"seed": 0, "drop_remainder": True}),
    "resumed": (16, {"seed": 0, "first_epoch": 5}),
}


@pytest.mark.parametrize("options", BATCHES)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_batches_hold_what_the_teacher_says_live(caches, teacher, name, options):
    known, (size, options), split = caches[name], BATCHES[options], small_split()
    batches = known.batches(split, size, **options)
    expected = data.batches(split, size, **options, **known.options())
    assert len(batches) == len(expected)
    assert batches.element_spec[1]["logits"].shape[1:] == (3,)
    for _ in range(2):
        assert_live(without_features(batches), teacher, expected)
    assert int(batches.epoch_counter) == options.get("first_epoch", 0) + 1


def without_features(batches):
    def only(x, y):
        return x, {key: value for key, value in y.items() if key != "features"}

    return batches.map(only)


@pytest.mark.parametrize("form", [streamed, plain])
@pytest.mark.parametrize("name", ["pipeline", "shifts"])
def test_other_forms_of_a_split(caches, teacher, name, form):
    split = form(small_split())
    for size, options in (BATCHES["shuffled"], BATCHES["resumed"]):
        batches = caches[name].batches(split, size, **options)
        expected = data.batches(split, size, **options, **caches[name].options())
        seen = assert_live(batches, teacher, expected)
        assert {i for i, _ in seen} == set(small_split().ids.tolist())


@pytest.mark.parametrize("form", [streamed, plain, "unknown_size"])
def test_filled_from_other_forms_it_is_the_same_file(tmp_path, teacher, form):
    split = small_split()
    options = {"augment": AUGMENTATIONS["pipeline"], "views": 2}
    one = filled(tmp_path / "one", teacher, split, **options)
    if form == "unknown_size":
        other = plain(split).filter(lambda image, target: True)
    else:
        other = form(split)
    two = filled(tmp_path / "two", teacher, other, **options)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert len(assert_live(two.batches(other, 9, seed=0), teacher)) == 40


def test_repeated_batches_go_on_with_the_next_views(caches, teacher):
    batches = caches["pipeline"].batches(small_split(), 8, seed=0).repeat()
    expected = data.batches(small_split(), 8, seed=0, **caches["pipeline"].options()).repeat()
    seen = assert_live(batches, teacher, expected.take(18))
    views = [view for _, view in seen]
    assert views == [0] * 40 + [1] * 40 + [2] * 40 + [0] * 24


def test_noise_and_one_hot_labels_leave_the_clean_views_logits(caches, teacher):
    for name in AUGMENTATIONS:
        options = {"one_hot": 3, "perturbation": perturbations.Gaussian(stddev=0.5)}
        batches = without_features(caches[name].batches(small_split(), 10, seed=4, **options))
        assert_live(batches, teacher)
        x, y = next(iter(batches))
        assert abs(float(tf.math.reduce_std(x - y["clean"])) - 0.5) < 0.02
        assert y["label"].shape == (10, 3)
        assert np.abs(teacher(x) - y["logits"]).max() > 0.05


def test_a_part_of_the_ids_and_a_second_split(caches, teacher):
    part = part_of(small_split(), slice(5, 25))
    validation = small_split(12, first=5000, seed=1)
    for form, count in ((part, 20), (streamed(part), 20), (plain(validation), 12)):
        batches = caches["pipeline"].batches(form, 6, seed=0)
        assert len(set(assert_live(batches, teacher))) == count


def test_what_was_said_can_be_asked_for_directly(caches, teacher):
    known, split = caches["pipeline"], small_split()
    views = np.arange(40) % 3
    x, _ = augment.viewed(
        data.scaled(tf.constant(split.images)), None, tf.constant(split.ids),
        tf.constant(views), seed=11, augment=AUGMENTATIONS["pipeline"],
    )  # fmt: skip
    (logits,) = known.said(split.ids, views)
    assert logits.dtype == np.float16
    assert_rounded(logits.astype("float32"), teacher(x))
    for ids, views in (([7], [0]), ([split.ids[0]], [3]), ([split.ids[0]], [-1])):
        with pytest.raises(ValueError, match="does not hold (id 7|view 3 of 3|view -1 of 3)"):
            known.said(ids, views)
    assert (known.views, known.seed, known.classes, known.layers) == (3, 11, 3, [])
    assert repr(known).startswith("<Cache ")


def test_teachers_that_are_several_or_of_another_size_or_precision(tmp_path):
    split = small_split(8)
    several = [teacher_net(1), teacher_net(2)]
    together = kdkeras.teachers.ensemble(several)
    known = filled(tmp_path / "several", several, split)
    assert_live(known.batches(split, 4, seed=0), together)
    known.check(teacher=together)
    known.check(teacher=several)
    with pytest.raises(ValueError, match="the teacher's weights .'ensemble' there"):
        known.check(teacher=several[::-1])
    large = teacher_net(size=16)
    known = filled(tmp_path / "large", large, split)
    x, y = next(iter(known.batches(split, 8, seed=0)))
    assert_rounded(y["logits"], large(kdkeras.inputs.fitted(x, large)))


# Training


class Losses(keras.callbacks.Callback):
    """The loss of each step."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(logs)


def student_of(teacher=None, terms=None):
    """A compiled Distiller with a new student."""
    keras.utils.set_random_seed(5)
    student = conv_net(channels=3, name="student")
    d = kdkeras.Distiller(student=student, teacher=teacher, terms=terms, alpha=0.3)
    d.compile(keras.optimizers.SGD(0.1), loss=sparse_loss())
    d.first_weights = student.get_weights()
    return d


def losses_of(d, batches, epochs=1):
    """The values of every loss at each step of a training from the first weights on."""
    d.student.set_weights(d.first_weights)
    losses = Losses()
    d.fit(batches, epochs=epochs, verbose=0, callbacks=[losses])
    return {
        name: np.array([logs[name] for logs in losses.steps]) for name in sorted(losses.steps[0])
    }


@pytest.fixture(scope="module")
def alone():
    """A Distiller without a teacher."""
    return student_of()


def test_a_training_sees_the_losses_of_a_live_one(tmp_path, caches, teacher, alone):
    split = small_split()
    live = student_of(teacher)
    for name, epochs in (("pipeline", 10), ("shifts", 2)):
        options = caches[name].options()
        expected = losses_of(live, data.batches(split, 8, seed=1, **options), epochs)
        found = losses_of(alone, caches[name].batches(split, 8, seed=1), epochs)
        assert set(found) == set(expected) >= {"loss", "hard", "soft_targets"}
        for loss in found:
            assert found[loss].shape == (5 * epochs,)
            np.testing.assert_allclose(found[loss], expected[loss], atol=1e-3)
        assert found["loss"][-5:].mean() < found["loss"][:5].mean()
    # Lazily too; and another order is another training.
    known = lazy(tmp_path / "t.cache", teacher, split, augment=AUGMENTATIONS["shifts"], seed=11)
    found = losses_of(alone, known.batches(split, 8, seed=1), 2)
    np.testing.assert_allclose(found["loss"], expected["loss"], atol=1e-3)
    assert 40 < known.asked <= 80
    other = losses_of(alone, caches["shifts"].batches(split, 8, seed=2), 2)
    assert np.abs(other["loss"] - expected["loss"]).max() > 0.01


def test_fit_and_evaluate_without_a_teacher(caches, alone):
    validation = small_split(12, first=5000, seed=1)
    batches = caches["pipeline"].batches(validation, 4, seed=0, shuffle=False)
    history = alone.fit(
        caches["pipeline"].batches(small_split(), 8, seed=1), validation_data=batches, verbose=0
    )
    (x, y), *_ = caches["pipeline"].batches(validation, 12, seed=0, shuffle=False)
    expected = float(keras.ops.mean(sparse_loss()(y["label"], alone.student(x, training=False))))
    assert history.history["val_loss"][0] == pytest.approx(expected, abs=1e-5)
    views = caches["pipeline"].batches(validation, 4, seed=0, shuffle=False)
    assert alone.evaluate(views, verbose=0) == pytest.approx(expected, abs=1e-5)


def test_an_example_that_the_cache_does_not_know_is_named(caches, alone):
    known = caches["pipeline"]
    others = known.join(data.batches(small_split(44), 11, seed=0, **known.options()))
    message = r"^The cache '.*pipeline' does not hold id 10\d\d\. Make the batches with cache.ba"
    with pytest.raises(ValueError, match=message):
        alone.fit(others, verbose=0)
    with pytest.raises(ValueError, match=message):
        alone.evaluate(others, verbose=0)
    more = known.join(data.batches(small_split(), 8, seed=0, views=4, first_epoch=3))
    with pytest.raises(ValueError, match=r"does not hold view 3 of 3\."):
        alone.fit(more, verbose=0)


# Layers


def counted(layer):
    """Counts how often a layer is traced or called, in a list of its calls."""
    calls, call = [], layer.call

    def counting(*arguments, **options):
        calls.append(arguments)
        return call(*arguments, **options)

    layer.call = counting
    return calls


def test_layers_that_are_kept_arrive_as_features(caches, teacher):
    known = caches["none"]
    assert known.layers == ["r0", "pool"]
    tapped = kdkeras.taps.tap(teacher, ["r0", "pool"])
    batches = known.batches(small_split(), 9, seed=0)
    assert batches.element_spec[1]["features"]["r0"].shape[1:] == (4, 4, 4)
    for x, y in batches:
        said = tapped(x, training=False)
        assert_rounded(y["logits"], said["outputs"])
        for path in ("r0", "pool"):
            assert_rounded(y["features"][path], said["features"][path])


def test_terms_of_layers_learn_without_running_the_teacher(caches):
    teacher = teacher_net()
    calls = counted(teacher.get_layer("c0"))
    hint = keras.losses.MeanSquaredError(name="hint")
    terms = [
        kdkeras.Term(kdkeras.losses.SoftTargets(temperature=2.0)),
        kdkeras.Term(hint, teacher_layer="r0", student_layer="r0"),
    ]
    d = student_of(teacher, terms)
    calls.clear()
    found = losses_of(d, caches["none"].batches(small_split(), 8, seed=1), 2)
    assert calls == []
    live = losses_of(d, data.batches(small_split(), 8, seed=1), 2)
    assert len(calls) > 0
    assert set(found) == set(live) >= {"loss", "hint", "soft_targets"}
    assert live["hint"].min() > 0.01
    for name in found:
        np.testing.assert_allclose(found[name], live[name], atol=1e-3)


def test_layers_are_part_of_what_is_asked_for(tmp_path, teacher):
    split, path = small_split(8), tmp_path / "t.cache"
    filled(path, teacher, split)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"t.cache' is of something else: layers: \[\] there"):
        filled(path, teacher, split, layers=["r0"])
    with pytest.raises(ValueError, match=r"layers: \[\] there, \['r0'\] here"):
        lazy(path, teacher, split, layers=["r0"])
    assert path.read_bytes() == before
    assert filled(path, teacher, split, layers=["r0"], overwrite=True).layers == ["r0"]


# Lazily


@pytest.mark.parametrize("layers", [(), ("pool",)])
def test_lazy_asks_once_for_each_view_and_remembers(tmp_path, teacher, layers):
    split, path = small_split(), tmp_path / "t.cache"
    options = {"augment": AUGMENTATIONS["shifts"], "layers": layers}
    known = lazy(path, teacher, split, **options)
    assert known.known == 0.0
    assert known.asked == 0
    with pytest.raises(ValueError, match="t.cache' is not complete: 100.0% of it is not known"):
        cache.load(path)
    batches = without_features(known.batches(split, 7, seed=0))
    seen = set()
    for _ in range(3):
        seen |= set(assert_live(batches, teacher))
        assert known.asked == len(seen)
    assert 80 < len(seen) < 120
    assert known.known == pytest.approx(len(seen) / (40 * 18))
    known.close()

    again = lazy(path, teacher, split, **options)
    assert again.known == pytest.approx(len(seen) / (40 * 18))
    for _ in range(2):
        assert_live(without_features(again.batches(split, 20, seed=0)), teacher)
    assert again.asked == 0  # the same seed draws the same views
    others = set(assert_live(without_features(again.batches(split, 20, seed=9)), teacher))
    assert again.asked == len(others - seen)
    again.close()


def test_a_lazy_cache_that_knows_everything_is_a_filled_one(tmp_path, teacher):
    split, step = small_split(), AUGMENTATIONS["pipeline"]
    options = {"augment": step, "views": 2, "seed": 4, "layers": ["r0"]}
    known = lazy(tmp_path / "lazy", teacher, split, **options)
    made = known.batches(split, 40, seed=0, shuffle=False)
    assert_live(without_features(made), teacher)
    assert known.known == 0.5
    assert_live(without_features(made), teacher)
    assert (known.known, known.asked) == (1.0, 80)
    known.close()
    loaded, ahead = cache.load(tmp_path / "lazy"), filled(tmp_path / "a", teacher, split, **options)
    assert loaded.identity == ahead.identity
    for view in (0, 1):
        pairs = [opened.said(split.ids, np.full(40, view)) for opened in (loaded, ahead)]
        for one, other in zip(*pairs, strict=True):
            np.testing.assert_allclose(one, other, rtol=2**-10, atol=1e-6)
    assert len(assert_live(without_features(loaded.batches(split, 8, seed=1)), teacher)) == 40
    # And one that was filled ahead has nothing to ask for.
    known = lazy(tmp_path / "a", teacher, split, **options)
    assert_live(without_features(known.batches(split, 8, seed=1)), teacher)
    assert (known.known, known.asked) == (1.0, 0)


def test_lazy_sees_the_views_behind_the_noise(tmp_path, teacher):
    split = small_split()
    known = lazy(tmp_path / "t.cache", teacher, split, augment=AUGMENTATIONS["shifts"])
    noise = perturbations.Gaussian(stddev=0.3)
    assert_live(known.batches(split, 8, seed=1, perturbation=noise), teacher)
    assert known.asked == 40


def test_lazy_forgets_a_damaged_block_and_asks_again(tmp_path, teacher, monkeypatch, capsys):
    monkeypatch.setattr(cache.layout, "BLOCK", 20)  # ten examples of two views
    split, path = small_split(), tmp_path / "t.cache"
    options = {"augment": AUGMENTATIONS["pipeline"], "views": 2}
    known = lazy(path, teacher, split, **options)
    assert_live(known.batches(split, 8, seed=0), teacher)
    offset = known.store.layout.sections()[0]["logits"][0]
    known.close()
    raw = bytearray(path.read_bytes())
    raw[offset + 15 * 2 * 3 * 2] ^= 4  # of the sixteenth example
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="t.cache' is damaged: 1 of 4 blocks"):
        cache.load(path)
    known = lazy(path, teacher, split, **options, verbose=1)
    assert "1 blocks of" in capsys.readouterr().out
    assert known.known == 0.375
    assert_live(known.batches(split, 8, seed=0), teacher)
    assert (known.asked, known.known) == (10, 0.5)


def test_lazy_says_what_its_teacher_cannot(tmp_path, alone):
    split = small_split()
    teacher = kdkeras.teachers.Predictions(lambda x: np.full((len(x), 3), 1e6), 3)
    known = lazy(tmp_path / "t.cache", teacher, split, name="loud")
    with pytest.raises(ValueError, match="^The teacher's logits must be finite and at most 65504"):
        alone.fit(known.batches(split, 8, seed=0), verbose=0)
    assert (known.known, known.asked) == (0.0, 0)


# Views stay what they are

# CRC-32 of the pixels below. Whoever changes one of these numbers changes what (seed, id, view)
# means, and must raise kdkeras.augment.VERSION, or caches that people have would hold answers to
# other pictures.
VIEWS_OF_VERSION_1 = {
    "crop": 1277190743,
    "flip": 2241821996,
    "color": 3131988544,
    "cutout": 2165858755,
    "crop,flip,color,cutout": 2498155842,
    "every_shift": 3556115099,
}


@pytest.mark.parametrize("name", VIEWS_OF_VERSION_1)
def test_views_change_only_with_their_version(name):
    assert augment.VERSION == 1
    pixels = (np.arange(24 * 8 * 8 * 3) * 37 % 251).astype(np.uint8).reshape(24, 8, 8, 3)
    every = name == "every_shift"
    step = augment.EveryShift(padding=2) if every else augment.pipeline(name, padding=2)
    ids, views = np.arange(24) // 4 + 10**10, np.arange(24) % 4
    x, _ = augment.viewed(
        data.scaled(tf.constant(pixels)), None, tf.constant(ids), tf.constant(views * 7),
        seed=42, augment=step,
    )  # fmt: skip
    rounded = np.clip(np.round(x.numpy() * 255.0), 0, 255).astype(np.uint8)
    assert (rounded != pixels).any()
    assert zlib.crc32(rounded) == VIEWS_OF_VERSION_1[name]
