"""Asyncio client for the batch cloud development (批量云开发) of WeChat Open Platform."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from wxtcb import api, errors, events
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Timeout
from wxtcb._object_storage.link_policy import TRANSFER_HOSTS
from wxtcb._protocol.codec import raw
from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat, Reply
from wxtcb._protocol.limits import LIMITS
from wxtcb.api import endpoints
from wxtcb.errors import (
    AccountBlocked,
    ApiError,
    BadReply,
    CloudError,
    CloudUnavailable,
    InvalidAppSecret,
    InvalidArgument,
    InvalidRequest,
    InvalidTicket,
    InvalidToken,
    IPNotAllowed,
    OperationFailed,
    OperationNotFound,
    OperationNotReady,
    OperationTimeout,
    OutcomeUnknown,
    PartialFailure,
    PermissionDenied,
    PlatformBusy,
    QuotaExceeded,
    RateLimited,
    SessionClosed,
    TicketError,
    TicketExpired,
    TicketMissing,
    TokenConflict,
    TokenFetchLimit,
    TokenStoreError,
    TransferError,
    TransportError,
    WrongLoop,
    WxtcbError,
)
from wxtcb.events import Stats
from wxtcb.secret import Secret
from wxtcb.session import Session

if TYPE_CHECKING:
    from types import ModuleType

    from wxtcb import provision, sandbox, telemetry

__all__ = [
    "LIMITS",
    "TRANSFER_HOSTS",
    "AccountBlocked",
    "ApiError",
    "BadReply",
    "CloudError",
    "CloudUnavailable",
    "Credential",
    "Done",
    "Endpoint",
    "IPNotAllowed",
    "InvalidAppSecret",
    "InvalidArgument",
    "InvalidRequest",
    "InvalidTicket",
    "InvalidToken",
    "OperationFailed",
    "OperationNotFound",
    "OperationNotReady",
    "OperationTimeout",
    "OutcomeUnknown",
    "PartialFailure",
    "PermissionDenied",
    "PlatformBusy",
    "QuotaExceeded",
    "RateLimited",
    "Repeat",
    "Reply",
    "RetryPolicy",
    "Secret",
    "Session",
    "SessionClosed",
    "Stats",
    "TicketError",
    "TicketExpired",
    "TicketMissing",
    "Timeout",
    "TokenConflict",
    "TokenFetchLimit",
    "TokenStoreError",
    "TransferError",
    "TransportError",
    "WrongLoop",
    "WxtcbError",
    "api",
    "endpoints",
    "errors",
    "events",
    "provision",
    "raw",
    "sandbox",
    "telemetry",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> ModuleType:
    """Import a package on first access.

    Most programs need none of them: the sandbox is for tests, provisioning brings a database, telemetry its extras.
    """
    if name in ("provision", "sandbox", "telemetry"):
        return importlib.import_module(f"wxtcb.{name}")
    raise AttributeError(f"module 'wxtcb' has no attribute {name!r}")
