"""Where something was measured: versions, machine, and the source's revision."""

import pathlib
import platform
import subprocess

import keras
import numpy as np
import tensorflow as tf

import kdkeras
from kdkeras import determinism


def described():
    """Versions, machine and source revision, for the record."""
    return {
        "kdkeras": kdkeras.__version__,
        "git_revision": _git_revision(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        # Whether a second run would give the same bits.
        "deterministic": determinism.is_on(),
    }


def _git_revision():
    """The revision of the checkout that kdkeras runs from; None for an installed copy."""
    package = pathlib.Path(__file__).parent
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "-C", str(package), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
