"""Robustness without a robust teacher: the controls, noise for certificates, a broken defence."""

import keras

from kdkeras import arguments, perturbations
from kdkeras import terms as distillation_terms
from kdkeras.methods import attacking, logits
from kdkeras.models import surgery


def adversarial_training(*, student, teacher=None, epsilon=attacking.EPSILON, steps=10, **attack):
    """PGD-AT, a control: cross-entropy on adversarial inputs, no teacher.

    `CE(S(x'), y)`, `x'` by PGD on the same.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: Not used.
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `alpha`, `terms` (none) and
        `perturbation`.

    Raises:
        ValueError: An argument is out of its range, or not the attack's.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.adversarial_training(student=student))

    Reference:
        Madry et al., [Towards Deep Learning Models Resistant to Adversarial Attacks](
        https://arxiv.org/abs/1706.06083), ICLR 2018.
    """
    del teacher
    perturbation = attacking.pgd(epsilon, steps, attack)
    return {"student": student, "alpha": 1.0, "terms": [], "perturbation": perturbation}


def trades(
    *,
    student,
    teacher=None,
    alpha=0.5,
    beta=6.0,
    epsilon=attacking.EPSILON,
    steps=10,
    **attack,
):
    """TRADES, a control: labels on clean inputs, and the same answer on adversarial ones.

    `CE(S(x), y) + beta KL(p_S(x) || p_S(x'))`, the gradient through both sides, `x'` by PGD on the
    second term.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: Not used.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        beta: Of the second term: number of at least 0, or a Keras schedule; 6, the authors' on
            CIFAR-10, unless given.
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`; `random_start` is 0.001 unless given.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `alpha`, `terms`, `perturbation` and
        `hard_view`.

    Raises:
        ValueError: An argument is out of its range, or not the attack's.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.trades(student=student, epsilon=8 / 255))

    Reference:
        Zhang et al., [Theoretically Principled Trade-off between Robustness and Accuracy](
        https://arxiv.org/abs/1901.08573), ICML 2019.
    """
    del teacher
    term = distillation_terms.Term(attacking.soft("consistency"), beta, source="student")
    attack = {"objective": "student", "random_start": attacking.BESIDE, **attack}
    return {
        "student": student,
        "alpha": alpha,
        "terms": [term],
        "hard_view": "clean",
        "perturbation": attacking.pgd(epsilon, steps, attack),
    }


def gaussian(*, student, teacher, alpha=0.1, temperature=4.0, stddev=None, lam=None, seed=None):
    """Soft targets of the clean inputs, on inputs with Gaussian noise: what certificates need.

    `alpha CE(S(x'), y) + (1 - alpha) T^2 KL(p_T(x) || p_S(x'))`, `x' = x + N(0, stddev^2)`,
    unclipped.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; as of
            `hinton` unless given.
        temperature: Positive number `T`, or a Keras schedule; as of `hinton` unless given.
        stddev: Standard deviation of the noise, positive, in pixels of [0, 1]; 0.25 unless it or
            `lam` is given.
        lam: Instead of `stddev`: positive, `stddev^2 = 1 / (2 lam)`.
        seed: Integer, of the noise; None for another one each time.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha`, `terms` and
        `perturbation`.

    Raises:
        ValueError: An argument is out of its range, or both `stddev` and `lam` are given.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.gaussian(student=student, teacher=teacher, stddev=0.5))

    Reference:
        Cohen et al., [Certified Adversarial Robustness via Randomized Smoothing](
        https://arxiv.org/abs/1902.02918), ICML 2019, with a teacher's soft labels.
    """
    if stddev is None and lam is None:
        stddev = 0.25
    noise = perturbations.Gaussian(stddev=stddev, lam=lam, seed=seed)
    made = logits.hinton(student=student, teacher=teacher, alpha=alpha, temperature=temperature)
    return {**made, "perturbation": noise}


def defensive(*, student, teacher, temperature=20.0):
    """Defensive distillation, kept as the known-broken example: it hides gradients, no more.

    `T KL(softmax(z_T / T) || softmax(z_S / T))` on clean inputs, of a teacher that was trained at
    `T` itself (here: any teacher, its logits times `T`). The student's logits are `T` times too
    large at temperature 1, where cross-entropy has no gradient left in float32.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: Functional or Sequential `keras.Model` with logits for the same classes, built.
        temperature: Positive number `T`.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, its logits times `T`,
        `alpha` and `terms`.

    Raises:
        ValueError: `temperature` is out of its range.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.defensive(student=student, teacher=teacher))

    Reference:
        Papernot et al., [Distillation as a Defense](https://arxiv.org/abs/1511.04508), 2016; broken
        by Carlini and Wagner, [Defensive Distillation is Not Robust](
        https://arxiv.org/abs/1607.04311), 2016.
    """
    scaled = keras.layers.Rescaling(temperature, dtype="float32", name="logits_times_temperature")
    inputs, outputs = surgery.input_of(teacher), surgery.output_of(teacher)
    scaled_teacher = keras.Model(inputs, scaled(outputs), name=f"{teacher.name}_at_temperature")
    # SoftTargets has a factor T^2; with T alone, the gradient of large logits is an ordinary one.
    soft = attacking.soft("soft_targets", temperature)
    term = distillation_terms.Term(soft, 1.0 / arguments.positive("temperature", temperature))
    return {"student": student, "teacher": scaled_teacher, "alpha": 0.0, "terms": [term]}
