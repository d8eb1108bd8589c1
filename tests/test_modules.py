"""`modules`: the losses that are modules as one module, under the names of the losses, whatever these are."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from managers import mean
from torch import nn

from nectargan_core import LossManager, Weighting
from nectargan_core.errors import DuplicateLossError
from nectargan_core.losses._module import LossModules

ATTRIBUTES = sorted({*dir(nn.ModuleDict()), *dir(LossManager().modules())})


def manager_with(*names):
    """Return a manager with a module of a weight of its own under each name."""
    manager = LossManager()
    for number, name in enumerate(names):
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, number)
        manager.register_loss_fn(name, module, inputs=("y",))
    return manager


def numbers(modules):
    """Return the weight of each module, by its key."""
    return {key: int(module.weight) for key, module in modules.items()}


def test_modules_are_the_losses_that_are_modules():
    manager = LossManager()
    linear = nn.Linear(3, 1)
    manager.register_loss_fn("learned", linear)
    manager.register_loss_fn("plain", mean)
    modules = manager.modules()
    assert isinstance(modules, nn.ModuleDict)
    assert dict(modules.items()) == {"learned": linear}
    assert list(modules.state_dict()) == ["learned.weight", "learned.bias"]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_loss_may_have_the_name_of_any_attribute(name):
    modules = manager_with(name, "other").modules()
    assert numbers(modules) == {f"{name}_": 0, "other": 1}
    assert int(modules[name].weight) == 0
    assert name in modules


def test_what_torch_allows_stays_as_it_is():
    names = ["G_VGG", "1", "a-b", "with blanks", "ä", "a\nb", "train_", "_", "class", "a" * 1000]
    assert list(manager_with(*names).modules()) == names


def test_a_dot_in_a_name_becomes_an_underscore():
    modules = manager_with("acme.learned").modules()
    assert list(modules.state_dict()) == ["acme_learned.weight"]
    assert int(modules["acme.learned"].weight) == int(modules["acme_learned"].weight) == 0


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["a.b", "a_b"], {"a_b_": 0, "a_b": 1}),
        (["a_b", "a.b"], {"a_b": 0, "a_b_": 1}),
        (["a.b", "a_b_", "a_b"], {"a_b__": 0, "a_b_": 1, "a_b": 2}),
        (["train", "train_"], {"train__": 0, "train_": 1}),
        (["share.memory", "share_memory", "share_memory_"], {"share_memory__": 0, "share_memory___": 1}),
        (["a_b.c", "a.b_c"], {"a_b_c_": 0, "a_b_c": 1}),
        (["a.b_c", "a_b.c"], {"a_b_c": 0, "a_b_c_": 1}),
    ],
)
def test_no_two_losses_have_one_key_and_the_order_of_registration_changes_none(names, keys):
    modules = manager_with(*names).modules()
    assert numbers(modules).items() >= keys.items()
    assert [int(modules[name].weight) for name in names] == list(range(len(names)))


def test_the_methods_of_a_module_stay_its_methods():
    modules = manager_with("train", "to", "parameters", "state_dict", "eval", "double", "keys").modules()
    assert modules.train() is modules
    assert modules.eval() is modules
    assert not any(module.training for module in modules.values())
    assert {parameter.dtype for parameter in modules.to(torch.float64).parameters()} == {torch.float64}
    assert len(modules.keys()) == len(modules) == 7


def test_every_parameter_is_found_by_its_name():
    modules = manager_with("train", "keys", "a.b", "plain").modules()
    for name, parameter in modules.named_parameters():
        assert modules.get_parameter(name) is parameter
    found = torch.func.functional_call(Sum(modules), {"modules_.train_.weight": torch.full((1, 1), 10.0)}, ())
    assert found.item() == 10.0 + 1.0 + 2.0 + 3.0


class Sum(nn.Module):
    def __init__(self, modules):
        super().__init__()
        self.modules_ = modules

    def forward(self):
        return sum(module.weight.sum() for module in self.modules_.values())


def test_a_state_is_loaded_by_whoever_registers_the_same_losses():
    names = ["train", "train_", "a.b", "a_b"]
    state = manager_with(*names).modules().state_dict()
    other = manager_with(*reversed(names)).modules()
    other.load_state_dict(state)
    assert [int(other[name].weight) for name in names] == [0, 1, 2, 3]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda modules: saved_and_loaded(modules)], ids=["deepcopy", "save"])
def test_a_copy_finds_its_modules_by_name_too(copied):
    modules = manager_with("train", "a.b", "plain").modules()
    copy_of = copied(modules)
    assert numbers(copy_of) == numbers(modules)
    assert copy_of["train"] is not modules["train"]
    assert [int(copy_of[name].weight) for name in ("train", "a.b", "plain")] == [0, 1, 2]


def saved_and_loaded(modules):
    file = io.BytesIO()
    torch.save(modules, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_they_become_part_of_other_modules():
    modules = manager_with("train", "a.b").modules()
    plain = nn.ModuleDict({"generator": nn.Identity(), **modules})
    plain.update(modules)
    assert list(plain) == ["generator", "train_", "a_b"]


def test_a_module_is_replaced_and_removed_by_the_name_of_its_loss():
    modules, another = manager_with("train", "a.b").modules(), nn.Identity()
    modules["train"] = another
    assert dict(modules.items())["train_"] is another
    assert modules.pop("train") is another
    del modules["a.b"]
    assert list(modules) == []
    assert "train" not in modules
    with pytest.raises(KeyError):
        modules["train"]
    assert 3 not in modules


def test_what_a_weighting_learns_stands_beside_the_losses_under_its_name():
    class Learned(nn.Module):
        needs = "values"

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def factors(self, step):
            return self.scale.expand(len(step.names))

    manager = manager_with("learned")
    manager.set_weighting(Weighting(Learned))
    assert list(manager.modules()) == ["learned", "Learned"]
    with pytest.raises(DuplicateLossError, match="a weighting is named 'Learned'"):
        manager.register_loss_fn("Learned", nn.L1Loss())


NAMES = st.text(st.sampled_from("a_.b"), min_size=1, max_size=4) | st.sampled_from(ATTRIBUTES)


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_each_loss_has_a_key_of_its_own_that_torch_allows(names):
    given = {name: nn.Identity() for name in names}
    modules = LossModules(given)
    assert list(modules.values()) == list(given.values())
    assert {name: modules[name] for name in names} == given
    assert {key: modules[key] for key in modules} == dict(modules.items())
    nn.ModuleDict(dict(modules.items()))
    keys = dict(zip(given, modules, strict=True))
    ordered = sorted(names)
    assert list(LossModules({name: given[name] for name in ordered})) == [keys[name] for name in ordered]
