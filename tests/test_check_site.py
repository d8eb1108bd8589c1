"""The check of the site finds what is wrong with links, pictures and the width of code."""

from __future__ import annotations

import runpy
import shutil

import pytest
from documents import ROOT

CHECK = runpy.run_path(str(ROOT / "docs" / "check_site.py"))
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def site(tmp_path, **pages):
    for name, body in pages.items():
        (tmp_path / f"{name}.html").write_text(f"<!doctype html><body>{body}</body>", encoding="utf-8")
    return tmp_path


def test_a_sound_site_has_no_faults(tmp_path):
    (tmp_path / "curve.png").touch()
    index = '<h1 id="top">A</h1><a href="#top">1</a><a href="b.html#b">2</a><a href="https://pytorch.org/x">3</a>'
    folder = site(tmp_path, index=index, b='<h1 id="b">B</h1><img src="curve.png" alt="a curve">')
    assert CHECK["faults_of_links"](folder) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="c.html">C</a>', "index.html: there is no c.html"),
        ('<a href="b.html#c">C</a>', "index.html: there is no b.html#c; the page has no such heading"),
        ('<a href="#c">C</a>', "index.html: there is no #c; the page has no such heading"),
        ('<a href="http://pytorch.org">C</a>', "index.html: http://pytorch.org is no https address"),
        ('<a href="https://pytorch">C</a>', "index.html: https://pytorch is no https address"),
        ('<img src="c.png" alt="C">', "index.html: there is no picture c.png"),
        ('<img src="b.html">', "index.html: the picture b.html has no text for those who do not see it"),
    ],
)
def test_each_fault_of_a_link_or_picture_is_named(body, fault, tmp_path):
    assert CHECK["faults_of_links"](site(tmp_path, index=body, b='<h1 id="b">B</h1>')) == [fault]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on the path")
def test_code_that_is_too_wide_and_a_page_wider_than_a_phone_are_named(tmp_path):
    narrow = '<pre style="overflow: auto">short</pre>'
    wide = f'<pre style="overflow: auto">{"long " * 300}</pre>'
    page = '<meta name="viewport" content="width=device-width"><div style="width: 900px">a page</div>'
    faults = CHECK["faults_of_widths"](site(tmp_path, narrow=narrow, page=page, wide=wide), BROWSER)
    assert [fault.partition(" pixels")[0].rpartition(" ")[0] for fault in faults] == [
        "page.html: the page is",
        "wide.html: code is",
    ]
