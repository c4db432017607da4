"""How fast kdkeras is beside keras.distillation, a plain fit, and a plain tf.data pipeline.

python benchmarks/speed.py                          # everything, about half an hour on two cores
python benchmarks/speed.py --only=steps,memory      # these parts alone; the others stay
python benchmarks/speed.py --quick                  # a smoke test that writes no table
python benchmarks/speed.py --render                 # the tables again, without measuring

The parts: `steps` (a training step of a student alone, of keras.distillation, and of kdkeras with a
live and with a recorded teacher), `pipeline` (images a second, and what augmentation adds to a
step), `size` (time an image for training sets of 1,000 to 50,000), `first_epoch` (tracing and
compiling), `memory` (what a cache adds, and peaks) and `gpu` (only with one: precisions and XLA).

The cases of a part run in one process, with TensorFlow's own threads, after a warm-up, in rounds:
each round runs every case once, in an order shuffled by the seed, so that what else the machine
does falls on all of them. A ratio is the median of the rounds' ratios; its interval comes from a
bootstrap over rounds. The raw seconds go to --workdir, one JSON file a part, and the tables of all
parts that were ever run there to benchmarks/RESULTS.md. Run it on a quiet machine.
"""

import importlib.metadata
import os
import pathlib
import platform
import sys
import time
import types

from absl import app, flags

PARTS = ("steps", "pipeline", "size", "first_epoch", "memory", "gpu")
flags.DEFINE_list("only", list(PARTS), f"the parts to measure, of {', '.join(PARTS)}")
flags.DEFINE_integer("rounds", 15, "how often each case is measured", lower_bound=2)
flags.DEFINE_integer("timed_steps", 3, "steps of a case in a round of `steps`", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "examples a step", lower_bound=8)
flags.DEFINE_integer("seed", 0, "of the order of the cases")
flags.DEFINE_bool("quick", False, "2 rounds of small models and batches; tables on stdout alone")
flags.DEFINE_bool("render", False, "write the tables from --workdir without measuring")
flags.DEFINE_string("workdir", "runs/speed", "where the raw measurements are kept, as JSON")
flags.DEFINE_string("output", "benchmarks/RESULTS.md", "the file whose section is replaced")
FLAGS = flags.FLAGS

RECORDED = ("rounds", "timed_steps", "batch_size", "seed")


def settings_of_run():
    given = {name: FLAGS[name].value for name in RECORDED} | {"quick": FLAGS.quick}
    if FLAGS.quick:
        given |= {"rounds": 2, "timed_steps": 2, "batch_size": 16}
    return types.SimpleNamespace(**given)


def machine():
    """What the figures were measured on, in words."""
    import tensorflow as tf

    found = pathlib.Path("/proc/cpuinfo"), pathlib.Path("/proc/meminfo")
    info, memory = (path.read_text() if path.exists() else "" for path in found)
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line]
    kilobytes = [int(line.split()[1]) for line in memory.splitlines() if "MemTotal" in line]
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "a GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [models[0] if models else platform.processor(), f"{cores} cores"]
    words += [f"{kilobytes[0] / 2**20:.0f} GiB"] if kilobytes else []
    return ", ".join([*words, *(gpus or ["no GPU"])])


def versions():
    packages = ("tensorflow", "keras", "numpy")
    found = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return f"Python {platform.python_version()}, {', '.join(found)}"


def measure(part, settings):
    """Runs a part; None if this machine cannot."""
    import speed_memory
    import speed_parts

    functions = {"memory": speed_memory.memory}
    started, load = time.time(), os.getloadavg()[0]
    print(f"{part} (load average {load:.1f})", file=sys.stderr, flush=True)
    measured = functions.get(part, getattr(speed_parts, part, None))(settings)
    if measured is None:
        return None
    return {
        "measured": measured,
        "settings": vars(settings),
        "machine": machine(),
        "versions": versions(),
        "load_average_before": round(load, 2),
        "seconds": round(time.time() - started, 1),
    }


def how(found, parts):
    """What the parts were run with, in a line; parts run alike share one."""
    lines = {}
    for part in parts:
        result = found[part]
        words = " ".join(f"--{name}={result['settings'][name]}" for name in RECORDED)
        said = f"{result['machine']}. {result['versions']}. `python benchmarks/speed.py {words}"
        lines.setdefault(said, []).append(part)
    lines = [
        f"{', '.join(names)}: {said} --only={','.join(names)}`" for said, names in lines.items()
    ]
    took = (
        f"{part} {found[part]['seconds'] / 60:.1f} min ({found[part]['load_average_before']:.1f})"
        for part in parts
    )
    return "\n\n".join([*lines, f"Time taken (load average before): {', '.join(took)}."])


def render(workdir):
    """The Markdown of all parts that the work directory holds."""
    import speed_tables

    from kdkeras import files

    paths = {part: workdir / f"{part}.json" for part in PARTS}
    found = {part: files.read_json(path) for part, path in paths.items() if path.exists()}
    if not found:
        raise app.UsageError(f"{workdir} holds no measurements. Run without --render first.")
    blocks = []
    for part, result in found.items():
        blocks.append(f"### {part}")
        blocks += getattr(speed_tables, part)(result["measured"], result["settings"])
    blocks.append(
        "A ratio is the median of the ratios of the rounds, in each of which every case ran once, "
        "in shuffled order; its interval is a bootstrap over rounds (percentiles of 10,000 "
        "resamples). In brackets: quartiles."
    )
    return "\n\n".join([*blocks, how(found, found)])


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"Flags are written --name=value. Received: {argv[1:]}")
    unknown = sorted(set(FLAGS.only) - set(PARTS))
    if unknown:
        raise app.UsageError(f"--only must name some of {list(PARTS)}. Received: {unknown}")
    workdir = pathlib.Path(FLAGS.workdir) / ("quick" if FLAGS.quick else "")
    workdir.mkdir(parents=True, exist_ok=True)
    if not FLAGS.render:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from kdkeras import files

        for part in (part for part in PARTS if part in FLAGS.only):
            result = measure(part, settings_of_run())
            if result is not None:
                files.write_json(workdir / f"{part}.json", result)
    text = render(workdir)
    print(text)
    if not FLAGS.quick:
        import pages

        pages.replace(FLAGS.output, "speed.py", text, "## Speed")


if __name__ == "__main__":
    app.run(main)
