"""The pages that the tests read, and what is in them: blocks of code, sections, tables and code in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What `make docs` makes, which is no part of the repository.
_MADE = ("docs/_build/", "docs/gallery/", "docs/readmes/")
PAGES = sorted(
    path
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")]
    if not path.relative_to(ROOT).as_posix().startswith(_MADE)
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Args:
        page: The page, from the top of the repository.
        line: The line of its opening fence, from 1.
        language: What stands behind the fence; empty where nothing does.
        text: The lines between the fences, without the indentation of the fence.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0]


def blocks(path: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page, those of some languages only where any are given."""
    found = []
    fence = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if fence is None:
            # Also within quotations and lists.
            if fence := re.match(r"([ >]*(?:(?:[-*+]|\d+[.)]) +)?)(`{3,}(?=[^`]*$)|~{3,})\s*(.*?)\s*$", line):
                start, lines = number, []
        elif re.fullmatch(rf"[ >]*{fence[2][0]}{{{len(fence[2])},}} *", line):
            found.append(Block(relative(path), start, fence[3], "".join(f"{each}\n" for each in lines)))
            fence = None
        else:
            lines.append(re.sub(rf"^[ >]{{0,{len(fence[1])}}}", "", line))
    assert fence is None, f"{relative(path)}:{start}: the block has no end"
    return [block for block in found if not languages or block.language in languages]


def text_of(path: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^ *(```+|~~~+).*?^ *\1 *$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def sections(path: Path) -> dict[str, str]:
    """Return what stands under each heading of a page, without what stands under headings below it."""
    found: dict[str, str] = {}
    fence, heading = "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        mark = re.match(r" *(```+|~~~+)", line)
        if mark and (not fence or line.strip() == fence):
            fence = "" if fence else mark[1]
        title = None if fence else re.fullmatch(r"#+ +(.+?) *", line)
        if title:
            heading = title[1]
        found[heading] = found.get(heading, "") + ("" if title else f"{line}\n")
    return found


def rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of all tables of a text, without the lines between headings and rows."""
    lines = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip().replace("\\|", "|") for cell in line] for line in lines]
    return [row for row in table if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def code(text: str) -> list[str]:
    """Return what stands between single backticks, each in one line."""
    return [" ".join(found.split()) for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def file_of(block: Block) -> str | None:
    """Return the path of the file that a block is, which its first line says in a comment; None of another block."""
    found = re.fullmatch(r"# ([\w./-]+\.(?:py|toml))", block.first)
    return found[1] if found else None


def project_of(path: Path) -> dict[str, str]:
    """Return the files that the blocks of a page are, by their paths."""
    return {file: block.text for block in blocks(path) if (file := file_of(block))}
