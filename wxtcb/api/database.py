"""The database of an environment (official group: cloudbase-batch/db-mgnt)."""

from __future__ import annotations

from typing import Final

from wxtcb.endpoint import Endpoint, Reply

ENDPOINTS: Final[tuple[Endpoint[Reply], ...]] = ()
