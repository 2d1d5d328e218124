"""The platform's way of saying no."""

from __future__ import annotations

from typing import Final

__all__ = ["ERROR_MESSAGES", "PlatformError", "platform_error"]

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
    42001: "access_token expired",
    43002: "require POST method",
    44002: "empty post data",
    45002: "content size out of limit",
    45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit, must slower, retry next minute",
    47001: "data format error",
    61005: "component ticket is expired",
    61006: "component ticket is invalid",
}


class PlatformError(Exception):
    """A request was turned down with this errcode; the state of the world is as it was before."""

    def __init__(self, errcode: int, message: str) -> None:
        super().__init__(errcode, message)
        self.errcode = errcode
        self.message = message


def platform_error(errcode: int, detail: str = "") -> PlatformError:
    """Build the refusal for a code, worded as the platform words it, with the detail after a colon."""
    meaning = ERROR_MESSAGES.get(errcode, "error")
    return PlatformError(errcode, f"{meaning}: {detail}" if detail else meaning)
