"""Callbacks for long trainings: what is stopped goes on, and what goes wrong is told."""

from kdkeras.callbacks.checkpointing import Checkpoint
from kdkeras.callbacks.finite import FiniteLoss, NotFinite, ids_of

__all__ = ["Checkpoint", "FiniteLoss", "NotFinite", "ids_of"]
