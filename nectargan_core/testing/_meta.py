"""Checks of a loss on the meta device, which show what stays on the CPU and what waits for a device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nectargan_core._messages import listed, one_line
from nectargan_core.losses import module_of
from nectargan_core.testing._call import Call, explained, plain_tensors
from nectargan_core.testing._comparing import term_words
from nectargan_core.testing._inputs import tensors_of
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable
from nectargan_core.testing._subject import LossSubject, moved, usable

# What PyTorch says of an operator that needs values on the host, or whose result has a size that depends on them.
_WAITS = (
    "cannot be called on meta tensors",
    "Cannot copy out of meta tensor",
    "can't convert meta device type tensor",
    "unsupported format string passed to Tensor",
    "torch.nonzero()",
    "cannot repeat_interleave a meta tensor",
    *(
        f"aten::{name}:"
        for name in (
            "_local_scalar_dense",
            "bincount",
            "equal",
            "masked_select",
            "nonzero",
            "_unique2",
            "unique_consecutive",
        )
    ),
)


class _Elsewhere(Exception):  # noqa: N818 # what is found is no error of ours
    """Raised where tensors on two devices meet."""


class _OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call] # untyped in torch
    """Raises where a tensor with dimensions on the CPU meets one on the meta device.

    Not all operators on meta tensors look at that by themselves, as a convolution does not.
    """

    _ALLOWED = ("aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put", "aten::index_put_")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.name not in self._ALLOWED:
            tensors = [*tensors_of(args), *tensors_of(kwargs)]
            if any(each.is_meta for each in tensors) and any(not each.is_meta and each.dim() for each in tensors):
                raise _Elsewhere(f"uses a tensor on the CPU in {func._schema.name.partition('::')[2]}()")
        return func(*args, **kwargs)


def device(loss: LossSubject) -> None:
    """It works on another device after `.to()`, without tensors that stay behind."""
    call = _on_meta(loss, everything=False)
    if isinstance(call, _Elsewhere):
        attributes = plain_tensors(loss.function)
        if attributes:
            raise CheckFailed(
                f"{listed(attributes)} stays on the CPU when the loss is moved by .to(); register it: "
                f"self.register_buffer({attributes[0].rpartition('.')[2]!r}, ..., persistent=False)"
            )
        raise CheckFailed(
            f"on another device it {call}; make tensors with device=y_fake.device, or register them as buffers of a "
            "module, and hold modules as attributes of a module or in nn.ModuleList, which .to() moves"
        )
    if isinstance(call, Exception):
        raise NotApplicable("it reads values on the host, as the check `no_wait` tells")
    for name, term in call.terms.items():
        if term.device.type != "meta":
            raise CheckFailed(
                f"{term_words(name)} is on {term.device} where all inputs are on another device; make it with "
                "device=y_fake.device, or with y_fake.new_zeros(())"
            )


def no_wait(loss: LossSubject) -> None:
    """It does not wait for the device: it reads no value on the host."""
    call = _on_meta(loss, everything=True)
    if isinstance(call, _Elsewhere):
        raise NotApplicable("it does not work on another device, as the check `device` tells")
    if isinstance(call, Exception):
        raise CheckFailed(
            f"it reads values of a tensor on the host, for which training waits at every step: {explained(call)}; "
            "without .item(), float(), .cpu(), NumPy, `if` on a tensor, and indexing by a boolean mask: torch.where "
            "and multiplication by the mask do the same on the device"
        )


@contextlib.contextmanager
def _autocast() -> Iterator[None]:
    """Let `torch.autocast("meta")`, which torch refuses, be that of the CPU: losses name the device of their inputs."""
    original = torch.autocast.__init__

    def init(self: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:
        original(self, "cpu" if device_type == "meta" else device_type, *args, **kwargs)

    with mock.patch.object(torch.autocast, "__init__", init):
        yield


def _on_meta(loss: LossSubject, *, everything: bool) -> Call | Exception:
    """Call a loss on the meta device and differentiate it.

    Args:
        loss: The loss.
        everything: Whether to move what `.to()` leaves behind, too.

    Returns:
        The call; `_Elsewhere` where a tensor is on the CPU; or what a tensor on the meta device raised when its values
        were asked for.

    Raises:
        NotApplicable: If it cannot be called on the CPU, or uses what PyTorch cannot do on the meta device.
    """
    if not loss.numberless:
        usable(loss)
    try:
        function = moved(loss, device="meta")
    except CheckFailed as failure:
        raise NotApplicable("it cannot be copied, as the check `picklable` tells") from failure
    whole = module_of(function)
    if everything and whole is not None:
        for module in whole.modules():
            for name, value in list(vars(module).items()):
                if not name.startswith("_"):
                    vars(module)[name] = _onto_meta(value)
    inputs = loss.inputs(device="meta")
    try:
        with _autocast(), _OneDevice():  # type: ignore[no-untyped-call] # untyped in torch
            call = loss.call(function, inputs)
            if call.total.requires_grad and call.total.is_meta:
                call.gradients()
    except _Elsewhere as error:
        return _Elsewhere(explained(error).partition(": ")[2] or str(error))
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:
        text = str(error)
        if any(each in text for each in _WAITS):
            return error
        if "not on the expected device" in text or "same device" in text:
            return _Elsewhere(f"raised {explained(error)}")
        # What PyTorch raises of an operator that has no implementation on this device.
        if isinstance(error, NotImplementedError):
            raise NotApplicable(f"PyTorch cannot do on the meta device what it does: {one_line(error)}") from error
        raise CheckFailed(
            f"on another device it raised {explained(error)}; make tensors with device=y_fake.device"
        ) from error
    return call


def _onto_meta(value: Any) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return value.to("meta")
    if type(value) in (list, tuple):
        return type(value)(map(_onto_meta, value))
    if type(value) is dict:
        return {key: _onto_meta(each) for key, each in value.items()}
    return value
