"""The command that searches settings."""

import pathlib

from kdkeras import search as searches

PASSED_ON = (
    *("trials", "minutes", "space", "objective", "robust_weight", "robust_epsilon"),
    *("compare_seeds", "storage"),
)


def search(settings, words):
    """`kdkeras search`: the settings with which a student becomes best."""
    del words
    results = searches.run(settings["recipe"], **{name: settings[name] for name in PASSED_ON})
    folder = pathlib.Path(results["recipe"]["workdir"])
    print(f"\n{searches.summary(results)}\nPage: {folder / 'search.html'}")
    return 0
