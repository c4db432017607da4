"""How training went: validation by epoch, and the student's terms."""

import math

from kdkeras.report import page, plots, words

# Columns of a log that are not a term of the loss.
KNOWN = ("epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate")


def part(run):
    """The curves, or None for a run without logs."""
    blocks = figures(run)
    return page.part("How training went", *blocks) if blocks else None


def figures(run):
    """Validation accuracy and loss by epoch, and the student's terms."""
    logs = {role: log for role, log in run.logs.items() if "val_accuracy" in log}
    if not logs:
        return []
    panels = [_accuracy(run, logs), _loss(run, logs)]
    terms = _terms(run)
    said = (
        "By epoch, on the validation images. A ring marks the epoch that was kept, the best by "
        "validation; who is best on so few images may be chance."
    )
    if terms is not None:
        panels.append(terms)
        said += " The student's terms are of the training images, before they are weighted."
    return [page.figure([panel for panel in panels if panel is not None], said)]


def _accuracy(run, logs):
    figure, axes = _panel("Validation accuracy, %")
    bests = []
    for role, log in logs.items():
        values = [100.0 * value for value in log["val_accuracy"]]
        epochs, look = _epochs(log), words.LOOKS[role]
        axes.plot(epochs, values, label=role, linewidth=1.8, markersize=3.5, **look)
        best = run.results["models"][role]["training"].get("best_epoch")
        if best is not None and best <= len(values):
            _ring(axes, best, values[best - 1], look)
            bests.append(f"{role} {values[best - 1]:.2f} % at epoch {best} of {len(values)}")
    plots.key(figure)
    return plots.svg(figure, f"Validation accuracy at the kept epoch: {'; '.join(bests)}.")


def _loss(run, logs):
    figure, axes = _panel("Validation loss")
    ends = []
    for role, log in logs.items():
        values, look = log.get("val_loss", []), words.LOOKS[role]
        if not any(map(math.isfinite, values)):
            continue
        axes.plot(_epochs(log), values, label=role, linewidth=1.8, markersize=3.5, **look)
        best = run.results["models"][role]["training"].get("best_epoch")
        if best is not None and best <= len(values):
            _ring(axes, best, values[best - 1], look)
        ends.append(f"{role} {values[0]:.3g} to {values[-1]:.3g}")
    if not ends:
        return None
    _logarithmic(axes)
    plots.key(figure)
    return plots.svg(figure, f"Validation loss from the first epoch to the last: {'; '.join(ends)}")


def _terms(run):
    log = run.logs.get("student", {})
    names = [name for name in log if name not in KNOWN and not name.startswith("val_")]
    names = [name for name in names if any(map(math.isfinite, log[name]))]
    if not names:
        return None
    figure, axes = _panel("The student's terms (training)")
    for name, look in zip(names, plots.SERIES, strict=False):
        axes.plot(_epochs(log), log[name], label=name, linewidth=1.8, markersize=3.5, **look)
    _logarithmic(axes)
    plots.key(figure)
    ends = [f"{name} {log[name][0]:.3g} to {log[name][-1]:.3g}" for name in names]
    return plots.svg(figure, f"The student's terms, first epoch to last: {'; '.join(ends)}.")


def _panel(title):
    from matplotlib.ticker import MaxNLocator

    figure = plots.figure(300, 250)
    axes = figure.subplots()
    plots.titled(axes, title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return figure, axes


def _epochs(log):
    return range(1, len(log["val_accuracy"]) + 1)


def _ring(axes, epoch, value, look):
    axes.plot(
        [epoch],
        [value],
        color=look["color"],
        marker="o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor=look["color"],
        markeredgewidth=1.6,
        clip_on=False,
    )


def _logarithmic(axes):
    """A logarithmic scale where everything that is drawn is positive."""
    values = [value for line in axes.lines for value in line.get_ydata() if math.isfinite(value)]
    if min(values) <= 0.0:
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    spread = max(values) / min(values)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if spread > 100 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
