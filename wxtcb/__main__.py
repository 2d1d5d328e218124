"""`python -m wxtcb` is the command line."""

from wxtcb.cli import main

main()
