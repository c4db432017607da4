"""The test pictures on which teacher and student are furthest apart, and what each looks at."""

import dataclasses

import numpy as np
import scipy.special
import tensorflow as tf

from kdkeras import recipe, runner, runtimes
from kdkeras.data import splits
from kdkeras.report import page, saliency, words

COUNT = 8
# Total variation below which there is nothing to see.
ALIKE = 0.05
TITLE = "Where teacher and student disagree most"
# Logits of a file and of its run on other hardware differ by less, relative to the largest.
ROUNDING = 1e-2
# What evidence for a class, and against it, is coloured with.
FOR, AGAINST = (0, 114, 178), (213, 94, 0)


def part(run):
    """Cards of pictures with saliency; a line with the reason where they cannot be had."""
    if not {"teacher", "student"} <= set(run.logits):
        return None
    apart = distances(run)
    order = np.argsort(-apart, kind="stable")[:COUNT]
    teacher, student = (run.logits[role].argmax(axis=-1) for role in ("teacher", "student"))
    if not (teacher != student).any() and apart.max() < ALIKE:
        return page.part(
            TITLE,
            page.text(
                f"Nowhere: on all {len(run.labels):,} test images both name the same class, with "
                f"probabilities that differ by {words.percent(apart.max())} at most."
            ),
        )
    try:
        images = _images(run, order)
        models = {role: _model(run, role, images, order) for role in ("teacher", "student")}
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        return page.part(TITLE, page.text(f"No pictures: {error}"))
    top = {role: run.logits[role][order].argmax(axis=-1) for role in models}
    maps = {
        role: saliency.integrated_gradients(model, images, top[role])
        for role, model in models.items()
    }
    names = _names(run, order)
    cards = [_card(run, i, images, maps, order, apart, names[i]) for i in range(len(order))]
    said = page.text(
        "The test images with the largest total variation between the two models' probabilities, "
        "half the sum of their differences. Beside each picture, integrated gradients: blue pixels "
        "speak for the class that the model chose, orange ones against it, measured from a black "
        "picture. They show what a model used, not whether that is right."
    )
    return page.part(TITLE, said, page.cards(cards))


def distances(run):
    """Total variation `1/2 sum_c |p_c - q_c|` of teacher and student on each test image."""
    teacher, student = (_probabilities(run, role) for role in ("teacher", "student"))
    return 0.5 * np.abs(teacher - student).sum(axis=-1)


def _probabilities(run, role):
    return scipy.special.softmax(run.logits[role].astype("float64"), axis=-1)


def _images(run, order):
    """The run's own pictures at `order`, if its data is at hand and has not changed."""
    settings = recipe.Recipe(
        **{
            field.name: run.recipe[field.name]
            for field in dataclasses.fields(recipe.Recipe)
            if field.name in ("dataset", "data_dir", "seed", "image_size", "max_train")
            and field.name in run.recipe
        },
        quiet=True,
    )
    test = runner.load_data(settings).test
    if not (np.array_equal(test.ids, run.ids) and np.array_equal(test.labels, run.labels)):
        raise ValueError(f"the test images of {settings.dataset!r} are no longer those of the run.")
    wanted = {int(position): place for place, position in enumerate(order)}
    found, start = [None] * len(order), 0
    for images, _ in test.batch(256):
        for position in range(start, start + len(images)):
            if position in wanted:
                found[wanted[position]] = images[position - start].numpy()
        start += len(images)
    return np.stack(found)


def _model(run, role, images, order):
    path = run.path / f"{role}.keras"
    if not path.exists():
        raise ValueError(f"'{path}' is not there.")
    model = runtimes.load(path)
    logits, stored = model(images), run.logits[role][order]
    if np.abs(logits - stored).max() > ROUNDING * np.abs(stored).max():
        raise ValueError(f"'{path}' is not the model that was tested: it says something else now.")
    return model.model


def _names(run, order):
    """What to call the pictures at `order`: their files, or their ids in the dataset."""
    kind, _, folder = run.recipe["dataset"].partition("folder:")
    if kind:
        return [f"image {run.ids[position]}" for position in order]
    files = splits.test_pictures(folder)
    return [str(files[position].relative_to(folder)) for position in order]


def _card(run, i, images, maps, order, apart, name):
    position = order[i]
    lines = [f"Truth: {run.classes[run.labels[position]]}"]
    pictures = [(_picture(images[i], f"Test image {run.ids[position]}"), "picture")]
    for role, of_role in maps.items():
        probabilities = _probabilities(run, role)[position]
        top = int(probabilities.argmax())
        sure = f"{run.classes[top]} ({words.sure(probabilities[top])})"
        lines.append(page.Block(f"{role.title()}: {page.strong(sure)}"))
        drawn = _colored(of_role[i])
        alt = f"What in the picture speaks for {run.classes[top]}, to the {role}"
        pictures.append((_picture(drawn, alt), role))
    lines.append(f"Total variation {apart[position]:.2f}; {name}")
    return pictures, lines


def _colored(attribution):
    """A map of evidence on white: the share of the largest, for in blue and against in orange."""
    summed = attribution.sum(axis=-1)
    scaled = np.clip(summed / (np.percentile(np.abs(summed), 99.5) or 1.0), -1.0, 1.0)
    color = np.where(scaled[..., None] > 0.0, FOR, AGAINST) / 255.0
    strength = np.abs(scaled)[..., None]
    return 1.0 - strength * (1.0 - color)


def _picture(image, alt):
    pixels = np.clip(np.round(255.0 * np.asarray(image)), 0, 255).astype("uint8")
    if pixels.shape[-1] == 2:
        pixels = pixels[..., :1]
    return page.image(tf.io.encode_png(pixels).numpy(), alt)
