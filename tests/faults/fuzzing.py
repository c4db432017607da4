"""Fuzzing: thousands of flags, files and arguments that are wrong, odd, or right after all.

Each is tried on the real code. What would take long (training, attacks, conversions) is stopped by
Ctrl-C as it begins: see `precious.stopped_at_work`.
"""

from . import documents, flags, hyperparameters, precious

# Of each family: how many draws in the whole, and of `--quick`.
COUNTS = {
    "single": (3, 1),
    "several": (250, 10),
    "files": (100, 5),
    "recipes": (150, 5),
    "results": (150, 4),
    "names": (60, 4),
    "spaces": (150, 6),
    "clusters": (150, 10),
    "arguments": (4, 1),
    "values": (300, 75),
}
# One in so many flags, and arguments, is tried by `--quick`.
FEW = 12


def run(seed, quick):
    """All families of nonsense.

    Args:
        seed: Which nonsense.
        quick: Whether a few of each.

    Yields:
        `tallies.Tally`s.
    """
    count = {name: few if quick else all_of_them for name, (all_of_them, few) in COUNTS.items()}
    with precious.filled() as folder, precious.stopped_at_work():
        alone = flags.single(seed, count["single"], step=FEW if quick else 1)
        yield flags.tally("flags, each alone", alone, folder)
        several = flags.several(seed, count["several"])
        yield flags.tally("flags, several at once", several, folder)
        yield flags.tally("flag files", flags.of_files(seed, count["files"]), folder)
        for name in ("recipes", "results", "names", "spaces", "clusters"):
            yield getattr(documents, name)(seed, count[name], folder)
    yield hyperparameters.constructed(seed, count["arguments"], step=FEW if quick else 1)
    yield hyperparameters.values(seed, count["values"])
