"""Attacks of the Adversarial Robustness Toolbox: APGD and Square."""

import contextlib
import math
import random
import warnings
from importlib import metadata

import numpy as np
import tensorflow as tf

from kdkeras.perturbations import balls

NAME = "adversarial-robustness-toolbox"
# Share of an image that Square's first squares cover; in L2 its implementation needs smaller ones.
FIRST_SHARE = {"linf": 0.8, "l2": 0.3}
NORMS = {"linf": np.inf, "l2": 2}


def version():
    """The library's version.

    Raises:
        ValueError: It is not installed; the message has the line that does it.
    """
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            "`suite`: 'full' needs the Adversarial Robustness Toolbox. Install it: "
            "pip install 'kdkeras[robustness]'. Or take suite='standard'. Received: suite='full'"
        ) from error


def misfit(name, *, shape, classes, norm):
    """Why an attack does not fit such images or classes; None where it does."""
    height, width = shape[:2]
    if name == "apgd_dlr" and classes < 3:
        return "the ratio of differences of logits needs at least 3 classes"
    if name == "square":
        side = round(math.sqrt(FIRST_SHARE[norm] * height * width))
        if side >= min(height, width) or (norm == "l2" and (height != width or height < 10)):
            return f"ART's Square does not run on images of {height} x {width} in {norm}"
    return None


def apgd(settings, *, shape, classes, seed):
    """APGD, as `suites.Attack.make` wants it.

    Args:
        settings: Dict of epsilon, norm, steps and loss ("cross_entropy" or
            "difference_logits_ratio").
        shape: Of one image.
        classes: How many there are.
        seed: Of the random starts.

    Reference:
        Croce and Hein, [Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
        Parameter-free Attacks](https://arxiv.org/abs/2003.01690), ICML 2020.
    """

    def of(network, batch):
        del batch  # what it computes on varies in size
        with _quiet():
            from art.attacks.evasion import AutoProjectedGradientDescent

        attack = AutoProjectedGradientDescent(
            _classifier(network, shape, classes),
            norm=NORMS[settings["norm"]],
            eps=settings["epsilon"],
            eps_step=2.0 * settings["epsilon"],
            max_iter=settings["steps"],
            nb_random_init=1,
            loss_type=settings["loss"],
            verbose=False,
        )
        return _generating(attack, settings, seed)

    return of


def square(settings, *, shape, classes, seed):
    """Square, which asks for logits alone, as `suites.Attack.make` wants it.

    Args:
        settings: Dict of epsilon, norm and queries.
        shape, classes, seed: As of `apgd`.

    Reference:
        Andriushchenko et al., [Square Attack](https://arxiv.org/abs/1912.00049), ECCV 2020.
    """

    def of(network, batch):
        del batch
        with _quiet():
            from art.attacks.evasion import SquareAttack

        attack = SquareAttack(
            _classifier(network, shape, classes),
            norm=NORMS[settings["norm"]],
            eps=settings["epsilon"],
            max_iter=settings["queries"],
            p_init=FIRST_SHARE[settings["norm"]],
            nb_restarts=1,
            verbose=False,
        )
        return _generating(attack, settings, seed)

    return of


def _classifier(network, shape, classes):
    import keras
    from art.estimators.classification import TensorFlowV2Classifier

    # Compiled: the library itself runs it eagerly.
    compiled = tf.function(network, reduce_retracing=True, autograph=False)
    return TensorFlowV2Classifier(
        model=compiled,
        nb_classes=classes,
        input_shape=shape,
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )


def _generating(attack, settings, seed):
    calls = 0

    def generate(images, labels):
        nonlocal calls
        with _seeded(seed + calls), _quiet():
            found = attack.generate(x=images.copy(), y=np.eye(attack.estimator.nb_classes)[labels])
        calls += 1
        # What leaves the ball by a rounding error is taken back.
        ball = {"epsilon": settings["epsilon"], "norm": settings["norm"]}
        found = tf.constant(found, tf.float32)
        return balls.projected(found, tf.constant(images), **ball, bounds=(0.0, 1.0)).numpy()

    return generate


@contextlib.contextmanager
def _quiet():
    """Keeps to itself what the library lacks (PyTorch), and that its functions are retraced."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _seeded(seed):
    """Seeds the global generators that the library draws from, and puts them back afterwards."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
