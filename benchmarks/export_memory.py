"""The memory part of export.py: what exports and conversions leave behind in a process."""

import os
import pathlib
import sys
import tempfile

import export_routes as routes
import speed_memory

# int8 first: on more images than the others, so that TensorFlow's arenas are full-grown after it.
ORDER = ("int8", "float32", "float16", "dynamic")


def memory(name, exports, conversions):
    """Yields resident MB before and after each of some exports, and of some conversions."""
    yield {
        "student": name,
        "kdkeras": speed_memory.alone(exporting, name, exports),
        "converter": speed_memory.alone(converting, name, conversions),
    }


def exporting(name, count):
    """Resident MB of a process before `kdkeras.export.tflite`, and after each."""
    import kdkeras

    model, calibration = routes.student(name), routes.images(routes.CALIBRATION, 1)
    with tempfile.TemporaryDirectory(prefix="kdkeras-export-") as folder:

        def export(precision):
            path = pathlib.Path(folder, f"{precision}.tflite")
            given = {"calibration": calibration} if precision == "int8" else {}
            kdkeras.export.tflite(model, path, precision=precision, overwrite=True, **given)

        return _after_each(export, count, "kdkeras.export.tflite")


def converting(name, count):
    """Resident MB of a process before TensorFlow's converter runs in it, and after each time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the converter lists a model's tensors
    model = routes.student(name)
    return _after_each(lambda precision: routes.convert(model, precision), count, routes.CONVERTER)


def _after_each(run, count, what):
    held = [_resident()]
    for number in range(count):
        run(ORDER[number % len(ORDER)])
        held.append(_resident())
        print(f"{what} {number + 1}: {held[-1]:.1f} MB", file=sys.stderr, flush=True)
    return held


def _resident():
    return speed_memory.kilobytes("status", "VmRSS") / 1000
