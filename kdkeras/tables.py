"""Results as plain text that fits a terminal."""

COLUMNS = (
    ("accuracy", "accuracy", "{:.2%}"),
    ("precision", "precision", "{:.2%}"),
    ("recall", "recall", "{:.2%}"),
    ("agreement", "agreement", "{:.2%}"),
    ("kl", "KL to teacher", "{:.4f}"),
)


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
    rows = [["", *(title for _, title, _ in COLUMNS)]]
    for name, test in tests.items():
        cells = [form.format(test[key]) if key in test else "-" for key, _, form in COLUMNS]
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
        parts.append(
            f"Gain of the student over the control: {100 * found['gain']:+.2f} points, standard "
            f"error {100 * found['gain_standard_error']:.2f}\n(of this test split's size; another "
            "seed gives another gain)"
        )
    if found["exports"]:
        parts.append(exports(found["exports"]))
    return "\n\n".join(parts)


def exports(made):
    """What was exported, a line a file.

    Args:
        made: Dict by format, as `kdkeras.runner.export_student` gives it.

    Returns:
        A string of lines.
    """
    return "\n".join(
        f"{one['path']}: {one['bytes']:,} bytes; same class as the student on "
        f"{one['agreement']:.2%} of {one['images']:,} images, probabilities within "
        f"{one['largest_difference']:.0e}"
        for one in made.values()
    )
