"""What is generated from the plugins is current, and a marker that cannot be served is an error."""

import difflib
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="an sdist has no docs")


@pytest.fixture(scope="module")
def tables():
    return runpy.run_path(str(ROOT / "docs" / "make_tables.py"))


def test_what_is_generated_is_current(tables):
    stale = {
        path.relative_to(ROOT).as_posix(): difflib.unified_diff(now.splitlines(), text.splitlines(), lineterm="", n=0)
        for path, text in tables["generated"]().items()
        if (now := path.read_text(encoding="utf-8") if path.exists() else "") != text
    }
    differences = "\n".join(f"{path}\n" + "\n".join(lines) for path, lines in stale.items())
    assert not stale, f"run `make tables`, which rewrites {', '.join(stale)}:\n{differences}"


def test_the_readme_of_each_plugin_has_tables_of_what_it_offers(tables):
    markers = {
        "nectargan.loss_specs": "nectargan specs {0.name}",
        "nectargan.schedules": "schedules of {0.distribution}",
    }
    for offer in tables["offers"](core=False):
        if offer.group == "nectargan.observers":
            continue  # It offers one name, which its README is about.
        marker = markers.get(offer.group, "weightings of {0.distribution}").format(offer)
        assert f"<!-- {marker} -->" in (ROOT / offer.readme).read_text(encoding="utf-8")


@pytest.fixture
def page(tables, tmp_path):
    """Return a function that writes a page, and makes its tables."""

    def made(text):
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        return tables["with_tables"](path)

    return made


def test_a_table_replaces_what_stood_there_and_nothing_else(page):
    text = "before\n\n<!-- nectargan specs sobel -->\nold\n<!-- end -->\n\nafter\n"
    made = page(text)
    assert made.startswith("before\n\n<!-- nectargan specs sobel -->\n\n| loss |")
    assert made.endswith("\n\n<!-- end -->\n\nafter\n")
    assert "old" not in made
    assert page(made) == made


def test_a_page_without_markers_stays_as_it_is(page):
    assert page("text <!-- skip: next -->\n") == "text <!-- skip: next -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- nectargan specs sobel -->\n",
        "<!-- end -->\n",
        "<!-- nectargan specs sobel -->\n<!-- nectargan specs vgg -->\n<!-- end -->\n<!-- end -->\n",
    ],
)
def test_a_marker_without_its_counterpart_is_an_error(page, text):
    with pytest.raises(SystemExit, match=r"page.md: each table begins with its marker and ends with <!-- end -->"):
        page(text)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("nectargan specs sobell", r"page.md: <!-- nectargan specs sobell -->: no loss spec 'sobell' is installed"),
        ("nectargan spec sobel", r"No such command 'spec'"),
        ("schedules of nectargan-vgg", r"no distribution of this project named 'nectargan-vgg' offers any"),
    ],
)
def test_a_table_that_cannot_be_made_is_an_error(page, marker, message):
    with pytest.raises(SystemExit, match=message):
        page(f"<!-- {marker} -->\n<!-- end -->\n")


@pytest.fixture(scope="module")
def losses(tables):
    return tables["described"]()


def test_every_spec_says_its_formula_and_its_source(losses):
    for name, (spec, variant) in losses.items():
        for heading, text in (("Formula", variant.formula), ("Source", variant.source)):
            assert text, (
                f"{name} ({spec.distribution}): give the docstring of {spec.target} a section `{heading}:`, with a "
                "line for each variant where they differ; docs/writing-a-plugin.md, section Formula and source"
            )


def test_the_cost_of_every_spec_was_measured(tables, losses):
    measured = tables["costs"]()["CPU"]
    assert losses.keys() == measured.keys(), (
        "docs/costs.json: run `python tests/bench cost`, then `make tables`; not measured are "
        f"{sorted(losses.keys() - measured)}, and gone are {sorted(measured.keys() - losses)}"
    )


@pytest.mark.parametrize(
    ("source", "cell"),
    [
        (
            'Ma and Wu, "On X", ICCV 2019, arXiv:2001.00001, equation 3; Li, "Y", 2023.',
            "[Ma and Wu 2019](https://arxiv.org/abs/2001.00001)",
        ),
        ('Ma et al., "The Year 1999", arXiv:1912.04958.', "[Ma et al.](https://arxiv.org/abs/1912.04958)"),
        ('Ma, "On X" (CVPR 2020), section 2.1.', "Ma 2020"),
        ("`F.l1` of acme | <b>", r"`F.l1` of acme \| &lt;b>"),
        ("", ""),
    ],
)
def test_a_source_is_cited_by_its_authors_and_year(tables, source, cell):
    assert tables["cited"](source) == cell
