"""Methods of the literature by name: functions that return the arguments of `Distiller`.

`kdkeras.Distiller(**kdkeras.methods.dkd(student=student, teacher=teacher))`

Each takes `student` and `teacher` and the paper's settings as defaults. Papers write `L = hard +
weight * term`; a Distiller has `alpha * hard + (1 - alpha) * term`. With `alpha=0.5` its loss is
half of the paper's: with SGD, double the paper's learning rate to take the same steps; Adam does
not notice. Methods mix: their `"terms"` are lists, to be joined.

What a method does not check itself, `Distiller` does: `alpha`, that the models have the same
classes and no softmax, and that the layers are there.

Students that withstand perturbed inputs are trained on an attack, `kdkeras.perturbations.PGD`, with
the papers' `epsilon=8 / 255`, `steps=10` and `step_size=2 / 255` as defaults. KL is summed over
classes and averaged over the batch. The code of ARD, RSLAD, AdaAD, MTARD and PeerAiD averages over
classes too: its soft losses are `num_classes` times smaller. To reproduce it where labels have no
share, divide the learning rate by `num_classes`; where they have one, multiply alpha's odds by it.
The robust teacher is what counts: from one without robustness `adversarial_training` of the same
student, which needs no teacher, is often better than any of the others.
"""

from kdkeras.methods.controls import adversarial_training, defensive, gaussian, trades
from kdkeras.methods.layers import attention, fitnet, review
from kdkeras.methods.logits import dist, dkd, hinton, standardized
from kdkeras.methods.relations import crd, pkt, rkd, similarity
from kdkeras.methods.robust import adaad, ard, iad, mtard, rslad
from kdkeras.methods.together import born_again, mutual, peer

__all__ = [
    "adaad",
    "adversarial_training",
    "ard",
    "attention",
    "born_again",
    "crd",
    "defensive",
    "dist",
    "dkd",
    "fitnet",
    "gaussian",
    "hinton",
    "iad",
    "mtard",
    "mutual",
    "peer",
    "pkt",
    "review",
    "rkd",
    "rslad",
    "similarity",
    "standardized",
    "trades",
]
