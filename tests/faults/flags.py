"""Fuzzed command lines: every flag of every command, several at once, and flag files."""

import functools
import pathlib

from hypothesis import strategies as st

from . import nonsense, precious, tallies

# What a command is given beside the flag that is tried, so that it comes to its long work at once.
GIVEN = {
    "distill": (*precious.TINY, *precious.STUDENT, "--noexport", "--workdir=new"),
    "train": (*precious.TINY, "--workdir=new"),
    "search": (*precious.TINY, *precious.STUDENT, "--trials=1", "--workdir=new"),
    "cache": (
        *("--dataset=digits", "--max_train=60", "--views=2", "--quiet"),
        *("--teacher=run/teacher.keras", "--output=new.cache"),
    ),
    "evaluate": ("run/student.keras", "--quiet"),
    "report": ("run", "--nopictures"),
    "attack": ("run/student.keras", "--suite=quick", "--max_images=4", "--output=new"),
    "certify": ("run/student.keras", "--n=50", "--max_images=2", "--output=new.json"),
    "predict": ("photo.png", "--model=run/student.keras"),
    "export": ("--model=run/student.keras", "--output=new", "--nolatency", "--quiet"),
    "quantize": ("--workdir=run", "--epochs=1", "--quiet"),
}
# It would go to the network.
NEVER = ("download",)


@functools.cache
def kinds(command):
    """Dict from the names of a command's flags to their types, as absl calls them."""
    from kdkeras import cli

    values = cli._define(command)
    return {name: values[name].flag_type() for name in values if name not in NEVER}


def single(seed, each, *, step=1):
    """Every flag of every command alone, with `each` values of it.

    Args:
        seed: Which values.
        each: How many; of booleans, one.
        step: One in so many flags is tried.

    Yields:
        Command lines, lists of strings.
    """
    every = [(command, name, kind) for command in GIVEN for name, kind in kinds(command).items()]
    for place in range(seed % step, len(every), step):
        command, name, kind = every[place]
        few = 1 if kind == "bool" else each
        for value in nonsense.drawn(nonsense.of_flag(name, kind), few, 1000 * seed + place):
            yield [command, *GIVEN[command], f"--{name}={value}"]


def several(seed, count):
    """Two to five flags at once, and words that are no flags."""
    for line in nonsense.drawn(st.sampled_from(list(GIVEN)).flatmap(_several), count, seed):
        yield list(line)


def _several(command):
    flag = st.sampled_from(sorted(kinds(command).items())).flatmap(_flag)
    lists = st.lists(st.one_of(flag, flag, flag, nonsense.values()), min_size=2, max_size=5)
    return lists.map(lambda words: (command, *GIVEN[command], *words))


def _flag(pair):
    name, kind = pair
    if kind == "bool":
        return st.sampled_from((f"--{name}", f"--no{name}", f"--{name}=false"))
    return nonsense.of_flag(name, kind).map(lambda value: f"--{name}={value}")


def of_files(seed, count):
    """Flags in a file, `flags.txt`, among comments, empty lines and bytes of any kind.

    Yields:
        Pairs of a command line and the file's bytes.
    """
    lines = st.lists(
        st.one_of(
            st.sampled_from(("", "# epochs", "// alpha", "epochs=2", "--epochs 2", "--alpha=0.5 ")),
            st.sampled_from(sorted(kinds("distill").items())).flatmap(_flag),
            st.sampled_from(("--flagfile=flags.txt", "--flagfile=nowhere", "--flagfile=empty")),
            nonsense.values(),
        ),
        max_size=4,
    )
    texts = lines.map(lambda found: "\n".join(found).encode(errors="surrogateescape"))
    for text in nonsense.drawn(st.one_of(texts, texts, st.binary(max_size=40)), count, seed):
        yield ["distill", *GIVEN["distill"], "--flagfile=flags.txt"], text


def tried(words, folder, text=None):
    """Runs a command line in a `precious.Folder`; None if it was survived, else what was wrong."""
    if text is not None:
        pathlib.Path("flags.txt").write_bytes(text)
    replaceable = _replaceable(words, text)
    problem, _ = precious.complaint(words, kinds(words[0]))
    harmed = folder.harmed(replaceable)
    return f"changed {', '.join(harmed)}" if harmed else problem


def _replaceable(words, text):
    """What a command was told to replace, or to go on with."""
    said = [*words, *(text or b"").decode(errors="replace").splitlines()]
    if not any(word.startswith(("--overwrite", "--resume")) for word in said):
        return ()
    return [word.partition("=")[2] for word in said if word.startswith(("--workdir", "--output"))]


def least(words, folder):
    """The fewest words of a command line that was not survived which still are not."""
    for word in words[1:]:
        fewer = [other for other in words if other is not word]
        if tried(fewer, folder) is not None:
            words = fewer
    return words


def tally(family, lines, folder):
    """A `tallies.Tally` of command lines, each a list or a pair of one and a flag file's bytes."""
    found = tallies.Tally(family)
    for line in lines:
        words, text = line if isinstance(line, tuple) else (line, None)
        problem = tried(words, folder, text)
        if problem is None:
            found.add()
        else:
            fewest = words if text is not None else least(words, folder)
            found.add(f"{nonsense.shown(fewest)}{'' if text is None else f' {text!r}'}: {problem}")
    return found
