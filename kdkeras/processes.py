"""Child processes of this package: how they are run, and what they say."""

import os
import pathlib
import subprocess


def run(command):
    """Runs a command that imports kdkeras, and waits for it.

    Args:
        command: List of words.

    Returns:
        `subprocess.CompletedProcess` with what it wrote, as text.
    """
    package = pathlib.Path(__file__).parents[1]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def last_lines(text, count=5):
    """The last lines that say something."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
