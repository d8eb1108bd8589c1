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
from nectargan_core.objectives._differences import (
    OF_LOSSES,
    Difference,
    arguments_of,
    inputs_of,
    schedule_of,
    value_of,
    weight_of,
    weighting_of,
)
from nectargan_core.objectives._file import located
from nectargan_core.objectives._from_text import record_from
from nectargan_core.objectives._functions import described, is_digest
from nectargan_core.objectives._objective import Objective
from nectargan_core.objectives._ranks import check_ranks
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
    "arguments_of",
    "build",
    "check_ranks",
    "describe_spec",
    "describe_specs",
    "described",
    "first_sentence",
    "inputs_of",
    "is_digest",
    "located",
    "record_from",
    "record_of",
    "schedule_of",
    "value_of",
    "variants_of",
    "weight_of",
    "weighting_of",
    "written_default",
]
