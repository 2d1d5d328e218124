"""Checks of listings, links and uploads that `storage` and `hosting` share."""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from wxtcb.errors import BadReply, InvalidArgument, WxtcbError

if TYPE_CHECKING:
    from wxtcb._protocol.endpoint import Endpoint, Reply
    from wxtcb.api.storage import FileList
    from wxtcb.secret import Secret
    from wxtcb.session import Session


def check_delimiter(delimiter: str | None) -> None:
    """Raise `InvalidArgument` unless *delimiter* is None or one character."""
    if delimiter is not None and len(delimiter) != 1:
        raise InvalidArgument(f"delimiter {delimiter!r} is invalid: it must be one character")


async def is_stored(fetch_page: Callable[[], Awaitable[FileList]], key: str, size: int, md5: str) -> bool | None:
    """Return whether the object *key* has exactly these bytes, or None if that is unknown.

    *fetch_page* lists the objects whose keys begin with *key*.
    """
    try:
        page = await fetch_page()
    except WxtcbError:
        return None
    found = next((file for file in page.contents if file.key == key), None)
    if found is None or found.size != size:
        return False
    etag = found.md5.strip('"').lower()
    # An object that was uploaded in parts has an ETag with a "-", which is not an MD5.
    return None if "-" in etag else etag == md5


def require_usable_link(
    session: Session, endpoint: Endpoint[Reply], url: Secret, header_value: Secret | None = None
) -> None:
    """Raise `BadReply` for a link that the policy of the session forbids, or an invalid header."""
    if problem := session.storage_client.link_policy.find_problem(url):
        reason = f"the link in the reply cannot be used: {problem}. No file was sent or fetched"
        raise BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)
    # A line break in the value would add headers of its own to the request.
    if header_value is not None and not header_value.reveal().isprintable():
        reason = "the token of the link contains characters that no header can have"
        raise BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)


def guess_content_type(path: str) -> str:
    """Return the content type for a file of this name."""
    # Without the slash, `guess_type` would read a name that begins with "data:" as a URL.
    content_type, encoding = mimetypes.guess_type(f"/{path}")
    # The type of "page.html.gz" would be that of the unpacked file.
    return content_type if content_type and not encoding else "application/octet-stream"
