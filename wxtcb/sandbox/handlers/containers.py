"""getcslist."""

from __future__ import annotations

from typing import Final

from wxtcb.sandbox.asked import Body, ok
from wxtcb.sandbox.refusal import refuse
from wxtcb.sandbox.world import Service, World

__all__ = ["HANDLERS", "PAGE", "list_services"]

PAGE: Final = 20
_MOST: Final = 100


def list_services(world: World, body: Body) -> bytes:
    """List a page of the services of an environment: 20 unless told otherwise, and never more than 100."""
    limit, offset = body.number("limit", PAGE), body.number("offset", 0)
    if limit < 1 or offset < 0:
        raise refuse(40097, "limit must be above 0, and offset not below it")
    services = world.services_of(body.text("env"))
    page = services[offset : offset + min(limit, _MOST)]
    return ok(cslist=[_row(service) for service in page], total=len(services))


def _row(service: Service) -> dict[str, object]:
    return {
        "server_name": service.name,
        "created_time": service.created_time,
        "updated_time": service.created_time,
        "status": "succ",
        "vpcid": "",
        "image_repo": service.body.get("image_repo", ""),
    }


HANDLERS: Final = {"/componenttcb/getcslist": list_services}
