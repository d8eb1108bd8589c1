"""The plugin directory: what its data file may have, the messages that contributors get, and the issue form."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / ".github").exists(), reason="an sdist has neither docs nor issue forms")

GLOW = {
    "name": "glow",
    "distribution": "acme-losses",
    "kind": "loss spec",
    "sentence": "Compares the brightest parts of the images.",
    "link": "https://example.org/acme",
}


@pytest.fixture(scope="module")
def tables():
    return runpy.run_path(str(ROOT / "docs" / "make_tables.py"))


def the_problem(tables, *entries, **changes):
    (problem,) = tables["problems"]({"plugin": [*entries, {**GLOW, **changes}]})
    return problem


def test_the_directory_has_no_problem(tables):
    data = tables["_read"]((ROOT / "docs" / "directory.toml").read_text(encoding="utf-8"))
    assert tables["problems"](data) == []


def test_it_lists_each_name_that_a_distribution_of_this_project_offers(tables):
    data = tables["_read"]((ROOT / "docs" / "directory.toml").read_text(encoding="utf-8"))
    listed = {(entry["kind"], entry["name"], entry["distribution"]) for entry in data["plugin"]}
    kinds = {group: kind for kind, group in tables["KINDS"].items()}
    assert {(kinds[offer.group], offer.name, offer.distribution) for offer in tables["offers"]()} <= listed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "-glow"}, r"plugin '-glow': its name has to be letters, digits, '_', '-' and '.', and begin with"),
        ({"name": ""}, r"expected name = \"...\", a text in one line without blanks around it, got ''"),
        ({"link": 7}, r"plugin 'glow': expected link = \"...\", a text in one line .*, got 7"),
        ({"sentence": "a\nb."}, r"expected sentence = \"...\", a text in one line"),
        ({"distribution": "acme losses"}, r"the distribution is its name as in 'pip install NAME', got 'acme losses'"),
        ({"kind": "loss"}, r"the kind is one of loss spec, schedule, weighting, observer, got 'loss'"),
        ({"sentence": "It is a loss. It is good."}, r"expected one sentence of 120 characters at most"),
        ({"sentence": "A loss"}, r"that ends with a full stop, got 'A loss'"),
        ({"sentence": "x" * 120 + "."}, r"of 120 characters at most"),
        ({"link": "http://example.org"}, r"the link is where its source or documentation is, https://..., got 'http:"),
        ({"link": "https://"}, r"the link is where"),
        ({"link": "javascript:alert(1)"}, r"the link is where"),
        ({"link": "../plugins/nectargan-vgg/README.md"}, r"the link is where"),
        ({"link": "https://a.org/)[x](http://b.org"}, r"the link is where"),
        ({"author": "Ann"}, r"'author' is none of the fields name, distribution, kind, sentence, link"),
    ],
)
def test_a_wrong_entry_is_told_what_to_write(tables, changes, message):
    assert re.search(message, the_problem(tables, **changes))


def test_a_field_that_is_missing_is_named(tables):
    (problem,) = tables["problems"]({"plugin": [{key: GLOW[key] for key in GLOW if key != "link"}]})
    assert problem.startswith("plugin 'glow': expected link = ")


def test_a_name_is_listed_once_for_each_kind(tables):
    assert "is listed already, from acme-losses" in the_problem(tables, GLOW)
    assert "is listed already, from acme-losses" in the_problem(tables, GLOW, distribution="beta-losses")
    assert tables["problems"]({"plugin": [GLOW, {**GLOW, "kind": "schedule"}]}) == []


@pytest.mark.parametrize("data", [{}, {"plugin": {}}, {"plugin": ["glow"]}, {"plugin": [GLOW], "plugins": []}])
def test_a_file_of_another_shape_is_refused(tables, data):
    assert tables["problems"](data) == ["expected tables [[plugin]] and nothing else"]


def test_what_is_no_toml_is_told_where(tables):
    with pytest.raises(SystemExit, match=r"docs/directory.toml is not valid TOML: .*line 1"):
        tables["directory_page"]("[[plugin]\n")


ENTRY = "[[plugin]]\n" + "".join(f'{key} = "{value}"\n' for key, value in GLOW.items())


def test_an_entry_of_others_is_kept_and_shown_with_a_link(tables):
    text = tables["directory"](ENTRY + tables["_OURS"])
    assert text.startswith(ENTRY)
    page = tables["directory_page"](text)
    row = "| `glow` | Compares the brightest parts of the images. | [`acme-losses`](https://example.org/acme) |"
    assert row in page.splitlines()


def test_an_entry_of_others_among_those_of_this_project_is_not_lost(tables):
    with pytest.raises(SystemExit, match=r"plugin 'glow' stands below this line; move it above:"):
        tables["directory"](tables["_OURS"] + ENTRY)


def test_the_line_between_the_parts_has_to_stay(tables):
    with pytest.raises(SystemExit, match=r"docs/directory.toml lacks this line"):
        tables["directory"](ENTRY)


def test_the_issue_form_asks_for_the_fields_of_the_data_file(tables):
    form = (ROOT / ".github/ISSUE_TEMPLATE/plugin.yml").read_text(encoding="utf-8")
    assert tuple(re.findall(r"(?m)^    id: (\w+)$", form)) == tables["FIELDS"]
    options = re.search(r"(?m)^      options:\n((?:        - .*\n)+)", form)
    assert re.findall(r"- (.*)", options[1]) == list(tables["KINDS"])
    assert f"of {tables['LONGEST']} characters at most" in form
    assert form.count("required: true") == len(tables["FIELDS"])
