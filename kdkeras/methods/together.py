"""Methods of peers: models that are trained together, or generation after generation."""

import keras

from kdkeras import arguments, distiller
from kdkeras import terms as distillation_terms
from kdkeras.methods import attacking, logits
from kdkeras.models import surgery


def mutual(*, student, teacher, alpha=0.5, temperature=1.0):
    """Deep mutual learning: two students that learn from the labels and from each other.

    In each step `teacher` learns from what the student says, and then the student from it.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: The other student, a compiled `keras.Model` with logits for the same classes. It is
            trained too, with the optimizer and the loss that it was compiled with.
        alpha: Weight of the labels' loss in both, in [0, 1], or a Keras schedule of the step; 0.5
            gives half of the paper's loss.
        temperature: Positive number `T` of both, or a Keras schedule; the paper's is 1.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha`, `terms` and
        `train_teacher`. The teacher is wrapped in a `Distiller` of its own.

    Raises:
        ValueError: `teacher` is not compiled or ends in softmax, or an argument is out of its
            range.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.mutual(student=student, teacher=other))

    Reference:
        Zhang et al., [Deep Mutual Learning](https://arxiv.org/abs/1706.00384), CVPR 2018.
    """
    learning = learner(teacher, alpha=alpha, temperature=temperature)
    made = logits.hinton(student=student, teacher=learning, alpha=alpha, temperature=temperature)
    return {**made, "train_teacher": True}


def peer(
    *,
    student,
    teacher,
    temperature=5.0,
    peer_weight=0.1,
    epsilon=attacking.EPSILON,
    steps=10,
    **attack,
):
    """PeerAiD: a peer, trained together with the student, defends against the student's attacks.

    Peer: `CE(P(x'), y) + peer_weight KL(p_S(x') || p_P(x'))`, divided by `1 + peer_weight`.
    Student: `T^2 KL(p_P(x') || p_S(x')) + T^2 KL(p_S(x) || p_S(x'))`. `x'` by PGD on `KL(p_P(x) ||
    p_S(x'))`. The peer does not withstand attacks of its own.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`.
        teacher: The peer, a compiled `keras.Model` with logits for the same classes. It is trained
            too, with the optimizer and the loss that it was compiled with.
        temperature: Positive number `T` of the student's divergences, or a Keras schedule; the
            peer's is at 1. 5, the authors' on CIFAR-10, unless given.
        peer_weight: How much the student counts in the peer's loss, at least 0; 0.1, the authors'
            on CIFAR-10, unless given.
        epsilon: Radius of the attack's ball, at least 0, in pixels of [0, 1].
        steps: Steps of the attack, at least 1.
        **attack: Other arguments of `kdkeras.perturbations.PGD`, such as `step_size`, `norm` and
            `seed`; `random_start` is 0.001 unless given.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha`, `terms`,
        `perturbation`, `hard_view`, `teacher_view` and `train_teacher`. The peer is wrapped in a
        `Distiller` of its own.

    Raises:
        ValueError: `teacher` is not compiled or ends in softmax, or an argument is out of its
            range or not the attack's.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.peer(student=student, teacher=other))

    Reference:
        Jung et al., [PeerAiD](https://arxiv.org/abs/2403.06668), CVPR 2024, without their weight
        averaging.
    """
    arguments.nonnegative("peer_weight", peer_weight)
    learning = learner(teacher, alpha=1.0 / (1.0 + peer_weight), temperature=1.0)
    terms = [
        distillation_terms.Term(attacking.soft("adversarial", temperature)),
        distillation_terms.Term(attacking.soft("consistency", temperature), source="student"),
    ]
    attack = {"objective": "teacher", "random_start": attacking.BESIDE, **attack}
    made = attacking.method(student, learning, 0.0, terms, epsilon, steps, attack)
    return {**made, "teacher_view": "perturbed", "train_teacher": True}


def born_again(*, student, teacher, alpha=0.5, temperature=1.0):
    """Self-distillation: a trained model teaches a fresh one of its own architecture.

    Repeat with the student as the next teacher for further generations.

    Args:
        student: `keras.Model` with logits, `(batch, num_classes)`, built.
        teacher: A trained `keras.Model` with weights of the same shapes.
        alpha: Weight of the labels' loss, in [0, 1], or a Keras schedule of the step.
        temperature: Positive number `T`, or a Keras schedule.

    Returns:
        Dict of arguments of `kdkeras.Distiller`: `student`, `teacher`, `alpha` and `terms`.

    Raises:
        ValueError: The architectures differ, or `temperature` is out of its range.

    Example:

    >>> kdkeras.Distiller(**kdkeras.methods.born_again(student=fresh, teacher=trained))

    Reference:
        Furlanello et al., [Born-Again Neural Networks](https://arxiv.org/abs/1805.04770), ICML
        2018.
    """
    shapes = [[tuple(weight.shape) for weight in model.weights] for model in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "Method 'born_again' needs a teacher of the student's architecture. Received: "
            f"student='{student.name}' with {student.count_params():,} parameters and teacher="
            f"'{teacher.name}' with {teacher.count_params():,}"
        )
    return logits.hinton(student=student, teacher=teacher, alpha=alpha, temperature=temperature)


def learner(teacher, *, alpha, temperature):
    """A compiled teacher that is trained too, as a Distiller that learns from the student.

    Args:
        teacher: Compiled `keras.Model`.
        alpha, temperature: As in `kdkeras.Distiller`.

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
    made = distiller.Distiller(student=model, alpha=alpha, temperature=temperature, name="peer")
    made.compile_from_config(teacher.get_compile_config())
    return made
