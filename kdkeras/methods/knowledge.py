"""Methods for accuracy: what the student learns of a teacher's logits, layers and relations."""

import keras

from kdkeras import (
    adapters,
    arguments,
    compatibility,
    distiller,
    losses,
    schedules,
    taps,
    teachers,
)
from kdkeras import terms as distillation_terms
from kdkeras.models import surgery


def hinton(*, student, teacher, alpha=0.1, temperature=4.0):
    """Soft targets: `alpha * hard + (1 - alpha) * T^2 KL(p_T || q_T)`.

    Settings of RepDistiller's CIFAR-100 table. Hinton et al., [Distilling the Knowledge in a Neural
    Network](https://arxiv.org/abs/1503.02531), 2015.
    """
    return _logit_method(
        student, teacher, alpha, [losses.SoftTargets(temperature=temperature)], [1.0]
    )


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

    The authors warm up over 20 of 240 epochs. Zhao et al., [Decoupled Knowledge Distillation](
    https://arxiv.org/abs/2203.08679), CVPR 2022.
    """
    loss = losses.Decoupled(
        target_weight=target_weight, nontarget_weight=nontarget_weight, temperature=temperature
    )
    weight = schedules.warmed_up(1.0, warmup_steps)
    return _logit_method(student, teacher, alpha, [loss], [weight])


def dist(*, student, teacher, alpha=0.5, inter_weight=1.0, intra_weight=1.0, temperature=1.0):
    """Correlations of the probabilities, within each example and within each class.

    Settings of the authors' ImageNet runs. Huang et al., [Knowledge Distillation from A Stronger
    Teacher](https://arxiv.org/abs/2205.10536), NeurIPS 2022.
    """
    terms = [
        losses.InterClassCorrelation(temperature=temperature),
        losses.IntraClassCorrelation(temperature=temperature),
    ]
    return _logit_method(student, teacher, alpha, terms, [inter_weight, intra_weight])


def standardized(*, student, teacher, alpha=0.1, temperature=2.0, weight=10.0):
    """Soft targets of logits standardised by their mean and deviation over the classes.

    `0.1 * hard + 9 * soft`, the authors' CIFAR-100 settings. Sun et al., [Logit Standardization in
    Knowledge Distillation](https://arxiv.org/abs/2403.01427), CVPR 2024.
    """
    loss = losses.SoftTargets(temperature=temperature, standardize=True)
    return _logit_method(student, teacher, alpha, [loss], [weight])


def fitnet(*, student, teacher, alpha=0.5, weight=100.0, pairs=None, warmup_steps=0):
    """Hints: squared difference of the middle layers, behind a learned 1x1 convolution.

    Layers: the middle one of `pairs`, of `kdkeras.match_layers` unless given.

    Settings of
    RepDistiller, which trains in one stage. Romero et al., [FitNets: Hints for Thin
    Deep Nets](https://arxiv.org/abs/1412.6550), ICLR 2015.
    """
    teacher, pairs = _paired(teacher, student, pairs)
    middle = [pairs[len(pairs) // 2]]
    loss = keras.losses.MeanSquaredError(name="hint")
    return _layer_method(student, teacher, alpha, loss, weight, middle, warmup_steps)


def attention(*, student, teacher, alpha=0.5, weight=1000.0, pairs=None, warmup_steps=0):
    """Attention transfer: the maps' mean squares over channels, normalised, at every stage.

    Layers: `pairs`, of `kdkeras.match_layers` unless given; feature maps.

    Settings of RepDistiller. Zagoruyko and Komodakis, [Paying More Attention to Attention](
    https://arxiv.org/abs/1612.03928), ICLR 2017.
    """
    teacher, pairs = _paired(teacher, student, pairs)
    loss = losses.AttentionTransfer()
    return _layer_method(student, teacher, alpha, loss, weight, pairs, warmup_steps)


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

    Layers: `pairs`, those in front of the logits unless given.

    Settings of RepDistiller. Park et al., [Relational Knowledge Distillation](
    https://arxiv.org/abs/1904.05068), CVPR 2019.
    """
    teacher, pairs = _paired(teacher, student, pairs, _embeddings)
    made = [
        _layer_method(student, teacher, alpha, loss, weight, pairs, warmup_steps)
        for loss, weight in (
            (losses.RelationalDistance(), distance_weight),
            (losses.RelationalAngle(), angle_weight),
        )
    ]
    return {**made[0], "terms": made[0]["terms"] + made[1]["terms"]}


def similarity(*, student, teacher, alpha=0.5, weight=3000.0, pairs=None, warmup_steps=0):
    """Similarity-preserving: inner products of the examples' last feature maps, row-normalised.

    Layers: `pairs`, the last of `kdkeras.match_layers` unless given.

    Settings of RepDistiller. Tung and Mori, [Similarity-Preserving Knowledge Distillation](
    https://arxiv.org/abs/1907.09682), ICCV 2019.
    """
    teacher, pairs = _paired(
        teacher, student, pairs, lambda *models: taps.match_layers(*models)[-1:]
    )
    loss = losses.SimilarityPreserving()
    return _layer_method(student, teacher, alpha, loss, weight, pairs, warmup_steps)


def pkt(*, student, teacher, alpha=0.5, weight=30000.0, pairs=None, warmup_steps=0):
    """Probabilistic knowledge transfer: each example's similarities as a distribution.

    Layers: `pairs`, those in front of the logits unless given.

    Settings of RepDistiller. Passalis and Tefas, [Learning Deep Representations with Probabilistic
    Knowledge Transfer](https://arxiv.org/abs/1803.10837), ECCV 2018.
    """
    teacher, pairs = _paired(teacher, student, pairs, _embeddings)
    loss = losses.ProbabilisticKnowledgeTransfer()
    return _layer_method(student, teacher, alpha, loss, weight, pairs, warmup_steps)


def review(*, student, teacher, alpha=0.5, weight=1.0, pairs=None, warmup_steps=0):
    """Knowledge review: every stage, fused with the deeper ones, against the teacher's.

    Layers: `pairs`, of `kdkeras.match_layers` unless given; feature maps.

    The authors take weights from 0.6 to 8 by pair of models, and warm up over 20 of 240 epochs.
    Chen et al., [Distilling Knowledge via Knowledge Review](https://arxiv.org/abs/2104.09044),
    CVPR 2021.
    """
    teacher, pairs = _paired(teacher, student, pairs)
    tapped = taps.tap(teacher, [path for path, _ in pairs])
    wanted = [tuple(tapped.output["features"][path].shape) for path, _ in pairs]
    if any(len(shape) != 4 for shape in wanted):
        raise ValueError(
            "Method 'review' compares feature maps, (batch, height, width, channels). Received: "
            f"layers {pairs} of shapes {wanted}"
        )
    (deepest,) = taps.tap(student, [pairs[-1][1]]).output["features"].values()
    fusion = adapters.ReviewFusion(
        channels=[shape[-1] for shape in wanted],
        sizes=[shape[1:3] for shape in wanted],
        width=min(512, deepest.shape[-1]),
    )
    loss = losses.HierarchicalContext()
    return _layer_method(student, teacher, alpha, loss, weight, pairs, warmup_steps, fusion)


def crd(*, student, teacher, alpha=0.5, weight=0.8, temperature=0.07, pairs=None, warmup_steps=0):
    """Contrastive: each example's embedding picks its own among the teacher's of the batch.

    Layers: `pairs`, those in front of the logits unless given.

    Weight and temperature of RepDistiller, whose negatives come from a memory bank and whose
    teacher's embedding is projected too; here the negatives are the batch's, so that large batches
    help, and the student is projected onto the teacher's embedding. Tian et al., [Contrastive
    Representation Distillation](https://arxiv.org/abs/1910.10699), ICLR 2020.
    """
    teacher, pairs = _paired(teacher, student, pairs, _embeddings)
    loss = losses.ContrastiveRepresentation(temperature=temperature)
    return _layer_method(student, teacher, alpha, loss, weight, pairs, warmup_steps)


def mutual(*, student, teacher, alpha=0.5, temperature=1.0):
    """Deep mutual learning: two students that learn from the labels and from each other.

    `teacher` is the other student, compiled, and is trained too: in each step it learns from what
    the student says, and then the student from it. Zhang et al., [Deep Mutual Learning](
    https://arxiv.org/abs/1706.00384), CVPR 2018.
    """
    peer = learner(teacher, alpha=alpha, temperature=temperature)
    made = hinton(student=student, teacher=peer, alpha=alpha, temperature=temperature)
    return {**made, "train_teacher": True}


def learner(teacher, *, alpha, temperature):
    """A compiled teacher that is trained too, as a Distiller that learns from the student.

    Raises:
        ValueError: It is not compiled.
    """
    if not teacher.compiled:
        raise ValueError(
            "`teacher` must be compiled, for it is trained as well: call teacher.compile("
            f"optimizer, loss) first. Received: '{teacher.name}', which is not compiled."
        )
    model = teacher
    if surgery.is_built_graph(teacher):
        # The same layers without the compile state, of which a file would hold a second one.
        inputs, outputs = surgery.input_of(teacher), surgery.output_of(teacher)
        model = keras.Model(inputs, outputs, name=teacher.name)
    peer = distiller.Distiller(student=model, alpha=alpha, temperature=temperature, name="peer")
    peer.compile_from_config(teacher.get_compile_config())
    return peer


def born_again(*, student, teacher, alpha=0.5, temperature=1.0):
    """Self-distillation: a trained model teaches a fresh one of its own architecture.

    Repeat with the student as the next teacher for further generations. Furlanello et al.,
    [Born-Again Neural Networks](https://arxiv.org/abs/1805.04770), ICML 2018.
    """
    shapes = [[tuple(weight.shape) for weight in model.weights] for model in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "Method 'born_again' needs a teacher of the student's architecture. Received: "
            f"student='{student.name}' with {student.count_params():,} parameters and teacher="
            f"'{teacher.name}' with {teacher.count_params():,}"
        )
    return hinton(student=student, teacher=teacher, alpha=alpha, temperature=temperature)


def _logit_method(student, teacher, alpha, made, weights):
    terms = [
        distillation_terms.Term(loss, weight) for loss, weight in zip(made, weights, strict=True)
    ]
    return {"student": student, "teacher": teacher, "alpha": alpha, "terms": terms}


def _layer_method(student, teacher, alpha, loss, weight, pairs, warmup_steps, adapter="auto"):
    arguments.nonnegative("weight", weight)
    term = distillation_terms.Term(
        loss,
        schedules.warmed_up(weight, warmup_steps),
        teacher_layer=[path for path, _ in pairs],
        student_layer=[path for _, path in pairs],
        adapter=adapter,
    )
    return {"student": student, "teacher": teacher, "alpha": alpha, "terms": [term]}


def _paired(teacher, student, pairs, propose=taps.match_layers):
    """The teacher, one model if it was a list or a dict, and the pairs of layers."""
    teacher = teachers.as_teacher(teacher, compatibility.heads(student))
    if pairs is None:
        return teacher, propose(teacher, student)
    pairs = list(pairs) if isinstance(pairs, (list, tuple)) else [pairs]
    if not pairs or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
        for pair in pairs
    ):
        raise ValueError(
            "`pairs` must be a list of (teacher's path, student's path), at least one. "
            f"Received: pairs={pairs!r}"
        )
    return teacher, pairs


def _embeddings(teacher, student):
    return [(taps.penultimate(teacher), taps.penultimate(student))]
