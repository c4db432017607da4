"""Distillation losses: functions `f(teacher, student, ...)`, and `keras.losses.Loss` classes."""

from kdkeras.losses.base import DistillationLoss
from kdkeras.losses.contrastive import ContrastiveRepresentation, contrastive_representation
from kdkeras.losses.correlations import (
    InterClassCorrelation,
    IntraClassCorrelation,
    inter_class_correlation,
    intra_class_correlation,
)
from kdkeras.losses.decoupled import Decoupled, decoupled_divergence
from kdkeras.losses.divergences import (
    JensenShannon,
    PseudoLabels,
    ReverseSoftTargets,
    jensen_shannon_divergence,
    pseudo_label_crossentropy,
    reverse_divergence,
)
from kdkeras.losses.features import (
    AttentionTransfer,
    HierarchicalContext,
    NeuronSelectivity,
    attention_transfer,
    hierarchical_context,
    neuron_selectivity,
)
from kdkeras.losses.logits import SoftTargets, soft_target_divergence, soft_targets, standardize
from kdkeras.losses.relations import (
    RelationalAngle,
    RelationalDistance,
    relational_angle,
    relational_distance,
)
from kdkeras.losses.similarities import (
    CorrelationCongruence,
    ProbabilisticKnowledgeTransfer,
    SimilarityPreserving,
    correlation_congruence,
    probabilistic_knowledge_transfer,
    similarity_preserving,
)
from kdkeras.losses.weights import RelativeProgress, Reliability

__all__ = [
    "DistillationLoss",
    "AttentionTransfer",
    "ContrastiveRepresentation",
    "CorrelationCongruence",
    "Decoupled",
    "HierarchicalContext",
    "InterClassCorrelation",
    "IntraClassCorrelation",
    "JensenShannon",
    "NeuronSelectivity",
    "ProbabilisticKnowledgeTransfer",
    "PseudoLabels",
    "RelationalAngle",
    "RelationalDistance",
    "RelativeProgress",
    "Reliability",
    "ReverseSoftTargets",
    "SimilarityPreserving",
    "SoftTargets",
    "attention_transfer",
    "contrastive_representation",
    "correlation_congruence",
    "decoupled_divergence",
    "hierarchical_context",
    "inter_class_correlation",
    "intra_class_correlation",
    "jensen_shannon_divergence",
    "neuron_selectivity",
    "probabilistic_knowledge_transfer",
    "pseudo_label_crossentropy",
    "relational_angle",
    "relational_distance",
    "reverse_divergence",
    "similarity_preserving",
    "soft_target_divergence",
    "soft_targets",
    "standardize",
]
