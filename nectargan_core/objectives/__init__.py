"""Objectives: from a formula or a spec function to losses, with the weights and schedules that the caller asked for."""

from nectargan_core.objectives._build import KEYWORDS, Objective, Spec
from nectargan_core.objectives._describe import (
    LossDescription,
    OptionDescription,
    SpecDescription,
    VariantDescription,
    WeightingDescription,
    describe_spec,
    describe_specs,
    first_sentence,
    written_default,
)
from nectargan_core.objectives._objective import build
from nectargan_core.objectives._variants import variants_of

__all__ = [
    "KEYWORDS",
    "LossDescription",
    "Objective",
    "OptionDescription",
    "Spec",
    "SpecDescription",
    "VariantDescription",
    "WeightingDescription",
    "build",
    "describe_spec",
    "describe_specs",
    "first_sentence",
    "variants_of",
    "written_default",
]
