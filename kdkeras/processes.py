"""Child processes of this package: how they are run, and what they say."""

import os
import pathlib
import subprocess
import sys


def run(module, *words):
    """Runs a module as a program of its own, and waits for it.

    Args:
        module: Name of the module: of kdkeras, or installed.
        *words: Its arguments.

    Returns:
        `subprocess.CompletedProcess` with what it wrote, as text.
    """
    package = pathlib.Path(__file__).parents[1]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    # -P: what happens to stand in the current folder is not imported.
    command = [sys.executable, "-P", "-m", module, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def last_lines(text, count=5):
    """The last lines that say something."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
