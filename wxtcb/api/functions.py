"""Cloud functions (official group: cloudbase-batch/scf-mgnt)."""

from __future__ import annotations

from typing import Final

from wxtcb.endpoint import Endpoint, Reply

ENDPOINTS: Final[tuple[Endpoint[Reply], ...]] = ()
