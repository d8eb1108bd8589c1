"""Where a loss that is given half precision brings in a tensor in another dtype, which makes the result that dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nectargan_core.testing._inputs import tensors_of


class _Mixing(TorchDispatchMode):  # type: ignore[no-untyped-call] # untyped in torch
    """Takes note of the first operator that takes floating-point tensors of several dtypes, and of those with sizes.

    A scalar tensor makes no difference to the dtype of a result.
    """

    _ALLOWED = ("aten::_to_copy", "aten::copy_")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # untyped in torch
        self.found = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [*tensors_of(args), *tensors_of(kwargs)]
        dtypes = {each.dtype for each in tensors if each.dim() and each.is_floating_point()}
        name = func._schema.name
        if not self.found and len(dtypes) > 1 and name not in self._ALLOWED:
            self.found = name.partition("::")[2]
        return func(*args, **kwargs)


def mixing_operator(call: Callable[[], object]) -> str:
    """Return the first operator that mixes dtypes in a call; empty where none does."""
    mode = _Mixing()
    with torch.enable_grad(), mode:
        call()
    return mode.found
