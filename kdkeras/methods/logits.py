"""Methods that compare logits: any two models of the same classes fit."""

from kdkeras import losses, schedules
from kdkeras import terms as distillation_terms


def hinton(*, student, teacher, alpha=0.1, temperature=4.0):
    """Soft targets: `alpha * hard + (1 - alpha) * T^2 KL(p_T || q_T)`.

    Settings of RepDistiller's CIFAR-100 table.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step.
        temperature: Positive number `T`, or a Keras schedule.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: `temperature` is out of its range.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.hinton(student=student, teacher=teacher))

    Reference:
        Hinton et al., [Distilling the Knowledge in a Neural Network](
        https://arxiv.org/abs/1503.02531), 2015.
    """
    return _method(student, teacher, alpha, [losses.SoftTargets(temperature=temperature)], [1.0])


def dkd(
    *,
    student,
    teacher,
    alpha=0.5,
    target_weight=1.0,
    nontarget_weight=8.0,
    temperature=4.0,
    warmup_steps=0,
):
    """Decoupled: the target class against the rest, and the rest among themselves, weighed apart.

    The loss is `kdkeras.losses.Decoupled`. The authors warm up over 20 of 240 epochs.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        target_weight: Of the target class: number of at least 0, or a Keras schedule.
        nontarget_weight: Of the others, likewise; 8, the authors' on CIFAR-100 from ResNet-50 to
            MobileNetV2, unless given.
        temperature: Positive number `T`, or a Keras schedule.
        warmup_steps: Over how many steps the term's weight rises linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: A weight, `temperature` or `warmup_steps` is out of its range.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.dkd(student=student, teacher=teacher))

    Reference:
        Zhao et al., [Decoupled Knowledge Distillation](https://arxiv.org/abs/2203.08679), CVPR
        2022.
    """
    loss = losses.Decoupled(
        target_weight=target_weight, nontarget_weight=nontarget_weight, temperature=temperature
    )
    weight = schedules.warmed_up(1.0, warmup_steps)
    return _method(student, teacher, alpha, [loss], [weight])


def dist(*, student, teacher, alpha=0.5, inter_weight=1.0, intra_weight=1.0, temperature=1.0):
    """Correlations of the probabilities, within each example and within each class.

    The losses are `kdkeras.losses.InterClassCorrelation` and `IntraClassCorrelation`. Settings of
    the authors' ImageNet runs.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        inter_weight: Of the correlations within an example, over the classes: number of at least 0,
            or a Keras schedule.
        intra_weight: Of those within a class, over the batch, likewise.
        temperature: Positive number `T` of both, or a Keras schedule.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: A weight or `temperature` is out of its range.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.dist(student=student, teacher=teacher))

    Reference:
        Huang et al., [Knowledge Distillation from A Stronger Teacher](
        https://arxiv.org/abs/2205.10536), NeurIPS 2022.
    """
    terms = [
        losses.InterClassCorrelation(temperature=temperature),
        losses.IntraClassCorrelation(temperature=temperature),
    ]
    return _method(student, teacher, alpha, terms, [inter_weight, intra_weight])


def standardized(*, student, teacher, alpha=0.1, temperature=2.0, weight=10.0):
    """Soft targets of logits standardised by their mean and deviation over the classes.

    `0.1 * hard + 9 * soft`, the authors' CIFAR-100 settings.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: `keras.Model` with logits for the same classes, or another teacher that
            `kdkeras.Distiller` takes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step.
        temperature: Positive number `T`, or a Keras schedule.
        weight: Of the soft targets, before `1 - alpha`: number of at least 0, or a Keras schedule.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: `temperature` or `weight` is out of its range.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.standardized(student=student, teacher=teacher))

    Reference:
        Sun et al., [Logit Standardization in Knowledge Distillation](
        https://arxiv.org/abs/2403.01427), CVPR 2024.
    """
    loss = losses.SoftTargets(temperature=temperature, standardize=True)
    return _method(student, teacher, alpha, [loss], [weight])


def _method(student, teacher, alpha, made, weights):
    terms = [
        distillation_terms.Term(loss, weight) for loss, weight in zip(made, weights, strict=True)
    ]
    return {"student": student, "teacher": teacher, "alpha": alpha, "terms": terms}
