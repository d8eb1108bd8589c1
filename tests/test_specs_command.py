"""The program `nectargan specs`: what installed specs build, without their weights, and no crash for any of them."""

import json
import re

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nectargan_core import LossManager, catalog
from nectargan_core.cli import main
from nectargan_core.cli._markdown import code, markdown_table, prose
from nectargan_core.errors import PluginNotFoundError, SpecError, SpecSyntaxError, UnknownVariantError
from nectargan_core.objectives import describe_spec, describe_specs, first_sentence, variants_of


def run(*arguments, status=0):
    done = CliRunner().invoke(main, ["specs", *arguments])
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.output


HEAD = """
from __future__ import annotations
import functools, sys
from typing import TYPE_CHECKING, Any, Literal
import torch
from nectargan_core import LMLoss, Losses, Schedule, Weighting
if TYPE_CHECKING:
    from nectargan_core import Config
Mode = Literal["a", "b"]
class Hostile:
    def __getattribute__(self, name):
        raise OSError
    def __repr__(self):
        raise OSError
def l1(name, weight=1.0, **fields):
    return LMLoss(name=name, function=torch.nn.L1Loss(), loss_weight=weight, **fields)
"""


@pytest.fixture
def spec(alone):
    """Return a function that installs specs, given as code in which each begins with `def` at the margin."""

    def install(code, *names, dist="acme"):
        names = names or ("glow",)
        alone.install(
            dist, "1.2", specs={name: f"{dist}:{name}" for name in names}, modules={f"{dist}.py": HEAD + code}
        )

    return install


VARIED = '''
def glow(config: Config, subspec: Literal["soft", "hard"] = "soft", mode: Mode = "a", scale: float = 1e-3, size=None):
    """Glow softly, as e.g. Kim et al. 2020 do. Or hard.

    Not shown.

    Args:
        config: The weights.
        subspec: Which.
        mode: How it glows: `"a"` or
            `"b"`.
        size (int): Of the glow.

    Returns:
        scale: No option.
    """
    return {'A': l1('A')}
'''
SCHEDULED = '''
def glow(config: Config, subspec: Literal["soft", "hard"] = "soft"):
    """Glow."""
    fade = Schedule("linear", start=100, end=200, target_value=0.0)
    losses = {
        "G_A": l1("G_A", config.loss_weight("a-b", default=100.0), tags=["G", "edges"], schedule=fade),
        "G_B": l1("G_B", 2 * config.loss_weight("b", default=1.0) if subspec == "hard" else 1e-4, tags=["G"]),
        "D": l1("D", inputs={"input": "pred_real", "target": "y"}),
    }
    brought = {"G": Weighting("gradnorm", params={"alpha": 0.5}, every=10, wrt="last_layer")}
    return Losses(losses, weightings=brought if subspec == "hard" else None)
'''


class TestOne:
    def test_its_losses_have_tags_inputs_weights_keys_and_schedules(self, spec):
        spec(SCHEDULED)
        assert run("glow") == (
            "glow (acme 1.2, acme:glow)\n"
            "Glow.\n"
            "'glow' stands for 'glow:soft'\n"
            "\n"
            "LOSS  TAGS      INPUTS                WEIGHT  CONFIG KEY             SCHEDULE               VARIANTS\n"
            "G_A   G, edges  y_fake, y             100     train.loss.lambda_a_b  linear from 100 to 0,  all\n"
            "                                                                     epoch 100 to 200\n"
            "G_B   G         y_fake, y             0.0001  -                      -                      soft\n"
            "G_B   G         y_fake, y             2       -                      -                      hard\n"
            "D     -         input=pred_real,      1       -                      -                      all\n"
            "                target=y\n"
            "\n"
            "WEIGHTING  OF  LOSSES    PARAMS     WRT         EVERY  VARIANTS\n"
            "gradnorm   G   G_A, G_B  alpha=0.5  last_layer  10     hard\n"
        )

    def test_one_variant_is_shown_alone(self, spec):
        spec(SCHEDULED)
        shown = run("glow:soft")
        assert "VARIANTS" not in shown
        assert "gradnorm" not in shown
        assert "0.0001" in shown

    def test_markdown_has_the_tables_alone(self, spec):
        spec(SCHEDULED)
        assert run("glow", "--markdown") == (
            "| loss | tags | inputs | weight | config key | schedule | variants |\n"
            "|---|---|---|---|---|---|---|\n"
            "| `G_A` | `G`, `edges` | `y_fake`, `y` | 100 | `train.loss.lambda_a_b` "
            "| linear from 100 to 0, epoch 100 to 200 | all |\n"
            "| `G_B` | `G` | `y_fake`, `y` | 0.0001 |  |  | `soft` |\n"
            "| `G_B` | `G` | `y_fake`, `y` | 2 |  |  | `hard` |\n"
            "| `D` |  | `input=pred_real`, `target=y` | 1 |  |  | all |\n"
            "\n"
            "| weighting | of | losses | params | wrt | every | variants |\n"
            "|---|---|---|---|---|---|---|\n"
            "| `gradnorm` | `G` | `G_A`, `G_B` | `alpha=0.5` | `last_layer` | `10` | `hard` |\n"
        )

    def test_json_has_it_all(self, spec):
        spec(SCHEDULED)
        described = json.loads(run("acme/glow", "--json"))
        assert (described["name"], described["distribution"], described["version"]) == ("glow", "acme", "1.2")
        assert (described["target"], described["summary"], described["default_variant"]) == (
            "acme:glow",
            "Glow.",
            "soft",
        )
        soft, hard = described["variants"]
        assert (soft["name"], soft["weightings"], hard["name"], hard["problem"]) == ("soft", [], "hard", "")
        assert (soft["formula"], soft["source"]) == ("", "")
        assert hard["losses"][0] == {
            "name": "G_A",
            "tags": ["G", "edges"],
            "inputs": ["y_fake", "y"],
            "ranges": {},
            "weight": 100.0,
            "weight_key": "train.loss.lambda_a_b",
            "schedule": {
                "schedule": "linear",
                "start_epoch": 100,
                "end_epoch": 200,
                "initial_value": 100.0,
                "target_value": 0.0,
                "left_out": ["initial_value"],
            },
        }
        assert hard["losses"][2]["inputs"] == {"input": "pred_real", "target": "y"}
        assert hard["weightings"] == [
            {
                "name": "gradnorm",
                "query": "G",
                "losses": ["G_A", "G_B"],
                "params": {"alpha": 0.5},
                "every": 10,
                "wrt": "last_layer",
            }
        ]

    def test_a_first_paragraph_is_the_summary_and_its_first_sentence_is_in_the_list(self, spec):
        spec(VARIED)
        assert describe_specs()[0].summary == "Glow softly, as e.g. Kim et al. 2020 do. Or hard."
        assert "Glow softly, as e.g. Kim et al. 2020 do.\n" in run().replace("\n" + " " * 30, " ")


DEFINED = '''
def glow(config: Config, subspec: Literal["soft", "hard", "off"] = "soft"):
    """Glow.

    Formula:
        mean |y_fake - y|
        hard, `off`: 2 mean
            |y_fake - y|

    Source:
        Kim et al., "Glow", 2020.

        Equation 3: with a sum.

    Returns:
        soft: no formula.
    """
    return {"A": l1("A", ranges={"y": (-1.0, 1.0)})}
'''


class TestDefinitions:
    def test_a_formula_and_its_source_are_shown_by_variant(self, spec):
        spec(DEFINED)
        source = 'Kim et al., "Glow", 2020. Equation 3: with a sum.'
        described = describe_spec("glow").variants
        assert [variant.formula for variant in described] == ["mean |y_fake - y|", *["2 mean |y_fake - y|"] * 2]
        assert [variant.source for variant in described] == [source] * 3
        assert run("glow", "--markdown").split("\n\n")[1] == (
            "| formula | source | variants |\n"
            "|---|---|---|\n"
            f"| `mean \\|y_fake - y\\|` | {source} | `soft` |\n"
            f"| `2 mean \\|y_fake - y\\|` | {source} | `hard`, `off` |\n"
        )
        assert "FORMULA              SOURCE " in run("glow")

    def test_the_values_that_an_input_has_to_have_are_shown(self, spec):
        spec(DEFINED)
        assert "| `y_fake`, `y` | `y`: -1 to 1 | 1 |" in run("glow:soft", "--markdown")
        assert json.loads(run("glow", "--json"))["variants"][0]["losses"][0]["ranges"] == {"y": "-1 to 1"}

    def test_a_section_may_stand_behind_its_heading(self, spec):
        doc = "Glow.\n\n    Source: Kim et al.,\n    2020.\n\n    Not shown.\n    "
        spec(f"def glow(config):\n    {doc!r}\n    return {{'A': l1('A')}}\n")
        (described,) = describe_spec("glow").variants
        assert (described.formula, described.source) == ("", "Kim et al., 2020.")


class TestOptions:
    def test_they_have_types_defaults_and_meanings(self, spec):
        spec(VARIED)
        assert run("glow").partition("\n\nOPTION")[2] == (
            "  TYPE               DEFAULT  MEANING\n"
            'mode    Literal["a", "b"]  "a"      How it glows: `"a"` or `"b"`.\n'
            "scale   float              0.001    -\n"
            "size    -                  None     Of the glow.\n"
        )

    @pytest.mark.parametrize(
        ("signature", "expected"),
        [
            ("config", []),
            ("cfg, /, *rest, a=1, **others: int", [("a", "", "1"), ("**others", "int", "")]),
            ("config, a: 'str | None' = None", [("a", "str | None", "None")]),
            ("config, a=len, b=LMLoss, c=object()", [("a", "", "len"), ("b", "", "LMLoss"), ("c", "", "object(...)")]),
            ("config, a: torch.dtype = torch.float32", [("a", "torch.dtype", "torch.float32")]),
            (
                "config, a: 'Hostile' = Hostile(), b: int = 1",
                [("a", "Hostile", "an object of Hostile"), ("b", "int", "1")],
            ),
            ("config, subspec=torch.zeros(2).numpy()", []),
            ("config, a: 'list[Mode]' = ()", [("a", 'list[Literal["a", "b"]]', "()")]),
        ],
    )
    def test_they_are_what_can_be_given_by_keyword(self, spec, signature, expected):
        spec(f"def glow({signature}):\n    return {{'A': l1('A')}}\n")
        options = describe_spec("glow").options
        assert [(option.name, option.type, option.default) for option in options] == expected

    def test_annotations_that_are_no_text_are_written_as_such(self, spec):
        code = HEAD.replace("from __future__ import annotations\n", "")
        code += "def glow(config, a: int = 1, b: list[str] | None = None):\n    return {'A': l1('A')}\n"
        spec(f"exec(compile({code!r}, 'plain', 'exec', dont_inherit=True))\n")
        assert [option.type for option in describe_spec("glow").options] == ["int", "list[str] | None"]

    @pytest.mark.parametrize(
        "code",
        [
            "def inner(config, scale=2.0):\n    '''Inner.'''\n    return {'A': l1('A')}\n"
            "glow = functools.partial(inner)\n",
            "class Glow:\n    '''Inner.'''\n    def __call__(self, config, scale=2.0):\n"
            "        return {'A': l1('A')}\nglow = Glow()\n",
        ],
        ids=["partial", "object"],
    )
    def test_those_of_a_partial_or_an_object_are_those_of_its_function(self, spec, code):
        spec(code)
        described = describe_spec("glow")
        assert described.summary == "Inner."
        assert [(option.name, option.default) for option in described.options] == [("scale", "2.0")]


class TestVariants:
    def test_a_spec_that_has_more_without_a_variant_is_shown_without_one_too(self, spec):
        spec(
            "def glow(config, subspec: Literal['soft'] | None = None):\n"
            "    return {'A': l1('A')} if subspec else {'A': l1('A'), 'B': l1('B')}\n"
        )
        assert [variant.name for variant in describe_spec("glow").variants] == [None, "soft"]
        assert "B     y_fake, y  1       without\n" in run("glow")

    def test_a_spec_that_needs_a_variant_is_shown_in_each(self, spec):
        spec("def glow(config, subspec: Literal['soft', 'hard']):\n    return {subspec: l1(subspec)}\n")
        assert "stands for" not in run("glow")
        assert [variant.name for variant in describe_spec("glow").variants] == ["soft", "hard"]

    def test_variants_that_are_not_known_are_shown_where_they_are_named(self, spec):
        spec("def glow(config, subspec='soft'):\n    return {subspec: l1(subspec)}\n")
        assert "\nsoft  y_fake, y" in run("glow")
        assert "\nhard  y_fake, y" in run("glow:hard")

    def test_one_that_fails_leaves_the_others(self, spec):
        spec(
            "def glow(config, subspec: Literal['soft', 'hard'] = 'soft'):\n"
            "    if subspec == 'hard':\n        raise OSError('no such file: vgg.pth')\n"
            "    return {'A': l1('A')}\n"
        )
        shown = run("glow", status=1)
        assert "A     y_fake, y  1       soft\n" not in shown  # "all": each that can be built
        assert "A     y_fake, y  1       all\n" in shown
        assert shown.endswith("\n\nglow:hard: spec glow (acme 1.2, acme:glow) failed: OSError: no such file: vgg.pth\n")
        assert run("glow:soft")
        assert run("glow:hard", status=1).startswith("Error: spec glow")

    def test_a_spec_without_losses_says_so(self, spec):
        spec("def glow(config):\n    return {}\n")
        assert run("glow") == "glow (acme 1.2, acme:glow)\n\nglow has no losses\n"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("glow:sott", UnknownVariantError, 'has no variant .sott., only soft, hard. Did you mean "soft"'),
        ("glo", PluginNotFoundError, "no loss spec 'glo' is installed"),
        ("other/glow", PluginNotFoundError, "other is not installed"),
        ("glow + glow", SpecError, "expected the name of one spec, such as .*got the formula 'glow . glow'"),
        ("2*glow", SpecError, "got the formula"),
        ("", SpecSyntaxError, "expected the name of a spec"),
        ("gl ow", SpecSyntaxError, "expected"),
    ],
)
def test_what_is_no_installed_spec_is_one_error(spec, name, kind, message):
    spec(SCHEDULED)
    with pytest.raises(kind, match=message):
        describe_spec(name)
    assert run(name, status=1).startswith("Error: ")


FAULTS = {
    "raises": "def glow(config):\n    raise ValueError('bad\\nmore')\n",
    "ends Python": "def glow(config):\n    sys.exit(3)\n",
    "none": "def glow(config):\n    return None\n",
    "list": "def glow(config):\n    return [l1('A')]\n",
    "wrong key": "def glow(config):\n    return {'B': l1('A')}\n",
    "weighting of nothing": "def glow(config):\n    return Losses({'A': l1('A')}, weightings={'G': 'dwa'})\n",
    "no import": "import lens_flares\n",
    "no function": "glow = 3\n",
    "no arguments": "def glow():\n    return {}\n",
    "hostile doc": "class Glow:\n    def __call__(self, config):\n        raise KeyError\n    @property\n"
    "    def __doc__(self):\n        raise OSError\nglow = Glow()\n",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spec_that_cannot_be_built_is_a_short_error_and_a_note_in_the_list(spec, fault):
    spec(FAULTS[fault])
    spec(SCHEDULED, dist="zeta")
    for form in ((), ("--json",), ("--markdown",)):
        error = run("acme/glow", *form, status=1)
        assert error.startswith("Error: ")
        assert error.count("\n") == 1
    listed = run()
    assert "\n\nglow (acme): " in listed
    assert [spec["problem"] or spec["variants"][0]["problem"] for spec in json.loads(run("--json"))][1] == ""


def test_the_list_has_variants_and_one_sentence_of_each(spec):
    spec(SCHEDULED)
    spec('def dim(config):\n    """Dim. More."""\n    return {}\n', "dim", dist="beta")
    assert run() == (
        "NAME  DISTRIBUTION  VARIANTS    DOC\n"
        "dim   beta 1.2      -           Dim.\n"
        "glow  acme 1.2      soft, hard  Glow.\n"
    )
    assert run("--markdown").splitlines()[3] == "| `glow` | `acme 1.2` | `soft`, `hard` | Glow. |"


def test_one_name_of_two_distributions_is_listed_for_both(spec):
    spec(SCHEDULED)
    spec("def glow(config):\n    return {'Z': l1('Z')}\n", dist="zeta")
    assert [described.distribution for described in describe_specs()] == ["acme", "zeta"]
    assert not any(described.problems for described in describe_specs())
    assert [line.split()[0] for line in run().splitlines()] == ["NAME", "acme/glow", "zeta/glow"]
    assert "write 'acme/glow' or 'zeta/glow'" in run("glow", status=1)
    assert "Z     y_fake, y" in run("zeta/glow")


def test_a_spec_that_a_setting_blocks_is_listed_with_the_setting(spec, monkeypatch):
    spec(SCHEDULED)
    monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
    assert describe_specs()[0].variants == ()
    assert 'NECTARGAN_BLOCK_PLUGINS="glow"' in run()


def test_without_specs_the_list_says_so(alone):
    assert run() == "No spec is installed. `nectargan plugins` shows what is.\n"
    assert json.loads(run("--json")) == []


def test_what_a_plugin_prints_is_not_among_the_output(spec):
    spec("print('imported')\ndef glow(config):\n    print('built')\n    return {'A': l1('A')}\n")
    assert json.loads(run("glow", "--json"))["name"] == "glow"


COLOURED = """
def glow(config, a="[ESC]"):
    'Red [ESC].'
    return {"A": l1("A", tags=["[ESC]"])}
"""


def test_what_a_terminal_would_act_on_is_escaped(spec):
    spec(COLOURED.replace("[ESC]", r"\x1b[31m"))
    for arguments in ((), ("glow",), ("--markdown",), ("glow", "--markdown"), ("glow", "--json")):
        assert "\x1b" not in run(*arguments)


def test_a_weight_of_0_is_no_warning(spec):
    spec("def glow(config):\n    return {'A': l1('A', config.loss_weight('a', default=0.0))}\n")
    assert "A     y_fake, y  0       train.loss.lambda_a\n" in run("glow")


def test_both_forms_at_once_are_refused(alone):
    assert "--json and --markdown exclude each other" in run("--json", "--markdown", status=2)


def test_no_line_is_wider_than_100_columns(spec):
    parameters = ", ".join(
        f"an_option_with_a_long_name_{number}: dict[str, tuple[int, ...]] = None" for number in "abc"
    )
    doc = "'''" + "A sentence that goes on and on, " * 9 + "to its end.'''"
    code = f"def glow(config, subspec: Literal['soft', 'very-very-hard', 'other'] = 'soft', {parameters}):\n    {doc}\n"
    spec(
        code + "    name = 'G_A_LOSS_OF_A_LONG_NAME'\n    return {name: l1(name, tags=['first', 'second', 'third'])}\n"
    )
    for arguments in ((), ("glow",)):
        assert max(map(len, run(*arguments).splitlines())) <= 100


@given(st.text(), st.text())
def test_a_cell_of_a_markdown_table_holds_any_text(first, second):
    row = markdown_table(["a", "b"], [[code(first), prose(second)]]).split("\n")[2]
    assert re.split(r"(?<!\\)\|", row)[1:-1] == [f" {code(first)} ", f" {prose(second)} "]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("y_fake, y", "`y_fake`, `y`"),
        ("dict[str, int] | None", r"`dict[str, int] \| None`"),
        ("(-1.0, 1.0)", "`(-1.0, 1.0)`"),
        ('"a, b", c', '`"a, b"`, `c`'),
        ("a`b", "`` a`b ``"),
    ],
)
def test_code_in_a_cell(text, expected):
    assert code(text) == expected


@pytest.mark.parametrize("name", ["pix2pix", "vgg", "sobel", "laplacian"])
def test_the_specs_of_this_project_are_built_without_weights(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    described = describe_spec(name)
    assert described.problems == ()
    assert all(variant.losses for variant in described.variants)
    assert list(tmp_path.iterdir()) == []


def test_what_is_described_is_what_a_manager_has():
    for described in describe_specs():
        for variant in described.variants:
            name = described.name if variant.name is None else f"{described.name}:{variant.name}"
            losses = LossManager.from_spec(name, device="meta").get_registered_losses()
            assert [loss.name for loss in variant.losses] == list(losses)
            for loss in variant.losses:
                assert loss.weight == losses[loss.name].loss_weight
        assert variants_of(catalog.find(catalog.SPECS, described.name).load()) in (
            None,
            tuple(variant.name for variant in described.variants),
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("One", "One"),
        ("One. Two.", "One."),
        ("One! Two", "One!"),
        ("By Lai et al. 2017. Two.", "By Lai et al. 2017."),
        ("Weight 1.5 of it. `x` is.", "Weight 1.5 of it."),
    ],
)
def test_the_first_sentence_of_a_text(text, expected):
    assert first_sentence(text) == expected
