"""A few damaged files of each format that is quickly made: each is refused, or read as it was."""

from . import damaging


def test_damaged_files_are_refused_or_read_as_they_were(tmp_path):
    good = tmp_path / "good"
    damaging.make(good, slow=False)
    found = {}
    for name, (file, read) in damaging.readers(good).items():
        tally = damaging.tried(name, good / file, read, 0, damaging.FEW)
        assert tally.lost == []
        found[name] = tally.tried
    assert found == dict.fromkeys(found, damaging.FEW)
    assert {".keras", "results.json", "recipe.json", "teacher.cache", "PNG"} < set(found)


def test_the_family_sees_what_is_taken_for_good(tmp_path):
    """Bytes without a digest, a reader that fails as it likes, and one that names no file."""

    def fails(path):
        return path.read_bytes()[3] and None

    def nameless(path):
        if path.read_bytes() != b"whole":
            raise ValueError("damaged")

    path = tmp_path / "x"
    path.write_bytes(b"whole")
    lost = damaging.tried("x", path, type(path).read_bytes, 0, 10).lost
    assert len(lost) == 10
    assert "other contents are taken for good" in lost[0]
    assert any("IndexError surfaces" in one for one in damaging.tried("x", path, fails, 0, 10).lost)
    assert "ValueError: damaged" in damaging.tried("x", path, nameless, 0, 10).lost[0]
    assert path.read_bytes() == b"whole"
