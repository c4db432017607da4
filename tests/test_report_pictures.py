"""Pictures in reports: integrated gradients, and where teacher and student disagree."""

import json

import keras
import numpy as np
import pytest
from conftest import conv_net
from report_runs import write_run
from test_report import Parsed

from kdkeras import data, report
from kdkeras.report import disagreeing, reading, saliency


def linear(weights):
    """`logits = x w`, of images flattened."""
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.Dense(weights.shape[-1], name="w")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.get_layer("w").set_weights([weights, np.ones(weights.shape[-1])])
    return model


def test_saliency_of_a_linear_model_is_its_weights_times_the_pixels():
    random = np.random.default_rng(4)
    weights = random.normal(size=(48, 5)).astype("float32")
    images = random.random((3, 4, 4, 3)).astype("float32")
    classes = np.array([4, 0, 2])
    for steps in (1, 32):
        found = saliency.integrated_gradients(linear(weights), images, classes, steps=steps)
        wanted = images * weights.T[classes].reshape(3, 4, 4, 3)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


def test_saliency_of_a_square_is_exact_by_the_midpoint_rule():
    # x^2 has the gradient 2x, whose integral along t x is x^2: linear, so one step is enough.
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs * inputs))
    images = np.array([[[[0.5], [1.0]], [[0.2], [0.0]]]], "float32")
    found = saliency.integrated_gradients(model, images, np.array([1]), steps=1)
    np.testing.assert_allclose(found[0, ..., 0], [[0.0, 1.0], [0.0, 0.0]], atol=1e-7)


def test_saliency_is_complete():
    keras.utils.set_random_seed(3)
    model = conv_net(8, size=16, channels=3, classes=10)
    random = np.random.default_rng(0)
    for weight in model.weights:  # without biases it would be linear from black on
        if len(weight.shape) == 1 and "variance" not in weight.path:
            weight.assign(weight + random.normal(scale=0.3, size=weight.shape))
    images = random.random((6, 16, 16, 3)).astype("float32")
    classes = np.arange(6)
    logits = model(images).numpy() - model(np.zeros_like(images)).numpy()
    wanted = logits[np.arange(6), classes]
    error = {}
    for steps in (saliency.STEPS, 512):
        found = saliency.integrated_gradients(model, images, classes, steps=steps)
        error[steps] = np.abs(found.sum(axis=(1, 2, 3)) - wanted).max()
    assert error[saliency.STEPS] < 0.02 * np.abs(wanted).max()
    assert error[512] < error[saliency.STEPS]


def test_saliency_refuses_what_does_not_fit():
    images, model = np.zeros((2, 4, 4, 3)), linear(np.zeros((48, 5), "float32"))
    with pytest.raises(ValueError, match="a class an image. Received: 2 images, .* shape \\(3,\\)"):
        saliency.integrated_gradients(model, images, np.zeros(3, int))
    with pytest.raises(ValueError, match="`steps` must be an integer of at least 1"):
        saliency.integrated_gradients(model, images, np.zeros(2, int), steps=0)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run of digits with models that were never trained."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    test = data.load("digits", verbose=0).test
    images, labels = data.arrays(test)
    models, logits = {}, {}
    for seed, role in enumerate(("teacher", "student")):
        keras.utils.set_random_seed(seed)
        models[role] = conv_net(4, size=16, channels=3, classes=10)
        logits[role] = models[role].predict(images, verbose=0) * 1.0
    write_run(
        folder, labels, {}, classes=tuple("0123456789"), first_id=int(test.ids[0]), logits=logits
    )
    for role, model in models.items():
        model.save(folder / f"{role}.keras")
    return folder


def test_the_pictures_of_most_disagreement(digits):
    run = reading.read(digits)
    shown = Parsed(disagreeing.part(run).body)
    probabilities = []
    for role in ("teacher", "student"):
        powers = np.exp(run.logits[role].astype("float64"))
        probabilities.append(powers / powers.sum(axis=1, keepdims=True))
    teacher, student = probabilities
    apart = np.abs(teacher - student).sum(axis=1) / 2
    np.testing.assert_allclose(disagreeing.distances(run), apart, rtol=1e-6)
    first = int(np.argmax(apart))
    top = int(teacher[first].argmax())
    assert (
        f"Truth: {run.labels[first]} Teacher: {top} ({100 * teacher[first, top]:.1f} %) Student: "
        f"{student[first].argmax()} ({100 * student[first].max():.1f} %) Total variation "
        f"{apart[first]:.2f}; image {run.ids[first]}"
    ) in shown.text
    pictures = [attributes for tag, attributes in shown.tags if tag == "img"]
    assert len(pictures) == 24
    assert pictures[0]["alt"] == f"Test image {run.ids[first]}"
    assert all(one["src"].startswith("data:image/png;base64,") for one in pictures)


def test_two_that_say_the_same(digits):
    run = reading.read(digits)
    teacher = run.logits["teacher"]
    alike = {"teacher": teacher, "student": teacher * np.float32(1.001)}
    shown = Parsed(disagreeing.part(reading.dataclasses.replace(run, logits=alike)).body)
    assert "Nowhere: on all 359 test images both name the same class" in shown.text
    assert "img" not in [tag for tag, _ in shown.tags]


def test_pictures_of_a_folder_are_called_by_their_files(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b <c>"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(9):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            keras.utils.save_img(tmp_path / "pictures" / name / f"{number}.png", pixels)
    dataset = f"folder:{tmp_path / 'pictures'}"
    test = data.load(dataset, image_size=16, verbose=0).test
    images, labels = data.arrays(test)
    folder, logits = tmp_path / "run", {}
    for role in ("teacher", "student"):
        model = conv_net(4, size=16, channels=3, classes=2)
        logits[role] = model(images).numpy()
        folder.with_name(role).mkdir()
        model.save(folder.with_name(role) / f"{role}.keras")
    write_run(folder, labels, {}, logits=logits, dataset=dataset, image_size=16)
    for role in logits:
        (folder.with_name(role) / f"{role}.keras").rename(folder / f"{role}.keras")
    run = reading.dataclasses.replace(reading.read(folder), ids=test.ids)
    order = np.arange(len(labels))
    for position, name in zip(order, disagreeing._names(run, order), strict=True):
        picture = data.read_picture(tmp_path / "pictures" / name, 16)
        np.testing.assert_array_equal(picture, images[position])


def test_the_picture_is_the_run_s_own(digits):
    run = reading.read(digits)
    images, _ = data.arrays(data.load("digits", verbose=0).test)
    order = np.array([7, 0, 358])
    np.testing.assert_array_equal(disagreeing._images(run, order), images[order])


def test_pictures_are_left_out_when_asked(digits):
    assert "disagree most" not in report.write(digits, pictures=False).read_text()


def said_of(folder, **changed):
    results = json.loads((folder / "results.json").read_text())
    results["recipe"].update(changed)
    run = reading.read(folder)
    run = reading.dataclasses.replace(run, results=results)
    shown = Parsed(disagreeing.part(run).body)
    assert "img" not in [tag for tag, _ in shown.tags]
    return shown.text


def test_a_line_says_why_there_are_no_pictures(digits):
    assert "No pictures: `name` must name an existing folder" in said_of(
        digits, dataset="folder:/nowhere"
    )
    assert "No pictures: " in said_of(digits, dataset="cifar10", data_dir=str(digits / "none"))


def test_models_that_are_not_those_of_the_run(digits, tmp_path):
    run = reading.read(digits)
    other = reading.dataclasses.replace(run, path=tmp_path)
    assert "teacher.keras' is not there" in Parsed(disagreeing.part(other).body).text
    conv_net(4, size=16, channels=3, classes=10).save(tmp_path / "teacher.keras")
    assert "is not the model that was tested" in disagreeing.part(other).body


def test_test_images_that_have_changed(digits):
    run = reading.read(digits)
    other = reading.dataclasses.replace(run, ids=run.ids + 1)
    assert "are no longer those of the run" in disagreeing.part(other).body
