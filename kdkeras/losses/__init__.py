"""Distillation losses: functions `f(teacher, student, ...)`, and `keras.losses.Loss` classes."""

from kdkeras.losses.logits import SoftTargets, soft_target_divergence, soft_targets

__all__ = ["SoftTargets", "soft_target_divergence", "soft_targets"]
