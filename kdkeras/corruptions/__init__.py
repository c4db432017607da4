"""Common corruptions of pictures at five severities: the real CIFAR-10-C files, and a subset of
the same corruptions made on the spot.

The subset has the formulas and the constants of CIFAR-10-C and is not CIFAR-10-C: seven of the 19
corruptions are missing (glass, motion and zoom blur, snow, frost, spatter and elastic transform),
and its noise is drawn by other generators. Figures measured on it bear its own name.
"""

from kdkeras.corruptions.applying import NAMES, SEVERITIES, Corrupted, corrupt
from kdkeras.corruptions.scoring import accuracies, mean_accuracy
from kdkeras.corruptions.stored import STANDARD, Stored, load

__all__ = [
    "NAMES",
    "SEVERITIES",
    "STANDARD",
    "Corrupted",
    "Stored",
    "accuracies",
    "corrupt",
    "load",
    "mean_accuracy",
]
