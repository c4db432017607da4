"""Child processes that need not load TensorFlow: forked from one process that has, and not used it.

`processes.run` starts a Python each time, which loads TensorFlow for four seconds. What a child
does here is the same, in a process of its own; only its start is quicker.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

from kdkeras import processes


class Parent:
    """The process that children are forked from; `with` ends it."""

    def __init__(self):
        root = pathlib.Path(__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()  # closes its input, which ends it

    def run(self, module, *words):
        """As `processes.run`."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(pathlib.Path(folder) / name) for name in ("stdout", "stderr")]
            job = {"module": module, "words": [*map(str, words)], "paths": paths}
            place = {"folder": os.getcwd(), "environment": dict(os.environ)}
            self.process.stdin.write(json.dumps(job | place) + "\n")
            self.process.stdin.flush()
            status = int(self.process.stdout.readline())
            said = [pathlib.Path(path).read_text() for path in paths]
        return subprocess.CompletedProcess([module, *words], status, *said)


def _serve():
    """Forks a child for each line of the input, and answers with its exit status."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(module, words, paths, folder, environment):
    """Runs a module as a program, and ends with its exit status."""
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    status = 1
    try:
        os.chdir(folder)
        os.environ |= environment | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        processes._main(module, *words)
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    _serve()
