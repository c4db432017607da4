"""A short soak: what a round leaves behind, without a look at memory, which is noisy."""

import pytest

from . import soaking


@pytest.mark.parametrize("each", [soaking.distilled, soaking.plain])
def test_nothing_of_a_round_is_kept_alive(each):
    assert soaking.survivors(each) == []


def test_a_survivor_is_seen():
    kept = []

    def each():
        kept.append(soaking.classifier())
        return kept[-1]

    assert soaking.survivors(each) == ["model"]


def test_files_threads_and_children_do_not_grow():
    made = soaking.distilled()
    found = list(soaking.rounds(12, lambda: soaking._used(made), clear=False))
    for key in ("files", "threads", "children"):
        figures = [getattr(use, key) for use in found]
        assert figures[-1] <= figures[3], (key, figures)


def of(memory, files=5):
    return soaking.Use(memory=memory, files=files, threads=3, children=0)


@pytest.mark.parametrize(
    ("last", "files", "lost"),
    [
        (1.04, 5, []),
        (1.06, 5, ["x: memory is not flat within 5%: 100 MB to 106 MB, +6.00%"]),
        (0.94, 5, ["x: memory is not flat within 5%: 100 MB to 94 MB, -6.00%"]),
        (1.0, 6, ["x: files grew from 5 to 6"]),
    ],
)
def test_growth_is_seen(last, files, lost):
    size = 100 * 2**20
    found = [of(3 * size)] * soaking.WARM_UP + [of(size)] * soaking.WINDOW
    found += [of(round(last * size), files)] * soaking.WINDOW
    assert soaking.tally("x", found).lost == lost
    assert soaking.tally("x", found).tried == 60


def test_growth_that_is_known_is_said_and_not_judged():
    size = 100 * 2**20
    found = [of(size)] * 40 + [of(2 * size)] * 20
    tally = soaking.tally("x", found, growing=("memory",))
    assert tally.lost == []
    assert tally.note == (
        "100 MB to 200 MB, +100.00%, files 5 to 5, threads 3 to 3, children 0 to 0"
    )
