"""Augmentation of whole batches, keyed by the example: the same key gives the same picture.

Each function draws with its own streams of the example's key (see `kdkeras.randomness`), so that an
augmented picture depends on (seed, id, view) and not on the batch. Mixup is the exception.
"""

from kdkeras.augment.pictures import color_jitter, cutout, flip, mixup, pad_and_crop
from kdkeras.augment.pipelines import Pipeline, pipeline
from kdkeras.augment.shifts import EveryShift
from kdkeras.augment.views import VERSION, described, from_description, viewed

__all__ = [
    "VERSION",
    "EveryShift",
    "Pipeline",
    "color_jitter",
    "cutout",
    "described",
    "flip",
    "from_description",
    "mixup",
    "pad_and_crop",
    "pipeline",
    "viewed",
]
