"""Methods for robustness: students that withstand noise and attacks, and the controls they need.

Each takes `epsilon`, `steps` and further arguments of `kdkeras.perturbations.PGD` (`norm`, `seed`
...), whose `training=False` attack the student is trained on; the papers' `epsilon=8 / 255`,
`steps=10`, `step_size=2 / 255` are the defaults. KL is summed over classes and averaged over the
batch. The code of ARD, RSLAD, AdaAD, MTARD and PeerAiD averages over classes too: its soft losses
are `num_classes` times smaller. To reproduce it where labels have no share, divide the learning
rate by `num_classes`; where they have one, multiply alpha's odds by it.

The robust teacher is what counts: from one without robustness `adversarial_training` of the same
student, which needs no teacher, is often better than any of the others.
"""

import inspect

import keras

from kdkeras import arguments, losses, perturbations, teachers
from kdkeras import terms as distillation_terms
from kdkeras.methods import knowledge
from kdkeras.models import surgery

EPSILON = 8 / 255
# Gradients of a divergence start at 0; TRADES begins beside the clean inputs.
BESIDE = 0.001


def adversarial_training(*, student, teacher=None, epsilon=EPSILON, steps=10, **attack):
    """PGD-AT, a control: cross-entropy on adversarial inputs, no teacher.

    `CE(S(x'), y)`, `x'` by PGD on the same. `teacher` is not used. Madry et al., [Towards Deep
    Learning Models Resistant to Adversarial Attacks](https://arxiv.org/abs/1706.06083), ICLR 2018.
    """
    del teacher
    perturbation = _pgd(epsilon, steps, attack)
    return {"student": student, "alpha": 1.0, "terms": [], "perturbation": perturbation}


def trades(*, student, teacher=None, alpha=0.5, beta=6.0, epsilon=EPSILON, steps=10, **attack):
    """TRADES, a control: labels on clean inputs, and the same answer on adversarial ones.

    `CE(S(x), y) + beta KL(p_S(x) || p_S(x'))`, the gradient through both sides, `x'` by PGD on the
    second term. `teacher` is not used. Zhang et al., [Theoretically Principled Trade-off between
    Robustness and Accuracy](https://arxiv.org/abs/1901.08573), ICML 2019.
    """
    del teacher
    term = distillation_terms.Term(_soft("consistency"), beta, source="student")
    attack = {"objective": "student", "random_start": BESIDE, **attack}
    return {
        "student": student,
        "alpha": alpha,
        "terms": [term],
        "hard_view": "clean",
        "perturbation": _pgd(epsilon, steps, attack),
    }


def ard(*, student, teacher, alpha=0.0, temperature=30.0, epsilon=EPSILON, steps=10, **attack):
    """ARD: the clean answers of a robust teacher, on adversarial inputs.

    `alpha CE(S(x), y) + (1 - alpha) T^2 KL(p_T(x) || p_S(x'))`, `x'` by PGD on the labels. Goldblum
    et al., [Adversarially Robust Distillation](https://arxiv.org/abs/1905.09747), AAAI 2020.
    """
    term = distillation_terms.Term(_soft("adversarial", temperature))
    return _attacked(student, teacher, alpha, [term], epsilon, steps, attack)


def rslad(*, student, teacher, robust_weight=5 / 6, epsilon=EPSILON, steps=10, **attack):
    """RSLAD: a robust teacher's soft labels everywhere, in the attack as well; no hard labels.

    `w KL(p_T(x) || p_S(x')) + (1 - w) KL(p_T(x) || p_S(x))`, `x'` by PGD on the first. Zi et al.,
    [Revisiting Adversarial Robustness Distillation](https://arxiv.org/abs/2108.07969), ICCV 2021.
    """
    terms = _both_views(robust_weight)
    attack = {"objective": "teacher", "random_start": BESIDE, **attack}
    return _attacked(student, teacher, 0.0, terms, epsilon, steps, attack)


def adaad(*, student, teacher, robust_weight=1.0, epsilon=EPSILON, steps=10, **attack):
    """AdaAD: the attack looks for where student and teacher differ, the teacher seeing it too.

    `w KL(p_T(x') || p_S(x')) + (1 - w) KL(p_T(x) || p_S(x))`, `x'` by PGD on the first, with the
    gradient through the teacher. Huang et al., Boosting Accuracy and Robustness of Student Models
    via Adaptive Adversarial Distillation, CVPR 2023.
    """
    terms = _both_views(robust_weight, teacher_view="perturbed")
    attack = {"objective": "teacher", "teacher_view": "perturbed", "random_start": BESIDE} | attack
    made = _attacked(student, teacher, 0.0, terms, epsilon, steps, attack)
    return {**made, "teacher_view": "perturbed"}


def iad(
    *,
    student,
    teacher,
    alpha=0.0,
    temperature=1.0,
    power=0.1,
    begin_steps=0,
    epsilon=EPSILON,
    steps=10,
    **attack,
):
    """IAD: where the teacher cannot be relied upon, the student looks into itself.

    `alpha CE(S(x), y) + (1 - alpha) (T^2 KL(p_T(x) || p_S(x')) + (1 - p_T(y|x')^power) KL(p_S(x) ||
    p_S(x')))`, the last from step `begin_steps` on (the authors': epoch 60 of 200), `x'` by PGD on
    the labels. Zhu et al., [Reliable Adversarial Distillation with Unreliable Teachers](
    https://arxiv.org/abs/2106.04928), ICLR 2022, as in their code: the first divergence is not
    weighed by `p_T(y|x')^power`.
    """
    weight = 1.0
    if begin_steps:
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay
        weight = schedule([begin_steps - 1], [0.0, 1.0])
    introspection = distillation_terms.Term(
        _soft("consistency"),
        weight,
        source="student",
        teacher_view="perturbed",
        example_weight=losses.Reliability(power=power, inverted=True),
    )
    terms = [distillation_terms.Term(_soft("adversarial", temperature)), introspection]
    return _attacked(student, teacher, alpha, terms, epsilon, steps, attack)


def mtard(*, student, teacher, clean_teacher, rate=0.025, epsilon=EPSILON, steps=10, **attack):
    """MTARD: a robust teacher on adversarial inputs, a clean one on clean inputs.

    `w KL(p_R(x') || p_S(x')) + (1 - w) KL(p_C(x) || p_S(x))`, `x'` by PGD on the labels; the terms'
    weights follow how little each has come down (`kdkeras.losses.RelativeProgress`). `teacher` is
    the robust one. Zhao et al., [Enhanced Accuracy and Robustness via Multi-Teacher Adversarial
    Distillation](https://arxiv.org/abs/2306.16170), ECCV 2022.
    """
    both = teachers.one_a_head({"robust": teacher, "clean": clean_teacher}, name="teachers")
    term = distillation_terms.Term
    terms = [
        term(_soft("adversarial"), teacher_output="robust", teacher_view="perturbed"),
        term(_soft("clean"), teacher_output="clean", student_view="clean"),
    ]
    made = _attacked(student, both, 0.0, terms, epsilon, steps, attack)
    return {**made, "balance": losses.RelativeProgress(rate=rate)}


def peer(
    *,
    student,
    teacher,
    temperature=5.0,
    peer_weight=0.1,
    epsilon=EPSILON,
    steps=10,
    **attack,
):
    """PeerAiD: a peer, trained together with the student, defends against the student's attacks.

    Peer: `CE(P(x'), y) + peer_weight KL(p_S(x') || p_P(x'))`, divided by `1 + peer_weight`.
    Student: `T^2 KL(p_P(x') || p_S(x')) + T^2 KL(p_S(x) || p_S(x'))`. `x'` by PGD on `KL(p_P(x) ||
    p_S(x'))`. `teacher` is the peer, compiled; it does not withstand attacks of its own. Jung et
    al.,
    [PeerAiD](https://arxiv.org/abs/2403.06668), CVPR 2024, without their weight averaging.
    """
    learner = knowledge.learner(teacher, alpha=1.0 / (1.0 + peer_weight), temperature=1.0)
    terms = [
        distillation_terms.Term(_soft("adversarial", temperature)),
        distillation_terms.Term(_soft("consistency", temperature), source="student"),
    ]
    attack = {"objective": "teacher", "random_start": BESIDE, **attack}
    made = _attacked(student, learner, 0.0, terms, epsilon, steps, attack)
    return {**made, "teacher_view": "perturbed", "train_teacher": True}


def gaussian(*, student, teacher, alpha=0.1, temperature=4.0, stddev=None, lam=None, seed=None):
    """Soft targets of the clean inputs, on inputs with Gaussian noise: what certificates need.

    `alpha CE(S(x'), y) + (1 - alpha) T^2 KL(p_T(x) || p_S(x'))`, `x' = x + N(0, stddev^2)`,
    unclipped; `stddev = 0.25` unless `stddev` or `lam` is given (`stddev^2 = 1 / (2 lam)`). Cohen
    et al., [Certified Adversarial Robustness via Randomized Smoothing](
    https://arxiv.org/abs/1902.02918), ICML 2019, with a teacher's soft labels.
    """
    if stddev is None and lam is None:
        stddev = 0.25
    noise = perturbations.Gaussian(stddev=stddev, lam=lam, seed=seed)
    made = knowledge.hinton(student=student, teacher=teacher, alpha=alpha, temperature=temperature)
    return {**made, "perturbation": noise}


def defensive(*, student, teacher, temperature=20.0):
    """Defensive distillation, kept as the known-broken example: it hides gradients, no more.

    `T KL(softmax(z_T / T) || softmax(z_S / T))` on clean inputs, of a teacher that was trained at
    `T` itself (here: any teacher, its logits times `T`). The student's logits are `T` times too
    large at temperature 1, where cross-entropy has no gradient left in float32. Papernot et al.,
    [Distillation as a Defense](https://arxiv.org/abs/1511.04508), 2016; broken by Carlini and
    Wagner, [Defensive Distillation is Not Robust](https://arxiv.org/abs/1607.04311), 2016.
    """
    scaled = keras.layers.Rescaling(temperature, dtype="float32", name="logits_times_temperature")
    inputs, outputs = surgery.input_of(teacher), surgery.output_of(teacher)
    scaled_teacher = keras.Model(inputs, scaled(outputs), name=f"{teacher.name}_at_temperature")
    # SoftTargets has a factor T^2; with T alone, the gradient of large logits is an ordinary one.
    soft = _soft("soft_targets", temperature)
    term = distillation_terms.Term(soft, 1.0 / arguments.positive("temperature", temperature))
    return {"student": student, "teacher": scaled_teacher, "alpha": 0.0, "terms": [term]}


def _soft(name, temperature=1.0):
    return losses.SoftTargets(temperature=temperature, name=name)


def _both_views(robust_weight, teacher_view="clean"):
    """The divergence on adversarial inputs, and on clean ones if they have a share."""
    term = distillation_terms.Term
    robust = term(_soft("adversarial"), robust_weight, teacher_view=teacher_view)
    clean = term(_soft("clean"), 1.0 - robust_weight, student_view="clean", teacher_view="clean")
    return [robust] if robust_weight == 1.0 else [robust, clean]


def _pgd(epsilon, steps, attack):
    settings = tuple(inspect.signature(perturbations.PGD).parameters)
    for name in attack:
        arguments.one_of("setting", name, settings)
    return perturbations.PGD(epsilon=epsilon, steps=steps, **attack)


def _attacked(student, teacher, alpha, terms, epsilon, steps, attack):
    return {
        "student": student,
        "teacher": teacher,
        "alpha": alpha,
        "terms": terms,
        "hard_view": "clean",
        "perturbation": _pgd(epsilon, steps, attack),
    }
