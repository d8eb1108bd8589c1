"""`python -m nectargan_pix2pix` is the program `nectargan-pix2pix`."""

from nectargan_pix2pix.cli import main

main(prog_name="nectargan-pix2pix")
