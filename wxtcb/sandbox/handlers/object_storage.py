"""The simulated object storage on the wire: uploads by form and by PUT, downloads with ranges, errors in XML."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, web
from attrs import define, field, frozen

from wxtcb.sandbox.faults import Fault, FaultKind
from wxtcb.sandbox.services.blobs import Blob
from wxtcb.sandbox.services.object_storage import LinkMethod, ObjectStore, SignedLink

__all__ = ["ObjectRequest"]

_CHUNK_SIZE: Final = 256 * 1024
_XML_HEADERS: Final = {"Content-Type": "application/xml"}
_FORM_FIELDS: Final = ["key", "Signature", "x-cos-security-token", "x-cos-meta-fileid"]
_FORM_CONTENT_TYPE: Final = re.compile(r"multipart/form-data; *boundary=.")
_RANGE: Final = re.compile(r"bytes=(\d+)-")


class _StorageError(Exception):
    """Object storage says no, in XML."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code)
        self.status = status
        self.body = (
            "<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n"
            f"\t<Code>{code}</Code>\n\t<Message>{html.escape(message)}</Message>\n"
            "\t<RequestId>NWFjMzQ0MDZfOTBmYTUwXzZkZV8z</RequestId>\n\t<TraceId>OGVmYzZiMmQ=</TraceId>\n</Error>"
        ).encode()


@frozen
class _StorageReply:
    """What is to be answered: a status, and the bytes of an object from `start` on, or others."""

    status: int
    headers: Mapping[str, str] = field(factory=dict[str, str])
    body: bytes = b""
    blob: Blob | None = None
    start: int = 0

    @property
    def size(self) -> int:
        return len(self.body) if self.blob is None else self.blob.size - self.start


@define(eq=False)
class ObjectRequest:
    """A request to object storage; `acted` once it was done."""

    request: web.BaseRequest
    link_method: LinkMethod
    acted: bool = False

    @classmethod
    def from_request(cls, request: web.BaseRequest) -> ObjectRequest:
        """Tell by its method what a request wants; any other than POST and PUT is a GET."""
        return cls(request, {"POST": LinkMethod.POST, "PUT": LinkMethod.PUT}.get(request.method, LinkMethod.GET))

    @property
    def fault_path(self) -> str:
        """What faults of such requests are keyed by."""
        return self.link_method.value

    async def serve(
        self, store: ObjectStore, fault: Fault | None, sleep: Callable[[float], Awaitable[None]]
    ) -> web.StreamResponse:
        """Answer, in the way that the fault lays down."""
        before = None if fault is None else _EFFECTS_BEFORE_OPERATION.get(fault.trouble)
        if before is not None and fault is not None:
            return await before(self, fault)
        said = await self._execute(store)
        self.acted = said.status < 300
        if fault is not None:
            await sleep(fault.seconds)
            after = _EFFECTS_AFTER_OPERATION.get(fault.trouble)
            if after is not None:
                return await after(self, fault)
        return await self._send_reply(said, truncated=fault is not None and fault.trouble is FaultKind.TRUNCATE)

    async def _execute(self, store: ObjectStore) -> _StorageReply:
        try:
            return await _OPERATIONS[self.link_method](self, store)
        except _StorageError as no:
            await self._discard_body(None)
            return _StorageReply(no.status, _XML_HEADERS, no.body)

    async def post(self, store: ObjectStore) -> _StorageReply:
        """Store what a form brings."""
        if not _FORM_CONTENT_TYPE.match(self.request.headers.get("Content-Type", "")):
            raise _StorageError(400, "MalformedPOSTRequest", "The body of your POST request is no multipart/form-data.")
        reader, fields = await self.request.multipart(), dict[str, str]()
        while isinstance(part := await reader.next(), BodyPartReader):
            if part.name == "file":
                return await self._store_file(store, reader, part, fields)
            fields[part.name or ""] = await part.text()
        raise _StorageError(400, "MalformedPOSTRequest", "The field file is missing.")

    async def _store_file(
        self, store: ObjectStore, reader: MultipartReader, part: BodyPartReader, fields: Mapping[str, str]
    ) -> _StorageReply:
        if list(fields) not in (_FORM_FIELDS, _FORM_FIELDS[:3]):
            raise _StorageError(
                400, "MalformedPOSTRequest", f"The fields must be {_FORM_FIELDS} and file, in this order."
            )
        link = store.find_link(fields["Signature"])
        if link is None or (link.method, link.key, link.target) != (
            LinkMethod.POST,
            fields["key"],
            self.request.raw_path,
        ):
            raise _StorageError(403, "SignatureDoesNotMatch", "The signature is not that of this key.")
        _check_link(store, link, fields["x-cos-security-token"])
        kind = part.headers.get("Content-Type", "application/octet-stream")
        return await self._store_chunks(
            store, link, _iter_file_chunks(part, reader), fields.get("x-cos-meta-fileid"), kind
        )

    async def put(self, store: ObjectStore) -> _StorageReply:
        """Store the body."""
        link = self._find_link(store)
        _check_link(store, link, self.request.headers.get("x-cos-security-token"))
        if self.request.content_length is None:
            raise _StorageError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        chunks = self.request.content.iter_chunked(_CHUNK_SIZE)
        return await self._store_chunks(store, link, chunks, None, self.request.content_type)

    async def _store_chunks(
        self,
        store: ObjectStore,
        link: SignedLink,
        chunks: AsyncIterator[bytes],
        file_id_meta: str | None,
        content_type: str,
    ) -> _StorageReply:
        incoming = store.blobs.open_writer()
        try:
            async for chunk in chunks:
                incoming.write(chunk)
                if incoming.size > store.max_object_bytes:
                    raise _StorageError(
                        400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."
                    )
            made = store.put(
                link.bucket, link.key, incoming.finish(), file_id_meta=file_id_meta, content_type=content_type
            )
        finally:
            incoming.discard()
        return _StorageReply(204 if self.link_method is LinkMethod.POST else 200, {"ETag": f'"{made.blob.md5}"'})

    async def get(self, store: ObjectStore) -> _StorageReply:
        """Read an object, or the rest of one."""
        link = self._find_link(store)
        _check_link(store, link, link.token)
        found = store.get(link.bucket, link.key)
        if found is None:
            raise _StorageError(404, "NoSuchKey", "The specified key does not exist.")
        headers = {"ETag": f'"{found.blob.md5}"', "Accept-Ranges": "bytes", "Content-Type": found.content_type}
        start = self._range_start(headers["ETag"])
        if start is None:
            return _StorageReply(200, headers, blob=found.blob)
        size = found.blob.size
        if start >= size:
            raise _StorageError(416, "InvalidRange", "The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return _StorageReply(206, headers, blob=found.blob, start=start)

    def _range_start(self, etag: str) -> int | None:
        """Return where the range that is asked for begins; None for the whole, also if the object has changed."""
        asked = _RANGE.fullmatch(self.request.headers.get("Range", ""))
        changed = self.request.headers.get("If-Range", etag) != etag
        return None if asked is None or changed else int(asked[1])

    def _find_link(self, store: ObjectStore) -> SignedLink:
        """Find the link by path and query: encoded in any other way than as issued, the signature does not match."""
        link = store.find_link(self.request.raw_path)
        if link is None or link.method is not self.link_method:
            raise _StorageError(403, "SignatureDoesNotMatch", "The signature is not that of this request.")
        return link

    async def _send_reply(self, reply: _StorageReply, *, truncated: bool) -> web.StreamResponse:
        """Send an answer, or half of it."""
        length = {} if reply.status == 204 else {"Content-Length": str(reply.size)}
        response = web.StreamResponse(status=reply.status, headers={**reply.headers, **length})
        await response.prepare(self.request)
        left = reply.size // 2 if truncated else reply.size
        if reply.blob is None:
            await response.write(reply.body[:left])
        else:
            await _send_blob(response, reply.blob, reply.start, left)
        if truncated:
            self.request.protocol.force_close()
        return response

    async def _discard_body(self, max_bytes: int | None) -> None:
        """Read what comes, up to so many bytes, and forget it."""
        read = 0
        async for chunk in self.request.content.iter_chunked(_CHUNK_SIZE):
            read += len(chunk)
            if max_bytes is not None and read >= max_bytes:
                return

    async def drop_mid_upload(self, _fault: Fault) -> web.StreamResponse:
        """Close the connection after half of what was to come."""
        await self._discard_body((self.request.content_length or 0) // 2)
        return await self.drop(_fault)

    async def drop(self, _fault: Fault) -> web.StreamResponse:
        """Close the connection."""
        self.request.protocol.force_close()
        return web.Response()

    async def hang(self, _fault: Fault) -> web.StreamResponse:
        """Say nothing, and read nothing any more."""
        never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await never

    async def send_error_page(self, fault: Fault) -> web.StreamResponse:
        """Take in all, and answer what some machine between would."""
        await self._discard_body(None)
        headers = {"Location": str(self.request.url)} if fault.trouble is FaultKind.REDIRECT else {}
        usual = 307 if fault.trouble is FaultKind.REDIRECT else 502
        echo = self.request.raw_path if fault.trouble is FaultKind.ECHO_PAGE else "Bad luck"
        page = f"<html><body>{html.escape(echo)}</body></html>"
        return web.Response(text=page, status=fault.status or usual, headers=headers, content_type="text/html")


async def _iter_file_chunks(part: BodyPartReader, reader: MultipartReader) -> AsyncIterator[bytes]:
    """Yield what the field of the file holds; it must be the last field."""
    while chunk := await part.read_chunk(_CHUNK_SIZE):
        yield bytes(chunk)
    if await reader.next() is not None:
        raise _StorageError(400, "MalformedPOSTRequest", "The field file must be the last one.")


async def _send_blob(response: web.StreamResponse, blob: Blob, start: int, remaining: int) -> None:
    with blob.file.open("rb") as file:
        file.seek(start)
        while remaining:
            chunk = file.read(min(remaining, _CHUNK_SIZE))
            remaining -= len(chunk)
            await response.write(chunk)


def _check_link(store: ObjectStore, link: SignedLink, token: str | None) -> None:
    if token != link.token:
        raise _StorageError(403, "AccessDenied", "The security token is not that of this signature.")
    if not store.is_link_valid(link):
        raise _StorageError(403, "AccessDenied", "Request has expired")


_OPERATIONS: Final[dict[LinkMethod, Callable[[ObjectRequest, ObjectStore], Awaitable[_StorageReply]]]] = {
    LinkMethod.POST: ObjectRequest.post,
    LinkMethod.PUT: ObjectRequest.put,
    LinkMethod.GET: ObjectRequest.get,
}

_StorageFaultEffect = Callable[[ObjectRequest, Fault], Awaitable[web.StreamResponse]]

_EFFECTS_BEFORE_OPERATION: Final[dict[FaultKind, _StorageFaultEffect]] = {
    FaultKind.DROP: ObjectRequest.drop_mid_upload,
    FaultKind.HANG: ObjectRequest.hang,
    FaultKind.HTTP: ObjectRequest.send_error_page,
    FaultKind.REDIRECT: ObjectRequest.send_error_page,
}

_EFFECTS_AFTER_OPERATION: Final[dict[FaultKind, _StorageFaultEffect]] = {
    FaultKind.DROP_AFTER: ObjectRequest.drop,
    FaultKind.HANG_AFTER: ObjectRequest.hang,
    FaultKind.HTTP_AFTER: ObjectRequest.send_error_page,
    FaultKind.ECHO_PAGE: ObjectRequest.send_error_page,
}
