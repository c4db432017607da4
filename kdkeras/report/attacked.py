"""What was found by attacks on the run's models: `kdkeras attack` wrote it."""

from kdkeras.report import page, plots, words

PNG = b"\x89PNG\r\n\x1a\n"
UNITS = {"linf": (255.0, "epsilon, in 1/255"), "l2": (1.0, "epsilon (L2)")}


def part(run):
    """Accuracy against epsilon, the verdicts, and the adversarial examples; None without any."""
    if not run.attacks:
        return None
    reports = {name: report for name, (report, _) in run.attacks.items()}
    norms = list(dict.fromkeys(report["threat_model"]["norm"] for report in reports.values()))
    curves = [_curves(reports, norm) for norm in norms]
    said = (
        "Accuracy under PGD-20 on the margin against what the attacker may change. A curve that "
        "does not fall to 0 tells of an attack that fails, not of a robust model."
    )
    blocks = [page.figure(curves, said), _verdicts(reports)]
    for name, (_, folder) in run.attacks.items():
        file = folder / "adversarial.png"
        if file.exists():
            alt = f"Adversarial examples of {name}: clean pictures, what was added, and the sums."
            caption = f"{name}: clean pictures, what was added (amplified), and the sums."
            blocks.append(page.figure(page.image(_png(file), alt), caption))
    return page.part("Under attack", *blocks)


def _png(file):
    found = file.read_bytes()
    if not found.startswith(PNG):
        raise ValueError(f"'{file}' is damaged: it is no PNG picture. Run kdkeras attack again.")
    return found


def _verdicts(reports):
    rows = []
    for name, report in reports.items():
        worst, model = report["worst_case"], report["threat_model"]
        interval = words.between([100 * v for v in worst["interval"]], "{:.1f}".format)
        epsilon = model.get("epsilon_in_255") or f"{model['epsilon']:.4g}"
        rows.append(
            [
                name,
                page.cell(words.percent(worst["accuracy"]), interval),
                f"{model['norm']} {epsilon}",
                f"{model['examples']:,}",
                report["verdict"],
            ]
        )
    header = ["Model", "Worst case", "Epsilon", "Images", "Verdict"]
    return page.table(header, rows, "What survives every attack of the suite, and if it counts.")


def _curves(reports, norm):
    from matplotlib.ticker import NullLocator

    unit, title = UNITS.get(norm, (1.0, f"epsilon ({norm})"))
    figure = plots.figure(360, 290 + 17 * len(reports))
    axes = figure.subplots()
    told, places = [], set()
    chosen = [(n, r) for n, r in reports.items() if r["threat_model"]["norm"] == norm]
    for number, (name, report) in enumerate(chosen):
        points = [(unit * one["epsilon"], 100.0 * one["accuracy"]) for one in report["curve"]]
        places |= {place for place, _ in points}
        look = plots.SERIES[number % len(plots.SERIES)]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.8, markersize=5, **look)
        epsilon, accuracy = report["threat_model"]["epsilon"], report["worst_case"]["accuracy"]
        told.append(f"{name} {100 * accuracy:.1f} % in the worst case at {unit * epsilon:.3g}")
    places = sorted(places)
    axes.set_xscale("symlog", base=2, linthresh=min(place for place in places if place > 0))
    axes.xaxis.set_minor_locator(NullLocator())
    shown = places if len(places) <= 9 else places[:: len(places) // 8 + 1]
    axes.set_xticks(shown, [f"{place:.3g}" for place in shown])
    axes.set_xlim(left=0.0)
    axes.set_ylim(0.0, 100.0)
    plots.titled(axes, "Accuracy under attack, %")
    axes.set_xlabel(title)
    plots.key(figure, 1)
    return plots.svg(figure, f"Accuracy against epsilon, {norm}: {'; '.join(told)}.")
