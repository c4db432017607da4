"""The tables of export.py, from what its parts measured."""

import importlib.metadata
import os
import pathlib
import platform

import export_routes as routes
import numpy as np

LARGER, GROWTH, INT8 = 1.01, 50, 0.32  # at most: bytes of a peer's, MB, int8 of float32
AFTER = 3  # exports until memory is first looked at
PEERS = (routes.CONVERTER, routes.LITERT)
HEADER = (
    *("precision", "route", "bytes", "kdkeras of it", "logits of it"),
    *("ms", "kdkeras of it", "logits of it", "off by"),
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
        blocks += [f"**{title}**", grid(HEADER, lines)]
        if one["policy"] == "float32" and ("int8", routes.OURS) in by_route:
            ratios.append((one["student"], by_route))
    return [*blocks, _explained(found), "\n".join([*_goals(pairs), *_shrunk(ratios)])]


def _line(row, ours):
    """A row of a student's table; with `ours`, the two files of kdkeras in the same precision."""
    cells = [row["precision"], row["route"], f"{row['bytes']:,}" if "bytes" in row else "-"]
    comparable = ours is not None and "bytes" in row
    cells += [_size(own, row) if comparable else "" for own in ours or (None, None)]
    if row["failed"]:
        return [*cells, row["failed"], "", "", ""]
    cells.append(_spread(row["ms"]))
    cells += [_latency(own, row) if ours else "" for own in ours or (None, None)]
    return [*cells, f"{row['largest_difference']:.0e}"]


def _size(own, row):
    return f"{own['bytes'] / row['bytes']:.4f}" if "bytes" in own else "-"


def _latency(own, row):
    return _spread(ratio(own, row), ".2f") if "ms" in own else "-"


def ratio(own, row):
    """The rounds' ratios of latency."""
    return np.array(own["ms"]) / np.array(row["ms"])


def _spread(values, form=".3f"):
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _explained(found):
    row = next(row for one in found for row in one["rows"] if "ms" in row)
    return (
        f"ms: one image on one thread, median of {len(row['ms'])} rounds (least to greatest); "
        "ratios of ms likewise, of the same rounds. Off by: largest difference in probability from "
        "the Keras student, on random images. Weights are random. A file of kdkeras gives "
        "probabilities (one softmax more) and holds the class names and a description "
        '(`kdkeras.json`); the ratios "logits of it" are of its file with logits and no names, '
        "which holds what the others hold and the description."
    )


def _goals(pairs):
    """For both files of kdkeras, in how many pairs size and latency are a peer's or better."""
    lines = []
    for number, what in enumerate(("kdkeras", routes.BARE)):
        larger, slower = [], []
        for name, row, ours in pairs:
            size = ours[number]["bytes"] / row["bytes"]
            larger += [f"{name} ({size:.3f})"] if size > LARGER else []
            found = ratio(ours[number], row)
            slower += [f"{name} ({_spread(found, '.2f')})"] if min(found) > 1 else []
        goal = f"- {what}: at most {LARGER} of the peer's bytes"
        lines.append(_verdict(goal, larger, len(pairs)))
        lines.append(
            _verdict(f"- {what}: no slower than the peer in every round", slower, len(pairs))
        )
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
    """Growth of resident memory."""
    ours, theirs = found["kdkeras"], found["converter"]
    of_ours, of_theirs = ours[-1] - ours[AFTER - 1], theirs[-1] - theirs[AFTER - 1]
    more, fewer = len(ours) - AFTER, len(theirs) - AFTER
    verdict = "met" if of_ours < GROWTH else "**missed**"
    rows = [
        [
            "kdkeras.export.tflite",
            more,
            f"{of_ours:.0f}",
            f"{of_ours:.0f}; below {GROWTH}: {verdict}",
        ],
        [routes.CONVERTER, fewer, f"{of_theirs:.0f}", f"{of_theirs * more / fewer:.0f}"],
    ]
    header = ("in one process", "in a row", "MB more", f"MB in {more}, by proportion")
    said = (
        f"Resident memory of the process, from after the {AFTER}rd to the last, of {found['student']} "
        "in alternating precisions. kdkeras converts in a child process, which is not counted: it "
        "ends with each export."
    )
    return [grid(header, rows), said]


def grid(header, rows):
    lines = [header, ["---", "---"] + ["---:"] * (len(header) - 2), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine():
    """What the figures were measured on, in words."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def versions():
    packages = ("tensorflow", "keras", "ai-edge-litert")
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
