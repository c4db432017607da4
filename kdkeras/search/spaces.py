"""The space of a search: which settings of a recipe vary, and within what."""

import dataclasses
import inspect
import itertools
import math
import re
import shlex
import typing

from kdkeras import arguments, methods
from kdkeras import recipe as recipes

# Those that change what a student learns, and neither what it is measured on nor for how long.
SEARCHED = (
    *("method", "teacher", "student", "student_width", "alpha", "temperature", "perturbation"),
    *("noise_stddev", "epsilon", "attack_steps", "attack_norm", "augment", "batch_size"),
    *("optimizer", "learning_rate", "weight_decay", "schedule", "warmup_epochs"),
)
# weight_1, weight_2, ...: of the method's terms.
WEIGHT = r"weight_([1-9]\d*)"
# So many combinations of choices are looked at to find those in which a setting is used.
COMBINATIONS = 1000


@dataclasses.dataclass(frozen=True)
class Entry:
    """One setting that varies: within a range, or among choices.

    Attributes:
        name: A name of `SEARCHED`, or weight_1, weight_2, ...
        text: As it was written.
        low, high: The range's ends; None for choices.
        log: Whether the range is looked at by its logarithm.
        choices: Tuple of the choices; None for a range.
    """

    name: str
    text: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple | None = None

    @property
    def ends(self):
        """The values by which to see whether the entry fits a recipe: its ends, or all choices."""
        return (self.low, self.high) if self.choices is None else self.choices

    def holds(self, value):
        """Whether a value is inside."""
        if self.choices is not None:
            return value in self.choices
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def suggested(self, trial):
        """A value that an Optuna trial proposes."""
        if self.choices is not None:
            return trial.suggest_categorical(self.name, self.choices)
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        value = trial.suggest_float(self.name, self.low, self.high, log=self.log)
        # People read and copy these numbers, and no training feels their fifth digit.
        return min(max(float(f"{value:.4g}"), self.low), self.high)


def parse(text):
    """The entries of a space, those with choices first: what is used may depend on them.

    Args:
        text: `name=low:high`, `name=low:high:log` or `name=a|b|c`, with spaces between.

    Raises:
        ValueError: An entry cannot be read; the message names it.

    Example:

    >>> [entry.name for entry in parse("temperature=1:16:log method=hinton|dkd")]
    ['method', 'temperature']
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"`space` cannot be read: {error}. Received: space={text!r}") from None
    if not words:
        raise ValueError(
            "`space` must name what to search, such as 'temperature=1:16:log alpha=0:0.9'. "
            f"Received: space={text!r}, with nothing to search."
        )
    entries = [_entry(word) for word in words]
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"`space` has '{name}' {names.count(name)} times. Give it once.")
    order = sorted(entries, key=lambda entry: (entry.choices is None, entry.name != "method"))
    return tuple(order)


def _entry(word):
    name, equals, written = word.partition("=")
    if not re.fullmatch(WEIGHT, name):
        _check_name(name)
    kinds = typing.get_args(_type(name)) or (_type(name),)
    if not equals or not written:
        raise _bad(word, f"expected {name}=low:high or {name}=a|b, and there is nothing to search")
    if re.search(r",\w+=", written):
        raise _bad(word, "between entries stands a space, no comma")
    if "|" in written:
        parts = written.split("|")
        if "" in parts:
            raise _bad(word, "a choice is empty")
        found = tuple(_value(word, part, kinds) for part in parts)
        if len(set(found)) < len(found):
            raise _bad(word, "a choice stands there twice")
        return Entry(name, word, choices=found)
    if str in kinds:
        raise _bad(word, f"expected choices, {name}=a|b. A setting that is fixed is no part of it")
    low, colon, rest = written.partition(":")
    high, second, log = rest.partition(":")
    if not colon or (second and log != "log"):
        raise _bad(word, f"expected {name}=low:high, {name}=low:high:log or {name}=a|b")
    low, high = (_value(word, part, kinds) for part in (low, high))
    if low > high:
        raise _bad(word, f"the range is inverted: did you mean {name}={high:g}:{low:g}?")
    if low == high:
        raise _bad(word, "the range is empty: both ends are the same")
    if log and low <= 0:
        raise _bad(word, f"a range on a log scale must begin above 0, and this one at {low:g}")
    return Entry(name, word, low, high, log=bool(log))


def _check_name(name):
    known = ", ".join(SEARCHED)
    if name in {field.name for field in dataclasses.fields(recipes.Recipe)} - set(SEARCHED):
        raise ValueError(f"'{name}' cannot be searched; in `space` may be {known}, weight_1, ...")
    if name not in SEARCHED:
        near = arguments.near_matches(name, SEARCHED)
        raise ValueError(
            f"`space` may have {known}, weight_1, weight_2, ... Received: '{name}'.{near}"
        )


def _value(word, part, kinds):
    if str in kinds:
        return part
    numerator, slash, denominator = part.partition("/")
    try:
        if int in kinds:
            return int(part)
        value = float(numerator) / float(denominator) if slash else float(part)
    except (ValueError, ZeroDivisionError):
        kind = "an integer" if int in kinds else "a number"
        raise _bad(word, f"expected {kind} where it has {part!r}") from None
    if not math.isfinite(value):
        raise _bad(word, f"expected finite numbers, not {part}")
    return value


def _bad(word, why):
    end = "" if why.endswith((".", "?")) else "."
    return ValueError(f"`space` has an entry that cannot be: {word!r}: {why}{end}")


def _type(name):
    types = {field.name: field.type for field in dataclasses.fields(recipes.Recipe)}
    return types.get(name, float)


def default(recipe):
    """The text of the space of those that give none: temperature, alpha and learning rate.

    Of temperature and alpha, those that the method has and the recipe leaves open.
    """
    has = inspect.signature(getattr(methods, recipe.method)).parameters
    ranges = {"temperature": "1:16:log", "alpha": "0:0.9"}
    found = [
        f"{name}={span}"
        for name, span in ranges.items()
        if name in has and getattr(recipe, name) is None
    ]
    rate = recipe.learning_rate
    return " ".join([*found, f"learning_rate={rate / 10:.4g}:{rate * 2:.4g}:log"])


def check_free(entries, recipe):
    """Refuses entries of settings that the recipe fixes.

    Args:
        entries: As of `parse`.
        recipe: `kdkeras.Recipe`, the settings that do not vary.

    Raises:
        ValueError: As said; the message names the entry.
    """
    for field in dataclasses.fields(recipe):
        given = getattr(recipe, field.name)
        if field.name in {entry.name for entry in entries} and given != field.default:
            raise ValueError(
                f"`{field.name}` is fixed and in `space` too: leave one out. Received: "
                f"{field.name}={given!r}"
            )


def check(entries, refusal):
    """Refuses values that no recipe of the space can have.

    Args:
        entries: As of `parse`.
        refusal: A function of a dict of settings: None, or why a recipe cannot have them.

    Raises:
        ValueError: As said; the message names the entry.
    """
    reached = [{}]
    for entry in entries:
        for value in entry.ends:
            said = [refusal({**settings, entry.name: value}) for settings in reached]
            if all(said):
                raise _bad(entry.text, f"{value} is refused: {said[0]}")
        if entry.choices is not None:
            reached = [
                further for settings in reached for further in _further(settings, entry, refusal)
            ]
            reached = list(itertools.islice(reached, COMBINATIONS))


def _further(settings, entry, refusal):
    if not is_used(settings, entry, refusal):
        return [settings]
    return [{**settings, entry.name: value} for value in entry.choices]


def is_used(settings, entry, refusal):
    """Whether an entry varies beside the settings that are chosen already."""
    return not any(refusal({**settings, entry.name: value}) for value in entry.ends)


def suggested(entries, trial, refusal):
    """The settings that an Optuna trial proposes, without those that nothing would look at.

    Args:
        entries, refusal: As of `check`.
        trial: `optuna.Trial`.

    Returns:
        Dict from names to values.
    """
    settings = {}
    for entry in entries:
        if is_used(settings, entry, refusal):
            settings[entry.name] = entry.suggested(trial)
    return settings
