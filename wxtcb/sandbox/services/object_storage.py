"""The simulated object storage behind files and websites: buckets, and the signed links that open them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Final
from urllib.parse import quote

from attrs import Factory, define, field, frozen

from wxtcb.sandbox.context import Ground
from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.services.blobs import Blob, Blobs

__all__ = ["PREFIX", "Link", "Object", "Objects", "Right", "rows_of"]

PREFIX: Final = "/_cos/"
_PAGE: Final = 1000
_MOST_LINKS: Final = 100_000


class Right(Enum):
    """What a link gives the right to; its value is what faults of object storage are keyed by."""

    POST = "/_cos/post"
    PUT = "/_cos/put"
    GET = "/_cos/get"


@frozen
class Object:
    """A stored object; `meta` is what its uploader gave as `x-cos-meta-fileid`, if anything."""

    key: str
    blob: Blob
    last_modified: str
    meta: str | None = None
    content_type: str = "application/octet-stream"


@frozen
class Link:
    """A right to one object, as long as `good_until` on the world's clock. `target` is path and query, as issued."""

    right: Right
    bucket: str
    key: str
    target: str
    signature: str = field(repr=False)
    token: str = field(repr=False)
    good_until: float


@define(eq=False)
class Objects:
    """Buckets of objects, and the last 100,000 links; an object of more than `largest` bytes is refused."""

    _ground: Ground = field(repr=False)
    _buckets: dict[str, dict[str, Object]] = Factory(dict[str, dict[str, Object]])
    _links: dict[str, Link] = Factory(dict[str, Link])
    largest: int = 5 << 30
    blobs: Blobs = field(init=False, repr=False, factory=Blobs)

    def issue(self, right: Right, bucket: str, key: str, seconds: float) -> Link:
        """Issue a link that is good for so many seconds."""
        now = self._ground.clock()
        digits = f"{self._ground.random.getrandbits(160):040x}"
        window = f"{int(now)};{int(now + seconds)}"
        signature = (
            f"q-sign-algorithm=sha1&q-ak=AKIDsandbox&q-sign-time={window}&q-key-time={window}"
            f"&q-header-list=&q-url-param-list=&q-signature={digits}"
        )
        target = f"{PREFIX}{bucket}/{quote(key)}"
        if right is not Right.POST:
            target += f"?sign={quote(signature, safe='')}"
        token = f"cos-token-{self._ground.random.getrandbits(128):032x}"
        link = Link(right, bucket, key, target, signature, token, now + seconds)
        self._links[signature if right is Right.POST else target] = link
        if len(self._links) > _MOST_LINKS:
            del self._links[next(iter(self._links))]
        return link

    def url(self, link: Link) -> str:
        """Return a link as a URL."""
        return self._ground.origin() + link.target

    def link(self, sign: str) -> Link | None:
        """Find a link: one to post to by its signature, any other by its path and query, byte for byte."""
        return self._links.get(sign)

    def is_good(self, link: Link) -> bool:
        """Tell whether a link has not expired."""
        return self._ground.clock() <= link.good_until

    def put(self, bucket: str, key: str, blob: Blob, *, meta: str | None, content_type: str) -> Object:
        """Store an object, over one of that name."""
        self.delete(bucket, key)
        made = Object(key, blob, self._now(), meta, content_type)
        self._buckets.setdefault(bucket, {})[key] = made
        return made

    def get(self, bucket: str, key: str) -> Object | None:
        """Return an object, or None if there is none."""
        return self._buckets.get(bucket, {}).get(key)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object, if there is one."""
        gone = self._buckets.get(bucket, {}).pop(key, None)
        if gone is not None:
            gone.blob.file.unlink(missing_ok=True)

    def page(self, bucket: str, *, prefix: str, delimiter: str, marker: str) -> tuple[list[Object], bool]:
        """List objects after a marker, at most 1000, and tell whether there are more.

        What has the delimiter after the prefix is folded into a common prefix, of which this list shows nothing; one of
        several characters is refused.
        """
        if len(delimiter) > 1:
            raise refuse(40097, "delimiter must be one character")
        found = self._found(bucket, prefix, delimiter, marker)
        rows = [each for _, each in zip(range(_PAGE + 1), found, strict=False)]
        return rows[:_PAGE], len(rows) > _PAGE

    def clear(self) -> None:
        """Forget all objects, and remove their bytes."""
        self._buckets.clear()
        self.blobs.clear()

    def _found(self, bucket: str, prefix: str, delimiter: str, marker: str) -> Iterator[Object]:
        for each in sorted(self._buckets.get(bucket, {}).values(), key=lambda known: known.key.encode()):
            follows = each.key.encode() > marker.encode() and each.key.startswith(prefix)
            if follows and not (delimiter and delimiter in each.key[len(prefix) :]):
                yield each

    def _now(self) -> str:
        written = datetime.strptime(f"{self._ground.stamp()} +0800", "%Y-%m-%d %H:%M:%S %z")
        return written.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def rows_of(objects: list[Object]) -> list[dict[str, str]]:
    """Write a list as the platform does: sizes are texts."""
    return [
        {"key": each.key, "last_modified": each.last_modified, "md5": each.blob.md5, "size": str(each.blob.size)}
        for each in objects
    ]
