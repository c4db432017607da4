"""The tables of speed.py, from what its parts measured."""

import statistics

import numpy as np

RESAMPLES = 10_000
NAMES = {
    "student": "student alone, `fit` on labels",
    "teacher": "teacher's forward alone",
    "keras": "keras.distillation, logits",
    "live": "kdkeras, live teacher",
    "cached": "kdkeras, recorded teacher",
    "keras_feature": "keras.distillation, logits and MSE of the last layers",
    "live_feature": "kdkeras, live, soft targets and MSE of the logits",
    "cached_feature": "kdkeras, recorded, soft targets and MSE of the logits",
}


def per_round(rounds):
    """One value a round: the median of its steps."""
    return np.array([statistics.median(steps) for steps in rounds])


def ratio(above, below, seed=0):
    """The median of the rounds' ratios and its bootstrap 95 % interval over rounds."""
    ratios = np.asarray(above) / np.asarray(below)
    picks = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def spread(values, form=".1f"):
    """Median and quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def grid(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def target(what, above, below, at_most=None):
    """A row: what, the ratio, its interval, the target, and whether it is met."""
    middle, low, high = ratio(above, below)
    verdict = "" if at_most is None else ("met" if middle <= at_most else "**missed**")
    limit = "" if at_most is None else f"{at_most:.2f}"
    return [what, f"{middle:.3f}", f"{low:.3f} to {high:.3f}", limit, verdict]


TARGETS = ["what", "ratio", "95 % interval", "at most", ""]


def steps(result, settings):
    """Times of the cases, and the ratios with their targets."""
    times, rows, pairs = [], [], result["pairs"]
    of = {
        pair: {name: per_round(rounds) for name, rounds in found.items()}
        for pair, found in pairs.items()
    }
    for name, words in NAMES.items():
        times.append([words, *(spread(1e3 * of[pair][name]) for pair in of)])
    for pair, t in of.items():
        both = t["student"] + t["teacher"]
        rows += [
            target(f"{pair}: recorded / student alone", t["cached"], t["student"], 1.05),
            target("recorded with the MSE / student alone", t["cached_feature"], t["student"]),
            target("live / (student alone + teacher)", t["live"], both, 1.03),
            target("live / keras.distillation", t["live"], t["keras"], 1.02),
            target(
                "live / keras.distillation, both with the MSE",
                t["live_feature"],
                t["keras_feature"],
                0.7 if pair.startswith("ResNet-50") else 0.8,
            ),
            target(
                "recorded / keras.distillation",
                t["cached"],
                t["keras"],
                0.3 if pair.startswith("ResNet-18") else None,
            ),
        ]
    text = (
        f"A training step, batch {settings['batch_size']}, 32x32x3, 10 classes, MobileNetV2 with "
        "its stock strides, float32, SGD with momentum, in milliseconds: the median over rounds of "
        f"the median of {settings['timed_steps']} to {4 * settings['timed_steps']} steps inside "
        "`fit` (more of short ones; the first two dropped), with quartiles."
    )
    parts = [text, grid(["step, ms", *of], times), grid(TARGETS, rows)]
    return parts


def pipeline(result, settings):
    """Images a second, and what augmentation adds to a step."""
    alone = {name: per_round(rounds) for name, rounds in result["alone"].items()}
    kinds = dict.fromkeys(name.split(": ")[1] for name in alone)
    rows = []
    for kind in kinds:
        ours, theirs = alone[f"kdkeras: {kind}"], alone[f"tf.data: {kind}"]
        middle, low, high = ratio(theirs, ours)
        speeds = [spread(settings["batch_size"] / each, ",.0f") for each in (ours, theirs)]
        rows.append([kind, *speeds, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    header = ["images a second", "`kdkeras.data.batches`", "tf.data, picture by picture"]
    added = []
    for strides, at_most in (("small", 1.05), ("stock", 1.12)):
        t = {name: per_round(rounds) for name, rounds in result["fits"][strides].items()}
        plain = t["no augmentation"]
        what = (
            f"step of MobileNetV2 0.35 ({strides} strides, {1e3 * np.median(plain):.0f} ms) with "
            "crop, flip and noise / without"
        )
        added.append(target(what, t["crop, flip, noise"], plain, at_most))
    return [
        "Pipelines alone, with nothing that takes their batches; and what they add to a step of "
        "the student, which shares the cores with them.",
        grid([*header, "kdkeras / tf.data", "95 % interval"], rows),
        grid(TARGETS, added),
    ]


def size(result, settings):
    """Time an image by the size of the training set."""
    batch, images, rows = settings["batch_size"], {}, []
    for name, rounds in result["sizes"].items():
        steady = np.array([statistics.median(steps[1:]) for steps in rounds])
        first, count = np.array([steps[0] for steps in rounds]), int(name) // batch
        images[name] = (first + (count - 1) * steady) / (count * batch)
        row = [f"{int(name):,}", spread(1e3 * steady), spread(1e3 * (first - steady))]
        rows.append([*row, spread(1e6 * images[name], ".0f")])
    parts = [
        "Epochs of MobileNetV2 0.35 (stock strides) on recorded logits, by the number of training "
        "images: steps in the steady state, what the first step of an epoch takes beyond one, and "
        "the time an image of a whole epoch that follows from the two.",
        grid(["images", "step, ms", "start of an epoch, ms", "an image, µs"], rows),
    ]
    if {"50000", "5000"} <= set(images):
        what = "time an image: 50,000 images / 5,000 images"
        parts.append(grid(TARGETS, [target(what, images["50000"], images["5000"], 1.05)]))
    return parts


def first_epoch(result, settings):
    """Tracing and compiling."""
    rows = [[NAMES[name], spread(seconds)] for name, seconds in result["cases"].items()]
    header = ["the first step of a `fit`, less a steady one", "s"]
    return [
        f"Tracing and building graphs, {result['pair']}, {result['rounds']} rounds of fresh models "
        "in one process.",
        grid(header, rows),
    ]


def memory(result, settings):
    """Peaks, and what a cache adds."""
    rows = [[NAMES[name], spread(found, ",.0f")] for name, found in result["peaks"].items()]
    parts = [
        f"Memory, each case in {result['rounds']} processes of its own: the most that one held "
        f"({result['pair']}, batch {settings['batch_size']}).",
        grid(["training", "peak, MB"], rows),
    ]
    without, with_cache = (result["grown"][name] for name in ("without", "with"))
    extra = statistics.median(with_cache) - statistics.median(without)
    verdict = "met" if extra <= 20 else "**missed**"
    rows = [
        ["batches without a cache, anonymous memory added, MB", spread(without), "", ""],
        ["batches with the cache, anonymous memory added, MB", spread(with_cache), "", ""],
        ["what the cache adds, MB", f"{extra:.1f}", "20", verdict],
        ["the cache's file, mapped, MB", f"{result['on_disk']:.1f}", "", ""],
    ]
    what = f"{result['images']:,} images, {result['views']} views, 10 classes"
    return [*parts, grid([what, "measured", "at most", ""], rows)]


def gpu(result, settings):
    """Images a second on the GPU."""
    rows = []
    for name, found in result["rows"].items():
        row = [name]
        for case in ("keras", "live", "cached"):
            given, batch = found[case], result["batch_size"]
            refused = isinstance(given, str)
            row.append(given if refused else spread(batch / per_round(given), ",.0f"))
        rows.append(row)
    header = ["images a second", NAMES["keras"], NAMES["live"], NAMES["cached"]]
    parts = [
        "On the GPU: ResNet-18-CIFAR → MobileNetV2 1.0 with CIFAR strides, batch "
        f"{result['batch_size']}; steps per call as each of the two chooses by itself.",
        grid(header, rows),
    ]
    return parts
