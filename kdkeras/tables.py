"""Results as plain text that fits a terminal."""

import textwrap

import numpy as np

from kdkeras import certification, evaluation

COLUMNS = (
    ("accuracy", "accuracy", "{:.2%}"),
    ("f1", "F1", "{:.2%}"),
    ("nll", "NLL", "{:.3f}"),
    ("ece", "ECE", "{:.3f}"),
    ("agreement", "agreement", "{:.2%}"),
    ("kl", "KL", "{:.4f}"),
    ("cka", "CKA", "{:.4f}"),
    ("robust_accuracy", "robust", "{:.2%}"),
)
# Columns that are there only where some model has them.
OPTIONAL = ("agreement", "kl", "cka", "robust_accuracy")
DIFFERENCES = ("largest", "mean")


def aligned(rows):
    """Rows of strings as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def scores(tests):
    """The metrics of several models, a row each.

    Args:
        tests: Dict from a row's name to metrics, as `kdkeras.evaluation.scores` gives them.

    Returns:
        A string of lines.
    """
    there = {key for test in tests.values() for key in test}
    columns = [column for column in COLUMNS if column[0] in there or column[0] not in OPTIONAL]
    rows = [["", *(title for _, title, _ in columns)]]
    for name, test in tests.items():
        cells = [form.format(test[key]) if key in test else "-" for key, _, form in columns]
        rows.append([name, *cells])
    return aligned(rows)


def results(found):
    """What `kdkeras.run` found, as the text that ends a run."""
    rows = [["", "model", "parameters", "MMAC", "best epoch", "train s"]]
    for name, model in found["models"].items():
        training = model["training"]
        rows.append(
            [
                name,
                model["name"],
                f"{model['parameters']:,}",
                f"{model['macs'] / 1e6:.1f}",
                str(training.get("best_epoch", "-")),
                f"{training['seconds']:.0f}",
            ]
        )
    parts = [aligned(rows), "On the test split:"]
    parts.append(scores({name: model["test"] for name, model in found["models"].items()}))
    if "gain" in found:
        low, high = found["gain_interval"]
        said = (
            f"Gain of the student over the control: {100 * found['gain']:+.2f} points, 95 % "
            f"interval {100 * low:+.2f} to {100 * high:+.2f}, McNemar's p "
            f"{found['mcnemar']['p']:.2g}; of this test split: another seed gives another gain."
        )
        parts.append(_wrapped(said, indent=""))
    if "attack" in found:
        parts.append(_under_attack(found))
    if found["exports"]:
        parts.append(f"Exported:\n\n{exports(found['exports'])}")
    return "\n\n".join(parts)


def repeats(found):
    """What `kdkeras.run` found with several seeds, as the text that ends it."""
    shares = ("accuracy", "f1", "agreement", "ece")
    rows = [["", "accuracy", "F1", "agreement", "ECE"]]
    for name, model in found["models"].items():
        rows.append([name, *(_over_seeds(model["test"].get(metric)) for metric in shares)])
    count = len(found["seeds"])
    parts = [
        f"On the test split, means over {count} seeds and (standard deviations), in %:",
        aligned(rows),
    ]
    for key, under in (("gain", ""), ("robust_gain", " under attack")):
        if key in found:
            mean = found[key]["mean"]
            low, high = found[key]["interval"]
            said = (
                f"Gain of the student over the control{under}, paired by seed: {100 * mean:+.2f} "
                f"points, 95 % interval {100 * low:+.2f} to {100 * high:+.2f} (Student's t over "
                f"{count} seeds)"
            )
            parts.append(_wrapped(said, indent=""))
    return "\n\n".join(parts)


def _over_seeds(over):
    if over is None:
        return "-"
    return f"{over['mean']:.2%} ({100 * over['standard_deviation']:.2f})"


def _under_attack(found):
    attack = found["attack"]
    said = (
        f"Robust: right on {attack['examples']:,} test images under PGD-{attack['steps']} on the "
        f"margin, {attack['norm']}, epsilon {attack['epsilon']:.4g}"
    )
    if "robust_gain" in found:
        said += (
            f".\nGain of the student over the control under attack: "
            f"{100 * found['robust_gain']:+.2f} points, standard error "
            f"{100 * found['robust_gain_standard_error']:.2f}"
        )
    return said


def exports(report):
    """What was exported: a row a file, with student and teacher above them.

    Args:
        report: Dict, as `kdkeras.export.flavours` gives it.

    Returns:
        A string of lines of at most 80 characters, but for what a converter says.
    """
    rows = [["", "KB", "takes", "accuracy", "agrees", "largest", "mean", "ms", "p95"]]
    for role in ("teacher", "student"):
        if role in report:
            rows.append(_exported(role, report[role]))
    rows += [_exported(kind, row) for kind, row in report["files"].items()]
    said = [
        f"Each file on {report['images']:,} images. agrees: with the student's top class; largest, "
        "mean: difference in probability; ms, p95: one image on one thread, median and 95th "
        "percentile, of teacher and student as TensorFlow graphs."
    ]
    if report["calibration"]:
        said.append(f"Calibrated on {report['calibration']:,} training images.")
    earlier = [kind for kind in report["files"] if kind not in report["written"]]
    if earlier:
        said.append(f"Written and measured earlier: {', '.join(earlier)}.")
    for kind, row in report["files"].items():
        if row["trained_for_int8"]:
            said.append(
                f"{kind} was trained further (quantized.keras) and may differ from the student; it "
                f"has that model's top class on {row['trained_for_int8']['agreement']:.2%}."
            )
    operators = {
        name
        for row in report["files"].values()
        if row["path"].endswith(".tflite")
        for name in row["operators"]
    }
    if operators:
        said.append(f"Operators of the .tflite files: {', '.join(sorted(operators))}.")
    lines = [aligned(rows), "", *(_wrapped(text, indent="") for text in said)]
    lines += [f"Written: {report['files'][kind]['path']}" for kind in report["written"]]
    lines += [f"FAILED  {kind}: {reason}" for kind, reason in report["failed"].items()]
    return "\n".join(lines)


def _exported(name, row):
    cells = [name, f"{row['bytes'] / 1e3:,.1f}", row.get("input", "")]
    cells.append(f"{row['test']['accuracy']:.2%}" if "test" in row else "-")
    for key, form in (
        ("agreement", "{:.2%}"),
        *((f"{x}_difference", "{:.0e}") for x in DIFFERENCES),
    ):
        cells.append(form.format(row[key]) if key in row else "-")
    for key in ("median_ms", "p95_ms"):
        cells.append(f"{row['latency'][key]:.3f}" if "latency" in row else "-")
    return cells


def attacks(report):
    """A report of attacks: threat model, rows, gates and verdict.

    Args:
        report: What `kdkeras.robustness.evaluate` gives.

    Returns:
        A string of lines of at most 80 characters, but for names of files.
    """
    told = report["threat_model"]
    radius = f"{told['epsilon']:.4g}" + (f" = {told['epsilon_in_255']}" * (told["norm"] == "linf"))
    rows = [["", "accuracy", "95 % interval", "seconds"]]
    for row in (report["clean"], *report["attacks"].values(), report["worst_case"]):
        seconds = f"{row['seconds']:.1f}" if "seconds" in row else ""
        rows.append([row["title"], f"{row['accuracy']:.2%}", _interval(row["interval"]), seconds])
    lines = [
        f"{told['norm']}, epsilon {radius}, {told['access']}, {told['examples']:,} images, seed "
        f"{told['seed']}\n",
        aligned(rows) + "\n",
    ]
    lines += [_wrapped(f"Left out: {title}: {why}") for title, why in report["left_out"].items()]
    signs = {True: "passed", False: "FAILED", None: "-"}
    gates = report["gates"]
    if report["reliable"] is None:  # for one reason, all of them
        gates = [{**gates[0], "name": "all gates"}]
    for gate in gates:
        lines.append(_wrapped(f"{signs[gate['passed']]:<6}  {gate['name']}: {gate['reason']}"))
    return "\n".join(lines) + "\n"


def certificates(found, labels):
    """Certified accuracy at multiples of sigma, with Wilson intervals, and abstentions.

    Args:
        found: `kdkeras.certification.Certificates`.
        labels: Integer array, one an image.

    Returns:
        A string of lines of at most 80 characters.
    """
    most = certification.radius(found.n, found.n, sigma=found.sigma, alpha=found.alpha)
    radii = np.arange(0.0, most, found.sigma)
    rows = [["radius (L2)", "certified accuracy", "95 % interval"]]
    for radius, accuracy in zip(radii, found.certified_accuracy(labels, radii), strict=True):
        interval = evaluation.wilson(round(accuracy * len(labels)), len(labels))
        rows.append([f"{radius:.3f}", f"{accuracy:.2%}", _interval(interval)])
    copies = f"{found.n:,} noisy copies, sigma {found.sigma:g}, seed {found.seed}"
    said = (
        f"{len(labels):,} images, {copies}. Abstained: {np.sum(found.abstained)}. Each radius is "
        f"too large with probability {found.alpha:g} at most; so many copies certify {most:.3f} "
        "at most."
    )
    return f"{aligned(rows)}\n\n{textwrap.fill(said, 79)}"


def corruptions(accuracies):
    """Accuracy by corruption, a row each, and severity.

    Args:
        accuracies: Dict from names to lists of accuracies, one a severity.

    Returns:
        A string of lines.
    """
    severities = range(1, 1 + max(map(len, accuracies.values())))
    rows = [["severity", *map(str, severities), "mean"]]
    for name, found in accuracies.items():
        mean = sum(found) / len(found)
        rows.append([name, *(f"{accuracy:.2%}" for accuracy in (*found, mean))])
    return aligned(rows)


def _interval(pair):
    return f"{100 * pair[0]:.1f} - {100 * pair[1]:.1f}"


def _wrapped(text, indent=" " * 8):
    return textwrap.fill(text, 79, subsequent_indent=indent, break_on_hyphens=False)
