"""The files of the environments."""

from __future__ import annotations

import base64
from typing import Final

from attrs import define, field

from wxtcb.sandbox.context import Ground
from wxtcb.sandbox.services.object_storage import Link, Object, Objects, Right

__all__ = ["Storage"]

_POST_SECONDS: Final = 900
_URL_SECONDS: Final = 7200


@define(eq=False)
class Storage:
    """The files of the environments, each in the bucket of its own."""

    _ground: Ground = field(repr=False)
    objects: Objects = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.objects = Objects(self._ground)

    def write(self, env: str, path: str, data: bytes) -> str:
        """Put a file there as the platform itself does, and return a URL that it can be downloaded from."""
        incoming = self.objects.blobs.receive()
        incoming.write(data)
        bucket, meta = bucket_of(env), meta_of(file_id_of(env, path))
        self.objects.put(bucket, path, incoming.end(), meta=meta, content_type="application/octet-stream")
        return self.objects.url(self.objects.issue(Right.GET, bucket, path, _URL_SECONDS))

    def read(self, env: str, path: str) -> bytes | None:
        """Return a file, or None if there is none."""
        found = self.objects.get(bucket_of(env), path)
        return None if found is None else found.blob.file.read_bytes()

    def upload_link(self, env: str, path: str) -> tuple[Link, str]:
        """Issue a link to post a file to, and the file's id in object storage."""
        self._ground.need_normal(env)
        return self.objects.issue(Right.POST, bucket_of(env), path, _POST_SECONDS), meta_of(file_id_of(env, path))

    def download_link(self, env: str, file_id: str, max_age: int) -> str | None:
        """Issue a URL for a file, or None if it is not there under its id."""
        found = self._find(env, file_id)
        if found is None or found.meta != meta_of(file_id):
            return None
        return self.objects.url(self.objects.issue(Right.GET, bucket_of(env), found.key, max_age))

    def delete(self, env: str, file_id: str) -> bool:
        """Remove a file; tell whether there was one."""
        found = self._find(env, file_id)
        if found is not None:
            self.objects.delete(bucket_of(env), found.key)
        return found is not None

    def page(self, env: str, *, prefix: str, delimiter: str, marker: str) -> tuple[list[Object], bool]:
        """List files of an environment."""
        self._ground.need_normal(env)
        return self.objects.page(bucket_of(env), prefix=prefix, delimiter=delimiter, marker=marker)

    def need_normal(self, env: str) -> None:
        """Refuse an environment that has no files."""
        self._ground.need_normal(env)

    def _find(self, env: str, file_id: str) -> Object | None:
        start = file_id_of(env, "")
        return self.objects.get(bucket_of(env), file_id[len(start) :]) if file_id.startswith(start) else None


def bucket_of(env: str) -> str:
    return f"7465-{env}-1304480914"


def file_id_of(env: str, path: str) -> str:
    return f"cloud://{env}.{bucket_of(env)}/{path}"


def meta_of(file_id: str) -> str:
    """Make of a file's id what `x-cos-meta-fileid` has to hold."""
    return base64.b64encode(file_id.encode()).decode()
