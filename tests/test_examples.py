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
    found = example("distill_digits").main()
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
