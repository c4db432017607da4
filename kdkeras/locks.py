"""What processes that share a folder keep each other from, by locks that end with their process.

Where Python has no `fcntl` (Windows), or the file system has no locks, nothing keeps them apart.
"""

import contextlib
import errno
import os
import re
import socket
import time

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
# In a folder, stands for the process that is at work in it.
NAME = ".kdkeras.lock"


def beside(path):
    """The file that stands for the process that writes another file."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def held(path, *, waiting=None):
    """A block that one process at a time is in; a process that dies leaves it.

    Args:
        path: A file that stands for the block; it is made, and stays.
        waiting: What to print where another process is in it.
    """
    with _opened(path) as file:
        if not _locked(file):
            if waiting:
                print(waiting, flush=True)
            _locked(file, wait=True)
        yield


@contextlib.contextmanager
def shared(path):
    """A block that any number of processes are in, while none is in `idle`'s."""
    with _opened(path) as file:
        _locked(file, alone=False, wait=True)
        yield


@contextlib.contextmanager
def joined(path, first):
    """`shared`, for which the first process calls a function while no other is in such a block."""
    with _opened(path) as file:
        if _locked(file):
            first()
        _locked(file, alone=False, wait=True)
        yield


@contextlib.contextmanager
def idle(path, folder):
    """A block in which no process is in `shared`'s.

    Raises:
        ValueError: One is.
    """
    with _opened(path) as file:
        if not _locked(file):
            raise ValueError(
                f"`overwrite` cannot replace what another process is writing: in '{folder}' a "
                "search is running. Stop it first."
            )
        yield


@contextlib.contextmanager
def alone(path, *, of=None):
    """A block in which this process alone writes something; others are refused.

    Args:
        path: A file that stands for the block, and says who is in it. It is made, and removed at
            the end; where a process was killed it stays, and keeps nobody out.
        of: The file or folder that is written; that of `path` as a work directory unless given.

    Raises:
        ValueError: Another process is in the block.
    """
    if not _available():
        yield
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        while True:
            if not _locked(file):
                raise _in_use(path, of)
            if _is(file, path):
                break
            # Between being opened and locked it was removed by the one who left.
            file.close()
            file = stack.enter_context(_opened(path))
        try:
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()} {time.strftime('%F %T')}".encode())
            file.flush()
            yield
        finally:
            # Nobody else removes it, for it is locked still.
            if _is(file, path):
                path.unlink()


def check_free(path):
    """Raises a `ValueError` if another process is in `alone`'s block; writes nothing."""
    if path.exists() and _available():
        with open(path, "rb") as file:
            if not _locked(file, alone=False):
                raise _in_use(path)


def _in_use(path, of=None):
    try:
        said = re.fullmatch(r"(\d+) (\S+) ([\d: -]+)", path.read_text(errors="replace"))
    except FileNotFoundError:  # it has just ended
        said = None
    who = "another process is at work"
    if said:
        who = f"process {said[1]} on {said[2]} has been at work since {said[3]}"
    if of is not None:
        return ValueError(f"'{of}' is being written: {who}. Wait for it, or write elsewhere.")
    return ValueError(
        f"`workdir` must not be in use. Received: '{path.parent}', in which {who}. Wait for it, "
        "or give another `workdir`."
    )


def _opened(path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab")
    except OSError as error:
        advice = "Check that you may write in its folder, and that the disk has room."
        raise OSError(error.errno, f"Could not write {path}: {error.strerror}. {advice}") from error


def _is(file, path):
    """Whether an open file is the one that stands at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _available():
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return False
    return True


def _locked(file, *, alone=True, wait=False):
    """Locks an open file; False where another process keeps that from being done at once."""
    if not _available():
        return True
    import fcntl

    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    return True
