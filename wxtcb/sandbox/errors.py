"""Errors of the simulated platform: errcodes and their messages."""

from __future__ import annotations

from typing import Final

# The platform's own wording, spelling included, because clients match on it.
ERROR_MESSAGES: Final = {
    -504002: "function execution failed",
    -501009: "resource does not exist",
    -502005: "database collection not exists",
    -502001: "database request fail",
    -501005: "invalid env",
    -1000: "system error",
    -1: "system error",
    40001: "invalid credential, access_token is invalid or not latest",
    40013: "invalid appid",
    40014: "invalid access_token",
    40097: "invalid args",
    40101: "missing parameter",
    40125: "invalid appsecret",
    41001: "access_token missing",
    41004: "appsecret missing",
    41018: "missing component_appid",
    41021: "missing component_access_token",
    42001: "access_token expired",
    42006: "component_access_token expired",
    43002: "require POST method",
    44002: "empty post data",
    45002: "content size out of limit",
    45009: "reach max api daily quota limit",
    45040: "reach max api monthly quota limit",
    45011: "api minute-quota reach limit, must slower, retry next minute",
    47001: "data format error",
    61005: "component ticket is expired",
    61006: "component ticket is invalid",
}


class PlatformError(Exception):
    """A request was rejected with this errcode, and the world is unchanged."""

    def __init__(self, errcode: int, message: str) -> None:
        super().__init__(errcode, message)
        self.errcode, self.message = errcode, message


def platform_error(errcode: int, detail: str = "") -> PlatformError:
    """Return the error for an errcode, with the platform's message and the detail after a colon."""
    message = ERROR_MESSAGES.get(errcode, "error")
    return PlatformError(errcode, f"{message}: {detail}" if detail else message)
