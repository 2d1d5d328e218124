"""Entry point of ``python -m wxtcb``: the command line."""

from wxtcb.cli import main

main()
