"""Splits, folders, checks, and batches as pure functions of their arguments and the epoch."""

import os
import pathlib
import re
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdkeras import augment, data, perturbations, randomness
from kdkeras.data import pictures, sources, splits

pytestmark = pytest.mark.core

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
TFDS = pathlib.Path(os.environ.get("KDKERAS_TFDS_DIR", REPOSITORY.parent / "shared/data/tfds"))
needs_cifar10 = pytest.mark.skipif(not (TFDS / "cifar10").is_dir(), reason="no CIFAR-10 here")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def small_split(n=100, classes=5):
    """Images that show their own id: pixel (0, 0, 0) of image i is i."""
    images = np.random.default_rng(0).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return data.Examples(images, np.arange(n) % classes, 1000 + np.arange(n))


def columns(dataset):
    """One epoch, as arrays."""
    x, y = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(x), {key: np.concatenate([t[key] for t in y]) for key in y[0]}


def assert_equal(one, other):
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


# Splits


def test_digits_are_the_scans(digits):
    from sklearn.datasets import load_digits

    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1294, 144, 359]
    assert digits.num_classes == 10
    assert digits.class_names == tuple("0123456789")
    assert digits.input_shape == (16, 16, 3)
    image, label = next(iter(digits.train))
    assert (image.shape, image.dtype, label.dtype) == ((16, 16, 3), tf.float32, tf.int32)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    images, labels = data.arrays(digits.train)
    np.testing.assert_array_equal(images, digits.train.images / np.float32(255))
    np.testing.assert_array_equal(labels, digits.train.labels)
    assert images.min() == 0.0
    assert images.max() == 1.0
    # Half the size again by averaging is near the scans: bilinear enlarging keeps local means.
    scans = load_digits()
    pool = np.setdiff1d(np.arange(1797), splits._stratified(np.arange(1797), scans.target, 0.2, 0))
    small = images[..., 0].reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)) * 16
    assert np.corrcoef(small.ravel(), scans.images[pool[digits.train.ids]].ravel())[0, 1] > 0.97
    np.testing.assert_array_equal(labels, scans.target[pool[digits.train.ids]])


def test_splits_are_disjoint_stratified_and_seeded(digits):
    other = data.load("digits", seed=1)
    for s in (digits, other):
        pool = np.sort(np.concatenate([s.train.ids, s.validation.ids]))
        np.testing.assert_array_equal(pool, np.arange(1438))
        np.testing.assert_array_equal(s.test.ids, np.arange(1438, 1797))
        assert (np.diff(s.train.ids) > 0).all()
        counts = np.bincount(np.concatenate([s.train.labels, s.validation.labels]))
        assert np.abs(np.bincount(s.validation.labels) - counts * 0.1).max() < 1
        assert (
            np.abs(np.bincount(s.test.labels) - (counts + np.bincount(s.test.labels)) / 5).max() < 1
        )
    np.testing.assert_array_equal(digits.test.images, other.test.images)
    assert set(digits.validation.ids) != set(other.validation.ids)
    # An id names the same image, whatever the seed.
    common, a, b = np.intersect1d(digits.train.ids, other.train.ids, return_indices=True)
    assert len(common) > 1000
    np.testing.assert_array_equal(digits.train.images[a], other.train.images[b])


def test_max_train_is_a_stratified_part_of_the_same_training_split(digits):
    fewer = data.load("digits", max_train=200)
    assert len(fewer.train) == 200
    assert set(fewer.train.ids) < set(digits.train.ids)
    assert np.bincount(fewer.train.labels).min() >= 19
    np.testing.assert_array_equal(fewer.validation.ids, digits.validation.ids)
    # Fewer left out than there are classes.
    assert len(data.load("digits", max_train=1290).train) == 1290
    assert len(data.load("digits", max_train=5000, image_size=8).train) == 1294


def test_streamed_splits_equal_those_in_memory(digits):
    streamed = data.load("digits", memory_limit=1000)
    assert isinstance(streamed.train, data.Streamed)
    for part in ("train", "validation", "test"):
        one, other = getattr(digits, part), getattr(streamed, part)
        assert len(one) == len(other)
        assert_equal(data.arrays(one), data.arrays(other))
        batches = [data.batches(s, 50, seed=0, shuffle=False) for s in (one, other)]
        assert_equal(columns(batches[0]), columns(batches[1]))


@needs_cifar10
def test_cifar10():
    s = data.load("cifar10", data_dir=str(TFDS), memory_limit=2**20)
    assert isinstance(s.train, data.Streamed)
    assert s.input_shape == (32, 32, 3)
    assert s.class_names[:3] == ("airplane", "automobile", "bird")
    assert (len(s.train), len(s.validation), len(s.test)) == (45_000, 5000, 10_000)
    np.testing.assert_array_equal(np.bincount(s.validation.labels), 500)
    np.testing.assert_array_equal(s.test.ids, np.arange(50_000, 60_000))
    for split in (s.train, s.validation, s.test):
        (images, labels), again = (data.arrays(split.take(40)) for _ in range(2))
        assert images.shape == (40, 32, 32, 3)
        assert images.min() >= 0.0
        assert 0.2 < images.std() < 0.3
        np.testing.assert_array_equal(labels, split.labels[:40])
        assert_equal((images, labels), again)
    x, y = next(iter(data.batches(s.validation, 16, seed=0, shuffle=False)))
    np.testing.assert_array_equal(x, data.arrays(s.validation.take(16))[0])
    np.testing.assert_array_equal(y["id"], s.validation.ids[:16])


# Unsuitable sets


def source_of(labels, num_train=None, classes=3):
    images = sources.held(np.zeros((len(labels), 2, 2, 3), np.uint8))
    names = tuple("abcdefgh"[:classes])
    return sources.Source(names, (2, 2, 3), np.asarray(labels), num_train, images)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (source_of([0, 1, 3] * 5), {}, r"in 0 ... 2 .*labels\[2\]=3 \(5 such\)"),
        (source_of([0, 1, -1] * 5), {}, r"labels\[2\]=-1"),
        (source_of([0] * 9 + [1]), {}, "at least 3 images.*Received: 1 of class 'b'"),
        (source_of([0, 0, 0, 1, 0, 1], 4), {}, "at least 2 images.*Received: 1 of class 'b'"),
        (source_of([0, 1] * 4, 8), {}, "test split is empty"),
        (source_of([0, 1] * 4, 0), {}, "training split is empty"),
        (source_of([0, 1] * 9), {"max_train": 1}, "`max_train` must be at least the number of cl"),
        (source_of([0, 1] * 9), {"validation_fraction": 0.95}, "leaves 1 of 14 images"),
    ],
)
def test_sets_that_cannot_be_split(source, options, message):
    options = {"seed": 0, "validation_fraction": 0.1, "max_train": None} | options
    with pytest.raises(ValueError, match=message):
        splits._positions(source, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("",), {}, "`name` must be 'digits'"),
        ((3,), {}, "Received: name=3"),
        (("digit",), {}, "Received: name='digit'.*Did you mean 'digits'"),
        (("cifar11",), {}, "Did you mean.* 'cifar10'"),
        (("imdb_reviews",), {"download": False}, "not prepared"),
        (("digits",), {"seed": 0.5}, "`seed` must be an integer"),
        (("digits",), {"max_train": 0}, "`max_train` must be an integer of at least 1"),
        (("digits",), {"image_size": -4}, "`image_size` must be an integer of at least 1"),
        (("digits",), {"validation_fraction": 1.0}, "above 0 and below 1"),
        (("folder:",), {}, "existing folder"),
        (("folder:/nowhere/at/all",), {}, "existing folder.*/nowhere/at/all.*one sub-folder"),
    ],
)
def test_load_says_what_is_wrong(tmp_path, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(*arguments, **{"data_dir": str(tmp_path), **options})


def test_a_set_that_is_not_prepared_names_the_ways_out(tmp_path, capfd, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    with pytest.raises(
        ValueError, match=r"not prepared in .*download=True.*tfds build mnist.*fold"
    ):
        data.load("mnist", data_dir=tmp_path)

    def fail(self, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(
        RuntimeError, match=r"ConnectionError: no network.*tfds build mnist.*digits"
    ):
        data.load("mnist", data_dir=tmp_path, download=True)
    captured = capfd.readouterr()
    assert "mnist" not in captured.out + captured.err


def written_tfds(tmp_path, name, features, parts):
    """A small prepared tfds set, written by tfds itself."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path / name / "1.0.0"
    folder.mkdir(parents=True)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="test"
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(features(tfds))
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=7)
    writer.initialize_splits(list(parts))
    for split, part in parts.items():
        rows = [dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True)]
        writer.add_examples({split: rows})
    writer.close_all()


def gray_part(n, start=0):
    images = np.tile(np.arange(start, start + n, dtype=np.uint8)[:, None, None, None], (1, 6, 4, 1))
    return {"image": images, "label": np.arange(n) % 2}


def test_tfds_gray_images_and_validation_for_want_of_a_test_split(tmp_path):
    written_tfds(
        tmp_path,
        "grays",
        lambda tfds: {
            "image": tfds.features.Image(shape=(6, 4, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        },
        {"train": gray_part(20), "validation": gray_part(4, 100)},
    )
    s = data.load("grays", data_dir=tmp_path)
    assert s.input_shape == (6, 4, 3)
    assert s.class_names == ("even", "odd")
    assert (len(s.train), len(s.validation), len(s.test)) == (18, 2, 4)
    np.testing.assert_array_equal(s.train.images[:, 0, 0, 2], s.train.ids)
    np.testing.assert_array_equal(s.test.images[:, 5, 3, 1], [100, 101, 102, 103])
    np.testing.assert_array_equal(s.test.ids, [20, 21, 22, 23])
    np.testing.assert_array_equal(s.train.labels, s.train.ids % 2)


def test_tfds_without_any_test_split_and_with_images_of_any_size(tmp_path):
    written_tfds(
        tmp_path,
        "sizes",
        lambda tfds: {
            "image": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=2),
        },
        {"train": gray_part(20)},
    )
    with pytest.raises(ValueError, match="`image_size` must be given for 'sizes'.*image_size=96"):
        data.load("sizes", data_dir=tmp_path)
    s = data.load("sizes", data_dir=tmp_path, image_size=5)
    assert s.input_shape == (5, 5, 3)
    assert (len(s.train), len(s.validation), len(s.test)) == (14, 2, 4)
    assert s.class_names == ("0", "1")
    shown = np.concatenate([part.images[:, 0, 0, 0] for part in (s.train, s.validation, s.test)])
    np.testing.assert_array_equal(np.sort(shown), np.arange(20))


def test_tfds_sets_that_are_not_image_classification(tmp_path):
    def text(tfds):
        return {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}

    def deep(tfds):
        return {
            "image": tfds.features.Image(shape=(6, 4, 1), dtype=np.uint16, encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=2),
        }

    written_tfds(tmp_path, "texts", text, {"train": {"text": ["a", "b"], "label": [0, 1]}})
    with pytest.raises(
        ValueError, match="features `image` and `label`.*'texts', which has label, t"
    ):
        data.load("texts", data_dir=tmp_path)
    part = gray_part(4)
    part["image"] = part["image"].astype(np.uint16)
    written_tfds(tmp_path, "deep", deep, {"train": part})
    with pytest.raises(ValueError, match="8-bit images.*'deep', whose images are uint16"):
        data.load("deep", data_dir=tmp_path)
    plain = {"image": gray_part(4)["image"].astype(np.uint8), "label": np.arange(4) % 2}
    written_tfds(
        tmp_path,
        "only_test",
        lambda tfds: {
            "image": tfds.features.Image(shape=(6, 4, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=2),
        },
        {"test": plain},
    )
    with pytest.raises(ValueError, match=r"with a `train` split.*which has \['test'\]"):
        data.load("only_test", data_dir=tmp_path)


# Folders


def png(pixels):
    return tf.io.encode_png(np.asarray(pixels, np.uint8)).numpy()


def flat(value, height=10, width=10, channels=3):
    return np.full((height, width, channels), value, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of five pictures of several kinds and sizes."""
    root = tmp_path / "pictures"
    for name, value in (("cat", 40), ("dog", 200)):
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(png(flat(value)))
        jpeg = tf.io.encode_jpeg(flat(value, 30, 20), quality=100).numpy()
        (root / name / "2.jpg").write_bytes(jpeg)
        (root / name / "3.png").write_bytes(png(flat(value, 7, 31, 1)))
        rgba = np.concatenate([flat(value), flat(255, channels=1)], axis=-1)
        (root / name / "4.png").write_bytes(png(rgba))
        (root / name / "5.bmp").write_bytes(bmp(flat(value, 12, 12)))
    (root / ".DS_Store").write_text("hidden")
    (root / "cat" / ".hidden").write_text("hidden")
    (root / ".git").mkdir()
    (root / "README.md").write_text("about")
    return root


def bmp(pixels, bits=24):
    height, width, _ = pixels.shape
    rows = np.pad(pixels[::-1, :, ::-1].reshape(height, -1), [[0, 0], [0, -3 * width % 4]])
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, rows.size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + rows.size, 0, 0, 54) + header + rows.tobytes()


@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_a_folder_of_pictures(folder, memory_limit):
    s = data.load(f"folder:{folder}", image_size=8, memory_limit=memory_limit)
    assert isinstance(s.train, data.Examples if memory_limit else data.Streamed)
    assert s.class_names == ("cat", "dog")
    assert s.input_shape == (8, 8, 3)
    assert (len(s.train), len(s.validation), len(s.test)) == (6, 2, 2)
    for split in (s.train, s.validation, s.test):
        images, labels = data.arrays(split)
        assert set(labels) == {0, 1}
        expected = np.where(labels == 0, 40, 200)[:, None, None, None] / 255
        assert np.abs(images - expected).max() < 2.5 / 255
    assert data.load(f"folder:{folder}").input_shape == (96, 96, 3)
    again = data.load(f"folder:{folder}", image_size=8, seed=5)
    np.testing.assert_array_equal(again.test.labels, s.test.labels)
    np.testing.assert_array_equal(data.arrays(again.test)[0], data.arrays(s.test)[0])


def test_pictures_keep_their_aspect_and_show_their_centre():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    np.testing.assert_array_equal(pictures.square(tf.constant(wide), 5), flat(255, 5, 5))
    half = np.zeros((20, 20, 3), np.uint8)
    half[10:] = 100
    shown = pictures.square(tf.constant(half), 4).numpy()
    assert (shown[0] == 0).all()
    assert (shown[-1] == 100).all()


def test_transparent_pixels_are_white_and_cmyk_and_gif_decode():
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, 1] = (10, 20, 30, 255)
    np.testing.assert_array_equal(
        pictures.decode(tf.constant(png(rgba)))[0], [[255, 255, 255], [10, 20, 30]]
    )
    np.testing.assert_array_equal(
        pictures.rgb(tf.constant([[[10, 255], [10, 0]]], tf.uint8))[0], [[10] * 3, [255] * 3]
    )
    image = pytest.importorskip("PIL.Image")
    import io

    for mode, kind, tolerance in (
        ("CMYK", "JPEG", 8),
        ("RGB", "GIF", 40),
        ("RGB", "WEBP", 8),
        ("I;16", "PNG", 1),
    ):
        buffer = io.BytesIO()
        if mode == "I;16":
            image.fromarray(np.full((9, 5), 120 * 257, np.uint16)).save(buffer, kind)
        else:
            image.fromarray(flat(120, 9, 5)).convert(mode).save(buffer, kind)
        pictures.check_header(buffer.getvalue())
        shown = pictures.decode(tf.constant(buffer.getvalue())).numpy().astype(int)
        assert shown.shape == (9, 5, 3)
        assert np.abs(shown - 120).max() <= tolerance, (mode, kind)


def test_headers_tell_the_size_before_decoding():
    image = pytest.importorskip("PIL.Image")
    import io

    picture = image.fromarray(np.random.default_rng(0).integers(0, 255, (33, 21, 3), np.uint8))
    for kind, options in (
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0" + bytes(40)}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(40)}),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        assert tuple(pictures._declared_size(buffer.getvalue())) == (21, 33), (kind, options)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", save_all=True, append_images=[picture.rotate(90)])
    with pytest.raises(ValueError, match="animated WebP"):
        pictures.check_header(buffer.getvalue())


def test_read_picture_is_one_picture_or_a_named_fault(folder):
    shown = data.read_picture(folder / "cat" / "3.png", 8)
    np.testing.assert_array_equal(shown, np.full((8, 8, 3), np.float32(40) / np.float32(255)))
    with pytest.raises(ValueError, match="README.md' cannot be used as a picture: it is no PNG"):
        data.read_picture(folder / "README.md", 8)
    with pytest.raises(ValueError, match="absent.png' cannot be used.*cannot be read"):
        data.read_picture(folder / "absent.png", 8)


def huge_png():
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 60_000, 60_000) + bytes(20)


def test_bad_files_are_all_named(folder):
    good = png(flat(9, 40, 40))
    (folder / "cat" / "huge.png").write_bytes(huge_png())
    (folder / "cat" / "cut.png").write_bytes(
        png(np.random.default_rng(0).integers(0, 255, (9, 9, 3)))[:-40]
    )
    (folder / "cat" / "short.png").write_bytes(good[:12])
    (folder / "cat" / "empty.jpg").write_bytes(b"")
    (folder / "dog" / "notes.txt").write_text("not a picture")
    (folder / "dog" / "sub").mkdir()
    (folder / "dog" / "palette.bmp").write_bytes(bmp(flat(1), bits=8))
    with pytest.raises(ValueError, match="7 of 17 files cannot be used") as raised:
        data.load(f"folder:{folder}")
    message = str(raised.value)
    for pattern in (
        r"cat/huge.png: it declares 60000 x 60000 pixels",
        r"cat/cut.png: it is damaged",
        r"cat/short.png: the file is cut short",
        r"cat/empty.jpg: it is no PNG, JPEG, GIF, BMP or WebP",
        r"dog/notes.txt: it is no PNG",
        r"dog/sub: it cannot be read",
        r"dog/palette.bmp: it is a BMP of 8 bits",
    ):
        assert re.search(pattern, message), (pattern, message)
    for i in range(9):
        (folder / "dog" / f"x{i}.txt").write_text("no")
    with pytest.raises(ValueError, match=r"16 of 26 files"):
        data.load(f"folder:{folder}")


def test_folders_of_the_wrong_form(folder, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="at least two classes.*0 sub-folders"):
        data.load(f"folder:{tmp_path / 'none'}")
    (folder / "bird").mkdir()
    with pytest.raises(ValueError, match="at least 3 pictures.*Received: 0 in .*bird"):
        data.load(f"folder:{folder}")
    (folder / "bird" / "1.png").write_bytes(png(flat(1)))
    with pytest.raises(ValueError, match="Received: 1 in .*bird"):
        data.load(f"folder:{folder}")


def test_links_out_of_the_folder_are_refused(folder, tmp_path):
    (folder / "cat" / "6.png").symlink_to(folder / "cat" / "1.png")
    assert len(data.load(f"folder:{folder}").train) == 7
    (tmp_path / "secret.png").write_bytes(png(flat(1)))
    (folder / "cat" / "7.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="links stay inside.*7.png, which leads to .*secret.png"):
        data.load(f"folder:{folder}")
    (folder / "cat" / "7.png").unlink()
    (tmp_path / "outside").mkdir()
    for i in range(3):
        (tmp_path / "outside" / f"{i}.png").write_bytes(png(flat(1)))
    (folder / "elk").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="links stay inside"):
        data.load(f"folder:{folder}")


# Checks of arrays

GOOD = np.full((4, 3, 3, 1), 0.5, np.float32)


def with_pixel(value):
    images = GOOD.copy()
    images[2, 1, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "one_hot", "message"),
    [
        (GOOD[:0], [], False, "at least one image"),
        (GOOD, [0, 1, 2], False, "same length.*4 images, 3 labels"),
        (with_pixel(np.nan), [0] * 4, False, r"finite.*nan in image 2"),
        (with_pixel(np.inf), [0] * 4, False, r"finite.*inf in image 2"),
        (with_pixel(255.0), [0] * 4, False, r"255.0 in image 2 .*Divide by 255"),
        (with_pixel(1.1), [0] * 4, False, "Clip or rescale"),
        (GOOD.astype(np.uint8), [0] * 4, False, "dtype uint8. Divide by 255"),
        (with_pixel(-0.25), [0] * 4, False, r"-0.25 in image 2 .*normalisation"),
        (GOOD, np.eye(4), False, "not one-hot.*np.argmax"),
        (GOOD, [0, 1, 2, 4], False, r"in 0 ... 3 .*labels\[3\]=4"),
        (GOOD, [0, -1, 2, 4], False, r"labels\[1\]=-1 \(2 such\)"),
        (GOOD, [0.0, 1.0, 2.0, 3.0], False, "must be integers.*float64"),
        (GOOD, [0, 1, 2, 3], True, r"must be one-hot.*to_categorical\(labels, 4\)"),
        (GOOD, np.eye(5)[:4], True, "num_classes=4 columns"),
        (GOOD, np.eye(4) * 2, True, r"sum to 1.*labels\[0\]"),
    ],
)
def test_check_names_the_fault(images, labels, one_hot, message):
    with pytest.raises(ValueError, match=message):
        data.check(images, np.asarray(labels), 4, one_hot=one_hot)


def test_check_accepts_good_arrays(digits):
    data.check(*data.arrays(digits.test), digits.num_classes)
    data.check(GOOD, np.eye(4), 4, one_hot=True)
    data.check(GOOD, np.arange(4), 4)


def test_examples_refuse_the_wrong_arrays():
    images = np.zeros((3, 2, 2, 3), np.uint8)
    for arguments, message in (
        ((images / 255.0, np.zeros(3)), "must be uint8"),
        ((images[..., :1], np.zeros(3)), "must be uint8"),
        ((images, np.zeros(2)), "one entry for each image"),
        ((images, np.zeros(3), [1, 1, 2]), "`ids` must be distinct"),
    ):
        with pytest.raises(ValueError, match=message):
            data.Examples(*arguments)


# Batches

BATCHES = {
    "plain": {},
    "ordered": {"shuffle": False},
    "views": {"views": 2},
    "augmented": {"augment": augment.pipeline("crop,flip")},
    "mixed": {"augment": augment.pipeline("mixup"), "one_hot": 5},
}


def forms(split):
    """The same split as arrays, as a plain dataset with ids, and as (image, label) pairs."""
    named = tf.data.Dataset.from_tensor_slices(
        (split.images, {"label": split.labels, "id": split.ids})
    )
    return {"held": split, "named": named, "pairs": split.take(1000)}


@pytest.mark.parametrize(
    ("name", "form"),
    [*((name, "held") for name in BATCHES), *((name, "named") for name in BATCHES)]
    + [("plain", "pairs")],
)
def test_batches_are_a_function_of_their_arguments_and_the_epoch(form, name):
    split = forms(small_split())[form]
    options = {"seed": 3, "shuffle_buffer": 30} | BATCHES[name]
    one, other = (data.batches(split, 32, **options) for _ in range(2))
    assert len(one) == 4
    epochs = [columns(one) for _ in range(3)]
    for epoch in range(3):
        assert_equal(epochs[epoch], columns(other))
        resumed = data.batches(split, 32, **options, first_epoch=epoch)
        assert_equal(epochs[epoch], columns(resumed))
        x, y = epochs[epoch]
        assert x.shape == (100, 6, 6, 3)
        assert x.dtype == np.float32
        first = 0 if form == "pairs" else 1000
        np.testing.assert_array_equal(np.sort(y["id"]), first + np.arange(100))
        np.testing.assert_array_equal(y["view"], epoch % options.get("views", 99))
    same_order = name == "ordered"
    assert (epochs[0][1]["id"] == epochs[1][1]["id"]).all() == same_order
    another_seed = columns(data.batches(split, 32, **options | {"seed": 4}))
    assert (another_seed[1]["id"] == epochs[0][1]["id"]).all() == same_order


@pytest.mark.parametrize("form", ["held", "named", "pairs"])
def test_images_labels_and_ids_stay_together(form):
    split = small_split()
    x, y = columns(data.batches(forms(split)[form], 7, seed=0))
    position = y["id"] - (0 if form == "pairs" else 1000)
    np.testing.assert_array_equal(x, split.images[position] / np.float32(255))
    np.testing.assert_array_equal(y["label"], split.labels[position])
    assert y["id"].dtype == y["view"].dtype == np.int64
    assert not (np.diff(y["id"]) > 0).all()


def test_the_order_is_shuffled_evenly():
    split = small_split()
    batches = data.batches(split, 100, seed=0)
    ids = [columns(batches)[1]["id"] for _ in range(40)]
    first_half = np.mean([np.sort(i[:50]).mean() for i in ids])
    assert abs(first_half - 1049.5) < 2
    assert len({tuple(i) for i in ids}) == 40


def test_the_picture_of_an_id_and_a_view_is_the_same_in_every_batch():
    split = small_split()
    step = augment.pipeline("crop,flip,color")
    whole = columns(data.batches(split, 100, seed=1, augment=step, shuffle=False, views=2))
    expected, _ = step(
        split.images / np.float32(255), split.labels, randomness.keys(1, split.ids, 0)
    )
    np.testing.assert_array_equal(whole[0], expected)
    for batch, epoch in ((32, 0), (17, 2), (1, 4)):
        options = {"augment": step, "views": 2, "first_epoch": epoch}
        x, y = columns(data.batches(split, batch, seed=1, **options))
        assert (y["view"] == 0).all()
        np.testing.assert_array_equal(x[np.argsort(y["id"])], whole[0])
    fresh = columns(data.batches(split, 100, seed=1, augment=step, shuffle=False, first_epoch=1))
    assert (fresh[0] != whole[0]).mean() > 0.3


def test_one_thread_gives_what_two_give():
    split = small_split()
    results = []
    for threads in (1, 2):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        dataset = data.batches(split, 8, seed=0, augment=augment.pipeline("crop,color"))
        results.append(columns(dataset.with_options(options)))
    assert_equal(*results)


@pytest.mark.parametrize("form", ["held", "named"])
def test_the_global_seed_changes_nothing(form):
    results = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        split = forms(small_split())[form]
        results.append(columns(data.batches(split, 8, seed=0, shuffle_buffer=20)))
    assert_equal(*results)


def test_last_batch_and_cardinality():
    split = small_split()
    sizes = [len(x) for x, _ in data.batches(split, 32, seed=0)]
    assert sizes == [32, 32, 32, 4]
    dropped = data.batches(split, 32, seed=0, drop_remainder=True)
    assert len(dropped) == 3
    assert dropped.element_spec[0].shape == (32, 6, 6, 3)
    assert len(list(dropped)) == 3
    unknown = split.filter(lambda image, label: label > 0)
    assert data.batches(unknown, 8, seed=0).cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert len(columns(data.batches(unknown, 8, seed=0))[0]) == 80


def test_perturbation_and_one_hot():
    class Shift:
        def stateless(self, images, keys):
            return images + randomness.uniform(keys, stream=1000)[:, None, None, None]

    split = small_split()
    x, y = columns(data.batches(split, 32, seed=6, perturbation=Shift(), one_hot=5, first_epoch=3))
    shift = randomness.uniform(randomness.keys(6, y["id"], 3), stream=1000).numpy()
    np.testing.assert_array_equal(x, y["clean"] + shift[:, None, None, None])
    np.testing.assert_array_equal(y["clean"], split.images[y["id"] - 1000] / np.float32(255))
    np.testing.assert_array_equal(y["label"], np.eye(5)[split.labels[y["id"] - 1000]])
    assert y["label"].dtype == np.float32


def test_fit_sees_a_new_epoch_each_time():
    seen = []

    class Model(keras.Model):
        def call(self, x):
            return x

        def train_step(self, batch):
            tf.py_function(lambda *a: seen.append([t.numpy() for t in a]), [*batch[1].values()], [])
            return {"zero": 0.0}

    model = Model()
    model.compile(run_eagerly=False)
    dataset = data.batches(small_split(), 50, seed=0)
    model.fit(dataset, epochs=3, verbose=0)
    views = [int(y[2][0]) for y in seen]
    assert views == [0, 0, 1, 1, 2, 2]
    repeated = data.batches(small_split(), 50, seed=0).repeat()
    seen.clear()
    model.fit(repeated, epochs=3, steps_per_epoch=2, verbose=0)
    assert [int(y[2][0]) for y in seen] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 101}, "`batch_size` must be at most .* 100. Received: batch_size=101"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"batch_size": 8.0}, "`batch_size` must be an integer"),
        ({"views": 0}, "`views` must be an integer of at least 1"),
        ({"seed": None}, "`seed` must be an integer"),
        ({"first_epoch": -1}, "`first_epoch` must be an integer of at least 0"),
        ({"one_hot": 1}, "`one_hot` must be an integer of at least 2"),
        ({"shuffle_buffer": 0}, "`shuffle_buffer` must be"),
        ({"split": small_split().batch(4)}, "must hold single images.*unbatch"),
        ({"split": small_split().repeat()}, "`split` must end"),
        ({"split": np.zeros(4)}, "must be a tf.data.Dataset.*ndarray"),
        ({"split": tf.data.Dataset.range(4)}, r"elements \(image, label\)"),
        ({"split": tf.data.Dataset.from_tensors((0, {"a": 1}))}, "targets.*Received: \\['a'\\]"),
        ({"augment": augment.pipeline("mixup")}, "one_hot=num_classes"),
    ],
)
def test_batches_say_what_is_wrong(options, message):
    options = {"split": small_split(), "batch_size": 10, "seed": 0} | options
    with pytest.raises(ValueError, match=message):
        data.batches(**options)


def test_with_ids_numbers_by_position():
    numbered = data.with_ids(small_split(5).take(5))
    _, targets = zip(*numbered.as_numpy_iterator(), strict=True)
    assert [int(t["id"]) for t in targets] == [0, 1, 2, 3, 4]
    assert [int(t["label"]) for t in targets] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"elements \(image, label\)"):
        data.with_ids(numbered)


@pytest.mark.parametrize(("scale", "message"), [(255.0, "Divide by 255"), (-1.0, "Undo any")])
def test_batches_of_floats_out_of_range(scale, message):
    pixels = scale * np.random.default_rng(0).random((4, 6, 6, 3), "float32")
    split = tf.data.Dataset.from_tensor_slices((pixels, np.zeros(4, int)))
    with pytest.raises(ValueError, match=message):
        data.batches(split, 2, seed=0)


def test_views_have_a_seed_of_their_own():
    def epoch(seed, view_seed, **options):
        made = data.batches(
            small_split(20), 5, seed=seed, view_seed=view_seed, views=2,
            augment=augment.pipeline("crop,color"), **options,
        )  # fmt: skip
        return {
            int(i): (int(v), image)
            for x, y in made.as_numpy_iterator()
            for i, v, image in zip(y["id"], y["view"], x, strict=True)
        }

    one, other, third = epoch(1, 7), epoch(2, 7), epoch(1, 8)
    for i in one:
        assert one[i][0] == other[i][0] == 0
        np.testing.assert_array_equal(one[i][1], other[i][1])
    assert any((one[i][1] != third[i][1]).any() for i in one)
    assert list(one) != list(other)  # another order
    # A picture's views come again; its noise does not.
    noisy = [
        epoch(1, 7, first_epoch=e, perturbation=perturbations.Gaussian(lam=8.0)) for e in (0, 2)
    ]
    assert all((noisy[0][i][1] != noisy[1][i][1]).all() for i in one)
    assert all(noisy[0][i][0] == noisy[1][i][0] for i in one)


def test_every_shift_is_drawn_by_example_and_epoch():
    shifts = augment.EveryShift(padding=1)
    made = data.batches(small_split(20), 5, seed=0, augment=shifts, shuffle=False)
    plain = data.batches(small_split(20), 5, seed=0, shuffle=False)
    drawn = []
    for _ in range(30):
        for (x, y), (clean, _) in zip(made, plain, strict=True):
            np.testing.assert_array_equal(x, shifts.at(clean, y["view"]))
            drawn += y["view"].numpy().tolist()
    counts = np.bincount(drawn, minlength=18)
    assert (counts > 0).tolist() == [True] * 18
    with pytest.raises(ValueError, match="`views` is given by the augmentation"):
        data.batches(small_split(20), 5, seed=0, augment=shifts, views=4)


@pytest.mark.parametrize("size", [6, 8])  # with and without a word that is not full
@pytest.mark.parametrize(
    "options",
    [
        {"augment": augment.pipeline("crop,flip"), "views": 2},
        {"augment": augment.EveryShift(padding=1), "drop_remainder": True},
        {"augment": augment.pipeline("mixup"), "one_hot": 5, "first_epoch": 3},
        {"perturbation": perturbations.Gaussian(stddev=0.5), "shuffle": False},
    ],
)
def test_batches_made_on_the_device_are_the_same(size, options):
    images = np.random.default_rng(1).integers(0, 256, (23, size, size, 3), dtype=np.uint8)
    split = data.Examples(images, np.arange(23) % 5, 50 + np.arange(23))
    plain = data.batches(split, 5, seed=3, **options)
    table = np.random.default_rng(2).normal(size=(23, 18, 4)).astype("float16")
    resident = data.OnDevice(split, 5, seed=3, answers={"logits": table}, **options)
    assert len(resident.order) == len(plain)
    made = tf.function(resident)
    for _ in range(3):
        for (x, targets), batch in zip(plain, resident.order, strict=True):
            x_there, there = made(*batch)
            logits = there.pop("logits")
            # TensorFlow turns divisions by constants into products in some graphs only.
            pixels = (x, targets.pop("clean", x)), (x_there, there.pop("clean", x_there))
            np.testing.assert_allclose(*pixels, atol=1e-6)
            np.testing.assert_allclose(targets.pop("label"), there.pop("label"), atol=1e-6)
            assert_equal(targets, there)
            expected = table[targets["id"].numpy() - 50, targets["view"].numpy()]
            np.testing.assert_array_equal(logits, expected.astype("float32"))


def test_only_a_split_in_memory_goes_on_the_device():
    split = small_split(20)
    streamed = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
    with pytest.raises(ValueError, match="must be in memory to be put on a device.*Use kdkeras.da"):
        data.OnDevice(streamed, 5, seed=0)
    with pytest.raises(ValueError, match="`batch_size` must be at most"):
        data.OnDevice(split, 21, seed=0)
