"""Commands in child processes that begin with everything imported, and are stopped by signals."""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

# Seconds after which a command counts as hanging.
PATIENCE = 240
ROOT = pathlib.Path(__file__).parents[2]


class Zygote:
    """A process that has imported TensorFlow and run nothing of it: each command is a fork of it.

    Args:
        scratch: The folder of its temporary files.
    """

    def __init__(self, scratch):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forking"],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(scratch)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def run(self, words, folder, said, *, stop=None):
        """Carries a command out.

        Args:
            words: Of the command line, after `kdkeras`.
            folder: In which it is to run.
            said: The file for what it says.
            stop: None, or a pair: after how many seconds to send which signal.

        Returns:
            The exit status (of a signal that nobody caught, its number below 0), how long it took,
            and whether the signal was sent before it ended.

        Raises:
            TimeoutError: It did not end, or a child process of its did not; now it has.
        """
        self._process.stdin.write(json.dumps([words, str(folder), str(said)]).encode() + b"\n")
        child, began, sent = int(self._line(PATIENCE)), time.monotonic(), False
        if stop is not None and not self._has_line(began + stop[0] - time.monotonic()):
            sent = True
            # A terminal's Ctrl-C goes to all processes of its group.
            os.killpg(child, stop[1]) if stop[1] == signal.SIGINT else os.kill(child, stop[1])
        try:
            status = int(self._line(PATIENCE))
            seconds = time.monotonic() - began
            self._wait_for_children(child)
        except TimeoutError:
            os.killpg(child, signal.SIGKILL)
            raise
        return status, seconds, sent

    def _has_line(self, seconds):
        return bool(select.select([self._process.stdout], [], [], max(0.0, seconds))[0])

    def _line(self, seconds):
        if not self._has_line(seconds):
            raise TimeoutError(f"nothing came back in {seconds} s")
        line = self._process.stdout.readline()
        if not line:
            raise OSError("The process of which commands are forks has ended.")
        return line

    def _wait_for_children(self, group):
        until = time.monotonic() + 20
        while _alive(group):
            if time.monotonic() > until:
                raise TimeoutError("a child process was still at work 20 s after its parent's end")
            time.sleep(0.05)


def _alive(group):
    """Whether a process of a group is there and no zombie."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def _serve():
    """Reads commands, a line of JSON each; answers with the child's number, and its exit status."""
    import tensorflow  # noqa: F401

    from kdkeras import cli, commands  # noqa: F401

    for line in sys.stdin:
        words, folder, said = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_carried_out(cli.main, words, folder, said))
        os.setpgid(child, child)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _carried_out(main, words, folder, said):
    """The exit status of a command, in a process of its own."""
    os.setpgid(0, 0)
    # As in a terminal: what a script starts in the background is deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    with open(said, "ab") as file, open(os.devnull, "rb") as nothing:
        for number, opened in ((0, nothing), (1, file), (2, file)):
            os.dup2(opened.fileno(), number)
    try:
        return main(words)
    except KeyboardInterrupt:  # before it could listen to signals
        return 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    _serve()
