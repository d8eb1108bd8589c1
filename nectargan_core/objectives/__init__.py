"""Objectives: from a formula, file or function to losses, the record of them, and differences between records."""

from nectargan_core.objectives._build import FILE_KEYWORDS, KEYWORDS, Built, Spec
from nectargan_core.objectives._contents import Contents
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
from nectargan_core.objectives._differences import OF_LOSSES, Difference
from nectargan_core.objectives._file import located
from nectargan_core.objectives._functions import described
from nectargan_core.objectives._objective import Objective
from nectargan_core.objectives._record import record_of
from nectargan_core.objectives._request import build
from nectargan_core.objectives._variants import variants_of

__all__ = [
    "FILE_KEYWORDS",
    "KEYWORDS",
    "OF_LOSSES",
    "Built",
    "Contents",
    "Difference",
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
    "described",
    "first_sentence",
    "located",
    "record_of",
    "variants_of",
    "written_default",
]
