"""The command that searches settings."""

import contextlib
import pathlib
import signal

from kdkeras import search as searches

PASSED_ON = (
    *("trials", "minutes", "space", "objective", "robust_weight", "robust_epsilon"),
    *("compare_seeds", "storage"),
)


def search(settings, words):
    """`kdkeras search`: the settings with which a student becomes best."""
    del words
    with _terminated_as_interrupted():
        results = searches.run(settings["recipe"], **{name: settings[name] for name in PASSED_ON})
    folder = pathlib.Path(results["recipe"]["workdir"])
    print(f"\n{searches.summary(results)}\nPage: {folder / 'search.html'}")
    return 0


@contextlib.contextmanager
def _terminated_as_interrupted():
    """A block in which SIGTERM stops the process as Ctrl-C does: the trial goes in line again."""

    def interrupt(number, frame):
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
