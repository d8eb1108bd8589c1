"""Calls with any arguments, in any order: each returns, or raises what is documented and changes nothing."""

import collections
import contextlib
import copy
import decimal
import fractions
import functools
import io
import linecache
import math
import os
import tempfile
import types
import warnings
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nesting import cyclic, deep

import nectargan_core
from nectargan_core import (
    Config,
    ConfigManager,
    LMLoss,
    LossLog,
    LossManager,
    Schedule,
    Scheduler,
    catalog,
    errors,
    hookimpl,
    preview,
)
from nectargan_core._messages import one_line
from nectargan_core.errors import NectarganError

PACKAGE = str(Path(nectargan_core.__file__).parent)
CALLS = 20_000
CALLS_A_RUN = 40


@pytest.fixture(autouse=True, scope="module")
def _directory_of_its_own(tmp_path_factory):
    """Paths that are drawn, such as "a", are relative."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("fuzz"))
    yield
    os.chdir(before)


class OwnError(Exception):
    """What a function of the user raises."""


class HostileError(Exception):
    """What the special methods of an object raise; no call may let it through."""


# Arguments


class Hostile:
    """An object whose special methods raise."""

    def _raise(self, *_):
        raise HostileError

    __float__ = __int__ = __index__ = __str__ = __repr__ = __eq__ = __ne__ = __hash__ = __bool__ = __len__ = _raise
    __iter__ = __getitem__ = __contains__ = __lt__ = __gt__ = __le__ = __ge__ = __format__ = __fspath__ = _raise
    __mul__ = __rmul__ = __add__ = __radd__ = _raise

    def __call__(self, *_, **__):
        raise OwnError


class HostileText(str):
    """A str whose hash and comparison raise."""

    def _raise(self, *_):
        raise HostileError

    __hash__ = __eq__ = __ne__ = __repr__ = __str__ = __format__ = _raise


class HostileNumber(float):
    """A float that cannot be converted, shown or compared."""

    def _raise(self, *_):
        raise HostileError

    __float__ = __int__ = __repr__ = __str__ = __format__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _raise
    __hash__ = None


class Quiet:
    @hookimpl
    def nectargan_loss_registered(self, loss):
        pass


class WrongObserver:
    @hookimpl
    def nectargan_no_such_event(self):
        pass


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, *inputs, **keywords):
        return own_result(*inputs) * self.scale


def own_result(*inputs, **keywords):
    """Return a scalar of whatever is given, or fail with an error of its own."""
    try:
        return sum((value.float().mean() for value in inputs), torch.tensor(1.0))
    except Exception as error:
        raise OwnError from error


def failing(*inputs, **keywords):
    raise OwnError


def spec(config=None, subspec="basic", **options):
    return {"S": LMLoss(name="S", function=own_result, tags=["G"]), "T": LMLoss(name="T", function=Module())}


def failing_spec(config=None):
    raise OwnError


def curve(schedule, epoch, **params):
    return 1.0 + min(epoch, 10)


def failing_curve(schedule, epoch):
    raise OwnError


def failing_later(schedule, epoch):
    if epoch > 2:
        raise OwnError
    return 1.0


def failing_items():
    yield "a"
    raise OwnError


ANYTHING = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "0": lambda: 0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "2**53": lambda: 2**53,
    "2**63": lambda: 2**63,
    "10**400": lambda: 10**400,
    "10**5000": lambda: 10**5000,
    "-(10**400)": lambda: -(10**400),
    "0.5": lambda: 0.5,
    "-0.0": lambda: -0.0,
    "1e308": lambda: 1e308,
    "1e-320": lambda: 1e-320,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1j": lambda: 1j,
    "Decimal": lambda: decimal.Decimal("1.5"),
    "Decimal nan": lambda: decimal.Decimal("sNaN"),
    "Decimal huge": lambda: decimal.Decimal("1e999999"),
    "Fraction": lambda: fractions.Fraction(1, 3),
    "Fraction huge": lambda: fractions.Fraction(10**400),
    "np.float32": lambda: np.float32(1.5),
    "np.int8": lambda: np.int8(3),
    "np.bool": lambda: np.bool_(True),
    "np.complex": lambda: np.complex64(1j),
    "np.array": lambda: np.ones(3),
    "np.array 0-dim": lambda: np.array(2),
    "np.object": lambda: np.array([None, "a"], dtype=object),
    "datetime64": lambda: np.datetime64("2020-01-01"),
    "text": lambda: "a",
    "empty text": lambda: "",
    "number text": lambda: "3",
    "slash": lambda: "a/b",
    "NUL": lambda: "a\0b",
    "surrogate": lambda: "a\ud800",
    "escape": lambda: "\x1b[2J",
    "newline": lambda: "a\nb",
    "long text": lambda: "a" * 100_000,
    "other long text": lambda: "ab" * 60_000,
    "unicode": lambda: "ä\u202e\U0001f600",
    "bytes": lambda: b"a",
    "bytearray": lambda: bytearray(b"\xff"),
    "Path": lambda: Path("a"),
    "list": list,
    "list of text": lambda: ["a", "G"],
    "list of anything": lambda: ["a", None, 3, []],
    "list of hostile": lambda: [Hostile()],
    "tuple": lambda: ("a", 1),
    "set": lambda: {"a"},
    "frozenset": lambda: frozenset({"G", "b"}),
    "dict": dict,
    "dict of text": lambda: {"a": "b"},
    "dict of numbers": lambda: {"a": 1.0},
    "dict of anything": lambda: {1: None, "a": [object()], None: {}},
    "dict of hostile": lambda: {"a": Hostile()},
    "dict with a surrogate": lambda: {"a\ud800": 1.0},
    "dict proxy": lambda: types.MappingProxyType({"a": 1}),
    "OrderedDict": lambda: collections.OrderedDict(b=2),
    "deep list": lambda: deep(list, depth=20_000),
    "deep dict": lambda: deep(dict, depth=20_000),
    "list 300 deep": lambda: deep(list, 300),
    "dict 300 deep": lambda: deep(dict, 300),
    "cyclic": cyclic,
    "range": lambda: range(3),
    "generator": lambda: (each for each in "ab"),
    "failing generator": failing_items,
    "object": object,
    "hostile": Hostile,
    "hostile text": lambda: HostileText("a"),
    "hostile number": lambda: HostileNumber(1.0),
    "hostile class": lambda: Hostile,
    "class": lambda: dict,
    "function": lambda: own_result,
    "failing function": lambda: failing,
    "builtin": lambda: abs,
    "no arguments": lambda: lambda: torch.ones(2),
    "no arguments, failing": lambda: lambda: failing(),
    "module": lambda: os,
    "nn.Module": Module,
    "nn.Module class": lambda: torch.nn.L1Loss,
    "type": lambda: type,
    "NotImplemented": lambda: NotImplemented,
    "Ellipsis": lambda: ...,
    "exception": lambda: ValueError("x"),
    "tensor": lambda: torch.tensor(2.0),
    "tensor with a gradient": lambda: torch.tensor(2.0, requires_grad=True),
    "vector": lambda: torch.ones(3),
    "empty tensor": lambda: torch.ones(0),
    "meta": lambda: torch.ones(2, device="meta"),
    "meta scalar": lambda: torch.ones((), device="meta"),
    "sparse": lambda: torch.eye(2).to_sparse(),
    "sparse csr": lambda: torch.eye(2).to_sparse_csr(),
    "sparse with a gradient": lambda: torch.eye(2).to_sparse().requires_grad_(),
    "complex": lambda: torch.tensor(1j),
    "complex with a gradient": lambda: torch.tensor([1j], requires_grad=True),
    "bool tensor": lambda: torch.tensor(True),
    "int tensor": lambda: torch.tensor(3),
    "half": lambda: torch.tensor(1.0, dtype=torch.float16),
    "double": lambda: torch.tensor([1.0, 2.0], dtype=torch.float64),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "uint16": lambda: torch.ones((), dtype=torch.uint16),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "nested tensor": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "inf tensor": lambda: torch.tensor(math.inf),
    "Schedule": Schedule,
    "LMLoss": lambda: LMLoss(name="x", function=own_result),
    "Config": Config,
    "device": lambda: torch.device("cpu"),
}
HOSTILE = list(ANYTHING)

VALID = {
    "a loss": lambda: "a",
    "b loss": lambda: "b",
    "map loss": lambda: "map",
    "failing loss": lambda: "fails",
    "any loss": lambda: "any",
    "scheduled loss": lambda: "scheduled",
    "new name": lambda: "new",
    "scalar name": lambda: "psnr",
    "tag": lambda: "G",
    "several": lambda: ["G", "b"],
    "weight": lambda: 2.5,
    "weight 0": lambda: 0.0,
    "epoch 1": lambda: 1,
    "epoch 3.5": lambda: 3.5,
    "step 5": lambda: 5,
    "step 2**62": lambda: 2**62,
    "last step": lambda: 2**63 - 1,
    "decay": lambda: Schedule(end=10, target_value=0.0),
    "no end": lambda: Schedule(target_value=0.0),
    "curve": lambda: Schedule(curve, params={"p": 1}),
    "failing curve": lambda: Schedule(failing_curve),
    "curve failing later": lambda: Schedule(failing_later),
    "steps": lambda: Schedule("cosine", unit="step", end=10, initial_value=3.0),
    "decay with factor": lambda: Schedule(end=10, target_value=0.0, factor=-3.0),
    "unknown curve": lambda: Schedule("no-such-curve"),
    "label": lambda: Schedule("os:system"),
    "parts": lambda: Schedule("sequence", params={"parts": [Schedule(end=5, initial_value=0.0)]}),
    "inputs": lambda: {"y_fake": torch.ones(2, requires_grad=True), "y": torch.zeros(2), "any": torch.ones(1)},
    "lazy inputs": lambda: {"y_fake": lambda: torch.ones(2), "y": torch.zeros(2), "any": failing},
    "odd inputs": lambda: {"y_fake": cyclic(), "y": deep(list, 300), "any": deep(dict, depth=20_000)},
    "sparse inputs": lambda: dict.fromkeys(("y_fake", "y", "any"), torch.eye(2).to_sparse().requires_grad_()),
    "x": lambda: torch.ones(2, requires_grad=True),
    "y": lambda: torch.zeros(2),
    "weight_kwargs": lambda: {"weight_kwargs": {"p": 2}},
    "function_kwargs": lambda: {"function_kwargs": {"q": 2}},
    "bad weight_kwargs": lambda: {"weight_kwargs": {"epoch": 2, "schedule": 1, "self": 0}},
    "bad kwargs": lambda: {"weight_kwargs": 3, "function_kwargs": {3: 4}},
    "params": lambda: {"p": 3.0},
    "objective": lambda: "sobel",
    "objective of two": lambda: "sobel+laplacian",
    "formula": lambda: " 2 * sobel\n+ 1e-4*laplacian",
    "no formula": lambda: "1e+5*sobel",
    "missing objective": lambda: "sobel+no-such-thing",
    "objective of pix2pix": lambda: "pix2pix:basic",
    "spec": lambda: spec,
    "failing spec": lambda: failing_spec,
    "weights": lambda: {"G_SOBEL": 2.0},
    "schedules": lambda: {"G_SOBEL": Schedule(end=10, target_value=0.0)},
    "options": lambda: {"sobel": {}},
    "bad options": lambda: {"sobel": {"no": 1}, 3: {}},
    "deeper options": lambda: {"sobel": 3},
    "prefix": lambda: "face_",
    "renamed inputs": lambda: {"y": "any"},
    "inputs renamed for one": lambda: {"G_SOBEL": {"y": "any"}},
    "precision": lambda: 3,
    "negative precision": lambda: -400,
    "huge precision": lambda: 10**12,
    "tags": lambda: ["G", "new"],
    "input names": lambda: ("y_fake", "y"),
    "input mapping": lambda: {"x": "y_fake"},
    "observers": lambda: [Quiet()],
    "wrong observers": lambda: [WrongObserver()],
    "observer class": lambda: [Quiet],
    "metadata": lambda: {"seed": 3},
    "odd metadata": lambda: {"seed": math.nan, "deep": deep(list, 300), "text": "\ud800"},
    "seconds": lambda: 30.0,
    "buffer": lambda: 10,
    "warn": lambda: "warn",
    "raise": lambda: "raise",
    "ignore": lambda: "ignore",
    "cpu": lambda: "cpu",
    "meta device": lambda: "meta",
    "config": lambda: {"common": {"device": "cpu"}, "train": {"loss": {"lambda_sobel": 3}}},
    "bad config": lambda: {"train": {"loss": {"lambda_sobel": "x"}}},
    "deep config": lambda: {"mine": deep(dict, depth=20_000), "yours": deep(list, depth=20_000)},
    "zero config": lambda: {"train": {"loss": {"lambda_sobel": 0}}},
    "split": lambda: "val",
    "other function": lambda: own_result,
    "saved": lambda: "saved",
    "current": lambda: "current",
    **{f"key {key}": lambda key=key: key for key in ("step", "epoch", "ticked", "counts", "losses", "version")},
    **{f"key {key}": lambda key=key: ("losses", "scheduled", key) for key in ("weight", "schedule", "enabled")},
}
FACTORIES = {**ANYTHING, **VALID}

FLAG = ["True", "False"]
NAME = ["a loss", "b loss", "map loss", "failing loss", "any loss", "scheduled loss"]
QUERY = ["None", "tag", "several", *NAME]
EPOCH = ["None", "epoch 1", "epoch 3.5", "0"]
PRECISION = ["precision", "None", "negative precision", "huge precision"]
SCHEDULE = [
    "decay",
    "decay with factor",
    "curve",
    "failing curve",
    "curve failing later",
    "steps",
    "unknown curve",
    "label",
    "parts",
    "no end",
]
SPEC = ["objective", "objective of two", "missing objective", "objective of pix2pix", "spec", "failing spec", "None"]
SPEC += ["formula", "no formula"]
OBJECTIVE = {
    "weights": ["weights"],
    "schedules": ["schedules"],
    "options": ["options", "bad options", "deeper options"],
}
OBJECTIVE |= {"prefix": ["prefix"], "rename_inputs": ["renamed inputs", "inputs renamed for one"]}
CALLED = {**OBJECTIVE, "subspec": ["text"]}
KWARGS = ["None", "weight_kwargs", "function_kwargs", "bad weight_kwargs", "bad kwargs"]
INPUTS = ["inputs", "lazy inputs", "odd inputs", "sparse inputs"]
CONFIG = ["None", "config", "bad config", "deep config", "zero config"]
XY = ["x", "y"]

# A query may be a generator, which may raise.
TYPES = (TypeError, ValueError, OwnError)
ASKED = (errors.UnknownLossError, TypeError, OwnError)
COMPUTED = (
    NectarganError,
    OwnError,
    TypeError,
    ValueError,
    errors.UnknownLossError,
    errors.ScheduleError,
    errors.LossResultError,
)
COMPUTED += (errors.NonFiniteLossError, errors.MissingInputError)
FLUSHED = (errors.NonFiniteLossError,)
RECORDED = (TypeError, ValueError, errors.DuplicateLossError, NectarganError, *FLUSHED)
BUILT = (pydantic.ValidationError, errors.SpecError, errors.SpecSyntaxError, errors.PluginError, TypeError)
BUILT += (
    NectarganError,
    ValueError,
    errors.ConfigError,
    errors.UnknownVariantError,
    errors.DuplicateLossError,
    errors.UnknownLossError,
    errors.ScheduleError,
)
LOADED = (ValueError, errors.ScheduleError, errors.PluginError, pydantic.ValidationError)
MADE = (errors.ConfigError, errors.LossLogError, errors.PluginError, errors.SpecSyntaxError, *TYPES)


def call(positional, optional, allowed):
    """Describe a method: what is usual for its arguments, and what it may raise."""
    return positional, optional, allowed


STATE = ["None", "key step", "key epoch", "key ticked", "key counts", "key losses", "key version"]
STATE += ["key weight", "key schedule", "key enabled"]

METHODS = {
    "register_loss_fn": call(
        {"loss_name": ["new name", *NAME], "loss_fn": ["other function", "nn.Module"]},
        {
            "loss_weight": ["weight", "weight 0", "None"],
            "schedule": SCHEDULE,
            "tags": ["tags"],
            "inputs": ["input names", "input mapping"],
            "skip_when_zero": FLAG,
        },
        (
            errors.DuplicateLossError,
            errors.UnknownScheduleError,
            errors.ScheduleError,
            errors.PluginError,
            pydantic.ValidationError,
            TypeError,
            ValueError,
            NectarganError,
        ),
    ),
    "init_from_spec": call({"spec": SPEC}, CALLED, (*BUILT, *FLUSHED)),
    "register_spec": call({"spec": SPEC}, CALLED, BUILT),
    "set_weight": call({"query": QUERY, "weight": ["weight", "weight 0"]}, {}, (*ASKED, pydantic.ValidationError)),
    "set_schedule": call(
        {"query": QUERY, "schedule": SCHEDULE},
        {},
        (*ASKED, errors.UnknownScheduleError, errors.ScheduleError, errors.PluginError),
    ),
    "unregister": call({"query": QUERY}, {}, (*ASKED, *FLUSHED, NectarganError)),
    "disable": call({"query": QUERY}, {}, ASKED),
    "enable": call({"query": QUERY}, {}, ASKED),
    "tick": call({}, {"epoch": EPOCH, "step": ["step 5", "step 2**62", "last step", "None"]}, (*TYPES, *FLUSHED)),
    "compute_loss_xy": call({"loss_name": NAME, "x": XY, "y": XY}, {"epoch": EPOCH, "loss_kwargs": KWARGS}, COMPUTED),
    "compute_loss_xyz": call(
        {"loss_name": NAME, "x": XY, "y": XY, "z": XY}, {"epoch": EPOCH, "loss_kwargs": KWARGS}, COMPUTED
    ),
    "compute_loss": call(
        {"name": NAME, "*": XY}, {"epoch": EPOCH, "weight_kwargs": ["params"], "function_kwargs": ["params"]}, COMPUTED
    ),
    "compute_losses": call({"inputs": INPUTS}, {"query": QUERY, "epoch": EPOCH}, COMPUTED),
    "record": call(
        {"name": ["scalar name"], "value": ["weight", "x"]},
        {},
        RECORDED,
    ),
    "get_registered_losses": call({}, {"query": QUERY, "strip": FLAG}, TYPES),
    "get_loss_values": call({}, {"query": QUERY, "precision": PRECISION}, TYPES),
    "get_loss_tensors": call({}, {"query": QUERY}, TYPES),
    "get_loss_weights": call({}, {"query": QUERY, "precision": PRECISION}, TYPES),
    "print_losses": call({"epoch": EPOCH[1:], "iter": ["step 5"]}, {"precision": PRECISION, "capture": FLAG}, TYPES),
    "print_weights": call({}, {"precision": PRECISION, "capture": FLAG}, TYPES),
    "latest": call({}, {"query": QUERY}, TYPES),
    "means": call({}, {"query": QUERY}, (*TYPES, NectarganError)),
    "series": call({"name": [*NAME, "scalar name"]}, {}, ASKED),
    "update_loss_log": call({}, {"silent": FLAG, "capture": FLAG}, (*TYPES, *FLUSHED)),
    "modules": call({}, {}, ()),
    "state_dict": call({}, {}, (*FLUSHED, errors.ScheduleError)),
    "load_state_dict": call({"changed": STATE}, {"to": ["None", "0", "dict"], "weights": ["saved", "current"]}, LOADED),
    "split": call({"name": ["split"]}, {}, TYPES),
    "paused": call({}, {}, ()),
}

FUNCTIONS = {
    "LossManager": (
        LossManager,
        call(
            {},
            {
                "config": CONFIG,
                "experiment_dir": ["text", "Path", "NUL", "surrogate", "None"],
                "enable_logging": ["None", *FLAG],
                "history_buffer_size": ["buffer"],
                "device": ["cpu", "meta device", "None"],
                "resume": FLAG,
                "metadata": ["metadata", "odd metadata", "None"],
                "nonfinite": ["warn", "raise", "ignore"],
                "flush_every": ["seconds"],
                "fsync": FLAG,
                "observers": ["observers", "wrong observers", "observer class"],
                "total_epochs": ["seconds", "None"],
                "total_steps": ["buffer", "None"],
            },
            (*MADE, OwnError),
        ),
    ),
    "from_spec": (
        LossManager.from_spec,
        call({"spec": SPEC}, {"config": CONFIG, "device": ["cpu"], **OBJECTIVE}, (*MADE, *BUILT, OwnError)),
    ),
    "Schedule": (
        Schedule,
        call(
            {},
            {
                "schedule": ["other function", "text"],
                "unit": ["text"],
                "start": ["epoch 1", "0"],
                "end": ["step 5", "None"],
                "initial_value": ["weight"],
                "target_value": ["weight"],
                "params": ["params"],
                "factor": ["weight"],
            },
            (pydantic.ValidationError,),
        ),
    ),
    "LMLoss": (
        LMLoss,
        call(
            {"name": ["new name"], "function": ["other function"]},
            {
                "loss_weight": ["weight"],
                "schedule": SCHEDULE,
                "tags": ["tags"],
                "inputs": ["input names", "input mapping"],
                "skip_when_zero": FLAG,
                "as_is": ["input names"],
            },
            (pydantic.ValidationError, errors.ScheduleError, OwnError),
        ),
    ),
    "Config": (Config.model_validate, call({"obj": CONFIG}, {}, (pydantic.ValidationError,))),
    "ConfigManager": (ConfigManager, call({"config": CONFIG}, {}, (errors.ConfigError,))),
    "LossLog": (LossLog, call({"path": ["Path"]}, {}, (errors.LossLogError, TypeError))),
    "Scheduler": (
        Scheduler,
        call({"schedule": SCHEDULE}, {"loss_name": NAME}, (errors.ScheduleError, errors.PluginError, *TYPES)),
    ),
    "preview": (
        preview,
        call(
            {"schedule": SCHEDULE, "epochs": ["step 5"]},
            {},
            (errors.ScheduleError, errors.PluginError, TypeError, ValueError, OwnError),
        ),
    ),
    "catalog.find": (
        catalog.find,
        call({"group": ["text"], "name": ["objective"]}, {"provider": ["text", "None"]}, (errors.PluginError, *TYPES)),
    ),
    "catalog.taken": (catalog.taken, call({"group": ["text"], "name": ["objective"]}, {}, TYPES)),
    "catalog.configure": (
        catalog.configure,
        call({}, {"plugins": ["None"], "block": ["None"], "providers": ["None"]}, (errors.ConfigError, *TYPES)),
    ),
}


def arguments(positional, optional):
    """Draw arguments: the usual ones more often than not, otherwise anything."""

    def values(usual):
        return st.sampled_from(usual) | st.sampled_from(usual) | st.sampled_from(HOSTILE)

    needed = {name: values(usual) for name, usual in positional.items()}
    return st.fixed_dictionaries(needed, optional={name: values(usual) for name, usual in optional.items()})


def calls(table):
    """Draw the name of a method, and its arguments."""
    drawn = [
        st.tuples(st.just(name), arguments(positional, optional)) for name, (positional, optional, *_) in table.items()
    ]
    return st.one_of(drawn)


# What may happen


def lines_of(error):
    """Go through the lines of our package that an error came through; empty ones stand for those of others."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        place = trace.tb_frame.f_code.co_filename
        line = linecache.getline(place, trace.tb_lineno).strip() if place.startswith(PACKAGE) else ""
        yield line
        trace = trace.tb_next


def problem_of(error, allowed):
    """Say what is wrong with an error; None if it is documented, and ours."""
    lines = list(lines_of(error))
    if any("self.called(" in line or line in ("raw = function(*given)", "return value()") for line in lines):
        return None  # It comes out of the function of a loss, or a lazy input.
    if NectarganError in allowed and type(error) is NectarganError:
        return None
    if isinstance(error, tuple(kind for kind in allowed if kind is not NectarganError)):
        ours = (NectarganError, OwnError, pydantic.ValidationError)
        if isinstance(error, ours) or lines[-1].startswith("raise "):
            return None
    return f"undocumented {type(error).__name__}: {one_line(error)[:200]}"


def nothing(_):
    return torch.tensor(1.0)


def prepared(nonfinite="ignore", **keywords):
    """Return a manager with losses of every kind, in the middle of a run."""
    manager = LossManager(enable_logging=True, nonfinite=nonfinite, observers=[Quiet()], **keywords)
    manager.register_loss_fn("a", own_result, 3.0, tags=["G"])
    manager.register_loss_fn("b", own_result, 0.0, tags=["G"])
    manager.register_loss_fn("map", lambda x, y: own_result(x).expand(2) * 1, tags=["M"])
    manager.register_loss_fn("parts", lambda x, y: {"first": own_result(x), "second": y}, tags=["G"])
    manager.register_loss_fn("fails", failing, tags=["F"])
    manager.register_loss_fn("any", lambda value: value, tags=["A"], inputs=("any",))
    manager.register_loss_fn("scheduled", Module(), 2.0, Schedule(curve, end=10, target_value=0.0), tags=["G"])
    for epoch in range(2):
        manager.tick(epoch=epoch)
        manager.compute_losses({"y_fake": torch.ones(2), "y": torch.ones(2)}, query="G")
    manager.record("psnr", 1.5)
    return manager


def state_of(manager):
    """Return everything that a call which fails must leave as it was."""
    recorder, registry = manager._recorder, manager._registry
    losses = {
        name: (
            id(bound),
            repr(bound.loss.loss_weight),
            bound.loss.schedule.model_dump_json() if bound.loss.schedule.is_scheduled else None,
            bound._enabled,
            bound.series.name,
            repr(bound.last_value()),
            repr(bound.last_tensor()),
        )
        for name, bound in registry.losses.items()
    }
    series = {name: (one.count, bytes(one.rows), one._window) for name, one in recorder.series.items()}
    clock = recorder.step, repr(recorder.epoch), recorder.ticked, recorder.prefix, recorder.closed
    plugins = [name for name, _ in manager.hooks.list_name_plugin()]
    return losses, series, clock, list(recorder.scalars), manager.objective, plugins, dict(recorder._counts)


def load_changed(manager, saved, changed=None, to=None, **keywords):
    """Load the state of a manager with another value somewhere in it, or whatever is given in its place."""
    state = changed
    if changed is None or type(changed) in (str, tuple):
        state = copy.deepcopy(saved)
        path = (changed,) if isinstance(changed, str) else changed or ()
        place = state
        for key in path[:-1]:
            place = place[key] if isinstance(place, dict) and key in place else {}
        if path:
            place[path[-1]] = to
    manager.load_state_dict(state, **keywords)


def attempt(function, arguments):
    """Call a function, with what `*` stands for as its inputs; return the error that it raised, if any."""
    given = {name: FACTORIES[factory]() for name, factory in arguments.items()}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            several = [given.pop("name")] + [given.pop("*")] * 2 if "*" in given else []
            result = function(*several, **given)
            if isinstance(result, contextlib.AbstractContextManager) and not isinstance(result, LossManager):
                with result:
                    pass
        except Exception as error:  # noqa: BLE001 # any error is looked at
            return error
    return None


def problems_in(manager, done):
    """Go through calls of methods, and yield what is wrong with each."""
    for name, drawn in done:
        method = getattr(manager, name)
        if name == "load_state_dict":
            try:
                method = functools.partial(load_changed, manager, manager.state_dict())
            except (errors.ScheduleError, errors.NonFiniteLossError):
                continue  # There is no state to change: a schedule has no value now, or a loss is nan.
        before = state_of(manager)
        error = attempt(method, drawn)
        if error is None:
            continue
        problem = problem_of(error, METHODS[name][2])
        if problem:
            yield f"{name}({drawn}): {problem}", error
        elif state_of(manager) != before and not isinstance(error, errors.NonFiniteLossError):
            yield f"{name}({drawn}) changed the manager and raised {error!r}", error


ONCE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


SCOPES = ["", "", "", "", "split", "split in split", "paused", "closed", "log"]


@contextlib.contextmanager
def in_scope(scope, nonfinite):
    """Give a manager in the middle of a run, inside of a split or pause, closed, or with a log."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if scope == "log":
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            manager = stack.enter_context(prepared(nonfinite, experiment_dir=directory))
        else:
            manager = prepared(nonfinite)
        if scope.startswith("split"):
            stack.enter_context(manager.split("val"))
        if scope == "split in split":
            stack.enter_context(manager.split("inner"))
        if scope == "paused":
            stack.enter_context(manager.paused())
        if scope == "closed":
            manager.close()
        yield manager


@pytest.mark.slow
@settings(ONCE, max_examples=CALLS // CALLS_A_RUN)
@given(
    st.lists(calls(METHODS), min_size=CALLS_A_RUN, max_size=CALLS_A_RUN),
    st.sampled_from(SCOPES),
    st.sampled_from(["ignore", "warn", "raise"]),
)
def test_a_method_of_a_manager_returns_or_raises_what_is_documented_and_changes_nothing(done, scope, nonfinite):
    with in_scope(scope, nonfinite) as manager:
        found = next(problems_in(manager, done), None)
    assert found is None, found[0]


@pytest.mark.filterwarnings(
    "ignore:Sparse CSR tensor support", "ignore:torch.quantize_per_tensor", "ignore:.*nested tensors"
)
@pytest.mark.slow
@settings(ONCE, max_examples=CALLS // 8)
@given(calls({name: described for name, (_, described) in FUNCTIONS.items()}))
def test_what_is_made_is_made_or_refused_with_what_is_documented(drawn):
    name, given = drawn
    function, described = FUNCTIONS[name]
    error = attempt(function, given)
    catalog.configure(plugins=None, block=None, providers=None)
    if error is not None:
        problem = problem_of(error, described[2])
        assert problem is None, f"{name}({given}): {problem}"
