"""How long a model file takes for one image on one thread: measured in a process of its own."""

import json
import pathlib
import sys
import time

import numpy as np

from kdkeras import noise, processes, runtimes

WARM_UP = 20
RUNS = 200
# Seconds that a slow model is run for at most.
MOST = 5.0


def measure(paths):
    """Single-thread latency of model files, one after the other in one child process.

    Args:
        paths: Paths of `.tflite`, `.onnx` or `.keras` files or SavedModel folders.

    Returns:
        List of dicts, one a path: `median_ms` and `p95_ms` of `runs` runs of one image.

    Raises:
        ValueError: A file cannot be read.

    Example:

    >>> measure(["student.tflite"])
    [{'median_ms': 0.11, 'p95_ms': 0.13, 'runs': 200}]
    """
    done = processes.run("kdkeras.latency", *paths)
    if done.returncode:
        raise ValueError(f"Latency cannot be measured: {processes.last_lines(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def of(run):
    """Median and 95th percentile, in milliseconds, of a function without arguments."""
    for _ in range(WARM_UP):
        run()
    seconds, until = [], time.perf_counter() + MOST
    while len(seconds) < RUNS and time.perf_counter() < until:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    median, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return {"median_ms": float(median), "p95_ms": float(p95), "runs": len(seconds)}


def _main(paths):
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    found = []
    for path in map(pathlib.Path, paths):
        with noise.hushed():
            loaded = runtimes.load(path)
        image = np.random.default_rng(0).random((1, *loaded.input_shape), "float32")
        found.append(of(loaded.on(image)))
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1:])
