"""Methods that compare how the examples of a batch lie to one another in an inner layer."""

from kdkeras import losses, taps
from kdkeras.methods import pairing


def rkd(
    *,
    student,
    teacher,
    alpha=0.5,
    distance_weight=25.0,
    angle_weight=50.0,
    pairs=None,
    warmup_steps=0,
):
    """Relations: distances and angles among the embeddings of a batch.

    The losses are `kdkeras.losses.RelationalDistance` and `RelationalAngle`. Settings of
    RepDistiller.

    Args:
        student: Functional or Sequential `keras.Model` with logits, built.
        teacher: Likewise, of the same classes; or a list of them, whose paths then begin with
            "teacher_1/" and so on.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        distance_weight: Of the distances: number of at least 0.
        angle_weight: Of the angles: number of at least 0.
        pairs: List of (teacher's path, student's path); of the layers in front of the logits
            unless given.
        warmup_steps: Over how many steps the terms' weights rise linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: An argument is out of its range, or a model has no layers to look into.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.rkd(student=student, teacher=teacher))

    Reference:
        Park et al., [Relational Knowledge Distillation](https://arxiv.org/abs/1904.05068), CVPR
        2019.
    """
    teacher, pairs = pairing.paired(teacher, student, pairs, pairing.embeddings)
    made = [
        pairing.method(student, teacher, alpha, loss, weight, pairs, warmup_steps)
        for loss, weight in (
            (losses.RelationalDistance(), distance_weight),
            (losses.RelationalAngle(), angle_weight),
        )
    ]
    return {**made[0], "terms": made[0]["terms"] + made[1]["terms"]}


def similarity(*, student, teacher, alpha=0.5, weight=3000.0, pairs=None, warmup_steps=0):
    """Similarity-preserving: inner products of the examples' last feature maps, row-normalised.

    The loss is `kdkeras.losses.SimilarityPreserving`. Settings of RepDistiller.

    Args:
        student: Functional or Sequential `keras.Model` with logits, built.
        teacher: Likewise, of the same classes; or a list of them, whose paths then begin with
            "teacher_1/" and so on.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        weight: Of the term: number of at least 0.
        pairs: List of (teacher's path, student's path); the last of `kdkeras.match_layers` unless
            given.
        warmup_steps: Over how many steps the term's weight rises linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: An argument is out of its range, or a model has no layers to look into.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.similarity(student=student, teacher=teacher))

    Reference:
        Tung and Mori, [Similarity-Preserving Knowledge Distillation](
        https://arxiv.org/abs/1907.09682), ICCV 2019.
    """
    teacher, pairs = pairing.paired(
        teacher, student, pairs, lambda *models: taps.match_layers(*models)[-1:]
    )
    loss = losses.SimilarityPreserving()
    return pairing.method(student, teacher, alpha, loss, weight, pairs, warmup_steps)


def pkt(*, student, teacher, alpha=0.5, weight=30000.0, pairs=None, warmup_steps=0):
    """Probabilistic knowledge transfer: each example's similarities as a distribution.

    The loss is `kdkeras.losses.ProbabilisticKnowledgeTransfer`. Settings of RepDistiller.

    Args:
        student: Functional or Sequential `keras.Model` with logits, built.
        teacher: Likewise, of the same classes; or a list of them, whose paths then begin with
            "teacher_1/" and so on.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        weight: Of the term: number of at least 0.
        pairs: List of (teacher's path, student's path); of the layers in front of the logits
            unless given.
        warmup_steps: Over how many steps the term's weight rises linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: An argument is out of its range, or a model has no layers to look into.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.pkt(student=student, teacher=teacher))

    Reference:
        Passalis and Tefas, [Learning Deep Representations with Probabilistic Knowledge Transfer](
        https://arxiv.org/abs/1803.10837), ECCV 2018.
    """
    teacher, pairs = pairing.paired(teacher, student, pairs, pairing.embeddings)
    loss = losses.ProbabilisticKnowledgeTransfer()
    return pairing.method(student, teacher, alpha, loss, weight, pairs, warmup_steps)


def crd(*, student, teacher, alpha=0.5, weight=0.8, temperature=0.07, pairs=None, warmup_steps=0):
    """Contrastive: each example's embedding picks its own among the teacher's of the batch.

    The loss is `kdkeras.losses.ContrastiveRepresentation`. Weight and temperature of RepDistiller,
    whose negatives come from a memory bank and whose teacher's embedding is projected too; here the
    negatives are the batch's, so that large batches help, and the student is projected onto the
    teacher's embedding.

    Args:
        student: Functional or Sequential `keras.Model` with logits, built.
        teacher: Likewise, of the same classes; or a list of them, whose paths then begin with
            "teacher_1/" and so on.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        weight: Of the term: number of at least 0.
        temperature: Of the cosines: positive number, or a Keras schedule.
        pairs: List of (teacher's path, student's path); of the layers in front of the logits
            unless given.
        warmup_steps: Over how many steps the term's weight rises linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: An argument is out of its range, or a model has no layers to look into.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.crd(student=student, teacher=teacher))

    Reference:
        Tian et al., [Contrastive Representation Distillation](https://arxiv.org/abs/1910.10699),
        ICLR 2020.
    """
    teacher, pairs = pairing.paired(teacher, student, pairs, pairing.embeddings)
    loss = losses.ContrastiveRepresentation(temperature=temperature)
    return pairing.method(student, teacher, alpha, loss, weight, pairs, warmup_steps)
