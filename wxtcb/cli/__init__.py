"""Entry point of the command line, `wxtcb`, which needs typer and rich from the extra `[cli]`."""

import importlib
import importlib.util
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit the process with its exit code."""
    # Without the extra, `pip install wxtcb` still installs the `wxtcb` script. It must not end in a traceback.
    if not all(map(importlib.util.find_spec, ("typer", "rich"))):
        sys.stderr.write("wxtcb: the command line needs typer and rich: pip install 'wxtcb[cli]'\n")
        sys.exit(2)
    importlib.import_module("wxtcb.cli.app").main()
