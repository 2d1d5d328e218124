"""HTTP interface of the simulated object storage: uploads by form and by PUT, downloads with ranges, XML errors.

It follows Tencent Cloud COS, to which the signed links of the real platform lead.
"""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, web
from attrs import define, field, frozen

from wxtcb.sandbox.cos.store import Blob, LinkMethod, ObjectStore, SignedLink
from wxtcb.sandbox.faults import Fault, FaultKind

_CHUNK_SIZE: Final = 256 * 1024
_XML_HEADERS: Final = {"Content-Type": "application/xml"}
_FORM_FIELDS: Final = ["key", "Signature", "x-cos-security-token", "x-cos-meta-fileid"]
_FORM_CONTENT_TYPE: Final = re.compile(r"multipart/form-data; *boundary=.")
_RANGE: Final = re.compile(r"bytes=(\d+)-")


class _StorageError(Exception):
    """Object storage rejected a request; `body` is the XML to send."""

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
    """A reply to send: `body`, or the bytes of `blob` from `start` on."""

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
    """A request to object storage; `acted` is True once it took effect."""

    request: web.BaseRequest
    acted: bool = False

    @property
    def link_method(self) -> LinkMethod:
        """Permission that the request needs; any method except POST and PUT counts as GET."""
        return {"POST": LinkMethod.POST, "PUT": LinkMethod.PUT}.get(self.request.method, LinkMethod.GET)

    async def serve(
        self, store: ObjectStore, fault: Fault | None, sleep: Callable[[float], Awaitable[None]]
    ) -> web.StreamResponse:
        """Handle the request, and send the reply as *fault* demands; other kinds of fault are ignored."""
        kind, status, delay = (None, 0, 0.0) if fault is None else (fault.kind, fault.status, fault.seconds)
        reply = _StorageReply(200)
        match kind:
            case FaultKind.DROP:
                # The connection breaks in the middle of an upload.
                await self._discard_body((self.request.content_length or 0) // 2)
            case FaultKind.HTTP | FaultKind.REDIRECT:
                await self._discard_body(None)
            case FaultKind.HANG:
                # The body stays unread, so that a client with a large upload stalls too.
                pass
            case _:
                reply = await self._execute(store)
                self.acted = reply.status < 300
                await sleep(delay)
        match kind:
            case FaultKind.DROP | FaultKind.DROP_AFTER:
                self.request.protocol.force_close()
                return web.Response()
            case FaultKind.HANG | FaultKind.HANG_AFTER:
                return await asyncio.Future[web.StreamResponse]()
            case FaultKind.HTTP | FaultKind.HTTP_AFTER:
                return _html_response(status or 502, "Error")
            case FaultKind.ECHO_PAGE:
                return _html_response(status or 502, self.request.raw_path)
            case FaultKind.REDIRECT:
                return _html_response(status or 307, "Moved", Location=str(self.request.url))
            case _:
                return await self._send(reply, truncated=kind is FaultKind.TRUNCATE)

    async def _execute(self, store: ObjectStore) -> _StorageReply:
        try:
            if self.link_method is LinkMethod.GET:
                return self._get(store)
            return await (self._post(store) if self.link_method is LinkMethod.POST else self._put(store))
        except _StorageError as error:
            # A client that still sends would otherwise see a broken connection and not this reply.
            await self._discard_body(None)
            return _StorageReply(error.status, _XML_HEADERS, error.body)

    async def _post(self, store: ObjectStore) -> _StorageReply:
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
            message = f"The fields must be {_FORM_FIELDS} and file, in this order."
            raise _StorageError(400, "MalformedPOSTRequest", message)
        link = store.find_link(fields["Signature"])
        signed = None if link is None else (link.method, link.key, link.target)
        if link is None or signed != (LinkMethod.POST, fields["key"], self.request.raw_path):
            raise _StorageError(403, "SignatureDoesNotMatch", "The signature is not that of this key.")
        _check_link(store, link, fields["x-cos-security-token"])
        content_type = part.headers.get("Content-Type", "application/octet-stream")
        chunks = _iter_file_chunks(part, reader)
        return await self._store_chunks(store, link, chunks, fields.get("x-cos-meta-fileid"), content_type)

    async def _put(self, store: ObjectStore) -> _StorageReply:
        link = self._find_link(store)
        _check_link(store, link, self.request.headers.get("x-cos-security-token"))
        # COS does not accept chunked uploads.
        if self.request.content_length is None:
            raise _StorageError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        chunks = self.request.content.iter_chunked(_CHUNK_SIZE)
        return await self._store_chunks(store, link, chunks, None, self.request.content_type)

    async def _store_chunks(
        self, store: ObjectStore, link: SignedLink, chunks: AsyncIterator[bytes], meta: str | None, content_type: str
    ) -> _StorageReply:
        writer = store.open_writer()
        try:
            async for chunk in chunks:
                writer.write(chunk)
                if writer.size > store.max_object_bytes:
                    message = "Your proposed upload exceeds the maximum allowed object size."
                    raise _StorageError(400, "EntityTooLarge", message)
            # Only a complete upload replaces the object; a lost connection raises above and leaves the old one.
            stored = store.put(link.bucket, link.key, writer.finish(), file_id_meta=meta, content_type=content_type)
        finally:
            writer.discard()
        return _StorageReply(204 if self.link_method is LinkMethod.POST else 200, {"ETag": f'"{stored.blob.md5}"'})

    def _get(self, store: ObjectStore) -> _StorageReply:
        """Return an object, or the part that the Range header names."""
        link = self._find_link(store)
        _check_link(store, link, link.token)
        found = store.get(link.bucket, link.key)
        if found is None:
            raise _StorageError(404, "NoSuchKey", "The specified key does not exist.")
        etag, size = f'"{found.blob.md5}"', found.blob.size
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": found.content_type}
        requested = _RANGE.fullmatch(self.request.headers.get("Range", ""))
        # If-Range: an object that changed since the first part is sent whole, or the parts would not fit together.
        if requested is None or self.request.headers.get("If-Range", etag) != etag:
            return _StorageReply(200, headers, blob=found.blob)
        start = int(requested[1])
        if start >= size:
            raise _StorageError(416, "InvalidRange", "The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return _StorageReply(206, headers, blob=found.blob, start=start)

    def _find_link(self, store: ObjectStore) -> SignedLink:
        # The raw path: the signature covers the URL byte for byte, so a URL encoded in another way does not match.
        link = store.find_link(self.request.raw_path)
        if link is None or link.method is not self.link_method:
            raise _StorageError(403, "SignatureDoesNotMatch", "The signature is not that of this request.")
        return link

    async def _send(self, reply: _StorageReply, *, truncated: bool) -> web.StreamResponse:
        """Send a reply; if *truncated*, close the connection after half of it."""
        # A 204 has neither a body nor a Content-Length.
        length = {} if reply.status == 204 else {"Content-Length": str(reply.size)}
        response = web.StreamResponse(status=reply.status, headers={**reply.headers, **length})
        await response.prepare(self.request)
        remaining = reply.size // 2 if truncated else reply.size
        if reply.blob is None:
            await response.write(reply.body[:remaining])
        else:
            with reply.blob.file.open("rb") as file:
                file.seek(reply.start)
                while remaining:
                    chunk = file.read(min(remaining, _CHUNK_SIZE))
                    remaining -= len(chunk)
                    await response.write(chunk)
        if truncated:
            self.request.protocol.force_close()
        return response

    async def _discard_body(self, max_bytes: int | None) -> None:
        """Read and discard up to *max_bytes* of the body; None for all of it."""
        count = 0
        async for chunk in self.request.content.iter_chunked(_CHUNK_SIZE):
            count += len(chunk)
            if max_bytes is not None and count >= max_bytes:
                return


async def _iter_file_chunks(part: BodyPartReader, reader: MultipartReader) -> AsyncIterator[bytes]:
    """Yield the content of the file field, and raise `_StorageError` unless it is the last field."""
    while chunk := await part.read_chunk(_CHUNK_SIZE):
        yield bytes(chunk)
    if await reader.next() is not None:
        raise _StorageError(400, "MalformedPOSTRequest", "The field file must be the last one.")


def _check_link(store: ObjectStore, link: SignedLink, token: str | None) -> None:
    if token != link.token:
        raise _StorageError(403, "AccessDenied", "The security token is not that of this signature.")
    if not store.is_link_valid(link):
        raise _StorageError(403, "AccessDenied", "Request has expired")


def _html_response(status: int, message: str, **headers: str) -> web.StreamResponse:
    page = f"<html><body>{html.escape(message)}</body></html>"
    return web.Response(text=page, status=status, headers=headers, content_type="text/html")
