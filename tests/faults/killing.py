"""Commands that are killed at any moment and gone on with: the end is that of those that were not.

A fault is a signal (SIGKILL; every fourth SIGTERM, every fifth Ctrl-C) at a moment drawn uniformly
from the time that the command takes. Then the same command with --resume must end with the same
weights, figures and answers to the last bit, with nothing left over, and what stands beside
untouched. A third of the commands is killed twice.
"""

import concurrent.futures
import dataclasses
import math
import pathlib
import queue
import random
import re
import shutil
import signal
import sys
import tempfile

from . import forking, leftovers, tallies

KILLS = 20
# Commands at a time.
WORKERS = 2
# What a command that had ended says when it is to go on.
ENDED = re.compile(r"is finished: its results\.json is there|would be replaced\. Give --overwrite")
BESIDE = {"thesis.txt": b"years of work", ".draft.tmp-mine.keras": b"mine", "labels.json": b"{}"}
TINY = ("--dataset=digits", "--max_train=60", "--batch_size=16", "--augment=crop")
TEACHER = (*TINY, "--teacher=mlp", "--teacher_width=8", "--optimizer=adam", "--learning_rate=0.01")
STUDENT = ("--student=mlp", "--student_width=8")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that is killed: its words, what it needs of the first run's files, how often."""

    words: tuple
    needs: tuple = ()
    share: float = 1.0


COMMANDS = {
    "distill": Command(
        (
            *("distill", *TEACHER, *STUDENT, "--perturbation=gaussian", "--epochs=6"),
            *("--noexport", "--workdir=run"),
        )
    ),
    # Its exports take long.
    "distill with exports": Command(
        ("distill", *TEACHER, *STUDENT, "--epochs=2", "--nocontrol", "--workdir=run"), share=0.1
    ),
    "train": Command(("train", *TEACHER, "--epochs=12", "--workdir=run")),
    "search": Command(
        (
            *("search", *TEACHER, *STUDENT, "--epochs=3"),
            *("--trials=7", "--space=temperature=1:16:log alpha=0:0.9", "--compare_seeds=1"),
            "--workdir=run",
        )
    ),
    "attack": Command(
        (
            *("attack", "student.keras", "--dataset=digits", "--max_images=100"),
            *("--batch_size=32", "--epsilon=0.1", "--output=attacked"),
        ),
        ("student.keras",),
    ),
    "certify": Command(
        (
            *("certify", "student.keras", "--dataset=digits", "--max_images=60", "--n=4000"),
            *("--batch_size=500", "--output=radii.json"),
        ),
        ("student.keras",),
    ),
    "cache": Command(
        (
            *("cache", "--dataset=digits", "--teacher=teacher.keras", "--augment=crop"),
            *("--views=16", "--batch_size=8", "--output=answers.cache"),
        ),
        ("teacher.keras",),
    ),
    "export": Command(
        (
            *("export", "--model=student.keras", "--dataset=digits", "--output=exported"),
            *("--precision=float32,int8", "--calibration_images=32"),
        ),
        ("student.keras",),
    ),
    "quantize": Command(
        ("quantize", "--workdir=run", "--epochs=3", "--calibration_images=32"),
        ("run",),
        share=0.1,  # as the exports of a run
    ),
}
# What makes the commands of a quick run small: later words count.
QUICK = {
    "distill": ("--epochs=2", "--nocontrol"),
    "attack": ("--suite=quick", "--max_images=32"),
    "certify": ("--max_images=10", "--n=1000"),
    "cache": ("--views=2",),
    "export": ("--formats=tflite", "--precision=float32", "--nolatency"),
}


def run(seed, quick, kills=KILLS):
    """Kills each long command; yields a `tallies.Tally` for each.

    Args:
        seed: Of the moments.
        quick: Whether to try a few kills of some commands alone, made small.
        kills: How many of each command, else.
    """
    commands = COMMANDS
    wanted = {name: math.ceil(kills * command.share) for name, command in COMMANDS.items()}
    if quick:
        commands = {
            name: dataclasses.replace(COMMANDS[name], words=(*COMMANDS[name].words, *less))
            for name, less in QUICK.items()
        }
        wanted = {name: 1 + (name == "distill") for name in QUICK}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        zygotes = queue.SimpleQueue()
        for _ in range(WORKERS):
            zygotes.put(forking.Zygote(scratch))
        try:
            first = _first(zygotes, scratch)
            # There is no more at a time than there are zygotes.
            with concurrent.futures.ThreadPoolExecutor(len(QUICK) if quick else 1) as pool:
                yield from pool.map(
                    lambda name: _killed(
                        name, commands[name], wanted[name], seed, first, scratch, zygotes
                    ),
                    commands,
                )
        finally:
            for _ in range(WORKERS):
                zygotes.get().close()


def _first(zygotes, scratch):
    """The folder of a run, whose files other commands need."""
    first = scratch / "first"
    first.mkdir()
    words = ("distill", *TEACHER, *STUDENT, "--epochs=6")
    words += ("--noexport", "--nocontrol", "--workdir=run")
    _carried_out(zygotes, words, first, expected=0)
    for name in ("teacher", "student"):
        shutil.copy(first / "run" / f"{name}.keras", first)
    return first


def _killed(name, command, count, seed, first, scratch, zygotes):
    """The tally of one command."""
    draw = random.Random(f"{seed} {name}")
    reference = _prepared(scratch / name, command, first)
    status, lasts, _ = _carried_out(zygotes, command.words, reference, expected=0)
    wanted = leftovers.of(reference, BESIDE)
    tally = tallies.Tally(f"kills of {name}")
    plans = []
    for i in range(count):
        number = signal.SIGTERM if i % 4 == 3 else signal.SIGINT if i % 5 == 4 else signal.SIGKILL
        moments = [draw.random() for _ in range(1 + (i % 3 == 2))]
        plans.append((number, moments, draw.random()))
    late = 0

    def survives(i):
        number, moments, more = plans[i]
        folder = _prepared(scratch / f"{name}-{i}", command, first)
        try:
            sent, problem = _gone_on_with(
                zygotes, command, folder, number, [lasts * one for one in moments], lasts, more,
                status, wanted,
            )  # fmt: skip
        except TimeoutError as error:
            sent, problem = 1, str(error)
        moment = ", ".join(f"{one:.3f}" for one in moments)
        told = f"{name} {i}, {number.name} at {moment} of {lasts:.1f} s: {problem or 'the same'}"
        print(told, file=sys.stderr, flush=True)
        if problem is None:
            shutil.rmtree(folder)
        return sent, problem and told

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for sent, problem in pool.map(survives, range(count)):
            for _ in range(sent - 1):
                tally.add()
            if sent:
                tally.add(problem)
            late += not sent
    tally.note = f"{lasts:.1f} s each" + (f", {late} ended before their signal" if late else "")
    return tally


def _gone_on_with(zygotes, command, folder, number, moments, lasts, more, status, wanted):
    """How many signals were sent, and what is wrong at the end, or None."""
    words, sent, after = command.words, 0, random.Random(more)
    for moment in moments:
        stop, tries = (moment, number), 0
        found, _, was_sent = _carried_out(zygotes, words, folder, stop=stop)
        while not sent and not was_sent and tries < 5:  # it was faster than the first time
            _prepared(folder, command, folder.parent / "first")
            stop, tries = (after.uniform(0, moment), number), tries + 1
            found, _, was_sent = _carried_out(zygotes, words, folder, stop=stop)
        sent += was_sent
        if was_sent and found not in (-number, 128 + number, status):
            return sent, f"status {found} after {number.name}: {_said(folder)}"
        words = (*command.words, "--resume")
    found, _, _ = _carried_out(zygotes, words, folder)
    text = _said(folder)
    if "Traceback" in text and "Exception ignored" not in text:
        return sent, f"a traceback: {text}"
    if found != status and not ENDED.search(text):
        return sent, f"status {found}, where {status} is expected: {text}"
    return sent, leftovers.difference(wanted, leftovers.of(folder, BESIDE))


def _carried_out(zygotes, words, folder, *, stop=None, expected=None):
    zygote = zygotes.get()
    try:
        said = folder.with_name(f"{folder.name}.txt")
        status, seconds, sent = zygote.run(words, folder, said, stop=stop)
    finally:
        zygotes.put(zygote)
    failed = expected is not None and (
        # An attack says by 1, too, that its figures are doubtful.
        status != expected and (words[0] != "attack" or "kdkeras attack:" in _said(folder))
    )
    if failed:
        raise RuntimeError(f"kdkeras {' '.join(words)} ended with {status}: {_said(folder)}")
    return status, seconds, sent


def _said(folder):
    """The last of what commands in a folder said."""
    return folder.with_name(f"{folder.name}.txt").read_text(errors="replace")[-3000:]


def _prepared(folder, command, first):
    """A folder with what a command needs, and what is none of its business."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in command.needs:
        copy = shutil.copytree if (first / name).is_dir() else shutil.copy
        copy(first / name, folder / name)
    for name, content in BESIDE.items():
        (folder / name).write_bytes(content)
    return folder
