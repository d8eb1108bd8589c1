"""Check the pages that Sphinx has made: links, pictures, and in Chromium, where there is one, how wide code is.

Links to other sites are looked at and not followed, so that no network is needed.
"""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).parent / "_build" / "html"
DESKTOP, PHONE = 1300, 400
# Pages that Sphinx makes by itself.
GENERATED = {"genindex.html", "py-modindex.html", "search.html"}

_MEASURE = """<!doctype html><title>measuring</title><body><script>
const pages = PAGES, found = [];
async function open(page, width) {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; height: 800px; width: ${width}px`;
  const loaded = new Promise(resolve => { frame.onload = resolve; });
  frame.src = page;
  document.body.append(frame);
  await loaded;
  return frame;
}
async function measure() {
  for (const page of pages) {
    const wide = await open(page, DESKTOP);
    for (const block of wide.contentDocument.querySelectorAll("pre"))
      if (block.scrollWidth > block.clientWidth)
        found.push([page, "code", block.scrollWidth - block.clientWidth, block.textContent.trim().split("\\n")[0]]);
    wide.remove();
    const narrow = await open(page, PHONE);
    const root = narrow.contentDocument.scrollingElement;
    if (root.scrollWidth > PHONE) found.push([page, "page", root.scrollWidth - PHONE, ""]);
    narrow.remove();
  }
  document.body.textContent = "";
  const result = document.createElement("script");
  result.type = "application/json";
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
}
measure();
</script>"""


class Page(HTMLParser):
    """What a page links to, and the anchors that it has.

    Args:
        path: The file of the page.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what is asked for."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append((given.get("src", ""), given.get("alt", "")))


def faults_of_links(site: Path) -> list[str]:
    """Return what is wrong with links and pictures, a line each.

    Args:
        site: The folder that Sphinx wrote.
    """
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name not in GENERATED}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme == "mailto":
                continue
            if parts.scheme or parts.netloc:
                if parts.scheme != "https" or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) or " " in link:
                    faults.append(f"{name}: {link} is no https address")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not target.is_file():
                faults.append(f"{name}: there is no {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                faults.append(f"{name}: there is no {link}; the page has no such heading")
        for source, text in page.pictures:
            if not urlsplit(source).scheme and not (path.parent / unquote(source)).is_file():
                faults.append(f"{name}: there is no picture {source}")
            elif not text:
                faults.append(f"{name}: the picture {source} has no text for those who do not see it")
    return faults


def faults_of_widths(site: Path, browser: str) -> list[str]:
    """Return which code has to be scrolled sideways in a window of 1300 pixels, and which page in one of 400.

    Args:
        site: The folder that Sphinx wrote.
        browser: The program of Chromium.

    Raises:
        RuntimeError: If Chromium measured nothing.
    """
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html")) if path.name not in GENERATED]
    program = _MEASURE.replace("PAGES", json.dumps(pages)).replace("DESKTOP", str(DESKTOP)).replace("PHONE", str(PHONE))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/measure":
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(program.encode())

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    # From one server, so that the page that measures may look into the others.
    handler = functools.partial(Handler, directory=str(site))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [f"--user-data-dir={profile}", "--virtual-time-budget=600000", "--dump-dom"]
        address = f"http://127.0.0.1:{server.server_port}/measure"
        done = subprocess.run(  # noqa: S603 - the browser of this machine, on pages of our own
            [*command, address], capture_output=True, text=True, timeout=240, check=False
        )
        server.shutdown()
    result = re.search(r'<script type="application/json" id="found">(.*?)</script>', done.stdout, re.DOTALL)
    if result is None:
        raise RuntimeError(f"{browser} measured nothing; it said:\n{done.stderr[-2000:]}")
    return [
        f"{page}: code is {beyond} pixels too wide for {DESKTOP}: {first}"
        if what == "code"
        else f"{page}: the page is {beyond} pixels wider than a phone's {PHONE}"
        for page, what, beyond, first in json.loads(result[1])
    ]


def main() -> None:
    """Print what is wrong, and exit with 1 if anything is."""
    faults = faults_of_links(SITE)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("there is no Chromium on the path, so that the width of code was not measured")
    else:
        faults += faults_of_widths(SITE, browser)
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
