"""Runs the core tests on the oldest TensorFlow and Keras that setup.cfg allows.

    python tests/oldest.py                  # in a temporary environment
    python tests/oldest.py .venv-oldest     # in one that stays

The environment is made with the Python that runs this; it needs the network and about 3 GB.
"""

import argparse
import configparser
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import venv

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
FRAMEWORKS = ("tensorflow", "keras")


def pins(text):
    """What pip installs for the lower bounds: tensorflow>=2.20 becomes tensorflow==2.20.

    Args:
        text: String, setup.cfg's.

    Returns:
        List of strings.
    """
    config = configparser.ConfigParser()
    config.read_string(text)
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)", config["options"]["install_requires"], re.M))
    return [f"{name}=={bounds[name]}" for name in FRAMEWORKS]


def run(folder):
    """Makes the environment, runs the tests in it, and returns pytest's exit status."""
    venv.create(folder, with_pip=True)
    python = pathlib.Path(folder).absolute() / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = pins((REPOSITORY / "setup.cfg").read_text(encoding="utf-8"))
    print(f"Installing {' and '.join(wanted)} in {folder}", flush=True)
    tests = ["pytest", "pytest-xdist", "pillow"]
    install = [python, "-m", "pip", "install", "--quiet", *wanted, *tests, "--editable", REPOSITORY]
    subprocess.run(install, check=True)
    # By name: what the other files import is not installed.
    marked = re.compile(r"^pytestmark = pytest\.mark\.core$", re.MULTILINE)
    files = sorted(
        path
        for path in (REPOSITORY / "tests").glob("test_*.py")
        if marked.search(path.read_text(encoding="utf-8"))
    )
    command = [python, "-m", "pytest", "-m", "core", *files]
    return subprocess.run(command, cwd=REPOSITORY).returncode


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", help="of the environment (default: a temporary one)")
    folder = parser.parse_args().folder
    if folder:
        return run(folder)
    with tempfile.TemporaryDirectory(prefix="kdkeras-oldest-") as temporary:
        return run(temporary)


if __name__ == "__main__":
    sys.exit(main())
