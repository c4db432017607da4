"""What of a training is not finite, and what is known of the step at which it happened."""

import math

import keras
import numpy as np
from keras import ops

from kdkeras import distiller, schedules, terms

# Paths that a message names.
SHOWN = 3
# Before the figures of a teacher that is trained.
TEACHER = "teacher_"


def not_finite(variables, test=ops.isfinite):
    """The paths of the float variables of which an element is NaN or infinite, or fails `test`."""
    variables = [one for one in variables if keras.backend.is_float_dtype(one.dtype)]
    if not variables:
        return []
    fine = ops.convert_to_numpy(ops.stack([ops.all(test(one)) for one in variables]))
    return [one.path for one, is_fine in zip(variables, fine, strict=True) if not is_fine]


def broken(model):
    """The paths of the weights that hold NaN; infinity can be meant, as in a mask."""
    return not_finite(model.weights, lambda weight: ops.logical_not(ops.isnan(weight)))


def named(paths):
    """The first of some paths, and how many more there are."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(f"'{path}'" for path in paths[:SHOWN]) + more


def learners(model):
    """The models whose optimizers a training moves: it, and a teacher that is trained with it."""
    together = isinstance(model, distiller.Distiller) and model.train_teacher
    return [model, model.teacher] if together else [model]


def iterations(model):
    """How many updates the optimizer has made."""
    return int(ops.convert_to_numpy(model.optimizer.iterations))


def skips(model):
    """Whether the optimizer skips a step, and does not count it, whose gradient is not finite."""
    return isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def update(model):
    """The index of the update that the last step was, as schedules count."""
    return max(0, iterations(model) - (0 if skips(model) else 1))


def learning_rate(model):
    """The learning rate of the step that was taken last."""
    optimizer = model.optimizer.inner_optimizer if skips(model) else model.optimizer
    rate = optimizer._learning_rate  # Keras shows that of the next step alone.
    rate = rate(update(model)) if schedules.is_schedule(rate) else optimizer.learning_rate
    return float(ops.convert_to_numpy(rate))


def parts(model):
    """The parts of a Distiller's loss, by the names that they are logged under."""
    if not isinstance(model, distiller.Distiller):
        return []
    return ["hard", *terms.names(model.terms)]


def culprits(model, logs):
    """The parts of a loss that are not finite.

    Args:
        model: `keras.Model` whose loss is not finite.
        logs: Its figures, as Keras logs them.

    Returns:
        List of "hard", terms' names, "<term>_weight", "alpha", "penalties", "balance"; those of a
        teacher that is trained as "teacher_hard" and so on, first unless it learned from a student
        that was spoilt already. Of a plain model the names of its outputs' losses, or "loss", with
        its penalties.
    """
    if not isinstance(model, distiller.Distiller):
        outputs = [name for name in logs if name.endswith("_loss")]
        return [name for name in outputs if not math.isfinite(logs[name])] or ["loss"]
    found = [name for name in parts(model) if not math.isfinite(logs[name])]
    if model.train_teacher and not math.isfinite(logs["teacher_loss"]):
        of = TEACHER
        own = {name[len(of) :]: value for name, value in logs.items() if name.startswith(of)}
        of_teacher = [of + name for name in culprits(model.teacher, own)]
        is_spoilt = "hard" in found and "hard" in own and math.isfinite(own["hard"])
        return found + of_teacher if is_spoilt else of_teacher + found
    found = found or _overflowing(model, logs)
    if found:
        return found
    return ["balance" if model.balance is not None and not model.losses else "penalties"]


def _overflowing(model, logs):
    """The weights of a Distiller's loss that make infinity, or NaN, of finite parts."""
    alpha = _number(model.alpha, model)
    found = [] if _fits(alpha) and _fits(alpha * float(logs["hard"])) else ["alpha"]
    for name, term in zip(terms.names(model.terms), model.terms, strict=True):
        if not _fits(_number(term.weight, model) * float(logs[name])):
            found.append(f"{name}_weight")
    return found


def _fits(value):
    return abs(value) <= float(np.finfo("float32").max)  # not NaN


def _number(value, model):
    return float(ops.convert_to_numpy(schedules.at(value, update(model))))


def described(name, model, logs):
    """A part that is not finite, and its value."""
    if name in logs:
        return f"{name} ({logs[name]:g})"
    if name in ("penalties", "teacher_penalties"):
        return f"{name} (regularisers and `add_loss`)"
    weights = {"alpha": model.alpha} if isinstance(model, distiller.Distiller) else {}
    weights |= terms.numbers(model.terms, losses_too=False) if weights else {}
    return f"{name} ({_number(weights[name], model):g})" if name in weights else name


def advice(model, found, *, ids=False):
    """What to try, the likeliest first, as a sentence.

    Args:
        model: `keras.Model`, as it was compiled.
        found: The parts of its loss, as of `culprits`; "weights" after an epoch.
        ids: Whether the ids of the examples are known.
    """
    rate, is_first = learning_rate(model), update(model) == 0
    weights = [name for name in found if name == "alpha" or name.endswith("_weight")]
    of_terms = [name for name in found if name in parts(model)[1:]]
    # Where labels alone give a finite loss, it is not for the student's logits.
    answers = of_terms and "hard" not in found
    diverged = found[0].startswith(TEACHER) or (answers and model.train_teacher)
    lower = [f"a lower learning rate (it was {rate:.3g}), or warm-up"]
    of = "these examples" if ids else "the examples"
    examples = [f"look at {of}: pixels and labels, whether finite and in the range of the others"]
    tried = []
    if diverged:
        rate = learning_rate(model.teacher)
        tried.append(f"a lower learning rate of the teacher's own optimizer (it was {rate:.3g})")
    tried += [f"a finite, smaller `{name}`" for name in weights]
    # Before the first update no learning rate can have done harm.
    tried += examples if is_first else lower
    if "penalties" in found:
        tried.append("smaller factors of the regularisers")
    if answers and not diverged:
        tried.append("look at the teacher: its answers to the examples, whether finite")
    tried += [f"a lower weight of `{name}`" for name in of_terms]
    tried += lower if is_first else examples
    if found == ["weights"]:
        tried.append(
            "`tf.debugging.enable_check_numerics()`, with which the operation that gave the first "
            "NaN is named"
        )
    if skips(model):
        tried.append("precision_policy='float32', or 'mixed_bfloat16'")
    listed = "; ".join(f"({i}) {one}" for i, one in enumerate(tried, start=1))
    return f"To try, the likeliest first: {listed}."
