"""Commands that are stopped: SIGTERM ends them as Ctrl-C does, and how to go on is said."""

import contextlib
import signal
import threading

from kdkeras import files

INTERRUPTED, TERMINATED = 130, 143
TRAIN = ("distill", "train")
# The other commands with --resume.
GO_ON = ("cache", "attack", "certify", "search", "export", "quantize")


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def terminable():
    """A block that SIGTERM leaves by `Terminated`, so that what is half-written is removed.

    It, or a Ctrl-C, is raised also in place of an error that it led to: within TensorFlow's own
    bookkeeping, it makes an assertion fail.

    Signals come to the main thread alone: in another nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, frame):
        del number, frame
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except Exception as error:
        stop = _behind(error)
        if stop is None:
            raise
        raise stop from None
    finally:
        # None: a handler that Python cannot know, nor put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


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
