"""What the methods that train on attacks share: the attack, and the terms of both views."""

import inspect

from kdkeras import arguments, losses, perturbations
from kdkeras import terms as distillation_terms

EPSILON = 8 / 255
# Gradients of a divergence start at 0; TRADES begins beside the clean inputs.
BESIDE = 0.001


def soft(name, temperature=1.0):
    """Soft targets under a name of their own."""
    return losses.SoftTargets(temperature=temperature, name=name)


def both_views(robust_weight, teacher_view="clean"):
    """The divergence on adversarial inputs, and on clean ones if they have a share."""
    term = distillation_terms.Term
    robust = term(soft("adversarial"), robust_weight, teacher_view=teacher_view)
    clean = term(soft("clean"), 1.0 - robust_weight, student_view="clean", teacher_view="clean")
    return [robust] if robust_weight == 1.0 else [robust, clean]


def pgd(epsilon, steps, attack):
    """The attack; `attack` is a dict of further settings, of which unknown ones are refused."""
    settings = tuple(inspect.signature(perturbations.PGD).parameters)
    for name in attack:
        arguments.one_of("setting", name, settings)
    return perturbations.PGD(epsilon=epsilon, steps=steps, **attack)


def method(student, teacher, alpha, terms, epsilon, steps, attack):
    """The arguments of a `Distiller` that trains on an attack, its labels on clean inputs."""
    return {
        "student": student,
        "teacher": teacher,
        "alpha": alpha,
        "terms": terms,
        "hard_view": "clean",
        "perturbation": pgd(epsilon, steps, attack),
    }
