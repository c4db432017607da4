"""Numbers and names as a report writes them."""

from kdkeras.report import plots

MINUS = "\u2212"
# How a model is drawn, in every plot alike.
LOOKS = {
    "teacher": {"color": plots.GREEN, "linestyle": "-.", "marker": "^"},
    "control": {"color": plots.VERMILLION, "linestyle": "--", "marker": "s"},
    "student": {"color": plots.BLUE, "linestyle": "-", "marker": "o"},
    "quantized": {"color": plots.PURPLE, "linestyle": ":", "marker": "D"},
}


def percent(share):
    """0.98333 as 98.33 %."""
    return f"{100.0 * share:.2f}\u00a0%"


def sure(probability):
    """A probability as %, never rounded to all or nothing."""
    if probability >= 0.9995:
        return "above 99.9\u00a0%"
    return f"{100.0 * probability:.1f}\u00a0%"


def points(difference, form="+.2f"):
    """A difference of shares in percentage points, with its sign."""
    text = format(100.0 * difference, form)
    return text.replace("-", MINUS) if float(text) else text.replace("-", "").replace("+", "")


def between(interval, form=points):
    """An interval, low to high."""
    low, high = interval
    return f"{form(low)} to {form(high)}"


def probability(p):
    """A p value: three digits, and never 0."""
    return "below 0.001" if p < 0.001 else f"= {p:.2g}" if p < 0.995 else "= 1"


def seconds(value):
    """A wall time."""
    if value < 60.0:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def kilobytes(count):
    """A file's size."""
    return f"{count / 1e3:,.0f} KB"


def short(name, most=14):
    """A name that fits beside a plot."""
    return name if len(name) <= most else name[: most - 1] + "\u2026"


def listed(names):
    """a, b and c."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
