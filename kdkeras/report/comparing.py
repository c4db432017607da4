"""Several runs beside one another."""

import numpy as np

from kdkeras import evaluation
from kdkeras.report import page, plots, provenance, reading, words


def check(runs):
    """Refuses runs that cannot be compared.

    Args:
        runs: List of `reading.Run` or `reading.Repeats`.

    Raises:
        ValueError: They are of different datasets, class orders or test images, or one has no
            student; the message names both.
    """
    singles = [_first(run) for run in runs]
    for run, single in zip(runs, singles, strict=True):
        if "student" not in single.logits:
            raise ValueError(
                f"Runs are compared by their students. Received: '{run.path}', which has none."
            )
    first = singles[0]
    for run, other in zip(runs[1:], singles[1:], strict=True):
        differing = _difference(first, other)
        if differing:
            raise ValueError(
                f"Runs must be of the same test images to be compared. Received: '{runs[0].path}' "
                f"and '{run.path}', which differ in {differing}. Write a report of each."
            )


def _difference(first, other):
    if first.recipe["dataset"] != other.recipe["dataset"]:
        return f"their dataset: {first.recipe['dataset']!r} and {other.recipe['dataset']!r}"
    if first.classes != other.classes:
        pairs = zip(first.classes, other.classes, strict=False)
        for index, (one, two) in enumerate(pairs):
            if one != two:
                return f"their class {index}: {one!r} and {two!r}"
        return f"their number of classes: {len(first.classes)} and {len(other.classes)}"
    if not np.array_equal(first.ids, other.ids):
        return f"the ids of their test images ({len(first.ids)} and {len(other.ids)})"
    if not np.array_equal(first.labels, other.labels):
        return "the labels of their test images"
    return None


def names(paths):
    """The shortest ends of paths that tell them apart."""
    for depth in range(1, max(len(path.absolute().parts) for path in paths) + 1):
        names = ["/".join(path.absolute().parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ValueError(
        "`paths` must be different runs. Received: " + ", ".join(f"'{path}'" for path in paths)
    )


def parts(runs, names):
    """The comparison's parts of a page.

    Args:
        runs: List of `reading.Run` or `reading.Repeats`.
        names: What to call them.
    """
    singles = [_first(run) for run in runs]
    blocks = [page.figure(_dots(runs, names), _caption(runs)), _table(runs, names)]
    paired = [run for run in runs if isinstance(run, reading.Run)]
    if len(paired) == len(runs):
        blocks.append(_paired(singles, names))
    return [
        page.part("The students beside one another", *blocks),
        page.part("What differs between their recipes", _recipes(runs, names)),
    ]


def summary(runs, names):
    """Which run's student is best, and whether that can be told from the second."""
    accuracies = [_accuracy(run) for run in runs]
    order = np.argsort([-accuracy for accuracy, _ in accuracies], kind="stable")
    best, second = (int(one) for one in order[:2])
    said = (
        f"The student of {names[best]} is right on {words.percent(accuracies[best][0])}, that of "
        f"{names[second]} on {words.percent(accuracies[second][0])}"
    )
    repeated = [isinstance(runs[i], reading.Repeats) for i in (best, second)]
    if any(repeated):
        over = (
            "each on average over its seeds"
            if all(repeated)
            else "the one with several seeds on average"
        )
        (low, high), (other_low, other_high) = (accuracies[i][1] or (0.0, 1.0) for i in order[:2])
        if low <= other_high and other_low <= high:
            return f"{said}, {over}; their intervals overlap: no difference can be told."
        return f"{said}, {over}; their intervals do not overlap."
    found = evaluation.compare(
        runs[best].labels, runs[best].logits["student"], runs[second].logits["student"]
    )
    told = f"95 % interval {words.between(found['interval'])}, McNemar p " + words.probability(
        found["p"]
    )
    low, high = found["interval"]
    count = f"{len(runs[best].labels):,} test images"
    if low <= 0.0 <= high:
        return f"{said}; from {count} no difference of the two can be told ({told})."
    return f"{said}, {words.points(found['difference'], '.2f')} points more of {count} ({told})."


def _first(run):
    return run.runs[0] if isinstance(run, reading.Repeats) else run


def _accuracy(run):
    """The student's accuracy and its interval, or None."""
    if isinstance(run, reading.Repeats):
        across = run.results["models"]["student"]["test"]["accuracy"]
        return across["mean"], across["interval"]
    right = int((run.logits["student"].argmax(axis=-1) == run.labels).sum())
    return right / len(run.labels), evaluation.wilson(right, len(run.labels))


def _value(run, key):
    if isinstance(run, reading.Repeats):
        across = run.results["models"]["student"]["test"].get(key)
        return None if across is None else across["mean"]
    return run.tests["student"].get(key)


def _table(runs, names):
    rows = []
    for run, name in zip(runs, names, strict=True):
        accuracy, interval = _accuracy(run)
        cell = words.percent(accuracy)
        if interval is not None:
            below = words.between([100 * value for value in interval], "{:.1f}".format)
            cell = page.cell(cell, below)
        others = [
            "-" if _value(run, key) is None else form(_value(run, key))
            for key, form in (
                ("f1", "{:.4f}".format),
                ("ece", "{:.4f}".format),
                ("agreement", words.percent),
            )
        ]
        size = run.results["models"]["student"]["parameters"]
        rows.append([name, cell, *others, f"{size:,}"])
    header = ["Run", "Accuracy", "F1", "ECE", "Agrees with its teacher", "Parameters"]
    return page.table(header, rows, "Of the students. Below the accuracy its 95 % interval.")


def _paired(runs, names):
    rows = []
    for run, name in zip(runs[1:], names[1:], strict=True):
        found = evaluation.compare(run.labels, run.logits["student"], runs[0].logits["student"])
        interval = words.between(found["interval"])
        rows.append(
            [
                name,
                page.cell(words.points(found["difference"]), interval),
                f"{found['only_first']:,}",
                f"{found['only_second']:,}",
                words.probability(found["p"]).removeprefix("= "),
            ]
        )
    header = ["Run", "Points", "It alone right", f"{names[0]} alone right", "McNemar p"]
    said = (
        f"Each student's accuracy less that of {names[0]}, image by image; below it the 95 % "
        "interval of the difference."
    )
    if len(rows) > 1:
        said += f" {len(rows)} tests: by chance alone, one p in 20 is below 0.05."
    return page.table(header, rows, said)


def _recipes(runs, names):
    settings = list(dict.fromkeys(name for run in runs for name in run.recipe))
    left_out = (*provenance.LEFT_OUT, "workdir")
    rows = []
    for setting in settings:
        values = [run.recipe.get(setting) for run in runs]
        if setting not in left_out and any(value != values[0] for value in values):
            rows.append([setting, *(provenance.shown(value) for value in values)])
    if not rows:
        return page.text("Nothing: all settings are equal.")
    return page.table(["Setting", *names], rows, "All other settings are equal.")


def _dots(runs, names):
    figure = plots.figure(360, 70 + 30 * len(runs))
    axes = figure.subplots()
    told = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        accuracy, interval = _accuracy(run)
        if interval is not None:
            ends = [100.0 * value for value in interval]
            axes.plot(ends, [place, place], color=plots.BLUE, linewidth=1.8)
        axes.plot([100.0 * accuracy], [place], marker="o", markersize=8, color=plots.BLUE)
        told.append(f"{name} {100 * accuracy:.2f} %")
    axes.set_yticks(range(len(runs)), [words.short(name, 18) for name in names])
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy of the student, %")
    return plots.svg(figure, f"Test accuracy of the students: {'; '.join(told)}.")


def _caption(runs):
    return (
        "Test accuracy and its 95 % interval. Intervals that overlap may still differ: the paired "
        "test below asks image by image."
        if all(isinstance(run, reading.Run) for run in runs)
        else "Test accuracy and its 95 % interval, of several seeds over the seeds."
    )
