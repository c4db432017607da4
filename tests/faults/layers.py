"""The calls by which files are written, of which one may fail."""

import builtins
import contextlib
import errno
import io
import os
import pathlib
import shutil
import unittest.mock

KINDS = {
    "open": (errno.EROFS, errno.EACCES, errno.ENOSPC),
    "write": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.EIO, errno.ENOSPC),
    "replace": (errno.EIO, errno.EACCES),
    "mkdir": (errno.EROFS, errno.ENOSPC),
    "vanish": (errno.ENOENT,),
}


class Layer:
    """The calls by which files of a folder are written; one of them may fail.

    Args:
        root: The folder; calls elsewhere are as they are.
        kind: None, or which of `KINDS` fails. "vanish": the folders in `root` are removed instead,
            before something is opened for writing.
        at: Which call of this kind fails, from 0 on.
        number: The errno that it fails with.

    Attributes:
        calls: Dict from kinds to how many calls there were.
    """

    def __init__(self, root, kind=None, at=0, number=0):
        self.root, self.kind, self.at, self.number = str(root), kind, at, number
        self.calls = dict.fromkeys(KINDS, 0)

    @contextlib.contextmanager
    def __call__(self):
        opened, fsync, replace, mkdir = builtins.open, os.fsync, os.replace, os.mkdir

        def fail_open(path, mode="r", *rest, **options):
            writes = isinstance(path, (str, os.PathLike)) and set(mode) & set("wax+")
            if not writes or not self._is_inside(path):
                return opened(path, mode, *rest, **options)
            self._called("open", path)
            if self._is_due("vanish"):
                for folder in pathlib.Path(self.root).iterdir():
                    if folder.is_dir():
                        shutil.rmtree(folder)
            return _Writer(
                opened(path, mode, *rest, **options), lambda: self._called("write", path)
            )

        def fail_fsync(number):
            self._called("fsync", os.readlink(f"/proc/self/fd/{number}"))
            return fsync(number)

        def fail_replace(source, target):
            self._called("replace", target)
            return replace(source, target)

        def fail_mkdir(path, *rest, **options):
            self._called("mkdir", path)
            return mkdir(path, *rest, **options)

        with contextlib.ExitStack() as stack:
            for module, name, function in (
                *((builtins, "open", fail_open), (io, "open", fail_open)),
                *((os, "fsync", fail_fsync), (os, "replace", fail_replace)),
                (os, "mkdir", fail_mkdir),
            ):
                stack.enter_context(unittest.mock.patch.object(module, name, function))
            yield self

    def _is_inside(self, path):
        return str(path).startswith(self.root + os.sep)

    def _is_due(self, kind):
        self.calls[kind] += 1
        return kind == self.kind and self.calls[kind] == self.at + 1

    def _called(self, kind, path):
        if self._is_inside(path) and self._is_due(kind):
            raise OSError(self.number, os.strerror(self.number), str(path))


class _Writer:
    """An open file of which a write may fail when half of it is written."""

    def __init__(self, file, called):
        self._file, self._called = file, called

    def write(self, written):
        try:
            self._called()
        except OSError:
            self._file.write(written[: len(written) // 2])
            raise
        return self._file.write(written)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._file.close()

    def __iter__(self):
        return iter(self._file)
