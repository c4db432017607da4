"""`search.html`: a search in one page."""

from kdkeras.report import page, plots
from kdkeras.search import comparing, lines, ranking, studies

# In CSS pixels: as wide as a phone.
WIDTH, WIDE = 350, 360
# Validation images, fewer than which tell settings apart badly.
FEW = 100


def page_of(search, results):
    """The page of a search, a string.

    Args:
        search: As `kdkeras.search.running` has it.
        results: As `results.json` holds it.
    """
    study, winner = search.study, results["winner"]
    parts = [
        page.part("The answer", *_answer(results)),
        page.part("Trial by trial", _progress(study), _table(study, search.entries)),
        page.part("What mattered", *_slices(study, search.entries), *_importance(results)),
        page.part("Learning curves", _curves(study)),
    ]
    if results["front"]:
        parts.insert(1, page.part("Accuracy and size", _front(study, results["front"])))
    count = len(search.splits.validation.ids)
    lead = (
        f"{results['trials']['complete']} of {sum(results['trials'].values())} trials finished. "
        f"The best, trial {winner['number']}, is right on {round(winner['val_accuracy'] * count)} "
        f"of {count} validation images ({winner['val_accuracy']:.2%})."
    )
    if count < FEW:
        lead += " So few say little of which settings are better."
    return page.document(f"Search on {search.splits.name}", parts, summary=lead)


def _answer(results):
    winner, comparison = results["winner"], results["comparison"]
    found = [
        page.text(page.strong(f"Trial {winner['number']}: "), lines.described(winner["settings"]))
    ]
    if results["winner_is_as_given"]:
        found.append(page.text("That is the recipe as given: nothing that was tried was better."))
    elif comparison is None:
        found.append(page.text("It was not compared with the recipe as given on test images."))
    else:
        found.append(page.text(comparing.sentence(comparison)))
        rows = [
            [f"seed {seed}", f"{winner:.2%}", f"{given:.2%}", f"{100 * (winner - given):+.2f}"]
            for seed, winner, given in zip(
                comparison["seeds"],
                comparison["accuracy"]["winner"],
                comparison["accuracy"]["as_given"],
                strict=True,
            )
        ]
        header = ["", "winner", "as given", "points"]
        found.append(page.table(header, rows, "Test accuracy of both, trained from equal seeds."))
    found += [page.text("To train it:"), page.code(results["command"])]
    return found


def _progress(study):
    """Each trial's value, and the best so far."""
    drawn = plots.figure(WIDE, 260)
    axes = drawn.subplots()
    finished, stopped = studies.finished(study), studies.pruned(study)
    highest, so_far = [], 0.0
    for trial in finished:
        so_far = max(so_far, trial.values[0])
        highest.append(so_far)
    numbers = [studies.place(trial) for trial in finished]
    values = [trial.values[0] for trial in finished]
    axes.step(numbers, highest, where="post", color=plots.BLUE, label="best so far")
    axes.plot(numbers, values, "o", color=plots.BLUE, label="finished")
    shown = [trial for trial in stopped if trial.user_attrs["curve"]]
    if shown:
        reached = [max(trial.user_attrs["curve"]) for trial in shown]
        at = [studies.place(trial) for trial in shown]
        axes.plot(at, reached, "x", color=plots.GREY, label="stopped early")
    axes.set(xlabel="trial", ylabel="objective")
    _in_percent(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    best = ranking.ranked(study)[0]
    number, value = studies.place(best), best.values[0]
    alt = f"Trial {number} is best with {value:.2%}, of {len(finished)} finished."
    return page.figure(plots.svg(drawn, alt), "The objective by trial: where did the best stand?")


def _table(study, entries):
    names = [entry.name for entry in entries]
    rows = []
    for trial in ranking.ranked(study) + studies.pruned(study) + studies.failed(study):
        said = trial.user_attrs
        value = trial.values[0] if trial.values else max(said.get("curve", []), default=None)
        chosen = [said["settings"].get(name, "-") for name in names]
        rows.append(
            [
                *(str(studies.place(trial)), trial.state.name.lower()),
                "-" if value is None else f"{value:.2%}",
                *(f"{one:.4g}" if isinstance(one, float) else str(one) for one in chosen),
            ]
        )
    header = ["trial", "state", "objective", *names]
    return page.details("All trials, the best first", page.table(header, rows))


def _slices(study, entries):
    """The objective against each setting."""
    images = []
    for entry in entries:
        drawn = plots.figure(WIDTH, 230)
        axes = drawn.subplots()
        points = {}
        for kind, of in (("stopped", studies.pruned(study)), ("finished", ranking.ranked(study))):
            points[kind] = [
                (trial.user_attrs["settings"][entry.name], max(trial.user_attrs["curve"]))
                for trial in of
                if entry.name in trial.user_attrs["settings"] and trial.user_attrs["curve"]
            ]
        if not points["finished"]:
            continue
        if entry.choices is not None:
            places = {choice: place for place, choice in enumerate(entry.choices)}
            points = {
                kind: [(places[choice], value) for choice, value in of]
                for kind, of in points.items()
            }
            axes.set_xticks(list(places.values()), [_short(choice) for choice in places])
        looks = {
            "stopped": {"color": plots.GREY, "marker": "x"},
            "finished": {"color": plots.BLUE, "marker": "o"},
        }
        for kind, of in points.items():
            axes.plot(*zip(*of, strict=True) if of else ([], []), linestyle="", **looks[kind])
        if entry.log:
            axes.set_xscale("log")
            ticks = [entry.low * (entry.high / entry.low) ** (i / 3) for i in range(4)]
            axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            axes.set_xticks([], minor=True)
        axes.set(title=entry.name, ylabel="objective")
        _in_percent(axes)
        at, value = points["finished"][0]
        best = entry.choices[at] if entry.choices is not None else f"{at:.4g}"
        images.append(plots.svg(drawn, f"{entry.name}: best, {value:.2%}, at {best}."))
    caption = (
        "The objective against each setting: finished trials (dots), and stopped ones (crosses)."
    )
    return [page.figure(images, caption)]


def _in_percent(axes):
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _short(choice):
    text = str(choice)
    return text if len(text) <= 14 else f"...{text[-12:]}"


def _importance(results):
    if not results["importance"]:
        reason = results["importance_missing"]
        return [page.text(f"How much each setting mattered cannot be said: {reason}.")]
    shares = results["importance"]
    drawn = plots.figure(WIDE, 60 + 30 * len(shares))
    axes = drawn.subplots()
    names = list(shares)[::-1]
    axes.barh(names, [shares[name] for name in names], color=plots.BLUE, height=0.6)
    axes.set(xlabel="share of the objective's variance", xlim=(0, 1))
    axes.grid(axis="y", visible=False)
    said = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    caption = (
        f"How much of the objective's variance each setting explains (fANOVA), by "
        f"{results['trials']['complete']} finished trials: a hint, no more."
    )
    return [page.figure(plots.svg(drawn, f"Importance: {said}."), caption)]


def _curves(study):
    """The objective by epoch; of trials that were stopped paler."""
    drawn = plots.figure(WIDE, 300)
    axes = drawn.subplots()
    for trial in studies.pruned(study):
        curve = trial.user_attrs["curve"]
        axes.plot(range(1, len(curve) + 1), curve, color=plots.GREY, linewidth=0.8)
    best, *others = ranking.ranked(study)
    for trial in others:
        curve = trial.user_attrs["curve"]
        axes.plot(range(1, len(curve) + 1), curve, color=plots.SKY, linewidth=1.2)
    curve = best.user_attrs["curve"]
    label = f"trial {studies.place(best)}, the best"
    axes.plot(range(1, len(curve) + 1), curve, color=plots.VERMILLION, linewidth=2.4, label=label)
    axes.set(xlabel="epoch", ylabel="objective")
    _in_percent(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    alt = f"Trial {studies.place(best)} rises from {curve[0]:.2%} to {max(curve):.2%}."
    caption = "The objective by epoch: trials that were stopped early are grey, finished ones blue."
    return page.figure(plots.svg(drawn, alt), caption)


def _front(study, front):
    drawn = plots.figure(WIDE, 300)
    axes = drawn.subplots()
    done = studies.finished(study)
    sizes = [trial.user_attrs["parameters"] for trial in done]
    axes.plot(sizes, [trial.values[0] for trial in done], "o", color=plots.GREY, label="trials")
    along = sorted((one["parameters"], one["value"]) for one in front)
    axes.plot(*zip(*along, strict=True), **plots.SERIES[1], label="front")
    axes.set(xlabel="parameters", ylabel="validation accuracy")
    _in_percent(axes)
    axes.legend()
    said = "; ".join(f"{value:.2%} with {size:,} parameters" for size, value in along)
    rows = [
        [f"{one['number']}", f"{one['value']:.2%}", f"{one['parameters']:,}"] for one in front[::-1]
    ]
    table = page.table(["trial", "validation accuracy", "parameters"], rows)
    caption = "No trial is both smaller and more accurate than one on the front."
    return page.Block(page.figure(plots.svg(drawn, f"The front: {said}."), caption) + table)
