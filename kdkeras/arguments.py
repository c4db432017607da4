"""Checks of arguments: each raises a `ValueError` saying what was received and how to mend it."""

import difflib
import math
import numbers

# Of float32, with room; and of temperatures, whose square multiplies a loss.
SMALLEST, LARGEST = 1e-37, 1e38
COLDEST, HOTTEST = 1e-18, 1e18


def number(name, value, *, low=-math.inf, high=math.inf, expected="a finite number"):
    """Returns `value` as a float if it is a finite number in [low, high]."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(_float(value)) or not low <= value <= high:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    return float(value)


def _float(value):
    try:
        return float(value)
    except OverflowError:  # an integer that is larger than any float
        return math.inf


def integer(name, value, low=None):
    """Returns `value` as an int if it is an integer of at least `low`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or (low is not None and value < low):
        at_least = "" if low is None else f" of at least {low}"
        raise ValueError(f"`{name}` must be an integer{at_least}. Received: {name}={value!r}")
    return int(value)


def positive(name, value):
    """Returns `value` as a float if it is above 0 and float32 can hold it."""
    return _between(name, _above_0(name, value), SMALLEST, LARGEST)


def temperature(name, value):
    """Returns `value` as a float if it is above 0 and float32 can hold its square."""
    return _between(name, _above_0(name, value), COLDEST, HOTTEST)


def _above_0(name, value):
    return number(name, value, low=math.nextafter(0.0, 1.0), expected="positive and finite")


def _between(name, value, low, high):
    return number(name, value, low=low, high=high, expected=f"in {low:g} ... {high:g}")


def nonnegative(name, value):
    """Returns `value` as a float if it is at least 0 and float32 can hold it."""
    found = number(name, value, low=0.0, expected="a finite number, at least 0")
    return _between(name, found, 0.0, LARGEST)


def fraction(name, value):
    """Returns `value` as a float if it lies in [0, 1]."""
    return number(name, value, low=0.0, high=1.0, expected="a number in [0, 1]")


def optional_text(name, value):
    """Returns `value` if it is a string or None."""
    if not isinstance(value, str | None):
        raise ValueError(f"`{name}` must be a string or None. Received: {name}={value!r}")
    return value


def near_matches(value, choices):
    """The end of an error message: ' Did you mean ...?', or nothing when nothing is near."""
    folded = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(value).lower(), folded, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(folded[match]) for match in near)}?" if near else ""


def one_of(name, value, choices):
    """Returns `value` if it is one of `choices` (strings)."""
    if value not in choices:
        near = near_matches(value, choices)
        # With a near match at hand, a long list would only bury it.
        listed = ", ".join(map(repr, choices))
        if near and len(choices) > 8:
            listed = f"{len(choices)} known names, such as {choices[0]!r}"
        raise ValueError(f"`{name}` must be one of {listed}. Received: {name}={value!r}.{near}")
    return value
