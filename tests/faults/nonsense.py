"""What is drawn for flags and settings: right values, nearly right ones, and nonsense."""

import contextlib
import os
import pathlib
import tempfile

import hypothesis
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

# Names of `precious.filled`'s files and folders, and of what is not there.
PLACES = (
    *("note.txt", "photo.png", "run", "run/student.keras", "run/teacher.keras", "run/recipe.json"),
    *("half", "noise.bin", "noise.keras", "noise.tflite", "noise.cache", "noise.json", "empty"),
    *("saved_model", "pictures", "teacher.cache", ".", "..", "/", "~", "/nowhere/x", "note.txt/x"),
    *("nowhere", "nowhere.keras", "nowhere/x.keras", "new.cache", "new.json", "new", "photo.json"),
    *("cut.keras", "run/labels.txt", "/dev/null", "link"),
)
WORDS = (
    *("", " ", "-", "--", "---", "=", "--epochs", "--help=", "--nowhere", "-1", "none", "None"),
    *("null", "auto", "all", "true", "False", ",", ",,", "a,,b", "crop,,flip", "crop,crop", "|"),
    *("folder:", "folder:.", "folder:/nowhere", "folder:note.txt", "folder:pictures", "Digits"),
    *("digits ", "%s", "{0}", "$HOME", "*", "'", '"', "\\", "`alpha`", "<b>", ";", "\n", "\t"),
    *("a\nb", "\x00", "\x1b[31m", "\x7f", "ü", "日本", "\u202eabc", "\udcff", "🙂", "\ufeff"),
    *("a" * 300, "a" * 10_000, "../" * 40, "x" * 254 + ".keras"),
)
NUMBERS = (
    *("0", "-0", "1", "2", "3", "-1", "0.5", "1.5", "1e3", "1e-3", "8/255", "8/0", "0/8", "/"),
    *("1/", "/1", "1/2/3", "nan", "-nan", "inf", "-inf", "NaN", "Infinity", "1e400", "-1e400"),
    *("1e-400", "1e308", "5e-324", "1e30", str(2**31 - 1), str(2**31), str(2**63), str(-(2**63))),
    *("1" * 30, "9" * 5000, "0x10", "0b1", "1_000", "１２", "½", "1,5", "1 000", " 7 ", "+3", "1e"),
)
# Of flags that name one thing of several: right ones, beside nonsense.
RIGHT = {
    "method": ("hinton", "dkd", "dist", "rkd", "crd", "mutual", "peer", "trades", "mtard"),
    "dataset": ("digits", "folder:pictures", "folder:empty", "folder:run", "mnist", "cifar"),
    "teacher": ("mlp", "resnet8", "run/teacher.keras", "run/student.keras", "noise.keras", "mlpp"),
    "student": ("mlp", "shufflenet_v2", "run/student.keras", "resnet9999", "VGG", "Model"),
    "augment": ("crop", "crop,flip", "mixup", "none", "color,cutout", "flip,crop", "flop"),
    "space": ("temperature=1:16:log", "alpha=0:0.9", "method=hinton|dkd", "weight_1=0:1", "x=1:2"),
    "objective": ("accuracy", "mixed", "pareto"),
    "storage": ("sqlite:///new.db", "sqlite:///note.txt", "sqlite:////nowhere/x.db", "redis://x"),
    "shard": ("1/4", "0/4", "5/4", "1/0", "1/1", "4/1000", "a/b", "1/99999999999"),
    "layers": ("logits", "dense", "relu,", ",", "nowhere"),
    "norm": ("linf", "l2", "l1"),
    "attack_norm": ("linf", "l2"),
    "suite": ("quick", "standard", "full", "quik"),
    "precision": ("float32", "int8", "all", "float16,", "float32,float32", "float64"),
    "formats": ("tflite", "saved_model", "onnx", "tflite,tflite", "tflite,", "h5"),
    "pixels": ("uint8", "int8", "float32", "uint16"),
    "corruptions": ("common", "pictures", "empty", "note.txt"),
    "views": ("all", "8", "0", "-1", "²", "1" * 30, "100000"),
    "quantize": ("none", "int8", "int4"),
    "optimizer": ("sgd", "adam", "adamw", "lion"),
    "schedule": ("cosine", "constant"),
    "perturbation": ("none", "gaussian"),
    "strategy": ("none", "mirrored", "multiworker"),
    "precision_policy": ("mixed_float16", "mixed_bfloat16", "float64"),
    "teacher_method": ("labels", "trades", "adversarial_training"),
    "term_weights": ("1", "1,2", "0", "-1", "nan", "1,,2", "1" * 400),
}


def values():
    """Text of any kind, as the value of a flag."""
    return st.one_of(
        st.sampled_from(PLACES),
        st.sampled_from(WORDS),
        st.sampled_from(NUMBERS),
        st.text(max_size=6),
    )


def numbers():
    """Text of numbers, or nearly."""
    return st.one_of(
        st.sampled_from(NUMBERS),
        st.integers(-9, 99).map(str),
        st.floats(width=32).map(repr),
    )


def of_flag(name, kind):
    """Values of a flag: of its own type as often as of any.

    Args:
        name: As in "alpha" of --alpha.
        kind: "int", "float", "bool" or "string", as absl calls it.
    """
    if kind == "bool":
        return st.one_of(st.sampled_from(("true", "false", "1", "0", "maybe", "2")), values())
    if kind in ("int", "float"):
        return st.one_of(numbers(), numbers(), values())
    own = st.sampled_from(RIGHT.get(name, PLACES))
    return st.one_of(own, own, values())


def drawn(strategy, count, seed):
    """List of at most `count` draws, the same for a seed; fewer only if there are no more."""
    found = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def draw(one):
        found.append(one)

    with _elsewhere():
        draw()
    return found[:count]


@contextlib.contextmanager
def _elsewhere():
    """A block in which hypothesis keeps its notes in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        set_hypothesis_home_dir(pathlib.Path(folder))
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)


def shown(words, most=160):
    """Words of a command line as Python shows them, long ones cut."""
    plain = [word.isascii() and word.isprintable() for word in words]
    text = " ".join(
        word if is_plain else ascii(word) for word, is_plain in zip(words, plain, strict=True)
    )
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def in_environment(name, value):
    """Sets an environment variable; None removes it."""
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
