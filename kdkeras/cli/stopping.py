"""Commands that are stopped: SIGTERM ends them as Ctrl-C does, and how to go on is said."""

import _thread
import contextlib
import signal
import sys
import threading
import time

from kdkeras import files

INTERRUPTED, TERMINATED = 130, 143
TRAIN = ("distill", "train")
# The other commands with --resume.
GO_ON = ("cache", "attack", "certify", "search", "export", "quantize")


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


STOPS = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}
# Seconds after which a stop that was swallowed is raised again.
AGAIN = 1.0


@contextlib.contextmanager
def terminable():
    """A block that SIGTERM leaves by `Terminated`, so that what is half-written is removed.

    It, or a Ctrl-C, is raised again where native code has swallowed it, as TensorFlow's does at
    times; and in place of an error that it led to: within TensorFlow's own bookkeeping, it makes an
    assertion fail.

    Signals come to the main thread alone: in another nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in STOPS if _is_heard(number)}
    try:
        yield
    except Exception as error:
        behind = _behind(error)
        if behind is None:
            raise
        raise behind from None
    finally:
        stop.is_over = True
        for number, handler in before.items():
            # None: a handler that Python cannot know, nor put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _is_heard(number):
    """Whether a signal is for us: a Ctrl-C is not, in what a script started in the background."""
    return signal.getsignal(number) is not signal.SIG_IGN


class _Stop:
    """Raises what a signal means, and once a second again, until it is on its way out."""

    def __init__(self):
        self.is_over, self._is_reminder, self._thread = False, False, None

    def __call__(self, number, frame):
        del frame
        reminded, self._is_reminder = self._is_reminder, False
        # On its way, what is half-written is being removed.
        if reminded and (self.is_over or _behind(sys.exc_info()[1]) is not None):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._remind, args=(number,), daemon=True)
            self._thread.start()
        raise STOPS[number]

    def _remind(self, number):
        while not self.is_over:
            time.sleep(AGAIN)
            if not self.is_over:
                self._is_reminder = True
                _thread.interrupt_main(number)


def _behind(error):
    """The stop that an error was raised after, or None."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def status(stop):
    """The exit status of a command that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def how_to_go_on(command, settings):
    """What to run after a command was stopped, as a sentence.

    Args:
        command: "distill", "export", ...
        settings: Dict of its flags; of "distill" and "train" their `kdkeras.Recipe`.
    """
    trains = command in TRAIN
    if trains and _is_begun(settings):
        folder = str(settings.directory).replace("'", "'\"'\"'")
        return f"To go on: kdkeras {command} --resume --workdir='{folder}'"
    resumed = settings.resume if trains else settings.get("resume")
    # A cache that is to replace another is gone on with by saying so again.
    if resumed or command == "cache":
        return "The same command goes on."
    if command in GO_ON:
        instead = " in place of --overwrite" if settings.get("overwrite") else ""
        return f"To go on: the same command with --resume{instead}."
    return "The same command begins again."


def _is_begun(recipe):
    """Whether the run that stands in a recipe's work directory is this one, and unfinished."""
    stored = recipe.directory / "recipe.json"
    if not stored.exists() or (recipe.directory / "results.json").exists():
        return False
    try:
        before = files.read_json(stored)
    except (ValueError, OSError):  # of somebody else: this run would have replaced it
        return False
    return isinstance(before, dict) and before == {**before, **recipe.to_dict()}
