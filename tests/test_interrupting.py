"""Runs that are stopped, killed, gone on with, and kept from one another."""

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from kdkeras import cli, files, locks, recipe, repeats, runner, workdir
from kdkeras.cli import stopping

WORDS = (
    *("--dataset=digits", "--max_train=60", "--teacher=mlp", "--student=mlp", "--student_width=8"),
    *("--optimizer=adam", "--learning_rate=0.001", "--epochs=9", "--noexport", "--nocontrol"),
)
IN_USE = r"`workdir` must not be in use\. Received: '{}', in which {} Wait for it, or give another"


def started(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "kdkeras", "distill", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"it ended: {process.stderr.read()}")


def stopped(process, with_signal):
    """The exit status, and what was said on stderr, of a process that gets a signal."""
    process.send_signal(with_signal)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_run_is_not_joined_and_goes_on_after_each_way_to_stop_it(tmp_path, capsys):
    folder = tmp_path / "run"
    words = [*WORDS, f"--workdir={folder}"]
    on = ["--resume", f"--workdir={folder}"]
    hint = f"\nkdkeras: stopped. To go on: kdkeras distill --resume --workdir='{folder}'\n"
    process = started(*words)
    try:
        wait_for(process, "Epoch 2/")
        # Held still, so that what changes is not its doing.
        process.send_signal(signal.SIGSTOP)
        before = contents(folder)
        assert (folder / workdir.LOCK).exists()
        for more in (words, [*words, "--resume"], [*words, "--overwrite"], [*words, "--seeds=2"]):
            assert cli.main(["distill", *more]) == 1
            said = capsys.readouterr()
            assert f"process {process.pid} on " in said.err
            assert re.search(
                IN_USE.replace("`workdir`", "--workdir").format(
                    folder, r"process \d+ on \S+ has been at work since [\d-]{10} [\d:]{8}\."
                ),
                said.err,
            )
        assert contents(folder) == before
        process.send_signal(signal.SIGCONT)
        assert stopped(process, signal.SIGTERM) == (143, hint)
        assert not (folder / workdir.LOCK).exists()

        process = started(*on)
        wait_for(process, "Epoch 4/")
        assert stopped(process, signal.SIGINT) == (130, hint)
        assert not (folder / workdir.LOCK).exists()

        process = started(*on)
        wait_for(process, "Epoch 6/")
        assert stopped(process, signal.SIGKILL) == (-signal.SIGKILL, "")
        assert (folder / workdir.LOCK).exists()
    finally:
        process.kill()
        process.communicate()
    assert cli.main(["distill", *on]) == 0
    results = json.loads((folder / "results.json").read_text())
    present = {path for path, content in contents(folder).items() if content is not None}
    assert set(results["files"]) == present - {"results.json"}
    assert not any(".tmp-" in path or workdir.LOCK in path for path in present)
    for name in ("teacher", "student"):
        assert results["models"][name]["training"]["epochs"] == 9
        assert len((folder / "logs" / f"{name}.csv").read_text().splitlines()) == 10


# -- who is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("carry_out", [repeats.run, repeats.train])
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"overwrite": True}])
def test_runs_are_refused_before_they_load_anything(tmp_path, monkeypatch, carry_out, seeds, how):
    monkeypatch.setattr(runner, "load_data", None)
    folder = tmp_path / "run"
    given = recipe.Recipe(workdir=str(folder), seeds=seeds, quiet=True, **how)
    with workdir.alone(folder):
        before = contents(folder)
        who = rf"process {os.getpid()} on \S+ has been at work since \d{{4}}.{{15}}\."
        with pytest.raises(ValueError, match=IN_USE.format(re.escape(str(folder)), who)):
            carry_out(given)
        assert contents(folder) == before
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", ["export", "quantize"])
def test_commands_that_write_into_a_run_are_refused(tmp_path, capsys, command):
    files.write_json(tmp_path / "recipe.json", {"format": 1, **recipe.Recipe().to_dict()})
    files.write_text(tmp_path / "student.keras", "")
    with workdir.alone(tmp_path):
        before = contents(tmp_path)
        for more in ([], ["--overwrite"]):
            assert cli.main([command, f"--workdir={tmp_path}", *more]) == 1
            assert "--workdir must not be in use" in capsys.readouterr().err
        assert contents(tmp_path) == before


def test_an_export_makes_no_work_directory(tmp_path, capsys):
    (tmp_path / "s.keras").write_text("")
    words = [f"--model={tmp_path / 's.keras'}", f"--workdir={tmp_path / 'typo'}"]
    assert cli.main(["export", *words]) == 1
    assert not (tmp_path / "typo").exists()


def test_foreign_folders_are_left_as_they_are(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    for how in ({}, {"overwrite": True}, {"resume": True}):
        given = recipe.Recipe(workdir=str(tmp_path), max_train=60, teacher="mlp", quiet=True, **how)
        with pytest.raises(ValueError, match=r"thesis\.txt|has no recipe\.json"):
            repeats.train(given)
        assert contents(tmp_path) == {"thesis.txt": b"precious"}
    with (
        pytest.raises(ValueError, match="must be a folder"),
        workdir.alone(tmp_path / "thesis.txt"),
    ):
        pass


def test_what_a_killed_run_left_is_no_matter(tmp_path):
    (tmp_path / workdir.LOCK).write_text("1 elsewhere 2020-01-01 00:00:00")
    given = recipe.Recipe(workdir=str(tmp_path), overwrite=True)
    workdir.check_free(tmp_path)
    for _ in range(2):  # new, then to be replaced
        with workdir.alone(tmp_path):
            workdir.claim(given)
            found = workdir.finish(tmp_path, {"recipe": given.to_dict()})
            assert list(found["files"]) == ["recipe.json"]
            assert f"{os.getpid()} " in (tmp_path / workdir.LOCK).read_text()
        assert sorted(contents(tmp_path)) == ["recipe.json", "results.json"]


# -- locks ---------------------------------------------------------------------------------------


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path, locked, calls = tmp_path / "lock", locks._locked, []

    def late(file, **options):
        calls.append(file)
        if len(calls) == 1:
            path.unlink()  # its holder leaves after we opened it
        return locked(file, **options)

    monkeypatch.setattr(locks, "_locked", late)
    with locks.alone(path):
        assert len(calls) == 2
        with pytest.raises(ValueError, match="must not be in use"):
            locks.check_free(path)
    assert not path.exists()


def test_a_file_that_another_made_in_our_place_is_not_removed(tmp_path):
    path = tmp_path / "lock"
    with locks.alone(path):
        path.unlink()
        path.write_text("theirs")
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("content", [b"", b"12", b"\xff\x1b[31m 3 4"])
def test_who_is_at_work_need_not_be_known(tmp_path, content):
    path = tmp_path / "lock"
    with locks.alone(path):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="in which another process is at work"):
            locks.check_free(path)


def test_without_fcntl_nothing_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    path = tmp_path / "lock"
    with locks.alone(path), locks.alone(path):
        assert not path.exists()
    for block in (locks.held(path), locks.shared(path), locks.idle(path, tmp_path)):
        with locks.held(path), block:
            pass


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def fails(code):
        def flock(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", flock)

    for code in locks.WITHOUT_LOCKS:
        fails(code)
        with locks.alone(tmp_path / "lock"), locks.held(tmp_path / "held"):
            pass
    fails(errno.EIO)
    with pytest.raises(OSError, match="Input/output"), locks.alone(tmp_path / "lock"):
        pass


# -- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_sigterm_ends_every_command(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_run", lambda *_: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main([command]) == 143
    assert signal.getsignal(signal.SIGTERM) == before
    again = "The same command begins again."
    how = {
        **dict.fromkeys(stopping.GO_ON, "To go on: the same command with --resume."),
        "cache": "The same command goes on.",
    }
    assert capsys.readouterr() == ("", f"\nkdkeras: stopped. {how.get(command, again)}\n")
    monkeypatch.setattr(cli, "_run", lambda *_: signal.raise_signal(signal.SIGINT))
    assert cli.main([command]) == 130


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_that_made_something_else_fail_is_a_stop(number, status, monkeypatch, capsys):
    def fails(*_):
        try:
            signal.raise_signal(number)
        finally:
            # As TensorFlow's bookkeeping of what it traces, in Keras's wrapping.
            try:
                raise AssertionError("Concurrent access?")
            except AssertionError as error:
                raise error.with_traceback(None) from None

    monkeypatch.setattr(cli, "_run", fails)
    assert cli.main(["evaluate"]) == status
    assert capsys.readouterr().err == "\nkdkeras: stopped. The same command begins again.\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_that_was_swallowed_comes_again(number, status, monkeypatch, capsys):
    cleaned = []

    def swallows(*_):
        with contextlib.suppress(KeyboardInterrupt):  # as TensorFlow's native code does
            signal.raise_signal(number)
        try:
            for _ in range(600):
                time.sleep(0.05)
        finally:
            # Takes longer than a reminder, and is let be.
            for _ in range(10):
                time.sleep(0.05)
            cleaned.append(True)

    monkeypatch.setattr(stopping, "AGAIN", 0.2)
    monkeypatch.setattr(cli, "_run", swallows)
    before = signal.getsignal(number)
    assert cli.main(["evaluate"]) == status
    assert (cleaned, signal.getsignal(number)) == ([True], before)
    assert capsys.readouterr().err == "\nkdkeras: stopped. The same command begins again.\n"


def test_a_second_ctrl_c_does_not_wait_for_the_first(monkeypatch):
    cleaned = []

    def slow(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            cleaned.append(True)

    monkeypatch.setattr(cli, "_run", slow)
    assert cli.main(["evaluate"]) == 130
    assert cleaned == []


def test_what_is_deaf_to_ctrl_c_stays_so(monkeypatch):
    monkeypatch.setattr(cli, "_run", lambda *_: signal.raise_signal(signal.SIGINT) or 5)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert cli.main(["evaluate"]) == 5
    finally:
        signal.signal(signal.SIGINT, before)


def test_resuming_is_advised_where_this_run_began(tmp_path):
    folder = tmp_path / "it's"
    folder.mkdir()
    given = recipe.Recipe(workdir=str(folder), overwrite=True)
    again = "The same command begins again."
    assert stopping.how_to_go_on("distill", given) == again
    stored = {"format": 1, **given.to_dict()}
    files.write_json(folder / "recipe.json", {**stored, "epochs": 99})  # another run
    assert stopping.how_to_go_on("distill", given) == again
    files.write_text(folder / "recipe.json", "[]")
    assert stopping.how_to_go_on("distill", given) == again
    files.write_text(folder / "recipe.json", "{")
    assert stopping.how_to_go_on("distill", given) == again
    files.write_json(folder / "recipe.json", stored)
    said = stopping.how_to_go_on("train", given)
    assert said == f"To go on: kdkeras train --resume --workdir='{tmp_path}/it'\"'\"'s'"
    files.write_json(folder / "results.json", {})
    assert stopping.how_to_go_on("distill", given) == again
    more = recipe.Recipe(workdir=str(folder), seeds=5, resume=True)  # seeds that were added
    assert stopping.how_to_go_on("distill", more) == "The same command goes on."
    assert stopping.how_to_go_on("evaluate", {"overwrite": True}) == again


def test_every_long_command_goes_on_by_one_word(capsys):
    instead = "To go on: the same command with --resume in place of --overwrite."
    for command in stopping.GO_ON:
        words = [command, "--resume", "--overwrite"]
        if command == "certify":  # which replaces nothing
            words = [command, "--resume", "--n0=many"]
        else:
            said = stopping.how_to_go_on(command, {"overwrite": True, "resume": False})
            assert said == ("The same command goes on." if command == "cache" else instead)
        resumed = {"overwrite": False, "resume": True}
        assert stopping.how_to_go_on(command, resumed) == "The same command goes on."
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert "--resume" not in said or "Give --overwrite or --resume, not both" in said
        assert "Unknown" not in said
        assert cli.main([command, "--help"]) == 0
        assert "  --resume (default: False)\n      go on with what a" in capsys.readouterr().out


def test_commands_run_in_threads(monkeypatch):
    found = []
    monkeypatch.setattr(cli, "_run", lambda *_: 0)
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: found.append(cli.main(["report"])))
    thread.start()
    thread.join()
    assert found == [0]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_handler_that_python_does_not_know(monkeypatch):
    given = []
    monkeypatch.setattr(signal, "signal", lambda _, handler: given.append(handler))
    with stopping.terminable():
        pass
    assert given[-2:] == 2 * [signal.SIG_DFL]


PARENT = """
from kdkeras import processes
from kdkeras.cli import stopping

with stopping.terminable():
    processes.run("sleeper")
"""
SLEEPER = """
import fcntl, pathlib, time
with open("alive", "ab") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    pathlib.Path("begun").touch()
    time.sleep(40)
    pathlib.Path("ended").touch()
"""


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_child_processes_end_with_their_parent(tmp_path, with_signal):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "begun").exists() and parent.poll() is None:
        threading.Event().wait(0.05)
    parent.send_signal(with_signal)
    parent.communicate(timeout=60)
    assert parent.returncode != 0
    with locks.held(tmp_path / "alive"):  # had once the child is gone
        assert (tmp_path / "begun").exists()
        assert not (tmp_path / "ended").exists()
