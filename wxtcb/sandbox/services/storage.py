"""The files of the environments."""

from __future__ import annotations

import base64
from typing import Final

from attrs import define, field

from wxtcb.sandbox.context import ServiceContext
from wxtcb.sandbox.services.object_storage import LinkMethod, ObjectStore, SignedLink, StoredObject

__all__ = ["Storage"]

_UPLOAD_LINK_TTL: Final = 900
_DOWNLOAD_LINK_TTL: Final = 7200


@define(eq=False)
class Storage:
    """The files of the environments, each in the bucket of its own."""

    _context: ServiceContext = field(repr=False)
    objects: ObjectStore = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.objects = ObjectStore(self._context)

    def write(self, env: str, path: str, data: bytes) -> str:
        """Put a file there as the platform itself does, and return a URL that it can be downloaded from."""
        incoming = self.objects.blobs.open_writer()
        incoming.write(data)
        bucket, meta = bucket_name(env), encode_file_id(make_file_id(env, path))
        self.objects.put(bucket, path, incoming.finish(), file_id_meta=meta, content_type="application/octet-stream")
        return self.objects.url(self.objects.issue_link(LinkMethod.GET, bucket, path, _DOWNLOAD_LINK_TTL))

    def read(self, env: str, path: str) -> bytes | None:
        """Return a file, or None if there is none."""
        found = self.objects.get(bucket_name(env), path)
        return None if found is None else found.blob.file.read_bytes()

    def upload_link(self, env: str, path: str) -> tuple[SignedLink, str]:
        """Issue a link to post a file to, and the file's id in object storage."""
        self._context.require_normal(env)
        return self.objects.issue_link(LinkMethod.POST, bucket_name(env), path, _UPLOAD_LINK_TTL), encode_file_id(
            make_file_id(env, path)
        )

    def download_link(self, env: str, file_id: str, max_age: int) -> str | None:
        """Issue a URL for a file, or None if it is not there under its id."""
        found = self._find_object(env, file_id)
        if found is None or found.file_id_meta != encode_file_id(file_id):
            return None
        return self.objects.url(self.objects.issue_link(LinkMethod.GET, bucket_name(env), found.key, max_age))

    def delete(self, env: str, file_id: str) -> bool:
        """Remove a file; tell whether there was one."""
        found = self._find_object(env, file_id)
        if found is not None:
            self.objects.delete(bucket_name(env), found.key)
        return found is not None

    def list_page(self, env: str, *, prefix: str, delimiter: str, marker: str) -> tuple[list[StoredObject], bool]:
        """List files of an environment."""
        self._context.require_normal(env)
        return self.objects.list_page(bucket_name(env), prefix=prefix, delimiter=delimiter, marker=marker)

    def require_normal(self, env: str) -> None:
        """Refuse an environment that has no files."""
        self._context.require_normal(env)

    def _find_object(self, env: str, file_id: str) -> StoredObject | None:
        start = make_file_id(env, "")
        return self.objects.get(bucket_name(env), file_id[len(start) :]) if file_id.startswith(start) else None


def bucket_name(env: str) -> str:
    return f"7465-{env}-1304480914"


def make_file_id(env: str, path: str) -> str:
    return f"cloud://{env}.{bucket_name(env)}/{path}"


def encode_file_id(file_id: str) -> str:
    """Make of a file's id what `x-cos-meta-fileid` has to hold."""
    return base64.b64encode(file_id.encode()).decode()
