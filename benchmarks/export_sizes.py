"""The sizes part of export.py: files of all routes, run and timed side by side."""

import pathlib
import sys
import tempfile
import time

import export_routes as routes
import numpy as np

WARM_UP = 20
COMPARED = 64


def sizes(names, *, rounds, invokes):
    """Rows of the students' files: bytes, milliseconds of each round, or why there are none.

    Yields:
        The list of students that are done, each with its rows.
    """
    plans = [(name, "float32", routes.PRECISIONS) for name in names]
    plans.append((names[0], "mixed_float16", ("float32",)))
    found = []
    for name, policy, precisions in plans:
        rows = of_student(name, policy, precisions, rounds, invokes)
        found.append({"student": name, "policy": policy, "rows": rows})
        yield found


def of_student(name, policy, precisions, rounds, invokes):
    """The rows of one student."""
    model = routes.student(name, policy)
    rows, runs = [], {}
    with tempfile.TemporaryDirectory(prefix="kdkeras-export-") as folder:
        saved = f"{folder}/student.keras"
        model.save(saved)
        for number, route in enumerate(routes.ROUTES):
            paths = {one: f"{folder}/{number}.{one}.tflite" for one in precisions}
            for precision, why in routes.written(route, model, saved, paths).items():
                row = {"precision": precision, "route": route, "failed": why}
                if why is None:
                    path = pathlib.Path(paths[precision])
                    row["bytes"] = path.stat().st_size
                    run = compared(row, path, model)
                    if run is not None:
                        runs[len(rows)] = run
                rows.append(row)
                said = row["failed"] or f"{row['bytes']:,} bytes"
                print(f"{name} {policy}: {precision}, {route}: {said}", file=sys.stderr, flush=True)
        for number, found in timed(runs, rounds, invokes).items():
            rows[number]["ms"] = found
    return sorted(rows, key=lambda row: precisions.index(row["precision"]))


def compared(row, path, model):
    """Runs a file, adds to its row how it differs from the student; None if it does not run."""
    from kdkeras import evaluation, runtimes
    from kdkeras.export import proving

    pictures = routes.images(COMPARED, 2)
    try:
        run = runtimes.load(path)
        given = run.given(pictures)
    except (ValueError, RuntimeError) as error:
        row["failed"] = f"does not run: {routes.reason(error)}"
        return None
    if not np.isfinite(given).all():
        row["failed"] = "NaN"
        return None
    probabilities = run.as_probabilities(given)
    row |= proving.compared(probabilities, evaluation.logits_of(model, pictures))
    return run.on(pictures[:1])


def timed(runs, rounds, invokes):
    """By key, the median milliseconds of each round's runs."""
    found = {key: [] for key in runs}
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for key in random.permutation(list(runs)):
            run, seconds = runs[key], []
            for _ in range(WARM_UP):
                run()
            for _ in range(invokes):
                started = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - started)
            found[key].append(1e3 * float(np.median(seconds)))
    return found
