"""The training batches of a run's stages, and the cache that a student may learn from."""

import keras
import tensorflow as tf

from kdkeras import augment, cache, choices, data, perturbations, steps

CACHE = "teacher.cache"
# Bytes of pictures and answers that go on a GPU; where there are more, the host makes the batches.
ON_DEVICE = 2**31


def batches(name, recipe, splits, *, answers=None, first_epoch=0):
    """The training batches of a stage: pairs for plain models, enriched labels for the student.

    The control sees the student's views and noise.

    Args:
        name: "teacher", "control" or "student".
        recipe: `kdkeras.Recipe`.
        splits: `kdkeras.data.Splits`.
        answers: None, or the `kdkeras.cache.Cache` that the student learns from.
        first_epoch: Where to start, for a training that goes on.

    Returns:
        `tf.data.Dataset`, as `kdkeras.data.batches` gives it; for a student on a GPU
        `kdkeras.data.OnDevice`.

    Raises:
        ValueError: The batch size or the augmentation does not fit the data.
    """
    # The control is a plain Keras model: its noise is made in the pipeline.
    in_pipeline = name == "control" or recipe.perturb_in == "pipeline"
    options = {
        "seed": recipe.seed,
        "perturbation": noise(recipe) if in_pipeline and name != "teacher" else None,
        "one_hot": splits.num_classes if mixes(recipe) else None,
        "first_epoch": first_epoch,
    }
    on_device = name == "student" and _fits_on_device(splits.train, answers)
    if name == "student" and answers is not None:
        make = answers.on_device if on_device else answers.batches
        return make(splits.train, recipe.batch_size, **options)
    if name == "teacher":
        views = {"augment": augmentation(recipe, splits)}
    else:
        views = views_of(recipe, splits) if answers is None else answers.options()
    make = data.OnDevice if on_device else data.batches
    made = make(splits.train, recipe.batch_size, **options, **views)
    return made if name == "student" else made.map(lambda x, y: (x, y["label"]))


def validation_batches(recipe, splits):
    """The validation batches of every stage; of one-hot labels where mixup trains."""
    batched = splits.validation.batch(validation_batch_size(splits))
    if not mixes(recipe):
        return batched
    one_hot = keras.layers.CategoryEncoding(splits.num_classes, output_mode="one_hot")
    return batched.map(lambda x, y: (x, one_hot(y)))


def validation_batch_size(splits, most=256):
    """A batch size with which no batch has fewer examples than there are devices."""
    devices, count = tf.distribute.get_strategy().num_replicas_in_sync, len(splits.validation)
    return next(size for size in range(most, 0, -1) if not 0 < count % size < devices)


def views_of(recipe, splits):
    """The arguments of `kdkeras.data.batches` that say which views a recipe asks for."""
    made = augmentation(recipe, splits)
    if recipe.views is None:
        return {"augment": made}
    if recipe.views != "all":
        return {"augment": made, "views": int(recipe.views), "view_seed": recipe.seed}
    names = augmentations(recipe).split(",")
    if set(names) - {"crop", "flip"} or "crop" not in names:
        raise ValueError(
            "There are countable views of crops and flips alone: `views` can be all with "
            f"augment='crop' or 'crop,flip'. Received: augment={','.join(names)!r}"
        )
    every = augment.EveryShift(padding=_padding(recipe, splits), flip="flip" in names)
    return {"augment": every, "views": None, "view_seed": recipe.seed}


def noise(recipe):
    """The noise that a recipe asks for, or None."""
    if recipe.perturbation == "none" and recipe.method != "gaussian":
        return None
    return perturbations.Gaussian(stddev=recipe.noise_stddev, seed=recipe.seed)


def augmentation(recipe, splits):
    """The augmentation that a recipe asks for, or None."""
    return augment.pipeline(augmentations(recipe), padding=_padding(recipe, splits))


def augmentations(recipe):
    """The names of the augmentations that a recipe asks for, as a comma list; `auto` resolved."""
    if recipe.augment != "auto":
        return recipe.augment
    # A mirrored digit is another sign, or none.
    return "crop" if recipe.dataset == "digits" else "crop,flip"


def mixes(recipe):
    """Whether a recipe asks for mixup."""
    return "mixup" in augmentations(recipe).split(",")


def fill(recipe, teacher, splits, path, **options):
    """Fills a cache with a teacher's answers to the views that a recipe asks for.

    Args:
        recipe: `kdkeras.Recipe`.
        teacher: `keras.Model`.
        splits: `kdkeras.data.Splits`. Training and validation images are looked at, so that the
            cache serves every seed.
        path: The file.
        **options: `layers`, `shard`, `batch_size`, `overwrite` of `kdkeras.cache.fill`.

    Returns:
        As `kdkeras.cache.fill`.
    """
    return cache.fill(path, teacher, **_pictures(recipe, splits), **options)


def answers(recipe, teacher, splits, path, *, layers):
    """The cache of a run's own teacher: filled, or of all views, few of which are seen, lazily.

    Args:
        recipe, teacher, splits, path: As in `fill`.
        layers: Paths of the layers to record as well.

    Returns:
        `kdkeras.cache.Cache`.
    """
    make = cache.lazy if recipe.views == "all" else cache.fill
    return make(path, teacher, **_pictures(recipe, splits), layers=layers)


def _pictures(recipe, splits):
    views = views_of(recipe, splits)
    return {
        "splits": [splits.train, splits.validation],
        "views": views.get("views"),
        "seed": recipe.seed,
        "augment": views["augment"],
        "verbose": int(not recipe.quiet),
    }


def opened(recipe, splits, teacher=None, terms=()):
    """The cache that a recipe names, checked against what the run has.

    Args:
        recipe: `kdkeras.Recipe` with a `cache`.
        splits: `kdkeras.data.Splits`.
        teacher: The `keras.Model` that should have filled it, if it is there.
        terms: The terms that are to learn from it.

    Returns:
        `kdkeras.cache.Cache`.

    Raises:
        ValueError: It is damaged, of something else, or lacks what a term needs.
    """
    found = cache.load(recipe.cache)
    found.check(teacher=teacher, split=splits.train)
    if found.classes != splits.num_classes:
        raise ValueError(
            f"`cache` must be of {splits.num_classes} classes, as the dataset {splits.name!r}. "
            f"Received: '{recipe.cache}' with {found.classes}"
        )
    if recipe.augment != "auto" or recipe.views is not None:
        wanted = views_of(recipe, splits)
        found.check_identity({"augment": augment.described(wanted["augment"])})
        if wanted.get("views"):
            found.check_identity({"views": wanted["views"]})
    check_layers(found, terms)
    return found


def layers_of(terms):
    """The paths of the teacher's layers that terms compare, sorted."""
    return sorted({path for term in terms for path in term.teacher_paths})


def check_layers(found, terms):
    """Refuses a cache that lacks the layers that terms compare."""
    wanted = layers_of(terms)
    missing = [path for path in wanted if path not in found.layers]
    if missing:
        raise ValueError(
            f"`method` compares layers that the cache '{found.path}' does not hold: {missing}. "
            f"Fill it with --layers={','.join(wanted)}, or take a method of logits: "
            f"{', '.join(choices.OF_LOGITS)}."
        )


def _fits_on_device(split, answers):
    """Whether pictures and answers go on the GPU: there is one, without a strategy, and room."""
    if steps.on_cpu() or tf.distribute.has_strategy():
        return False
    if not isinstance(split, data.Examples):
        return False
    tables = {} if answers is None else answers.store.answers
    return split.images.nbytes + sum(table.nbytes for table in tables.values()) <= ON_DEVICE


def _padding(recipe, splits):
    # Digits fill their frames: a shift of more than a pixel cuts strokes off. Otherwise the papers'
    # 4 pixels of CIFAR's 32.
    return 1 if recipe.dataset == "digits" else max(1, splits.input_shape[0] // 8)
