"""Tensors that appear to be on an accelerator, and a recorder of the operations that torch runs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class OnDevice(torch.Tensor):
    """A tensor whose device is an accelerator, and that records the operations on it."""

    done: ClassVar[list[str]] = []

    @staticmethod
    def __new__(cls, inner):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=torch.device("cuda:0")
        )
        tensor.inner = inner
        return tensor

    def tolist(self):
        self.done.append("tolist")
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        cls.done.append(function.__name__.partition(".")[0])
        args, kwargs = tree_map(lambda each: each.inner if isinstance(each, cls) else each, (args, kwargs or {}))
        result = function(*args, **kwargs)
        return tree_map(lambda each: cls(each) if isinstance(each, torch.Tensor) else each, result)


class Elsewhere(torch.Tensor):
    """A tensor that can be read, but whose `is_cpu` is False."""

    @property
    def is_cpu(self):
        return False


def elsewhere(value):
    return torch.tensor(value).as_subclass(Elsewhere)


class Operations(TorchDispatchMode):
    """Records the names of the operations that torch runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))
