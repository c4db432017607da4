"""Students in int8: calibrated after training, and trained for it against their teacher.

python benchmarks/quantized.py --data_dir=tfds --teacher=resnet20.keras --workdir=runs/quantized

For each seed a MobileNetV2 student (stock strides, which fit 2 cores) learns from the teacher's
recorded answers. Its int8 file is made twice: calibrated on 256 training images, and after
`--quantize_epochs` of training with rounded weights and activations against the same teacher
(`kdkeras.quantization.aware`; the epoch is chosen on the validation split). Every figure is of the
written file, on the whole test split. What is finished is kept in the work directory, so that a run
that was stopped goes on. The table goes to docs/deploy.md.
"""

import importlib.metadata
import pathlib
import statistics
import time

from absl import app, flags

flags.DEFINE_string("workdir", "runs/quantized", "where models and finished figures are kept")
flags.DEFINE_string("dataset", "cifar10", "as of kdkeras distill")
flags.DEFINE_string("data_dir", None, "where tensorflow_datasets finds prepared sets")
flags.DEFINE_string("teacher", None, "the teacher's .keras file", required=True)
flags.DEFINE_float("width", 0.35, "alpha of the MobileNetV2 students")
flags.DEFINE_enum("strides", "stock", ["stock", "small"], "of the students")
flags.DEFINE_integer("seeds", 3, "students, with seeds 0, 1, ...", lower_bound=2)
flags.DEFINE_integer("epochs", 12, "epochs of each student", lower_bound=1)
flags.DEFINE_integer("quantize_epochs", 3, "epochs with rounded weights", lower_bound=1)
flags.DEFINE_float("learning_rate", 5e-3, "of Adam, warmed up, decayed to 0 along a cosine")
flags.DEFINE_float("quantize_learning_rate", 3e-4, "of the training with rounded weights")
flags.DEFINE_integer("batch_size", 128, "examples a step", lower_bound=1)
flags.DEFINE_string("output", "docs/deploy.md", "the file whose table is replaced")
FLAGS = flags.FLAGS

MARK = "quantized.py"
KINDS = ("float32", "int8", "trained")
TITLES = {
    "float32": "the student, float32",
    "int8": "int8, calibrated",
    "trained": "int8, trained for it",
}


def main(_):
    import keras

    import kdkeras

    work = pathlib.Path(FLAGS.workdir)
    work.mkdir(parents=True, exist_ok=True)
    splits = kdkeras.data.load(FLAGS.dataset, FLAGS.data_dir, verbose=0)
    teacher = keras.models.load_model(FLAGS.teacher, compile=False)
    cache = recorded(work, teacher, splits)
    test = kdkeras.data.arrays(splits.test)
    found = [of_seed(seed, work, splits, teacher, cache, test) for seed in range(FLAGS.seeds)]
    said = kdkeras.evaluate(teacher, test)["accuracy"]
    write(found, said, len(test[1]))


def recorded(work, teacher, splits):
    """The teacher's answers to four views of each picture."""
    import kdkeras

    path = work / "teacher.cache"
    if path.exists():
        return kdkeras.cache.load(path)
    shifts = kdkeras.augment.pipeline("crop,flip", padding=splits.input_shape[0] // 8)
    both = [splits.train, splits.validation]
    return kdkeras.cache.fill(path, teacher, both, views=4, augment=shifts)


def of_seed(seed, work, splits, teacher, cache, test):
    """Accuracy, size and differences of one student's files."""
    import kdkeras
    from kdkeras import files

    record = work / f"figures-{seed}.json"
    if record.exists():
        return files.read_json(record)
    started = time.perf_counter()
    student = trained(seed, work / f"float-{seed}.keras", splits, cache)
    images = kdkeras.quantization.calibration_images(splits.train, seed=seed)
    aware = trained_for_int8(seed, student, teacher, images, splits)
    options = {"timed": False, "overwrite": True}
    kinds = ["float32", "int8"]
    calibrated = kdkeras.export.flavours(
        student, work / f"calibrated-{seed}", *test, kinds=kinds, calibration=images, **options
    )
    learned = kdkeras.export.flavours(
        student, work / f"trained-{seed}", *test, kinds=["int8"], quantized=aware, **options
    )
    rows = {**calibrated["files"], "trained": learned["files"]["int8"]}
    seconds = round(time.perf_counter() - started)
    found = {"seed": seed, "seconds": seconds, **{kind: rows[kind] for kind in KINDS}}
    files.write_json(record, found)
    print(seed, {kind: rows[kind]["test"]["accuracy"] for kind in KINDS}, seconds, flush=True)
    return found


def trained(seed, path, splits, cache):
    """The float32 student of a seed."""
    import keras

    import kdkeras

    if path.exists():
        return keras.models.load_model(path, compile=False)
    keras.utils.set_random_seed(seed)
    student = kdkeras.models.mobilenet_v2(
        input_shape=splits.input_shape,
        num_classes=splits.num_classes,
        alpha=FLAGS.width,
        strides=FLAGS.strides,
        batchnorm_momentum=0.9,
    )
    distiller = kdkeras.Distiller(student=student, alpha=0.1, temperature=4.0)
    steps = FLAGS.epochs * -(-len(splits.train) // FLAGS.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - steps // 10,
        warmup_target=FLAGS.learning_rate,
        warmup_steps=steps // 10,
    )
    fit(distiller, rate, cache.batches(splits.train, FLAGS.batch_size, seed=seed), FLAGS.epochs)
    student.save(path)
    return student


def trained_for_int8(seed, student, teacher, images, splits):
    """The student trained on with rounded weights, at its best epoch on the validation split."""
    import keras

    import kdkeras

    keras.utils.set_random_seed(seed)
    aware = kdkeras.quantization.aware(student, images)
    distiller = kdkeras.Distiller(student=aware, teacher=teacher, alpha=0.1, temperature=4.0)
    shifts = kdkeras.augment.pipeline("crop,flip", padding=splits.input_shape[0] // 8)
    batches = kdkeras.data.batches(splits.train, FLAGS.batch_size, seed=seed, augment=shifts)
    steps = FLAGS.quantize_epochs * -(-len(splits.train) // FLAGS.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(FLAGS.quantize_learning_rate, steps)
    best, kept = kdkeras.evaluate(aware, splits.validation)["accuracy"], aware.get_weights()
    print(f"{seed}: validation before {best:.4f}", flush=True)

    def keep(epoch, logs):
        nonlocal best, kept
        accuracy = kdkeras.evaluate(aware, splits.validation)["accuracy"]
        print(f"{seed}: validation, epoch {epoch + 1}: {accuracy:.4f}", flush=True)
        if accuracy > best:
            best, kept = accuracy, aware.get_weights()

    callback = keras.callbacks.LambdaCallback(on_epoch_end=keep)
    fit(distiller, rate, batches, FLAGS.quantize_epochs, [callback])
    aware.set_weights(kept)
    return aware


def fit(distiller, rate, batches, epochs, callbacks=()):
    import keras

    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(rate), loss=hard, metrics=["accuracy"])
    distiller.fit(batches, epochs=epochs, verbose=2, callbacks=list(callbacks))


def write(found, of_teacher, count):
    """The table, a row a form, over the seeds."""
    import pages
    import tensorflow as tf

    lines = ["| | accuracy, % | less than float32 | KB | agrees, % |", "|---|---|---|---|---|"]
    for kind in KINDS:
        accuracies = [100 * one[kind]["test"]["accuracy"] for one in found]
        whole = [100 * one["float32"]["test"]["accuracy"] for one in found]
        lost = [of_float - mine for of_float, mine in zip(whole, accuracies, strict=True)]
        agreement = statistics.mean(100 * one[kind]["agreement"] for one in found)
        size = statistics.mean(one[kind]["bytes"] for one in found) / 1e3
        cells = [TITLES[kind], spread(accuracies), spread(lost), f"{size:,.0f}", f"{agreement:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    names = ("keras", "ai-edge-litert")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    given = ("dataset", "width", "strides", "epochs", "quantize_epochs")
    words = " ".join(f"--{name}={FLAGS[name].value}" for name in given)
    lines.append(
        f"\nMean and standard deviation over {len(found)} seeds; {count:,} test images; teacher "
        f"{of_teacher:.1%}. `python benchmarks/quantized.py {words}`, TensorFlow "
        f"{tf.__version__}, {versions}."
    )
    pages.replace(FLAGS.output, MARK, "\n".join(lines))
    print("\n".join(lines))


def spread(values):
    return f"{statistics.mean(values):.2f} ({statistics.stdev(values):.2f})"


if __name__ == "__main__":
    app.run(main)
