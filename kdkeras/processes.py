"""Child processes of this package: how they are run, and what they say."""

import os
import pathlib
import runpy
import subprocess
import sys
import threading
import time


def run(module, *words):
    """Runs a module as a program of its own, and waits for it; it ends with this process.

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
    command = [sys.executable, "-P", "-m", "kdkeras.processes", str(os.getpid()), module]
    command += map(str, words)
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def last_lines(text, count=5):
    """The last lines that say something."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def _main(module, *words, parent=None):
    """Runs a module as `python -m` does, and no longer than the process that asked for it."""
    parent = os.getppid() if parent is None else parent
    threading.Thread(target=_end_with, args=[parent], daemon=True).start()
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(parent):
    """Ends this process when its parent is gone, killed perhaps."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    # Told, not looked up: a parent that is killed at once is gone before this process looks.
    _main(*sys.argv[2:], parent=int(sys.argv[1]))
