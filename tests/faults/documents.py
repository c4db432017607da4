"""Fuzzed files and texts that commands read: recipes, results, spaces, class names, TF_CONFIG."""

import json
import pathlib

from hypothesis import strategies as st

from . import flags, nonsense, precious, tallies

DEEP = "[" * 100_000
SPACE = ("temperature=1:16:log", "alpha=0:0.9", "method=hinton|dkd", "weight_1=0:2", "epochs=1:3")
# Characters of a space, so that texts come near to being one.
LETTERS = "abtw_=:|.0123456789/ ,'\"-\\"
CONFIG = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}


def anything():
    """Values that JSON can hold, and Python's NaN and infinities."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.sampled_from((2**31, 2**63, 10**30, -1, 1e308, float("nan"), float("inf"), 0.5, 1e-400)),
        st.text(max_size=5),
        st.sampled_from(nonsense.WORDS + nonsense.PLACES),
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=5,
    )


def mutated(good):
    """Strategy of bytes: a good JSON object, changed in one to three places, or cut, or no JSON.

    Args:
        good: The object, a dict.
    """
    change = st.tuples(
        st.sampled_from(("set", "set", "set", "remove", "add", "twice")),
        st.sampled_from(sorted(good)),
        anything(),
    )
    changed = st.lists(change, min_size=1, max_size=3).map(lambda found: _changed(good, found))
    text = json.dumps(good).encode()
    whole = st.sampled_from((b"", b"null", b"[]", b"{}", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"1"))
    deep = st.just(DEEP.encode())
    cut = st.integers(1, len(text) - 1).map(lambda end: text[:end])
    other = anything().map(lambda one: json.dumps(one).encode())
    return st.one_of(changed, changed, changed, changed, whole, deep, cut, other)


def _changed(good, changes):
    made, again = {key: json.dumps(value) for key, value in good.items()}, []
    for how, key, value in changes:
        if how == "remove":
            made.pop(key, None)
        elif how == "twice":
            again.append((key, json.dumps(value)))
        else:
            made[key if how == "set" else f"{key}_"] = json.dumps(value)
    pairs = [f"{json.dumps(key)}: {value}" for key, value in (*made.items(), *again)]
    return ("{" + ", ".join(pairs) + "}").encode(errors="surrogateescape")


def recipes(seed, count, folder):
    """`recipe.json` of a run that is gone on with, exported, quantized or reported on."""
    found = tallies.Tally("recipe.json")
    good = _plain("half/recipe.json")
    ways = (
        [*flags.GIVEN["distill"][:-1], "--resume", "--workdir=half"],
        ["--resume", "--workdir=half", "--quiet"],
    )
    commands = (
        *(["distill", *way] for way in ways),
        ["export", "--workdir=half", "--nolatency", "--quiet", "--output=new"],
        ["quantize", "--workdir=half", "--epochs=1", "--quiet"],
    )
    for number, text in enumerate(nonsense.drawn(mutated(good), count, seed)):
        words = commands[number % len(commands)]
        found.add(_of_file(words, "half/recipe.json", text, folder))
    return found


def results(seed, count, folder):
    """`results.json` of a run that is evaluated, reported on, or gone on with."""
    found = tallies.Tally("results.json")
    good = _plain("run/results.json")
    commands = (
        ["evaluate", "run", "--quiet"],
        ["report", "run", "--nopictures"],
        ["report", "run", "half", "--output=new.html"],
        ["distill", "--resume", "--workdir=run", "--quiet"],
    )
    inside = st.one_of(
        mutated(good),
        *(
            mutated(good[key]).map(lambda text, key=key: _inside(good, key, text))
            for key in ("models", "recipe", "dataset", "files", "distillation", "seconds")
        ),
    )
    for number, text in enumerate(nonsense.drawn(inside, count, seed)):
        words = commands[number % len(commands)]
        found.add(_of_file(words, "run/results.json", text, folder))
    return found


def _inside(good, key, text):
    """The bytes of a good object with other bytes in place of one of its values."""
    rest = json.dumps({name: value for name, value in good.items() if name != key}).encode()
    return rest[:-1] + b', "' + key.encode() + b'": ' + text + b"}"


def _plain(path):
    """A stored object without its digest, as one that somebody edited."""
    found = json.loads(pathlib.Path(path).read_text())
    found.pop("digest", None)
    return found


def names(seed, count, folder):
    """`labels.txt` beside a model, and as --labels."""
    found = tallies.Tally("labels.txt")
    lines = st.lists(st.one_of(st.text(max_size=4), st.sampled_from("0123456789")), max_size=12)
    digits = st.just("\n".join("0123456789").encode())
    texts = st.one_of(
        lines.map(lambda some: "\n".join(some).encode(errors="surrogateescape")),
        st.binary(max_size=30),
        digits,
    )
    commands = (
        ["predict", "photo.png", "--model=run/student.keras"],
        ["predict", "photo.png", "--model=run/student.keras", "--labels=run/labels.txt"],
        ["evaluate", "run/student.keras", "--quiet"],
        ["export", "--model=run/student.keras", "--output=new", "--nolatency", "--quiet"],
    )
    for number, text in enumerate(nonsense.drawn(texts, count, seed)):
        words = commands[number % len(commands)]
        found.add(_of_file(words, "run/labels.txt", text, folder))
    return found


def _of_file(words, path, text, folder):
    """Runs a command with a file of other bytes; None if it was survived, else what was wrong."""
    pathlib.Path(path).write_bytes(text)
    before = precious.Folder()
    # What these commands may write: the run that they go on with, and its exports.
    known = {**flags.kinds(words[0]), pathlib.Path(path).name: "file"}
    problem, said = precious.complaint(words, known, names=(path, pathlib.Path(path).name))
    harmed = before.harmed(("half",) if "--resume" in words else ())
    folder.harmed()
    if harmed:
        problem = f"changed {', '.join(harmed)}: {said[-200:]}"
    return problem and f"{' '.join(words)} with {path} of {text[:300]!r}: {problem}"


def spaces(seed, count, folder):
    """Search spaces, as --space."""
    found = tallies.Tally("search spaces")
    word = st.one_of(
        st.sampled_from(SPACE),
        st.tuples(st.sampled_from(SPACE), st.text(alphabet=LETTERS, max_size=4)).map("".join),
        st.tuples(
            st.sampled_from(sorted(flags.kinds("search"))),
            st.sampled_from(("=", "=", ":", "")),
            st.lists(nonsense.values(), max_size=3).flatmap(
                lambda ends: st.sampled_from(":|,").map(lambda between: between.join(ends))
            ),
        ).map("".join),
        st.text(alphabet=LETTERS, max_size=12),
    )
    texts = st.lists(word, min_size=1, max_size=3).map(" ".join)
    for text in nonsense.drawn(texts, count, seed):
        words = ["search", *flags.GIVEN["search"], f"--space={text}"]
        problem = flags.tried(words, folder)
        found.add(problem and f"{nonsense.shown([f'--space={text}'], 300)}: {problem}")
    return found


def clusters(seed, count, folder):
    """TF_CONFIG of a worker: what it is checked for, without waiting for others."""
    from kdkeras import distribution

    found = tallies.Tally("TF_CONFIG")
    task = mutated(CONFIG["task"]).map(lambda text: _inside(CONFIG, "task", text))
    cluster = mutated(CONFIG["cluster"]).map(lambda text: _inside(CONFIG, "cluster", text))
    texts = st.one_of(mutated(CONFIG), task, cluster)
    for text in nonsense.drawn(texts, count, seed):
        given = text.decode(errors="surrogateescape").replace("\0", "")
        nonsense.in_environment("TF_CONFIG", given)
        try:
            distribution.leads("multiworker")
            problem = None
        except ValueError as error:
            problem = None if "TF_CONFIG" in str(error) else f"names nothing: {error}"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            nonsense.in_environment("TF_CONFIG", None)
        found.add(problem and f"TF_CONFIG={given[:200]!r}: {problem}")
    folder.harmed()
    return found
