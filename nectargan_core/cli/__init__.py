"""The command line program `nectargan`, one module a command; what needs no tensor starts without importing torch."""

from nectargan_core.cli._program import main

__all__ = ["main"]
