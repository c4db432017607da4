"""Attacks on a trained model, and whether what they find can be believed.

`evaluate` runs a suite of attacks and six gates that catch the ways in which such figures are too
good to be true; `quick` is an estimate for use during training.
"""

from kdkeras.robustness.drawing import plot_certificates
from kdkeras.robustness.evaluating import evaluate
from kdkeras.robustness.quickly import quick
from kdkeras.robustness.samples import evenly
from kdkeras.robustness.suites import SUITES

__all__ = [
    "SUITES",
    "evaluate",
    "evenly",
    "plot_certificates",
    "quick",
]
