"""Image and feature classifiers that take raw pixels (or features) and return logits.

Every model normalises its input inside, so that a perturbation of size epsilon means pixels, and
ends in a float32 `Dense` named `logits` whatever the dtype policy. All are graphs of built-in Keras
layers: `keras.models.load_model` opens them without kdkeras, and TFLite converts them with built-in
operations.
"""

from kdkeras.models.applications import application
from kdkeras.models.inspection import describe, macs
from kdkeras.models.mobile import mobilenet_v2
from kdkeras.models.named import architectures, build
from kdkeras.models.perceptron import mlp
from kdkeras.models.residual import resnet
from kdkeras.models.shuffle import shufflenet_v2
from kdkeras.models.surgery import final_softmax, logits

__all__ = [
    "application",
    "architectures",
    "build",
    "describe",
    "final_softmax",
    "logits",
    "macs",
    "mlp",
    "mobilenet_v2",
    "resnet",
    "shufflenet_v2",
]
