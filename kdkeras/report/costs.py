"""What the models cost: accuracy against size, multiply-adds and latency."""

from kdkeras.report import page, plots, reading, words

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")


def part(run):
    """Accuracy against what each model and each exported file costs."""
    rows = listed(run)
    panels = [
        _panel(rows, key, title, scale)
        for key, title, scale in (
            ("bytes", "size, KB", 1e-3),
            ("macs", "million multiply-adds", 1e-6),
            ("median_ms", "latency, ms", 1.0),
        )
        if sum(row[key] is not None for row in rows) > 1
    ]
    blocks = []
    if panels:
        said = "Test accuracy against cost: the higher and the further to the left, the better."
        blocks.append(page.figure(panels, said))
    header = [
        "",
        "Accuracy",
        "Size",
        "Parameters",
        "MMAC",
        "ms",
        "p95",
    ]
    said = (
        "MMAC: million multiply-adds an image. ms: one image on one thread, median and 95th "
        "percentile; of .keras models as TensorFlow graphs."
    )
    table = page.table(header, [_row(row) for row in rows], said)
    return page.part("What it costs", *blocks, table)


def listed(run):
    """The models and the exported files of a run: list of dicts, None where a figure is missing."""
    rows = []
    for role in run.logits:
        model = run.results["models"][role]
        file = run.path / f"{role}.keras"
        rows.append(
            {
                "name": role,
                "accuracy": run.tests[role]["accuracy"],
                "bytes": file.stat().st_size if file.is_file() else None,
                "parameters": model["parameters"],
                "macs": model["macs"],
                **_latency(run.exports.get(role, {})),
            }
        )
    student = run.results["models"].get("student", {})
    for kind, found in run.exports.get("files", {}).items():
        rows.append(
            {
                "name": kind.replace("_", " "),
                "accuracy": found.get("test", {}).get("accuracy"),
                "bytes": found.get("bytes"),
                "parameters": student.get("parameters"),
                "macs": student.get("macs"),
                **_latency(found),
            }
        )
    return rows


def _latency(found):
    latency = found.get("latency") or {}
    return {key: latency.get(key) for key in ("median_ms", "p95_ms")}


def _row(row):
    forms = (
        ("accuracy", words.percent),
        ("bytes", words.kilobytes),
        ("parameters", "{:,}".format),
        ("macs", lambda value: f"{value / 1e6:.2f}"),
        ("median_ms", "{:.3g}".format),
        ("p95_ms", "{:.3g}".format),
    )
    cells = ["-" if row[key] is None else form(row[key]) for key, form in forms]
    return [row["name"], *cells]


def _panel(rows, key, title, scale):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    # Files of one student share its multiply-adds: there only the models are told apart.
    models = [row for row in rows if row["name"] in reading.ROLES]
    drawn = [
        (number, row)
        for number, row in enumerate(models if key == "macs" else rows)
        if row[key] is not None and row["accuracy"] is not None
    ]
    figure = plots.figure(300, 265 + 17 * ((len(drawn) + 1) // 2))
    axes = figure.subplots()
    for number, row in drawn:
        look = words.LOOKS.get(row["name"])
        color = look["color"] if look else plots.SERIES[number % len(plots.SERIES)]["color"]
        marker = look["marker"] if look else MARKERS[number % len(MARKERS)]
        axes.plot(
            [scale * row[key]],
            [100.0 * row["accuracy"]],
            color=color,
            marker=marker,
            markersize=8,
            linestyle="none",
            # An exported file is hollow: it often lies on its student.
            markerfacecolor=color if look else "none",
            markeredgewidth=1.6,
            label=row["name"],
        )
    values = [scale * row[key] for _, row in drawn]
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 1.5, max(values) * 1.5)
    spread = max(values) / min(values)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if spread < 30 else (1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    plots.titled(axes, "Test accuracy, %")
    axes.set_xlabel(title)
    plots.key(figure, 2)
    told = "; ".join(
        f"{row['name']} {100 * row['accuracy']:.2f} % at {value:,.3g}"
        for (_, row), value in zip(drawn, values, strict=True)
    )
    return plots.svg(figure, f"Test accuracy against {title}: {told}.")
