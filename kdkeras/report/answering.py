"""Did distillation help? The gain over the control, and how sure that is."""

import numpy as np

from kdkeras import evaluation
from kdkeras.report import page, plots, reading, words


def sentence(run):
    """The answer of a run in a sentence, or None where there is no student.

    Args:
        run: `reading.Run` or `reading.Repeats`.
    """
    if isinstance(run, reading.Repeats):
        return _of_seeds(run)
    if "student" not in run.logits:
        return None
    accuracy = {role: test["accuracy"] for role, test in run.tests.items()}
    count = f"{len(run.labels):,}"
    if "control" not in run.logits:
        return (
            f"Whether distillation helped is not known: this run has no control. Its student is "
            f"right on {words.percent(accuracy['student'])} of {count} test images."
        )
    found = evaluation.compare(run.labels, run.logits["student"], run.logits["control"])
    told = (
        f"95 % interval {words.between(found['interval'])}, McNemar p "
        f"{words.probability(found['p'])}"
    )
    pair = (
        f"the student is right on {words.percent(accuracy['student'])}, its control on "
        f"{words.percent(accuracy['control'])}: {words.points(found['difference'])} points ({told})"
    )
    low, high = found["interval"]
    if low <= 0.0 <= high:
        return f"No difference can be told from {count} test images: {pair}."
    verb = "helped" if low > 0.0 else "hurt"
    doubt = " Only just: by McNemar's test it may be chance." if found["p"] >= 0.05 else ""
    return f"Distillation {verb}: of {count} test images {pair}.{doubt}"


def _of_seeds(repeats):
    if "student" not in repeats.runs[0].logits:
        return None
    gain = repeats.results.get("gain")
    count = len(repeats.runs)
    if gain is None:
        return f"Whether distillation helped is not known: these {count} runs have no control."
    mean = words.points(gain["mean"])
    if gain["interval"] is None:
        return f"Of one seed, the student's gain over its control is {mean} points."
    low, high = gain["interval"]
    told = f"95 % t interval {words.between(gain['interval'])}"
    if low <= 0.0 <= high:
        return (
            f"No difference can be told from {count} seeds: the student's mean gain over the "
            f"control of the same seed is {mean} points ({told})."
        )
    verb = "helped" if low > 0.0 else "hurt"
    return (
        f"Distillation {verb}: over {count} seeds, the student's mean gain over the control of the "
        f"same seed is {mean} points ({told})."
    )


def part(run):
    """The answer's part of a page."""
    first = run.runs[0] if isinstance(run, reading.Repeats) else run
    title = "Did distillation help?" if "student" in first.logits else "The model"
    return page.part(title, *blocks(run))


def cautions(run):
    """What makes the answer mean little, in sentences: models that guess, a teacher that is worse.

    Args:
        run: `reading.Run` or `reading.Repeats`.
    """
    first = run.runs[0] if isinstance(run, reading.Repeats) else run
    if first is run:
        shares = {role: test["accuracy"] for role, test in run.tests.items()}
    else:
        told = run.results["models"]
        shares = {role: model["test"]["accuracy"]["mean"] for role, model in told.items()}
    count, chance = len(first.labels), 1.0 / len(first.classes)
    guess = [
        f"the {role} ({words.percent(share)})"
        for role, share in shares.items()
        if evaluation.wilson(round(share * count), count)[0] <= chance
    ]
    found = []
    if guess:
        found.append(
            f"{words.listed(guess)} cannot be told from guessing among {len(first.classes)} "
            "classes. Train for more epochs, in smaller batches, or at another learning rate "
            "(--optimizer=adam --learning_rate=0.003); what follows says little until then."
        )
    if {"teacher", "control"} <= set(shares) and shares["teacher"] <= shares["control"]:
        found.append(
            f"the teacher ({words.percent(shares['teacher'])}) is no better than the control "
            f"({words.percent(shares['control'])}), and has little to teach. Begin with a better "
            "one."
        )
    return found


def blocks(run):
    """The models side by side, and what is known of their difference."""
    warned = [page.text(page.strong("Mind: "), said) for said in cautions(run)]
    return warned + (_repeated(run) if isinstance(run, reading.Repeats) else _once(run))


def _once(run):
    caption = f"On {len(run.labels):,} test images. Below the accuracy its 95 % interval (Wilson)."
    if "control" in run.logits:
        caption += " The control is the same network, trained alike on the labels alone."
    made = [_models(run, caption)]
    if {"student", "control"} <= set(run.logits):
        found = evaluation.compare(run.labels, run.logits["student"], run.logits["control"])
        made.append(
            page.text(
                f"The student alone is right on {found['only_first']}, the control alone on "
                f"{found['only_second']} images; McNemar's test asks whether these two counts "
                "could be chance. The interval is of these images and of these two trainings: "
                "another seed gives another student. Several seeds tell more (--seeds=5)."
            )
        )
    return made


def _models(run, caption):
    """A table of models, a column each."""
    rows = [["Accuracy", *(_accuracy(run, role) for role in run.logits)]]
    for key, title, form in (
        ("f1", "F1, mean of classes", "{:.4f}"),
        ("nll", "Negative log-likelihood", "{:.4f}"),
        ("ece", "Calibration error (ECE)", "{:.4f}"),
        ("robust_accuracy", "Accuracy under attack", None),
        ("agreement", "Agrees with the teacher", None),
    ):
        if any(key in test for test in run.tests.values()):
            form = words.percent if form is None else form.format
            rows.append(
                [title, *(form(test[key]) if key in test else "-" for test in run.tests.values())]
            )
    told = [run.results["models"][role] for role in run.logits]
    rows.append(["Parameters", *(f"{model['parameters']:,}" for model in told)])
    macs = [f"{model['macs'] / 1e6:.2f}" if model["macs"] else "-" for model in told]
    rows.append(["Million multiply-adds", *macs])
    times = [model["training"].get("seconds") for model in told]
    rows.append(["Training", *("-" if time is None else words.seconds(time) for time in times)])
    header = [
        "",
        *(page.cell(role, model["name"]) for role, model in zip(run.logits, told, strict=True)),
    ]
    return page.table(header, rows, caption)


def _accuracy(run, role):
    right = int((run.logits[role].argmax(axis=-1) == run.labels).sum())
    low, high = evaluation.wilson(right, len(run.labels))
    below = f"{100 * low:.1f} to {100 * high:.1f}"
    return page.cell(words.percent(run.tests[role]["accuracy"]), below)


def _repeated(repeats):
    """Means over seeds, and a line a seed from its control to its student."""
    told = repeats.results["models"]
    keys = (
        ("accuracy", "Accuracy", words.percent),
        ("f1", "F1, mean of classes", "{:.4f}".format),
        ("nll", "Negative log-likelihood", "{:.4f}".format),
        ("ece", "Calibration error (ECE)", "{:.4f}".format),
        ("agreement", "Agrees with the teacher", words.percent),
    )
    rows = [
        [title, *(_mean(told[role]["test"].get(key), form) for role in told)]
        for key, title, form in keys
        if any(key in told[role]["test"] for role in told)
    ]
    rows.append(["Parameters", *(f"{told[role]['parameters']:,}" for role in told)])
    macs = [f"{told[role]['macs'] / 1e6:.2f}" if told[role]["macs"] else "-" for role in told]
    rows.append(["Million multiply-adds", *macs])
    header = ["", *(page.cell(role, told[role]["name"]) for role in told)]
    seeds = words.listed(map(str, repeats.results["seeds"]))
    caption = (
        f"Means over seeds {seeds}, on the same {len(repeats.runs[0].labels):,} test images. Below "
        "each its 95 % t interval over the seeds."
    )
    made = [page.table(header, rows, caption)]
    if all({"student", "control"} <= set(run.logits) for run in repeats.runs):
        made.append(_by_seed(repeats))
    return made


def _mean(across, form):
    if across is None:
        return "-"
    interval = across["interval"]
    if interval is None:
        return form(across["mean"])
    below = words.between(interval, lambda value: form(value).removesuffix("\u00a0%"))
    return page.cell(form(across["mean"]), below)


def _by_seed(repeats):
    pairs = [
        [100.0 * run.tests[role]["accuracy"] for role in ("control", "student")]
        for run in repeats.runs
    ]
    control, student = np.array(pairs).T
    figure = plots.figure(360, 110 + 26 * len(pairs))
    axes = figure.subplots()
    places = np.arange(len(pairs))
    axes.hlines(places, control, student, color=plots.GREY, linewidth=1.5)
    for role, values in (("control", control), ("student", student)):
        look = {**words.LOOKS[role], "linestyle": "none"}
        axes.plot(values, places, label=role, markersize=7, **look)
    axes.set_yticks(places, [f"seed {seed}" for seed in repeats.results["seeds"]])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy, %")
    axes.grid(visible=False, axis="y")
    plots.key(figure, 2)
    more, fewer = int((student > control).sum()), int((student < control).sum())
    said = (
        f"Of {len(pairs)} seeds the student is right on more test images than the control of the "
        f"same seed in {more}, on fewer in {fewer}."
    )
    return page.figure(plots.svg(figure, said), said + " A line joins the two of a seed.")
