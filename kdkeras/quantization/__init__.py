"""Quantisation-aware distillation: a student that rounds in training as its int8 file will.

`aware` folds BatchNormalization and puts fake quantisers where an int8 file rounds. The model is
then the student of an ordinary `kdkeras.Distiller`, and is exported without calibration images.
"""

from kdkeras.quantization.aware import aware, is_aware, plain
from kdkeras.quantization.calibration import SMALLEST, calibration_images, check_calibration
from kdkeras.quantization.layers import (
    FakeQuantize,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    QuantizedRescaling,
)

__all__ = [
    "SMALLEST",
    "FakeQuantize",
    "QuantizedConv2D",
    "QuantizedDense",
    "QuantizedDepthwiseConv2D",
    "QuantizedRescaling",
    "aware",
    "calibration_images",
    "check_calibration",
    "is_aware",
    "plain",
]
