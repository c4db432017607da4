"""A module imports only from modules above it, and as modules, not names out of them."""

import ast
import pathlib
import subprocess
import sys

import pytest

import kdkeras

PACKAGE = pathlib.Path(kdkeras.__file__).parent

# From the ground up.
ORDER = (
    *(
        "versions",
        "arguments",
        "slicing",
        "distribution",
        "noise",
        "archives",
        "seals",
        "files",
        "intact",
        "appended",
        "locks",
        "randomness",
        "augment",
        "data",
        "models",
    ),
    *("schedules", "losses"),
    *("runtimes", "adapters", "taps", "teachers", "terms", "compatibility"),
    *(
        "weighting",
        "assets",
        "steps",
        "problems",
        "inputs",
        "perturbations",
        "corruptions",
        "cache",
        "wiring",
        "teaching",
        "fitting",
        "distiller",
        "callbacks",
        "methods",
        "transfer",
        "determinism",
        "environment",
        "processes",
        "latency",
        "evaluation",
        "inference",
        "quantization",
        "conversion",
        "export",
        "certification",
        "robustness",
    ),
    *(
        "choices",
        "recipe",
        "feeding",
        "logs",
        "training",
        "vigilance",
        "loading",
        "stages",
        "quantizing",
        "workdir",
        "runner",
        "repeats",
        "report",
        "search",
        "tables",
        "commands",
        "cli",
    ),
    "__main__",
)


def modules():
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }


def imported(tree):
    """(module, name) of each import of kdkeras, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kdkeras":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from ((name, None) for name in names if name.split(".")[0] == "kdkeras")


def top(module):
    return module.split(".")[0]


def test_every_module_has_its_place():
    found = {top(name) for name in modules()} - {"__init__"}
    assert found == set(ORDER)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_upwards_and_take_modules(name):
    if name == "__init__":
        return
    found = modules()
    for module, attribute in imported(ast.parse(found[name].read_text())):
        inside = module.removeprefix("kdkeras").lstrip(".")
        target = ".".join(filter(None, [inside, attribute]))
        if module == "kdkeras" and attribute is None:
            continue  # for kdkeras.__version__
        is_module = target in found or f"{target}.__init__" in found
        re_exported = name.endswith("__init__") and top(name) == top(target)
        assert is_module or re_exported, f"{name} takes {attribute} out of {module}"
        if top(target) != top(name):
            assert ORDER.index(top(target)) < ORDER.index(top(name)), f"{name} imports {target}"


def test_no_module_outgrows_its_concept():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def run_python(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_importing_says_nothing_and_loads_little():
    done = run_python("import sys, kdkeras; print('tensorflow' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_importing_changes_no_global_state():
    run_python(
        """
import logging, os, random, sys, warnings
import numpy as np
import keras
import tensorflow as tf

def state():
    return (
        dict(os.environ), list(sys.path), list(warnings.filters), logging.root.handlers[:],
        logging.root.level, random.getstate(), np.random.get_state()[1].tolist(),
        keras.config.floatx(), keras.config.dtype_policy().name, keras.config.backend(),
        keras.config.epsilon(), tf.config.list_logical_devices(), tf.executing_eagerly(),
    )

before = state()
import kdkeras
kdkeras.Distiller, kdkeras.Recipe, kdkeras.run, kdkeras.evaluate, kdkeras.data, kdkeras.export
assert state() == before
"""
    )


def test_public_names():
    for name in kdkeras.__all__:
        assert getattr(kdkeras, name) is not None
    assert set(kdkeras.__all__) <= set(dir(kdkeras))
    with pytest.raises(AttributeError, match="no attribute 'Distiler'"):
        kdkeras.Distiler  # noqa: B018
