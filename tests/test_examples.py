"""Each example runs, and what it claims holds, with small settings."""

import importlib.util
import pathlib

FOLDER = pathlib.Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_here():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in FOLDER.glob("*.py")} <= tested


def test_distill_digits():
    found = example("distill_digits").main(epochs=10, teacher_epochs=4)
    assert found["teacher"]["accuracy"] > 0.95
    assert found["student"]["accuracy"] > found["control"]["accuracy"] + 0.01
    assert found["student"]["kl"] < found["control"]["kl"]


def test_own_models():
    found = example("own_models").main()
    assert found["accuracy"] > 0.8
    assert found["agreement"] > 0.9


def test_mlp_features():
    found = example("mlp_features").main()
    assert found["teacher"]["accuracy"] > 0.95
    assert found["student"]["accuracy"] > 0.93


def test_multi_teacher():
    found = {
        name: metrics["accuracy"]
        for name, metrics in example("multi_teacher").main(epochs=30).items()
    }
    of_one = (found["cnn"] + found["mlp"]) / 2
    assert found["mean"] > of_one + 0.005
    assert found["weighted"] > of_one + 0.005
    assert found["student"] > found["control"] + 0.01


def test_features():
    found = example("features").main()
    assert found["attention"]["student"] < 0.3 * found["attention"]["control"]
    assert found["student"]["kl"] < 0.8 * found["control"]["kl"]
    assert found["student"]["accuracy"] > 0.92
    assert found["parameters"]["after"] == found["parameters"]["before"]
    assert found["adapter"]["parameters"] == 16 * 64 + 64
    assert found["adapter"]["moved by"] > 0.01
    assert found["hint"]["last"] < 0.3 * found["hint"]["first"]


def test_private_teacher():
    found = example("private_teacher").main(epochs=15)
    for name, value in found["asked"].items():
        assert abs(found["recorded"][name] - value) < 0.01
    assert found["asked"]["accuracy"] > found["control"]["accuracy"] + 0.02
    assert found["asked"]["agreement"] > 0.95
    assert found["both"]["kl"] < 0.5 * found["control"]["kl"]


def test_multi_task():
    for accuracy in example("multi_task").main().values():
        assert accuracy["student"] > accuracy["control"] + 0.03
        assert accuracy["student"] > accuracy["teacher"] - 0.03


def test_transfer():
    found = {
        name: metrics["accuracy"] for name, metrics in example("transfer").main(epochs=12).items()
    }
    assert found["teacher"] > found["scratch"] + 0.04
    assert found["student"] > found["scratch"] + 0.03


def test_robust_student():
    found = example("robust_student").main(epochs=8)
    assert found["plain student"]["clean"] > 0.93
    assert found["plain student"]["robust"] < 0.1
    assert found["robust student"]["clean"] > 0.9
    assert found["robust student"]["robust"] > found["plain student"]["robust"] + 0.4


def test_train_together():
    found = example("train_together").main(epochs=10)
    assert found["student"]["itself attacked"] > 0.4
    assert found["peer"]["student attacked"] > found["peer"]["itself attacked"] + 0.5


def test_certified_student():
    found = example("certified_student").main(epochs=20, n=500)
    clean, noisy = (found[name]["certified"] for name in ("clean", "noisy"))
    assert found["noisy"]["accuracy"] > 0.95
    assert noisy[0] > clean[0] - 0.05
    for i, more in ((1, 0.03), (2, 0.15), (3, 0.2)):  # radii 0.5, 1.0, 1.5
        assert noisy[i] > clean[i] + more


def test_attack_gallery(tmp_path):
    found = example("attack_gallery").main(tmp_path / "gallery.png")
    assert min(one["clean"] for one in found.values()) > 0.93
    assert found["robust"]["robust"] > found["plain"]["robust"] + 0.5
    assert (tmp_path / "gallery.png").read_bytes()[:4] == b"\x89PNG"
