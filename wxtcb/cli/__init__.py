"""The command line, `wxtcb`; what it stands on (typer, rich) comes with the extra `[cli]`."""

import importlib
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        app = importlib.import_module("wxtcb.cli.app")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        app = None
    if app is None:
        sys.exit(_refuse())
    app.main()


def _refuse() -> int:
    sys.stderr.write("wxtcb: the command line needs typer and rich: pip install 'wxtcb[cli]'\n")
    return 2
