"""Keeps the chatter of TensorFlow's and LiteRT's native code off the terminal."""

import contextlib
import os
import re
import sys
import tempfile

# Lines that native code writes about itself while it starts. Anything else is passed on.
CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} \d\d:\d\d:\d\d|[IWE]0000 00:00:"
    rb"|To enable the following instructions:"
    rb"|(INFO|VERBOSE): "
)


@contextlib.contextmanager
def hushed():
    """Within it, stderr is held back; at its end all but the native chatter is passed on.

    Native libraries write to the file descriptor, past `sys.stderr`, and some of it before any
    setting of theirs is read, so the descriptor itself is redirected.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not CHATTER.match(line):
                    os.write(2, line)
