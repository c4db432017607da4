"""`kdkeras evaluate`: model files, or the models of a run, on a test split."""

import pathlib

import kdkeras
from kdkeras import corruptions, evaluation, files, latency, runtimes
from kdkeras.commands import subjects, telling, testing
from kdkeras.data import sources
from kdkeras.evaluation import checks, intervals


def evaluate(settings, words):
    """`kdkeras evaluate`: how good, how sure, how like the teacher; also corrupted, timed."""
    if not words:
        raise ValueError(
            "Name the model files to evaluate, or runs: kdkeras evaluate MODEL ... | RUN ..."
        )
    _check_output(settings)
    asked = subjects.read(settings, words)
    of, splits, said, found = None, None, [], []
    for run, group in asked.items():
        evaluations = []
        for subject in group:
            if subject.settings != of:
                of, first = subject.settings, next(iter(subject.paths.values()))
                splits = testing.splits_for(of, first)
            evaluations.append(_evaluated(subject, settings, splits))
            said.append(telling.evaluation(evaluations[-1]))
        found += evaluations
        if len(group) > 1:
            over = _over_seeds(evaluations)
            said.append(telling.over_seeds(run, over))
            found.append({"run": run, **over})
    print("\n\n".join(said))
    if settings["output"]:
        about = {"format": 1, "kdkeras": kdkeras.__version__}
        files.write_json(settings["output"], {**about, "evaluations": found})
        print(f"\nWritten: {settings['output']}")
    return 0


def _check_output(settings):
    """Refuses what could not be written in the end, before anything is done."""
    if not settings["output"]:
        return
    path = pathlib.Path(settings["output"])
    if path.is_dir() or not path.parent.is_dir():
        why = "which is a folder" if path.is_dir() else f"and '{path.parent}' is no folder"
        raise ValueError(f"--output must name a file to write. Received: '{path}', {why}.")
    if path.exists() and not settings["overwrite"]:
        raise ValueError(f"'{path}' is there already. Give --overwrite to replace it.")


def _evaluated(subject, settings, splits):
    """What was found of a subject, as plain JSON."""
    images, labels = evaluation.collect(splits.test)
    corrupted = None
    if settings["corruptions"]:
        corrupted = testing.corrupted(settings["corruptions"], images, labels, splits)
    others = [path for path in (subject.teacher, subject.control) if path]
    models = {}
    for path in dict.fromkeys([*subject.paths.values(), *others]):
        models[path] = testing.opened(path, images, splits)
    update = sources.progress(len(models) * len(images), not settings["quiet"])
    logits = {}
    for path, model in models.items():
        logits[path] = _finite(path, labels, model(images))
        update(len(logits) * len(images))
    seen = {"images": images, "labels": labels, "logits": logits, "models": models}
    rows = {}
    for name, path in subject.paths.items():
        row = rows[name] = {"path": str(path), **_measured(path, subject, seen)}
        if settings["details"]:
            row["details"] = evaluation.details(labels, logits[path])
        if corrupted is not None:
            row["corruptions"] = corruptions.accuracies(
                models[path], corrupted, verbose=not settings["quiet"]
            )
    if settings["latency"]:
        times = latency.measure(subject.paths.values())
        for row, time in zip(rows.values(), times, strict=True):
            row["cost"]["latency"] = time
    return {
        "run": subject.title,
        "dataset": splits.name,
        "class_names": list(splits.class_names),
        "images": len(labels),
        "teacher": subject.teacher and str(subject.teacher),
        "control": subject.control and str(subject.control),
        "corruptions": settings["corruptions"],
        "models": rows,
    }


def _finite(path, labels, logits):
    """The logits, if they can be evaluated."""
    try:
        return checks.checked(labels, logits)[1]
    except ValueError as error:
        # Without the marks of arguments: they are none that a flag could mend.
        said = str(error).replace("`", "")
        raise ValueError(f"'{path}' cannot be evaluated: {said}") from error


def _measured(path, subject, seen):
    """Scores, cost, and the comparison with the control, of one model of a subject."""
    labels, logits, models = seen["labels"], seen["logits"], seen["models"]
    teacher = None if path == subject.teacher else subject.teacher
    scores = evaluation.scores(labels, logits[path], logits.get(teacher))
    pair = [models.get(one) for one in (path, teacher)]
    if all(isinstance(one, runtimes.KerasModel) for one in pair):
        cka = evaluation.feature_similarity(*(one.model for one in pair), seen["images"])
        scores |= {} if cka is None else {"cka": cka}
    right = round(scores["accuracy"] * len(labels))
    row = {
        "scores": scores,
        "accuracy_interval": list(evaluation.wilson(right, len(labels))),
        "cost": evaluation.cost(path, timed=False, loaded=models[path]),
    }
    if subject.control not in (None, path):
        row["against_control"] = evaluation.compare(labels, logits[path], logits[subject.control])
    return row


def _over_seeds(evaluations):
    """Means and spreads over the runs of several seeds, of the models that each of them has."""
    first, *others = [found["models"] for found in evaluations]
    names = [name for name in first if all(name in other for other in others)]
    over = {}
    for name in names:
        rows = [found["models"][name] for found in evaluations]
        over[name] = {"scores": intervals.across_each([row["scores"] for row in rows])}
        if all("against_control" in row for row in rows):
            differences = [row["against_control"]["difference"] for row in rows]
            over[name]["against_control"] = evaluation.across(differences)
    return {"seeds": [found["run"] for found in evaluations], "models": over}
