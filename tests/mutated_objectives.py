"""Loads and builds files of objectives that were changed at random, in a process that notes what it should not do.

    python tests/mutated_objectives.py DIRECTORY SEED COUNT

prints a JSON list of what was wrong: an exception that is none of the project's, an import, a program that was started,
code of a file that was compiled, a file that was written, or one that was read because of its name.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import traceback
import warnings
from pathlib import Path

import tomli_w

from nectargan_core import LossManager, Objective, Schedule, Weighting, catalog, errors

WRITTEN = [
    """
total_epochs = 20
[[terms]]
formula = "gan:hinge + 100*l1 + focal"
prefix = "a_"
rename_inputs = { y = "y_sharp", a_G_L1 = { y_fake = "x" } }
options = { focal = { gamma = 1.5, class_weights = [1.0, 2.0] } }
[[terms]]
formula = "ssim"
without = []
[losses.a_G_L1]
schedule = { schedule = "cosine", unit = "fraction", start = 0.5, end = 1.0, target_value = 0.0 }
[losses.G_SSIM]
weight = 10.0
enabled = false
[options.ssim]
window_size = 7
input_range = [0.0, 1.0]
[weightings.G]
weighting = "relobralo"
params = { temperature = 0.1 }
losses = ["a_G_L1", "a_G_GAN"]
[[extra]]
name = "G_HUBER"
function = "torch.nn:HuberLoss"
arguments = { delta = 0.5 }
weight = 5.0
tags = ["G"]
[[extra]]
name = "G_CE"
function = "torch.nn:CrossEntropyLoss"
arguments = { weight = [1.0, 2.0], label_smoothing = 0.1 }
inputs = { input = "logits", target = "labels" }
schedule = { schedule = "product", end = 5, params = { factors = [{ schedule = "step", params = { every = 2 } }] } }
""",
    """
formula = "pix2pix:extended + 10*charbonnier:masked"
total_steps = 1000
[losses.G_L1]
weight = 50
schedule = { schedule = "polynomial", unit = "step", start_epoch = 10, end_epoch = 20, params = { power = 2 } }
[weightings.G_L1]
weighting = "random"
[options."charbonnier:masked"]
epsilon = 1e-6
""",
]
KEYS = [
    "formula", "prefix", "rename_inputs", "options", "without", "function", "unwritten", "losses", "weight", "schedule",
    "enabled", "arguments", "unknown", "tags", "inputs", "version", "provider", "term", "weighting", "params", "every",
    "wrt", "reduce", "extra", "name", "skip_when_zero", "providers", "versions", "weight_files", "fingerprint", "unit",
    "start", "start_epoch", "end", "end_epoch", "initial_value", "target_value", "factor", "left_out", "current_value",
    "total_epochs", "total_steps", "terms", "weightings", "", "G_L1", "a.b", "__class__", "delta", "subspec", "config",
]  # fmt: skip
VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    7,
    10**6,
    2**63,
    10**400,
    -0.0,
    0.5,
    1e308,
    5e-324,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "G_L1",
    "l1",
    "gan:hinge",
    "l1 + l1",
    "1e400*l1",
    "-1*l1",
    "torch.nn:L1Loss",
    "torch.nn:Module",
    "torch.nn:functional",
    "mean",
    "torch.nn:NLLLoss",
    "canary:fire",
    "canary",
    "os:system",
    "builtins:eval",
    "cosine",
    "linear",
    "relobralo",
    "gradnorm",
    "acme/x",
    "../../canary",
    "\u2028",
    "\x00",
    "\\",
    '"',
    "名前",
    "\ud800",
    [],
    {},
    [1, 2],
    [None],
    [[]],
    ["G"],
    {"a": 1},
    {"schedule": "linear"},
    {"schedule": "canary:fire"},
    {"schedule": {"schedule": 3}},
    {"formula": "l1"},
    {"function": "canary:fire"},
]
ALLOWED = ("torch", "nectargan", "numpy", "encodings", "pydantic")


def records():
    """Return records of managers, as data."""
    schedules = {"G_L1": Schedule("cosine", unit="fraction", start=0.5, end=1.0, target_value=0.0)}
    first = LossManager.from_spec("pix2pix:extended + 3*focal", schedules=schedules, total_epochs=20)
    first.register_spec("gan:lsgan", prefix="b_", options={"gan": {"label_smoothing": 0.1}})
    first.set_weighting(Weighting("relobralo", params={"temperature": 0.1}), "G")
    first.unregister("b_D_fake")
    second = LossManager.from_spec(Objective(extra=[{"name": "A", "function": "torch.nn:HuberLoss", "weight": 2}]))
    second.register_loss_fn("B", lambda x, y: (x - y).mean())
    return [first.manifest().to_dict(), second.manifest().to_dict()]


def nodes(value, path=()):
    """Return each place in some data."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from nodes(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changed_data(data, chance):
    data = copy.deepcopy(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        places = [path for path in nodes(data) if path]
        if not places:
            break
        *inside, key = chance.choice(places)
        parent = at(data, inside)
        kind = chance.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1:
            parent[key] = copy.deepcopy(chance.choice(VALUES))
        elif kind == 2:
            parent[key] = copy.deepcopy(at(data, chance.choice(places)))
        elif kind == 3 and isinstance(parent, dict):
            parent[chance.choice(KEYS)] = parent.pop(key)
        elif kind == 4 and isinstance(parent, dict):
            parent[chance.choice(KEYS)] = copy.deepcopy(chance.choice([*VALUES, at(data, chance.choice(places))]))
        elif isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
    return data


def changed_bytes(text, chance):
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 1, 1, 2, 10, 50]))
        new = chance.choice(
            [
                b"",
                bytes([chance.randrange(256)]),
                chance.choice(
                    [b"=", b'"', b"'", b"[", b"]", b"{", b"}", b",", b".", b"\n", b"#", b"-", b"e", b"9", b"\\u"]
                ),
                chance.choice(KEYS).encode(),
                str(chance.choice(VALUES)).encode(errors="replace"),
                text[start:end] * 2,
            ]
        )
        text = text[:start] + new + text[end:]
    return text


def written(data, suffix):
    """Return data as a file; as JSON also what no file of the project holds."""
    if suffix == ".toml":
        try:
            return tomli_w.dumps(data).encode()
        except (TypeError, ValueError, AttributeError):
            return json.dumps(data).encode()
    return json.dumps(data).encode()


def mutants(seed, count):
    """Return changed files: their suffix and what is in them."""
    chance = random.Random(seed)
    sources = [*map(tomllib_loads, WRITTEN), *records()]
    for _ in range(count):
        data, suffix = chance.choice(sources), chance.choice([".toml", ".json"])
        kind = chance.randrange(3)
        if kind:
            data = changed_data(data, chance)
        text = written(data, suffix)
        yield suffix, changed_bytes(text, chance) if kind != 1 else text


def tomllib_loads(text):
    path = Path(sys.argv[1], "source.toml")
    path.write_text(text, encoding="utf-8")
    return Objective.load(path).to_dict()


def main(directory, seed, count):
    """Load and build the files, and return what was wrong."""
    found = []
    for group in (catalog.SPECS, catalog.SCHEDULES, catalog.WEIGHTINGS):
        for entry in catalog.plugins(group):
            entry.plugin.load()
    files = list(mutants(seed, count))
    paths = {suffix: Path(directory, f"objective{suffix}") for suffix in (".toml", ".json")}
    sources, watching = set(), [False]

    def watch(event, arguments):
        if event == "compile":
            source = arguments[0] if isinstance(arguments[0], (str, bytes)) else None
            if not watching[0]:
                sources.add(source)
            elif source is not None and source not in sources and "canary" in str(source):
                found.append(f"compiled {source!r}")
        elif not watching[0]:
            return
        elif event == "import" and not arguments[0].startswith(ALLOWED):
            found.append(f"imported {arguments[0]}")
        elif event in (
            "os.system",
            "subprocess.Popen",
            "os.exec",
            "os.fork",
            "os.posix_spawn",
            "os.remove",
            "os.rename",
        ):
            found.append(f"{event} {arguments}")
        elif event == "open" and (
            "canary" in str(arguments[0])
            or set(arguments[1] or "r") - set("rbt")
            or arguments[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            found.append(f"opened {arguments}")

    sys.addaudithook(watch)
    warnings.simplefilter("ignore")
    for suffix, text in files:
        paths[suffix].write_bytes(text)
        watching[0] = True
        before = len(found)
        try:
            LossManager.from_spec(paths[suffix], strict=seed % 2 == 1)
        except errors.NectarganError as error:
            if len(str(error)) > 6000:
                found.append(f"an error of {len(str(error))} characters")
        except BaseException:  # noqa: BLE001 # each is what is looked for
            found.append(traceback.format_exc()[-1500:])
        watching[0] = False
        for number in range(before, len(found)):
            found[number] += f"\nin {suffix}: {text.decode(errors='replace')[:3000]}"
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
