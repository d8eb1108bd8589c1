"""Spec functions: called with any arguments, with variants that are read from one annotation."""

import functools
import importlib
import types
from typing import Literal

import pytest
import torch

from nectargan_core import Config, LMLoss, LossManager
from nectargan_core.errors import ConfigError, SpecError, SpecSyntaxError, UnknownVariantError
from nectargan_core.objectives import variants_of

MODULE = """
from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from nectargan_core import LMLoss

if TYPE_CHECKING:
    from nectargan_core import Config


def acme(config: Config, subspec: Literal["basic", "extended"] = "basic") -> dict[str, LMLoss]:
    weight = config.loss_weight("a", default=10.0)
    names = ["G_A", "G_B"] if subspec == "extended" else ["G_A"]
    return {name: LMLoss(name=name, function=torch.nn.L1Loss(), loss_weight=weight) for name in names}


def plain(config):
    return {"G_P": LMLoss(name="G_P", function=torch.nn.L1Loss())}
"""


@pytest.fixture(autouse=True)
def installed(site):
    """A distribution with the specs above."""
    specs = {name: f"acme_losses:{name}" for name in ("acme", "plain")}
    site.install("acme-losses", specs=specs, modules={"acme_losses.py": MODULE})


def weights(manager):
    return manager.get_loss_weights(precision=None)


def objective(config: Config, subspec: Literal["basic", "extended"] = "basic") -> dict[str, LMLoss]:
    names = ["base"] if subspec == "basic" else ["base", "more"]
    return {name: LMLoss(name=name, function=torch.dist) for name in names}


@pytest.mark.parametrize(
    ("subspec", "names"),
    [
        ("basic", ["base"]),
        ("extended", ["base", "more"]),
        ("extended+plain", ["base", "more", "G_P"]),
        ("basic+acme:extended+plain", ["base", "G_A", "G_B", "G_P"]),
    ],
)
@pytest.mark.parametrize("by_keyword", [True, False])
def test_a_spec_called_directly_may_name_further_terms_in_its_variant(subspec, names, by_keyword):
    manager = LossManager()
    args, kwargs = ((Config(),), {"subspec": subspec}) if by_keyword else ((Config(), subspec), {})
    manager.init_from_spec(objective, *args, **kwargs)
    assert list(manager.get_registered_losses()) == names


def test_further_terms_get_the_configuration_that_was_passed():
    manager = LossManager()
    manager.init_from_spec(objective, Config.model_validate({"train": {"loss": {"lambda_a": 20.0}}}), "basic+acme")
    assert weights(manager)["G_A"] == 20.0


@pytest.mark.parametrize("subspec", ["extnded", "extnded+plain", "+plain"])
def test_a_misspelt_variant_of_a_function_is_an_error(subspec):
    with pytest.raises(UnknownVariantError, match="objective has no variant"):
        LossManager().init_from_spec(objective, Config(), subspec)


def test_an_empty_further_term_is_a_syntax_error():
    with pytest.raises(SpecSyntaxError):
        LossManager().init_from_spec(objective, Config(), "basic+")


def test_a_function_without_a_literal_gets_the_variant_unchanged():
    seen = []

    def spec(config, subspec):
        seen.append(subspec)
        return {}

    LossManager().init_from_spec(spec, Config(), "extended+vgg")
    assert seen == ["extended+vgg"]


def test_a_function_is_called_with_any_arguments():
    def spec(layers, *, scale=1.0, weights=None):
        return {layer: LMLoss(name=layer, function=torch.dist, loss_weight=scale) for layer in layers}

    manager = LossManager().init_from_spec(spec, ["a", "b"], scale=2.0, weights="its own")
    assert weights(manager) == {"a": 2.0, "b": 2.0}


def test_a_spec_may_be_a_function_without_a_signature():
    manager = LossManager().init_from_spec(dict, a=LMLoss(name="a", function=torch.dist))
    assert list(manager.get_registered_losses()) == ["a"]


def test_a_function_that_does_not_take_the_arguments_is_an_error_with_its_signature():
    with pytest.raises(SpecError, match=r"spec objective\(config: .*cannot be called with what was given"):
        LossManager().init_from_spec(objective)


def test_from_spec_calls_a_function_with_the_configuration():
    assert list(LossManager.from_spec(objective).get_registered_losses()) == ["base"]


@pytest.mark.parametrize("spec", [3, {"a": LMLoss(name="a", function=torch.dist)}])
def test_a_spec_that_is_neither_a_name_nor_a_function_is_refused(spec):
    with pytest.raises(TypeError, match="a spec is a formula, .* or a function, got"):
        LossManager().init_from_spec(spec)


# Variants


def test_variants_are_read_even_if_other_annotations_cannot_be_evaluated():
    module = importlib.import_module("acme_losses")
    assert variants_of(module.acme) == ("basic", "extended")


class Callable:
    def __call__(self, config, subspec: "Literal['a', 'b']" = "a"):
        return {}


class Built(dict):
    def __init__(self, config, subspec: "Literal['a', 'b']" = "a"):
        super().__init__()


class Opaque(type):
    def __call__(cls, config, subspec: "Literal['a', 'b']" = "a"):
        return {}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Built, ("a", "b")),
        (functools.partial(Callable(), Config()), ("a", "b")),
        (functools.lru_cache(objective), ("basic", "extended")),
        (Opaque("Spec", (), {}), None),
        (objective, ("basic", "extended")),
        (functools.partial(objective, Config()), ("basic", "extended")),
        (Callable(), ("a", "b")),
        (lambda config: {}, None),
        (lambda config, subspec: {}, None),
        (dict, None),
    ],
)
def test_variants_are_the_literal_of_the_parameter_subspec(spec, expected):
    assert variants_of(spec) == expected


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ('Literal["a", "b"]', ("a", "b")),
        ("Literal['a'] | None", ("a",)),
        ("Optional[Literal['a', 'b']]", ("a", "b")),
        ("Union[Literal['a'], Literal['b']]", ("a", "b")),
        ("Annotated[Literal['a'], 'doc']", ("a",)),
        ("Literal[1, 'a']", ("a",)),
        ("str", None),
        ("NotImported", None),
        ("1 / 0", None),
    ],
)
@pytest.mark.parametrize("future", ["from __future__ import annotations\n", ""])
def test_variants_are_read_from_any_spelling_and_are_none_if_unreadable(annotation, expected, future):
    if not future:
        annotation = repr(annotation)
    namespace = {}
    source = f"{future}from typing import *\ndef spec(config, subspec: {annotation} = 'a'): ..."
    exec(compile(source, "spec.py", "exec", dont_inherit=True), namespace)
    assert variants_of(namespace["spec"]) == expected


# Configurations of another kind

TREE = types.SimpleNamespace(train=types.SimpleNamespace(loss=types.SimpleNamespace(lambda_a=7.0)))


@pytest.mark.parametrize("given", [TREE, {"train": {"loss": {"lambda_a": 7.0}}}])
def test_a_spec_that_takes_a_config_is_called_with_one_whatever_is_given(given):
    acme = importlib.import_module("acme_losses").acme
    assert weights(LossManager().init_from_spec(acme, given)) == {"G_A": 7.0}
    assert weights(LossManager().init_from_spec(acme, config=given, subspec="extended")) == {"G_A": 7.0, "G_B": 7.0}


def test_further_terms_see_the_config_that_was_given_too():
    manager = LossManager().init_from_spec(objective, TREE, "basic+acme")
    assert weights(manager) == {"base": 1.0, "G_A": 7.0}


class TheirConfig:
    def __init__(self, name):
        self.name = name


def theirs(config: TheirConfig) -> dict[str, LMLoss]:
    return {config.name: LMLoss(name=config.name, function=torch.dist)}


@pytest.mark.parametrize("spec", [theirs, lambda config: theirs(config)])
def test_a_spec_that_takes_another_config_is_called_with_what_is_given(spec):
    assert weights(LossManager().init_from_spec(spec, TheirConfig("a"))) == {"a": 1.0}


def test_what_is_no_configuration_is_refused_for_a_spec_that_takes_one():
    with pytest.raises(ConfigError, match="expected a mapping of sections, or an object .* got str"):
        LossManager().init_from_spec(objective, "basic")


def test_a_spec_that_ends_python_is_an_error_of_the_spec():
    def ending(config):
        raise SystemExit(3)

    with pytest.raises(SpecError, match=r"spec .*ending failed: SystemExit: 3"):
        LossManager.from_spec("acme").register_spec(ending, Config())
