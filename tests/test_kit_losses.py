"""The kit's checks of a loss: sound losses pass all of them, and each fault gets a message that says what to change."""

import dataclasses
import functools
import os
import random
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nectargan_core import LMLoss
from nectargan_core.errors import WeightsError
from nectargan_core.testing import CheckFailed, LossTests, check_loss
from nectargan_core.testing._losses import CHECKS
from nectargan_core.testing._outcomes import run_check
from nectargan_core.testing._subject import LossSubject
from nectargan_core.testing._vocabulary import VOCABULARY

NAMES = [check.name for check in CHECKS]


def outcome(check, function, inputs=("y_fake", "y"), make_inputs=None, gradcheck=False):
    return run_check(
        next(each for each in CHECKS if each.name == check), LossSubject(function, inputs, make_inputs, gradcheck), {}
    )


def failure(check, function, **given):
    """Return the message of a check that is to fail."""
    found = outcome(check, function, **given)
    assert found.state == "failed", found
    return found.message


def passes(check, function, **given):
    found = outcome(check, function, **given)
    assert found.state == "passed", found


def skipped(check, function, **given):
    found = outcome(check, function, **given)
    assert found.state == "skipped", found
    return found.message


# Sound losses


class Charbonnier(nn.Module):
    def forward(self, y_fake, y):
        dtype = torch.promote_types(y_fake.dtype, y.dtype)
        precise = torch.promote_types(dtype, torch.float32)
        return ((y_fake.to(precise) - y.to(precise)).square() + 1e-6).sqrt().mean().to(dtype)


class Blurred(nn.Module):
    """Has a buffer, and is moved to the dtype of what it is given."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.full((3, 1, 3, 3), 1 / 9), persistent=False)

    def forward(self, y_fake, y):
        difference = y_fake - y
        kernel = self.kernel.to(difference.dtype)
        return F.conv2d(difference, kernel, padding=1, groups=3).abs().mean((1, 2, 3))


class Parts(nn.Module):
    def forward(self, y_fake, y):
        return {"low": (y_fake.mean() - y.mean()).abs(), "high": (y_fake - y).abs().mean(1, keepdim=True)}


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, y_fake, y):
        return (y_fake - y).abs().mean() * torch.exp(-self.log_scale) + self.log_scale


class Tracked(nn.Module):
    """Keeps a running mean in a buffer, by which it does not weigh."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, y_fake, y):
        loss = (y_fake - y).abs().mean()
        self.mean.lerp_(loss.detach().to(self.mean.dtype), 0.1)
        return loss


def feature_matching(features_fake, features_real):
    return sum((fake - real.detach()).abs().mean() for fake, real in zip(features_fake, features_real, strict=True))


def kl(mu, logvar):
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).mean()


def masked(y_fake, y, mask):
    return ((y_fake - y).abs() * mask).sum() / mask.sum().clamp(min=1)


def smoothness(discriminator, y_fake):
    return discriminator(y_fake).square().mean()


def relativistic(pred_real, pred_fake):
    return F.softplus(pred_real.detach() - pred_fake).mean()


def hinge(pred_real, pred_fake):
    return F.relu(1 - pred_real).mean() + F.relu(1 + pred_fake).mean()


def wasserstein(pred_fake):
    return -pred_fake.mean()


def summed(y_fake, y):
    precise = torch.promote_types(y_fake.dtype, torch.float32)
    return (y_fake.to(precise) - y.to(precise)).abs().sum().to(y_fake.dtype)


SOUND = {
    "mean squares": (nn.MSELoss(), ("y_fake", "y")),
    "charbonnier": (Charbonnier(), ("y_fake", "y")),
    "a buffer, a value for each sample": (Blurred(), ("y_fake", "y")),
    "components, one of them a map": (Parts(), ("y_fake", "y")),
    "parameters": (Learned(), ("y_fake", "y")),
    "a state": (Tracked(), ("y_fake", "y")),
    "lists": (feature_matching, ("features_fake", "features_real")),
    "a latent distribution": (kl, ("mu", "logvar")),
    "a mask": (masked, {"y_fake": "y_fake", "y": "y", "mask": "mask"}),
    "a network": (smoothness, ("discriminator", "y_fake")),
    "relativistic": (relativistic, ("pred_real", "pred_fake")),
    "hinge": (hinge, ("pred_real", "pred_fake")),
    "wasserstein": (wasserstein, ("pred_fake",)),
    "classes": (nn.CrossEntropyLoss(), ("logits", "labels")),
    "a sum": (summed, ("y_fake", "y")),
    "a partial": (functools.partial(F.huber_loss, delta=0.5), ("y_fake", "y")),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_loss_passes_all_checks(name):
    function, inputs = SOUND[name]
    check_loss(function, inputs=inputs, gradcheck=True)


def test_each_input_of_the_vocabulary_is_made_for_any_batch_size():
    generator = torch.Generator().manual_seed(0)
    for each in VOCABULARY.values():
        for size in (1, 8):
            value = each.make(size, generator)
            tensors = value if isinstance(value, list) else [value] if isinstance(value, torch.Tensor) else []
            if each.name != "last_layer":
                assert all(tensor.shape[0] == size for tensor in tensors)
        assert each.description
        assert each.shape


# What cannot be called, and what it returns


def test_a_loss_that_raises_fails_one_check_with_the_line_and_leaves_out_the_others():
    def broken(y_fake, y):
        raise ZeroDivisionError("no")

    message = failure("finite", broken)
    assert "y_fake (2, 3, 32, 32), y (2, 3, 32, 32) raised ZeroDivisionError: no (test_kit_losses.py, line " in message
    for name in NAMES:
        if name not in ("finite", "gradcheck", "recorded"):
            assert skipped(name, broken) == "it cannot be called, as the check `finite` tells"


def test_a_number_is_no_tensor():
    assert "returned float" in failure("finite", lambda y_fake, y: (y_fake - y).abs().mean().item())


def test_a_list_of_terms_is_no_tensor():
    message = failure("finite", lambda y_fake, y: [y_fake.mean()])
    assert "returned list" in message
    assert "return a tensor, or a dict of tensors by name" in message


def test_a_component_must_be_a_tensor():
    assert "a dict with 'a': float" in failure("finite", lambda y_fake, y: {"a": 1.0})


def test_an_empty_dict_is_no_loss():
    assert "return a tensor, or a dict of at least one" in failure("finite", lambda y_fake, y: {})


def test_a_whole_number_is_no_loss():
    message = failure("finite", lambda y_fake, y: (y_fake > y).sum())
    assert "torch.int64; return one of floating-point numbers" in message


def test_inputs_that_the_kit_cannot_make_are_asked_for():
    assert "reads 'edges', which is an input of its own; say with make_inputs" in skipped(
        "finite", nn.L1Loss(), inputs=("y_fake", "edges")
    )


def test_make_inputs_must_make_all():
    message = failure("finite", nn.L1Loss(), make_inputs=lambda size: {"y": torch.rand(size, 3)})
    assert "make_inputs made y, without y_fake" in message


def test_a_loss_that_exits_is_found():
    def exiting(y_fake, y):
        raise SystemExit(3)

    assert "SystemExit: 3" in failure("finite", exiting)
    assert skipped("float16", exiting) == "it cannot be called, as the check `finite` tells"


def test_missing_weights_are_no_fault():
    def needs_weights(y_fake, y):
        raise WeightsError("weights of it: no such file")

    assert skipped("finite", needs_weights) == "WeightsError: weights of it: no such file"
    assert "no such file" in skipped("float16", needs_weights)


def test_without_finite_numbers_only_one_check_fails():
    with pytest.raises(CheckFailed) as caught:
        check_loss(nn.KLDivLoss(reduction="batchmean"), inputs=("logits", "logits"))
    assert str(caught.value) == "KLDivLoss:\n  finite: its result is nan"


# finite and differentiable


def test_a_result_that_is_nan_is_found():
    assert "its result is nan" in failure("finite", lambda y_fake, y: (y_fake - y).log().mean())


def test_a_division_by_the_distance_is_found_where_images_are_equal():
    message = failure("finite", lambda y_fake, y: 1 / (y_fake - y).abs().mean())
    assert "infinite where the generated input equals its target" in message


def test_a_normalization_is_found_on_black_images():
    def standardized(y_fake, y):
        return (y_fake / y_fake.std() - y / y.std()).abs().mean()

    message = failure("finite", standardized)
    assert "where all images are zero, as black ones; add an epsilon where it divides" in message


def test_a_division_by_an_empty_mask_is_found():
    def over_the_mask(y_fake, y, mask):
        return ((y_fake - y).abs() * mask).sum() / mask.sum()

    message = failure("finite", over_the_mask, inputs=("y_fake", "y", "mask"))
    assert "where the mask is zero everywhere; divide by the sum of the mask clamped to 1" in message


def test_a_constant_of_numpy_that_makes_float64_is_found():
    weights = torch.from_numpy(np.ones(3)).view(1, 3, 1, 1)
    message = failure("finite", lambda y_fake, y: ((y_fake - y) * weights).abs().mean())
    assert "its result is float64 where all inputs are float32" in message


def root(y_fake, y):
    return (y_fake - y).square().mean().sqrt()


def test_a_square_root_at_zero_is_found():
    message = failure("differentiable", root)
    assert "gradient with respect to 'y_fake' is nan where the generated input equals its target" in message
    assert "add an epsilon inside" in message


def test_equal_inputs_are_found_under_names_of_ones_own():
    def make_inputs(size):
        return {"output": torch.rand(size, 4).requires_grad_(), "wanted": torch.rand(size, 4)}

    message = failure("differentiable", root, inputs=("output", "wanted"), make_inputs=make_inputs)
    assert "'output' is nan where the generated input equals its target" in message


def test_a_detached_input_is_found():
    message = failure("differentiable", lambda y_fake, y: (y_fake.detach() - y).abs().mean())
    assert "no gradient of its result reaches y_fake; remove detach()" in message


def test_one_of_several_generated_inputs_without_a_gradient_is_found():
    message = failure("differentiable", lambda mu, logvar: mu.square().mean(), inputs=("mu", "logvar"))
    assert "no gradient reaches 'logvar'" in message


def test_numpy_in_forward_is_found():
    def by_numpy(y_fake, y):
        return torch.tensor(np.abs(y_fake.detach().numpy() - y.numpy()).mean())

    assert "NumPy" in failure("differentiable", by_numpy)


def test_a_gradient_that_is_zero_everywhere_is_found():
    message = failure("differentiable", lambda y_fake, y: (y_fake.round() - y).abs().mean())
    assert "0 everywhere" in message


def test_generated_are_the_inputs_that_are_made_with_requires_grad():
    def make_inputs(size):
        return {"y_fake": torch.rand(size, 2), "y": torch.rand(size, 2).requires_grad_()}

    message = failure("differentiable", lambda y_fake, y: (y_fake - y.detach()).abs().mean(), make_inputs=make_inputs)
    assert "reaches y;" in message


class WrongDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x


def wrong_derivative(y_fake, y):
    return WrongDerivative.apply(y_fake - y).mean()


def test_a_wrong_derivative_is_found_where_it_is_asked_for():
    assert "ask for it with gradcheck=True" in skipped("gradcheck", wrong_derivative)
    assert "not that of finite differences" in failure("gradcheck", wrong_derivative, gradcheck=True)


# dtypes


def test_an_overflow_of_float16_is_found():
    message = failure("float16", lambda y_fake, y: ((y_fake - y) * 100).square().sum())
    assert "is infinite; float16 ends at 65504: compute in float32" in message


def test_an_epsilon_that_float16_cannot_hold_is_found():
    def charbonnier(y_fake, y):
        return ((y_fake - y).square() + 1e-12).sqrt().mean()

    message = failure("float16", charbonnier)
    assert "nan in float16 where the generated input equals its target; an epsilon such as 1e-8 becomes 0" in message
    passes("bfloat16", charbonnier)


def test_a_sum_that_bfloat16_cannot_hold_is_found():
    def variance(y_fake, y):
        shifted = y_fake + 100
        return (shifted.square().mean() - shifted.mean().square()).abs()

    assert "not the rounding of one number; compute in float32" in failure("bfloat16", variance)


class FixedKernel(nn.Module):
    """Its constant is float32, whatever it is given."""

    def forward(self, y_fake, y):
        return F.conv2d(y_fake - y, torch.ones(1, 3, 3, 3, device=y.device)).abs().mean()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_constant_in_float32_that_does_not_go_with_another_dtype_is_found(dtype):
    message = failure(dtype, FixedKernel())
    assert f"with inputs in {dtype} it raised" in message
    assert "make constants in" in message


def test_a_result_in_float64_for_half_precision_is_found():
    def by_numpy(y_fake, y):
        result = (y_fake - y).abs().mean()
        return result * torch.ones(1, dtype=torch.float64).squeeze() if y.dtype is torch.float32 else result.double()

    assert "float64 where all inputs are bfloat16" in failure("bfloat16", by_numpy)


def test_float32_for_half_precision_is_no_fault():
    passes("bfloat16", lambda y_fake, y: (y_fake.float() - y.float()).abs().mean())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_constant_that_makes_half_precision_float32_is_found(dtype):
    def weighted(y_fake, y):
        return ((y_fake - y) * torch.tensor([0.3, 0.6, 0.1], device=y.device).view(3, 1, 1)).abs().mean()

    message = failure(dtype, weighted)
    assert f"with inputs in {dtype} it becomes float32 in mul(), by a constant in float32" in message


def test_a_buffer_that_is_moved_with_the_loss_is_no_such_constant():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weights", torch.ones(3, 1, 1))

        def forward(self, y_fake, y):
            return ((y_fake - y) * self.weights).abs().mean()

    passes("bfloat16", Weighted())


def test_less_precision_than_float64_is_found():
    message = failure("float64", lambda y_fake, y: (y_fake.float() - y.float()).abs().mean())
    assert "its result is float32 where all inputs are float64" in message


def test_mixed_dtypes_under_autocast_are_found():
    def dot(y_fake, y):
        with torch.autocast("cpu", enabled=False):
            return torch.mm(y_fake.flatten(1), y.flatten(1).T).square().mean() * 1e-3

    message = failure("autocast", dot)
    assert "where the generated input is bfloat16, as a network gives it, and the others are float32" in message


def test_precision_that_autocast_takes_is_found():
    def cancelling(y_fake, y):
        fake, real = y_fake.flatten(1) + 30, y.flatten(1) + 30
        return (fake @ fake.T - real @ real.T).abs().mean() / 1000

    assert "under autocast its result is" in failure("autocast", cancelling)


# Memory format and shapes


def test_view_on_channels_last_is_found():
    message = failure("channels_last", lambda y_fake, y: (y_fake.view(-1) - y.view(-1)).abs().mean())
    assert "use reshape() or flatten() instead of view()" in message


def test_reading_memory_in_its_order_is_found():
    def first_rows(y_fake, y):
        return (torch.as_strided(y_fake, (32,), (1,)) - torch.as_strided(y, (32,), (1,))).square().mean()

    assert "it reads memory in the order in which it lies" in failure("channels_last", first_rows)


def test_channels_last_is_for_images():
    assert skipped("channels_last", kl, inputs=("mu", "logvar")) == "none of its inputs has four dimensions"


def test_squeeze_of_a_batch_of_one_is_found():
    def by_sample(y_fake, y):
        return (y_fake - y).abs().mean((1, 2, 3), keepdim=True).squeeze()

    message = failure("batch_size", by_sample)
    assert "has the shape () for a batch of 1, and (8,) for one of 8; squeeze()" in message


def test_a_size_that_is_written_down_is_found():
    assert "with a batch of 1 it raised" in failure(
        "batch_size",
        lambda y_fake, y: (
            (y_fake.reshape(2, -1) - y.reshape(2, -1)[:2]).abs().mean()
            if len(y) == 2
            else y_fake.reshape(2, 3, 32, 32).mean()
        ),
    )


def test_a_variance_over_a_batch_of_one_is_found():
    message = failure("batch_size", lambda y_fake, y: (y_fake - y).mean((1, 2, 3)).var())
    assert "with a batch of 1 its result is nan; a variance over one sample is nan" in message


def test_a_component_that_is_there_for_some_batches_only_is_found():
    def parts(y_fake, y):
        result = {"all": (y_fake - y).abs().mean()}
        if len(y) > 1:
            result["pairs"] = (y_fake[0] - y_fake[1]).abs().mean()
        return result

    assert "components all for a batch of 1 and all, pairs for one of 8" in failure("batch_size", parts)


# Devices


class Attribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = torch.ones(1, 3, 3, 3)

    def forward(self, y_fake, y):
        return F.conv2d(y_fake - y, self.kernel).abs().mean()


def test_a_tensor_that_is_no_buffer_is_named():
    message = failure("device", Attribute())
    assert (
        "kernel stays on the CPU when the loss is moved by .to(); register it: self.register_buffer('kernel'" in message
    )


def test_a_tensor_in_a_list_that_is_no_buffer_is_named():
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Module()
            self.inner.scales = [torch.ones(3, 1, 1)]

        def forward(self, y_fake, y):
            return ((y_fake - y) * self.inner.scales[0]).abs().mean()

    assert "inner.scales stays on the CPU" in failure("device", Several())


def test_a_tensor_that_is_made_on_the_cpu_is_found():
    message = failure("device", lambda y_fake, y: ((y_fake - y) * torch.rand(2, 1, 1, 1)).abs().mean())
    assert "make tensors with device=y_fake.device" in message


def test_a_result_on_the_cpu_is_found():
    message = failure("device", lambda y_fake, y: torch.zeros((), requires_grad=True) if y.is_meta else y_fake.mean())
    assert "on cpu where all inputs are on another device" in message


WAITS = {
    "item": lambda y_fake, y: y_fake.mean() * y.mean().item(),
    "if": lambda y_fake, y: (y_fake - y).abs().mean() if (y_fake - y).mean() > 0 else (y_fake - y).square().mean(),
    "cpu": lambda y_fake, y: (y_fake.cpu() - y.cpu()).abs().mean(),
    "numpy": lambda y_fake, y: y_fake.mean() * float(np.mean(y.numpy())),
    "mask": lambda y_fake, y: (y_fake - y)[y > 0].abs().mean(),
    "unique": lambda y_fake, y: y_fake.mean() * len(torch.unique(y)),
    "assert": lambda y_fake, y: y_fake.mean() if torch.isfinite(y).all() else y.mean(),
    "format": lambda y_fake, y: y_fake.mean() * len(f"{y.mean():.2f}"),
}


@pytest.mark.parametrize("name", WAITS)
def test_reading_a_value_on_the_host_is_found(name):
    message = failure("no_wait", WAITS[name])
    assert "for which training waits at every step" in message
    assert "test_kit_losses.py, line" in message


def test_a_wait_in_the_backward_pass_is_found():
    class Clipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient / max(1.0, gradient.norm().item())

    assert "training waits" in failure("no_wait", lambda y_fake, y: Clipped.apply(y_fake - y).abs().mean())


def test_where_a_tensor_stays_behind_is_no_wait():
    passes("no_wait", Attribute())


# Compiled


def test_what_the_compiler_refuses_is_found():
    message = failure("compiles", WAITS["if"])
    assert "torch.compile(fullgraph=True) does not take it" in message
    assert "decide by shapes, not by values" in message


def test_printing_is_found():
    def telling(y_fake, y):
        print(end="")
        Path(os.devnull).write_text("called")
        return (y_fake - y).abs().mean()

    assert "does not take it" in failure("compiles", telling)


def test_a_loss_that_is_another_when_compiled_is_found():
    def compiled_otherwise(y_fake, y):
        loss = (y_fake - y).abs().mean()
        return loss * 2 if torch.compiler.is_compiling() else loss

    assert "compiled its result is" in failure("compiles", compiled_otherwise)


# Random numbers and state


def noisy(y_fake, y):
    return (y_fake + torch.randn_like(y_fake) - y).abs().mean()


def test_a_random_loss_is_found_and_told_how_to_say_that_it_is_meant():
    message = failure("deterministic", noisy)
    assert "when the seed is another" in message
    assert 'skip={"deterministic": "..."}' in message


@pytest.mark.parametrize("check", [name for name in NAMES if name not in ("deterministic", "gradcheck", "picklable")])
def test_a_random_loss_passes_the_other_checks(check):
    assert outcome(check, noisy).state != "failed"


def test_random_numbers_that_no_seed_repeats_are_found():
    unseeded = random.SystemRandom()
    message = failure("deterministic", lambda y_fake, y: (y_fake - y).abs().mean() * unseeded.random())
    assert "the same seed differ" in message


def test_seeding_is_found():
    def seeding(y_fake, y):
        torch.manual_seed(0)
        return (y_fake * torch.rand_like(y_fake) - y).abs().mean()

    assert "it sets the seed of the random numbers of torch" in failure("deterministic", seeding)


def test_a_value_that_depends_on_earlier_calls_is_found():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, y_fake, y):
            self.calls += 1
            return (y_fake - y).abs().mean() * self.calls

    assert "a second call with the same inputs differs from the first" in failure("deterministic", Counting())


IN_PLACE = {
    "the target": (lambda y_fake, y: (y.mul_(0.5) - y_fake).abs().mean(), "it changes 'y' in place"),
    "the generated input": (
        lambda y_fake, y: (y_fake.add_(1).div_(2) - y).abs().mean(),
        "it changes 'y_fake' in place",
    ),
    "by an operator": (lambda y_fake, y: y.__isub__(0.1).sub(y_fake).abs().mean(), "y = y - 1 instead of y -= 1"),
    "to the same values": (lambda y_fake, y: (y.mul_(1) - y_fake).abs().mean(), "it changes 'y' in place"),
    "requires_grad": (
        lambda y_fake, y: (y.requires_grad_() - y_fake).abs().mean(),
        "it changes requires_grad of 'y'; take a copy: y.detach().requires_grad_()",
    ),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_change_of_an_input_is_found(name):
    function, expected = IN_PLACE[name]
    assert expected in failure("inputs_unchanged", function)


def test_emptying_a_list_of_inputs_is_found():
    def popping(features_fake, features_real):
        return (features_fake.pop() - features_real.pop()).abs().mean()

    message = failure("inputs_unchanged", popping, inputs=("features_fake", "features_real"))
    assert "how many tensors 'features_fake' holds; copy the list" in message


def test_switching_a_network_is_found():
    def switching(discriminator, y_fake):
        return discriminator.eval()(y_fake).mean()

    assert "between train() and eval()" in failure("inputs_unchanged", switching, inputs=("discriminator", "y_fake"))


def test_freezing_a_network_is_found():
    def freezing(discriminator, y_fake):
        return discriminator.requires_grad_(False)(y_fake).mean()

    assert "requires_grad of the parameters" in failure(
        "inputs_unchanged", freezing, inputs=("discriminator", "y_fake")
    )


def test_calling_backward_is_found():
    def eager(y_fake, y):
        loss = (y_fake - y).abs().mean()
        loss.backward(retain_graph=True)
        return loss

    assert "it calls backward()" in failure("inputs_unchanged", eager)


def test_state_that_is_in_no_buffer_is_found():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = 1.0

        def forward(self, y_fake, y):
            self.scale *= 0.5
            return (y_fake - y).abs().mean() * self.scale

    message = failure("state_dict", Running())
    assert "after load_state_dict() it gives other numbers" in message
    assert "register_buffer" in message


def test_a_buffer_that_is_made_in_the_first_call_is_found():
    class Lazy(nn.Module):
        def forward(self, y_fake, y):
            if not hasattr(self, "kernel"):
                self.register_buffer("kernel", y.new_ones(3, 1, 1))
            return ((y_fake - y) * self.kernel).abs().mean()

    message = failure("state_dict", Lazy())
    assert "Unexpected key" in message
    assert "register all buffers and parameters in __init__" in message


def test_a_state_that_is_no_plain_data_is_found():
    class Extra(nn.Module):
        def get_extra_state(self):
            return random.Random(0)

        def set_extra_state(self, state):
            pass

        def forward(self, y_fake, y):
            return (y_fake - y).abs().mean()

    assert "it may hold tensors and plain data only" in failure("state_dict", Extra())


def test_a_function_has_no_state():
    assert "it is no module" in skipped("state_dict", root)


def test_a_lambda_cannot_be_pickled():
    message = failure("picklable", lambda y_fake, y: (y_fake - y).abs().mean())
    assert "a function at the top of its file instead of a lambda" in message


class Holding(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = lambda a, b: (a - b).abs().mean()

    def forward(self, y_fake, y):
        return self.criterion(y_fake, y)


def test_a_module_that_holds_a_lambda_cannot_be_pickled():
    assert "cannot be pickled" in failure("picklable", Holding())


class Caching(nn.Module):
    """Keeps the result of its last call, with its graph."""

    def forward(self, y_fake, y):
        self.last = (y_fake - y).abs().mean()
        return self.last


def test_a_loss_that_cannot_be_copied_is_found():
    used = Caching()
    used(torch.ones(2, requires_grad=True), torch.zeros(2))
    assert "it cannot be copied" in failure("picklable", used)


class Forgetting(Charbonnier):
    def __init__(self):
        super().__init__()
        self.factor = 2.0

    def __setstate__(self, state):
        super().__setstate__({**state, "factor": 1.0})

    def __deepcopy__(self, memo):
        return self

    def forward(self, y_fake, y):
        return super().forward(y_fake, y) * self.factor


def test_a_pickle_that_forgets_is_found():
    assert "after pickling it gives other numbers" in failure("picklable", Forgetting())


# What a record says of it


class Deep(nn.Module):
    """Says of one file, or of what it is given, that its numbers come from it."""

    def __init__(self, files=None):
        super().__init__()
        self.files = {"deep.pth": "0f" * 32} if files is None else files

    @property
    def weight_files(self):
        if isinstance(self.files, Exception):
            raise self.files
        return self.files

    def forward(self, y_fake, y):
        return (y_fake - y).abs().mean()


class Scaled(nn.Module):
    """Keeps neither of its arguments under its name."""

    def __init__(self, scale=2.0, power=1.0):
        super().__init__()
        self.factor, self._power = scale, power

    def forward(self, y_fake, y):
        return self.factor * (y_fake - y).abs().pow(self._power).mean()


class Kept(Scaled):
    def __init__(self, scale=2.0, power=1.0):
        super().__init__(scale, power)
        self.scale, self.power = scale, power


class Callable(Scaled):
    def __init__(self, half, scale=2.0):
        super().__init__(scale)
        self.scale = scale


class Composed(nn.Module):
    def __init__(self, criterion, weights=(1.0, 2.0), dtype=torch.float32):
        super().__init__()
        self.criterion, self.dtype = criterion, dtype
        self.register_buffer("weights", torch.as_tensor(weights))

    def forward(self, y_fake, y):
        return self.criterion(y_fake, y)


class Anything(Scaled):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Raises(Scaled):
    @property
    def scale(self):
        raise RuntimeError("no")


class Plain:
    """No module, which is called."""

    def __init__(self, scale):
        self._scale = scale

    def __call__(self, y_fake, y):
        return self._scale * (y_fake - y).abs().mean()


@pytest.mark.parametrize(
    "function",
    [
        nn.L1Loss(),
        nn.CrossEntropyLoss(weight=torch.ones(3)),
        Charbonnier(),
        Kept(),
        Composed(Kept()),
        Composed(nn.HuberLoss(delta=2.0)),
        Composed(F.l1_loss),
        F.l1_loss,
        functools.partial(F.huber_loss, delta=0.5),
        functools.partial(Kept(), y=1.0),
        Kept().forward,
        lambda y_fake, y: y_fake.mean(),
    ],
)
def test_arguments_that_can_be_read_pass(function):
    passes("recorded", function)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Scaled(), "what Scaled was given for scale, power, so"),
        (Scaled().forward, "what Scaled was given for scale, power, so"),
        (Callable(half=True), "what Callable was given for half, so"),
        (Composed(Scaled()), "what Composed was given for criterion, so"),
        (Composed(F.l1_loss, weights=torch.rand(2000)), "what Composed was given for weights, so"),
        (Anything(3.0), "what Anything was given for args, kwargs, so"),
        (Raises(), "what Raises was given for scale, power, so"),
        (Plain(2.0), "what Plain was given for scale, so"),
        (functools.partial(F.huber_loss, delta=object()), "what the functools.partial was given for delta, so"),
        (functools.partial(F.huber_loss, object()), "what the functools.partial was given for argument 1, so"),
        (functools.partial(Plain(1.0), object()), "what Plain was given for scale, so"),
    ],
)
def test_arguments_that_cannot_be_read_are_named_and_no_fault(function, expected):
    message = skipped("recorded", function)
    assert expected in message
    advice = (
        "give it plain data" if "partial" in expected else "keep each as an attribute of its name, as plain data: self."
    )
    assert advice in message
    raise_nothing = {name: "it is not asked for" for name in NAMES if name != "recorded"}
    check_loss(function, skip=raise_nothing)


def test_weight_files_by_name_pass():
    passes("recorded", Deep())
    passes("recorded", Deep({}))
    passes("recorded", Composed(Deep()))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["deep.pth"], "Deep.weight_files is ['deep.pth']; it must map file names to their SHA-256"),
        ("deep.pth", "Deep.weight_files is 'deep.pth'"),
        (dict, "it must map file names to their SHA-256; make it a property"),
        ({"deep.pth": "0F" * 32}, "under 'deep.pth'; it must map file names to their SHA-256, 64 hexadecimal digits"),
        ({"deep.pth": "0f" * 16}, "Deep.weight_files has '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f' under 'deep.pth'"),
        ({"deep.pth": b"0f" * 32}, "under 'deep.pth'"),
        ({"deep.pth": None}, "Deep.weight_files has None under 'deep.pth'"),
        ({Path("deep.pth"): "0f" * 32}, "Path('deep.pth')"),
        (AttributeError("no"), "Deep.weight_files raised AttributeError"),
        (KeyError("no"), "Deep.weight_files raised KeyError"),
    ],
)
def test_weight_files_that_are_no_hashes_are_a_fault(files, expected):
    assert expected in failure("recorded", Deep(files))
    assert expected in failure("recorded", Composed(Deep(files)))
    assert expected in failure("recorded", functools.partial(Deep(files)))


def test_weight_files_that_are_missing_are_the_reason_to_leave_the_check_out():
    assert skipped("recorded", Deep(WeightsError("there is no file"))) == "WeightsError: there is no file"


# The function and the class


def test_all_faults_are_listed_under_the_name_of_the_function():
    with pytest.raises(CheckFailed) as caught:
        check_loss(root)
    message = str(caught.value)
    assert message.startswith("root:\n  differentiable: its gradient")
    assert "\n  float16: " in message


def test_a_check_is_left_out_with_a_reason():
    check_loss(noisy, skip={"deterministic": "noise is what it is about"})


def test_a_reason_for_no_check_is_refused():
    with pytest.raises(ValueError, match="no check is called 'picklabel'.* Did you mean \"picklable\""):
        check_loss(nn.L1Loss(), skip={"picklabel": "it is a lambda"})


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (nn.L1Loss, "make one of it: L1Loss()"),
        (3, "must be a module or a function, got 3"),
        (LMLoss(name="G_L1", function=nn.L1Loss()), "give the function of the loss 'G_L1'"),
    ],
)
def test_what_is_no_loss_function_is_refused(function, expected):
    with pytest.raises(TypeError) as caught:
        check_loss(function)
    assert expected in str(caught.value)


def test_inputs_are_several_names():
    with pytest.raises(TypeError, match="inputs is a tuple of names"):
        check_loss(nn.L1Loss(), inputs="y_fake")


def test_named_tuples_and_dicts_are_inputs():
    Pair = namedtuple("Pair", "fake real")

    def compare(features, more):
        return (features.fake - features.real).abs().mean() + more["a"].square().mean()

    def make_inputs(size):
        return {"features": Pair(torch.rand(size, 4), torch.rand(size, 4)), "more": {"a": torch.rand(size, 2)}}

    reason = {"picklable": "a function in a test"}
    check_loss(compare, make_inputs, inputs=("features", "more"), gradcheck=True, skip=reason)


def test_a_function_as_an_input_is_passed_as_it_is():
    def penalty(discriminator, y_fake):
        return discriminator(y_fake).square().mean()

    def make_inputs(size):
        return {"discriminator": torch.tanh, "y_fake": torch.rand(size, 3)}

    given = {"inputs": ("discriminator", "y_fake"), "make_inputs": make_inputs}
    passes("differentiable", penalty, **given)
    assert "is a function, which cannot be converted; give a module" in skipped("device", penalty, **given)


def test_random_states_stay_as_they_are():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 # what losses may use
    check_loss(noisy, skip={"deterministic": "it is meant"})
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    np.testing.assert_equal(np.random.get_state(), states[2])  # noqa: NPY002


def test_the_loss_that_is_checked_stays_as_it_is():
    tracked = Tracked()
    check_loss(tracked)
    assert tracked.mean == 0
    assert tracked.training


class TestBlurred(LossTests):
    function = Blurred()
    gradcheck = True


class TestFunctionOfInputsOfItsOwn(LossTests):
    function = staticmethod(root)
    inputs = ("output", "wanted")
    skip = {"differentiable": "inputs are never equal", "float16": "likewise", "bfloat16": "likewise"}

    def make_inputs(self, batch_size):
        return {"output": torch.rand(batch_size, 4).requires_grad_(), "wanted": torch.rand(batch_size, 4)}


def plain_function(y_fake, y):
    return (y_fake - y).abs().mean()


class TestPlainFunction(LossTests):
    function = plain_function


def test_a_class_has_a_test_for_each_check():
    methods = {name for name in dir(LossTests) if name.startswith("test_")}
    assert methods == {f"test_{name}" for name in NAMES} | {"test_skip_names_checks"}


def test_a_test_of_a_class_fails_with_the_message():
    class TestRoot(LossTests):
        function = root

    with pytest.raises(pytest.fail.Exception, match="is nan where the generated input equals its target"):
        TestRoot().test_differentiable()
    with pytest.raises(pytest.skip.Exception, match="no module"):
        TestRoot().test_state_dict()


def test_a_class_without_a_function_says_what_is_missing():
    class TestNothing(LossTests):
        pass

    with pytest.raises(TypeError, match="must be a module or a function, got None"):
        TestNothing().test_finite()


# Modules that are called in another way than by themselves


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, y_fake, y, scale=1.0):
        return scale * (self.convolution(y_fake) - self.convolution(y)).abs().mean()


@pytest.mark.parametrize("check", ["float16", "bfloat16", "float64", "device", "no_wait", "picklable"])
@pytest.mark.parametrize(
    "function",
    [Features().forward, functools.partial(Features(), scale=2.0), functools.partial(Features().forward, scale=2.0)],
    ids=["bound method", "partial", "partial of a bound method"],
)
def test_the_module_of_a_bound_method_or_a_partial_is_moved(check, function):
    passes(check, function)


def test_a_tensor_that_is_no_buffer_is_named_in_the_module_of_a_bound_method():
    assert "kernel stays on the CPU" in failure("device", Attribute().forward)


def test_modules_in_a_list_are_told_where_they_belong():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolutions = [nn.Conv2d(3, 3, 1)]

        def forward(self, y_fake, y):
            return (self.convolutions[0](y_fake) - y).abs().mean()

    assert "nn.ModuleList" in failure("device", Listed())


def without_autocast(y_fake, y):
    with torch.autocast(y_fake.device.type, enabled=False):
        return (y_fake.float() - y.float()).abs().mean()


@pytest.mark.parametrize("check", ["device", "no_wait", "autocast"])
def test_autocast_may_be_switched_off_on_the_device_of_the_inputs(check):
    passes(check, without_autocast)


def gradient_penalty(discriminator, y):
    y = y.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(y).sum(), y, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def test_a_gradient_penalty_is_not_blamed_for_what_the_compiler_does_not_take():
    assert "gradient penalty" in skipped("compiles", gradient_penalty, inputs=("discriminator", "y"))


def test_nor_where_it_is_kept_from_the_compiler():
    kept = torch.compiler.disable(gradient_penalty)
    called = skipped("compiles", lambda discriminator, y: kept(discriminator, y), inputs=("discriminator", "y"))
    assert "gradient penalty" in called


def test_a_loss_that_is_kept_from_the_compiler_without_need_is_found():
    kept = torch.compiler.disable(nn.functional.l1_loss)
    assert "torch.compile(fullgraph=True) does not take it" in failure("compiles", lambda y_fake, y: kept(y_fake, y))


# What a generated input can be equal to


def likelihood(mean, variance, target):
    return 0.5 * (variance.log() + (mean - target).square() / variance).mean()


def a_likelihood(size):
    generator = torch.Generator().manual_seed(size)
    return {
        "variance": (torch.rand(size, 4, generator=generator) + 0.1).requires_grad_(),
        "mean": torch.randn(size, 4, generator=generator).requires_grad_(),
        "target": torch.randn(size, 4, generator=generator),
    }


@pytest.mark.parametrize("check", ["finite", "differentiable"])
def test_a_variance_does_not_become_a_target_that_is_negative(check):
    passes(check, likelihood, inputs=("mean", "variance", "target"), make_inputs=a_likelihood)


def scores_of_labels(score, label):
    return nn.functional.binary_cross_entropy_with_logits(score, label.to(score.dtype))


def test_a_score_does_not_become_a_whole_number():
    def make_inputs(size):
        return {"score": torch.linspace(-1, 1, size), "label": torch.arange(size) % 2}

    passes("finite", scores_of_labels, inputs=("score", "label"), make_inputs=make_inputs)


@dataclasses.dataclass(frozen=True)
class Outputs:
    image: torch.Tensor
    scale: float


@pytest.mark.parametrize("check", ["differentiable", "float16", "device", "inputs_unchanged"])
def test_dataclasses_are_inputs(check):
    def compare(outputs, y):
        return (outputs.image - y).abs().mean() * outputs.scale

    def make_inputs(size):
        return {"outputs": Outputs(torch.rand(size, 4, requires_grad=True), 2.0), "y": torch.rand(size, 4)}

    passes(check, compare, inputs=("outputs", "y"), make_inputs=make_inputs)


def test_complex_inputs_are_not_converted():
    def compare(spectrum, y):
        return (spectrum - y).abs().square().mean()

    def make_inputs(size):
        return dict.fromkeys(("spectrum", "y"), torch.ones(size, 4, dtype=torch.complex64))

    given = {"inputs": ("spectrum", "y"), "make_inputs": make_inputs}
    assert "complex numbers" in skipped("float64", compare, **given)
    passes("finite", compare, **given)


# What a loss does to others


@pytest.mark.parametrize("key", ["", "a/b", "\ud800"])
def test_a_component_needs_a_name_that_a_log_can_have(key):
    message = failure("finite", lambda y_fake, y: {key: (y_fake - y).abs().mean()})
    assert "names of components: not empty, without '/'" in message


def test_a_sparse_result_is_found():
    message = failure("finite", lambda y_fake, y: (y_fake - y).abs().mean(0).to_sparse())
    assert "return a dense one" in message


@pytest.mark.parametrize("module", [random, np.random], ids=["random", "numpy.random"])
def test_seeding_of_other_generators_is_found(module):
    def seeding(y_fake, y):
        module.seed(0)
        return (y_fake - y).abs().mean()

    assert f"sets the seed of the random numbers of {module.__name__}" in failure("deterministic", seeding)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: torch.set_default_dtype(torch.float64), "torch.set_default_dtype"),
        (lambda: torch.autograd.set_detect_anomaly(True), "torch.autograd.set_detect_anomaly"),
        (lambda: os.chdir("/"), "the current directory"),
    ],
)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_change_of_the_process_is_found_and_undone(change, named):
    def changing(y_fake, y):
        result = (y_fake - y).abs().mean()
        change()
        return result

    before = torch.get_default_dtype(), torch.is_anomaly_enabled(), Path.cwd()
    assert f"it changes {named}" in failure("deterministic", changing)
    passes("finite", changing)
    after = torch.get_default_dtype(), torch.is_anomaly_enabled(), Path.cwd()
    assert after == before


def test_gradients_that_stay_off_are_found():
    def switching(y_fake, y):
        result = (y_fake - y).abs().mean()
        torch.set_grad_enabled(False)
        return result

    assert "switches gradients off" in failure("finite", switching)
    assert torch.is_grad_enabled()


def test_a_graph_that_is_kept_between_calls_is_found():
    class Keeping(nn.Module):
        last = None

        def forward(self, y_fake, y):
            result = (y_fake - y).square().mean()
            self.last, before = result, self.last
            return result if before is None else result + 0.1 * before

    assert "keeps the graph of the first" in failure("differentiable", Keeping())


def test_what_cannot_be_pickled_is_not_told_to_be_a_module_where_it_is_one():
    class Locked(nn.Module):
        def __getstate__(self):
            raise RuntimeError("serialization is not supported")

        def __deepcopy__(self, memo):
            return self

        def forward(self, y_fake, y):
            return (y_fake - y).abs().mean()

    message = failure("picklable", Locked())
    assert "__reduce__" in message
    assert "make it a module" not in message


# On a CUDA device


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_the_check_says_so():
    assert "no CUDA device" in skipped("cuda", nn.L1Loss())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCUDA:
    def test_a_right_loss_passes(self):
        passes("cuda", nn.L1Loss())

    def test_a_loss_that_waits_fails(self):
        def waits(y_fake, y):
            return (y_fake - y).abs().mean() * float(y.max())

        assert "waits at every call" in failure("cuda", waits)

    def test_a_loss_with_other_numbers_fails(self):
        def other(y_fake, y):
            return (y_fake - y).abs().mean() * (2 if y.is_cuda else 1)

        assert "on a CUDA device its result is" in failure("cuda", other)

    def test_a_loss_that_overflows_under_autocast_fails(self):
        def overflows(y_fake, y):
            return ((y_fake - y) * 30000).pow(2).mean()

        message = failure("cuda", overflows)
        assert "under autocast" in message
        assert "on a CUDA device" in message
