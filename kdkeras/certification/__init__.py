"""Randomised smoothing: radii within which no change of an image changes a model's class."""

from kdkeras.certification.bounds import clopper_pearson, radius
from kdkeras.certification.certificates import ABSTAIN, Certificates
from kdkeras.certification.smoothing import certify

__all__ = ["ABSTAIN", "Certificates", "certify", "clopper_pearson", "radius"]
