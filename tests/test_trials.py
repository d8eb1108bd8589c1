"""`nectargan plugins --load` uses each plugin once: what it finds, and what it lets pass with a note."""

import json
import re

import pytest

from nectargan_core import catalog
from nectargan_core.cli._trials import try_out
from nectargan_core.errors import NectarganError

SPEC = """
import torch
from typing import Literal
from nectargan_core import LMLoss, Losses, Schedule, Weighting

def glow(config):
    return {"G_GLOW": LMLoss(name="G_GLOW", function=torch.nn.L1Loss(), tags=["G"])}
"""
GIVES = """
def glow(config):
    return RESULT
"""
VARIANTS = """
def glow(config, subspec: Literal["soft", "hard"] = "soft"):
    if subspec == "hard":
        raise KeyError("lambda_glow")
    return {}
"""
NEEDS_VARIANT = """
def glow(config, subspec: Literal["soft", "hard"]):
    assert subspec in ("soft", "hard")
    return {}
"""
WEIGHTING = """
class Glow:
    needs = "values"

    def factors(self, step):
        return [1.0] * len(step.names)
"""


def tried(site, group, source, name="glow", target=None):
    """Install a plugin, and use it once in this process."""
    kind = {catalog.SPECS: "specs", catalog.SCHEDULES: "schedules"}.get(group)
    target = target or ("acme:Glow" if group == catalog.WEIGHTINGS else "acme:glow")
    if kind:
        site.install("acme", **{kind: {name: target}}, modules={"acme.py": source})
    else:
        site.install("acme", entry_points=f"[{group}]\n{name} = {target}\n", modules={"acme.py": source})
    plugin = catalog.find(group, name, "acme")
    return try_out(plugin, plugin.load())


class TestSpecs:
    def test_one_that_works_passes(self, site):
        assert tried(site, catalog.SPECS, SPEC) == ""

    @pytest.mark.parametrize(
        ("result", "says"),
        [
            ("[]", "returned list; expected a dict"),
            ("None", "returned NoneType; expected a dict"),
            ("{'G_GLOW': 1}", "returned int under 'G_GLOW'"),
            ("{'K': LMLoss(name='L', function=abs)}", "a loss named 'L' under the key 'K'"),
            ("1 / 0", "failed: ZeroDivisionError: division by zero"),
            ("{'L': LMLoss(name='L', function=abs, schedule=Schedule('nowhere', end_epoch=2))}", "'nowhere'"),
            ("Losses({'L': LMLoss(name='L', function=abs)}, weightings={'L': Weighting('nowhere')})", "'nowhere'"),
        ],
    )
    def test_what_gives_no_losses_that_a_manager_takes_is_found(self, site, result, says):
        with pytest.raises(NectarganError, match=says):
            tried(site, catalog.SPECS, SPEC + GIVES.replace("RESULT", result))

    def test_each_variant_is_built(self, site):
        with pytest.raises(NectarganError, match="its variant 'hard' cannot be built: .*KeyError: 'lambda_glow'"):
            tried(site, catalog.SPECS, SPEC + VARIANTS)

    def test_one_that_needs_a_variant_is_built_with_each(self, site):
        assert tried(site, catalog.SPECS, SPEC + NEEDS_VARIANT) == ""

    def test_one_that_needs_a_variant_nobody_knows_has_a_note(self, site):
        source = "def glow(config, subspec): return {}"
        assert tried(site, catalog.SPECS, source).startswith("not built, since it needs a variant")

    def test_it_is_built_on_the_meta_device(self, site):
        source = "def glow(config):\n    assert config.common.device == 'meta'\n    return {}"
        assert tried(site, catalog.SPECS, source) == ""

    @pytest.mark.parametrize("name", ["a glow", "glow:soft", "acme/glow", "-glow", "gl+ow"])
    def test_a_name_that_no_formula_can_have_is_found(self, site, name):
        with pytest.raises(NectarganError, match=re.escape(f"the name {name!r} cannot be written")):
            tried(site, catalog.SPECS, SPEC, name=name)

    def test_a_name_that_is_a_number_works(self, site):
        assert tried(site, catalog.SPECS, SPEC, name="100") == ""

    def test_one_that_is_hidden_by_another_of_its_name_is_built_itself(self, site):
        site.install_spec("beta", "glow")
        with pytest.raises(NectarganError, match=r"glow \(acme 1\.0, acme:glow\) returned list"):
            tried(site, catalog.SPECS, GIVES.replace("RESULT", "[]"))

    def test_a_missing_extra_of_its_distribution_is_a_note(self, site):
        advice = "reading them needs safetensors: pip install 'acme[fast]'"
        source = f"def glow(config): raise ImportError({advice!r})"
        assert tried(site, catalog.SPECS, source) == f"not tried: {advice}"

    def test_a_missing_requirement_is_found(self, site):
        with pytest.raises(NectarganError, match="No module named 'not_to_be_found'"):
            tried(site, catalog.SPECS, "def glow(config): import not_to_be_found")


class TestSchedules:
    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("float('nan')", "gave nan at epoch"),
            ("float('nan') if epoch > schedule.end_epoch else 1.0", "gave nan at epoch 6"),
            ("1.0 / (epoch - schedule.start_epoch)", "failed at epoch 1: ZeroDivisionError"),
            ("[1.0, 0.5][epoch]", "failed at epoch"),
            ("None", "gave None"),
        ],
    )
    def test_what_gives_no_number_at_an_end_or_elsewhere_is_found(self, site, value, says):
        with pytest.raises(NectarganError, match=says):
            tried(site, catalog.SCHEDULES, f"def glow(schedule, epoch, **params): return {value}")

    def test_one_that_needs_params_has_a_note(self, site):
        source = "def glow(schedule, epoch, *, n, m=1): raise AssertionError"
        assert tried(site, catalog.SCHEDULES, source) == "not evaluated, since it needs params: n"

    def test_one_that_works_passes_under_a_name_of_cores_own(self, site):
        assert tried(site, catalog.SCHEDULES, "def glow(schedule, epoch): return 1.0", name="linear") == ""


class TestWeightings:
    def test_one_that_works_passes(self, site):
        assert tried(site, catalog.WEIGHTINGS, WEIGHTING) == ""

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ("class Glow:\n    needs = 'values'", "has no method factors"),
            (WEIGHTING.replace('"values"', '"more"'), "has needs = 'more'"),
            (WEIGHTING.replace("[1.0] * len(step.names)", "[1.0]"), "gave 1 factors for 4 losses"),
            (WEIGHTING.replace("[1.0]", "[float('nan')]"), "gave the factor nan"),
            (WEIGHTING.replace("[1.0] *", "1 / 0 *"), "failed in factors: ZeroDivisionError"),
            (WEIGHTING + "    def __init__(self): raise ValueError('no')", "cannot be made .* ValueError: no"),
        ],
    )
    def test_what_gives_no_factors_is_found(self, site, source, says):
        with pytest.raises(NectarganError, match=says):
            tried(site, catalog.WEIGHTINGS, source)

    def test_one_that_needs_params_has_a_note(self, site):
        source = WEIGHTING + "    def __init__(self, *, alpha): raise AssertionError"
        assert tried(site, catalog.WEIGHTINGS, source) == "not made, since it needs params: alpha"

    def test_one_of_gradients_is_given_some(self, site):
        source = WEIGHTING.replace('"values"', '"gradients"').replace(
            "[1.0] * len(step.names)", "step.norms().tolist()"
        )
        assert tried(site, catalog.WEIGHTINGS, source) == ""


@pytest.mark.slow
def test_what_is_found_is_printed_and_sets_the_exit_status(site):
    source = """
    import os
    def sound(config): return {}
    def wrong(config): return []
    def dies(config): os._exit(3)
    def after(config): return {}
    """
    names = ("sound", "wrong", "dies", "after")
    site.install("acme", specs={name: f"acme:{name}" for name in names}, modules={"acme.py": source})
    done = site.run("-m", "nectargan_core", "plugins", "--load", "--json", NECTARGAN_PLUGINS="acme")
    assert done.returncode == 1, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {name: rows[name]["state"] for name in (*names, "linear")} == {
        "sound": "loaded",
        "wrong": "broken",
        "dies": "broken",
        "after": "loaded",
        "linear": "loaded",
    }
    assert rows["wrong"]["note"].endswith("to its LMLoss; report it to the authors of acme")
    assert rows["dies"]["note"] == "ended Python with exit status 3; report it to the authors of acme"
