"""Tries every family of faults and prints a line for each.

    python -m tests.faults                          # all of them
    python -m tests.faults --families=kills,fuzz    # some
    python -m tests.faults --quick                  # a few faults of each

Exit status 0: every fault was survived; 1: at least one was not, and stderr says which.
"""

import argparse
import importlib
import os
import sys
import time

# Each has a function `run(seed, quick)` that yields `tallies.Tally`s.
FAMILIES = {
    "kills": "killing",
    "damage": "damaging",
    "disks": "failing",
    "fuzz": "fuzzing",
    "soak": "soaking",
}


def main():
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__.partition("\n")[0]
    )
    every = ",".join(FAMILIES)
    parser.add_argument("--families", default=every, help=f"comma list of {every}; all by default")
    parser.add_argument("--seed", type=int, default=0, help="which moments, bits and inputs")
    parser.add_argument("--quick", action="store_true", help="a few faults of each family")
    given = parser.parse_args()
    names = given.families.split(",")
    unknown = sorted(set(names) - set(FAMILIES))
    if unknown:
        parser.error(f"--families must be of {every}. Received: {','.join(unknown)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    lost = 0
    for name in names:
        family = importlib.import_module(f".{FAMILIES[name]}", __package__)
        started = time.monotonic()
        for tally in family.run(given.seed, given.quick):
            now = time.monotonic()
            print(tally.line(given.seed, now - started), flush=True)
            started = now
            lost += len(tally.lost)
            for problem in tally.lost:
                print(f"  lost: {problem}", file=sys.stderr, flush=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
