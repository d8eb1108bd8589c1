"""Runs the command line program as `python -m nectargan_core`."""

from nectargan_core.cli import main

main(prog_name="python -m nectargan_core")
