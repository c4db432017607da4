"""Plots that stand in a page: text that is text, colours that follow light and dark."""

import html
import io
import re

from kdkeras.report import page

# The palette is Okabe and Ito's, which colour-blind people can tell apart; in the page each colour
# is a little darker on white and lighter on black. Black is the text's colour, white the page's.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, OCHRE, GREY, HEAT = "#56b4e9", "#e69f00", "#999999", "#00508c"
INK, PAPER, SOFT, LINE = "#000000", "#ffffff", "#5a626e", "#dde1e7"
IN_PAGE = {
    INK: "currentColor",
    PAPER: "var(--paper)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    "#cccccc": "var(--line)",  # of a legend's frame
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    PURPLE: "var(--purple)",
    SKY: "var(--sky)",
    OCHRE: "var(--ochre)",
    GREY: "var(--grey)",
    HEAT: "var(--heat)",
}
# Lines in turn: they differ in dash and marker too.
SERIES = (
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": VERMILLION, "linestyle": "--", "marker": "s"},
    {"color": GREEN, "linestyle": "-.", "marker": "^"},
    {"color": PURPLE, "linestyle": ":", "marker": "D"},
    {"color": SKY, "linestyle": (0, (5, 1)), "marker": "v"},
    {"color": OCHRE, "linestyle": (0, (3, 1, 1, 1, 1, 1)), "marker": "P"},
    {"color": GREY, "linestyle": (0, (1, 3)), "marker": "X"},
)
STYLE = {
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib's own, by which it measures; none is narrower
    "font.size": 12.0,
    "axes.labelsize": 12.0,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "svg.fonttype": "none",
    "svg.hashsalt": "kdkeras",
    "text.parse_math": False,
}
# Points an inch: a size in points is one in CSS pixels.
POINTS = 72.0
# What matplotlib would say of when and by what a plot was made.
UNSAID = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def key(drawn, columns=3):
    """The legend of a figure, below it."""
    drawn.legend(
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=11,
        handlelength=2.4,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def titled(axes, words):
    """The title of a plot, at its left."""
    axes.set_title(words, loc="left", fontsize=13, fontweight="bold", pad=9)


def figure(width, height):
    """A matplotlib `Figure` in the house style.

    Args:
        width, height: In CSS pixels. Up to 360 wide, a plot stands in a phone as it is.

    Example:

    >>> drawn = figure(350, 240)
    >>> drawn.subplots().plot([1, 2], [3, 4], **SERIES[0])
    >>> svg(drawn, "Accuracy rises from 3 to 4.")
    """
    # Not pyplot, which keeps a global state and looks for a display.
    import matplotlib
    from matplotlib.figure import Figure

    class Styled(Figure):
        def add_subplot(self, *args, **kwargs):
            with matplotlib.rc_context(STYLE):
                return super().add_subplot(*args, **kwargs)

    size = (width / POINTS, height / POINTS)
    return Styled(figsize=size, dpi=POINTS, layout="constrained", facecolor="none")


def svg(drawn, alt):
    """A figure as a block of a page: SVG that follows light and dark.

    Args:
        drawn: What `figure` gave, drawn upon. Its colours are best those of this module.
        alt: What it shows, with its numbers, for those who do not see it.

    Returns:
        A `page.Block`, the same for the same figure.
    """
    import matplotlib
    from matplotlib.text import Text

    for one in drawn.findobj(Text):
        one.set_parse_math(False)  # a class may be called "$a$"
    written = io.StringIO()
    with matplotlib.rc_context(STYLE):
        drawn.savefig(written, format="svg", metadata=UNSAID)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.S)
    text = re.sub("<[^>]*>", lambda tag: _follow(tag[0]), text)
    text = re.sub(r"<defs>\s*</defs>", "", _few_ids(text))
    text = re.sub(r"\n\s*", "\n", text)
    width, height = (round(POINTS * size) for size in drawn.get_size_inches())
    least = min(width, 360)
    opening = (
        f'<svg role="img" aria-label="{html.escape(alt)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" style="max-width:100%;min-width:{least * 0.85:.0f}px">'
    )
    return page.Block(re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1).strip())


def _follow(tag):
    """A tag with the page's colours, and links within it as HTML writes them."""
    tag = re.sub(r"#[0-9a-f]{6}\b", lambda color: IN_PAGE.get(color[0], color[0]), tag)
    return tag.replace("xlink:href=", "href=")


def _few_ids(text):
    """Without the ids that nothing refers to; the others short, for `page` to make its own."""
    used = sorted(set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)))
    names = {one or other: f"p{number}" for number, (one, other) in enumerate(used)}

    def renamed(tag):
        tag = re.sub(
            r' id="([^"]*)"',
            lambda found: f' id="{names[found[1]]}"' if found[1] in names else "",
            tag[0],
        )
        tag = re.sub(r'href="#([^"]+)"', lambda found: f'href="#{names[found[1]]}"', tag)
        return re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{names[found[1]]})", tag)

    return re.sub("<[^>]*>", renamed, text)
