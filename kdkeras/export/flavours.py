"""A student in every form: written, run, compared, measured, and described in one report."""

import pathlib
import tempfile
import time

from kdkeras import (
    arguments,
    environment,
    evaluation,
    files,
    inference,
    latency,
    locks,
    quantization,
)
from kdkeras.cache import identity
from kdkeras.export import checks, contents, converting, operators, proving, records, writing

FLAVOURS = ("saved_model", *checks.PRECISIONS, "onnx")


def flavours(
    student,
    folder,
    images,
    labels=None,
    *,
    kinds=("saved_model", "float32"),
    teacher=None,
    quantized=None,
    calibration=None,
    class_names=None,
    pixels=None,
    output="probabilities",
    timed=True,
    overwrite=False,
    resume=False,
    verbose=False,
):
    """Writes a student in several forms, proves each on real images, and reports what each is like.

    A file that cannot be made, or is not as the student is, is left out and named under `failed`;
    the others are written all the same.

    Args:
        student: `keras.Model`, `Distiller` or `.keras` file, as for `tflite`.
        folder: Where the files go: `saved_model`, `student.tflite` (float32),
            `student.float16.tflite` and so on, `student.onnx`, and `report.json`.
        images: Array of images in [0, 1] to run the files on: a test split's.
        labels: Optional integer array, for the files' accuracy.
        kinds: Which to write, some of `FLAVOURS`.
        teacher: Optional `keras.Model`, timed beside the student.
        quantized: Optional model that `kdkeras.quantization.aware` made of the student, trained
            further: "int8" is written from it.
        calibration: For "int8" and "int16x8", as for `tflite`; with `quantized`, of no use to
            "int8".
        class_names: Optional list of strings, one a class.
        pixels: What goes in, as for `tflite`. Beside kinds that take it, int16x8 files take
            "float32", and others "uint8" for "int8".
        output: "probabilities" or "logits".
        timed: Whether to measure latency, of one image on one thread.
        overwrite: Whether to replace files that are there; what fails leaves them. Without it, a
            file that the report in the folder knows, of the same weights, options, calibration and
            images, stays as it is, and any other is refused.
        resume: Whether to go on with what a stopped call left: such files stay, and those that it
            was about to write are replaced.
        verbose: Whether to say which file is being made.

    Returns:
        Dict, as `report.json` holds it: `images` (how many), `calibration` (how many), `student`
        and `teacher` (`bytes` of their weights in float32, `test`, `latency` as a TensorFlow
        graph), and `files` by kind: `path`, `bytes`, `sha256`, `weights`, `calibration` and
        `tested_on` (digests of what they are of), `input`, `output`, `labels`,
        `largest_difference` and `mean_difference` from the student's probabilities, `agreement`
        with its top class, `test` (as `kdkeras.evaluation.scores`, with labels), `latency`
        (`median_ms`, `p95_ms`, `runs`), `trained_for_int8` (of a file of `quantized`, its
        differences from that model; else None) and
        `operators`; `written`: the kinds that this call wrote, for files of earlier ones that are
        still there stay in the report; and `failed`: the reasons by kind.

    Raises:
        ValueError: The student cannot be exported at all, an option does not fit, the folder holds
            what is no export, or another process is writing there: nothing was written.
        OSError: The folder cannot be written.

    Example:

    >>> images, labels = kdkeras.data.arrays(splits.test)
    >>> report = kdkeras.export.flavours(student, "export", images, labels, kinds=["float16"])
    >>> report["files"]["float16"]["test"]["accuracy"]
    0.98
    """
    folder = pathlib.Path(folder)
    model = inference.clone(student)
    images = checks.images(images, inference.image_shape(model))
    if labels is not None:
        labels = checks.labels(labels, len(images), model.outputs[0].shape[-1])
    settings = {"calibration": calibration, "class_names": class_names, "output": output}
    sources = dict.fromkeys(kinds, model)
    if quantized is not None and "int8" in kinds:
        sources["int8"] = inference.clone(quantized)
    some_take = "int8" in kinds if pixels == "int8" else set(kinds) != {"int16x8"}
    plans = {
        kind: _plan(kind, pixels, settings, sources[kind], some_take=some_take) for kind in kinds
    }
    for kind, plan in plans.items():
        checks.check(kind, sources[kind], plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            f"`folder` must be a folder, or a place where one can be made. Received: '{folder}'"
        ) from error
    tested_on = records.digest(images, labels)
    proofs = {
        kind: {
            "weights": identity.of_teacher(source)["weights"],
            "calibration": records.digest(plans[kind]["calibration"]),
            "tested_on": tested_on,
        }
        for kind, source in sources.items()
    }
    made, failed = {}, {}
    with locks.alone(folder / locks.NAME, of=folder):
        files.sweep(folder, [records.REPORT, records.LABELS, *map(_file_name, FLAVOURS)])
        before = records.before(folder)
        standing = records.standing(folder, before)
        same = {kind: records.same(standing.get(kind), plans[kind], proofs[kind]) for kind in kinds}
        kept = [kind for kind in kinds if same[kind]]
        kept = kept if resume or not overwrite else []
        ours = before.get("unfinished", []) if resume else []
        for kind in set(kinds) - set(kept):
            checks.free(folder / _file_name(kind), kind, overwrite or kind in ours)
        if class_names and not (overwrite or before):
            records.check_labels(folder, class_names)
        # For who goes on when this is killed.
        records.write_unfinished(folder, standing, [kind for kind in kinds if kind not in kept])
        for kind, plan in plans.items():
            if kind in kept:
                if verbose:
                    print(f"{kind}: there already", flush=True)
                continue
            path, started = folder / _file_name(kind), time.monotonic()
            try:
                found = _made(model, sources[kind], kind, path, images, labels, plan)
                made[kind] = {**found, **proofs[kind]}
                to_come = [other for other in kinds if other not in {*kept, *made}]
                records.write_unfinished(folder, {**standing, **made}, to_come)
            except ValueError as error:
                failed[kind] = str(error)
            if verbose:
                how = "failed" if kind in failed else "written and tested"
                print(f"{kind}: {how}, {time.monotonic() - started:.0f} s", flush=True)
        rows = {**standing, **made}
        if class_names:
            files.write_text(folder / records.LABELS, contents.lines(class_names))
        models = {"student": model, **({} if teacher is None else {"teacher": teacher})}
        report = {
            "format": records.FORMAT,
            "images": len(images),
            "calibration": 0 if calibration is None else len(calibration),
            **{role: _described(of, images, labels) for role, of in models.items()},
            "files": {kind: rows[kind] for kind in FLAVOURS if kind in rows},
            "written": [kind for kind in kinds if kind in made or (resume and kind in kept)],
            "failed": failed,
            "environment": environment.described(),
        }
        if timed:
            untimed = [kind for kind in report["written"] if "latency" not in rows[kind]]
            _time(report, models, {kind: rows[kind] for kind in untimed})
        files.write_json(folder / records.REPORT, report, sealed=True)
    return report


def _plan(kind, pixels, settings, source, *, some_take):
    """The options of one kind of file, of those for all of them.

    Where some kinds take the pixels that are asked for, the others take what is next to them.
    """
    arguments.one_of("kinds", kind, FLAVOURS)
    plan = {**settings, "pixels": checks.pixels_of(kind, pixels)}
    if kind not in ("int8", "int16x8") or quantization.is_aware(source):
        plan["calibration"] = None
    if not some_take:
        return plan  # to be refused
    if kind == "int16x8":
        plan["pixels"] = "float32"
    elif plan["pixels"] == "int8" and kind != "int8":
        plan["pixels"] = "uint8"
    return plan


def _file_name(kind):
    names = {"saved_model": "saved_model", "onnx": "student.onnx", "float32": "student.tflite"}
    return names.get(kind, f"student.{kind}.tflite")


def _made(model, source, kind, path, images, labels, plan):
    """Writes one file of `source`; what it is like, beside the model."""
    seen = proving.levels(images, plan["pixels"])
    expected = proving.same_twice(source, seen)
    run, given = writing.write(source, path, kind, seen, expected, **plan)
    probabilities = run.as_probabilities(given)
    of_source = proving.compared(probabilities, expected)
    if source is not model:
        expected = evaluation.logits_of(model, seen)
    parts = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    found = {
        "path": str(path),
        "bytes": sum(part.stat().st_size for part in parts),
        "sha256": files.digest(path),
        "input": plan["pixels"],
        "output": plan["output"],
        "labels": plan["class_names"] and list(plan["class_names"]),
        **proving.compared(probabilities, expected),
        "trained_for_int8": of_source if source is not model else None,
        "operators": operators.used(run, path),
    }
    if labels is not None:
        found["test"] = evaluation.scores(labels, run.as_logits(given), expected)
    return found


def _described(model, images, labels):
    """What is reported of a Keras model: its weights' size, and its metrics."""
    found = {"bytes": 4 * model.count_params()}
    if labels is not None:
        found["test"] = evaluation.scores(labels, evaluation.logits_of(model, images))
    return found


def _time(report, models, made):
    """Adds the latency of the files, and of the models as TensorFlow graphs."""
    rows = [*(report[role] for role in models), *made.values()]
    with tempfile.TemporaryDirectory() as scratch:
        paths = [*(f"{scratch}/{role}" for role in models), *(row["path"] for row in made.values())]
        try:
            for path, model in zip(paths, models.values(), strict=False):
                graph = inference.clone(model)
                converting.archive(graph, path, batch_size=1, pixels="float32", output="logits")
            found = latency.measure(paths)
        except ValueError as error:
            report["failed"]["latency"] = str(error)
            return
    for row, one in zip(rows, found, strict=True):
        row["latency"] = one
