"""One seed fixes everything: weights, orders, augmentation, noise, Dropout."""

import json

import keras
import pytest
import tensorflow as tf

from kdkeras import cli, commands, determinism, environment

FIGURES = ("models", "gain", "distillation", "dataset")
WORDS = (
    *("--dataset=digits", "--max_train=60", "--epochs=2", "--batch_size=20", "--quiet"),
    *("--teacher=mlp", "--student=mlp", "--student_width=8", "--perturbation=gaussian"),
    *("--augment=crop,color", "--noexport"),
)


def weights(path):
    model = keras.models.load_model(path)
    return [weight.tobytes() for weight in model.get_weights()]


def distilled(folder, *words):
    assert cli.main(["distill", *WORDS, f"--workdir={folder}", *words]) == 0
    results = json.loads((folder / "results.json").read_text())
    for model in results["models"].values():
        del model["training"]["seconds"]
    found = {name: weights(folder / f"{name}.keras") for name in ("teacher", "control", "student")}
    return found, {name: results[name] for name in FIGURES}, results["environment"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return distilled(tmp_path_factory.mktemp("first"))


def test_one_seed_gives_the_same_weights_and_figures(tmp_path, first):
    again = distilled(tmp_path)
    assert again[:2] == first[:2]
    assert again[2]["deterministic"] is True


def test_another_seed_gives_others(tmp_path, first):
    found, figures, _ = distilled(tmp_path, "--seed=1")
    for name in found:
        assert found[name] != first[0][name]
    assert figures["models"] != first[1]["models"]


def test_what_is_said_of_it(tmp_path):
    assert environment.described()["deterministic"] is False
    determinism.turn_on()
    assert environment.described()["deterministic"] is True


@pytest.mark.parametrize("words", [[], ["--nodeterministic"]])
def test_commands_turn_it_on_unless_told_not_to(tmp_path, capsys, words):
    # Stops after it: the work directory is a file.
    path = tmp_path / "file"
    path.write_text("precious")
    assert cli.main(["distill", *WORDS, f"--workdir={path}", *words]) == 1
    assert determinism.is_on() == (not words)
    assert cli.main(["evaluate", f"{path}.keras"]) == 1
    assert determinism.is_on()


def test_operations_without_such_a_form_are_named(monkeypatch, capsys):
    def raises(*_):
        raise tf.errors.UnimplementedError(
            None, None, "Determinism is not yet supported in GPU implementation of Foo.\n at"
        )

    monkeypatch.setattr(commands, "train", raises)
    assert cli.main(["distill", *WORDS]) == 1
    assert capsys.readouterr().err == (
        "kdkeras distill: an operation cannot give the same bits each time on this device: give "
        "--nodeterministic. TensorFlow says: Determinism is not yet supported in GPU "
        "implementation of Foo.\n"
    )
