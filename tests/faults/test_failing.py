"""A few disks that fail under the quick commands: nothing is lost, and they go on afterwards."""

import errno
import os

import pytest

from . import failing, layers


def test_commands_survive_disks_that_fail(tmp_path):
    failing.make(tmp_path / "good", few=True)
    tried = 0
    for name, count in failing.FEW.items():
        tally = failing.failed(name, tmp_path / "good", tmp_path, 0, count)
        assert tally.lost == []
        tried += tally.tried
    assert tried == sum(failing.FEW.values())


def test_the_layer_fails_the_call_that_it_is_told_to(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    layer = layers.Layer(inside, "write", 1, errno.ENOSPC)
    with layer():
        (inside / "a").write_text("first")
        (tmp_path / "outside").write_text("not counted")
        with pytest.raises(OSError, match="No space left on device") as caught:
            (inside / "b").write_text("second")
        os.replace(inside / "a", inside / "c")
    assert caught.value.errno == errno.ENOSPC
    assert (inside / "b").read_text() == "sec"
    # What opens a file for writing is where folders may vanish, too.
    found = {"open": 2, "vanish": 2, "write": 2, "fsync": 0, "replace": 1, "mkdir": 0}
    assert layer.calls == found
    with layers.Layer(inside, "vanish", 0, errno.ENOENT)():
        (inside / "below").mkdir()
        with pytest.raises(FileNotFoundError):
            (inside / "below" / "c").write_text("third")
    assert not (inside / "below").exists()
