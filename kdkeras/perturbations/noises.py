"""Noise: perturbations that look at nothing but the shape of the inputs."""

import keras

from kdkeras import arguments, randomness
from kdkeras.perturbations import seeds


@keras.saving.register_keras_serializable("kdkeras")
class Gaussian:
    """Adds white Gaussian noise, unclipped, to the student's inputs.

    `x' = x + Psi`, with density `p(Psi)` proportional to `exp(-lambda ||Psi||^2)`: each component
    is drawn from `N(0, stddev^2)`, and `stddev^2 = 1 / (2 lambda)`. Not clipped to [0, 1]: clipping
    would change the density, and certificates by randomised smoothing need it as it is.

    Args:
        stddev: Standard deviation, in the units of `x` (pixels in [0, 1]). Positive.
        lam: `lambda`, instead of `stddev`. Positive.
        seed: Optional integer; fixes the sequence of draws.

    Call arguments:
        model: The model that will see `x'`. Not used: the noise does not depend on it.
        x: Tensor of shape `(batch, ...)`.
        targets: The enriched labels. Not used.
        teacher: Not used.

    Returns:
        float32 tensor shaped like `x`, whatever the precision policy.

    Raises:
        ValueError: Not exactly one of `stddev` and `lam` is given, or it is not positive.

    Example:

    >>> kdkeras.perturbations.Gaussian(lam=200.0).stddev
    0.05

    Reference:
        Cohen et al., [Certified Adversarial Robustness via Randomized Smoothing](
        https://arxiv.org/abs/1902.02918), 2019.
    """

    # Separates the noise from the other draws made with an example's key.
    STREAM = 1000

    def __init__(self, *, stddev=None, lam=None, seed=None):
        if (stddev is None) == (lam is None):
            raise ValueError(
                "Give exactly one of `stddev` and `lam` (stddev**2 = 1 / (2 * lam)). "
                f"Received: stddev={stddev!r}, lam={lam!r}"
            )
        if stddev is None:
            stddev = (2.0 * arguments.positive("lam", lam)) ** -0.5
        self.stddev = arguments.positive("stddev", stddev)
        self.seed = seed
        self.seed_generator = seeds.OfReplica(seed)

    def __call__(self, model, x, targets, teacher=None):
        del model, targets, teacher
        x = keras.ops.cast(x, "float32")
        noise = keras.random.normal(keras.ops.shape(x), dtype="float32", seed=self.seed_generator)
        return x + self.stddev * noise

    def stateless(self, x, keys):
        """The same noise as a pure function of each example's key, for tf.data pipelines.

        Args:
            x: float32 tensor of shape `(batch, ...)`, its inner dimensions known.
            keys: `kdkeras.randomness.keys(seed, ids, views)`, of shape `(batch,)`.

        Returns:
            float32 tensor shaped like `x`. An example's noise depends on its key alone, not on the
            batch that it is in.
        """
        return x + self.stddev * randomness.normal(keys, x.shape[1:], stream=self.STREAM)

    def get_config(self):
        return {"stddev": self.stddev, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("kdkeras")
class Uniform:
    """Adds noise uniform in [-epsilon, epsilon], unclipped, to the student's inputs.

    `x' = x + Psi`, each component of `Psi` drawn from `U(-epsilon, epsilon)`: the weakest of what
    an attacker bound by epsilon in the maximum norm might do.

    Args:
        epsilon: In the units of `x` (pixels in [0, 1]). Positive.
        seed: Optional integer; fixes the sequence of draws.

    Call arguments and what is returned: as of `Gaussian`.

    Raises:
        ValueError: `epsilon` is not positive.

    Example:

    >>> noisy = kdkeras.perturbations.Uniform(epsilon=8 / 255)(None, x, {})
    """

    STREAM = 1001

    def __init__(self, *, epsilon, seed=None):
        self.epsilon = arguments.positive("epsilon", epsilon)
        self.seed = seed
        self.seed_generator = seeds.OfReplica(seed)

    def __call__(self, model, x, targets, teacher=None):
        del model, targets, teacher
        x = keras.ops.cast(x, "float32")
        given = {"dtype": "float32", "seed": self.seed_generator}
        return x + keras.random.uniform(keras.ops.shape(x), -self.epsilon, self.epsilon, **given)

    def stateless(self, x, keys):
        """The same noise as a pure function of each example's key: as `Gaussian.stateless`."""
        unit = randomness.uniform(keys, x.shape[1:], stream=self.STREAM)
        return x + self.epsilon * (2.0 * unit - 1.0)

    def get_config(self):
        return {"epsilon": self.epsilon, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
