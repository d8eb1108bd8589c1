"""Checks of an installed loss spec: its contract, its words, its weights, and each loss of each of its variants."""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import ValidationError
from torch import nn

from nectargan_core import _arguments as arguments
from nectargan_core import catalog
from nectargan_core._messages import did_you_mean, listed, one_line, shown
from nectargan_core._names import read_term
from nectargan_core.config import noting_lambdas, read_config
from nectargan_core.errors import NectarganError, SpecSyntaxError, WeightsError
from nectargan_core.losses import LMLoss, module_of
from nectargan_core.manager import LossManager
from nectargan_core.objectives import variants_of
from nectargan_core.testing import _callables as callables
from nectargan_core.testing._call import explained
from nectargan_core.testing._cases import CheckCases, with_tests_of
from nectargan_core.testing._inputs import Inputs, MakeInputs, made, prepared
from nectargan_core.testing._installed import for_subjects
from nectargan_core.testing._losses import CHECKS as LOSS_CHECKS
from nectargan_core.testing._outcomes import (
    Check,
    CheckFailed,
    NotApplicable,
    NotKnown,
    Outcome,
    named,
    raise_failures,
    run_checks,
)
from nectargan_core.testing._spec_subject import UNBUILT, Losses, SpecSubject
from nectargan_core.testing._subject import LossSubject
from nectargan_core.testing._vocabulary import VOCABULARY

_LOSS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# The tags that training loops ask for.
_NETWORKS = ("G", "D")


def contract(spec: SpecSubject) -> None:
    """It can be loaded, and each of its variants builds losses of its own, on the meta device, too."""
    try:
        takes = inspect.signature(spec.spec).parameters
    except NectarganError as error:
        raise CheckFailed(one_line(error)) from error
    if "subspec" in takes and spec.variants == (None,):
        raise CheckFailed(
            "its variants cannot be known, so that a misspelt one gives no error; annotate the parameter: subspec: "
            'Literal["basic", "extended"] = "basic"'
        )
    if "subspec" in takes and takes["subspec"].default not in (variants_of(spec.spec) or ()):
        default = takes["subspec"].default
        what = "has no default" if default is inspect.Parameter.empty else f"has the default {shown(default)}"
        raise CheckFailed(
            f"its parameter subspec {what}, so that {spec.plugin.name!r} without a variant does not work; give it one "
            f"of {listed(variants_of(spec.spec) or ())} as its default"
        )
    for variant in spec.variants:
        where = _of(variant)
        built = spec.built[variant]
        if isinstance(built, Exception) and not isinstance(built, WeightsError):
            raise CheckFailed(f"building it{where} raised {_cause(built)}")
        shapes = spec.shapes[variant]
        if isinstance(shapes, WeightsError):
            raise CheckFailed(
                f"building it{where} on the meta device, where nothing is computed, needs weight files: "
                f"{one_line(shapes)}; make the network without them where config.common.device is meta"
            )
        if isinstance(shapes, Exception):
            raise CheckFailed(f"building it{where} on the meta device raised {_cause(shapes)}")
        if not shapes:
            raise CheckFailed(f"it returned an empty dict{where}; return one loss at least")
        again = spec.build(variant, "meta")
        if shared := _shared(shapes, again):
            raise CheckFailed(
                f"two builds{where} share {shared}, so that two managers change the same; make it inside the spec"
            )
        before = copy.deepcopy(spec.config.on_device("meta"))
        given = copy.deepcopy(before)
        spec.build(variant, "meta", given)
        if given != before:
            raise CheckFailed(f"it changes the configuration{where}; other specs read it, too: copy what it changes")


def names(spec: SpecSubject) -> None:
    """Its losses have plain names, and tags by which training loops find them."""
    for variant, losses in spec.losses():
        for loss in losses.values():
            where = f"the loss {loss.name!r}{_of(variant)}"
            if not _LOSS_NAME.fullmatch(loss.name):
                raise CheckFailed(
                    f"{where} is to be named with letters, digits, _ and -, such as G_{spec.plugin.name.upper()}; a "
                    "dot stands before the name of a component"
                )
            if not loss.tags:
                raise CheckFailed(
                    f"{where} has no tags, so that no query such as query='G' finds it; add tags=['G'] if it trains "
                    "the generator, tags=['D'] for the discriminator"
                )
            for tag in loss.tags:
                if tag not in _NETWORKS and tag.strip().upper() in _NETWORKS:
                    raise CheckFailed(f"{where} has the tag {tag!r}; training loops ask for {tag.strip().upper()!r}")
                if not tag.strip() or tag != tag.strip():
                    raise CheckFailed(f"{where} has the tag {tag!r}, with blanks; write it without")


def inputs(spec: SpecSubject) -> None:
    """Its losses read inputs of the vocabulary, or such as its docstring names, and as many as they take."""
    for variant, losses in spec.losses():
        for loss in losses.values():
            where = f"the loss {loss.name!r}{_of(variant)}"
            reads = tuple(loss.inputs.values() if isinstance(loss.inputs, dict) else loss.inputs)
            for name in reads:
                if name not in VOCABULARY and not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", spec.doc):
                    raise CheckFailed(
                        f"{where} reads {name!r}, which is no input of the vocabulary ({listed(VOCABULARY)})."
                        f"{_close(name)} If it is an input of its own, say in the docstring of the spec what it is"
                    )
            _check_call(loss, where)


def docstring(spec: SpecSubject) -> None:
    """Its docstring says in one line what it is, and names its options."""
    _loaded(spec)
    callables.check_docstring(
        lambda: spec.spec, ("config",), '"""Charbonnier loss, a smooth L1 loss with the weight 100."""', ("subspec",)
    )


def weights(spec: SpecSubject) -> None:
    """Its weights follow the configuration, and a factor such as `2*name`."""
    for variant, losses in spec.losses():
        where = _of(variant)
        concerned = [loss.name for loss in losses.values() if "G" in loss.tags] or list(losses)
        noted, keys = noting_lambdas(spec.config)
        before = spec.build(variant, "meta", noted)
        followed: set[str] = set()
        for key in list(dict.fromkeys(keys)):
            changed = _changed(before, spec, variant, key, where)
            if not changed:
                raise CheckFailed(
                    f"it asks the configuration for train.loss.{key}{where}, and no weight changes with that; give "
                    "loss_weight= what config.loss_weight() returns"
                )
            followed |= changed
        for name in concerned:
            if name not in followed:
                loss = losses[name]
                raise CheckFailed(
                    f"the weight of the loss {name!r}{where} is {loss.loss_weight:g} whatever the configuration says; "
                    f"give it loss_weight=config.loss_weight({spec.plugin.name!r}, default={loss.loss_weight:g})"
                )
        try:
            scaled = spec.build(variant, "meta", factor="2*")
        except Exception as error:
            raise CheckFailed(
                f"'2*{spec.plugin.name}'{where} raised {_cause(error)}; with a factor the configuration has no "
                "weights: read them with config.loss_weight(name, default=...)"
            ) from error
        if len(concerned) == 1 and not scaled[concerned[0]].schedule.is_scheduled:
            weight = scaled[concerned[0]].loss_weight
            if weight != 2.0:
                raise CheckFailed(f"'2*{spec.plugin.name}'{where} gives the weight {weight:g}; expected 2")


def trains(spec: SpecSubject) -> None:
    """A manager builds it by name, and trains two steps with all of its losses."""
    reasons = []
    for variant, losses in spec.losses():
        failure = spec.built[variant]
        if isinstance(failure, WeightsError):
            reasons.append(one_line(failure))
            continue
        _train(spec, variant, losses)
    if reasons and len(reasons) == len(spec.variants):
        raise NotApplicable(reasons[0])


def _of_each_loss(check: Check[LossSubject]) -> Check[SpecSubject]:
    @functools.wraps(check.run)
    def of_each_loss(spec: SpecSubject) -> None:
        failed, left_out, not_known = [], [], []
        for label, subject in spec.subjects:
            try:
                check.run(subject)
            except NotKnown as reason:
                not_known.append(f"{label}: {reason}")
            except NotApplicable as reason:
                left_out.append(str(reason))
            except CheckFailed as failure:
                failed.append(f"{label}: {failure}")
            except Exception as error:  # noqa: BLE001 # a plugin may raise anything
                failed.append(f"{label}: it raised {explained(error)}")
        if failed:
            raise CheckFailed("; ".join(failed))
        if not_known:
            raise NotKnown("; ".join(not_known))
        if left_out and len(left_out) == len(spec.subjects):
            raise NotApplicable("; ".join(dict.fromkeys(left_out)))

    return Check(check.name, of_each_loss)


CHECKS: tuple[Check[SpecSubject], ...] = (
    *for_subjects(),
    *(named(each) for each in (contract, docstring, names, inputs, weights)),
    *map(_of_each_loss, LOSS_CHECKS),
    named(trains),
)
"""The checks of an installed spec."""


def check_loss_spec(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    config: Any = None,
    make_inputs: MakeInputs | None = None,
    gradcheck: bool = False,
    skip: Mapping[str, str] | None = None,
) -> None:
    """Check an installed loss spec: the plugin, and every loss of every variant as `check_loss` does.

    The checks, by the names that `skip` takes: `entry_point`, `metadata`, `imports`, `contract`, `docstring`, `names`,
    `inputs`, `weights`, those of `check_loss`, and `trains`. Where weight files are missing, what needs numbers is left
    out.

    Args:
        name: The name of the spec, such as `"sobel"`; also `"provider/name"`, and `"name:variant"` for one variant.
        options: Keyword arguments of the spec.
        config: What it is built with: a `Config`, or a mapping; None for an empty one.
        make_inputs: Makes the inputs of all its losses for a batch size, as for `check_loss`. None for those that
            the function `example_inputs` in the module of the spec makes, and the others as the vocabulary has them.
        gradcheck: Whether to compare gradients with finite differences in float64.
        skip: Reasons for leaving out checks, by their names.

    Raises:
        CheckFailed: If a check fails; the message lists all that failed.
        PluginError: If no such spec can be found.
        SpecSyntaxError: If it is no name of a spec.
        ValueError: If `skip` has the name of no check.

    Example:
        >>> check_loss_spec("no-such-spec")
        Traceback (most recent call last):
        nectargan_core.errors.PluginNotFoundError: ...
    """
    subject = _subject(name, options, config, make_inputs, gradcheck)
    raise_failures(str(subject.plugin), run_checks(CHECKS, subject, skip or {}))


def examine_spec(
    plugin: catalog.Plugin, skip: Mapping[str, str], params: Mapping[str, Any], options: Mapping[str, Any]
) -> list[Outcome]:
    """Run all checks of a spec, as `examine` does."""
    if params:
        raise ValueError(f"a loss spec takes options and no params, got {listed(params)}")
    return run_checks(CHECKS, SpecSubject(plugin, options=options), skip)


@with_tests_of(CHECKS)
class LossSpecTests(CheckCases):
    """A class of tests of an installed spec, one for each check of `check_loss_spec`.

    Attributes:
        name: The name of the spec, as for `check_loss_spec`.
        options: Keyword arguments of the spec.
        config: What it is built with.
        gradcheck: Whether to compare gradients with finite differences in float64.
        skip: Reasons for leaving out checks, by their names.

    Example:
        >>> class TestSobel(LossSpecTests):
        ...     name = "sobel"
        ...     skip = {"gradcheck": "it takes long"}
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    config: ClassVar[Any] = None
    gradcheck: ClassVar[bool] = False

    def make_inputs(self, batch_size: int) -> Mapping[str, object] | None:
        """Make the inputs of all losses for a batch size, as for `check_loss_spec`; None for those of the plugin."""
        return None

    def subject(self) -> SpecSubject:
        """Make what the checks look at."""
        name = getattr(self, "name", None)
        return _subject(name, self.options, self.config, self.make_inputs, self.gradcheck)


def _subject(
    name: object, options: Mapping[str, Any] | None, config: Any, make_inputs: MakeInputs | None, gradcheck: bool
) -> SpecSubject:
    text = arguments.text("the name of a spec", name)
    term, end = read_term(text)
    if end != len(text):
        raise SpecSyntaxError(
            f"a spec is named by one name, such as 'sobel' or 'provider/name:variant'; got {text!r}.",
            text=text,
            column=end,
        )
    plugin = catalog.find(catalog.SPECS, term.name, term.provider)
    return SpecSubject(plugin, term.variant, dict(options or {}), read_config(config or {}), make_inputs, gradcheck)


# What the checks share


def _loaded(spec: SpecSubject) -> None:
    try:
        _ = spec.spec
    except NectarganError as error:
        raise NotApplicable(UNBUILT) from error


def _of(variant: str | None) -> str:
    return "" if variant is None else f" in the variant {variant!r}"


def _close(name: str) -> str:
    return did_you_mean(name, VOCABULARY)


def _cause(error: Exception) -> str:
    """Say what building raised; of an error of ours that has a cause, that and its line."""
    cause = error.__cause__
    # Of a ValidationError the first line says nothing; our error has the reasons.
    return one_line(error) if cause is None or isinstance(cause, ValidationError) else explained(cause)


def _shared(losses: Losses, others: Losses) -> str:
    """Say what two builds share that can change; empty where they share nothing."""
    for name, loss in losses.items():
        other = others.get(name)
        if other is None:
            continue
        function = loss.function
        module = module_of(function)
        if module is not None:
            if module is module_of(other.function):
                return f"the module of the loss {name!r}"
            others_parameters = {id(each) for each in _parameters(module_of(other.function))}
            if any(id(each) in others_parameters for each in _parameters(module)):
                return f"the parameters of the loss {name!r}"
        elif function is other.function and not inspect.isroutine(function) and getattr(function, "__dict__", None):
            return f"the {type(function).__name__} of the loss {name!r}"
    return ""


def _parameters(module: nn.Module | None) -> list[nn.Parameter]:
    return [] if module is None else [each for each in module.parameters() if each.requires_grad]


def _check_call(loss: LMLoss, where: str) -> None:
    """Raise `CheckFailed` where a function cannot be called with what its loss reads."""
    function = loss.function.forward if isinstance(loss.function, nn.Module) else loss.function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        if isinstance(loss.inputs, dict):
            signature.bind(**dict.fromkeys(loss.inputs))
        else:
            signature.bind(*loss.inputs)
    except TypeError as error:
        reads = listed(loss.inputs)
        raise CheckFailed(
            f"{where} reads {reads}, and its function takes {signature}: {error}; name in inputs= what it takes"
        ) from error


def _changed(before: Losses, spec: SpecSubject, variant: str | None, key: str, where: str) -> set[str]:
    """Return the losses whose weights change with a key of the configuration."""
    result = set()
    for value in (2.5, 0.0):
        loss = spec.config.train.loss.model_copy(update={key: value})
        config = spec.config.model_copy(update={"train": spec.config.train.model_copy(update={"loss": loss})})
        try:
            after = spec.build(variant, "meta", config)
        except Exception as error:
            raise CheckFailed(f"with train.loss.{key} = {value:g} building it{where} raised {_cause(error)}") from error
        result |= {name for name in after if name not in before or _weight(after[name]) != _weight(before[name])}
    return result


def _weight(loss: LMLoss) -> tuple[Any, ...]:
    schedule = loss.schedule
    return loss.loss_weight, schedule.initial_value, schedule.target_value, schedule.factor


def _train(spec: SpecSubject, variant: str | None, losses: Losses) -> None:
    reads = dict.fromkeys(
        name
        for loss in losses.values()
        for name in (loss.inputs.values() if isinstance(loss.inputs, dict) else loss.inputs)
    )
    values = made(tuple(reads), spec.make_inputs, 2, spec.examples).values
    options = {spec.plugin.name: spec.options} if spec.options else None
    where = _of(variant)
    try:
        # Inputs of the kit do not depend on parameters, by which some weightings differentiate the losses.
        left_out = {each.query: None for each in spec.balances(variant) if each.weighting.wrt not in (None, *values)}
        manager = LossManager.from_spec(
            spec.term(variant),
            spec.config.on_device("cpu"),
            enable_logging=False,
            options=options,
            weightings=left_out,
        )
        for step in range(2):
            manager.tick(epoch=0)
            given = prepared(values)
            result = manager.compute_losses(given.values)
            result.total.backward()  # type: ignore[no-untyped-call] # untyped in torch
            _check_step(given, step, where)
        manager.close()
    except (CheckFailed, NotApplicable):
        raise
    except WeightsError as error:
        raise NotApplicable(one_line(error)) from error
    except Exception as error:
        advice = ""
        if "second time" in str(error):
            advice = "; it keeps the graph of an earlier step: detach() what it keeps between calls"
        raise CheckFailed(f"training with {spec.plugin.name!r}{where} raised {explained(error)}{advice}") from error


def _check_step(given: Inputs, step: int, where: str) -> None:
    gradients = [leaf.grad for leaves in given.leaves.values() for leaf in leaves if leaf.grad is not None]
    gradients += [each.grad for module in given.modules for each in module.parameters() if each.grad is not None]
    if given.leaves and not gradients:
        raise CheckFailed(f"in step {step} no gradient reaches {listed(given.leaves)}{where}; see `differentiable`")
    if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
        raise CheckFailed(f"in step {step} a gradient is not finite{where}; see `differentiable`")
