"""Lazy inputs: what is called for its value, what is passed as it is, and how often."""

import functools

import pytest
import torch
from managers import ONE, manager_of
from pydantic import ValidationError
from torch import nn

from nectargan_core import LMLoss
from nectargan_core.losses._lazy import is_lazy


class Critic:
    def judge(self, x):
        return x.mean()

    def make(self):
        return ONE

    def make_with(self, scale=2.0, *, shift=0.0):
        return ONE * scale + shift

    @classmethod
    def of_class(cls):
        return ONE

    @staticmethod
    def static():
        return ONE

    def __call__(self):
        return ONE


def needs(x):
    return x


def optional(x=1, *, y=2):
    return x


def required_keyword(*, x):
    return x


def open_ended(*args):
    return args


def open_keywords(**kwargs):
    return ONE


@functools.wraps(needs)
def wrapper(*args):
    return needs(*args)


@functools.wraps(optional)
def wrapper_of_optional(*args, **kwargs):
    return optional(*args, **kwargs)


LAZY = {
    "lambda": lambda: 1,
    "default": optional,
    "default bound in a loop": lambda x=ONE: x,
    "open keywords": open_keywords,
    "wrapper of what needs nothing": wrapper_of_optional,
    "bound method": Critic().make,
    "bound method with defaults": Critic().make_with,
    "class method": Critic.of_class,
    "static method": Critic.static,
    "partial": functools.partial(needs, 1),
    "partial with a keyword": functools.partial(required_keyword, x=1),
    "partial of open arguments": functools.partial(open_ended, 1),
    "partial of a builtin": functools.partial(torch.mul, ONE, 2),
    "partial of a partial": functools.partial(functools.partial(needs), 1),
    "partial of a module": functools.partial(nn.Identity(), ONE),
}
AS_GIVEN = {
    "tensor": ONE,
    "function with an argument": needs,
    "required keyword": required_keyword,
    "open arguments": open_ended,
    "wrapper of what needs an argument": wrapper,
    "bound method with an argument": Critic().judge,
    "unbound method": Critic.make,
    "module": nn.Identity(),
    "forward of a module": nn.Linear(1, 1).forward,
    "class": Critic,
    "object that can be called": Critic(),
    "partial of a class": functools.partial(Critic),
    "partial with an argument left": functools.partial(needs),
    "partial of a module without arguments": functools.partial(nn.Identity()),
    "builtin": torch.mean,
    "nothing": None,
}


@pytest.mark.parametrize("name", LAZY)
def test_what_needs_no_argument_is_lazy(name):
    assert is_lazy(LAZY[name])


@pytest.mark.parametrize("name", AS_GIVEN)
def test_what_needs_an_argument_or_is_no_function_is_passed_as_it_is(name):
    assert not is_lazy(AS_GIVEN[name])
    seen = []
    manager = manager_of(LMLoss(name="a", function=lambda value: seen.append(value) or ONE.sum(), inputs=("value",)))
    manager.compute_losses({"value": AS_GIVEN[name]})
    assert seen[0] is AS_GIVEN[name]


def test_functions_of_one_code_object_are_told_apart_by_their_defaults():
    def make(*defaults):
        def function(x):
            return x

        function.__defaults__ = defaults
        return function

    assert [is_lazy(make()), is_lazy(make(1)), is_lazy(make())] == [False, True, False]


def test_a_critic_reaches_the_penalty_that_calls_it():
    def penalty(critic, y_fake):
        return critic(y_fake)

    manager = manager_of(LMLoss(name="GP", function=penalty, inputs=("critic", "y_fake")))
    assert manager.compute_losses({"critic": lambda x: 3 * x.sum(), "y_fake": ONE}).total.item() == 12.0


def test_an_input_that_one_loss_takes_as_it_is_is_lazy_for_others():
    calls = []

    def noise():
        calls.append(1)
        return ONE

    manager = manager_of(
        LMLoss(name="a", function=lambda make: make().sum() + make().sum(), inputs=("noise",), as_is=("noise",)),
        LMLoss(name="b", function=torch.sum, inputs=("noise",)),
        LMLoss(name="c", function=torch.sum, inputs={"input": "noise"}),
    )
    losses = manager.compute_losses({"noise": noise})
    assert [losses[name].item() for name in "abc"] == [8.0, 4.0, 4.0]
    assert len(calls) == 3


@pytest.mark.parametrize("is_ticked", [False, True])
def test_a_lazy_input_is_called_once_for_all_losses_that_read_it(is_ticked):
    calls = []
    losses = [LMLoss(name=name, function=torch.sum, inputs=("noise",)) for name in "abcd"]
    manager = manager_of(*losses, enable_logging=True)
    for _ in range(2):
        if is_ticked:
            manager.tick()
        inputs = {"noise": lambda: calls.append(1) or ONE, "other": lambda: calls.append(2)}
        assert manager.compute_losses(inputs).total.item() == 16.0
    assert calls == [1, 1]
    assert manager.series("a").step.tolist() == [0, 1]


@pytest.mark.parametrize("as_is", ["noise", ("other",)])
def test_as_is_names_inputs_that_the_loss_reads(as_is):
    with pytest.raises(ValidationError, match="as_is"):
        LMLoss(name="a", function=torch.sum, inputs=("noise",), as_is=as_is)


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.10 has no notes")
@pytest.mark.parametrize("is_ticked", [False, True])
def test_a_lazy_input_that_fails_names_input_and_loss(is_ticked):
    manager = manager_of(LMLoss(name="a", function=torch.sum, inputs=("noise",)))
    if is_ticked:
        manager.tick()
    with pytest.raises(ZeroDivisionError) as caught:
        manager.compute_losses({"noise": lambda: 1 / 0})
    assert "in the lazy input 'noise', called for loss 'a'" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", ["lambda", "bound method", "partial of a builtin"])
def test_lazy_inputs_are_called_in_compiled_graphs(name):
    manager = manager_of(LMLoss(name="a", function=lambda value, x: (value * x).sum(), inputs=("value", "x")))
    value = (lambda: ONE) if name == "lambda" else LAZY[name]
    step = torch.compile(
        lambda x: manager.compute_losses({"value": value, "x": x}).total, backend="eager", fullgraph=True
    )
    assert step(ONE).item() == (8.0 if name == "partial of a builtin" else 4.0)
