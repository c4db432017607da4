"""Reports in folders: stopped, resumed, refused; and models in files, by gradient and transfer."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_net, pictures
from test_robustness import linear, linear_problem

import kdkeras
from kdkeras import files, robustness
from kdkeras.robustness import running, suites, targets

pytestmark = pytest.mark.usefixtures("quick_children")

EPSILON = 0.1
SMALL = 0.01


def attacked(model, images, labels, **settings):
    settings = {"epsilon": EPSILON, "suite": "quick", "verbose": 0, **settings}
    return robustness.evaluate(model, images, labels, **settings)


# -- the folder -----------------------------------------------------------------------------------


class Counting:
    """Counts the attacks that are run, and stops before one of them."""

    def __init__(self, monkeypatch, stop=None):
        self.names, self.stop, self.run = [], stop, running.run
        monkeypatch.setattr(running, "run", self)

    def __call__(self, attack, *arguments, **options):
        if attack.name == self.stop:
            raise KeyboardInterrupt
        self.names.append(attack.name)
        return self.run(attack, *arguments, **options)


def without_seconds(report):
    rows = {name: {**row, "seconds": 0} for name, row in report["attacks"].items()}
    return {**report, "attacks": rows}


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    kernel, bias, images, labels = linear_problem(3, count=40)
    model = linear(kernel, bias)
    whole = attacked(model, images, labels, path=tmp_path / "whole")
    counting = Counting(monkeypatch, stop="pgd20_margin")
    with pytest.raises(KeyboardInterrupt):
        attacked(model, images, labels, path=tmp_path / "parts")
    assert counting.names == ["gaussian", "uniform", "fgsm", "pgd20_cross_entropy"]
    assert not (tmp_path / "parts" / "report.json").exists()
    counting.stop, counting.names = None, []
    parts = attacked(model, images, labels, path=tmp_path / "parts")
    curve = ["2_500e-02", "5_000e-02", "2_000e-01", "4_000e-01", "5_000e-01"]
    curve = [f"curve_{point}" for point in curve]
    assert counting.names == ["pgd20_margin", "pgd40_margin", *curve]
    assert without_seconds(parts) == without_seconds(whole)
    assert files.read_json(tmp_path / "parts" / "report.json") == parts
    counting.names = []
    assert attacked(model, images, labels, path=tmp_path / "parts") == parts
    assert counting.names == []
    attacked(model, images, labels, path=tmp_path / "parts", suite="standard")
    assert counting.names == ["pgd100_margin_restarts"]
    counting.names, counting.stop = [], "uniform"
    with pytest.raises(KeyboardInterrupt):
        attacked(model, images, labels, path=tmp_path / "parts", overwrite=True)
    assert counting.names == ["gaussian"]  # from the beginning
    assert not (tmp_path / "parts" / "report.json").exists()


def test_pictures_are_drawn(tmp_path):
    kernel, bias, images, labels = linear_problem(3, count=40)
    names = [f"class {i}" for i in range(3)]
    attacked(linear(kernel, bias), images, labels, path=tmp_path, class_names=names)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("report.json", "adversarial.png", "curve.png", "attacks"),
    }
    for name in ("adversarial.png", "curve.png"):
        picture = tf.io.decode_png((tmp_path / name).read_bytes(), channels=3).numpy()
        assert picture.shape[0] > 300
        assert picture.shape[1] > 500
        assert picture.std() > 20
    with np.load(tmp_path / "attacks" / "pgd20_margin.npz", allow_pickle=False) as stored:
        assert stored["right"].shape == (40,)
        kept = stored["pictures"]
    assert kept.shape == (8, 4, 4, 1)
    distances = np.abs(kept[:, None] - images[None]).max(axis=(2, 3, 4)).min(axis=1)
    np.testing.assert_allclose(distances, EPSILON, atol=1e-6)


def test_the_folder_of_something_else_is_refused(tmp_path, monkeypatch):
    kernel, bias, images, labels = linear_problem(3, count=40)
    model = linear(kernel, bias)
    path = tmp_path / "report"
    attacked(model, images, labels, path=path)
    before = (path / "report.json").read_bytes()
    other = linear(kernel, bias + 1e-3)
    for settings, message in (
        ({"epsilon": 0.05}, "epsilon: 0.1 there, 0.05 here"),
        ({"norm": "l2"}, 'norm: "linf" there, "l2" here'),
        ({"seed": 3}, "seed: 0 there, 3 here"),
    ):
        with pytest.raises(ValueError, match=message):
            attacked(model, images, labels, path=path, **settings)
    with pytest.raises(ValueError, match=r"other model.*overwrite=True"):
        attacked(other, images, labels, path=path)
    with pytest.raises(ValueError, match=r"\(other images\)"):
        attacked(model, images[::-1], labels, path=path)
    with pytest.raises(ValueError, match=r"\(other labels\)"):
        attacked(model, images, labels[::-1], path=path)
    monkeypatch.setattr(suites, "RESTARTS", 1)
    attacked(model, images, labels, path=path, suite="standard")
    monkeypatch.setattr(suites, "RESTARTS", 2)
    with pytest.raises(ValueError, match="restarts: 1 there, 2 here"):
        attacked(model, images, labels, path=path, suite="standard")
    damaged = path / "attacks" / "fgsm.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"fgsm.npz' is damaged .* Delete it"):
        attacked(model, images, labels, path=path)
    assert json.loads(before)["clean"] == json.loads((path / "report.json").read_text())["clean"]
    (path / "thesis.txt").write_text("years of work")
    found = attacked(other, images, labels, path=path, overwrite=True)
    assert files.read_json(path / "report.json") == found
    assert (path / "thesis.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds report.json of which it is not known"):
        attacked(model, images, labels, path=tmp_path / "mine")
    # A folder that has lost what says whose it is.
    for name in ("report.json", "curve.png", "adversarial.png", "attacks/identity.json"):
        (path / name).unlink()
    with pytest.raises(ValueError, match=r"holds attacks/\w+.npz.* of which it is not known"):
        attacked(other, images, labels, path=path)


def test_a_folder_needs_a_model_that_can_be_recognised(tmp_path):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = conv_net()

        def call(self, x, training=False):
            return self.inner(x, training=training)

    images, labels = pictures()
    model = Subclassed()
    assert robustness.quick(model, images, labels, epsilon=EPSILON)["count"] == 12
    with pytest.raises(ValueError, match="Received: Subclassed. Leave `path` out"):
        attacked(model, images, labels, path=tmp_path / "r")


# -- files ----------------------------------------------------------------------------------------


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A linear model in three formats, with images and labels."""
    folder = tmp_path_factory.mktemp("files")
    kernel, bias, images, labels = linear_problem(3, count=60)
    model = linear(kernel, bias)
    model.save(folder / "m.keras")
    kdkeras.export.saved_model(model, folder / "saved")
    kdkeras.export.tflite(model, folder / "m.tflite")
    conv_net(size=12).save(folder / "other.keras")
    return folder, model, images, labels


def test_a_saved_model_is_attacked_as_its_keras_model_is(exported, tmp_path):
    folder, model, images, labels = exported
    batch = tf.TensorSpec([60, 4, 4, 1]), tf.TensorSpec([60], tf.int32)
    ball = {"epsilon": SMALL, "norm": "linf", "seed": 0, "shape": (4, 4, 1)}
    wanted, _ = suites.attacks("quick", **ball, classes=3)
    saved = targets.opened(str(folder / "saved"))
    for attack in wanted:
        ours, theirs = (
            attack.make(target.network, batch)(images, np.int32(labels))
            for target in (targets.opened(model), saved)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=attack.name)
        assert np.abs(ours - images).max() > 0.99 * SMALL
    kept = attacked(folder / "m.keras", images, labels, epsilon=SMALL)
    report = attacked(folder / "saved", images, labels, epsilon=SMALL, path=tmp_path / "r")
    for name, row in kept["attacks"].items():
        assert report["attacks"][name]["right"] == row["right"]
    assert report["gates"] == kept["gates"]
    assert report["reliable"] is True
    assert report["model"] == str(folder / "saved")
    with pytest.raises(ValueError, match="other model"):
        attacked(folder / "m.keras", images, labels, path=tmp_path / "r")


def test_transfer_to_a_tflite_file(exported, tmp_path):
    folder, model, images, labels = exported
    path, keras_file = folder / "m.tflite", folder / "m.keras"
    given = {"images": images, "labels": labels, "epsilon": SMALL}
    kept = attacked(model, **given)
    report = attacked(path, **given, surrogate=keras_file, path=tmp_path / "t")
    assert report["worst_case"] == kept["worst_case"]
    assert report["reliable"] is None
    assert report["threat_model"]["access"] == f"transfer from {keras_file}"
    assert "an upper bound of robustness, not a white-box figure" in report["verdict"]
    assert [gate["passed"] for gate in report["gates"]] == [None] * 6
    assert all("not applicable" in gate["reason"] for gate in report["gates"])
    # Made on another model, the attacks find less.
    stranger = linear(*linear_problem(3, seed=9)[:2])
    weaker = attacked(path, **given, surrogate=stranger)
    assert weaker["worst_case"]["accuracy"] > kept["worst_case"]["accuracy"] + 0.05
    assert weaker["clean"] == kept["clean"]
    with pytest.raises(ValueError, match="other model"):
        attacked(path, **given, surrogate=stranger, path=tmp_path / "t")


@pytest.mark.parametrize(
    ("surrogate", "message"),
    [
        (None, "has no gradients: .* Give `surrogate`, best the .keras file"),
        ("m.tflite", "`surrogate` must have gradients"),
        ("other.keras", r"`surrogate` must take images of shape \(4, 4, 1\)"),
    ],
)
def test_a_tflite_file_needs_a_surrogate(exported, surrogate, message):
    folder, _, images, labels = exported
    surrogate = surrogate and folder / surrogate
    with pytest.raises(ValueError, match=message):
        attacked(folder / "m.tflite", images, labels, surrogate=surrogate)


def test_a_model_with_gradients_needs_none(exported):
    _, model, images, labels = exported
    with pytest.raises(ValueError, match="`surrogate` is for .tflite files"):
        attacked(model, images, labels, surrogate=model)
