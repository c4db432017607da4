"""Methods of the literature by name: functions that return the arguments of `Distiller`.

`kdkeras.Distiller(**kdkeras.methods.dkd(student=student, teacher=teacher))`

Each takes `student` and `teacher` and the paper's settings as defaults. Papers write `L = hard +
weight * term`; a Distiller has `alpha * hard + (1 - alpha) * term`. With `alpha=0.5`, as below, its
loss is half of the paper's: with SGD, double the paper's learning rate to take the same steps; Adam
does not notice. Methods mix: their `"terms"` are lists, to be joined.

Layers, where a method compares some, are those of `kdkeras.match_layers`, or `pairs`, a list of
(teacher's path, student's path). `warmup_steps` lets a term's weight rise linearly from 0.

`kdkeras.methods.knowledge` has the methods for accuracy, `kdkeras.methods.robust` those for
students that withstand perturbed inputs.
"""

from kdkeras.methods.knowledge import (
    attention,
    born_again,
    crd,
    dist,
    dkd,
    fitnet,
    hinton,
    mutual,
    pkt,
    review,
    rkd,
    similarity,
    standardized,
)
from kdkeras.methods.robust import (
    adaad,
    adversarial_training,
    ard,
    defensive,
    gaussian,
    iad,
    mtard,
    peer,
    rslad,
    trades,
)

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
