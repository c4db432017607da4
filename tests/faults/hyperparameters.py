"""Fuzzed arguments of Python: losses, methods, perturbations, augmentation, Distiller and Term."""

import functools
import inspect
import json

import numpy as np
from hypothesis import strategies as st

from . import nonsense, soaking, tallies

MODULES = ("losses", "methods", "perturbations", "augment")
# What Keras checks, or what stands for data.
KERAS = ("name", "reduction", "dtype")
BATCH, CLASSES = 4, 3


def odd():
    """Values of any type, for an argument of any other."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 20),
        st.floats(allow_nan=True),
        st.floats(min_value=0.0, max_value=20.0),
        st.complex_numbers(max_magnitude=9),
        st.text(max_size=4),
        st.binary(max_size=3),
        st.lists(st.floats(-2, 2), max_size=3),
        st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        st.sampled_from((2**63, -(10**30), 10**400, 1e308, 5e-324, 1e-30, 1e30, -0.0, 1e-6)),
        st.sampled_from(("linf", "l2", "crop", "clean", "teacher", "auto", (), (0.0, 1.0), (1, 0))),
        st.sampled_from((np.float32(2.0), np.float64("nan"), np.int64(3), np.ones(2), np.bool_(1))),
        st.sampled_from((object, print, Ellipsis, range(3), np.array(1.5), np.zeros((2, 0)))),
        st.integers(0, 3).map(_schedule),
    )


def _schedule(kind):
    import keras

    made = keras.optimizers.schedules
    return (
        made.PolynomialDecay(1.0, 10, end_learning_rate=0.5),
        made.PolynomialDecay(1.0, 10, end_learning_rate=0.0),
        made.ExponentialDecay(4.0, 10, 0.5),
        made.PiecewiseConstantDecay([5], [1.0, float("nan")]),
    )[kind]


@functools.cache
def given():
    """Good values of arguments without a default, by name."""
    import tensorflow as tf

    import kdkeras
    from kdkeras import randomness

    random = np.random.default_rng(5)
    logits = random.normal(size=(2, BATCH, CLASSES)).astype("float32")
    maps = random.normal(size=(2, BATCH, 4, 4, 3)).astype("float32")
    images, labels = soaking.pictures(BATCH)
    color = tf.constant(random.random((BATCH, 8, 8, 3), "float32"))
    ids = tf.range(BATCH, dtype=tf.int64)
    settings = {"padding": 4, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
    settings |= {"cutout_size": None, "alpha": 0.2}
    return {
        "teacher_logits": logits[0],
        "student_logits": logits[1],
        "logits": logits[0],
        "teacher": maps[0],
        "student": maps[1],
        "labels": tf.one_hot(labels, CLASSES),
        "images": color,
        "keys": randomness.keys(0, ids, 0),
        "ids": ids,
        "views": ids,
        "x": images,
        "targets": {"label": labels},
        "names": "crop,flip",
        "augment": None,
        "description": None,
        "seed": 0,
        "size": 3,
        "epsilon": 0.03,
        "temperature": 2.0,
        "loss": kdkeras.losses.SoftTargets(),
        "settings": settings,
        "padding": 1,
        "clean_teacher": soaking.classifier(),
        "order": 2,
        "weight": 1.0,
        "models": (soaking.classifier(), soaking.classifier()),
    }


def targets():
    """Pairs (name, class or function) of all that is public and takes hyper-parameters."""
    import kdkeras

    found = [("Distiller", kdkeras.Distiller), ("Term", kdkeras.Term)]
    for module in MODULES:
        public = getattr(kdkeras, module)
        found += [(f"{module}.{name}", getattr(public, name)) for name in public.__all__]
    return [(name, one) for name, one in found if callable(one) and _parameters(one)]


def _parameters(one):
    """Names of the hyper-parameters of a class or function."""
    data = ("teacher", "student", "clean_teacher", "images", "keys", "ids", "views", "labels")
    known = inspect.signature(one).parameters.values()
    return [
        parameter.name
        for parameter in known
        if parameter.name not in (*KERAS, *data, "teacher_logits", "student_logits", "logits")
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]


def _arguments(name, one):
    """The arguments that a class or function cannot do without, good ones."""
    wanted = inspect.signature(one).parameters.values()
    needed = [p.name for p in wanted if p.default is p.empty and p.kind not in (2, 4)]
    found = {needed_name: given()[needed_name] for needed_name in needed}
    if name.startswith("methods.") or name == "Distiller":
        pair = given()["models"]
        found |= dict(zip(("student", "teacher"), pair, strict=True))
    return found


def constructed(seed, each, *, step=1):
    """Every hyper-parameter of everything public, with `each` values of any type.

    Args:
        seed: Which values.
        each: How many of each.
        step: One in so many hyper-parameters is tried.
    """
    found = tallies.Tally("arguments of Python")
    every = [(name, one, own) for name, one in targets() for own in _parameters(one)]
    chosen = every[seed % step :: step]
    drawn = nonsense.drawn(odd(), each * len(chosen), seed)
    for place, (name, one, parameter) in enumerate(chosen):
        for value in drawn[place :: len(chosen)]:
            problem = _tried(name, one, parameter, value)
            found.add(problem and f"{name}({parameter}={value!r:.60}): {problem}")
    return found


def _tried(name, one, parameter, value):
    """None if an argument was refused in words, or what it made is sound; else what is wrong."""
    try:
        made = one(**{**_arguments(name, one), parameter: value})
        return _unsound(name, one, made)
    except (ValueError, TypeError) as error:
        text = str(error)
        said = f"`{parameter}`" in text or "Received: " in text or "Give " in text
        return None if said else f"{type(error).__name__} that names nothing: {text[:200]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


def _unsound(name, one, made):
    """What is wrong with what a class or function made, or None."""
    import keras

    import kdkeras

    if name.startswith("methods."):
        made = kdkeras.Distiller(**made)
    if isinstance(made, kdkeras.Distiller):
        made = made.get_config()  # models do not compare
        return _plain({key: made[key] for key in made if key not in ("student", "teacher")})
    if isinstance(made, kdkeras.losses.DistillationLoss):
        value = made.at(3)(*_batch(made))
        if not np.isfinite(value):
            return f"its value is {float(value)}"
    if name.startswith("perturbations.") and inspect.isclass(one):
        model, x = given()["models"][0], given()["x"]
        changed = made(model, x, given()["targets"], teacher=given()["models"][1])
        if not np.isfinite(changed).all():
            return "it makes what is not finite"
    if hasattr(made, "get_config"):
        stored = keras.saving.serialize_keras_object(made)
        problem = _plain(stored)
        again = keras.saving.deserialize_keras_object(json.loads(json.dumps(stored)))
        if problem or keras.saving.serialize_keras_object(again) != stored:
            return problem or "its configuration does not come back"
    elif isinstance(made, (np.ndarray, float)) or keras.ops.is_tensor(made):
        return None if np.isfinite(made).all() else "its value is not finite"
    return None


def _plain(config):
    try:
        json.dumps(config, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"its configuration is no JSON: {error}"
    return None


def _batch(loss, random=None, count=BATCH, classes=CLASSES, scale=1.0):
    """A teacher's and a student's tensor for a loss, as `loss(y_true, y_pred)` takes them."""
    random = random or np.random.default_rng(5)
    shape = (count, 3, 3, classes) if loss.maps_only else (count, classes)
    teacher, student = random.normal(scale=scale, size=(2, *shape))
    labels = random.integers(0, classes, count)
    return ((labels, teacher) if loss.needs_labels else teacher), student


def values(seed, count):
    """Every loss with legal settings, on logits of many sizes, ranges and types."""
    import keras
    import tensorflow as tf

    import kdkeras

    found = tallies.Tally("values of losses")
    public = [getattr(kdkeras.losses, name) for name in kdkeras.losses.__all__]
    base = kdkeras.losses.DistillationLoss
    classes = [one for one in public if inspect.isclass(one) and issubclass(one, base)]
    shapes = st.tuples(
        st.sampled_from([one for one in classes if one is not base]),
        st.integers(1, 5),
        st.integers(2, 7),
        st.sampled_from((0.0, 1e-30, 1e-3, 1.0, 100.0, 1e4)),
        st.sampled_from(("float32", "float16", "float64")),
        st.sampled_from(("apart", "equal", "one row", "constant")),
        st.floats(0.05, 20.0),
        st.integers(0, 2**31),
    )
    for drawn in nonsense.drawn(shapes, count, seed):
        one, size, number, scale, dtype, kind, setting, own = drawn
        loss = one(**dict.fromkeys(_settable(one), setting))
        size = max(size, 2) if loss.compares_examples else size
        random = np.random.default_rng(own)
        said, student = _batch(loss, random, size, number, scale)
        labels, teacher = said if loss.needs_labels else (None, said)
        if kind == "equal":
            student = teacher
        elif kind != "apart":
            teacher, student = (_same_rows(part, kind) for part in (teacher, student))
        teacher, student = (tf.constant(part.astype(dtype)) for part in (teacher, student))
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = loss((labels, teacher) if loss.needs_labels else teacher, student)
        gradient = tape.gradient(value, student)
        problem = _wrong(keras.ops.convert_to_numpy(value), gradient)
        found.add(problem and f"{one.__name__}, {drawn[1:]}: {problem}")
    return found


def _settable(one):
    """The settings of a loss that are positive numbers."""
    parameters = inspect.signature(one).parameters
    return [name for name in one.settings if isinstance(parameters[name].default, float)]


def _same_rows(part, kind):
    return part * 0.0 + (part[:1] if kind == "one row" else part.flat[0])


def _wrong(value, gradient):
    if not np.isfinite(value):
        return f"its value is {value}"
    if value < -1e-5:
        return f"it is below 0: {value}"
    if gradient is None:
        return "it has no gradient"
    return None if np.isfinite(gradient).all() else "its gradient is not finite"
