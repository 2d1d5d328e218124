"""Files of the environments."""

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
    """The files of the environments, one bucket per environment."""

    _context: ServiceContext = field(repr=False)
    objects: ObjectStore = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.objects = ObjectStore(self._context)

    def write(self, env: str, path: str, data: bytes) -> str:
        """Store a file, as the platform itself does, and return a download URL."""
        incoming = self.objects.blobs.open_writer()
        incoming.write(data)
        bucket, meta = bucket_name(env), encode_file_id(make_file_id(env, path))
        self.objects.put(bucket, path, incoming.finish(), file_id_meta=meta, content_type="application/octet-stream")
        return self.objects.url(self.objects.issue_link(LinkMethod.GET, bucket, path, _DOWNLOAD_LINK_TTL))

    def read(self, env: str, path: str) -> bytes | None:
        """Return a file, or None if it does not exist."""
        found = self.objects.get(bucket_name(env), path)
        return None if found is None else found.blob.file.read_bytes()

    def upload_link(self, env: str, path: str) -> tuple[SignedLink, str]:
        """Return a link for an upload, and the encoded file id that the upload must send."""
        self._context.require_normal(env)
        return self.objects.issue_link(LinkMethod.POST, bucket_name(env), path, _UPLOAD_LINK_TTL), encode_file_id(
            make_file_id(env, path)
        )

    def download_link(self, env: str, file_id: str, max_age: int) -> str | None:
        """Return a download URL, or None if no file has this id."""
        found = self._find_object(env, file_id)
        if found is None or found.file_id_meta != encode_file_id(file_id):
            return None
        return self.objects.url(self.objects.issue_link(LinkMethod.GET, bucket_name(env), found.key, max_age))

    def delete(self, env: str, file_id: str) -> bool:
        """Delete a file. Return whether it existed."""
        found = self._find_object(env, file_id)
        if found is not None:
            self.objects.delete(bucket_name(env), found.key)
        return found is not None

    def list_page(self, env: str, *, prefix: str, delimiter: str, marker: str) -> tuple[list[StoredObject], bool]:
        """Return a page of the files of an environment, and whether there are more."""
        self._context.require_normal(env)
        return self.objects.list_page(bucket_name(env), prefix=prefix, delimiter=delimiter, marker=marker)

    def require_normal(self, env: str) -> None:
        """Raise `PlatformError` if the environment is not NORMAL."""
        self._context.require_normal(env)

    def _find_object(self, env: str, file_id: str) -> StoredObject | None:
        start = make_file_id(env, "")
        return self.objects.get(bucket_name(env), file_id[len(start) :]) if file_id.startswith(start) else None


def bucket_name(env: str) -> str:
    return f"7465-{env}-1304480914"


def make_file_id(env: str, path: str) -> str:
    return f"cloud://{env}.{bucket_name(env)}/{path}"


def encode_file_id(file_id: str) -> str:
    """Return the value that an upload must send as `x-cos-meta-fileid`."""
    return base64.b64encode(file_id.encode()).decode()
