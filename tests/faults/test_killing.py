"""A few kills; `python -m tests.faults --families=kills` has 20 of each long command."""

import re

import pytest

from . import killing, leftovers


def test_commands_that_are_killed_end_as_others_do():
    found = {tally.family: tally for tally in killing.run(0, quick=True)}
    lost = [problem for tally in found.values() for problem in tally.lost]
    assert lost == []
    assert list(found) == [f"kills of {name}" for name in killing.QUICK]
    assert sum(tally.tried for tally in found.values()) >= 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"run/a.txt": b"2"}, "run/a.txt differs:  [0-9a-f]{64}, [0-9a-f]{64}"),
        ({"run/a.txt": None}, "run/a.txt is missing"),
        ({"run/.lock": b""}, "run/.lock is left over"),
        (
            {"run/r.json": b'{"seconds": 2, "x": [{"y": 1.5}]}'},
            "run/r.json differs: /x/0/y 1.0, 1.5",
        ),
        ({"run/r.json": b'{"seconds": 9, "x": [{"y": 1.0}]}'}, None),
        ({"thesis.txt": b"gone"}, "thesis.txt differs"),
    ],
)
def test_what_differs_is_found(tmp_path, changed, said):
    content = {"run/a.txt": b"1", "run/r.json": b'{"seconds": 1, "x": [{"y": 1.0}]}'}
    content["thesis.txt"] = b"years of work"
    kept = []
    for name, of in (("one", content), ("other", content | changed)):
        (tmp_path / name / "run").mkdir(parents=True)
        for path, written in of.items():
            if written is not None:
                (tmp_path / name / path).write_bytes(written)
        kept.append(leftovers.of(tmp_path / name, killing.BESIDE))
    found = leftovers.difference(*kept)
    assert re.match(said or "None", str(found))
