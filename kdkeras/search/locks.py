"""One process at a time, of all that share a work directory."""

import contextlib
import os


@contextlib.contextmanager
def held(path, *, waiting=None):
    """A block that one process at a time is in; a process that dies leaves it.

    Args:
        path: A file that stands for the block; it is made, and stays.
        waiting: What to print where another process is in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if os.name == "posix":  # elsewhere, nothing keeps processes apart
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    print(waiting, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def shared(path):
    """A block that any number of processes are in, while none is in `idle`'s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def idle(path, folder):
    """A block in which no process is in `shared`'s.

    Raises:
        ValueError: One is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"`overwrite` cannot replace what another process is writing: in '{folder}' a "
                    "search is running. Stop it first."
                ) from error
        yield
