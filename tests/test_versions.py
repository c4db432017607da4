"""Too old a TensorFlow or Keras is refused before it is loaded; README and setup.cfg agree."""

import configparser
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

import oldest
import pytest

from kdkeras import versions

pytestmark = pytest.mark.core

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
REQUIRES = [
    "absl-py>=2.1",
    "keras>=3.12",
    "tensorflow>=2.20",
    'tensorflow[and-cuda]>=99; extra == "cuda"',
]


@pytest.fixture
def installed(monkeypatch):
    """A function that says what importlib.metadata finds."""

    def install(requires=REQUIRES, **found):
        def version(name):
            if name not in found:
                raise importlib.metadata.PackageNotFoundError(name)
            return found[name]

        def required(name):
            assert name == "kdkeras"
            if requires == "no metadata":
                raise importlib.metadata.PackageNotFoundError(name)
            return requires

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.metadata, "requires", required)

    return install


@pytest.mark.parametrize(
    "keras",
    ["3.12", "3.12.0", "3.12.4", "3.12.0.post1", "3.13.0rc1", "3.13.0.dev20260101", "4.0", "10.1"],
)
def test_new_enough(installed, keras):
    installed(keras=keras, tensorflow="2.20.0")
    versions.check()


@pytest.mark.parametrize(
    "keras", ["2.15.0", "3.2.1", "3.11.3", "3.12.0rc1", "3.12.0.dev1", "3.9.0+local"]
)
def test_too_old(installed, keras):
    installed(keras=keras, tensorflow="2.20.0")
    with pytest.raises(ImportError) as caught:
        versions.check()
    assert str(caught.value) == (
        f"kdkeras needs keras>=3.12. Received: keras {keras}. "
        'To upgrade: pip install --upgrade "keras>=3.12"'
    )


def test_both_too_old(installed):
    installed(keras="3.10.0", tensorflow="2.19.1")
    with pytest.raises(ImportError) as caught:
        versions.check()
    assert str(caught.value) == (
        "kdkeras needs keras>=3.12 and tensorflow>=2.20. "
        "Received: keras 3.10.0 and tensorflow 2.19.1. "
        'To upgrade: pip install --upgrade "keras>=3.12" "tensorflow>=2.20"'
    )


@pytest.mark.parametrize("tensorflow", ["2.20.0", "2.20.0+nv25.8", "2.21.0rc0", "3.0.0"])
def test_tensorflow_as_vendors_build_it(installed, tensorflow):
    installed(keras="3.12.0", tensorflow=tensorflow)
    versions.check()


@pytest.mark.parametrize("keras", ["of ours", "", None])
def test_a_version_that_says_nothing_is_not_judged(installed, keras):
    installed(keras=keras, tensorflow="2.20.0")
    versions.check()


def test_what_is_not_known_is_not_judged(installed):
    installed(keras="3.12.0")  # TensorFlow by another name
    versions.check()
    for requires in ("no metadata", None, []):
        installed(requires, keras="1.0", tensorflow="1.0")
        versions.check()


def test_bounds_are_those_of_the_metadata(installed):
    installed(["keras>=3.20"], keras="3.19.9", tensorflow="1.0")
    with pytest.raises(ImportError, match=r"needs keras>=3\.20\. Received: keras 3\.19\.9\."):
        versions.check()


@pytest.mark.parametrize(
    "use",
    [
        "import kdkeras; kdkeras.Distiller",
        "import kdkeras; kdkeras.losses",
        "from kdkeras import Distiller",
        "import kdkeras, keras",
        "import keras, kdkeras",
        "import kdkeras.losses",
    ],
)
def test_use_is_refused_at_once(tmp_path, use):
    metadata = {"kdkeras": "0.1.0\nRequires-Dist: keras>=3.12", "keras": "3.11.3"}
    for name, version in metadata.items():
        folder = tmp_path / f"{name}-{version.split()[0]}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
        )
    (tmp_path / "keras.py").write_text("", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    script = f"import sys\ntry:\n    {use}\nfinally:\n    print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == "False\n"
    assert done.stderr.splitlines()[-1] == (
        "ImportError: kdkeras needs keras>=3.12. Received: keras 3.11.3. "
        'To upgrade: pip install --upgrade "keras>=3.12"'
    )


def test_pins_are_the_lower_bounds():
    needed = ["# Why.", "keras>=3.4,<5", "wrapt>=1", "tensorflow>=2.7"]
    text = "\n    ".join(["[options]\ninstall_requires =", *needed])
    assert oldest.pins(text) == ["tensorflow==2.7", "keras==3.4"]


def test_the_readme_says_what_setup_cfg_says():
    text = (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
    config = configparser.ConfigParser()
    config.read_string(text)
    tensorflow, keras = (pin.split("==")[1] for pin in oldest.pins(text))
    pythons = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    first, after = re.fullmatch(
        r">=3\.(\d+),<3\.(\d+)", config["options"]["python_requires"]
    ).groups()
    assert pythons == [f"3.{minor}" for minor in range(int(first), int(after))]
    assert (
        f"Python {pythons[0]} to {pythons[-1]}, TensorFlow {tensorflow} or newer, "
        f"Keras {keras} or newer"
    ) in (REPOSITORY / "README.md").read_text(encoding="utf-8")
