"""The tables of export.py, from what its parts measured."""

import importlib.metadata
import os
import pathlib
import platform

import export_routes as routes
import numpy as np
import speed_tables

LARGER, GROWTH, INT8 = 1.01, 50, 0.32  # bytes of a peer's, MB, int8 of float32
AFTER = 3  # exports until memory is first looked at
PEERS = (routes.CONVERTER, routes.LITERT)
HEADER = (
    *("file", "bytes", "kdkeras / it", "logits / it"),
    *("ms", "kdkeras / it", "logits / it", "off by"),
)


def part(name, result):
    """The Markdown of a part."""
    tables = {"sizes": sizes, "memory": memory}[name](result["measured"])
    before, after = result["load_averages"]
    how = (
        f"{result['machine']}; load average {before} before, {after} after. {result['versions']}. "
        f"`{result['command']}`"
    )
    return "\n\n".join([*tables, how])


def sizes(found):
    """A table a student, and what became of the goals."""
    blocks, pairs, ratios = [], [], []
    for one in found:
        by_route = {(row["precision"], row["route"]): row for row in one["rows"]}
        title = one["student"] + (f", {one['policy']}" if one["policy"] != "float32" else "")
        lines = []
        for row in one["rows"]:
            peer = row["route"] in PEERS
            ours = [by_route[row["precision"], route] for route in (routes.OURS, routes.BARE)]
            lines.append(_line(row, ours if peer else None))
            if peer and "ms" in row and all("ms" in own for own in ours):
                pairs.append((f"{title} {row['precision']} beside {row['route']}", row, ours))
        blocks += [f"**{title}**", speed_tables.grid(HEADER, lines)]
        if one["policy"] == "float32" and ("int8", routes.OURS) in by_route:
            ratios.append((one["student"], by_route))
    return [*blocks, _explained(found), "\n".join([*_goals(pairs), *_shrunk(ratios)])]


def _line(row, ours):
    """A row of a student's table; with `ours`, the two files of kdkeras in the same precision."""
    cells = [f"{row['precision']}, {row['route']}", f"{row['bytes']:,}" if "bytes" in row else "-"]
    if row["failed"]:
        return [*cells, "", "", row["failed"], "", "", ""]
    cells += [_size(own, row) if ours else "" for own in ours or (None, None)]
    least, middle, greatest = np.percentile(row["ms"], [0, 50, 100])
    cells.append(f"{middle:.3f} ({least:.3f} to {greatest:.3f})")
    cells += [_latency(own, row) if ours else "" for own in ours or (None, None)]
    return [*cells, f"{row['largest_difference']:.0e}"]


def _size(own, row):
    return f"{own['bytes'] / row['bytes']:.4f}" if "bytes" in own else "-"


def _latency(own, row):
    if "ms" not in own:
        return "-"
    middle, low, high = speed_tables.ratio(own["ms"], row["ms"])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _explained(found):
    rounds = next(len(row["ms"]) for one in found for row in one["rows"] if "ms" in row)
    return (
        f"ms: one image on one thread, median of {rounds} rounds (least to greatest); ratios of "
        "ms: median of the rounds' ratios (bootstrap 95 % interval over rounds). Off by: largest "
        "difference in probability from the Keras student, on 64 random images; weights are "
        "random. A file of kdkeras gives "
        "probabilities (one softmax more) and holds class names and a description "
        f'(`kdkeras.json`); "{routes.BARE}" gives logits, as the others do, and holds the '
        'description alone: "logits / it".'
    )


def _goals(pairs):
    """For both files of kdkeras, in how many pairs size and latency are a peer's or better."""
    lines = []
    for number, what in enumerate(("kdkeras", routes.BARE)):
        larger, slower = [], []
        for name, row, ours in pairs:
            size = ours[number]["bytes"] / row["bytes"]
            larger += [f"{name} ({size:.3f})"] if size > LARGER else []
            low = speed_tables.ratio(ours[number]["ms"], row["ms"])[1]
            slower += [f"{name} ({_latency(ours[number], row)})"] if low > 1 else []
        goal = f"- {what}: at most {LARGER} of the peer's bytes"
        lines.append(_verdict(goal, larger, len(pairs)))
        goal = f"- {what}: as fast as the peer or faster, within the interval"
        lines.append(_verdict(goal, slower, len(pairs)))
    return lines


def _verdict(goal, missed, count):
    said = f"{goal}: {count - len(missed)} of {count} pairs."
    return f"{said} **Missed**: {'; '.join(missed)}." if missed else said


def _shrunk(ratios):
    lines = []
    for name, by_route in ratios:
        int8, float32 = by_route["int8", routes.OURS], by_route["float32", routes.OURS]
        if "bytes" in int8 and "bytes" in float32:
            share = int8["bytes"] / float32["bytes"]
            goal = ""
            if name == "mobilenet_v2:1.0":
                goal = f" (goal at most {INT8}: {'met' if share <= INT8 else '**missed**'})"
            lines.append(f"- {name}: int8 has {share:.3f} of float32's bytes{goal}.")
    return lines


def memory(found):
    """Growth of resident memory, from after the third time to the last."""
    rows, growths = [], {}
    for key, what in (("kdkeras", "kdkeras.export.tflite"), ("converter", routes.CONVERTER)):
        held = found[key]
        growths[key] = held[-1] - held[AFTER]
        times = len(held) - 1 - AFTER
        cells = [f"{held[0]:.0f}", f"{held[AFTER]:.0f}", f"{held[-1]:.0f}"]
        growth = growths[key]
        rows.append([what, len(held) - 1, *cells, f"{growth:.0f}", f"{growth / times:.2f}"])
    header = ("", "times", "MB before", f"after {AFTER}", "after the last", "growth", "each")
    ours, theirs = found["kdkeras"], found["converter"]
    as_many = growths["converter"] * (len(ours) - 1 - AFTER) / (len(theirs) - 1 - AFTER)
    verdict = "met" if growths["kdkeras"] < GROWTH else "**missed**"
    said = (
        f"Resident MB of one process that takes {found['student']} through the route over and "
        f"over, in alternating precisions; growth is from after {AFTER} times to the last. "
        f"kdkeras below {GROWTH} MB: {verdict}. In as many conversions the converter's growth "
        f"would be {as_many:.0f} MB, by proportion. kdkeras converts in a child process, which is "
        "not counted: it ends with each export."
    )
    return [speed_tables.grid(header, rows), said]


def machine():
    """What the figures were measured on, in words."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def versions():
    packages = ("tensorflow", "keras", "ai-edge-litert")
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
