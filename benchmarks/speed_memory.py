"""The memory part of speed.py: each case in a process of its own."""

import concurrent.futures
import gc
import multiprocessing
import pathlib
import re
import shutil
import tempfile

STEPS, EVERY = 400, 20  # batches read, and how often memory is looked at


def kilobytes(file, key):
    """A figure of /proc, in kB."""
    text = pathlib.Path(f"/proc/self/{file}").read_text()
    return int(re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE).group(1))


def anonymous():
    """MB of memory of the process's own, which no file stands behind."""
    return kilobytes("smaps_rollup", "Anonymous") / 1000


def peak():
    """MB that the process held at most, mapped files included."""
    return kilobytes("status", "VmHWM") / 1000


def fill(path, images, views):
    """Records a cheap teacher's logits of `images` pictures; returns MB on disk."""
    import speed_cases as cases

    from kdkeras import cache

    split = cases.examples(images)
    cache.fill(path, cases.small_teacher(), split, views=views, verbose=0)
    return pathlib.Path(path).stat().st_size / 1e6


def reading(path, images, views, batch_size, steps):
    """MB of anonymous memory that reading batches adds at most; with the cache if `path`."""
    import speed_cases as cases

    import kdkeras

    split = cases.examples(images)
    options = {"seed": 1}
    warm = kdkeras.data.batches(split, batch_size, **options, views=views).repeat()
    for _ in warm.take(EVERY):  # what TensorFlow takes for itself at first
        pass
    del warm
    gc.collect()
    before, most = anonymous(), 0.0
    if path is None:
        data = kdkeras.data.batches(split, batch_size, **options, views=views)
    else:
        from kdkeras import cache

        recorded = cache.load(path)
        data = recorded.batches(split, batch_size, **options)
    for number, _ in enumerate(data.repeat().take(steps)):
        if number % EVERY == 0:
            most = max(most, anonymous())
    return max(most, anonymous()) - before


def training(case, names, settings):
    """MB held at most by a process that builds a case's models and trains a few steps."""
    import speed_cases as cases

    split = cases.examples(cases.BATCHES_IN_MEMORY * settings.batch_size)
    data = cases.plain_batches(split, settings.batch_size)
    architecture, width = names
    model = cases.build("mobilenet_v2", width)
    if case == "keras":
        model = cases.keras_distiller(cases.build(architecture), model)
    elif case == "live":
        model = cases.our_distiller(cases.build(architecture), model)
    elif case == "cached":  # the teacher that filled the cache was in another process
        data = cases.cached_batches(cases.small_teacher(), split, settings.batch_size)
        model = cases.our_distiller(None, model)
    cases.Training(cases.compiled(model), data).steps(6)
    return peak()


def alone(function, *args):
    """What a function returns in a new process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def memory(settings):
    """Peaks of trainings, and what a cache adds to reading batches."""
    import speed_cases as cases
    import speed_parts as parts

    rounds = 1 if settings.quick else 3
    pair, names = next(iter(parts.pairs_of(settings).items()))
    peaks = {case: [] for case in ("student", "keras", "live", "cached")}
    for number in range(rounds):
        for case, found in peaks.items():
            found.append(alone(training, case, names, settings))
            cases.say(f"  round {number + 1}: {case} holds {found[-1]:.0f} MB at most")
    result = {"pair": pair, "peaks": peaks, "rounds": rounds}
    return result | added(settings)


def added(settings):
    """The anonymous memory of reading batches with a cache and without, and the cache's size."""
    import speed_cases as cases

    images, views = (1_000, 2) if settings.quick else (50_000, 8)
    steps, rounds = (40, 1) if settings.quick else (STEPS, 5)  # allocators scatter by some MB
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kdkeras-speed-"))
    try:
        on_disk = alone(fill, str(folder / "cache"), images, views)
        grown = {"without": [], "with": []}
        for number in range(rounds):
            for name, path in (("without", None), ("with", str(folder / "cache"))):
                given = (path, images, views, settings.batch_size, steps)
                grown[name].append(alone(reading, *given))
                cases.say(f"  round {number + 1}: {name} the cache +{grown[name][-1]:.1f} MB")
    finally:
        shutil.rmtree(folder)
    return {"images": images, "views": views, "on_disk": on_disk, "grown": grown}
