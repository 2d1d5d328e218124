"""The platform's calls, one module per group; `endpoints` lists them all."""

from wxtcb.api import cloudrun, environment, token
from wxtcb.endpoint import Endpoint, Reply

__all__ = ["cloudrun", "endpoints", "environment", "token"]


def endpoints() -> tuple[Endpoint[Reply], ...]:
    """Return every `Endpoint` that wxtcb knows, the token layer's two included."""
    return (*environment.ENDPOINTS, *cloudrun.ENDPOINTS, *token.ENDPOINTS)
