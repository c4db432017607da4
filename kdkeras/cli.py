"""The command line: `kdkeras COMMAND --flag=value ...`."""

import dataclasses
import os
import pathlib
import re
import sys
import textwrap

from absl import flags, logging

import kdkeras
from kdkeras import arguments, noise
from kdkeras import recipe as recipes

COMMANDS = {
    "distill": (
        "Train or load a teacher, train the control and the student, test all, export the student.",
        "kdkeras distill --dataset=digits --temperature=4 --alpha=0.1 --workdir=runs/digits",
    ),
    "train": (
        "Train a teacher alone.",
        "kdkeras train --dataset=digits --teacher=resnet20 --workdir=runs/teacher",
    ),
    "cache": (
        "Record what a teacher says of the training images, for students to learn from.",
        "kdkeras cache --dataset=digits --teacher=runs/digits/teacher.keras --views=8 "
        "--output=teacher.cache",
    ),
    "evaluate": (
        "Test model files (.keras, .tflite, SavedModel folders) on a dataset's test split.",
        "kdkeras evaluate runs/digits/student.keras runs/digits/export/student.tflite "
        "--teacher=runs/digits/teacher.keras --dataset=digits",
    ),
    "predict": (
        "Say the class and probability of pictures.",
        "kdkeras predict photo1.png photo2.jpg --model=runs/digits/export/student.tflite",
    ),
    "export": (
        "Write a student as SavedModel and .tflite, each compared with it.",
        "kdkeras export --model=runs/digits/student.keras --output=exported --precision=float16",
    ),
}
POSITIONAL = {"evaluate": "MODEL ...", "predict": "PICTURE ..."}
DATA_FLAGS = ("dataset", "data_dir", "download", "image_size")
CACHE_FLAGS = (*DATA_FLAGS, "max_train", "augment", "views", "seed", "overwrite", "verbose")
# What flags mean where that differs from a recipe's.
HELP = {
    "cache": {
        "views": "how many views of each picture, 8 unless given; or all, of crops and flips",
        "seed": "seed of the views, and of the choice of images under --max_train",
        "overwrite": "replace another cache that stands there",
    }
}


def main(arguments_given=None):
    """Runs a command and returns its exit status: 0, 1 (it failed), 2 (wrong use), 130 (stopped).

    Args:
        arguments_given: List of strings; those of the process unless given.
    """
    given = list(sys.argv[1:] if arguments_given is None else arguments_given)
    if not given or given[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0
    if given[0] == "--version":
        print(kdkeras.__version__)
        return 0
    command, *rest = given
    try:
        arguments.one_of("command", command, tuple(COMMANDS))
        values = _define(command)
        if any(word in ("--help", "-h", "--helpfull", "-help") for word in rest):
            print(_help(command, values))
            return 0
        _, *words = values([command, *rest])
        if words and command not in POSITIONAL:
            raise flags.Error(f"Flags are written --name=value. Received: {' '.join(words)}")
        settings = values.flag_values_dict()
        if command in ("distill", "train"):
            settings = _recipe(values)
    except (flags.Error, ValueError, OSError) as error:
        known = f"{command} " if command in COMMANDS else ""
        message = f"kdkeras: {_in_flags(error)}\nTry: kdkeras {known}--help"
        print(message, file=sys.stderr)
        return 2
    try:
        return _run(command, settings, words)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"kdkeras {command}: {_in_flags(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        on = ""
        if command in ("distill", "train"):
            on = f" To go on: kdkeras {command} --resume --workdir='{settings.directory}'"
        if command == "cache":
            on = " The same command goes on."
        print(f"\nkdkeras: stopped.{on}", file=sys.stderr)
        return 130


def _run(command, settings, words):
    # Read once, when TensorFlow is loaded; and some of its chatter is written before it is read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with noise.hushed():
        import tensorflow as tf

        from kdkeras import commands
    # Three models trained in a row look to TensorFlow like one traced again and again; and what
    # tensorflow_datasets says through absl is for its developers.
    tf.get_logger().setLevel("ERROR")
    logging.set_verbosity(logging.ERROR)
    if command in ("distill", "train"):
        return commands.train(command, settings)
    return {
        "evaluate": commands.evaluate,
        "predict": commands.predict,
        "export": commands.export,
        "cache": commands.cache,
    }[command](settings, words)


def _define(command):
    """The flags of a command, as an absl `FlagValues`."""
    values = flags.FlagValues()
    for field in dataclasses.fields(recipes.Recipe):
        wanted = {
            "distill": True,
            "train": field.metadata["teacher"],
            "evaluate": field.name in DATA_FLAGS,
            "cache": field.name in CACHE_FLAGS,
        }
        if wanted.get(command, False):
            text = HELP.get(command, {}).get(field.name, field.metadata["help"])
            _define_one(field.name, field.default, field.type, text, values)
    texts = {
        "evaluate": [("teacher", None, "a model file to compare with: agreement and KL")],
        "cache": [
            ("teacher", None, "the teacher's .keras file"),
            ("output", "teacher.cache", "the file to write"),
            ("shard", None, "i/n: fill part i of n only; the last of n processes joins the parts"),
            ("layers", None, "comma list of the teacher's layers to record as well"),
        ],
        "predict": [
            ("model", None, "the model file: .keras, .tflite or a SavedModel folder"),
            (
                "labels",
                None,
                "text file, a class name a line; labels.txt near the model if not given",
            ),
        ],
        "export": [
            ("model", None, "the student's .keras file; student.keras of --workdir if not given"),
            ("output", None, "folder to write to; export/ of --workdir if not given"),
            ("workdir", None, "a run's work directory; compares on its test images"),
            ("precision", "float32", "of the .tflite: float32, float16 or dynamic (8-bit weights)"),
            ("formats", "saved_model,tflite", "comma list of what to write"),
        ],
    }
    for name, default, text in texts.get(command, []):
        _define_one(name, default, str, text, values)
    if command == "predict":
        _define_one("top", 3, int, "how many classes to name for each picture", values)
    if command == "cache":
        text = "pictures that the teacher sees at a time"
        _define_one("batch_size", 256, int, text, values)
    if command == "export":
        _define_one("overwrite", False, bool, "replace exports that are already there", values)
    return values


def _define_one(name, default, kind, text, values):
    if kind is bool:
        flags.DEFINE_bool(name, default, text, flag_values=values)
    elif isinstance(0, kind):
        flags.DEFINE_integer(name, default, text, flag_values=values)
    elif isinstance(0.0, kind):
        flags.DEFINE_float(name, default, text, flag_values=values)
    else:
        flags.DEFINE_string(name, default, text, flag_values=values)


def _recipe(values):
    """The recipe that the flags ask for; with --resume, what they leave out is the stored run's."""
    names = [field.name for field in dataclasses.fields(recipes.Recipe) if field.name in values]
    settings = {name: values[name].value for name in names}
    if settings["resume"] and settings["workdir"]:
        stored = pathlib.Path(settings["workdir"]) / "recipe.json"
        if stored.exists():
            before = recipes.read(stored).to_dict()
            unsaid = [name for name in names if not values[name].present]
            settings.update({name: before[name] for name in unsaid if name != "overwrite"})
    return recipes.Recipe(**settings)


def _in_flags(error):
    """An error's message with Python's arguments written as the flags that they came from."""
    text = re.sub(r"([a-z_]+)=True", r"--\1", str(error))
    names = {field.name for field in dataclasses.fields(recipes.Recipe)}
    names |= {"model", "output", "precision", "formats", "labels", "top", "shard", "layers"}
    flag = {"name": "dataset", "names": "augment"} | {name: name for name in names}
    return re.sub(r"`([a-z_]+)`", lambda m: f"--{flag[m[1]]}" if m[1] in flag else m[0], text)


def _overview():
    lines = ["kdkeras: knowledge distillation for Keras.", "", "Usage: kdkeras COMMAND [flags]", ""]
    lines += [f"  {name:<10}{summary}" for name, (summary, _) in COMMANDS.items()]
    lines += ["", "kdkeras COMMAND --help explains a command's flags. For a first run:", ""]
    return "\n".join([*lines, "  kdkeras distill --dataset=digits"])


def _help(command, values):
    summary, example = COMMANDS[command]
    usage = f"kdkeras {command} {POSITIONAL.get(command, '')}".rstrip()
    wrapped = textwrap.wrap(example, 74, break_long_words=False, break_on_hyphens=False)
    lines = [summary, "", f"Usage: {usage} [--flag=value ...]", "", "Example:"]
    lines.append("  " + " \\\n      ".join(wrapped))
    lines += ["", "Flags (--flagfile=FILE reads them from a file, one a line; --noNAME is false):"]
    for name in values:
        flag = values[name]
        default = "" if flag.default is None else f" (default: {flag.default})"
        lines.append(f"  --{name}{default}")
        lines.append(
            textwrap.fill(flag.help, 78, initial_indent=" " * 6, subsequent_indent=" " * 6)
        )
    return "\n".join(lines)
