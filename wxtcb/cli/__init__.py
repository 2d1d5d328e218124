"""The command line, `wxtcb`; what it stands on (typer, rich) comes with the extra `[cli]`."""

import importlib
import importlib.util
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    if not all(map(importlib.util.find_spec, ("typer", "rich"))):
        sys.stderr.write("wxtcb: the command line needs typer and rich: pip install 'wxtcb[cli]'\n")
        sys.exit(2)
    importlib.import_module("wxtcb.cli.app").main()
