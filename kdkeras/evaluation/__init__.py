"""How good a model is, how sure of itself, how like its teacher: plain numbers from logits.

Everything but `evaluate`, `cost` and `feature_similarity` works on labels and logits alone, so that
a `.keras` file, a SavedModel, a `.tflite` and an `.onnx` file are measured by the same functions.
"""

from kdkeras.evaluation.calibration import reliability
from kdkeras.evaluation.comparing import compare
from kdkeras.evaluation.evaluating import collect, cost, evaluate, logits_of
from kdkeras.evaluation.intervals import across, bootstrap, mcnemar, newcombe, wilson
from kdkeras.evaluation.metrics import details, scores
from kdkeras.evaluation.similarity import feature_similarity, linear_cka

__all__ = [
    "across",
    "bootstrap",
    "collect",
    "compare",
    "cost",
    "details",
    "evaluate",
    "feature_similarity",
    "linear_cka",
    "logits_of",
    "mcnemar",
    "newcombe",
    "reliability",
    "scores",
    "wilson",
]
