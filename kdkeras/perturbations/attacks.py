"""Attacks that follow the gradient: FGSM and PGD."""

import math
import warnings

import keras
import tensorflow as tf

from kdkeras import arguments
from kdkeras.perturbations import balls, objectives, seeds

# Keeps small gradients above the smallest float16. A power of two: directions stay the same, bit
# for bit.
SCALE = 256.0


@keras.saving.register_keras_serializable("kdkeras")
class PGD:
    """Projected gradient descent: the perturbation in a ball that raises an objective most.

    `x'_0 = x + a random start`; `x'_(t+1) = clip(project(x'_t + step_size * direction(g_t)))`, with
    `g_t` the objective's gradient at `x'_t`, `direction` its sign ("linf") or `g / ||g||_2` ("l2"),
    `project` onto the ball `||x' - x|| <= epsilon`, and `clip` to the bounds of pixels.

    The model is called with `training=False`: BatchNorm's statistics and Dropout stay out of it.
    Works eagerly and compiled into a training step, under any precision policy, and under a
    strategy of tf.distribute.

    Args:
        epsilon: Radius of the ball, in pixels of [0, 1]: 8 / 255, say. At least 0.
        step_size: Length of a step; `2.5 * epsilon / steps`, at most epsilon, unless given.
        steps: Number of steps, at least 1.
        norm: "linf" (each pixel by at most epsilon) or "l2" (the whole image).
        random_start: True: uniform in the ball. False: `x` itself. A positive number: `x` plus
            Gaussian noise of that standard deviation (0.001 in TRADES, RSLAD and AdaAD).
        restarts: Number of tries; the one of the highest objective is kept, for each example.
        objective: What is raised. "cross_entropy" of the labels; "margin", of the best other class
            over the label's, which large logits do not hide from; "teacher": `KL(p_T || p_S(x'))`;
            "student": `KL(p_S(x) || p_S(x'))`.
        teacher_view: Of objective "teacher". "clean": `p_T(x)`, fixed. "perturbed": `p_T(x')`, with
            the gradient through the teacher too.
        bounds: Pair, the range of pixels; None for inputs that have none.
        seed: Optional integer; fixes the sequence of random starts.

    Call arguments:
        model: The model to attack: `keras.Model` or any differentiable callable
            `(x, training=False) -> logits`.
        x: Tensor of shape `(batch, ...)`.
        targets: Dict with "label"; for objective "teacher" its "logits", if there, are the
            teacher's of `x`.
        teacher: None, or like `model`.

    Returns:
        float32 tensor shaped like `x`, whatever the precision policy; a constant to gradients.

    Raises:
        ValueError: An argument is out of its range, or what the objective needs is not there.

    Example:

    >>> attack = kdkeras.perturbations.PGD(epsilon=8 / 255, steps=20, objective="margin")
    >>> adversarial = attack(model, x, {"label": y})

    Reference:
        Madry et al., [Towards Deep Learning Models Resistant to Adversarial Attacks](
        https://arxiv.org/abs/1706.06083), ICLR 2018.
    """

    def __init__(
        self,
        *,
        epsilon,
        step_size=None,
        steps=10,
        norm="linf",
        random_start=True,
        restarts=1,
        objective="cross_entropy",
        teacher_view="clean",
        bounds=(0.0, 1.0),
        seed=None,
    ):
        self.norm = arguments.one_of("norm", norm, balls.NORMS)
        self.epsilon = checked_epsilon(epsilon, norm)
        self.steps = arguments.integer("steps", steps, low=1)
        if step_size is None:
            step_size = min(self.epsilon, 2.5 * self.epsilon / self.steps)
        self.step_size = arguments.nonnegative("step_size", step_size)
        self.random_start = random_start
        if not isinstance(random_start, bool):
            self.random_start = arguments.positive("random_start", random_start)
        self.restarts = arguments.integer("restarts", restarts, low=1)
        self.objective = arguments.one_of("objective", objective, objectives.OBJECTIVES)
        self.teacher_view = arguments.one_of("teacher_view", teacher_view, ("clean", "perturbed"))
        self.bounds = _checked_bounds(bounds)
        self.seed = seed
        self.seed_generator = seeds.OfReplica(seed)
        if objective == "student" and random_start is False:
            raise ValueError(
                "objective='student' has no gradient at the clean inputs: it needs a "
                "`random_start`, such as 0.001. Received: random_start=False"
            )
        if self.steps * self.step_size < self.epsilon * (1.0 - 1e-6):
            warnings.warn(
                f"{self.steps} steps of {self.step_size:.4g} cannot reach epsilon="
                f"{self.epsilon:.4g}: the attack is weaker than it says. Leave `step_size` out, or "
                "take more `steps`.",
                stacklevel=2,
            )

    def __call__(self, model, x, targets, teacher=None):
        if not isinstance(targets, dict):
            raise ValueError(
                "`targets` must be a dict with the labels under 'label': {'label': y}. Received: "
                f"{type(targets).__name__}"
            )
        x = tf.cast(x, tf.float32)
        if tf.executing_eagerly():
            _check_inside(x, self.bounds)
        value = objectives.bound(self.objective, model, x, targets, teacher, self.teacher_view)
        found = self._climbed(value, x)
        if self.restarts > 1:
            highest = value(found)
            for _ in range(self.restarts - 1):
                again = self._climbed(value, x)
                height = value(again)
                higher = tf.reshape(height > highest, [-1] + [1] * (x.shape.rank - 1))
                found = tf.where(higher, again, found)
                highest = tf.maximum(height, highest)
        return tf.stop_gradient(found)

    def _climbed(self, value, x):
        ball = {"epsilon": self.epsilon, "norm": self.norm}

        def step(place):
            direction = balls.steepest(_gradient(value, place), self.norm)
            place = place + self.step_size * direction
            return (balls.projected(place, x, **ball, bounds=self.bounds),)

        start = x
        if self.random_start is True:
            start = balls.somewhere(x, self.seed_generator, **ball)
        elif self.random_start:
            noise = keras.random.normal(tf.shape(x), dtype="float32", seed=self.seed_generator)
            start = x + self.random_start * noise
        start = tf.ensure_shape(balls.projected(start, x, **ball, bounds=self.bounds), x.shape)
        always = lambda place: True  # noqa: E731
        (found,) = tf.while_loop(always, step, (start,), maximum_iterations=self.steps)
        return found

    def get_config(self):
        names = ("epsilon", "step_size", "steps", "norm", "random_start", "restarts", "objective")
        names += ("teacher_view", "bounds", "seed")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("kdkeras")
class FGSM(PGD):
    """Fast gradient (sign) method: one step of length epsilon from the clean inputs.

    `x' = clip(x + epsilon * sign(g))` ("linf"), or `clip(x + epsilon * g / ||g||_2)` ("l2").

    Args:
        epsilon, norm, objective, teacher_view, bounds: As of `PGD`; `objective` is not "student",
            which has no gradient there.

    Call arguments, what is returned and raised: as of `PGD`.

    Example:

    >>> adversarial = kdkeras.perturbations.FGSM(epsilon=8 / 255)(model, x, {"label": y})

    Reference:
        Goodfellow et al., [Explaining and Harnessing Adversarial Examples](
        https://arxiv.org/abs/1412.6572), ICLR 2015.
    """

    def __init__(
        self,
        *,
        epsilon,
        norm="linf",
        objective="cross_entropy",
        teacher_view="clean",
        bounds=(0.0, 1.0),
    ):
        super().__init__(
            epsilon=epsilon,
            step_size=epsilon,
            steps=1,
            norm=norm,
            random_start=False,
            objective=objective,
            teacher_view=teacher_view,
            bounds=bounds,
        )

    def get_config(self):
        names = ("epsilon", "norm", "objective", "teacher_view", "bounds")
        return {name: getattr(self, name) for name in names}


def checked_epsilon(epsilon, norm):
    """`epsilon` as a float, if it can be a distance in pixels of [0, 1]."""
    epsilon = arguments.nonnegative("epsilon", epsilon)
    if norm == "linf" and epsilon > 1.0:
        raise ValueError(
            "`epsilon` must be in pixels of [0, 1]: of pixels in 0..255 divide it by 255. "
            f"Received: epsilon={epsilon:g} (did you mean {epsilon:g} / 255?)"
        )
    return epsilon


def _checked_bounds(bounds):
    if bounds is None:
        return None
    pair = bounds if isinstance(bounds, (list, tuple)) and len(bounds) == 2 else (0.0, 0.0)
    low, high = (arguments.number("bounds", bound) for bound in pair)
    if not low < high:
        raise ValueError(f"`bounds` must be (low, high) or None. Received: bounds={bounds!r}")
    return [low, high]


def _check_inside(x, bounds):
    if bounds is None or math.prod(x.shape) == 0:
        return
    smallest, largest = float(tf.reduce_min(x)), float(tf.reduce_max(x))
    if not bounds[0] <= smallest <= largest <= bounds[1]:
        hint = " Divide pixels in 0..255 by 255." if largest > 10.0 else ""
        raise ValueError(
            f"`x` must lie in [{bounds[0]:g}, {bounds[1]:g}], the attack's `bounds`. Received: "
            f"values from {smallest:g} to {largest:g}.{hint}"
        )


def _gradient(value, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        scaled = SCALE * tf.reduce_sum(value(x))
    gradient = tape.gradient(scaled, x)
    if gradient is None:
        raise ValueError(
            "`model` gives no gradient of its inputs: it cannot be attacked this way. Attack a "
            "differentiable model, and transfer what is found."
        )
    return gradient
