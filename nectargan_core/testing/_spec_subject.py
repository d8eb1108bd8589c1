"""An installed spec as the checks look at it: its variants, built by name, and their losses."""

from __future__ import annotations

import copy
import functools
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nectargan_core import catalog
from nectargan_core._docstrings import docstring_of
from nectargan_core._messages import one_line
from nectargan_core.config import Config
from nectargan_core.errors import NectarganError, WeightsError
from nectargan_core.losses import LMLoss
from nectargan_core.objectives import Built, build, variants_of
from nectargan_core.testing._example_inputs import examples_of
from nectargan_core.testing._inputs import ExampleInputs, MakeInputs
from nectargan_core.testing._outcomes import NotApplicable
from nectargan_core.testing._subject import LossSubject
from nectargan_core.weightings import Balance

Losses = dict[str, LMLoss]
"""What a spec builds, by name."""

UNBUILT = "it cannot be built, as the check `contract` tells"
"""Why a check has nothing to look at."""


@dataclass(eq=False)
class SpecSubject:
    """One installed spec, as the checks look at it.

    Args:
        plugin: The plugin.
        variant: The only variant to look at; None for all.
        options: Keyword arguments of the spec.
        config: The configuration to build it with.
        make_inputs: Makes inputs of its losses for a batch size; None for those of the plugin and of the vocabulary.
        gradcheck: Whether gradients are compared with numerical ones.
    """

    plugin: catalog.Plugin
    variant: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    config: Config = field(default_factory=Config)
    make_inputs: MakeInputs | None = None
    gradcheck: bool = False

    @functools.cached_property
    def spec(self) -> Callable[..., Any]:
        """The function.

        Raises:
            PluginError: If it cannot be loaded.
        """
        return self.plugin.load()

    @functools.cached_property
    def variants(self) -> tuple[str | None, ...]:
        """Its variants; None stands for a spec without variants, or whose variants are not known."""
        return (self.variant,) if self.variant is not None else variants_of(self.spec) or (None,)

    @functools.cached_property
    def examples(self) -> ExampleInputs:
        """What makes the plugin's own inputs for a batch size."""
        return examples_of(self.plugin)

    @property
    def doc(self) -> str:
        """Its docstring."""
        return docstring_of(self.spec)

    def term(self, variant: str | None) -> str:
        """Return the formula of a variant."""
        return f"{self.plugin.dist}/{self.plugin.name}" + (f":{variant}" if variant is not None else "")

    def build(self, variant: str | None, device: str, config: Config | None = None, factor: str = "") -> Losses:
        """Build the losses of a variant by name."""
        return self._objective(variant, device, config, factor).losses

    def balances(self, variant: str | None) -> list[Balance]:
        """Return what balances the losses of a variant, as the spec says."""
        return self._objective(variant, "meta").balances

    def _objective(self, variant: str | None, device: str, config: Config | None = None, factor: str = "") -> Built:
        # A copy, since a spec that changes it must not change what later ones are given.
        config = (copy.deepcopy(self.config) if config is None else config).on_device(device)
        options = {self.plugin.name: self.options} if self.options else None
        with warnings.catch_warnings():
            # Of a weight that is 0, which is asked for here.
            warnings.simplefilter("ignore")
            return build(f"{factor}{self.term(variant)}", (), {"options": options}, config)

    @functools.cached_property
    def built(self) -> dict[str | None, Losses | Exception]:
        """The losses of each variant on the CPU, or what building them raised."""
        return {variant: _tried(functools.partial(self.build, variant, "cpu")) for variant in self.variants}

    @functools.cached_property
    def shapes(self) -> dict[str | None, Losses | Exception]:
        """The losses of each variant on the meta device, or what building them raised."""
        return {variant: _tried(functools.partial(self.build, variant, "meta")) for variant in self.variants}

    def losses(self) -> Iterator[tuple[str | None, Losses]]:
        """Yield each variant that can be built with its losses, on the meta device where weight files are missing.

        Raises:
            NotApplicable: If none can be built.
        """
        try:
            found = [self.built[each] for each in self.variants]
        except NectarganError as error:
            raise NotApplicable(UNBUILT) from error
        yielded = False
        for variant, losses in zip(self.variants, found, strict=True):
            usable = self.shapes[variant] if isinstance(losses, WeightsError) else losses
            if not isinstance(usable, Exception):
                yielded = True
                yield variant, usable
        if not yielded:
            raise NotApplicable(UNBUILT)

    @functools.cached_property
    def subjects(self) -> list[tuple[str, LossSubject]]:
        """The losses of all variants, each once, with words that say which."""
        result: list[tuple[str, LossSubject]] = []
        seen: list[tuple[str, object, bytes]] = []
        for variant, losses in self.losses():
            failure = self.built[variant]
            numberless = one_line(failure) if isinstance(failure, WeightsError) else ""
            for loss in losses.values():
                if len(self.variants) > 1 and (state := _pickled(loss)) is not None:
                    if (key := (loss.name, loss.inputs, state)) in seen:
                        continue
                    seen.append(key)
                label = loss.name + (f" of {variant!r}" if variant is not None else "")
                subject = LossSubject(
                    loss.function, loss.inputs, self.make_inputs, self.gradcheck, numberless, self.examples
                )
                result.append((label, subject))
        return result


def _tried(build: Callable[[], Losses]) -> Losses | Exception:
    try:
        return build()
    except Exception as error:  # noqa: BLE001 # a plugin may raise anything
        return error


def _pickled(loss: LMLoss) -> bytes | None:
    try:
        return pickle.dumps(loss.function)
    except Exception:  # noqa: BLE001 # what cannot be pickled is not compared
        return None
