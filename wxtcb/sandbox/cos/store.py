"""Simulated object storage of files and websites: buckets of objects, and signed links to them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from attrs import Factory, define, field, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services.context import ServiceContext

STORAGE_PREFIX: Final = "/_cos/"
_PAGE_SIZE: Final = 1000
# A link is a few hundred bytes, so even a sandbox that runs for days stays small.
_MAX_LINKS: Final = 100_000


@frozen
class Blob:
    """The bytes of one object: their file, size and MD5 digest."""

    file: Path
    size: int
    md5: str


@define(eq=False)
class BlobWriter:
    """Incoming bytes of an object. `finish` turns them into a blob."""

    _path: Path
    _file: IO[bytes] = field(init=False)
    _hash: Final = field(init=False, factory=lambda: hashlib.md5(usedforsecurity=False))
    size: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self) -> Blob:
        self._file.close()
        return Blob(self._path, self.size, self._hash.hexdigest())

    def discard(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._path.unlink()


class LinkMethod(Enum):
    """Permission of a link. The value is the path that faults of object storage use."""

    POST = "/_cos/post"
    PUT = "/_cos/put"
    GET = "/_cos/get"


@frozen
class StoredObject:
    """A stored object. `file_id_meta` is the uploader's `x-cos-meta-fileid` header, or None."""

    key: str
    blob: Blob
    last_modified: str
    file_id_meta: str | None = None
    content_type: str = "application/octet-stream"


@frozen
class SignedLink:
    """Permission to access one object until `expires_at`. `target` is the path and query as issued."""

    method: LinkMethod
    bucket: str
    key: str
    target: str
    signature: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: float


@define(eq=False)
class ObjectStore:
    """Buckets of objects, and the newest 100,000 links. Objects larger than `max_object_bytes` are rejected."""

    _context: ServiceContext = field(repr=False)
    _buckets: dict[str, dict[str, StoredObject]] = Factory(dict[str, dict[str, StoredObject]])
    _links: dict[str, SignedLink] = Factory(dict[str, SignedLink])
    max_object_bytes: int = 5 << 30
    _folder: Path | None = field(init=False, repr=False, default=None)
    _finalizer: weakref.finalize[..., ObjectStore] | None = field(init=False, repr=False, default=None)
    _blob_count: int = field(init=False, repr=False, default=0)

    def open_writer(self) -> BlobWriter:
        """Return a writer for a new blob. The folder of the blobs is removed by `clear` or with the store."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="wxtcb-sandbox-"))
            self._finalizer = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._blob_count += 1
        return BlobWriter(self._folder / str(self._blob_count))

    def issue_link(self, method: LinkMethod, bucket: str, key: str, seconds: float) -> SignedLink:
        now = self._context.clock()
        digits = f"{self._context.random.getrandbits(160):040x}"
        window = f"{int(now)};{int(now + seconds)}"
        signature = (
            f"q-sign-algorithm=sha1&q-ak=AKIDsandbox&q-sign-time={window}&q-key-time={window}"
            f"&q-header-list=&q-url-param-list=&q-signature={digits}"
        )
        target = f"{STORAGE_PREFIX}{bucket}/{quote(key)}"
        # The signature of a POST is a field of its form.
        if method is not LinkMethod.POST:
            target += f"?sign={quote(signature, safe='')}"
        token = f"cos-token-{self._context.random.getrandbits(128):032x}"
        link = SignedLink(method, bucket, key, target, signature, token, now + seconds)
        self._links[signature if method is LinkMethod.POST else target] = link
        if len(self._links) > _MAX_LINKS:
            del self._links[next(iter(self._links))]
        return link

    def url(self, link: SignedLink) -> str:
        return self._context.base_url() + link.target

    def find_link(self, signature_or_target: str) -> SignedLink | None:
        """Return a link, or None. A POST link is found by its signature, any other link by its exact path and query."""
        return self._links.get(signature_or_target)

    def is_link_valid(self, link: SignedLink) -> bool:
        return self._context.clock() <= link.expires_at

    def put(self, bucket: str, key: str, blob: Blob, *, file_id_meta: str | None, content_type: str) -> StoredObject:
        # This also removes the file that holds the bytes of a replaced object.
        self.delete(bucket, key)
        last_modified = self._context.utc_now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
        stored = StoredObject(key, blob, last_modified, file_id_meta, content_type)
        self._buckets.setdefault(bucket, {})[key] = stored
        return stored

    def get(self, bucket: str, key: str) -> StoredObject | None:
        return self._buckets.get(bucket, {}).get(key)

    def read(self, bucket: str, key: str) -> bytes | None:
        found = self.get(bucket, key)
        return None if found is None else found.blob.file.read_bytes()

    def delete(self, bucket: str, key: str) -> None:
        gone = self._buckets.get(bucket, {}).pop(key, None)
        if gone is not None:
            gone.blob.file.unlink(missing_ok=True)

    def list_page(self, bucket: str, body: Body) -> Mapping[str, object]:
        """List at most 1,000 objects after the marker, ordered by the bytes of their keys."""
        prefix, delimiter, marker = (body.optional_string(name) or "" for name in ("prefix", "delimiter", "marker"))
        if len(delimiter) > 1:
            raise platform_error(40097, "delimiter must be one character")

        def is_listed(key: str) -> bool:
            is_common_prefix = bool(delimiter) and delimiter in key[len(prefix) :]
            return key.encode() > marker.encode() and key.startswith(prefix) and not is_common_prefix

        found = [stored for key, stored in self._buckets.get(bucket, {}).items() if is_listed(key)]
        found.sort(key=lambda stored: stored.key.encode())
        # Sizes are strings, as on the platform.
        rows = [
            {"key": each.key, "last_modified": each.last_modified, "md5": each.blob.md5, "size": str(each.blob.size)}
            for each in found[:_PAGE_SIZE]
        ]
        return {"contents": rows, "is_truncated": len(found) > _PAGE_SIZE}

    def clear(self) -> None:
        self._buckets.clear()
        if self._finalizer is not None:
            self._finalizer()
        self._folder = self._finalizer = None
