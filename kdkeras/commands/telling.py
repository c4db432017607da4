"""What `kdkeras evaluate` found, as small tables of at most 80 columns."""

import os
import textwrap

from kdkeras import corruptions, tables

WIDTH = 80
# The widest that a model's or class's name may be.
NAME = 24
# So many classes have their confusions in a matrix, if that fits, and others as a list.
MATRIX, LISTED = 12, 10
QUALITY = ("accuracy", "interval", "top-5", "F1", "precision", "recall")
CALIBRATION = (("NLL", "nll"), ("Brier", "brier"), ("ECE", "ece"), ("ECE scaled", "ece_scaled"))


def evaluation(found):
    """All tables of what was found of one subject.

    Args:
        found: Dict, as one of the `evaluations` that the command writes.

    Returns:
        A string of lines of at most 80 characters, but for names of files.
    """
    models = found["models"]
    short = dict(zip(models, shortened(models), strict=True))
    rows = {short[name]: row for name, row in models.items()}
    title = [found["run"]] if found["run"] else []
    count = f"{found['images']:,} test images of {found['dataset']}"
    parts = ["\n".join([*title, count]), _quality(rows), _calibration(rows)]
    parts += [_likeness(rows, found["teacher"]), _against(rows, found["control"]), _cost(rows)]
    for name, row in rows.items():
        if "corruptions" in row:
            parts.append(_corrupted(name, row["corruptions"], found["corruptions"]))
    for name, row in rows.items():
        if "details" in row:
            parts += _details(name, row["details"], found["class_names"])
    cut = [f"{short[name]}\n  {row['path']}" for name, row in models.items() if short[name] != name]
    return "\n\n".join(filter(None, [*parts, "\n".join(cut)]))


def over_seeds(run, found):
    """Means over seeds, and the gains over the control.

    Args:
        run: What the run is called.
        found: Dict: `seeds`, and `models` with each figure as `kdkeras.evaluation.across` gives it.

    Returns:
        A string of lines of at most 80 characters, but for names of files.
    """
    short = dict(zip(found["models"], shortened(found["models"]), strict=True))
    quality = [["", "accuracy", "95 % interval", "F1", "agreement"]]
    sure = [["", "NLL", "ECE", "ECE scaled"]]
    gains = [["", "difference", "deviation", "95 % interval"]]
    for name, row in found["models"].items():
        scores = row["scores"]
        keys = ("accuracy", "f1", "agreement")
        shares = [_spread(scores.get(key), "{:.2f}", 100) for key in keys]
        interval = _interval(scores["accuracy"]["interval"])
        quality.append([short[name], shares[0], interval, *shares[1:]])
        keys = ("nll", "ece", "ece_scaled")
        sure.append([short[name], *(_spread(scores.get(key), "{:.4f}") for key in keys)])
        if "against_control" in row:
            gain = row["against_control"]
            deviation = gain["standard_deviation"]
            cells = [f"{100 * gain['mean']:+.2f}", _number(deviation, "{:.2f}", 100)]
            gains.append([short[name], *cells, _interval(gain["interval"], "{:+.2f}")])
    count = len(found["seeds"])
    parts = [
        f"{run}\nOver {count} seeds: mean (standard deviation), intervals of Student's t",
        f"Quality, in %\n\n{tables.aligned(quality)}",
        f"Calibration\n\n{tables.aligned(sure)}",
    ]
    if len(gains) > 1:
        parts.append(
            "Against the control, paired by seed: difference in accuracy, in points\n\n"
            + tables.aligned(gains)
        )
    return "\n\n".join(parts)


def shortened(names, width=NAME):
    """Names of at most `width` characters, each another: cut in the middle, where too long.

    What all names of files begin with, to the last `/`, is left out first where one is too long.

    Args:
        names: Strings, each another.
        width: Integer of at least 8.

    Returns:
        List of strings.
    """
    names = list(names)
    if len(names) > 1 and max(map(len, names)) > width:
        common = os.path.commonprefix([name.rpartition("/")[0] + "/" for name in names])
        common = common[: common.rfind("/") + 1]
        names = [name[len(common) :] for name in names]
    found = []
    for name in names:
        cut, count = _cut(name, width), 1
        while cut in found:
            count += 1
            mark = f"~{count}"
            cut = _cut(name, width - len(mark)) + mark
        found.append(cut)
    return found


def _cut(name, width):
    if len(name) <= width:
        return name
    head = (width - 3) // 3
    return name[:head] + "..." + name[head + 3 - width :]


def _quality(rows):
    keys = ("top_5", "f1", "precision", "recall")
    lines = [["", *QUALITY]]
    for name, row in rows.items():
        scores = row["scores"]
        cells = [_number(scores["accuracy"], "{:.2f}", 100), _interval(row["accuracy_interval"])]
        lines.append([name, *cells, *(_number(scores.get(key), "{:.2f}", 100) for key in keys)])
    said = "Quality, in %; the interval is Wilson's, of 95 %; F1, precision and recall are"
    return f"{said}\nmeans over classes\n\n{tables.aligned(lines)}"


def _calibration(rows):
    lines = [["", *(title for title, _ in CALIBRATION), "temperature"]]
    for name, row in rows.items():
        scores = row["scores"]
        cells = [_number(scores[key], "{:.4f}") for _, key in CALIBRATION]
        lines.append([name, *cells, f"{scores['temperature']:.3g}"])
    said = "Calibration; scaled: after temperature scaling, fitted on the other half"
    return f"{said}\n\n{tables.aligned(lines)}"


def _likeness(rows, teacher):
    compared = {name: row["scores"] for name, row in rows.items() if "agreement" in row["scores"]}
    if not compared:
        return None
    lines = [["", "agreement", "KL", "CKA"]]
    for name, scores in compared.items():
        agreement = f"{scores['agreement']:.2%}"
        lines.append([name, agreement, f"{scores['kl']:.4f}", _number(scores.get("cka"), "{:.4f}")])
    return f"Likeness to the teacher, {_shown(teacher)}\n\n{tables.aligned(lines)}"


def _against(rows, control):
    key = "against_control"
    compared = {name: row[key] for name, row in rows.items() if key in row}
    if not compared:
        return None
    lines = [["", "difference", "95 % interval", "only it", "only control", "p"]]
    for name, found in compared.items():
        cells = [f"{100 * found['difference']:+.2f}", _interval(found["interval"], "{:+.2f}")]
        cells += [f"{found['only_first']:,}", f"{found['only_second']:,}"]
        lines.append([name, *cells, f"{found['p']:.2g}"])
    return (
        f"Against the control, {_shown(control)}\n"
        "in points of accuracy, Newcombe's interval; right alone; McNemar's exact p\n\n"
        + tables.aligned(lines)
    )


def _cost(rows):
    costs = {name: row["cost"] for name, row in rows.items()}
    timed = any("latency" in cost for cost in costs.values())
    lines = [["", "KB", "parameters", "MMAC", *(["ms", "p95"] if timed else [])]]
    for name, cost in costs.items():
        cells = [f"{cost['bytes'] / 1e3:,.1f}", _number(cost.get("parameters"), "{:,}")]
        cells.append(_number(cost.get("macs"), "{:,.1f}", 1e-6))
        if timed:
            cells += [f"{cost['latency'][key]:.3f}" for key in ("median_ms", "p95_ms")]
        lines.append([name, *cells])
    said = "Cost" + "; ms: one image on one thread, median and 95th percentile" * timed
    return f"{said}\n\n{tables.aligned(lines)}"


def _corrupted(name, accuracies, given):
    return (
        f"{name}: accuracy by corruption and severity ({given})\n"
        f"mean over all: {corruptions.mean_accuracy(accuracies):.2%}\n\n"
        f"{tables.corruptions(accuracies)}"
    )


def _details(name, found, class_names):
    shown = shortened(class_names)
    lines = [["", "precision", "recall", "F1", "images"]]
    for class_name, row in zip(shown, found["classes"], strict=True):
        cells = [_number(row[key], "{:.2f}", 100) for key in ("precision", "recall", "f1")]
        lines.append([class_name, *cells, f"{row['count']:,}"])
    intervals = ", ".join(
        f"{title} {low:.4f} - {high:.4f}"
        for title, (low, high) in (
            ("NLL", found["intervals"]["nll"]),
            ("Brier", found["intervals"]["brier"]),
            ("ECE", found["intervals"]["ece"]),
            ("F1", found["intervals"]["f1"]),
        )
    )
    return [
        f"{name}: 95 % intervals, by bootstrap\n{textwrap.fill(intervals, WIDTH - 1)}",
        f"{name}: classes, in %\n\n{tables.aligned(lines)}",
        f"{name}: {_confusions(found['confusion'], class_names)}",
    ]


def _confusions(confusion, class_names):
    """As a matrix, if it is a small one; else those that are most frequent."""
    widest = max(len(str(count)) for row in confusion for count in row)
    room = WIDTH - len(confusion) * (2 + max(widest, len(str(len(confusion) - 1)))) - 1
    if len(confusion) <= MATRIX and room >= 12:
        rows = [["", *map(str, range(len(confusion)))]]
        names = shortened([f"{i} {name}" for i, name in enumerate(class_names)], min(room, NAME))
        for name, row in zip(names, confusion, strict=True):
            rows.append([name, *(str(count) if count else "." for count in row)])
        return f"confusions, a row the truth, a column what was said\n\n{tables.aligned(rows)}"
    pairs = [
        (count, truth, said)
        for truth, row in enumerate(confusion)
        for said, count in enumerate(row)
        if count and truth != said
    ]
    if not pairs:
        return "no confusions"
    names = shortened(class_names)
    rows = [["truth", "said", "images", "of the class"]]
    for count, truth, said in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:LISTED]:
        share = count / sum(confusion[truth])
        rows.append([names[truth], names[said], f"{count:,}", f"{share:.2%}"])
    return f"the most frequent confusions, of {len(pairs):,}\n\n{tables.aligned(rows)}"


def _shown(path):
    return _cut(path, WIDTH - len("Likeness to the teacher, ") - 1)


def _number(value, form, factor=1):
    """A number times `factor`, or a dash for None."""
    if value is None:
        return "-"
    return form.format(value if factor == 1 else factor * value)


def _spread(over, form, factor=1):
    """Mean and standard deviation."""
    if over is None:
        return "-"
    deviation = _number(over["standard_deviation"], form, factor)
    return f"{form.format(factor * over['mean'])} ({deviation})"


def _interval(pair, form="{:.1f}"):
    """Of shares, in %."""
    if pair is None:
        return "-"
    return " to ".join(form.format(100 * end) for end in pair)
