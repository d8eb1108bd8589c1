"""The kit's checks of an installed spec: each fault gets a message that says what to change."""

import textwrap

import pytest
import torch

from nectargan_core import catalog
from nectargan_core.errors import PluginNotFoundError
from nectargan_core.testing import CheckFailed, LossSpecTests, check_loss_spec, examine
from nectargan_core.testing._losses import CHECKS as LOSS_CHECKS
from nectargan_core.testing._outcomes import run_check
from nectargan_core.testing._specs import CHECKS, SpecSubject

METADATA = """\
Metadata-Version: 2.1
Name: acme
Version: 1.0
Requires-Python: >=3.10
Requires-Dist: nectargan-core<0.2,>=0.1
"""
# Everything else that a spec needs, so that a test shows only what it is about.
PRELUDE = '''
from typing import Literal
import torch
from torch import nn
from nectargan_core import Config, LMLoss
from nectargan_core.errors import WeightsError

class Glow(nn.Module):
    """Compares brightness."""
    def forward(self, y_fake, y):
        return (y_fake - y).abs().mean()
'''
SOUND = '''
def glow(config: Config) -> dict[str, LMLoss]:
    """Build the loss of glow."""
    weight = config.loss_weight("glow", default=10.0)
    return {"G_GLOW": LMLoss(name="G_GLOW", function=Glow(), loss_weight=weight, tags=["G"])}
'''


@pytest.fixture
def acme(site):
    """Return a function that installs a spec and returns the subject of its checks."""

    def install(source=SOUND, **given):
        modules = {"acme.py": PRELUDE + textwrap.dedent(source)}
        site.install("acme", specs={"glow": "acme:glow"}, modules=modules, metadata=METADATA)
        return SpecSubject(catalog.find(catalog.SPECS, "glow"), **given)

    return install


# Each asks another process, which imports torch. They are tested in test_kit_installed.py.
ALONE = dict.fromkeys(("entry_point", "imports"), "takes long")


def outcome(check, subject):
    return run_check(next(each for each in CHECKS if each.name == check), subject, {})


def fails(check, subject, *texts):
    found = outcome(check, subject)
    assert found.state == "failed", found
    for text in texts:
        assert text in found.message


def passes(check, subject):
    found = outcome(check, subject)
    assert found.state == "passed", found


def returning(expression, doc="Build the loss of glow."):
    return f'def glow(config: Config):\n    """{doc}"""\n    return {expression}\n'


def loss(name="G_GLOW", **fields):
    given = {"function": "Glow()", "loss_weight": 'config.loss_weight("glow", default=10.0)', "tags": '["G"]', **fields}
    return f'LMLoss(name="{name}", {", ".join(f"{key}={value}" for key, value in given.items())})'


def of_loss(**fields):
    return returning('{"G_GLOW": ' + loss(**fields) + "}")


def test_a_sound_spec_passes_all_checks(acme):
    acme()
    check_loss_spec("glow", gradcheck=True)
    check_loss_spec("acme/glow", skip=ALONE)


# contract


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[" + loss() + "]", "returned list; expected a dict that maps each loss's name to its LMLoss"),
        ("None", "returned NoneType"),
        ('{"G_OTHER": ' + loss() + "}", "returned a loss named 'G_GLOW' under the key 'G_OTHER'"),
        ('{"G_GLOW": Glow()}', "returned Glow under 'G_GLOW'"),
        ("{}", "returned an empty dict; return one loss at least"),
        ("{'G_GLOW': LMLoss(name='G_GLOW', function=Glow(), loss_weight='much')}", "loss_weight"),
        ("1 / 0", "raised ZeroDivisionError: division by zero (acme.py, line "),
    ],
)
def test_what_is_no_dict_of_losses_is_found(acme, expression, expected):
    fails("contract", acme(returning(expression)), expected)


def test_a_spec_that_takes_more_than_a_config_is_found(acme):
    source = 'def glow(config, layers):\n    """Build it."""\n    return {}\n'
    fails("contract", acme(source), "glow", "(config) or (config, subspec)")


@pytest.mark.slow
def test_an_entry_point_that_cannot_be_loaded_is_found(acme):
    subject = acme("def other(): pass\n")
    fails("contract", subject, "cannot be imported")
    found = {check.name: outcome(check.name, subject).state for check in CHECKS}
    assert found == {
        **dict.fromkeys(found, "skipped"),
        "entry_point": "failed",
        "contract": "failed",
        "metadata": "passed",
        "imports": "passed",
    }


def test_a_variant_that_raises_is_found_beside_one_that_works(acme):
    source = """
    def glow(config: Config, subspec: Literal["basic", "extended"] = "basic"):
        "Build it."
        if subspec == "extended":
            raise NotImplementedError
        return {"G_GLOW": %s}
    """
    subject = acme(source % loss())
    fails("contract", subject, "building it in the variant 'extended' raised NotImplementedError")
    passes("finite", subject)


def test_variants_that_cannot_be_known_are_found(acme):
    source = 'def glow(config, subspec="basic"):\n    """Build it."""\n    return {"G_GLOW": %s}\n'
    fails("contract", acme(source % loss()), "annotate the parameter", 'Literal["basic", "extended"]')


@pytest.mark.parametrize(("default", "expected"), [("", "has no default"), (' = "c"', "has the default 'c'")])
def test_a_spec_that_needs_a_variant_is_found(acme, default, expected):
    source = """
    def glow(config: Config, subspec: Literal["a", "b"]%s):
        "Build it."
        return {"G_GLOW": %s}
    """
    fails("contract", acme(source % (default, loss())), expected, "give it one of a, b as its default")


def test_a_spec_that_exits_is_found(acme):
    fails("contract", acme(returning("exit(3)")), "SystemExit: 3 (acme.py, line")


@pytest.mark.parametrize(
    ("before", "function", "expected"),
    [
        ("SHARED = Glow()", "SHARED", "share the module of the loss 'G_GLOW'"),
        ("SHARED = Glow()", "SHARED.forward", "share the module of the loss 'G_GLOW'"),
        ("SCALE = nn.Parameter(torch.ones(()))", "Learned(SCALE)", "share the parameters of the loss 'G_GLOW'"),
        ("SHARED = Mean()", "SHARED", "share the Mean of the loss 'G_GLOW'"),
    ],
)
def test_what_two_builds_share_is_found(acme, before, function, expected):
    source = f"""
    class Learned(Glow):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

    class Mean:
        def __init__(self):
            self.seen = 0
        def __call__(self, y_fake, y):
            return (y_fake - y).abs().mean()

    {before}
    """
    source = textwrap.dedent(source) + of_loss(function=function)
    fails("contract", acme(source), expected, "make it inside the spec")


def test_a_function_may_be_shared(acme):
    passes("contract", acme("def glowing(y_fake, y): return (y_fake - y).abs().mean()\n" + of_loss(function="glowing")))


def test_a_change_of_the_configuration_is_found(acme):
    source = """
    def glow(config: Config):
        "Build it."
        config.train.loss.lambda_l1 = 3.0
        return {"G_GLOW": %s}
    """
    fails("contract", acme(source % loss()), "it changes the configuration")


# docstring, names, inputs


@pytest.mark.parametrize("doc", ["", "\n   "])
def test_a_missing_docstring_is_found(acme, doc):
    subject = acme(returning('{"G_GLOW": ' + loss() + "}", doc))
    fails("docstring", subject, "glow has no docstring", "write one, such as")


def test_an_option_that_the_docstring_does_not_name_is_found(acme):
    source = """
    def glow(config: Config, subspec: Literal["a"] = "a", *, layers: int = 3, radius: float = 1.0):
        "Build it with a radius."
        return {"G_GLOW": %s}
    """
    fails("docstring", acme(source % loss()), "says nothing about layers;")


def test_a_loss_without_tags_is_found(acme):
    fails("names", acme(of_loss(tags="[]")), "has no tags", "add tags=['G']")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [('["g"]', "training loops ask for 'G'"), ('["G", "D "]', "ask for 'D'"), ('["a "]', "blanks")],
)
def test_a_tag_that_nobody_asks_for_is_found(acme, tags, expected):
    fails("names", acme(of_loss(tags=tags)), expected)


@pytest.mark.parametrize("name", ["G_GLOW.fine", "glow loss", "1", "é"])
def test_a_name_that_is_not_plain_is_found(acme, name):
    fails("names", acme(returning(f'{{"{name}": {loss(name)}}}')), "such as G_GLOW")


def test_a_misspelt_input_is_found(acme):
    fails("inputs", acme(of_loss(inputs='("y_fkae", "y")')), "reads 'y_fkae'", 'Did you mean "y_fake"?')


def test_an_input_of_its_own_must_be_documented(acme):
    expression = '{"G_GLOW": ' + loss(inputs='("y_fake", "edges")') + "}"
    fails("inputs", acme(returning(expression)), "say in the docstring of the spec what it is")


def test_an_input_of_its_own_that_is_documented_is_no_fault(acme):
    expression = '{"G_GLOW": ' + loss(inputs='("y_fake", "edges")') + "}"
    documented = acme(returning(expression, "Build it of `edges`, (N, 1, H, W) from 0 to 1."))
    passes("inputs", documented)
    said = outcome("finite", documented).message
    assert "say with make_inputs how it is made, or with the function example_inputs in the module of the spec" in said


def test_inputs_of_its_own_are_made_by_the_author(acme):
    expression = '{"G_GLOW": ' + loss(inputs='("y_fake", "edges")') + "}"
    acme(returning(expression, "Build it of `edges`."))

    def make_inputs(size):
        return {"y_fake": torch.rand(size, 1, 8, 8), "edges": torch.rand(size, 1, 8, 8)}

    check_loss_spec("glow", make_inputs=make_inputs, skip=ALONE)


OF_EDGES = returning('{"G_GLOW": ' + loss(inputs='("y_fake", "edges")') + "}", "Build it of `edges`.")
EXAMPLES = """
def example_inputs(batch_size):
    generator = torch.Generator().manual_seed(batch_size)
    return {"edges": torch.rand(batch_size, 3, 32, 32, generator=generator)}
"""


def test_inputs_of_its_own_are_made_by_its_module(acme):
    subject = acme(OF_EDGES + EXAMPLES)
    results = {each.name: run_check(each, subject, ALONE) for each in CHECKS}
    assert {result.state for result in results.values()} == {"passed", "skipped"}
    assert {name for name, result in results.items() if result.state == "skipped"} == {*ALONE, "gradcheck", "cuda"}


def test_a_command_a_function_and_a_class_use_the_inputs_of_the_module(acme):
    plugin = acme(OF_EDGES + EXAMPLES).plugin
    assert {each.check: each.state for each in examine(plugin, skip=ALONE)}["trains"] == "passed"
    check_loss_spec("glow", skip=ALONE)

    class TestGlow(LossSpecTests):
        name = "glow"

    TestGlow().test_trains()


def test_what_a_test_makes_goes_before_what_the_module_makes(acme):
    acme(OF_EDGES + EXAMPLES.replace("3, 32, 32", "no_such_size"))

    def make_inputs(size):
        return {"y_fake": torch.rand(size, 1, 8, 8), "edges": torch.rand(size, 1, 8, 8)}

    check_loss_spec("glow", make_inputs=make_inputs, skip=ALONE)


def test_an_input_of_the_table_may_have_another_shape(acme):
    examples = """
    def example_inputs(batch_size):
        made = torch.rand(2, batch_size, 1, 4000, generator=torch.Generator().manual_seed(batch_size))
        return {"y_fake": made[0].requires_grad_(), "y": made[1]}

    class Waveforms(Glow):
        def forward(self, y_fake, y):
            assert y_fake.shape == y.shape and y_fake.shape[1:] == (1, 4000)
            return super().forward(y_fake, y)
    """
    subject = acme(of_loss(function="Waveforms()") + textwrap.dedent(examples))
    passes("finite", subject)
    passes("batch_size", subject)
    passes("trains", subject)


def test_an_input_of_the_table_is_generated_beside_one_of_the_module(acme):
    source = """
    class Both(nn.Module):
        def forward(self, made, pred_fake):
            return made.mean() + pred_fake.mean()

    def example_inputs(batch_size):
        return {"made": torch.rand(batch_size, 3, requires_grad=True)}
    """
    built = '{"G_GLOW": ' + loss(function="Both()", inputs='("made", "pred_fake")') + "}"
    (_, subject) = acme(returning(built, "Build it of `made`.") + textwrap.dedent(source)).subjects[0]
    assert set(subject.inputs().leaves) == {"made", "pred_fake"}


def test_the_numbers_of_the_module_are_not_those_of_the_table(acme):
    (_, subject) = acme(OF_EDGES + EXAMPLES).subjects[0]
    values = subject.values()
    assert not torch.equal(values["edges"], values["y_fake"] / 2 + 0.5)


def test_an_input_that_neither_makes_is_named_with_those_that_the_module_makes(acme):
    found = outcome("finite", acme(OF_EDGES + EXAMPLES.replace('"edges"', '"egdes"')))
    assert found.state == "skipped"
    assert found.message.startswith("it reads 'edges', which is an input of its own")
    assert found.message.endswith("the function example_inputs in the module of the spec, which makes egdes")


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        ("example_inputs = 3", "acme.example_inputs is 3; it must be a function that takes a batch size"),
        ("def example_inputs(): return {}", "acme.example_inputs(2) raised TypeError"),
        ("def example_inputs(size): return [size]", "acme.example_inputs(2) returned [2]; return a dict of inputs"),
        ("def example_inputs(size): pass", "acme.example_inputs(2) returned None; return a dict of inputs"),
        ("def example_inputs(size): raise SystemExit(3)", "acme.example_inputs(2) raised SystemExit: 3"),
        ("def example_inputs(size): return {}[size]", "raised KeyError: 2 (acme.py, line"),
    ],
)
def test_a_fault_of_the_function_of_the_module_is_found(acme, examples, expected):
    subject = acme(OF_EDGES + "\n" + examples + "\n")
    fails("finite", subject, expected)
    fails("trains", subject, expected)


@pytest.mark.parametrize("inputs", ['("y_fake",)', '("y_fake", "y", "x")', '{"fake": "y_fake", "y": "y"}'])
def test_inputs_that_the_function_does_not_take_are_found(acme, inputs):
    fails("inputs", acme(of_loss(inputs=inputs)), "its function takes (y_fake, y)", "name in inputs= what it takes")


# weights


def test_a_weight_that_is_no_matter_of_the_configuration_is_found(acme):
    fails(
        "weights",
        acme(of_loss(loss_weight="10.0")),
        "the weight of the loss 'G_GLOW' is 10 whatever the configuration says",
        "config.loss_weight('glow', default=10)",
    )


def test_a_weight_that_is_asked_for_and_not_used_is_found(acme):
    source = """
    def glow(config: Config):
        "Build it."
        weight = config.loss_weight("glow", default=10.0)
        return {"G_GLOW": %s}
    """
    fails("weights", acme(source % loss(loss_weight="10.0")), "asks the configuration for train.loss.lambda_glow")


def test_a_weight_that_the_configuration_must_have_is_found(acme):
    source = of_loss(loss_weight='config.train.loss["lambda_glow"]')
    fails("contract", acme(source), "raised KeyError")


def test_a_weight_of_zero_that_raises_is_found(acme):
    source = """
    def glow(config: Config):
        "Build it."
        scale = 1 / config.loss_weight("glow", default=10.0)
        return {"G_GLOW": %s}
    """
    subject = acme(source % loss())
    fails("weights", subject, "with train.loss.lambda_glow = 0 building it raised ZeroDivisionError")


def test_a_factor_that_breaks_the_spec_is_found(acme):
    source = """
    def glow(config: Config):
        "Build it."
        weight = config.loss_weight("glow", default=10.0)
        assert type(config.train.loss).__name__ != "_WithoutLambdas", "no weights"
        return {"G_GLOW": %s}
    """
    fails("weights", acme(source % loss()), "'2*glow' raised AssertionError: no weights")


def test_losses_of_the_discriminator_need_no_weight(acme):
    source = returning("{" + f'"G_GLOW": {loss()}, "D_GLOW": {loss("D_GLOW", loss_weight="1.0", tags=["D"])}' + "}")
    passes("weights", acme(source))


def test_weights_that_are_read_as_attributes_count(acme):
    source = """
    def glow(config: Config):
        "Build it."
        weight = config.train.loss.lambda_l1
        return {"G_GLOW": %s}
    """
    passes("weights", acme(source % loss(loss_weight="100.0 if weight is None else weight")))


# The losses


def test_a_fault_of_one_loss_of_one_variant_names_both(acme):
    source = """
    def glow(config: Config, subspec: Literal["basic", "rooted"] = "basic"):
        "Build it."
        losses = {"G_GLOW": %s}
        if subspec == "rooted":
            losses["G_ROOT"] = %s
        return losses

    class Root(nn.Module):
        def forward(self, y_fake, y):
            return (y_fake - y).square().mean().sqrt()
    """
    root = loss("G_ROOT", function="Root()")
    fails("differentiable", acme(source % (loss(), root)), "G_ROOT of 'rooted': its gradient with respect to 'y_fake'")


def test_a_loss_of_two_variants_is_checked_once(acme):
    source = """
    def glow(config: Config, subspec: Literal["basic", "more"] = "basic"):
        "Build it."
        return {"G_GLOW": %s}
    """
    subject = acme(source % loss())
    assert [label for label, _ in subject.subjects] == ["G_GLOW of 'basic'"]


def test_one_variant_can_be_asked_for(acme):
    source = """
    def glow(config: Config, subspec: Literal["basic", "broken"] = "basic"):
        "Build it."
        return {"G_GLOW": %s} if subspec == "basic" else None
    """
    acme(source % loss())
    check_loss_spec("glow:basic", skip=ALONE)
    with pytest.raises(CheckFailed, match="in the variant 'broken' raised .*returned NoneType"):
        check_loss_spec("glow", skip=ALONE)


def test_options_are_given_to_the_spec(acme):
    source = """
    def glow(config: Config, *, broken: bool = True):
        "Build it, broken or not."
        return None if broken else {"G_GLOW": %s}
    """
    acme(source % loss())
    check_loss_spec("glow", options={"broken": False}, skip=ALONE)


def test_a_graph_that_is_kept_between_steps_is_found(acme):
    source = """
    class Smoothed(nn.Module):
        mean = 0.0
        def forward(self, y_fake, y):
            self.mean = 0.9 * self.mean + 0.1 * (y_fake - y).square().mean()
            return self.mean
    """
    subject = acme(textwrap.dedent(source) + of_loss(function="Smoothed()"))
    fails("trains", subject, "keeps the graph of an earlier step: detach() what it keeps")


def test_a_loss_that_no_step_can_train_is_found(acme):
    source = of_loss(function="lambda y_fake, y: y.mean()")
    fails("trains", acme(source), "raised RuntimeError")


# What a record says of its losses


UNKNOWN = """
class Scaled(Glow):
    def __init__(self, scale=2.0):
        super().__init__()
        self.factor = scale
"""


def test_what_cannot_be_read_is_said_of_one_of_several_losses_and_is_no_fault(acme):
    both = '{"G_GLOW": ' + loss() + ', "G_SCALED": ' + loss("G_SCALED", function="Scaled()") + "}"
    subject = acme(UNKNOWN + returning(both))
    found = outcome("recorded", subject)
    assert (found.state, found.message.partition(", so")[0]) == (
        "skipped",
        "G_SCALED: a record cannot say what Scaled was given for scale",
    )
    check_loss_spec("glow", skip=ALONE)


def test_weight_files_that_are_no_hashes_are_a_fault(acme):
    deep = "\nclass Deep(Glow):\n    weight_files = {'deep.pth': 'none'}\n"
    fails("recorded", acme(deep + of_loss(function="Deep()")), "G_GLOW: Deep.weight_files has 'none' under 'deep.pth'")


# Weight files


NEEDS_WEIGHTS = """
class Deep(Glow):
    def __init__(self, device):
        super().__init__()
        if device != "meta":
            raise WeightsError("weights of Deep: no file")
        self.register_buffer("kernel", torch.ones(3, 1, 1, device=device))
    def forward(self, y_fake, y):
        return ((y_fake - y) * self.kernel).abs().mean()
"""


def test_without_weight_files_what_needs_numbers_is_left_out_with_the_reason(acme):
    acme(NEEDS_WEIGHTS + of_loss(function="Deep(config.common.device)"))
    found = {each.check: each for each in examine(catalog.find(catalog.SPECS, "glow"))}
    assert not [each for each in found.values() if each.state == "failed"]
    assert {name for name, each in found.items() if each.state == "passed"} == {
        "entry_point", "metadata", "imports", "contract", "docstring", "names", "inputs", "weights",
        "device", "no_wait", "recorded",
    }  # fmt: skip
    assert found["trains"].message == found["finite"].message == "WeightsError: weights of Deep: no file"


def test_weight_files_that_the_meta_device_needs_are_a_fault(acme):
    source = NEEDS_WEIGHTS + of_loss(function='Deep("cpu")')
    fails("contract", acme(source), "on the meta device, where nothing is computed, needs weight files")


def test_what_waits_is_found_without_weight_files(acme):
    source = NEEDS_WEIGHTS.replace(".abs().mean()", ".abs().mean() * y.max().item()")
    fails("no_wait", acme(source + of_loss(function="Deep(config.common.device)")), "G_GLOW: it reads values")


# The function and the class


def test_all_faults_are_listed_under_the_plugin(acme):
    acme(of_loss(tags="[]", loss_weight="1.0"))
    with pytest.raises(CheckFailed) as caught:
        check_loss_spec("glow", skip=ALONE)
    message = str(caught.value)
    assert message.startswith("glow (acme 1.0, acme:glow):\n  names: ")
    assert "\n  weights: " in message


def test_a_check_is_left_out_with_a_reason(acme):
    acme(of_loss(tags="[]"))
    check_loss_spec("glow", skip={"names": "found by its name", **ALONE})


def test_a_name_that_nobody_offers_is_refused():
    with pytest.raises(PluginNotFoundError, match="no-such"):
        check_loss_spec("no-such")


def test_a_spec_takes_no_params(acme):
    with pytest.raises(ValueError, match="takes options and no params, got size"):
        examine(acme().plugin, params={"size": 1})


def test_the_checks_are_in_one_order_and_have_one_name_each():
    names = [check.name for check in CHECKS]
    assert names == [
        "entry_point", "metadata", "imports", "contract", "docstring", "names", "inputs", "weights",
        *(check.name for check in LOSS_CHECKS), "trains",
    ]  # fmt: skip
    assert all(check.summary.endswith(".") for check in CHECKS)


def test_a_class_has_a_test_for_each_check(acme):
    acme(of_loss(tags="[]"))

    class TestGlow(LossSpecTests):
        name = "glow"

    TestGlow().test_contract()
    TestGlow().test_finite()
    with pytest.raises(pytest.fail.Exception, match="has no tags"):
        TestGlow().test_names()
    methods = {name for name in dir(LossSpecTests) if name.startswith("test_")}
    assert methods == {f"test_{check.name}" for check in CHECKS} | {"test_skip_names_checks"}


def test_a_class_without_a_name_says_what_is_missing():
    class TestNothing(LossSpecTests):
        pass

    with pytest.raises(TypeError, match="the name of a spec"):
        TestNothing().test_contract()
