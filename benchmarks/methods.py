"""Every method, the control and keras.distillation: same teacher, student, data, seeds and budget.

python benchmarks/methods.py --workdir=runs/methods

A ResNet-20 is trained on the full training split of the digits; MobileNetV2 (width 0.35) students
then learn from it on 100 labelled images, shifted by up to a pixel, each method with its defaults.
The method is chosen on the validation split, and then trained with more seeds, as the control is;
the test split is scored once, at the end of each training, and shown beside it. Finished trainings
are kept in the work directory, so that a run that was stopped goes on. The table goes to
benchmarks/RESULTS.md.
"""

import concurrent.futures
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import statistics
import time

from absl import app, flags

flags.DEFINE_string("workdir", "runs/methods", "where the teacher and finished trainings are kept")
flags.DEFINE_integer("seeds", 3, "trainings of each method, with seeds 0, 1, ...", lower_bound=1)
flags.DEFINE_integer("final_seeds", 5, "of the control and of the method chosen", lower_bound=2)
flags.DEFINE_integer("images", 100, "training images of the students", lower_bound=10)
flags.DEFINE_integer("epochs", 120, "epochs of each student", lower_bound=1)
flags.DEFINE_integer("batch_size", 20, "examples a step", lower_bound=2)
flags.DEFINE_float("learning_rate", 3e-3, "of Adam, decayed to 0 along a cosine", lower_bound=0.0)
flags.DEFINE_integer("teacher_epochs", 12, "epochs of the teacher", lower_bound=1)
flags.DEFINE_list("only", None, "methods to train; all unless given")
flags.DEFINE_integer("jobs", 2, "trainings at a time, a process with one thread each")
flags.DEFINE_string("output", "benchmarks/RESULTS.md", "the file whose table is replaced")
FLAGS = flags.FLAGS

PEERS = ("keras.distillation, KLDivergence()", "keras.distillation, its default")


def names():
    """The control, the methods for accuracy, and the peers."""
    from kdkeras import choices

    return ["control", *choices.FOR_ACCURACY, *PEERS]


def train_one(name, seed, settings):
    """Trains one student; returns its accuracies and the time of a step."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    import kdkeras

    if tf.config.get_visible_devices("GPU") == []:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    workdir = pathlib.Path(settings["workdir"])
    splits = kdkeras.data.load("digits", max_train=settings["images"])
    batches = kdkeras.data.batches(
        splits.train,
        settings["batch_size"],
        seed=seed,
        augment=kdkeras.augment.pipeline("crop", padding=1),
        drop_remainder=True,
    )

    def new_student():
        return kdkeras.models.mobilenet_v2(
            input_shape=splits.input_shape, num_classes=splits.num_classes, alpha=0.35
        )

    keras.utils.set_random_seed(seed)
    student = new_student()
    teacher = keras.models.load_model(workdir / "teacher" / "teacher.keras", compile=False)
    if name == "born_again":
        path = workdir / f"control-{seed}.keras"
        teacher = keras.models.load_model(path, compile=False)
    if name == "mutual":
        teacher = new_student()
        compile_(teacher, settings)
    data = batches if name != "control" and name not in PEERS else batches.map(plain)
    model = student if name == "control" else distiller_of(name, student, teacher)
    compile_(model, settings)
    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.started)

    model.fit(data, epochs=settings["epochs"], shuffle=False, verbose=0, callbacks=[Clock()])
    if name == "control":
        student.save(workdir / f"control-{seed}.keras")
    result = {
        "name": name,
        "seed": seed,
        "epoch_seconds": statistics.median(seconds[1:] or seconds),
    }
    for split in ("validation", "test"):
        result[split] = kdkeras.evaluate(student, getattr(splits, split))["accuracy"]
    keras.backend.clear_session()  # graphs that would add up from training to training
    return result


def plain(x, y):
    return x, y["label"]


def distiller_of(name, student, teacher):
    import keras

    import kdkeras

    if name in PEERS:
        from keras import distillation

        options = {"loss": keras.losses.KLDivergence()} if name == PEERS[0] else {}
        return distillation.Distiller(
            teacher,
            student,
            distillation_losses=distillation.LogitsDistillation(temperature=4.0, **options),
            student_loss_weight=0.1,
        )
    method = getattr(kdkeras.methods, name)
    return kdkeras.Distiller(**method(student=student, teacher=teacher))


def compile_(model, settings):
    import keras

    steps = settings["epochs"] * (settings["images"] // settings["batch_size"])
    rate = keras.optimizers.schedules.CosineDecay(settings["learning_rate"], steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=loss)


def train_teacher(settings):
    import kdkeras

    folder = pathlib.Path(settings["workdir"]) / "teacher"
    if not (folder / "results.json").exists():
        recipe = kdkeras.Recipe(
            dataset="digits",
            epochs=settings["teacher_epochs"],
            workdir=str(folder),
            control=False,
            export=False,
            resume=(folder / "recipe.json").exists(),
        )
        from kdkeras import repeats

        repeats.train(recipe)


def train_all(wanted, seeds, settings):
    """All results, by (method, seed); those on disk are not computed again."""
    log = pathlib.Path(settings["workdir"]) / "results.jsonl"
    done = {}
    if log.exists():
        for line in log.read_text().splitlines():
            result = json.loads(line)
            if result["settings"] == settings:
                done[result["name"], result["seed"]] = result
    todo = [(name, seed) for seed in range(seeds) for name in wanted]
    todo = [pair for pair in todo if pair not in done]
    # The controls first: they are the teachers of the born-again.
    todo.sort(key=lambda pair: pair[0] != "control")
    controls = [pair for pair in todo if pair[0] == "control"]
    for part in (controls, todo[len(controls) :]):
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(FLAGS.jobs, mp_context=context) as pool:
            futures = [pool.submit(train_one, *pair, settings) for pair in part]
            for future in concurrent.futures.as_completed(futures):
                result = {**future.result(), "settings": settings}
                done[result["name"], result["seed"]] = result
                with open(log, "a") as file:
                    file.write(json.dumps(result) + "\n")
                print(
                    f"{len(done)} trained: {result['name']}, seed "
                    f"{result['seed']}: validation {result['validation']:.2%}, test "
                    f"{result['test']:.2%}",
                    flush=True,
                )
    return done


def column(done, name, key, seeds):
    return [100.0 * done[name, seed][key] for seed in range(seeds)]


def gains(done, name, seeds):
    """Test accuracy over the control's, seed by seed, in points."""
    pairs = (column(done, one, "test", seeds) for one in (name, "control"))
    return [mine - controls for mine, controls in zip(*pairs, strict=True)]


def told(values, form=".2f"):
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{format(statistics.mean(values), form)} ± {spread:.2f}"


def ordered(done, wanted):
    """The names, best mean validation accuracy first."""
    return sorted(
        wanted,
        key=lambda name: -statistics.mean(column(done, name, "validation", FLAGS.seeds)),
    )


def table(done, wanted):
    """The Markdown table of all methods, best validation first."""
    lines = [
        "| method | validation | test | test over control, paired | time of an epoch |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ordered(done, wanted):
        ratios = [
            done[name, seed]["epoch_seconds"] / done["control", seed]["epoch_seconds"]
            for seed in range(FLAGS.seeds)
        ]
        lines.append(
            f"| {name} | {told(column(done, name, 'validation', FLAGS.seeds))} "
            f"| {told(column(done, name, 'test', FLAGS.seeds))} "
            f"| {told(gains(done, name, FLAGS.seeds), '+.2f')} "
            f"| {statistics.median(ratios):.2f} |"
        )
    return "\n".join(lines)


def verdict(done, chosen):
    """The chosen method against the control, in a sentence."""
    gain = gains(done, chosen, FLAGS.final_seeds)
    mean = statistics.mean(gain)
    error = statistics.stdev(gain) / len(gain) ** 0.5
    more = "more" if mean > 2.0 * error else "not more"
    return (
        f"Chosen on validation: {chosen}. On test it is {mean:+.2f} points from the control over "
        f"{len(gain)} paired seeds, standard error {error:.2f}: {more} than twice the standard "
        f"error. (Test: {told(column(done, chosen, 'test', FLAGS.final_seeds))}, control "
        f"{told(column(done, 'control', 'test', FLAGS.final_seeds))}.)"
    )


def how(settings):
    """What was run, on what."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("tensorflow", "keras"))
    given = {"seeds": FLAGS.seeds, "final_seeds": FLAGS.final_seeds, **settings}
    words = " ".join(f"--{name}={value}" for name, value in given.items() if name != "workdir")
    return (
        f"n = {FLAGS.seeds} seeds, mean ± standard deviation, accuracy in percent; an epoch's time "
        f"is the median ratio to the control's, {FLAGS.jobs} trainings at a time on "
        f"{os.cpu_count()} cores. {versions}. `python benchmarks/methods.py {words}`"
    )


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"Flags are written --name=value. Received: {argv[1:]}")
    import pages

    settings = {
        name: FLAGS[name].value
        for name in (
            *("workdir", "images", "epochs", "batch_size", "learning_rate", "teacher_epochs"),
        )
    }
    wanted = list(dict.fromkeys(["control", *(FLAGS.only or names())]))
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        raise app.UsageError(f"--only must name some of {names()}. Received: {unknown}")
    pathlib.Path(FLAGS.workdir).mkdir(parents=True, exist_ok=True)
    train_teacher(settings)
    done = train_all(wanted, FLAGS.seeds, settings)
    parts = [table(done, wanted)]
    ours = [name for name in ordered(done, wanted) if name != "control" and name not in PEERS]
    if ours:
        finalists = ["control", ours[0]]
        done = train_all(finalists, FLAGS.final_seeds, settings)
        parts.append(verdict(done, ours[0]))
    text = "\n\n".join([*parts, how(settings)])
    print(text)
    pages.replace(FLAGS.output, "methods.py", text, "## Methods")


if __name__ == "__main__":
    app.run(main)
