"""The simulated object storage on the wire: uploads by form and by PUT, downloads with ranges, errors in XML."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, web
from attrs import define, field, frozen

from wxtcb.sandbox.fault import Fault, Trouble
from wxtcb.sandbox.services.blobs import Blob
from wxtcb.sandbox.services.object_storage import Link, Objects, Right

__all__ = ["ObjectRequest"]

_CHUNK: Final = 256 * 1024
_XML: Final = {"Content-Type": "application/xml"}
_FORM: Final = ["key", "Signature", "x-cos-security-token", "x-cos-meta-fileid"]
_FORM_TYPE: Final = re.compile(r"multipart/form-data; *boundary=.")
_RANGE: Final = re.compile(r"bytes=(\d+)-")


class _Refused(Exception):
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
class _Said:
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
    right: Right
    acted: bool = False

    @classmethod
    def read(cls, request: web.BaseRequest) -> ObjectRequest:
        """Tell by its method what a request wants; any other than POST and PUT is a GET."""
        return cls(request, {"POST": Right.POST, "PUT": Right.PUT}.get(request.method, Right.GET))

    @property
    def path(self) -> str:
        """What faults of such requests are keyed by."""
        return self.right.value

    async def serve(
        self, objects: Objects, fault: Fault | None, sleep: Callable[[float], Awaitable[None]]
    ) -> web.StreamResponse:
        """Answer, in the way that the fault lays down."""
        before = None if fault is None else _BEFORE.get(fault.trouble)
        if before is not None and fault is not None:
            return await before(self, fault)
        said = await self._answer(objects)
        self.acted = said.status < 300
        if fault is not None:
            await sleep(fault.seconds)
            after = _AFTER.get(fault.trouble)
            if after is not None:
                return await after(self, fault)
        return await self._deliver(said, truncated=fault is not None and fault.trouble is Trouble.TRUNCATE)

    async def _answer(self, objects: Objects) -> _Said:
        try:
            return await _RIGHTS[self.right](self, objects)
        except _Refused as no:
            await self._take_in(None)
            return _Said(no.status, _XML, no.body)

    async def post(self, objects: Objects) -> _Said:
        """Store what a form brings."""
        if not _FORM_TYPE.match(self.request.headers.get("Content-Type", "")):
            raise _Refused(400, "MalformedPOSTRequest", "The body of your POST request is no multipart/form-data.")
        reader, fields = await self.request.multipart(), dict[str, str]()
        while isinstance(part := await reader.next(), BodyPartReader):
            if part.name == "file":
                return await self._store_file(objects, reader, part, fields)
            fields[part.name or ""] = await part.text()
        raise _Refused(400, "MalformedPOSTRequest", "The field file is missing.")

    async def _store_file(
        self, objects: Objects, reader: MultipartReader, part: BodyPartReader, fields: Mapping[str, str]
    ) -> _Said:
        if list(fields) not in (_FORM, _FORM[:3]):
            raise _Refused(400, "MalformedPOSTRequest", f"The fields must be {_FORM} and file, in this order.")
        link = objects.link(fields["Signature"])
        if link is None or (link.right, link.key, link.target) != (Right.POST, fields["key"], self.request.raw_path):
            raise _Refused(403, "SignatureDoesNotMatch", "The signature is not that of this key.")
        _check(objects, link, fields["x-cos-security-token"])
        kind = part.headers.get("Content-Type", "application/octet-stream")
        return await self._store(objects, link, _parts(part, reader), fields.get("x-cos-meta-fileid"), kind)

    async def put(self, objects: Objects) -> _Said:
        """Store the body."""
        link = self._link(objects)
        _check(objects, link, self.request.headers.get("x-cos-security-token"))
        if self.request.content_length is None:
            raise _Refused(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        chunks = self.request.content.iter_chunked(_CHUNK)
        return await self._store(objects, link, chunks, None, self.request.content_type)

    async def _store(
        self, objects: Objects, link: Link, chunks: AsyncIterator[bytes], meta: str | None, kind: str
    ) -> _Said:
        incoming = objects.blobs.receive()
        try:
            async for chunk in chunks:
                incoming.write(chunk)
                if incoming.size > objects.largest:
                    raise _Refused(
                        400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."
                    )
            made = objects.put(link.bucket, link.key, incoming.end(), meta=meta, content_type=kind)
        finally:
            incoming.drop()
        return _Said(204 if self.right is Right.POST else 200, {"ETag": f'"{made.blob.md5}"'})

    async def get(self, objects: Objects) -> _Said:
        """Read an object, or the rest of one."""
        link = self._link(objects)
        _check(objects, link, link.token)
        found = objects.get(link.bucket, link.key)
        if found is None:
            raise _Refused(404, "NoSuchKey", "The specified key does not exist.")
        headers = {"ETag": f'"{found.blob.md5}"', "Accept-Ranges": "bytes", "Content-Type": found.content_type}
        start = self._start(headers["ETag"])
        if start is None:
            return _Said(200, headers, blob=found.blob)
        size = found.blob.size
        if start >= size:
            raise _Refused(416, "InvalidRange", "The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return _Said(206, headers, blob=found.blob, start=start)

    def _start(self, etag: str) -> int | None:
        """Return where the range that is asked for begins; None for the whole, also if the object has changed."""
        asked = _RANGE.fullmatch(self.request.headers.get("Range", ""))
        changed = self.request.headers.get("If-Range", etag) != etag
        return None if asked is None or changed else int(asked[1])

    def _link(self, objects: Objects) -> Link:
        """Find the link by path and query: encoded in any other way than as issued, the signature does not match."""
        link = objects.link(self.request.raw_path)
        if link is None or link.right is not self.right:
            raise _Refused(403, "SignatureDoesNotMatch", "The signature is not that of this request.")
        return link

    async def _deliver(self, said: _Said, *, truncated: bool) -> web.StreamResponse:
        """Send an answer, or half of it."""
        length = {} if said.status == 204 else {"Content-Length": str(said.size)}
        response = web.StreamResponse(status=said.status, headers={**said.headers, **length})
        await response.prepare(self.request)
        left = said.size // 2 if truncated else said.size
        if said.blob is None:
            await response.write(said.body[:left])
        else:
            await _send(response, said.blob, said.start, left)
        if truncated:
            self.request.protocol.force_close()
        return response

    async def _take_in(self, most: int | None) -> None:
        """Read what comes, up to so many bytes, and forget it."""
        read = 0
        async for chunk in self.request.content.iter_chunked(_CHUNK):
            read += len(chunk)
            if most is not None and read >= most:
                return

    async def drop_midway(self, _fault: Fault) -> web.StreamResponse:
        """Close the connection after half of what was to come."""
        await self._take_in((self.request.content_length or 0) // 2)
        return await self.drop(_fault)

    async def drop(self, _fault: Fault) -> web.StreamResponse:
        """Close the connection."""
        self.request.protocol.force_close()
        return web.Response()

    async def hang(self, _fault: Fault) -> web.StreamResponse:
        """Say nothing, and read nothing any more."""
        never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await never

    async def turn_away(self, fault: Fault) -> web.StreamResponse:
        """Take in all, and answer what some machine between would."""
        await self._take_in(None)
        headers = {"Location": str(self.request.url)} if fault.trouble is Trouble.REDIRECT else {}
        usual = 307 if fault.trouble is Trouble.REDIRECT else 502
        echo = self.request.raw_path if fault.trouble is Trouble.ECHO_PAGE else "Bad luck"
        page = f"<html><body>{html.escape(echo)}</body></html>"
        return web.Response(text=page, status=fault.status or usual, headers=headers, content_type="text/html")


async def _parts(part: BodyPartReader, reader: MultipartReader) -> AsyncIterator[bytes]:
    """Yield what the field of the file holds; it must be the last field."""
    while chunk := await part.read_chunk(_CHUNK):
        yield bytes(chunk)
    if await reader.next() is not None:
        raise _Refused(400, "MalformedPOSTRequest", "The field file must be the last one.")


async def _send(response: web.StreamResponse, blob: Blob, start: int, left: int) -> None:
    with blob.file.open("rb") as file:
        file.seek(start)
        while left:
            chunk = file.read(min(left, _CHUNK))
            left -= len(chunk)
            await response.write(chunk)


def _check(objects: Objects, link: Link, token: str | None) -> None:
    if token != link.token:
        raise _Refused(403, "AccessDenied", "The security token is not that of this signature.")
    if not objects.is_good(link):
        raise _Refused(403, "AccessDenied", "Request has expired")


_RIGHTS: Final[dict[Right, Callable[[ObjectRequest, Objects], Awaitable[_Said]]]] = {
    Right.POST: ObjectRequest.post,
    Right.PUT: ObjectRequest.put,
    Right.GET: ObjectRequest.get,
}

_Play = Callable[[ObjectRequest, Fault], Awaitable[web.StreamResponse]]

_BEFORE: Final[dict[Trouble, _Play]] = {
    Trouble.DROP: ObjectRequest.drop_midway,
    Trouble.HANG: ObjectRequest.hang,
    Trouble.HTTP: ObjectRequest.turn_away,
    Trouble.REDIRECT: ObjectRequest.turn_away,
}

_AFTER: Final[dict[Trouble, _Play]] = {
    Trouble.DROP_AFTER: ObjectRequest.drop,
    Trouble.HANG_AFTER: ObjectRequest.hang,
    Trouble.HTTP_AFTER: ObjectRequest.turn_away,
    Trouble.ECHO_PAGE: ObjectRequest.turn_away,
}
