"""Square matrices over classes as heat maps."""

import numpy as np

from kdkeras.report import plots, words

# Above so many classes, a table of what is largest says more.
MOST = 20
# Where ink can still be read on it, on light paper and on dark.
STRONGEST = 0.55


def heat(values, classes, *, title, axes_titles, form, alt, below=None, pale=False):
    """A heat map, as a block.

    Args:
        values: Array `(classes, classes)`, rows downward.
        classes: Names.
        title: Above the map.
        axes_titles: Pair: of the rows, of the columns.
        form: Function from a value to the text of its cell.
        alt: What it shows.
        below: Colour of negative values; positive ones have that of heat.
        pale: The diagonal is left out of the scale, and hardly coloured.
    """
    count = len(classes)
    figure = plots.figure(*_size(count))
    axes = figure.subplots()
    scaled = np.array(values, "float64")
    diagonal = np.diag(scaled).copy()
    if pale:
        np.fill_diagonal(scaled, 0.0)
    largest = np.abs(scaled).max() or 1.0
    for row in range(count):
        for column in range(count):
            value = scaled[row, column]
            if pale and row == column:
                _cell(axes, row, column, plots.GREY, 0.18)
            elif value:
                color = plots.HEAT if value > 0 or below is None else below
                _cell(axes, row, column, color, STRONGEST * (0.15 + 0.85 * abs(value) / largest))
            else:
                _cell(axes, row, column, plots.GREY, 0.06)
            said = form(diagonal[row] if row == column else value)
            if said:
                size = min(11.0, 210.0 / count)
                axes.text(column, row, said, ha="center", va="center", fontsize=size)
    names = [words.short(name, 12) for name in classes]
    turned = 90 if max(map(len, names)) > 2 else 0
    axes.set_xticks(range(count), names, rotation=turned)
    axes.set_yticks(range(count), names)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_ylabel(axes_titles[0])
    axes.set_xlabel(axes_titles[1])
    plots.titled(axes, title)
    return plots.svg(figure, alt)


def largest(values, count):
    """Positions (row, column) off the diagonal of the largest positive values, largest first."""
    values = np.array(values, "float64")
    np.fill_diagonal(values, 0.0)
    order = np.argsort(-values, axis=None, kind="stable")[:count]
    pairs = [divmod(int(one), values.shape[1]) for one in order]
    return [pair for pair in pairs if values[pair] > 0.0]


def _size(count):
    side = 350 if count <= 10 else 350 + 17 * (count - 10)
    return side, side


def _cell(axes, row, column, color, alpha):
    from matplotlib.patches import Rectangle

    place = (column - 0.47, row - 0.47)
    axes.add_patch(Rectangle(place, 0.94, 0.94, facecolor=color, alpha=alpha, linewidth=0))
