"""Rewrite what follows from the plugins: tables of READMEs and docs, the plugin directory, and the names core knows.

- `<!-- nectargan specs vgg -->` ... `<!-- end -->` in a README or a page: the tables that this command prints.
- `<!-- inputs -->`: the names of inputs that losses share.
- `<!-- losses -->`: every loss spec of this project, with what it costs as `tests/bench/cost.py` measured it.
- `<!-- performance call -->`: what that benchmark of `tests/bench` found, as docs/performance.json has it;
  `<!-- performance machines -->`: where and when.
- `<!-- schedules of nectargan-schedules -->` and `<!-- weightings of ... -->`: what that distribution offers.
- `docs/directory.toml`: its second part, which lists the plugins of this project; `docs/directory.md`: all of it.
- `nectargan_core/catalog/_first_party.py`: which distribution of this project offers which name.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import json
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from nectargan_core import catalog
from nectargan_core._docstrings import docstring_of, section
from nectargan_core._names import is_name
from nectargan_core.cli import main as nectargan
from nectargan_core.cli._markdown import code, markdown_table, prose
from nectargan_core.objectives import (
    LossDescription,
    SpecDescription,
    VariantDescription,
    describe_spec,
    first_sentence,
    written_default,
)
from nectargan_core.testing._vocabulary import VOCABULARY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
DIRECTORY = ROOT / "docs" / "directory.toml"
COSTS = ROOT / "docs" / "costs.json"
PERFORMANCE = ROOT / "docs" / "performance.json"
KINDS = {
    "loss spec": catalog.SPECS,
    "schedule": catalog.SCHEDULES,
    "weighting": catalog.WEIGHTINGS,
    "observer": catalog.OBSERVERS,
}
"""What the directory lists, and the entry point group of each."""

FIELDS = ("name", "distribution", "kind", "sentence", "link")
LONGEST = 120

_MARKED = re.compile(
    r"<!-- (?P<what>nectargan |schedules of |weightings of |performance |inputs|losses)(?P<rest>.*?) -->\n"
    r".*?<!-- end -->",
    re.DOTALL,
)
_MARKER = re.compile(r"<!-- (?:end|inputs|losses|nectargan .*?|schedules of .*?|weightings of .*?|performance .*?) -->")
_OURS = (
    "# The plugins of this project, which `make tables` writes from their pyproject.toml and code. Add yours above.\n"
)
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_CITATION = re.compile(r'(?P<authors>[^"]+?),?\s*"[^"]*"(?P<rest>.*)')
_YEAR = re.compile(r"(?<![\d:.])(?:19|20)\d\d(?![\d.]\d)")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


class Offer(NamedTuple):
    """An entry point of a distribution of this project."""

    group: str
    name: str
    distribution: str
    target: str
    readme: str

    @property
    def sentence(self) -> str:
        """The first sentence of the docstring."""
        doc = docstring_of(pkgutil.resolve_name(self.target))
        return first_sentence(" ".join(doc.partition("\n\n")[0].split()))


def offers(core: bool = True) -> list[Offer]:
    """Return what the distributions of this project offer, by group and name; with or without core's own."""
    found = []
    for path in [*([ROOT / "pyproject.toml"] * core), *sorted(ROOT.glob("plugins/*/pyproject.toml"))]:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        readme = path.with_name("README.md").relative_to(ROOT).as_posix()
        for group, targets in project.get("entry-points", {}).items():
            found += [Offer(group, name, project["name"], target, readme) for name, target in targets.items()]
    order = list(KINDS.values())
    return sorted(found, key=lambda offer: (order.index(offer.group), offer.name))


def generated() -> dict[Path, str]:
    """Return what each file that is written here, wholly or in part, has to contain."""
    contents = {path: with_tables(path) for path in documents()}
    contents = {path: text for path, text in contents.items() if _MARKER.search(text)}
    contents[ROOT / "nectargan_core/catalog/_first_party.py"] = first_party()
    contents[DIRECTORY] = listing = directory(DIRECTORY.read_text(encoding="utf-8"))
    contents[DIRECTORY.with_suffix(".md")] = directory_page(listing)
    return contents


def documents() -> list[Path]:
    """Return the files that may have tables."""
    pages = [page for page in ROOT.glob("docs/*.md") if page != DIRECTORY.with_suffix(".md")]
    return sorted([ROOT / "README.md", *pages, *ROOT.glob("plugins/*/README.md")])


def with_tables(path: Path) -> str:
    """Return a document with its tables as they are now.

    Raises:
        SystemExit: If a table has no end, or cannot be made.
    """
    text = path.read_text(encoding="utf-8")
    marks = _MARKER.findall(text)
    begins, ends = marks[::2], marks[1::2]
    if len(begins) != len(ends) or "<!-- end -->" in begins or {*ends} - {"<!-- end -->"}:
        raise SystemExit(f"{_shown(path)}: each table begins with its marker and ends with <!-- end -->")

    def made(match: re.Match[str]) -> str:
        try:
            table = _table(match["what"], match["rest"])
        except Exception as error:
            raise SystemExit(f"{_shown(path)}: <!-- {match['what']}{match['rest']} -->: {error}") from error
        return f"<!-- {match['what']}{match['rest']} -->\n\n{table}\n\n<!-- end -->"

    return _MARKED.sub(made, text)


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _table(what: str, rest: str) -> str:
    if what == "nectargan ":
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                nectargan([*rest.split(), "--markdown"], prog_name="nectargan", standalone_mode=False)
        except SystemExit:  # after a table without what could not be built
            raise ValueError(printed.getvalue().strip().rpartition("\n\n")[2]) from None
        return printed.getvalue().strip()
    if what == "inputs":
        inputs = [
            [code(each.name), prose(each.description), prose(each.shape), prose(each.range), prose(each.made_by)]
            for each in VOCABULARY.values()
        ]
        return markdown_table(["input", "what it is", "shape", "values", "made by"], inputs)
    if what == "losses":
        return _losses()
    if what == "performance ":
        return _performance(rest)
    group = catalog.SCHEDULES if what == "schedules of " else catalog.WEIGHTINGS
    listed = [offer for offer in offers() if (offer.group, offer.distribution) == (group, rest)]
    if not listed:
        raise ValueError(f"no distribution of this project named {rest!r} offers any")
    rows = [_row(offer) for offer in listed]
    headings = ["name", "params", "what it does"] + ["needs", "source"] * (group == catalog.WEIGHTINGS)
    return markdown_table(headings, rows)


def _row(offer: Offer) -> list[str]:
    made = pkgutil.resolve_name(offer.target)
    # A schedule is given itself and the epoch, a weighting nothing else.
    given = 2 if offer.group == catalog.SCHEDULES else 0
    params = list(inspect.signature(made).parameters.values())[given:]
    written = [
        f"`{param.name}`" if param.default is param.empty else f"`{param.name}={written_default(param.default)}`"
        for param in params
    ]
    row = [code(offer.name), ", ".join(written), prose(offer.sentence)]
    if offer.group == catalog.WEIGHTINGS:
        row += [made.needs, cited(" ".join(section(docstring_of(made), "Source")))]
    return row


def described() -> dict[str, tuple[SpecDescription, VariantDescription]]:
    """Return each loss spec of this project in each of its variants, by its name.

    Raises:
        ValueError: If one cannot be built.
    """
    found = {}
    for offer in offers(core=False):
        if offer.group == catalog.SPECS:
            spec = describe_spec(f"{offer.distribution}/{offer.name}")
            if spec.problems:
                raise ValueError("; ".join(spec.problems))
            for variant in spec.variants:
                found[spec.name if variant.name is None else f"{spec.name}:{variant.name}"] = spec, variant
    return found


def costs() -> dict[str, dict[str, float | None]]:
    """Return what was measured, by device and name of the spec."""
    measured: dict[str, dict[str, float | None]] = json.loads(COSTS.read_text(encoding="utf-8"))
    return measured


def _losses() -> str:
    devices = costs()
    rows = []
    for name, (spec, variant) in described().items():
        names = f"{spec.name}, {name}" if variant.name is not None and variant.name == spec.default_variant else name
        reads = dict.fromkeys(itertools.chain.from_iterable(_reads(loss) for loss in variant.losses))
        ranges = dict.fromkeys(values for loss in variant.losses for values in loss.ranges.values())
        measured = ["" if (cost := of.get(name)) is None else f"{cost:g}" for of in devices.values()]
        rows.append(
            [
                code(names),
                code(variant.formula),
                code(", ".join(reads)),
                ", ".join(ranges) or "any",
                *measured,
                cited(variant.source),
            ]
        )
    headings = ["name", "formula", "reads", "range", *(f"cost, {device}" for device in devices), "source"]
    return markdown_table(headings, rows)


def performance() -> dict[str, Any]:
    """Return what each benchmark found when it was last run with `--write`, by its name."""
    found: dict[str, Any] = json.loads(PERFORMANCE.read_text(encoding="utf-8"))
    return found


def _performance(name: str) -> str:
    results = performance()
    if name == "machines":
        return _machines(results)
    if name not in results:
        raise ValueError(f"docs/performance.json has no {name}: run `python tests/bench {name} --write`")
    result = results[name]
    rows = [
        [
            prose(row["what"]),
            prose(row["beside"]),
            "not measured" if row["ratio"] is None else _three_digits(row["ratio"]),
            "" if row["ratio"] is None else f"{_three_digits(row['low'])} to {_three_digits(row['high'])}",
            "" if row["aim"] is None else f"{row['aim']:g}",
            prose(row["note"]),
        ]
        for row in result["rows"]
    ]
    table = markdown_table(["what", "beside", "ratio", "quartiles", "aim", "on that machine"], rows)
    took = f"`python tests/bench {name}`"
    if any(row["ratio"] is not None for row in result["rows"]):
        took += f", {result['seconds']} s at a load of {result['load']:g}"
    return f"{prose(result['title'])}.\n\n{table}\n\n{took}."


def _machines(results: Mapping[str, Any]) -> str:
    """Say what was measured when and where; all in one sentence, where that is the same for all."""
    runs: dict[str, list[str]] = {}
    for name, result in results.items():
        runs.setdefault(f"{result['date']}, on {result['machine']}", []).append(name)
    minutes = sum(result["seconds"] for result in results.values()) / 60
    names = [f"- {run}: {code(', '.join(found))}" if len(runs) > 1 else f"{run}." for run, found in runs.items()]
    return "\n".join([*names, "", f"All of it took {minutes:.0f} minutes."])


def _three_digits(value: float) -> str:
    text = f"{value:#.3g}"
    return f"{value:.0f}" if "e+" in text else text.removesuffix(".")


def _reads(loss: LossDescription) -> Iterable[str]:
    return loss.inputs.values() if isinstance(loss.inputs, dict) else loss.inputs


def cited(source: str) -> str:
    """Return the authors and the year of the first publication that a section `Source:` names, linked where it can be.

    Example:
        >>> cited('Ma and Wu, "On X", 2020, arXiv:2001.00001, equation 3.'), cited("The definition.")
        ('[Ma and Wu 2020](https://arxiv.org/abs/2001.00001)', 'The definition.')
    """
    citation = _CITATION.match(source)
    if citation is None:
        return prose(source)
    year, arxiv = _YEAR.search(citation["rest"]), _ARXIV.search(citation["rest"])
    text = prose(" ".join(filter(None, (citation["authors"], year and year[0]))))
    return f"[{text}](https://arxiv.org/abs/{arxiv[1]})" if arxiv else text


def first_party() -> str:
    """Return the module that tells core which distribution of this project offers which name."""
    lines = [
        '"""Which plugins this project offers, for messages: name to distribution. Written by `make tables`."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "from nectargan_core.catalog._groups import OBSERVERS, SCHEDULES, SPECS, WEIGHTINGS",
        "",
        "FIRST_PARTY: Final = {",
    ]
    for constant in ("SPECS", "SCHEDULES", "WEIGHTINGS", "OBSERVERS"):
        lines.append(f"    {constant}: {{")
        for offer in offers(core=False):
            if offer.group == getattr(catalog, constant):
                lines.append(f"        {json.dumps(offer.name)}: {json.dumps(offer.distribution)},")
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


def directory(text: str) -> str:
    """Return `directory.toml` with its second part as it is now."""
    others, line, ours = text.partition(_OURS)
    if not line:
        raise SystemExit(f"{DIRECTORY.relative_to(ROOT)} lacks this line, before which others are listed:\n{_OURS}")
    mine = {offer.distribution for offer in offers()}
    for entry in _read(ours).get("plugin", []):
        if entry.get("distribution") not in mine:
            name = f"plugin {entry.get('name')!r}"
            raise SystemExit(f"{DIRECTORY.relative_to(ROOT)}: {name} stands below this line; move it above:\n{_OURS}")
    kinds = {group: kind for kind, group in KINDS.items()}
    tables = []
    for offer in offers():
        values = (offer.name, offer.distribution, kinds[offer.group], offer.sentence, offer.readme)
        fields = zip(FIELDS, values, strict=True)
        tables.append(
            "[[plugin]]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in fields)
        )
    return others + _OURS + "\n" + "\n".join(tables)


def _read(text: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SystemExit(f"{DIRECTORY.relative_to(ROOT)} is not valid TOML: {error}") from error
    return data


def directory_page(text: str) -> str:
    """Return the page of the documentation that shows the directory.

    Raises:
        SystemExit: If an entry is not as it has to be.
    """
    data = _read(text)
    if found := problems(data):
        raise SystemExit("\n".join(f"{DIRECTORY.relative_to(ROOT)}: {problem}" for problem in found))
    parts = [_INTRODUCTION]
    for kind in KINDS:
        entries = sorted((entry for entry in data["plugin"] if entry["kind"] == kind), key=lambda entry: entry["name"])
        if entries:
            rows = [[code(entry["name"]), prose(entry["sentence"]), _linked(entry)] for entry in entries]
            table = markdown_table(["name", "what it does", "distribution"], rows)
            parts.append(f"## {kind.capitalize()}s\n\n{table}\n")
    return "\n".join(parts)


_INTRODUCTION = """\
<!-- Written by `make tables` from directory.toml. -->

# Plugin directory

What is published for this project, by itself and by others. `pip install DISTRIBUTION` makes the name work: that of a
loss spec in a formula, that of a schedule in `Schedule(...)`, that of a weighting in `Weighting(...)`. A distribution
is linked to its source or documentation.

A plugin is code that runs with your rights. That one is listed here says nothing about its quality or its safety.

**To list yours**, open an issue with the form "Plugin to be listed", or propose a change of `docs/directory.toml`: an
entry for each name, above the plugins of this project.
"""


def _linked(entry: Mapping[str, str]) -> str:
    distribution = code(entry["distribution"])
    if _is_https(entry["link"]):
        return f"[{distribution}]({entry['link']})"
    # That of core is the site itself.
    return f"[{distribution}](../{entry['link']})" if entry["link"].startswith("plugins/") else distribution


def problems(data: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the data of the directory, entry by entry, and what to write instead."""
    entries = data.get("plugin")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or len(data) > 1:
        return ["expected tables [[plugin]] and nothing else"]
    found: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(entries, start=1):
        place = f"plugin {entry.get('name', number)!r}"
        wrong = list(_wrong_fields(entry)) or list(_wrong_values(entry))
        if not wrong:
            key = entry["kind"], entry["name"]
            if key in seen:
                wrong.append(
                    f"the {entry['kind']} {entry['name']!r} is listed already, from {seen[key]}; choose another name, "
                    "since with both installed neither could be used by the name alone"
                )
            seen.setdefault(key, entry["distribution"])
        found += [f"{place}: {each}" for each in wrong]
    return found


def _wrong_fields(entry: Mapping[str, Any]) -> Iterable[str]:
    for field in FIELDS:
        value = entry.get(field)
        if not isinstance(value, str) or value != value.strip() or not value.isprintable() or not value:
            yield f'expected {field} = "...", a text in one line without blanks around it, got {value!r}'
    for field in entry:
        if field not in FIELDS:
            yield f"{field!r} is none of the fields {', '.join(FIELDS)}"


def _wrong_values(entry: Mapping[str, str]) -> Iterable[str]:
    name, distribution, kind, sentence, link = (entry[field] for field in FIELDS)
    if not is_name(name):
        yield "its name has to be letters, digits, '_', '-' and '.', and begin with neither '-' nor '.'"
    if not _DISTRIBUTION.fullmatch(distribution):
        yield f"the distribution is its name as in 'pip install NAME', got {distribution!r}"
    if kind not in KINDS:
        yield f"the kind is one of {', '.join(KINDS)}, got {kind!r}"
    if first_sentence(sentence) != sentence or not sentence.endswith(".") or len(sentence) > LONGEST:
        yield f"expected one sentence of {LONGEST} characters at most that ends with a full stop, got {sentence!r}"
    ours = (ROOT / link).is_file() and link.endswith("README.md") and ".." not in link
    if not ours and not _is_https(link):
        yield f"the link is where its source or documentation is, https://..., got {link!r}"


def _is_https(link: str) -> bool:
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme == "https" and "." in parts.netloc and not set(link) & set(" <>()\"'`|")


def main() -> None:
    """Rewrite what is not current, and name each file that was."""
    for path, text in generated().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"rewritten: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
