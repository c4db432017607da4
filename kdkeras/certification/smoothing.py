"""Certificates of images by randomised smoothing, resumable."""

import contextlib
import hashlib
import pathlib
import time

import numpy as np

from kdkeras import arguments, files, locks, runtimes
from kdkeras.cache import identity
from kdkeras.certification import bounds, certificates, drawing
from kdkeras.data import checks, sources
from kdkeras.models import surgery

SECONDS_BETWEEN_WRITES = 30.0
# Beyond it no picture can be made out; what is larger counts in 0..255.
LARGEST_SIGMA = 5.0


def certify(
    model,
    images,
    *,
    sigma,
    n=100_000,
    n0=100,
    alpha=0.001,
    batch_size=1000,
    seed=0,
    ids=None,
    path=None,
    name=None,
    verbose=1,
):
    """Certifies images: no change within an image's radius changes the smoothed model's class.

    The smoothed model of `f` is `g(x) = argmax_c P(f(x + e) = c)` with `e ~ N(0, sigma^2 I)`, never
    clipped. For each image `n0` draws select a class, and of `n` others `k` give it. Then `g(x')`
    is that class wherever `||x' - x||_2 < radius(k, n, sigma=sigma, alpha=alpha)`, and for each
    image that is wrong with probability `alpha` at most.

    The noise is a pure function of seed, id of the image and number of the draw. An image has the
    same whatever the batch size, and whichever images are certified with it.

    Args:
        model: `f`: a `keras.Model` with logits, or a function from a NumPy batch to logits, such as
            `kdkeras.runtimes.load(path)`. Normalisation is inside of it.
        images: Float array of shape `(images, ...)`, in [0, 1].
        sigma: Standard deviation of the noise, in pixels of [0, 1]. Positive.
        n: Draws that count the class. At alpha 0.001 the largest radius of 1,000 draws is 2.46
            sigma, of 100,000 draws 3.81 sigma.
        n0: Draws that select the class.
        alpha: Probability that a radius is too large, in (0, 1).
        batch_size: Draws that the model sees at a time, at most.
        seed: Integer.
        ids: Distinct integers, one an image; positions unless given. With `np.arange(0, 10_000,
            20)` every 20th image has the noise that it would have among all of them.
        path: Optional `.json` file, written every 30 seconds and at the end. The same call goes on
            with the images that are in it.
        name: With a `path` and a model that is no graph of Keras layers: what stands for the model.
            It must change when the model does.
        verbose: 0 for no progress.

    Returns:
        `Certificates`.

    Raises:
        ValueError: An argument is out of its range; `n` draws could certify nothing; the model
            gives probabilities, clips its input or is random; `path` holds something else, or
            another process is writing it.
        OSError: `path` cannot be read or written.

    Example:

    >>> found = kdkeras.certification.certify(student, images, sigma=0.25, path="radii.json")
    >>> found.certified_accuracy(labels, [0.0, 0.25, 0.5])
    array([0.83, 0.61, 0.32])

    Reference:
        Cohen et al., [Certified Adversarial Robustness via Randomized Smoothing](
        https://arxiv.org/abs/1902.02918), 2019.
    """
    settings = {
        "sigma": arguments.positive("sigma", sigma),
        "n": arguments.integer("n", n, low=1),
        "n0": arguments.integer("n0", n0, low=1),
        "alpha": bounds.level(alpha),
        "seed": arguments.integer("seed", seed),
    }
    if settings["sigma"] > LARGEST_SIGMA:
        raise ValueError(
            "`sigma` must be in pixels of [0, 1]: of pixels in 0..255 divide it by 255. Received: "
            f"sigma={settings['sigma']:g}"
        )
    bounds.check_draws(settings["n"], settings["alpha"])
    batch_size = arguments.integer("batch_size", batch_size, low=1)
    images, ids = _checked(images, ids)
    if isinstance(model, runtimes.KerasModel):
        model = model.model
    shape = images.shape[1:]
    classes = drawing.check_model(model, shape)
    about = None
    if path is not None:
        about = {**_identity(model, name), "images": _digest(images, ids), **settings}
    drawn = {name: settings[name] for name in ("sigma", "seed")}
    drawn |= {"shape": shape, "classes": classes, "batch_size": batch_size}
    select = drawing.counter(model, stream=drawing.SELECTION, draws=settings["n0"], **drawn)
    estimate = drawing.counter(model, stream=drawing.ESTIMATION, draws=settings["n"], **drawn)
    with _alone(path):
        rows = [] if path is None else certificates.begun(path, about)
        update, written, done = sources.progress(len(images), verbose), time.monotonic(), len(rows)
        try:
            for image, number in zip(images[done:], ids[done:], strict=True):
                selected = int(np.argmax(select(image, number)))
                count = int(estimate(image, number)[selected])
                rows.append(certificates.row(selected, count, settings))
                update(len(rows))
                if path is not None and time.monotonic() - written > SECONDS_BETWEEN_WRITES:
                    certificates.write(path, about, rows)
                    written = time.monotonic()
        finally:  # what is done is kept when it is interrupted, too
            if path is not None:
                certificates.write(path, about, rows)
    return certificates.of_rows(rows, num_classes=classes, **settings)


@contextlib.contextmanager
def _alone(path):
    """A block in which no other process writes a file of certificates, if there is one."""
    if path is None or not pathlib.Path(path).parent.is_dir():
        yield  # where there is no folder, the first write says so
        return
    path = pathlib.Path(path)
    with locks.alone(locks.beside(path), of=path):
        files.sweep(path.parent, [path.name])
        yield


def _checked(images, ids):
    """Images as float32 and ids as int64 arrays."""
    images = np.asarray(images)
    if not np.issubdtype(images.dtype, np.number) or images.ndim < 2 or not images.size:
        raise ValueError(
            "`images` must be an array of shape (images, ...), of at least one. Received: dtype "
            f"{images.dtype}, shape {images.shape}. Of a split, kdkeras.data.arrays(split)[0]."
        )
    checks.check_pixels(images)
    ids = np.arange(len(images)) if ids is None else np.asarray(ids)
    if (
        not np.issubdtype(ids.dtype, np.integer)
        or ids.shape != (len(images),)
        or len(np.unique(ids)) != len(ids)
    ):
        raise ValueError(
            f"`ids` must be distinct integers, one for each of {len(images)} images. Received: "
            f"dtype {ids.dtype}, shape {ids.shape}, {len(np.unique(ids))} distinct."
        )
    return images.astype(np.float32), ids.astype(np.int64)


def _identity(model, name):
    """What tells a model from others: plain JSON."""
    if surgery.is_graph(model):
        found = identity.of_teacher(model)
        return {"architecture": found["architecture"], "weights": found["weights"]}
    if not name:
        raise ValueError(
            "A function or a subclassed model cannot be told from another: with `path`, give "
            "`name`, which must change when its answers change. Received: name=None"
        )
    return {"name": str(name)}


def _digest(images, ids):
    found = hashlib.sha256(f"{images.shape}".encode())
    found.update(np.ascontiguousarray(images))
    found.update(np.ascontiguousarray(ids))
    return found.hexdigest()
