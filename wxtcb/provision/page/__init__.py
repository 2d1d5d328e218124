"""The report as one page that needs nothing else: no script, no picture, no address but the links it is about."""

from __future__ import annotations

from wxtcb.provision.page.whole import make_page

__all__ = ["make_page"]
