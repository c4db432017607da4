"""The parts of speed.py: each measures, and returns what goes into its JSON file."""

import random
import time

import keras
import speed_cases as cases
import tensorflow as tf

import kdkeras

PAIRS = {
    "ResNet-18-CIFAR → MobileNetV2 1.0": ("resnet18", 1.0),
    "ResNet-56 → MobileNetV2 0.35": ("resnet56", 0.35),
    "ResNet-50 → MobileNetV2 1.0": ("ResNet50", 1.0),
}
QUICK_PAIRS = {"ResNet-20 → MobileNetV2 0.35": ("resnet20", 0.35)}
SIZES, QUICK_SIZES = (1_000, 5_000, 20_000, 50_000), (200, 400)
GPU_BATCH, GPU_STEPS = 512, 48  # of which 16, as kdkeras runs them in a call, is a divisor


def pairs_of(settings):
    return QUICK_PAIRS if settings.quick else PAIRS


def built_pair(names, strides="stock"):
    architecture, width = names
    keras.utils.set_random_seed(0)
    return cases.build(architecture), cases.build("mobilenet_v2", width, strides)


def step_cases(teacher, start, settings, endings=("", cases.FEATURE)):
    """All cases of a pair, each with a student of its own that starts from equal weights."""
    split = cases.examples(cases.BATCHES_IN_MEMORY * settings.batch_size)
    plain = cases.plain_batches(split, settings.batch_size)
    recorded = cases.cached_batches(teacher, split, settings.batch_size)
    found = {
        "student": cases.Training(cases.compiled(cases.copy(start)), plain),
        "teacher": cases.Forward(teacher, plain),
    }
    for ending in endings:
        feature = bool(ending)
        for name, make, taught_by, data in (
            ("keras", cases.keras_distiller, teacher, plain),
            ("live", cases.our_distiller, teacher, plain),
            ("cached", cases.our_distiller, None, recorded),
        ):
            model = cases.compiled(make(taught_by, cases.copy(start), feature))
            found[name + ending] = cases.Training(model, data)
    return found


def steps(settings):
    """A step of every case, for each pair."""
    measured = {}
    for pair, names in pairs_of(settings).items():
        cases.say(f"  {pair}")
        keras.backend.clear_session()  # the models of the pair before
        found = step_cases(*built_pair(names), settings)
        measured[pair] = cases.interleaved(
            found, settings, count=settings.timed_steps, dropped=2, seconds=2.0
        )
        del found
    return {"pairs": measured}


class Reading:
    """A case timed as a pipeline alone, with nothing that takes its batches."""

    def __init__(self, data):
        self.data = data

    def steps(self, count, dropped=1):
        """Mean seconds of a batch over `count`, after those dropped: a list of one."""
        batches = iter(self.data)
        for _ in range(dropped):
            next(batches)
        started = time.perf_counter()
        for _ in range(count):
            x, _ = next(batches)
        x.numpy()
        return [(time.perf_counter() - started) / count]


def our_batches(split, batch_size, *, augmented, noisy=False):
    """`kdkeras.data.batches` of (x, label), without end."""
    data = kdkeras.data.batches(
        split,
        batch_size,
        seed=0,
        augment=kdkeras.augment.pipeline("crop,flip") if augmented else None,
        perturbation=kdkeras.perturbations.Gaussian(stddev=0.1) if noisy else None,
        drop_remainder=True,
    )
    return data.map(lambda x, y: (x, y["label"])).repeat()


def per_example(split, batch_size, *, augmented, noisy=False):
    """The same as most scripts do it: tf.data, a picture at a time, stateful draws."""

    def one(image, label):
        image = tf.cast(image, tf.float32) / 255.0
        if augmented:
            image = tf.pad(image, [[4, 4], [4, 4], [0, 0]])
            image = tf.image.random_flip_left_right(tf.image.random_crop(image, cases.SHAPE))
        if noisy:
            image += tf.random.normal(cases.SHAPE, stddev=0.1)
        return image, label

    pictures = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
    pictures = pictures.shuffle(10_000, seed=0).repeat()
    data = pictures.map(one, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def pipeline(settings):
    """Pipelines alone; then what augmentation adds to a step."""
    split = cases.examples(1_000 if settings.quick else 10_000)
    kinds = {
        "no augmentation": {"augmented": False},
        "crop, flip": {"augmented": True},
        "crop, flip, noise": {"augmented": True, "noisy": True},
    }
    readings = {}
    for name, options in kinds.items():
        for maker, make in (("kdkeras", our_batches), ("tf.data", per_example)):
            data = make(split, settings.batch_size, **options)
            readings[f"{maker}: {name}"] = Reading(data)
    count, dropped = (4, 1) if settings.quick else (60, 10)
    cases.say("  batches alone")
    alone = cases.interleaved(readings, settings, count=count, dropped=dropped)
    fits = {}
    for strides in ("small", "stock"):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        start = cases.build("mobilenet_v2", 0.35, strides)
        found = {
            name: cases.Training(
                cases.compiled(cases.copy(start)),
                our_batches(split, settings.batch_size, **kinds[name]),
            )
            for name in ("no augmentation", "crop, flip, noise")
        }
        cases.say(f"  steps with {strides} strides")
        fits[strides] = cases.interleaved(found, settings, count=16, dropped=4)
    return {"alone": alone, "fits": fits}


class Epoch(cases.Training):
    """A case whose epoch's start, up to the first batch trained on, is timed too."""

    def steps(self, count, dropped=1):
        """Seconds of the first step, then of `count` steps after those dropped."""
        seconds = super().steps(count + dropped, dropped=0)
        return [seconds[0], *seconds[dropped:]]


def size(settings):
    """Epochs on recorded logits, for training sets of several sizes."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    start = cases.build("mobilenet_v2", 0.35)
    found = {}
    for images in QUICK_SIZES if settings.quick else SIZES:
        split = cases.examples(images)
        data = cases.cached_batches(cases.small_teacher(), split, settings.batch_size)
        model = cases.compiled(cases.our_distiller(None, cases.copy(start)))
        found[str(images)] = Epoch(model, data)
    measured = cases.interleaved(found, settings, count=20, dropped=4)
    return {"sizes": measured}


def first_epoch(settings):
    """Seconds from `fit` to the end of its first step, less a steady step, of fresh models."""
    names = next(iter(pairs_of(settings).values()))
    order = ["student", "keras", "live", "cached"]
    measured = {name: [] for name in order}
    for number in range(min(settings.rounds, 5)):
        random.Random(settings.seed + number).shuffle(order)
        keras.backend.clear_session()
        found = step_cases(*built_pair(names), settings, endings=("",))
        for name in order:
            started = time.perf_counter()
            fit = first_fit(found[name])
            first, steady = fit[0] - started, sorted(fit[1])[len(fit[1]) // 2]
            measured[name].append(first - steady)
        seconds = (f"{name} {measured[name][-1]:.1f}" for name in measured)
        cases.say(f"    round {number + 1}, s: {', '.join(seconds)}")
        del found
    return {"cases": measured, "pair": next(iter(pairs_of(settings))), "rounds": number + 1}


def first_fit(training):
    """When the first step of a `fit` ended, and the seconds of those after it."""

    class First(keras.callbacks.Callback):
        ended = None

        def on_train_batch_end(self, batch, logs=None):
            self.ended = self.ended or time.perf_counter()

    first, clock = First(), cases.Clock()
    options = {"steps_per_epoch": 6, "shuffle": False, "verbose": 0}
    training.model.fit(training.data, **options, callbacks=[clock, first])
    return first.ended, clock.seconds[1:]


def gpu(settings):
    """Images a second by precision and compilation; None without a GPU."""
    if not tf.config.list_physical_devices("GPU"):
        cases.say("  no GPU: its table stays as it was")
        return None
    names, measured = PAIRS["ResNet-18-CIFAR → MobileNetV2 1.0"], {}
    split = cases.examples(cases.BATCHES_IN_MEMORY * GPU_BATCH)
    plain = cases.plain_batches(split, GPU_BATCH)
    for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
        for jit_compile in (False, True):
            key = f"{policy}, {'XLA' if jit_compile else 'no XLA'}"
            cases.say(f"  {key}")
            keras.backend.clear_session()
            keras.config.set_dtype_policy(policy)
            measured[key] = gpu_row(names, plain, split, jit_compile, settings)
            keras.config.set_dtype_policy("float32")
    return {"rows": measured, "batch_size": GPU_BATCH}


def gpu_row(names, plain, split, jit_compile, settings):
    """Rounds of seconds by case; a case that Keras refuses has its reason instead."""
    teacher, start = built_pair(names, "small")
    recorded = cases.cached_batches(teacher, split, GPU_BATCH)
    found, refused = {}, {}
    for name, make, taught_by, data in (
        ("keras", cases.keras_distiller, teacher, plain),
        ("live", cases.our_distiller, teacher, plain),
        ("cached", cases.our_distiller, None, recorded),
    ):
        try:
            model = make(taught_by, cases.copy(start))
            case = cases.Epochs(cases.compiled(model, jit_compile=jit_compile), data)
            case.steps(GPU_STEPS)
        except Exception as error:  # the table says why there is no figure
            refused[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        else:
            found[name] = case
    return cases.interleaved(found, settings, count=GPU_STEPS) | refused
