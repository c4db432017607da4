"""Methods whose teacher is robust: students that withstand attacks.

Each takes `epsilon`, `steps` and further arguments of `kdkeras.perturbations.PGD` (`norm`, `seed`
...), whose `training=False` attack the student is trained on. KL is summed over classes and
averaged over the batch.
"""

import keras

from kdkeras import arguments, losses, teachers
from kdkeras import terms as distillation_terms
from kdkeras.methods import attacking


def ard(
    *,
    student,
    teacher,
    alpha=0.0,
    temperature=30.0,
    epsilon=attacking.EPSILON,
    steps=10,
    **attack,
):
    """ARD: the clean answers of a robust teacher, on adversarial inputs.

    `alpha CE(S(x), y) + (1 - alpha) T^2 KL(p_T(x) || p_S(x'))`, `x'` by PGD on the labels. Settings
    of the authors' code.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: A robust `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step.
        temperature: Positive number `T`, or a Keras schedule.
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha`, `terms`,
        `perturbation` and `hard_view`.

    Raises:
        ValueError: An argument is out of its range, or not the attack's.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.ard(student=student, teacher=robust))

    Reference:
        Goldblum et al., [Adversarially Robust Distillation](https://arxiv.org/abs/1905.09747), AAAI
        2020.
    """
    term = distillation_terms.Term(attacking.soft("adversarial", temperature))
    return attacking.method(student, teacher, alpha, [term], epsilon, steps, attack)


def rslad(*, student, teacher, robust_weight=5 / 6, epsilon=attacking.EPSILON, steps=10, **attack):
    """RSLAD: a robust teacher's soft labels everywhere, in the attack as well; no hard labels.

    `w KL(p_T(x) || p_S(x')) + (1 - w) KL(p_T(x) || p_S(x))`, `x'` by PGD on the first. Settings of
    the authors' code.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: A robust `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        robust_weight: `w`, the share of the adversarial inputs, in [0, 1].
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`; `random_start` is 0.001 unless given.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha`, `terms`,
        `perturbation` and `hard_view`.

    Raises:
        ValueError: An argument is out of its range, or not the attack's.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.rslad(student=student, teacher=robust))

    Reference:
        Zi et al., [Revisiting Adversarial Robustness Distillation](
        https://arxiv.org/abs/2108.07969), ICCV 2021.
    """
    terms = attacking.both_views(robust_weight)
    attack = {"objective": "teacher", "random_start": attacking.BESIDE, **attack}
    return attacking.method(student, teacher, 0.0, terms, epsilon, steps, attack)


def adaad(*, student, teacher, robust_weight=1.0, epsilon=attacking.EPSILON, steps=10, **attack):
    """AdaAD: the attack looks for where student and teacher differ, the teacher seeing it too.

    `w KL(p_T(x') || p_S(x')) + (1 - w) KL(p_T(x) || p_S(x))`, `x'` by PGD on the first, with the
    gradient through the teacher. Settings of the authors' code.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: A robust, differentiable `keras.Model` with logits for the same classes, or a list
            of them.
        robust_weight: `w`, the share of the adversarial inputs, in [0, 1].
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`; `random_start` is 0.001 unless given.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha`, `terms`,
        `perturbation`, `hard_view` and `teacher_view`.

    Raises:
        ValueError: An argument is out of its range, or not the attack's.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.adaad(student=student, teacher=robust))

    Reference:
        Huang et al., Boosting Accuracy and Robustness of Student Models via Adaptive Adversarial
        Distillation, CVPR 2023.
    """
    terms = attacking.both_views(robust_weight, teacher_view="perturbed")
    attack = {
        "objective": "teacher",
        "teacher_view": "perturbed",
        "random_start": attacking.BESIDE,
        **attack,
    }
    made = attacking.method(student, teacher, 0.0, terms, epsilon, steps, attack)
    return {**made, "teacher_view": "perturbed"}


def iad(
    *,
    student,
    teacher,
    alpha=0.0,
    temperature=1.0,
    power=0.1,
    begin_steps=0,
    epsilon=attacking.EPSILON,
    steps=10,
    **attack,
):
    """IAD: where the teacher cannot be relied upon, the student looks into itself.

    `alpha CE(S(x), y) + (1 - alpha) (T^2 KL(p_T(x) || p_S(x')) + (1 - p_T(y|x')^power) KL(p_S(x) ||
    p_S(x')))`, `x'` by PGD on the labels.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: A robust `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step.
        temperature: Positive number `T` of the first divergence, or a Keras schedule; the second is
            at 1.
        power: Positive number: the smaller, the more the teacher is relied upon. 0.1, as in the
            code of AdaAD, which has IAD too, unless given.
        begin_steps: The step at which the second divergence begins, at least 0; the authors' is
            that of epoch 60 of 200.
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha`, `terms`,
        `perturbation` and `hard_view`.

    Raises:
        ValueError: An argument is out of its range, or not the attack's.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.iad(student=student, teacher=robust))

    Reference:
        Zhu et al., [Reliable Adversarial Distillation with Unreliable Teachers](
        https://arxiv.org/abs/2106.04928), ICLR 2022, as in their code: the first divergence is not
        weighed by `p_T(y|x')^power`.
    """
    weight = 1.0
    if arguments.integer("begin_steps", begin_steps, low=0):
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay
        weight = schedule([begin_steps - 1], [0.0, 1.0])
    introspection = distillation_terms.Term(
        attacking.soft("consistency"),
        weight,
        source="student",
        teacher_view="perturbed",
        example_weight=losses.Reliability(power=power, inverted=True),
    )
    adversarial = distillation_terms.Term(attacking.soft("adversarial", temperature))
    terms = [adversarial, introspection]
    return attacking.method(student, teacher, alpha, terms, epsilon, steps, attack)


def mtard(
    *,
    student,
    teacher,
    clean_teacher,
    rate=0.025,
    epsilon=attacking.EPSILON,
    steps=10,
    **attack,
):
    """MTARD: a robust teacher on adversarial inputs, a clean one on clean inputs.

    `w KL(p_R(x') || p_S(x')) + (1 - w) KL(p_C(x) || p_S(x))`, `x'` by PGD on the labels; the terms'
    weights follow how little each has come down (`kdkeras.losses.RelativeProgress`).

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: The robust one: Functional or Sequential `keras.Model` with logits for the same
            classes, built, or a list of them.
        clean_teacher: The accurate one, likewise.
        rate: How fast the weights follow, in [0, 1]; 0.025, of the authors' code, unless given.
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher` (both as one), `alpha`,
        `terms`, `perturbation`, `hard_view` and `balance`.

    Raises:
        ValueError: The teachers do not take the same inputs, or an argument is out of its range or
            not the attack's.

    Example:

    >>> kdkeras.methods.mtard(student=student, teacher=robust, clean_teacher=accurate)

    Reference:
        Zhao et al., [Enhanced Accuracy and Robustness via Multi-Teacher Adversarial Distillation](
        https://arxiv.org/abs/2306.16170), ECCV 2022.
    """
    both = teachers.one_a_head({"robust": teacher, "clean": clean_teacher}, name="teachers")
    term = distillation_terms.Term
    terms = [
        term(attacking.soft("adversarial"), teacher_output="robust", teacher_view="perturbed"),
        term(attacking.soft("clean"), teacher_output="clean", student_view="clean"),
    ]
    made = attacking.method(student, both, 0.0, terms, epsilon, steps, attack)
    return {**made, "balance": losses.RelativeProgress(rate=rate)}
