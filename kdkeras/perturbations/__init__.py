"""Perturbed inputs `X + Psi`: callables `(model, x, targets, teacher=None) -> x'`.

The same objects serve in training (`Distiller(perturbation=...)`) and in evaluation. Pixels are in
[0, 1] outside the models, so that epsilon means pixels everywhere; what comes out is float32.
"""

from kdkeras.perturbations.attacks import FGSM, PGD
from kdkeras.perturbations.noises import Gaussian, Uniform
from kdkeras.perturbations.objectives import margin

__all__ = ["FGSM", "PGD", "Gaussian", "Uniform", "margin"]
