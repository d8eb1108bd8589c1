"""Files that are no objective: an error names file, key and what to do, and nothing is changed or imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nectargan_core import LossManager, Objective, Schedule
from nectargan_core.errors import (
    DuplicateLossError,
    LossLogError,
    NectarganError,
    ObjectiveError,
    PluginNotFoundError,
    ScheduleError,
    SpecError,
    SpecSyntaxError,
    UnknownLossError,
    UnknownScheduleError,
    UnknownVariantError,
    WeightingError,
)

FORMULA = 'formula = "l1 + gan:hinge"\n'
LOSS = FORMULA + "[losses.G_L1]\n"
SCHEDULE = LOSS + "schedule = "
GAN = FORMULA + "[options.gan]\n"
WEIGHTING = FORMULA + "[weightings.G]\n"
EXTRA = '[[extra]]\nname = "A"\n'
HUBER = EXTRA + 'function = "torch.nn:HuberLoss"\n'
CE = EXTRA + 'function = "torch.nn:CrossEntropyLoss"\n'

# What is in a file, the kind of the error, the key that it names, and what it says.
WRONG = [
    # Keys that are not there, at every level
    (
        'formul = "l1"',
        ObjectiveError,
        "formul",
        r"there are formula, prefix.*remove it, or correct it. Did you mean \"formula\"\?",
    ),
    ('terms = [{formula = "l1", prefx = "a"}]', ObjectiveError, "terms[0].prefx", 'Did you mean "prefix"'),
    (LOSS + "weigth = 1.0", ObjectiveError, "losses.G_L1.weigth", 'Did you mean "weight"'),
    (SCHEDULE + '{schedule = "cosine", endd = 2}', ObjectiveError, "losses.G_L1.schedule.endd", 'Did you mean "end"'),
    (WEIGHTING + 'weighting = "random"\nwtr = "y"', ObjectiveError, "weightings.G.wtr", 'Did you mean "wrt"'),
    (HUBER + "wieght = 3", ObjectiveError, "extra[0].wieght", 'Did you mean "weight"'),
    (HUBER + 'formula = "l1"', ObjectiveError, "extra[0].formula", "there are name, function"),
    # Values of another type, at every key
    ("formula = 3", ObjectiveError, "formula", "expected text, got 3; correct it"),
    ('formula = ["l1"]', ObjectiveError, "formula", "expected text"),
    (FORMULA + 'total_epochs = "3"', ObjectiveError, "total_epochs", "a finite number above 0, got '3'"),
    (FORMULA + "total_epochs = 0", ObjectiveError, "total_epochs", "a finite number above 0, got 0"),
    (FORMULA + "total_epochs = inf", ObjectiveError, "total_epochs", "a finite number above 0, got inf"),
    (FORMULA + "total_epochs = true", ObjectiveError, "total_epochs", "a finite number above 0, got True"),
    (FORMULA + "total_steps = 2.5", ObjectiveError, "total_steps", "expected a whole number, got 2.5"),
    (FORMULA + "total_steps = 0", ObjectiveError, "total_steps", "greater than or equal to 1, got 0"),
    ('terms = {formula = "l1"}', ObjectiveError, "terms", "expected a list"),
    ('terms = ["l1"]', ObjectiveError, "terms[0]", "expected a table of keys and values, got 'l1'"),
    ('terms = [{formula = "l1", prefix = 3}]', ObjectiveError, "terms[0].prefix", "expected text, got 3"),
    (FORMULA + "prefix = 3", ObjectiveError, "prefix", "expected text, got 3"),
    (FORMULA + 'prefix = "a/b"', ObjectiveError, "prefix", "may not contain '/'"),
    (FORMULA + 'rename_inputs = "y"', ObjectiveError, "rename_inputs", "expected a table"),
    (FORMULA + "rename_inputs = {y = 3}", ObjectiveError, "rename_inputs.y", "expected text, got 3"),
    (FORMULA + "rename_inputs = {y = {z = 3}}", ObjectiveError, "rename_inputs.y.z", "expected text, got 3"),
    (FORMULA + 'without = "G_L1"', ObjectiveError, "without", "expected a list"),
    (FORMULA + "without = [3]", ObjectiveError, "without[0]", "expected text"),
    (FORMULA + "[losses]\nG_L1 = 3", ObjectiveError, "losses.G_L1", "expected a table"),
    (FORMULA + '[losses."a.b"]\nweight = "1"', ObjectiveError, 'losses."a.b".weight', "expected a number"),
    (LOSS + 'weight = "1"', ObjectiveError, "losses.G_L1.weight", "expected a number, got '1'"),
    (LOSS + "weight = true", ObjectiveError, "losses.G_L1.weight", "expected a number, got True"),
    (LOSS + "weight = nan", ObjectiveError, "losses.G_L1.weight", "expected a finite number, got nan"),
    (LOSS + "weight = -inf", ObjectiveError, "losses.G_L1.weight", "expected a finite number, got -inf"),
    (LOSS + "weight = " + "9" * 400, ObjectiveError, "losses.G_L1.weight", "expected a number"),
    (LOSS + "enabled = 1", ObjectiveError, "losses.G_L1.enabled", "expected true or false, got 1"),
    (SCHEDULE + '"cosine"', ObjectiveError, "losses.G_L1.schedule", "expected a table"),
    (SCHEDULE + "{schedule = 3}", ObjectiveError, "losses.G_L1.schedule.schedule", "expected text, got 3"),
    (
        SCHEDULE + '{schedule = "cosine", end = "2"}',
        ObjectiveError,
        "losses.G_L1.schedule",
        "end must be a number, got '2'",
    ),
    (
        SCHEDULE + '{schedule = "cosine", end = 2, factor = true}',
        ObjectiveError,
        "losses.G_L1.schedule",
        "factor must be a",
    ),
    (
        SCHEDULE + '{schedule = "cosine", end = 2, target_value = nan}',
        ObjectiveError,
        "losses.G_L1.schedule.target_value",
        "finite",
    ),
    (SCHEDULE + '{schedule = "cosine", params = 3}', ObjectiveError, "losses.G_L1.schedule.params", "expected a table"),
    (FORMULA + "[options]\nl1 = 3", ObjectiveError, "options.l1", "expected a table"),
    (GAN + 'label_smoothing = "a"', SpecError, "options.gan.label_smoothing", "expected float, got 'a'"),
    (
        GAN + "label_smoothing = nan",
        ObjectiveError,
        "options",
        "gan.label_smoothing may hold finite numbers only, got nan",
    ),
    (
        GAN + "label_smoothing = 2020-01-01",
        ObjectiveError,
        "options",
        r"gan.label_smoothing may hold .*, got datetime.date",
    ),
    (GAN + "detach_mean = 1", SpecError, "options.gan.detach_mean", "expected bool, got 1"),
    (GAN + 'over_discriminators = "mea"', SpecError, "options.gan.over_discriminators", "'mean' or 'sum'"),
    (
        'formula = "ssim"\n[options.ssim]\ninput_range = [0, 1, 2]',
        SpecError,
        "options.ssim.input_range",
        r"expected tuple\[float, float\]",
    ),
    (
        'formula = "focal"\n[options.focal]\nclass_weights = [1.0, "a"]',
        SpecError,
        "options.focal.class_weights",
        "expected Sequence",
    ),
    ('[[terms]]\nformula = "gan"\noptions = 3', ObjectiveError, "terms[0].options", "expected a table"),
    (FORMULA + "[weightings]\nG = 3", ObjectiveError, "weightings.G", "expected a table"),
    (FORMULA + '[weightings.G]\nname = "dwa"', ObjectiveError, "weightings.G.weighting", "as which name is written"),
    (FORMULA + '[providers]\nnectargan-image = "9.9"', ObjectiveError, "providers", "only the record of a run"),
    (FORMULA + '[versions]\ntorch = "1.0"', ObjectiveError, "versions", "only the record of a run"),
    (FORMULA + '[weight_files]\n"a.pth" = "0"', ObjectiveError, "weight_files", "only the record of a run"),
    ('[terms]\nformula = "l1"', ObjectiveError, "terms", r"begins with \[\[terms\]\]"),
    ('[[terms]]\nformula = "l1"\ntotal_epochs = 5', ObjectiveError, "terms[0].total_epochs", "at the top of the file"),
    (FORMULA + "[schedules.G_L1]\nend = 3", ObjectiveError, "schedules", "losses.NAME.schedule"),
    (
        FORMULA + '[[extra]]\nname = "A"\nfunction = "torch.nn:L1Loss"\nweight = 2\n[losses.A]\nweight = 3',
        ObjectiveError,
        "losses.A.weight",
        "remove one of them",
    ),
    (WEIGHTING + 'weighting = "random"\nparams = [1]', ObjectiveError, "weightings.G.params", "expected a table"),
    (WEIGHTING + 'weighting = "random"\nevery = 0', ObjectiveError, "weightings.G.every", "greater than or equal to 1"),
    (
        WEIGHTING + 'weighting = "random"\nreduce = "sum"',
        ObjectiveError,
        "weightings.G.reduce",
        "should be 'mean', got 'sum'",
    ),
    (WEIGHTING + 'weighting = "random"\nwrt = 3', ObjectiveError, "weightings.G.wrt", "expected text"),
    (WEIGHTING + 'weighting = "random"\nlosses = "G_L1"', ObjectiveError, "weightings.G.losses", "expected a list"),
    ('[extra]\nname = "A"', ObjectiveError, "extra", "expected a list"),
    (HUBER + 'weight = "a"', ObjectiveError, "extra[0].weight", "expected a number"),
    (HUBER + "weight = nan", ObjectiveError, "extra[0].weight", "finite"),
    (HUBER + 'tags = "G"', ObjectiveError, "extra[0].tags", "expected a list"),
    (HUBER + "tags = [3]", ObjectiveError, "extra[0].tags[0]", "expected text"),
    (HUBER + 'inputs = "y"', ObjectiveError, "extra[0].inputs", "expected a list"),
    (HUBER + "inputs = [3]", ObjectiveError, "extra[0].inputs[0]", "expected text"),
    (HUBER + "skip_when_zero = 3", ObjectiveError, "extra[0].skip_when_zero", "expected true or false"),
    (HUBER + "arguments = [1]", ObjectiveError, "extra[0].arguments", "expected a table"),
    ("fingerprint = 3", ObjectiveError, "fingerprint", "expected text"),
    ("providers = {a = 3}", ObjectiveError, "providers.a", "expected text"),
    ("versions = 3", ObjectiveError, "versions", "expected a table"),
    ("weight_files = []", ObjectiveError, "weight_files", "expected a table"),
    # What is missing
    (EXTRA, ObjectiveError, "extra[0].function", "it is missing; add it"),
    ('[[extra]]\nfunction = "torch.nn:L1Loss"', ObjectiveError, "extra[0].name", "it is missing; add it"),
    (WEIGHTING + "every = 3", ObjectiveError, "weightings.G.weighting", "it is missing; add it"),
    ('terms = [{prefix = "a"}]', ObjectiveError, "terms[0]", "a term has a formula, such as"),
    ('without = ["G_L1"]', ObjectiveError, "", "a term has a formula, such as"),
    # What contradicts something else
    (
        FORMULA + "total_epochs = 3\ntotal_steps = 3",
        ObjectiveError,
        "",
        "total_epochs and total_steps are both given; give one",
    ),
    (
        FORMULA + 'terms = [{formula = "l2"}]',
        ObjectiveError,
        "",
        r"formula at the top, and terms, are both given; write",
    ),
    (
        SCHEDULE + '{schedule = "cosine", start = 3, end = 2}',
        ObjectiveError,
        "losses.G_L1.schedule",
        r"start_epoch \(3\) is after",
    ),
    (
        SCHEDULE + '{schedule = "cosine", start = 3, start_epoch = 3}',
        ObjectiveError,
        "losses.G_L1.schedule",
        "give one of them",
    ),
    (
        SCHEDULE + '{schedule = "cosine", end = 2, unit = "fraction"}',
        ObjectiveError,
        "losses.G_L1.schedule",
        "is not from 0 to 1",
    ),
    (
        SCHEDULE + '{schedule = "cosine", end = 1, unit = "fraction"}',
        ScheduleError,
        "losses.G_L1.schedule",
        "write total_epochs",
    ),
    (
        LOSS + 'weight = 3.0\nschedule = {schedule = "cosine", end = 2, initial_value = 2.0}',
        ScheduleError,
        "losses.G_L1.schedule",
        "give one of them",
    ),
    (WEIGHTING + 'weighting = "random"\nlosses = []', ObjectiveError, "weightings.G.losses", "it lists none"),
    (
        WEIGHTING + 'weighting = "random"\n[weightings.G_L1]\nweighting = "dwa"',
        WeightingError,
        "weightings",
        "balanced by two",
    ),
    (
        '[[terms]]\nformula = "gan"\n[[terms]]\nformula = "gan:hinge"',
        DuplicateLossError,
        "terms[1]",
        "'G_GAN' is defined twice, by 'gan'",
    ),
    ('formula = "l1 + l1"', DuplicateLossError, "formula", "'G_L1' is defined twice"),
    (
        'formula = "l1"\n[[extra]]\nname = "G_L1"\nfunction = "torch.nn:L1Loss"',
        DuplicateLossError,
        "extra[0]",
        "defined twice",
    ),
    (HUBER + HUBER, DuplicateLossError, "extra[1]", r"'A' is defined twice, by extra\[0\] and by extra\[1\]"),
    # What only a record says
    (
        LOSS + 'tags = ["a"]',
        ObjectiveError,
        "losses.G_L1",
        "tags: of the loss of a term only weight, schedule and enabled",
    ),
    (LOSS + 'inputs = ["a"]', ObjectiveError, "losses.G_L1", "its inputs by rename_inputs"),
    (LOSS + "version = 2", ObjectiveError, "losses.G_L1", "version: of the loss of a term"),
    (LOSS + 'function = "os:system"', ObjectiveError, "losses.G_L1.function", "only a record.*; remove it"),
    ('[[terms]]\nfunction = "os:system"', ObjectiveError, "terms[0].function", "write a formula"),
    ('[[terms]]\nformula = "l1"\nfunction = "os:system"', ObjectiveError, "terms[0]", "a term has a formula"),
    # Names of nothing that is there
    ('formula = "l1x"', PluginNotFoundError, "formula", 'no loss spec .l1x. is installed.*Did you mean "l1"'),
    ('formula = "os:system"', PluginNotFoundError, "formula", "no loss spec 'os' is installed"),
    ('formula = "gan:hing"', UnknownVariantError, "formula", 'Did you mean "hinge"'),
    ('formula = ""', SpecSyntaxError, "formula", "expected the name of a spec, found an empty string"),
    (
        '[[terms]]\nformula = "gan"\n[[terms]]\nformula = "l1 +"\nprefix = "a"',
        SpecSyntaxError,
        "terms[1].formula",
        "at column 4",
    ),
    (FORMULA + "[losses.G_L2]\nweight = 1.0", UnknownLossError, "losses.G_L2", "correct the name, or remove the key"),
    (FORMULA + 'without = ["G_L2"]', UnknownLossError, "without", 'Did you mean "G_L1"'),
    (FORMULA + 'rename_inputs = {q = "z"}', SpecError, "", "rename_inputs renames 'q', which no loss"),
    (
        FORMULA + 'rename_inputs = {G_L2 = {y = "z"}}',
        UnknownLossError,
        "",
        "renaming of inputs is given for loss 'G_L2'",
    ),
    (FORMULA + "[options.l2]\na = 3", SpecError, "options.l2", "which is no term of this objective; it has l1, gan"),
    (FORMULA + '[options."gan:lsgan"]\na = 3', SpecError, 'options."gan:lsgan"', "which is no term"),
    ('[[terms]]\nformula = "gan"\noptions = {l1 = {a = 3}}', SpecError, "terms[0].options.l1", "only gan"),
    (GAN + "label_smothing = 0.1", SpecError, "options.gan.label_smothing", 'Did you mean "label_smoothing"'),
    (GAN + 'subspec = "lsgan"', SpecError, "options.gan.subspec", "has no option 'subspec'"),
    (GAN + "config = {}", SpecError, "options.gan.config", "has no option 'config'"),
    ('[[terms]]\nformula = "gan"\noptions = {gan = {foo = 3}}', SpecError, "terms[0].options.gan.foo", "has no option"),
    (SCHEDULE + '{schedule = "cosin", end = 3}', UnknownScheduleError, "losses.G_L1.schedule", 'Did you mean "cosine"'),
    (SCHEDULE + '{schedule = "a b"}', ScheduleError, "losses.G_L1.schedule", "named by one name"),
    (SCHEDULE + '{schedule = "cosine"}', ScheduleError, "losses.G_L1.schedule", "set end_epoch"),
    (
        SCHEDULE + '{schedule = "cosine", unit = "frac"}',
        ObjectiveError,
        "losses.G_L1.schedule.unit",
        "'step' or 'fraction'",
    ),
    (
        SCHEDULE + '{schedule = "polynomial", end = 2, params = {powr = 2}}',
        ScheduleError,
        "losses.G_L1.schedule",
        "it takes",
    ),
    (
        SCHEDULE + '{schedule = "product", end = 2, params = {factors = [{schedule = "cosin"}]}}',
        UnknownScheduleError,
        "losses.G_L1.schedule",
        "cosin",
    ),
    (
        SCHEDULE + '{schedule = "product", params = {factors = [{schedule = "cosine", foo = 3}]}}',
        ObjectiveError,
        "losses.G_L1.schedule.params",
        "foo",
    ),
    (
        SCHEDULE + '{schedule = "product", params = {factors = [{schedule = "cosine", end = "3"}]}}',
        ObjectiveError,
        "losses.G_L1.schedule",
        "end must be a number",
    ),
    (
        FORMULA + '[weightings.Q]\nweighting = "random"',
        UnknownLossError,
        "weightings.Q",
        "there are G_L1, G_GAN, D_real, D_fake, D, G",
    ),
    (WEIGHTING + 'weighting = "random"\nlosses = ["G_L2"]', UnknownLossError, "weightings.G", 'Did you mean "G_L1"'),
    (
        WEIGHTING + 'weighting = "random"\nlosses = ["G_L1", "G"]',
        UnknownLossError,
        "weightings.G",
        "the name of no loss",
    ),
    (WEIGHTING + 'weighting = "relobral"', PluginNotFoundError, "weightings.G", 'Did you mean "relobralo"'),
    (
        WEIGHTING + 'weighting = "relobralo"\nparams = {temp = 1}',
        WeightingError,
        "weightings.G",
        "it takes alpha, temperature",
    ),
    (
        WEIGHTING + 'weighting = "relobralo"\nparams = {temperature = "a"}',
        WeightingError,
        "weightings.G",
        "a finite number",
    ),
    (WEIGHTING + 'weighting = "gradnorm"', WeightingError, "weightings.G", "give wrt="),
    # Functions and classes by a label
    (SCHEDULE + '{schedule = "os:system", end = 2}', ScheduleError, "losses.G_L1.schedule", "publish it as a plugin"),
    (
        SCHEDULE + '{schedule = "product", end = 2, params = {factors = [{schedule = "os:system"}]}}',
        ScheduleError,
        "losses.G_L1.schedule",
        "publish",
    ),
    (WEIGHTING + 'weighting = "os:system"', WeightingError, "weightings.G", "publish it as a plugin"),
    (
        HUBER + 'schedule = {schedule = "os:system", end = 3}',
        ScheduleError,
        "extra[0].schedule",
        "publish it as a plugin",
    ),
    # Extra losses that torch.nn does not make
    (HUBER + "arguments = {delt = 1.0}", ObjectiveError, "extra[0].arguments.delt", 'Did you mean "delta"'),
    (
        HUBER + 'arguments = {delta = "a"}',
        ObjectiveError,
        "extra[0].arguments",
        "delta must be of type float, got 'a'; correct",
    ),
    (
        HUBER + 'arguments = {reduction = "foo"}',
        ObjectiveError,
        "extra[0].arguments",
        "'none' or 'mean' or 'sum', got 'foo'",
    ),
    (
        CE + "arguments = {weight = [[1.0], [2.0, 3.0]]}",
        ObjectiveError,
        "extra[0].arguments",
        "expected sequence of length 1",
    ),
    (CE + 'arguments = {weight = "a"}', ObjectiveError, "extra[0].arguments", "cannot be made with"),
    (CE + "arguments = {ignore_index = 1.5}", ObjectiveError, "extra[0].arguments", "ignore_index must be of type int"),
    (HUBER + "inputs = []", ObjectiveError, "extra[0].inputs", "is called with input, target"),
    (HUBER + 'inputs = {nope = "x", target = "y"}', ObjectiveError, "extra[0].inputs", "name one for each"),
    (HUBER + 'schedule = {schedule = "cosin"}', UnknownScheduleError, "extra[0].schedule", "cosine"),
    ('[[extra]]\nname = "a/b"\nfunction = "torch.nn:L1Loss"', ObjectiveError, "extra[0].name", "may not contain '/'"),
    *(
        (
            EXTRA + f'function = "{function}"',
            ObjectiveError,
            "extra[0].function",
            "a class of torch.nn|no class|is not empty",
        )
        for function in (
            "os:system",
            "builtins:eval",
            "torch.nn.functional:l1_loss",
            "torch.nn:init.foo",
            "torch.nn:Module.x",
            "torch.nn:functional",
            "torch.nn:init",
            "torch.nn:L1Los",
            "torch.nn:Module",
            "torch.nn:Sequential2",
            "torch.nn:__class__",
            "torch.nn:Parameter",
            "torch.nn:ModuleDict",
            "torch.nn:Any",
            "torch.nn: L1Loss",
            "torch.nn:L1Loss()",
            "torch.nn:\\uff2c1Loss",
            "torch.nn",
            "torch.nn:",
            ":L1Loss",
            "L1Loss",
            "torch.nn.L1Loss",
            "",
            "torch.nn:L1Loss:x",
            "torch:nn.L1Loss",
            "torch.nn:factory_kwargs",
        )
    ),
    # No TOML
    ("x = ", ObjectiveError, "", r"is no TOML: Invalid value .*; correct it there"),
    ('formula = "l1"\nformula = "l2"', ObjectiveError, "", "is no TOML: Cannot overwrite a value"),
    ("[a]\n[a]", ObjectiveError, "", r"is no TOML: Cannot declare .* twice \(at line 2"),
    ('"unterminated', ObjectiveError, "", "is no TOML: Unterminated string"),
    ('formula = "l1"\0', ObjectiveError, "", "is no TOML"),
    ("x = " + "[" * 10_000, ObjectiveError, "", "nested too deeply"),
    ("total_epochs = " + "9" * 5000, ObjectiveError, "", "is no TOML: a number in it has too many digits"),
    (b"\xff\xfe", ObjectiveError, "", r"is not text in UTF-8 \(byte 0\); save it as UTF-8"),
    (b"\xef\xbb\xbfformula = 3", ObjectiveError, "formula", "expected text"),
    ('formula = "l1"'.encode("utf-16"), ObjectiveError, "", "is not text in UTF-8"),
]

WRONG_JSON = [
    ("", "", "is no JSON: Expecting value"),
    ("[]", "", "expected an object such as"),
    ("null", "", "expected an object such as"),
    ('{"formula": "l1"', "", "is no JSON: Expecting ',' delimiter: line 1 column 17"),
    ('{"formula": "l1", "formula": "l2"}', "", "the key 'formula' is there twice"),
    ('{"formula": "l1", "losses": {"A": {"weight": 1, "weight": 2}}}', "", "the key 'weight' is there twice"),
    ('{"formula": "l1", "total_epochs": NaN}', "", "NaN is no number that JSON has"),
    ('{"formula": "l1", "total_epochs": 1e999}', "total_epochs", "finite"),
    ('{"formula": "\\ud800"}', "formula", "text must be what UTF-8 can write"),
    ('{"formula": "l1", "losses": {"\\ud800": {}}}', 'losses."\ufffd\ufffd\ufffd"', "UTF-8"),
    ("[" * 100_000, "", "nested too deeply"),
    ('{"a":' * 5000, "", "nested too deeply"),
    ('{"formula": "l1", "losses": {"G_L1": null}}', "losses.G_L1", "expected a table"),
    ('{"formula": null}', "", "a term has a formula"),
    ('{"terms": [null]}', "terms[0]", "expected a table"),
    ('{"formula": "l1", "losses": {"": {"weight": 1}}}', 'losses.""', "not empty"),
    ('{"formula": "l1", "options": {"l1": {"a": ' + "[" * 60 + "]" * 60 + "}}}", "options", "nested 50 deep at most"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(path, kind, key, said):
    """Loading and building a file is an error that says so, in one line, and leaves the manager as it was."""
    manager = LossManager(enable_logging=True, total_epochs=7)
    manager.register_loss_fn("G_BEFORE", nn.L1Loss())
    before, totals = manager.manifest(), manager._totals
    if kind is ScheduleError and "total_epochs" in said:
        manager = LossManager()
        before, totals = manager.manifest(), manager._totals
    with pytest.raises(NectarganError, match=said) as refused:
        manager.init_from_spec(path)
    assert type(refused.value) is kind
    text = str(refused.value)
    assert text.startswith(f"{path}: {key}" if key else str(path))
    if kind is not SpecSyntaxError:  # whose further lines show the place
        assert len(text.splitlines()) == 1
    assert len(text) < 700
    if kind is ObjectiveError:
        assert (refused.value.path, refused.value.key) == (str(path), key or None)
    assert (manager.manifest(), manager._totals) == (before, totals)


@pytest.mark.parametrize(("text", "kind", "key", "said"), WRONG)
def test_a_wrong_file_is_an_error_that_names_file_key_and_fix(here, text, kind, key, said):
    path = here / "objective.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(path, kind, key, said)


@pytest.mark.parametrize(("text", "key", "said"), WRONG_JSON)
def test_wrong_json_is_an_error_that_names_file_key_and_fix(here, text, key, said):
    path = here / "objective.json"
    path.write_text(text)
    assert_refused(path, ObjectiveError, key, said)


def made_of(kind, path):
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind != "missing":
        path.write_text(kind)


@pytest.mark.parametrize(
    ("kind", "name", "error", "said"),
    [
        ("missing", "a.toml", ObjectiveError, "a.toml cannot be read: No such file or directory"),
        ("missing", "a" * 300 + ".toml", ObjectiveError, "cannot be read: File name too long"),
        ("missing", "nul\0.toml", ObjectiveError, "a character that no file name can have"),
        ("missing", "a.jsonl", LossLogError, "there is no loss log at .*a.jsonl; give"),
        ("directory", "runs", LossLogError, "there is no loss_log.jsonl in .*runs"),
        ("directory", "a.toml", LossLogError, "there is no loss_log.jsonl in .*a.toml"),
        pytest.param(
            "FIFO",
            "a.toml",
            ObjectiveError,
            "a.toml is not an ordinary file",
            marks=pytest.mark.skipif(os.name == "nt", reason="no FIFO"),
        ),
        ("huge", "a.json", ObjectiveError, "1073741824 bytes, which is too large"),
        ("loop", "a.toml", ObjectiveError, "cannot be read"),
        ('formula = "l1"', "a.txt", ObjectiveError, "ends with .toml or .json"),
        ('formula = "l1"', "a", ObjectiveError, "ends with .toml or .json"),
        ("no log", "a.jsonl", NectarganError, "a.jsonl"),
        ("", "a.jsonl", ObjectiveError, "this log has no record of its objective"),
    ],
)
def test_what_is_no_file_of_an_objective_is_an_error(here, kind, name, error, said):
    path = here / name
    made_of(kind, path) if "\0" not in name and len(name) < 255 else None
    with pytest.raises(error, match=said) as refused:
        Objective.load(path)
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(error, match=said):
        LossManager.from_spec(path)
    assert sorted(each.name for each in here.iterdir()) == ([] if kind == "missing" else [name])


@pytest.mark.parametrize("text", ["objective.toml", "runs/objective.json", "a.jsonl", "OBJECTIVE.TOML"])
def test_a_string_that_looks_like_a_file_gets_a_hint(here, text):
    with pytest.raises(NectarganError, match=r"for a file give pathlib\.Path\("):
        LossManager.from_spec(text)


@pytest.mark.parametrize("keyword", [{"prefix": "a"}, {"rename_inputs": {"y": "x"}}, {"foo": 3}])
def test_what_stands_in_the_file_is_no_keyword_beside_it(keyword):
    with pytest.raises(TypeError, match=r"with a file, init_from_spec takes weights=, schedules=, .*; got"):
        LossManager().init_from_spec(Objective(formula="l1"), **keyword)


@pytest.mark.parametrize("name", ["objective.txt", "objective", "missing/objective.toml"])
def test_a_file_that_cannot_be_written_is_an_error(here, name):
    with pytest.raises(ObjectiveError, match=r"is written to a file that ends with|cannot be written"):
        Objective(formula="l1").save(here / name)
    assert not list(here.iterdir())


def test_a_file_is_replaced_when_it_is_complete(here):
    path = here / "objective.toml"
    Objective(formula="l1").save(path)
    with pytest.raises(ObjectiveError, match="None, which TOML cannot write"):
        Objective(formula="l1", options={"l1": {"a": None}}).save(path)
    assert Objective.load(path) == Objective(formula="l1")
    assert [each.name for each in here.iterdir()] == ["objective.toml"]


@pytest.mark.parametrize("given", [3, None, b"objective.toml", ["objective.toml"]])
def test_what_is_no_path_is_a_type_error(given):
    with pytest.raises(TypeError, match="path"):
        Objective.load(given)


def test_an_extra_loss_is_made_on_the_cpu_without_drawing_random_numbers():
    objective = Objective(
        extra=[
            {
                "name": "A",
                "function": "torch.nn:Bilinear",
                "arguments": {"in1_features": 2, "in2_features": 2, "out_features": 1},
            }
        ]
    )
    before = torch.get_rng_state()
    with torch.device("meta"):
        manager = LossManager.from_spec(objective)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(each.device.type == "cpu" for each in manager.modules().parameters())


def test_what_the_call_says_goes_before_the_file(here):
    path = here / "objective.toml"
    path.write_text(
        'formula = "l1 + gan"\ntotal_epochs = 10\n[losses.G_L1]\nweight = 5.0\n[options.gan]\nlabel_smoothing = 0.1\n'
    )
    schedule = Schedule(unit="fraction", end=1, target_value=0.0)
    manager = LossManager.from_spec(
        path,
        weights={"G_GAN": 2.0},
        schedules={"G_L1": schedule},
        total_epochs=20,
        options={"gan": {"label_smoothing": 0.2}},
    )
    record = manager.manifest()
    assert record.total_epochs == 20
    assert record.losses["G_GAN"].weight == 2.0
    assert record.losses["G_L1"].schedule.initial_value == 5.0
    assert record.losses["D_real"].arguments["label"] == pytest.approx(0.8)


def test_a_loss_may_be_listed_twice_for_a_weighting(here):
    path = here / "objective.toml"
    path.write_text(WEIGHTING + 'weighting = "random"\nlosses = ["G_GAN", "G_L1", "G_L1"]')
    assert LossManager.from_spec(path).manifest().weightings["G"].losses == ["G_L1", "G_GAN"]


def test_the_error_for_long_names_is_short(here):
    long = "x" * 10**6
    data = [
        {long: 3},
        {"formula": "l1", "losses": {long: {"weight": 1.0}}},
        {"formula": "l1", "losses": {"G_L1": {long: 1.0}}},
        {"formula": "l1", "options": {long: {"a": 1}}},
        {"formula": "l1", "options": {"l1": {long: 1}}},
        {"formula": "l1", "without": [long]},
        {"formula": "l1", "weightings": {long: {"weighting": "random"}}},
        {"formula": "!" + long},
        {"extra": [{"name": "A", "function": "torch.nn:" + long}]},
        {"extra": [{"name": "A", "function": "torch.nn:L1Loss", "arguments": {long: 1}}]},
        {"extra": [{"name": "A", "function": "torch.nn:L1Loss", "arguments": {"reduction": long}}]},
    ]
    path = here / "objective.json"
    too_long = []
    for each in data:
        path.write_text(json.dumps(each))
        with pytest.raises(NectarganError) as refused:
            LossManager.from_spec(path)
        if len(str(refused.value)) > 2000:
            too_long.append(f"{refused.value!r:.200}")
    assert not too_long


# Files that are changed at random

MUTATED = Path(__file__).parent / "mutated_objectives.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "count"), [(0, 200), *(pytest.param(seed, 2500, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_mutated_files_raise_what_is_documented_and_import_nothing(tmp_path, seed, count):
    """Each is built, too; what a process of its own sees beside errors of the project is listed."""
    done = subprocess.run(
        [sys.executable, MUTATED, tmp_path, str(seed), str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == []
