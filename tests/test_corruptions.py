"""Common corruptions: formulas against independent references, draws, files and their faults."""

import colorsys
import io
import math
import zlib

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kdkeras import corruptions, data
from kdkeras.corruptions import blurs, colors, fogs
from kdkeras.data import sources

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "fog")


def stepped(constants):
    """(severity, constant) from 1 on."""
    return list(enumerate(constants, start=1))


def scene(count=6, *, size=32, width=None, channels=3, seed=1):
    """Smooth 8-bit pictures: a few waves in each channel."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0 : width or size] / 32.0
    x = np.zeros((count, size, width or size, channels))
    for _ in range(6):
        wave = random.uniform(-3, 3, (2, count, 1, 1, channels))
        phase = random.uniform(0, 2 * np.pi, (count, 1, 1, channels))
        across = wave[0] * rows[None, ..., None] + wave[1] * columns[None, ..., None]
        x += np.sin(2 * np.pi * across + phase) / 6
    return np.float32(np.rint((x + 1) * 127.5) / 255)


def flat(value, *, count=10, size=32):
    """Pictures of one 8-bit value."""
    return np.full((count, size, size, 3), value / 255, np.float32)


def of_bytes(*values):
    """One picture of 8-bit pixels."""
    return np.float32(np.array(values) / 255)[None]


def in_bytes(images):
    """The 8-bit values of pictures, which they must be multiples of 1/255 to have."""
    values = np.rint(images * 255.0)
    np.testing.assert_array_equal(images, np.float32(values) / np.float32(255))
    return values.astype(int)


def corrupted(pixels, name, severity):
    """8-bit pixels of one picture in and out."""
    return in_bytes(corruptions.corrupt(of_bytes(*pixels), name, severity))[0].tolist()


@pytest.mark.parametrize("name", corruptions.NAMES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(8, 8), (16, 16), (32, 32), (5, 11), (1, 1)])
def test_pictures_of_any_size_stay_in_range_and_8_bits(name, channels, shape):
    images = scene(2, size=shape[0], width=shape[1], channels=channels)
    kept = images.copy()
    for severity in (1, 5):
        result = corruptions.corrupt(images, name, severity)
        assert result.shape == images.shape
        assert result.dtype == np.float32
        assert 0 <= in_bytes(result).min() <= in_bytes(result).max() <= 255
        if shape == (32, 32):
            unchanged = (name, channels) == ("saturate", 1)
            assert (result == images).all() == unchanged
    np.testing.assert_array_equal(images, kept)


@pytest.mark.parametrize("name", corruptions.NAMES)
@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_pictures_stay_finite(name, value):
    result = corruptions.corrupt(flat(value, count=1, size=8), name, 5)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_a_picture_depends_on_its_id_and_not_on_the_batch(name):
    images = scene(7, size=8)
    whole = corruptions.corrupt(images, name, 4, seed=3)
    np.testing.assert_array_equal(corruptions.corrupt(images, name, 4, seed=3), whole)
    parts = [
        corruptions.corrupt(images[part], name, 4, seed=3, ids=np.arange(7)[part])
        for part in (slice(0, 1), slice(1, 5), slice(5, 7))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    backwards = corruptions.corrupt(images[::-1], name, 4, seed=3, ids=range(6, -1, -1))
    np.testing.assert_array_equal(backwards[::-1], whole)
    for other in ({"seed": 4}, {"seed": 3, "ids": range(1, 8)}):
        changed = (corruptions.corrupt(images, name, 4, **other) != whole).any(axis=(1, 2, 3))
        assert changed.tolist() == [name in RANDOM] * 7


def test_draws_of_pictures_severities_and_names_are_uncorrelated():
    images = flat(128, count=2)
    draws = [
        corruptions.corrupt(images, name, severity)[i].ravel()
        for name in ("gaussian_noise", "speckle_noise")
        for severity in (1, 2)
        for i in range(2)
    ]
    correlation = np.corrcoef(draws) - np.eye(8)
    assert np.abs(correlation).max() < 5 / math.sqrt(32 * 32 * 3)


def test_pictures_are_rounded_to_8_bits_first_and_truncated_last():
    # 100.4 and 100.6 are 100 and 101, with 200 of means 150 and 150.5: severity 1 gives 112.5 and
    # 187.5, 113.375 and 187.625.
    assert corrupted([[[100.4], [200]]], "contrast", 1) == [[[112], [187]]]
    assert corrupted([[[100.6], [200]]], "contrast", 1) == [[[113], [187]]]
    every = np.arange(256).reshape(1, 16, 16, 1)
    for dtype in (np.float16, np.float32, np.float64):
        same = corruptions.corrupt((every / 255).astype(dtype), "saturate", 3)
        np.testing.assert_array_equal(in_bytes(same), every)


@pytest.mark.parametrize(("severity", "scale"), stepped([0.04, 0.06, 0.08, 0.09, 0.10]))
def test_gaussian_noise_has_the_stated_deviation(severity, scale):
    noise = in_bytes(corruptions.corrupt(flat(128), "gaussian_noise", severity)).ravel() - 128.0
    n, sigma = len(noise), scale * 255
    # Truncation moves the mean by -1/2 and adds the variance 1/12. Four standard errors.
    assert abs(noise.mean() + 0.5) < 4 * sigma / math.sqrt(n)
    assert abs(noise.var() / (sigma**2 + 1 / 12) - 1) < 4 * math.sqrt(2 / n)
    assert abs(stats.kurtosis(noise)) < 4 * math.sqrt(24 / n)


@pytest.mark.parametrize(("severity", "scale"), stepped([0.06, 0.1, 0.12, 0.16, 0.2]))
def test_speckle_noise_grows_with_the_pixel(severity, scale):
    values = np.repeat([0, 60, 120, 160], 8)
    images = flat(255) * np.float32(values / 255)[:, None]
    noise = in_bytes(corruptions.corrupt(images, "speckle_noise", severity)) - values[:, None]
    assert not noise[:, :, values == 0].any()
    for value in (60, 120):
        of_value = noise[:, :, values == value]
        n, sigma = of_value.size, scale * value
        assert abs(of_value.mean() + 0.5) < 4 * sigma / math.sqrt(n)
        assert abs(of_value.var() / (sigma**2 + 1 / 12) - 1) < 4 * math.sqrt(2 / n)


@pytest.mark.parametrize(("severity", "photons"), stepped([500, 250, 100, 75, 50]))
def test_shot_noise_is_poisson(severity, photons):
    for value in (3, 128, 250):
        counts = np.arange(2000)
        chance = stats.poisson.pmf(counts, photons * value / 255)
        bytes_ = np.floor(np.clip(counts / photons, 0, 1) * 255)
        mean = (chance * bytes_).sum()
        central = [(chance * (bytes_ - mean) ** power).sum() for power in (2, 4)]
        drawn = in_bytes(corruptions.corrupt(flat(value), "shot_noise", severity)).ravel()
        n = len(drawn)
        assert abs(drawn.mean() - mean) < 4 * math.sqrt(central[0] / n)
        error = math.sqrt((central[1] - central[0] ** 2) / n)
        assert abs(drawn.var() - central[0]) < 4 * error
    assert not corruptions.corrupt(flat(0), "shot_noise", severity).any()


@pytest.mark.parametrize(("severity", "amount"), stepped([0.01, 0.02, 0.03, 0.05, 0.07]))
def test_impulse_noise_is_salt_and_pepper_in_each_channel(severity, amount):
    values = in_bytes(corruptions.corrupt(flat(128, count=30), "impulse_noise", severity))
    n = values.size
    for value, share in ((0, amount / 2), (255, amount / 2), (128, 1 - amount)):
        error = math.sqrt(share * (1 - share) / n)
        assert abs((values == value).mean() - share) < 4 * error
    both = (values[..., :2] != 128).all(axis=-1)
    assert abs(both.mean() - amount**2) < 4 * amount / math.sqrt(both.size)


def test_hsv_is_that_of_the_standard_library():
    random = np.random.default_rng(0)
    values = np.concatenate([random.integers(0, 256, (3000, 3)), random.integers(0, 3, (300, 3))])
    rgb = values / 255
    hue, saturation, value = colors.to_hsv(rgb)
    expected = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in rgb])
    np.testing.assert_allclose(np.stack([hue, saturation, value], -1), expected, atol=1e-12)
    np.testing.assert_allclose(colors.to_rgb(hue, saturation, value), rgb, atol=1e-12)
    every = random.random((3000, 3))
    expected = [colorsys.hsv_to_rgb(*pixel) for pixel in every]
    np.testing.assert_allclose(colors.to_rgb(*every.T), expected, atol=1e-12)


def test_brightness_by_hand():
    # Of (201, 250, 240), V + 0.3 is clipped to 1: each channel times 255 / 250.
    assert corrupted([[[201, 250, 240]]], "brightness", 5) == [[[205, 255, 244]]]
    # V = 31 + 12.75 = 43.75: times 43.75 / 31.
    assert corrupted([[[31, 12, 19]]], "brightness", 1) == [[[43, 16, 26]]]
    for severity, amount in stepped([0.05, 0.1, 0.15, 0.2, 0.3]):
        level = int(100 + 255 * amount)
        assert corrupted([[[100, 100, 100]]], "brightness", severity) == [[[level] * 3]]
        assert corrupted([[[100]]], "brightness", severity) == [[[level]]]
        assert corrupted([[[250]]], "brightness", severity) == [
            [[min(255, int(250 + 255 * amount))]]
        ]


def test_saturate_by_hand():
    # S = 148 / 201. S' = 0.3 S: 201 - 0.3 * (0, 101, 148).
    assert corrupted([[[201, 100, 53]]], "saturate", 1) == [[[201, 170, 156]]]
    assert corrupted([[[201, 100, 53]]], "saturate", 2) == [[[201, 190, 186]]]
    # S = 48 / 201, 1.5 S: 201 - 1.5 * (0, 31, 48); 2 S + 0.1: less 20.1 * (0, 31, 48) / 48 more.
    assert corrupted([[[201, 170, 153]]], "saturate", 3) == [[[201, 154, 129]]]
    assert corrupted([[[201, 170, 153]]], "saturate", 4) == [[[201, 126, 84]]]
    assert corrupted([[[201, 170, 153]]], "saturate", 5) == [[[201, 97, 40]]]
    # At S' = 1 the lowest channel is 0, the middle one 201 * (1 - 101 / 148).
    assert corrupted([[[201, 100, 53]]], "saturate", 5) == [[[201, 63, 0]]]
    # Grey is red with S = 0 in HSV.
    assert corrupted([[[101, 101, 101]]], "saturate", 3) == [[[101, 101, 101]]]
    assert corrupted([[[101, 101, 101]]], "saturate", 4) == [[[101, 90, 90]]]
    assert corrupted([[[101]]], "saturate", 4) == [[[101]]]


def check_truncated(found, expected):
    """Whether bytes are expected ones, truncated; a whole number may have come out just below."""
    assert ((np.floor(expected - 1e-9) <= found) & (found <= np.floor(expected + 1e-9))).all()


@pytest.mark.parametrize(("severity", "factor"), stepped([0.75, 0.5, 0.4, 0.3, 0.15]))
def test_contrast_draws_each_channel_to_its_mean(severity, factor):
    pixels = np.array([[[3, 200, 77], [18, 21, 250]], [[100, 100, 100], [7, 0, 255]]])
    mean = pixels.mean(axis=(0, 1))
    check_truncated(corrupted(pixels, "contrast", severity), mean + factor * (pixels - mean))


def filtered(x, kernel, border):
    """Correlation with a square kernel, pixel by pixel."""
    reach = len(kernel) // 2
    padded = np.pad(x, [(reach, reach), (reach, reach), (0, 0)], mode=border)
    result = np.zeros_like(x)
    for i, j in np.ndindex(x.shape[:2]):
        window = padded[i : i + len(kernel), j : j + len(kernel)]
        result[i, j] = (kernel[..., None] * window).sum(axis=(0, 1))
    return result


@pytest.mark.parametrize(("severity", "sigma"), stepped([0.4, 0.6, 0.7, 0.8, 1.0]))
def test_gaussian_blur_equals_numpy(severity, sigma):
    reach = {0.4: 2, 0.6: 2, 0.7: 3, 0.8: 3, 1.0: 4}[sigma]
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    image = scene(1, size=12)
    x = in_bytes(image[0]) / 255
    expected = filtered(x, np.outer(taps, taps), "edge")
    np.testing.assert_allclose(blurs.gaussian_blur(x, sigma, None), expected, atol=1e-12)
    result = corruptions.corrupt(image, "gaussian_blur", severity)[0]
    check_truncated(in_bytes(result), expected * 255)


@pytest.mark.parametrize(
    ("severity", "radius", "sigma"),
    [(1, 0.3, 0.4), (2, 0.4, 0.5), (3, 0.5, 0.6), (4, 1.0, 0.2), (5, 1.5, 0.1)],
)
def test_defocus_blur_equals_numpy(severity, radius, sigma):
    away = np.arange(-8, 9)
    disk = np.float64(away[:, None] ** 2 + away**2 <= radius**2)
    assert disk.sum() == (1, 1, 1, 5, 9)[severity - 1]
    edge = math.exp(-1 / (2 * sigma**2))
    taps = np.array([edge, 1, edge]) / (1 + 2 * edge)
    kernel = filtered((disk / disk.sum())[..., None], np.outer(taps, taps), "constant")[..., 0]
    assert kernel.sum() == pytest.approx(1)
    image = scene(1, size=12)
    x = in_bytes(image[0]) / 255
    expected = filtered(x, kernel, "reflect")
    np.testing.assert_allclose(blurs.defocus_blur(x, (radius, sigma), None), expected, atol=1e-12)
    result = corruptions.corrupt(image, "defocus_blur", severity)[0]
    check_truncated(in_bytes(result), expected * 255)


def diamond_square(side, decay, random):
    """The plasma fractal point by point, with the same draws."""
    heights = {(0, 0): 0.0}
    step, amplitude = side, 100.0
    while step > 1:
        half = step // 2
        diagonal = ((-half, -half), (-half, half), (half, -half), (half, half))
        straight = ((-half, 0), (half, 0), (0, -half), (0, half))
        passes = ((half, half, diagonal), (0, half, straight), (half, 0, straight))
        for top, left, neighbours in passes:
            for i in range(top, side, step):
                for j in range(left, side, step):
                    around = [heights[(i + di) % side, (j + dj) % side] for di, dj in neighbours]
                    noise = random.uniform(-amplitude, amplitude)
                    heights[i, j] = sum(around) / 4 + amplitude * noise
        step, amplitude = half, amplitude / decay
    table = np.array([[heights[i, j] for j in range(side)] for i in range(side)])
    return (table - table.min()) / (table.max() - table.min())


@pytest.mark.parametrize(("side", "decay"), [(2, 3.0), (4, 2.0), (32, 1.75)])
def test_plasma_equals_the_algorithm_point_by_point(side, decay):
    heights = fogs.plasma(side, decay, np.random.default_rng(5))
    expected = diamond_square(side, decay, np.random.default_rng(5))
    np.testing.assert_allclose(heights, expected, atol=1e-12)
    assert (heights.min(), heights.max()) == (0.0, 1.0)


def test_plasma_is_smoother_the_larger_its_decay():
    def roughness(decay):
        maps = [fogs.plasma(32, decay, np.random.default_rng(i)) for i in range(20)]
        return np.mean(
            [np.abs(np.diff(heights, axis=0)).mean() / heights.std() for heights in maps]
        )

    assert roughness(3.0) < roughness(2.0) < roughness(1.75)


@pytest.mark.parametrize(
    ("severity", "amount", "decay"),
    [(1, 0.2, 3.0), (2, 0.5, 3.0), (3, 0.75, 2.5), (4, 1.0, 2.0), (5, 1.5, 1.75)],
)
def test_fog_mixes_the_picture_with_a_fractal(severity, amount, decay):
    # On a flat picture the fractal reaches 0 and 1, thus v^2 / (v + a) and v.
    values = in_bytes(corruptions.corrupt(flat(200, count=3), "fog", severity))
    v = 200 / 255
    for picture in values:
        assert picture.min() == math.floor(255 * v**2 / (v + amount))
        assert picture.max() in (199, 200)  # v itself, but for rounding.
        assert (picture == picture[..., :1]).all()
    images = scene(1, size=20)
    x = in_bytes(images[0]) / 255
    random = np.random.default_rng((7, zlib.crc32(b"fog"), severity, 0))
    layer = diamond_square(32, decay, random)[:20, :20, None]
    expected = (x + amount * layer) * x.max() / (x.max() + amount)
    fogged = in_bytes(corruptions.corrupt(images, "fog", severity, seed=7)[0])
    check_truncated(fogged, expected * 255)
    assert not corruptions.corrupt(flat(0), "fog", severity).any()


def test_pixelate_by_hand():
    # 4 pixels to 2 and back: 25.5 is rounded to 26.
    row = [[0], [10], [20], [31]]
    assert corrupted([row] * 4, "pixelate", 5) == [[[5], [5], [26], [26]]] * 4
    assert corrupted([[[i], [i], [i], [i]] for [i] in row], "pixelate", 5) == [
        [[5]] * 4,
        [[5]] * 4,
        [[26]] * 4,
        [[26]] * 4,
    ]
    # 7 to 4: the centre 3.5 lies on an edge, and goes before it.
    assert corrupted([[[i] for i in (0, 10, 20, 40, 50, 60, 80)]], "pixelate", 5) == [
        [[i] for i in (5, 5, 30, 50, 50, 70, 70)]
    ]


@pytest.mark.parametrize(("severity", "scale"), stepped([0.95, 0.9, 0.85, 0.75, 0.65]))
def test_pixelate_equals_pillow(severity, scale):
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(severity)
    # Of other sizes Pillow's rounding decides where pixels go whose centre lies on an edge.
    for height, width in [(32, 32), (4, 8), (16, 12), (28, 28), (96, 64)]:
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        small = (max(1, int(scale * width)), max(1, int(scale * height)))
        there = image.fromarray(pixels).resize(small, image.Resampling.BOX)
        back = np.array(there.resize((width, height), image.Resampling.BOX))
        result = corruptions.corrupt(np.float32(pixels[None] / 255), "pixelate", severity)
        np.testing.assert_array_equal(in_bytes(result)[0], back, err_msg=f"{height} x {width}")


@pytest.mark.parametrize(("severity", "quality"), stepped([80, 65, 58, 50, 40]))
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_equals_the_codec(severity, quality, channels):
    images = scene(3, channels=channels)
    result = in_bytes(corruptions.corrupt(images, "jpeg_compression", severity))
    for image, found in zip(in_bytes(images), result, strict=True):
        encoded = tf.io.encode_jpeg(tf.constant(image, tf.uint8), quality=quality)
        expected = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE")
        np.testing.assert_array_equal(found, expected)


def test_jpeg_equals_pillow():
    image = pytest.importorskip("PIL.Image")
    pictures = scene(3)
    result = in_bytes(corruptions.corrupt(pictures, "jpeg_compression", 3))
    for pixels, found in zip(in_bytes(pictures), result, strict=True):
        file = io.BytesIO()
        image.fromarray(np.uint8(pixels)).save(file, "JPEG", quality=58)
        np.testing.assert_array_equal(found, np.array(image.open(file)))


def distances(images, name):
    """Mean squared differences at the five severities."""
    results = [corruptions.corrupt(images, name, severity) for severity in corruptions.SEVERITIES]
    return [float(np.mean((result - images) ** 2)) for result in results]


@pytest.fixture(scope="module")
def digits():
    split = data.load("digits", verbose=0, image_size=32).train
    return np.stack([image for image, _ in split.take(24).as_numpy_iterator()])


@pytest.mark.parametrize("name", corruptions.NAMES)
@pytest.mark.parametrize("kind", ["scenes", "digits"])
def test_severities_are_in_order(name, kind, digits):
    found = distances(scene(24) if kind == "scenes" else digits, name)
    if name != "saturate":
        steps = np.diff([0.0, *found])
        if name == "pixelate":  # 28 and 27 pixels a side of 32 are about equal.
            assert abs(steps[2]) < 0.3 * found[1]
            steps = np.delete(steps, 2)
        assert (steps > 0).all(), found
    elif kind == "scenes":  # 1 and 2 take colour away, 3 to 5 add it.
        assert 0 < found[0] < found[1]
        assert 0 < found[2] < found[3] < found[4]
    else:  # Grey digits have no colour to scale; 4 and 5 add some.
        assert found[:3] == [0, 0, 0]
        assert 0 < found[3] < found[4]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 8, 3)), r"of shape \(batch, height.*Received: shape \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 4)), r"1 or 3\)\. Received: shape \(2, 8, 8, 4\)"),
        (np.zeros((0, 8, 8, 3)), r"at least one image\. Received: shape \(0, 8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"floats in \[0, 1\].*uint8.*Divide by 255"),
        (np.full((1, 8, 8, 3), 200.0), r"in \[0, 1\].*200.*Divide by 255"),
        (np.full((1, 8, 8, 3), -0.5), r"in \[0, 1\].*-0.5.*Undo any normalisation"),
        (np.full((1, 8, 8, 3), np.nan), "must be finite.*nan in image 0"),
        (np.full((1, 8, 8, 3), np.inf), "must be finite.*inf in image 0"),
        (np.full((1, 8, 8, 3), "a"), "floats.*Received: dtype <U1"),
    ],
)
def test_unfit_images_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        corruptions.corrupt(images, "fog", 1)
    with pytest.raises(ValueError, match=message):
        corruptions.Corrupted(images, np.zeros(len(images), int))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "gausian_noise"},
            "`name` must be one of 12 known.*Did you mean 'gaussian_noise'",
        ),
        ({"name": None}, "`name` must be one of.*Received: name=None"),
        ({"severity": 0}, r"`severity` must be in 1 \.\.\. 5\. Received: severity=0"),
        ({"severity": 6}, r"in 1 \.\.\. 5\. Received: severity=6"),
        ({"severity": 2.0}, "`severity` must be an integer. Received: severity=2.0"),
        ({"severity": True}, "`severity` must be an integer. Received: severity=True"),
        ({"seed": -1}, "`seed` must be an integer of at least 0. Received: seed=-1"),
        ({"ids": [0, 1]}, r"`ids` must be integers.*shape \(2,\).*for 1 images"),
        ({"ids": [-1]}, "`ids` must be integers of at least 0"),
        ({"ids": [0.5]}, "`ids` must be integers.*dtype float64"),
    ],
)
def test_unfit_settings_are_refused(settings, message):
    settings = {"name": "fog", "severity": 1, **settings}
    with pytest.raises(ValueError, match=message):
        corruptions.corrupt(flat(1, count=1), **settings)


def test_corrupted_gives_what_corrupt_does():
    images, labels = scene(4, size=8), [3, 1, 2, 0]
    made = corruptions.Corrupted(images, labels, seed=9)
    assert (len(made), made.names) == (4, corruptions.NAMES)
    found, of_found = made("shot_noise", 2)
    np.testing.assert_array_equal(found, corruptions.corrupt(images, "shot_noise", 2, seed=9))
    assert of_found.tolist() == labels
    with pytest.raises(ValueError, match=r"`labels`.*shape \(3,\) for 4 images"):
        corruptions.Corrupted(images, labels[:3])
    with pytest.raises(ValueError, match="`seed` must be an integer"):
        corruptions.Corrupted(images, labels, seed="a")


LABELS = np.tile(np.array([4, 0, 9], np.uint8), 5)


@pytest.fixture
def folder(tmp_path):
    """A folder like CIFAR-10-C with three pictures."""
    random = np.random.default_rng(0)
    np.save(tmp_path / "labels.npy", LABELS)
    for name in ("fog", "snow", "gaussian_noise"):
        np.save(tmp_path / f"{name}.npy", random.integers(0, 256, (15, 8, 8, 3), np.uint8))
    return tmp_path


def test_files_are_read_by_severity(folder):
    stored = corruptions.load(folder)
    assert (len(stored), stored.names) == (3, ("fog", "gaussian_noise", "snow"))
    for name in stored.names:
        raw = np.load(folder / f"{name}.npy")
        for severity in corruptions.SEVERITIES:
            images, labels = stored(name, severity)
            assert images.dtype == np.float32
            np.testing.assert_array_equal(in_bytes(images), raw[3 * severity - 3 : 3 * severity])
            assert labels.tolist() == [4, 0, 9]
    assert isinstance(stored.pictures["fog"], np.memmap)
    assert corruptions.load(str(folder), ["snow", "snow"]).names == ("snow",)
    with pytest.raises(ValueError, match="`severity` must be in"):
        stored("fog", 6)
    with pytest.raises(ValueError, match="`name` must be one of.*Did you mean 'snow'"):
        stored("snows", 1)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


FAULTS = {
    "no labels": (
        lambda f: (f / "labels.npy").unlink(),
        "no labels: '.*labels.npy' does not exist",
    ),
    "labels of another length": (
        lambda f: np.save(f / "labels.npy", np.tile([4, 0], 5)),
        r"fog.npy' must hold uint8 pictures of shape \(10, .*Received: shape \(15, 8, 8, 3\)",
    ),
    "labels of one severity": (
        lambda f: np.save(f / "labels.npy", LABELS[:3]),
        r"labels.npy' must hold the same labels five times.*shape \(3,\)",
    ),
    "labels in another order": (
        lambda f: np.save(f / "labels.npy", np.sort(LABELS)),
        "labels.npy' must hold the same labels five times",
    ),
    "labels that are not integers": (
        lambda f: np.save(f / "labels.npy", LABELS / 2),
        r"labels.npy' must hold integers of shape \(5 n,\).*dtype float64",
    ),
    "one-hot labels": (
        lambda f: np.save(f / "labels.npy", np.eye(10, dtype=int)[LABELS]),
        r"labels.npy' must hold integers.*shape \(15, 10\)",
    ),
    "pickled labels": (
        lambda f: np.save(f / "labels.npy", LABELS.astype(object), allow_pickle=True),
        "labels.npy' cannot be read as an array.*Python objects",
    ),
    "pictures of another dtype": (
        lambda f: np.save(f / "fog.npy", np.zeros((15, 8, 8, 3), np.float32)),
        "fog.npy' must hold uint8 pictures.*dtype float32",
    ),
    "pictures of another shape": (
        lambda f: np.save(f / "fog.npy", np.zeros((15, 3, 8, 8), np.uint8)),
        r"fog.npy' must hold uint8 pictures.*shape \(15, 3, 8, 8\)",
    ),
    "pictures of too few dimensions": (
        lambda f: np.save(f / "fog.npy", np.zeros((15, 192), np.uint8)),
        r"fog.npy' must hold uint8 pictures.*shape \(15, 192\)",
    ),
    "pickled pictures": (
        lambda f: np.save(f / "fog.npy", np.array([{}] * 15), allow_pickle=True),
        "fog.npy' cannot be read as an array.*Python objects",
    ),
    "a truncated file": (lambda f: cut(f / "fog.npy", 1000), "fog.npy' cannot be read.*in full"),
    "a truncated header": (lambda f: cut(f / "fog.npy", 50), "fog.npy' cannot be read"),
    "an empty file": (lambda f: cut(f / "fog.npy", 0), "fog.npy' cannot be read"),
    "another kind of file": (
        lambda f: (f / "fog.npy").write_text("<html>Not found</html>"),
        "fog.npy' cannot be read",
    ),
    "an archive": (
        lambda f: (np.savez(f / "fog", np.zeros(3)), (f / "fog.npz").replace(f / "fog.npy")),
        "fog.npy' cannot be read",
    ),
    "a folder": (
        lambda f: ((f / "fog.npy").unlink(), (f / "fog.npy").mkdir()),
        "fog.npy' cannot be read",
    ),
    "no pictures": (
        lambda f: [path.unlink() for path in f.glob("*.npy") if path.stem != "labels"],
        "holds no file of pictures",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_folder_are_named(folder, fault):
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(ValueError, match=message):
        corruptions.load(folder)


def test_missing_folders_and_unknown_names_are_refused(folder):
    with pytest.raises(ValueError, match="must be an existing folder. Received: '.*nowhere'"):
        corruptions.load(folder / "nowhere")
    with pytest.raises(ValueError, match="one of 'fog', .*names='frog'.* Did you mean 'fog'"):
        corruptions.load(folder, ["frog"])
    for names in ([], "fog"):
        with pytest.raises(ValueError, match="`names` must be a list of at least one name"):
            corruptions.load(folder, names)


def by_brightness(images):
    """Logits of two classes: whether the mean is above one half."""
    means = np.asarray(images).mean(axis=(1, 2, 3))
    return np.stack([0.5 - means, means - 0.5], axis=-1)


def test_accuracies_by_hand():
    # Of the values 120, 100 and 60, V + (0.05, ..., 0.3) lies above one half from severity 1, 3
    # and 5 on (132, 138, 136), and then the pictures are taken to be of class 1.
    images = np.concatenate([flat(value, count=1, size=8) for value in (120, 100, 60)])
    made = corruptions.Corrupted(images, [0, 0, 0])
    found = corruptions.accuracies(by_brightness, made, names=["brightness", "contrast"], verbose=0)
    assert list(found) == ["brightness", "contrast"]
    assert found["brightness"] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3, 0.0])
    assert found["contrast"] == [1.0] * 5
    assert corruptions.mean_accuracy(found) == pytest.approx(0.7)
    some = corruptions.accuracies(by_brightness, made, names=["brightness"], severities=(5, 1))
    assert some == {"brightness": pytest.approx([0.0, 2 / 3])}


def test_accuracies_of_files(folder):
    np.save(folder / "labels.npy", np.ones(15, np.int64))
    bright = np.zeros((15, 8, 8, 3), np.uint8)
    bright[[0, 1, 2, 4, 12]] = 255
    np.save(folder / "fog.npy", bright)
    found = corruptions.accuracies(by_brightness, corruptions.load(folder, ["fog"]), verbose=0)
    assert found == {"fog": pytest.approx([1, 1 / 3, 0, 0, 1 / 3])}
    whole = corruptions.accuracies(by_brightness, corruptions.load(folder), verbose=0)
    assert list(whole) == ["fog", "gaussian_noise", "snow"]


def test_progress_counts_the_pictures(monkeypatch):
    said = []
    monkeypatch.setattr(
        sources, "progress", lambda count, verbose: said.append((count, verbose)) or said.append
    )
    made = corruptions.Corrupted(flat(9, count=3, size=8), [0, 0, 0])
    corruptions.accuracies(by_brightness, made, names=["contrast"], severities=[1, 2], verbose=0)
    assert said == [(6, 0), 3, 6]


def test_unfit_measurements_are_refused():
    made = corruptions.Corrupted(flat(9, count=3, size=8), [0, 0, 2])

    def measure(logits_of=by_brightness, **settings):
        corruptions.accuracies(logits_of, made, **settings)

    with pytest.raises(ValueError, match="`names` must be one of.*Did you mean 'fog'"):
        measure(names=["fogg"])
    with pytest.raises(ValueError, match="`names` must be a list of at least one"):
        measure(names=())
    with pytest.raises(ValueError, match="`severities` must hold at least one"):
        measure(severities=())
    with pytest.raises(ValueError, match="`severity` must be in"):
        measure(severities=range(6))
    with pytest.raises(ValueError, match=r"logits of shape \(3, classes\).*shape \(3,\)"):
        measure(lambda images: np.zeros(3))
    with pytest.raises(ValueError, match=r"logits of shape \(3, classes\).*shape \(2, 3\)"):
        measure(lambda images: np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite logits"):
        measure(lambda images: np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"`labels` must be in 0 \.\.\. 1.*labels\[2\]=2"):
        measure()
    with pytest.raises(ValueError, match="`found` must hold at least one"):
        corruptions.mean_accuracy({})


def test_the_standard_corruptions_are_fifteen():
    assert len(set(corruptions.STANDARD)) == 15
    held_out = {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
    assert held_out.isdisjoint(corruptions.STANDARD)
    assert set(corruptions.NAMES) - held_out <= set(corruptions.STANDARD)
