"""Methods that compare what inner layers say of an example: hints, attention, review."""

import keras

from kdkeras import adapters, losses, taps
from kdkeras.methods import pairing


def fitnet(*, student, teacher, alpha=0.5, weight=100.0, pairs=None, warmup_steps=0):
    """Hints: squared difference of the middle layers, behind a learned 1x1 convolution.

    Settings of RepDistiller, which trains in one stage.

    Args:
        student: Functional or Sequential `keras.Model` with logits, built.
        teacher: Likewise, of the same classes; or a list of them, whose paths then begin with
            "teacher_1/" and so on.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        weight: Of the hint: number of at least 0.
        pairs: List of (teacher's path, student's path), of which the middle one is compared; of
            `kdkeras.match_layers` unless given.
        warmup_steps: Over how many steps the term's weight rises linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: An argument is out of its range, or a model has no layers to look into.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.fitnet(student=student, teacher=teacher))

    Reference:
        Romero et al., [FitNets: Hints for Thin Deep Nets](https://arxiv.org/abs/1412.6550), ICLR
        2015.
    """
    teacher, pairs = pairing.paired(teacher, student, pairs)
    middle = [pairs[len(pairs) // 2]]
    loss = keras.losses.MeanSquaredError(name="hint")
    return pairing.method(student, teacher, alpha, loss, weight, middle, warmup_steps)


def attention(*, student, teacher, alpha=0.5, weight=1000.0, pairs=None, warmup_steps=0):
    """Attention transfer: the maps' mean squares over channels, normalised, at every stage.

    The loss is `kdkeras.losses.AttentionTransfer`, summed over the pairs. Settings of RepDistiller.

    Args:
        student: Functional or Sequential `keras.Model` with logits, built.
        teacher: Likewise, of the same classes; or a list of them, whose paths then begin with
            "teacher_1/" and so on.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        weight: Of the term: number of at least 0.
        pairs: List of (teacher's path, student's path), of feature maps; of `kdkeras.match_layers`
            unless given.
        warmup_steps: Over how many steps the term's weight rises linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: An argument is out of its range, or a model has no layers to look into.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.attention(student=student, teacher=teacher))

    Reference:
        Zagoruyko and Komodakis, [Paying More Attention to Attention](
        https://arxiv.org/abs/1612.03928), ICLR 2017.
    """
    teacher, pairs = pairing.paired(teacher, student, pairs)
    loss = losses.AttentionTransfer()
    return pairing.method(student, teacher, alpha, loss, weight, pairs, warmup_steps)


def review(*, student, teacher, alpha=0.5, weight=1.0, pairs=None, warmup_steps=0):
    """Knowledge review: every stage, fused with the deeper ones, against the teacher's.

    The loss is `kdkeras.losses.HierarchicalContext`. The authors take weights from 0.6 to 8 by pair
    of models, and warm up over 20 of 240 epochs.

    Args:
        student: Functional or Sequential `keras.Model` with logits, built.
        teacher: Likewise, of the same classes; or a list of them, whose paths then begin with
            "teacher_1/" and so on.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step; 0.5 gives
            half of the paper's loss.
        weight: Of the term: number of at least 0.
        pairs: List of (teacher's path, student's path), of feature maps, from the finest to the
            coarsest; of `kdkeras.match_layers` unless given.
        warmup_steps: Over how many steps the term's weight rises linearly from 0, at least 0.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: An argument is out of its range, a model has no layers to look into, or a layer
            of the teacher's gives no feature map.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.review(student=student, teacher=teacher))

    Reference:
        Chen et al., [Distilling Knowledge via Knowledge Review](https://arxiv.org/abs/2104.09044),
        CVPR 2021.
    """
    teacher, pairs = pairing.paired(teacher, student, pairs)
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
    return pairing.method(student, teacher, alpha, loss, weight, pairs, warmup_steps, fusion)
