"""The command line: `kdkeras COMMAND --flag=value ...`."""

import dataclasses
import os
import pathlib
import re
import sys
import textwrap

from absl import flags, logging

import kdkeras
from kdkeras import arguments, noise, versions
from kdkeras import recipe as recipes
from kdkeras.cli import stopping
from kdkeras.cli.known import CACHE_FLAGS, COMMANDS, DATA_FLAGS, FLAGS, HELP, POSITIONAL


def main(arguments_given=None):
    """Runs a command and returns its exit status.

    0: done; 1: it failed; 2: wrong use; 130: stopped by Ctrl-C; 143: by SIGTERM.

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
        _, *words = _read(values, [command, *rest])
        if words and command not in POSITIONAL:
            raise flags.Error(f"Flags are written --name=value. Received: {' '.join(words)}")
        settings = values.flag_values_dict()
        if settings.get("overwrite") and settings.get("resume"):
            raise flags.Error(
                "Give --overwrite or --resume, not both: one starts anew, one goes on."
            )
        if command in ("distill", "train"):
            settings = _recipe(values)
        if command == "search":
            settings["recipe"] = _recipe(values)
    except (flags.Error, ValueError, OSError) as error:
        known = f"{command} " if command in COMMANDS else ""
        message = f"kdkeras: {_in_flags(error)}\nTry: kdkeras {known}--help"
        print(message, file=sys.stderr)
        return 2
    try:
        versions.check()
    except ImportError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        with stopping.terminable():
            return _run(command, settings, words)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"kdkeras {command}: {_in_flags(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        on = stopping.how_to_go_on(command, settings)
        print(f"\nkdkeras: stopped. {on}", file=sys.stderr)
        return stopping.status(stop)


def _run(command, settings, words):
    if command in ("distill", "train") and settings.verbose:
        from kdkeras import commands
    else:
        commands = _quietly_imported()
    import tensorflow as tf

    from kdkeras import determinism

    recipe = settings if command in ("distill", "train") else settings.get("recipe")
    if recipe is None or recipe.deterministic:
        determinism.turn_on()
    carry_out = {
        "evaluate": commands.evaluate,
        "attack": commands.attack,
        "certify": commands.certify,
        "predict": commands.predict,
        "export": commands.export,
        "quantize": commands.quantize,
        "cache": commands.cache,
        "report": commands.report,
        "search": commands.search,
    }
    try:
        if command in ("distill", "train"):
            return commands.train(command, settings)
        return carry_out[command](settings, words)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise RuntimeError(
            "there is not enough memory. Halve `batch_size` or `image_size`; `views` (8, say) "
            f"trains without the teacher in it. What failed: {str(error).partition(chr(10))[0]}"
        ) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if recipe is None or recipe.strategy != "multiworker":
            raise
        raise RuntimeError(
            "another worker cannot be reached, or has ended. Give each worker its command again, "
            f"with --resume. TensorFlow says: {error.message.splitlines()[0]}"
        ) from error
    except tf.errors.UnimplementedError as error:
        if "eterminis" not in error.message:
            raise
        raise RuntimeError(
            "an operation cannot give the same bits each time on this device: give "
            f"--nodeterministic. TensorFlow says: {error.message.splitlines()[0]}"
        ) from error


def _quietly_imported():
    """The commands, without TensorFlow's chatter, then or later."""
    # Read once, when TensorFlow is loaded; and some of its chatter is written before it is read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with noise.hushed():
        import tensorflow as tf

        from kdkeras import commands
    # Three models trained in a row look to TensorFlow like one traced again and again; and what
    # tensorflow_datasets says through absl is for its developers.
    tf.get_logger().setLevel("ERROR")
    logging.set_verbosity(logging.ERROR)
    return commands


def _define(command):
    """The flags of a command, as an absl `FlagValues`."""
    values = flags.FlagValues()
    for field in dataclasses.fields(recipes.Recipe):
        wanted = {
            "distill": True,
            "train": field.metadata["teacher"],
            "search": field.name != "seeds",
            "cache": field.name in CACHE_FLAGS,
            **dict.fromkeys(("attack", "certify"), field.name in DATA_FLAGS),
        }
        if wanted.get(command, False):
            text = HELP.get(command, {}).get(field.name, field.metadata["help"])
            _define_one(field.name, field.default, field.type, text, values)
    for flag in FLAGS.get(command, ()):
        _define_one(*flag, values)
    return values


def _read(values, given):
    """Sets flags to what is given, and returns the words that are none."""
    try:
        words = values(given)
    except UnicodeDecodeError as error:
        raise ValueError("--flagfile must name text in UTF-8, and what it names is not.") from error
    # Which no path can hold; only a file of flags can say it.
    if any("\0" in str(word) for word in (*words, *values.flag_values_dict().values())):
        raise ValueError("Flags must be text without NUL characters. Received: one with them.")
    return words


def _define_one(name, default, kind, text, values):
    if kind is bool:
        flags.DEFINE_bool(name, default, text, flag_values=values)
    elif isinstance(0, kind):
        flags.DEFINE(_Integer(), name, default, text, flag_values=values)
    elif isinstance(0.0, kind):
        flags.DEFINE(_Number(), name, default, text, flag_values=values)
    else:
        flags.DEFINE_string(name, default, text, flag_values=values)


class _Integer(flags.IntegerParser):
    """Integers, and else what was expected, in plain words."""

    def convert(self, argument):
        try:
            return super().convert(argument)
        except ValueError:
            raise ValueError("an integer is expected") from None


class _Number(flags.FloatParser):
    """Numbers, and fractions such as 8/255."""

    def convert(self, argument):
        numerator, slash, denominator = str(argument).partition("/")
        try:
            return float(numerator) / float(denominator) if slash else super().convert(argument)
        except ZeroDivisionError as error:
            raise ValueError("it divides by 0") from error
        except ValueError:
            raise ValueError("a number is expected, such as 0.03 or 8/255") from None


def _recipe(values):
    """The recipe that the flags ask for; with --resume, what they leave out is the stored run's."""
    names = [field.name for field in dataclasses.fields(recipes.Recipe) if field.name in values]
    settings = {name: values[name].value for name in names}
    if settings.get("resume") and settings["workdir"]:
        stored = pathlib.Path(settings["workdir"]) / "recipe.json"
        of_this_call = ("overwrite", "quiet", "verbose")
        if stored.exists():
            before = recipes.read(stored).to_dict()
            unsaid = [name for name in names if not values[name].present]
            settings.update({name: before[name] for name in unsaid if name not in of_this_call})
        elif not any(
            values[name].present
            for name in values
            if name not in (*of_this_call, "resume", "workdir")
        ):
            raise flags.Error(
                f"--resume needs a run to go on with. Received: --workdir={settings['workdir']}, "
                "where none is. To begin one, give its settings."
            )
    return recipes.Recipe(**settings)


def _in_flags(error):
    """An error's message with Python's arguments written as the flags that they came from."""
    text = re.sub(r"([a-z_]+)=True", r"--\1", _said(error))
    names = {field.name for field in dataclasses.fields(recipes.Recipe)}
    names |= {name for of_command in FLAGS.values() for name, *_ in of_command}
    flag = {"name": "dataset", "names": "augment"} | {name: name for name in names}
    return re.sub(r"`([a-z_]+)`", lambda m: f"--{flag[m[1]]}" if m[1] in flag else m[0], text)


def _said(error):
    """An error's message; of the system's own about a file, in words."""
    if isinstance(error, flags.CantOpenFlagFileError):
        return re.sub(r"^.*\[Errno \d+\] ", "--flagfile cannot be read: ", str(error))
    if not isinstance(error, OSError) or not error.errno:
        return str(error)
    if error.filename is None:
        return error.strerror  # a sentence of ours, or the system's
    return f"{str(error.filename)!r} cannot be used: {error.strerror}. Check the path."


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
        default = f"{flag.default:.4g}" if isinstance(flag.default, float) else flag.default
        default = "" if default is None else f" (default: {default})"
        lines.append(f"  --{name}{default}")
        lines.append(
            textwrap.fill(flag.help, 78, initial_indent=" " * 6, subsequent_indent=" " * 6)
        )
    return "\n".join(lines)
