"""What the command line's commands do, once their flags are read. Each returns its exit status."""

from kdkeras.commands.deploying import export, quantize
from kdkeras.commands.evaluating import evaluate
from kdkeras.commands.hardening import attack, certify
from kdkeras.commands.producing import cache, train
from kdkeras.commands.reporting import report
from kdkeras.commands.searching import search
from kdkeras.commands.testing import predict

__all__ = [
    "attack",
    "cache",
    "certify",
    "evaluate",
    "export",
    "predict",
    "quantize",
    "report",
    "search",
    "train",
]
