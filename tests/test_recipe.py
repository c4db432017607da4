"""`Recipe`: defaults, checks, and its file."""

import dataclasses
import pathlib

import pytest

import kdkeras
from kdkeras import files
from kdkeras import recipe as recipes

pytestmark = pytest.mark.core


def test_round_trip_through_its_file(tmp_path):
    made = kdkeras.Recipe(dataset="cifar10", temperature=2, alpha=0.5, teacher_epochs=3)
    files.write_json(tmp_path / "recipe.json", {"format": 1, **made.to_dict()})
    assert recipes.read(tmp_path / "recipe.json") == made


def test_settings_of_another_version(tmp_path):
    files.write_json(tmp_path / "recipe.json", {"from_the_future": 1})
    with pytest.raises(ValueError, match="does not know.*from_the_future"):
        recipes.read(tmp_path / "recipe.json")
    with pytest.raises(ValueError, match="which is not there"):
        recipes.read(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({}, "runs/digits"),
        ({"dataset": "cifar10"}, "runs/cifar10"),
        ({"dataset": "folder:/data/my flowers/"}, "runs/my flowers"),
        ({"workdir": "elsewhere/a"}, "elsewhere/a"),
    ],
)
def test_work_directory(settings, folder):
    assert kdkeras.Recipe(**settings).directory == pathlib.Path(folder)


def test_every_setting_explains_itself():
    for field in dataclasses.fields(kdkeras.Recipe):
        assert len(field.metadata["help"]) > 10, field.name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be positive and finite. Received: temp.*0.0"),
        ({"temperature": float("nan")}, "`temperature` must be positive"),
        ({"temperature": "4"}, "`temperature` must be of type float .*Received: '4'"),
        ({"alpha": 1.01}, r"`alpha` must be a number in \[0, 1\]"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"seeds": 0}, "`seeds` must be at least 1"),
        ({"quiet": True, "verbose": True}, "Give `quiet` or `verbose`, not both"),
        ({"term_weights": "1,x"}, "`term_weights` must be a comma list.*Received: .*'1,x'"),
        ({"term_weights": "1,-1"}, "`term_weights` must be a comma list"),
        ({"term_weights": "nan"}, "`term_weights` must be a comma list"),
        ({"epochs": 2.5}, "`epochs` must be of type int"),
        ({"epochs": True}, "`epochs` must be of type int"),
        ({"batch_size": -1}, "`batch_size` must be at least 1"),
        ({"seed": -1}, "`seed` must be in 0"),
        ({"optimizer": "adamm"}, "`optimizer` must be one of .*Did you mean 'adam' or 'adamw'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"perturbation": "gausian"}, "Did you mean 'gaussian'"),
        ({"precision_policy": "float16"}, "`precision_policy` must be one of.*mixed_float16"),
        ({"noise_stddev": -0.1}, "`noise_stddev` must be positive"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"weight_decay": -1.0}, "`weight_decay` must be a finite number, at least 0"),
        ({"student_width": 0.0}, "`student_width` must be positive"),
        ({"dataset": None}, "`dataset` must be of type str"),
        ({"overwrite": True, "resume": True}, "`overwrite` or `resume`, not both"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        kdkeras.Recipe(**settings)
