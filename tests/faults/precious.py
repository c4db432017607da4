"""A folder with what a user would not lose, and commands that are run beside it."""

import contextlib
import faulthandler
import io
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import sys
import tempfile
from unittest import mock

TINY = (
    *("--dataset=digits", "--max_train=60", "--epochs=1", "--batch_size=20", "--quiet"),
    *("--teacher=mlp", "--teacher_width=4"),
)
STUDENT = ("--student=mlp", "--student_width=4")
# Seconds after which a command counts as hanging.
PATIENCE = 60
# Bytes of address space, on top of those in use: what needs more is refused as on a small machine.
MEMORY = 8 * 2**30
# What a message for users has no place for.
RAW = re.compile(
    r"Traceback|Error:|Exception|\[Op:|\{\{|node|<class|object at 0x|NoneType|codec|embedded null"
    r"|unhashable|subscriptable|iterable|not supported between|invalid literal|ufunc|broadcast"
    r"|positional argument|keyword argument|has no attribute|sqlalche|sqlite3|optuna\.|h5py"
    r"|list index|dtype=|\[Errno|tf\.Tensor|site-packages|errno =|maximum recursion"
)
STATUSES = (0, 1, 2, 130)


class Hung(BaseException):
    """A command took longer than `PATIENCE`."""


class Folder:
    """What stands in the current folder, and what has become of it.

    Attributes:
        kept: Dict from path to (whether it is a link, bytes); None of folders.
    """

    def __init__(self):
        self.kept = _contents()

    def harmed(self, replaceable=()):
        """Names of files that are not as they were; then all is put back, and what is new goes.

        Args:
            replaceable: Files, and folders of runs, that the command was told to replace.
        """
        now = _contents()
        changed = [
            path for path in self.kept if not _same(path, self.kept[path], now.get(path, (0, b"")))
        ]
        for path in sorted(set(now) - set(self.kept), reverse=True):
            pathlib.Path(path).rmdir() if now[path] is None else pathlib.Path(path).unlink()
        for path in changed:
            self._put_back(pathlib.Path(path), self.kept[path])
        named = [os.path.normpath(path) for path in replaceable if path]
        allowed = [path for path in named if self.kept.get(path) or path in ("run", "half")]
        return [
            path
            for path in changed
            if not any(path == one or path.startswith(f"{one}/") for one in allowed)
        ]

    def _put_back(self, path, kept):
        if path.is_dir() and kept is not None:
            shutil.rmtree(path)
        elif path.is_symlink() or path.is_file():
            path.unlink()
        if kept is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        link, contents = kept
        path.symlink_to("note.txt") if link else path.write_bytes(contents)


def _same(path, before, now):
    """Whether a file is as it was; of a run's results, but for the digests that exports renew."""
    if before == now or pathlib.Path(path).name != "results.json" or None in (before, now):
        return before == now
    try:
        pair = [json.loads(contents) for _, contents in (before, now)]
    except (ValueError, RecursionError):
        return False
    if not all(isinstance(one, dict) for one in pair):
        return False
    return len({json.dumps({**one, "files": 0, "digest": 0}) for one in pair}) == 1


def _contents():
    found = {}
    for path in sorted(pathlib.Path().rglob("*")):
        folder = path.is_dir() and not path.is_symlink()
        found[str(path)] = None if folder else (path.is_symlink(), path.read_bytes())
    return found


@contextlib.contextmanager
def filled():
    """A block in a folder of its own with models, runs, pictures and other files.

    Yields:
        `Folder`.
    """
    before, fewest = pathlib.Path.cwd(), resource.getrlimit(resource.RLIMIT_AS)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            _fill()
            in_use = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
            most = in_use * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (most, fewest[1]))
            yield Folder()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, fewest)
            os.chdir(before)


def _fill():
    import keras
    import numpy as np
    from PIL import Image

    _made(["distill", *TINY, *STUDENT, "--noexport", "--workdir=run"])
    _made(["cache", *TINY[:2], "--teacher=run/teacher.keras", "--views=2", "--quiet"])
    shutil.copytree("run", "half")
    pathlib.Path("half/results.json").unlink()
    keras.models.load_model("run/student.keras").export("saved_model", verbose=False)
    random = np.random.default_rng(5)
    for end in ("bin", "keras", "tflite", "cache", "json"):
        pathlib.Path(f"noise.{end}").write_bytes(random.bytes(2000))
    whole = pathlib.Path("run/student.keras").read_bytes()
    pathlib.Path("cut.keras").write_bytes(whole[: len(whole) // 2])
    pathlib.Path("note.txt").write_text("Precious.\n")
    pathlib.Path("link").symlink_to("note.txt")
    pathlib.Path("empty").mkdir()
    for name in ("photo.png", *(f"pictures/{kind}/{i}.png" for kind in "ab" for i in range(12))):
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8, 3), "uint8")).save(name)


def _made(words):
    from kdkeras import cli

    with contextlib.redirect_stdout(io.StringIO()):
        status = cli.main(words)
    if status:
        raise RuntimeError(f"kdkeras {' '.join(words)} ended with status {status}")


@contextlib.contextmanager
def stopped_at_work():
    """A block in which Ctrl-C comes as soon as something long begins.

    That is: `keras.Model.fit`, an attack, the counting of a certificate, and another process (which
    converts, or times). All that is before, checks above all, is the real code.
    """
    import keras

    from kdkeras import certification, processes, robustness

    def stop(*args, **kwargs):
        del args, kwargs
        raise KeyboardInterrupt

    real = certification.drawing.counter

    def counter(*args, **kwargs):
        real(*args, **kwargs)
        return stop

    with (
        mock.patch.object(keras.Model, "fit", stop),
        mock.patch.object(robustness.running, "run", stop),
        mock.patch.object(certification.drawing, "counter", counter),
        mock.patch.object(processes, "run", stop),
    ):
        yield


@contextlib.contextmanager
def impatient():
    """A block that `Hung` ends after `PATIENCE` seconds."""

    def hang(number, frame):
        del number, frame
        raise Hung

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    # Native code does not hear signals: then the process ends, and says where it was.
    faulthandler.dump_traceback_later(4 * PATIENCE, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def complaint(words, known, names=()):
    """None if a command line was survived, else what was wrong; and what it said.

    Args:
        words: Of the command line.
        known: Names of the command's flags.
        names: What else a message may name.

    Returns:
        Pair of strings, the first None where it was survived.
    """
    from kdkeras import cli

    # As of a terminal: what is printed to stdout must be encodable, of stderr anything can be.
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), impatient():
            status = cli.main(list(words))
    except Hung:
        return f"hung for {PATIENCE} s", ""
    except BaseException as error:  # SystemExit too
        text = str(error).replace("\n", " ")[:200]
        return f"{type(error).__name__} came out of main: {text}", ""
    out.flush()
    err.flush()
    said = err.buffer.getvalue().decode()
    printed = out.buffer.getvalue().decode()
    return _judged(words, known, status, printed, said, names), said


def _judged(words, known, status, printed, said, names):
    """None if what a command came to is fit for a user, else what is not."""
    if status not in STATUSES:
        return f"status {status}: {said[-200:]}"
    raw = RAW.search(said)
    if raw:
        return f"status {status}, and a library's words ({raw[0]!r}): {_last(said)}"
    if status == 130 or status == 0:
        return None if status == 0 or "kdkeras: stopped. " in said else f"status 130: {_last(said)}"
    if "failed" in printed and not said:
        return None  # an export, told in its table
    begins = "kdkeras: " if status == 2 else f"kdkeras {words[0]}: "
    if begins not in said:
        return f"status {status} without a message that begins '{begins}': {_last(said)}"
    message = said[said.rindex(begins) :]
    known = {*known, "flagfile"}
    values = [*names, *(word.partition("=")[2] or word for word in words[1:])]
    values += [part for value in values for part in value.split(",") if part]
    named = any(f"--{name}" in message or f"`{name}`" in message for name in known)
    named |= re.search("Received: |Unknown command line flag|Name the ", message) is not None
    named |= any(
        value[:20] in message if value.strip()[1:] else f"'{value}" in message for value in values
    )
    if not named:
        return f"status {status}, and names nothing: {_last(said)}"
    return None


def _last(said):
    return ascii(said[-300:])
