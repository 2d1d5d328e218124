"""Limits: the sizes and numbers that bound what others can make wxtcb read, keep or show.

The reason of each is in `docs/limits.md`. They are constants of the platform or bounds of this library, not options.
"""

from __future__ import annotations

from typing import Final

import attrs

from wxtcb.errors import MAX_ERRMSG_LENGTH

__all__ = ["LIMITS", "Limits"]

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of wxtcb, as documented constants; `wxtcb.LIMITS` has the values in force.

    - `reply_bytes`: a reply of the platform, after decompression; `list_reply_bytes` of an endpoint that lists
      resources, `document_reply_bytes` of one that returns records or the result of a function.
    - `reply_containers`, `reply_values`: objects and arrays, and values, in the JSON of a large reply.
    - `errmsg_length`: characters of an errmsg, or of a reason in a batch, that are kept.
    - `excerpt_bytes`: of a page that is no JSON, the part that is read for an error; 120 characters of it are quoted.
    - `kept_reply_bytes`: JSON of an unreadable reply that an error keeps.
    - `storage_reply_bytes`: a reply of the object storage that is no file.
    - `download_bytes`: a downloaded file, unless `max_bytes` is given.
    - `zip_bytes`: the code of a function; `unpacked_bytes`: the files that `functions.pack` reads for it.
    - `files_per_call`: files in one call of the storage group.
    - `push_query_length`, `push_parameters`, `push_elements`, `push_name_length`: a push of WeChat.
    """

    reply_bytes: int = 1 * _MIB
    list_reply_bytes: int = 8 * _MIB
    document_reply_bytes: int = 32 * _MIB
    reply_containers: int = 250_000
    reply_values: int = 1_000_000
    errmsg_length: int = MAX_ERRMSG_LENGTH
    excerpt_bytes: int = 4 * _KIB
    kept_reply_bytes: int = 16 * _KIB
    storage_reply_bytes: int = 64 * _KIB
    download_bytes: int = 5 * 1024 * _MIB
    zip_bytes: int = 20 * _MIB
    unpacked_bytes: int = 500 * _MIB
    files_per_call: int = 50
    push_query_length: int = 4 * _KIB
    push_parameters: int = 20
    push_elements: int = 200
    push_name_length: int = 64


LIMITS: Final = Limits()
