"""`.tflite` files by kdkeras beside those of TensorFlow's converter and of Keras's own export.

python benchmarks/export.py                              # everything, about half an hour
python benchmarks/export.py --only=memory --exports=10   # this part alone; the other stays
python benchmarks/export.py --render                     # the tables again, without measuring

The parts:

`sizes`: each student, in each precision, through `kdkeras.export.tflite` (as it is by default with
class names, and with `output="logits"` and no names, which is what the others write),
`tf.lite.TFLiteConverter.from_keras_model` and `model.export(format="litert")`, with the settings
that TensorFlow's and Keras's guides give for the precision. The same weights (random, BatchNorm
statistics of random images) and the same calibration images go through all. Every file is then run
by ai_edge_litert, one image on one thread. Latencies are taken in rounds: a round times every file
of a student once, in shuffled order, so that what else the machine does falls on all of them. A
route that fails is a row that says how. The first student is also taken under mixed_float16.

`memory`: resident memory of a process that exports a student over and over, in alternating
precisions, from after the third export to the last; beside it a process that converts in itself.
int8 comes first: its files are compared on the calibration images, more than others are, and what
TensorFlow takes once for a larger batch is no growth.

What was measured goes to --json, where a part that is not run again stays, and the tables of all
of it to --output.
"""

import os
import pathlib
import sys

from absl import app, flags, logging

PARTS = ("sizes", "memory")
STUDENTS = "mobilenet_v2:0.35,mobilenet_v2:1.0,resnet20,shufflenet_v2"
flags.DEFINE_list("only", list(PARTS), f"the parts to measure, of {', '.join(PARTS)}")
flags.DEFINE_list("students", STUDENTS, "name, or name:width, of each student of `sizes`")
flags.DEFINE_integer("rounds", 15, "how often each file is timed", lower_bound=2)
flags.DEFINE_integer("invokes", 200, "runs of a file in a round", lower_bound=1)
flags.DEFINE_string("memory_student", "resnet20", "the student of `memory`")
flags.DEFINE_integer("exports", 50, "exports in a row in one process", lower_bound=4)
flags.DEFINE_integer("conversions", 10, "conversions in a row in one process", lower_bound=4)
flags.DEFINE_bool("render", False, "write the tables from --json without measuring")
flags.DEFINE_string("json", "runs/export.json", "where the raw measurements are kept")
flags.DEFINE_string("output", "docs/deploy.md", "the file whose section is replaced")
FLAGS = flags.FLAGS


def measured(part):
    """Yields what a part has measured so far, with what it was measured on."""
    import export_memory
    import export_sizes
    import export_tables

    load = os.getloadavg()[0]
    if part == "sizes":
        names = ("students", "rounds", "invokes")
        results = export_sizes.sizes(FLAGS.students, rounds=FLAGS.rounds, invokes=FLAGS.invokes)
    else:
        names = ("memory_student", "exports", "conversions")
        results = export_memory.memory(FLAGS.memory_student, FLAGS.exports, FLAGS.conversions)
    given = " ".join(FLAGS[name].serialize() for name in names)
    for found in results:
        yield {
            "measured": found,
            "machine": export_tables.machine(),
            "versions": export_tables.versions(),
            "load_averages": [round(load, 1), round(os.getloadavg()[0], 1)],
            "command": f"python benchmarks/export.py --only={part} {given}",
        }


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"Flags are written --name=value. Received: {argv[1:]}")
    unknown = sorted(set(FLAGS.only) - set(PARTS))
    if unknown:
        raise app.UsageError(f"--only must name some of {list(PARTS)}. Received: {unknown}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.set_verbosity("error")  # TensorFlow would tell of every SavedModel
    import export_tables
    import pages

    from kdkeras import files

    kept = pathlib.Path(FLAGS.json)
    found = files.read_json(kept) if kept.exists() else {}
    if FLAGS.render and not found:
        raise app.UsageError(f"{kept} holds no measurements. Run without --render first.")
    kept.parent.mkdir(parents=True, exist_ok=True)
    for part in () if FLAGS.render else FLAGS.only:
        for result in measured(part):
            found[part] = result
            files.write_json(kept, found)
        print(export_tables.part(part, found[part]), flush=True)
    text = "\n\n".join(export_tables.part(part, found[part]) for part in PARTS if part in found)
    pages.replace(FLAGS.output, "export.py", text, "## Measured here")
    print(f"Written: {FLAGS.output}, {kept}", file=sys.stderr)


if __name__ == "__main__":
    app.run(main)
