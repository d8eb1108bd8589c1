"""The function `example_inputs` of a plugin, which makes the inputs that its losses read."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Final

from nectargan_core import catalog
from nectargan_core._messages import shown
from nectargan_core.testing._call import explained
from nectargan_core.testing._inputs import ExampleInputs
from nectargan_core.testing._outcomes import CheckFailed

NAME: Final = "example_inputs"
"""What the function is called in the module that the entry point of a spec names."""


def examples_of(plugin: catalog.Plugin) -> ExampleInputs:
    """Return what makes the inputs of a loaded plugin; it makes none where its module has no such function."""
    return functools.partial(_made, plugin.module)


def _made(module: str, batch_size: int) -> Mapping[str, object]:
    function = getattr(sys.modules.get(module), NAME, None)
    if function is None:
        return {}
    name = f"{module}.{NAME}"
    if not callable(function):
        raise CheckFailed(
            f"{name} is {shown(function)}; it must be a function that takes a batch size and returns a dict of inputs "
            "by their names"
        )
    try:
        values = function(batch_size)
    except (Exception, SystemExit) as error:
        raise CheckFailed(
            f"{name}({batch_size}) raised {explained(error)}; it must return inputs by their names for each batch size"
        ) from error
    if not isinstance(values, Mapping):
        raise CheckFailed(f"{name}({batch_size}) returned {shown(values)}; return a dict of inputs by their names")
    return values
