"""Files of the environments."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, field

from wxtcb.sandbox.cos.store import LinkMethod, ObjectStore, StoredObject
from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services.context import ServiceContext

if TYPE_CHECKING:
    from wxtcb.sandbox.world import Handler

# Documented for the non-batch twins of both calls; the pages of the batch calls name no maximum.
_MAX_FILES: Final = 50
_NOT_FOUND: Final = {"status": -503003, "errmsg": "STORAGE_FILE_NONEXIST"}
_SUCCESS: Final = {"status": 0, "errmsg": "ok"}


@define(eq=False)
class FileStorage:
    """The files of the environments, one bucket per environment."""

    _context: ServiceContext = field(repr=False)
    objects: ObjectStore = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.objects = ObjectStore(self._context)

    def write(self, env: str, path: str, data: bytes) -> str:
        """Store a file, as the platform itself does, and return a download URL."""
        writer = self.objects.open_writer()
        writer.write(data)
        bucket, meta = _bucket(env), _encode_file_id(_file_id(env, path))
        self.objects.put(bucket, path, writer.finish(), file_id_meta=meta, content_type="application/octet-stream")
        return self.objects.url(self.objects.issue_link(LinkMethod.GET, bucket, path, 7200))

    def read(self, env: str, path: str) -> bytes | None:
        return self.objects.read(_bucket(env), path)

    def upload_link(self, body: Body) -> Mapping[str, object]:
        """Issue a link for uploading a file by POST, valid for 15 minutes."""
        env, path = body.string("env"), body.string("path")
        self._context.require_normal(env)
        link, file_id = self.objects.issue_link(LinkMethod.POST, _bucket(env), path, 15 * 60), _file_id(env, path)
        access = {"url": self.objects.url(link), "token": link.token, "authorization": link.signature}
        return {**access, "file_id": file_id, "cos_file_id": _encode_file_id(file_id)}

    def download_links(self, body: Body) -> Mapping[str, object]:
        """Issue links to files; a missing file has an error status of its own, with errcode 0."""
        env, rows = body.string("env"), body.objects("file_list")
        self._check_batch(env, rows)
        links: list[dict[str, object]] = []
        for row in rows:
            file_id, max_age = row.string("fileid"), row.integer("max_age", 0)
            if max_age < 1:
                raise platform_error(40097, "max_age must be at least 1")
            found, url = self._find_object(env, file_id), ""
            # An upload without its x-cos-meta-fileid is stored, but its id leads to no file.
            if found is not None and found.file_id_meta == _encode_file_id(file_id):
                url = self.objects.url(self.objects.issue_link(LinkMethod.GET, _bucket(env), found.key, max_age))
            links.append({"fileid": file_id, "download_url": url, **(_SUCCESS if url else _NOT_FOUND)})
        return {"file_list": links}

    def delete_files(self, body: Body) -> Mapping[str, object]:
        """Delete files; a missing file has an error status of its own, with errcode 0."""
        env, file_ids = body.string("env"), body.strings("fileid_list")
        self._check_batch(env, file_ids)
        statuses = [_SUCCESS if self.delete(env, file_id) else _NOT_FOUND for file_id in file_ids]
        rows = [{"fileid": file_id, **status} for file_id, status in zip(file_ids, statuses, strict=True)]
        return {"delete_list": rows}

    def delete(self, env: str, file_id: str) -> bool:
        found = self._find_object(env, file_id)
        if found is not None:
            self.objects.delete(_bucket(env), found.key)
        return found is not None

    def list_files(self, body: Body) -> Mapping[str, object]:
        """List files ordered by the bytes of their paths, at most 1,000 at a time."""
        self._context.require_normal(body.string("env"))
        return self.objects.list_page(_bucket(body.string("env")), body)

    def _check_batch(self, env: str, files: Sequence[object]) -> None:
        self._context.require_normal(env)
        if len(files) > _MAX_FILES:
            raise platform_error(40097, f"at most {_MAX_FILES} files at a time")

    def _find_object(self, env: str, file_id: str) -> StoredObject | None:
        start = _file_id(env, "")
        return self.objects.get(_bucket(env), file_id[len(start) :]) if file_id.startswith(start) else None


# The form of the buckets in the documentation; the number is the Tencent Cloud account.
def _bucket(env: str) -> str:
    return f"7465-{env}-1304480914"


def _file_id(env: str, path: str) -> str:
    return f"cloud://{env}.{_bucket(env)}/{path}"


def _encode_file_id(file_id: str) -> str:
    """Return the value that an upload must send as `x-cos-meta-fileid`."""
    return base64.b64encode(file_id.encode()).decode()


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/uploadfile": lambda world, body: world.storage.upload_link(body),
    "/componenttcb/batchdownloadfile": lambda world, body: world.storage.download_links(body),
    "/componenttcb/batchdeletefile": lambda world, body: world.storage.delete_files(body),
    "/componenttcb/getbucket": lambda world, body: world.storage.list_files(body),
}
