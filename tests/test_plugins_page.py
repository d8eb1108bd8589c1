"""The page on plugins: its console blocks show the real output of their commands."""

import difflib
import json
import re
from pathlib import Path

import pytest

from nectargan_core import catalog

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "plugins.md"
# The path of the virtual environment on the page.
SHOWN = "/home/you/facades/.venv"

ACME = '''
import torch
from nectargan_core import LMLoss

def glow(config):
    """Compare the brightest parts of the images."""
    return {"G_GLOW": LMLoss(name="G_GLOW", function=torch.nn.L1Loss())}

def dimming(schedule, epoch):
    """Halve the weight every epoch."""
    return schedule.ends()[0] * 0.5 ** epoch
'''
THIRD_PARTIES = {
    "acme-losses": {
        "version": "1.4",
        "specs": {"glow": "acme_losses:glow"},
        "schedules": {"dimming": "acme_losses:dimming"},
        "modules": {"acme_losses.py": ACME},
    },
    "beta-losses": {
        "version": "0.9",
        "specs": {"glow": "beta_losses:glow"},
        "modules": {"beta_losses.py": ACME.replace("G_GLOW", "G_BETA")},
    },
    "gamma-losses": {
        "version": "0.2",
        "specs": {"flare": "gamma_losses:flare"},
        "modules": {"gamma_losses.py": "import lens_flares"},
        "requires": ["nectargan-core<0.1"],
    },
    "delta-losses": {
        "version": "0.1",
        "entry_points": "[nectargan.loss_spec]\ndusk = delta_losses:dusk\n",
    },
}
ORIGINS = {
    "beta-losses": {
        "url": "https://git.beta.org/beta-losses.git",
        "vcs_info": {"vcs": "git", "commit_id": "5c1de0e1f4b8a3a7d2e9f6b0c4d8e2a1f3b7c9d5"},
    },
}


def really(environment, site, block):
    """Run the commands of a block, and return the block with their real output."""
    shown = []
    for line in block.splitlines():
        if not line.startswith("$ "):
            continue
        shown.append(line)
        command = line.removeprefix("$ ")
        if wanted := re.fullmatch(r"pip install --quiet ([\w-]+)", command):
            info = site.install(wanted[1], **THIRD_PARTIES[wanted[1]])
            if origin := ORIGINS.get(wanted[1]):
                (info / "direct_url.json").write_text(json.dumps(origin), encoding="utf-8")
        else:
            output = environment.run(command).stdout
            shown += output.replace(str(environment.path), SHOWN).rstrip("\n").split("\n")
    return "\n".join(shown) + "\n"


@pytest.mark.slow
def test_every_command_of_the_page_prints_what_the_page_shows(make_environment, make_site, tmp_path):
    environment = make_environment(tmp_path / "environment")
    site = make_site(environment.packages)
    sources = [ROOT, ROOT / "plugins" / "nectargan-sobel" / "src"]
    (environment.packages / "sources.pth").write_text("".join(f"{source}\n" for source in sources))
    program = environment.python.with_name("nectargan")
    program.write_text(f"#!{environment.python}\nfrom nectargan_core.cli import main\nmain()\n")
    program.chmod(0o755)
    core = {name: f"nectargan_core.schedules:{name}" for name in ("linear", "exponential")}
    site.install("nectargan-core", "0.1.0", schedules=core)
    site.install("nectargan-sobel", "0.1.0", specs={"sobel": "nectargan_sobel:sobel"})
    site.install("acme-losses", **THIRD_PARTIES["acme-losses"])

    page = PAGE.read_text(encoding="utf-8")
    real = re.sub(
        r"(?<=^```console\n).*?(?=^```$)",
        lambda block: really(environment, site, block[0]),
        page,
        flags=re.MULTILINE | re.DOTALL,
    )
    changes = difflib.unified_diff(page.splitlines(), real.splitlines(), "shown", "real", lineterm="", n=0)
    assert page == real, "\n".join(changes)


def test_the_page_explains_every_state_of_a_plugin():
    page = PAGE.read_text(encoding="utf-8")
    for state in catalog.State.__args__:
        assert f"\n| `{state}` |" in page
