"""What the calls of file storage take and give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from wxtcb._protocol.endpoint import Reply
from wxtcb._protocol.fields import NUMBER_IN_STRING, wire_format, wire_name
from wxtcb.secret import Secret
from wxtcb.validation import check_positive_int, check_string, validator


@attrs.frozen(kw_only=True)
class UploadLink(Reply):
    """Where one file may be posted to, and with what.

    The form's fields, in this order: `key` (the path asked for), `Signature` (`authorization`), `x-cos-security-token`
    (`token`), `x-cos-meta-fileid` (`cos_file_id`), and `file` last. `file_id` names the file in all other calls.
    """

    keeps_raw: ClassVar[bool] = False

    url: Secret
    token: Secret
    authorization: Secret
    file_id: str
    cos_file_id: Secret


@attrs.frozen(kw_only=True)
class FileLinkRequest:
    """A file to be downloaded, by its id, and how many seconds the link to it is to live."""

    file_id: str = attrs.field(validator=validator(check_string), metadata=wire_name("fileid"))
    max_age: int = attrs.field(default=7200, validator=validator(check_positive_int))


@attrs.frozen(kw_only=True)
class FileLink:
    """The link to one file, fetched with a plain GET: whoever has it can read the file as long as it lives.

    `status` is 0 for a link, else the platform's code of what is wrong with this file; None: no answer names it,
    perhaps because a call ended with an error.
    """

    file_id: str = attrs.field(metadata=wire_name("fileid"))
    download_url: str | None = attrs.field(default=None, repr=False)
    status: int | None = None
    errmsg: str | None = None


@attrs.frozen(kw_only=True)
class FileLinks(Reply):
    """Links to files, in the order in which they were asked for."""

    file_list: tuple[FileLink, ...]

    @property
    def failed(self) -> Sequence[FileLink]:
        return tuple(each for each in self.file_list if each.status != 0)


@attrs.frozen(kw_only=True)
class DeletedFile:
    """What became of one file that was to be deleted.

    `status` is 0 for deleted, else the platform's code of what is wrong with this file; None: no answer names it,
    perhaps because a call ended with an error.
    """

    file_id: str = attrs.field(metadata=wire_name("fileid"))
    status: int | None = None
    errmsg: str | None = None


@attrs.frozen(kw_only=True)
class DeletedFiles(Reply):
    """What became of files that were to be deleted, in the order in which they were given."""

    delete_list: tuple[DeletedFile, ...]

    @property
    def failed(self) -> Sequence[DeletedFile]:
        return tuple(each for each in self.delete_list if each.status != 0)


@attrs.frozen(kw_only=True)
class StoredFile:
    """One file of a list: its path, its `size` in bytes, and when it was written (ISO 8601, UTC).

    `md5` ends with -N where the file was uploaded in N parts; then it is not the MD5 of its bytes.
    """

    key: str
    last_modified: str
    md5: str
    size: int = attrs.field(metadata=wire_format(NUMBER_IN_STRING))


@attrs.frozen(kw_only=True)
class FileList(Reply):
    """One page of a list of files, ordered by the UTF-8 bytes of their paths; `is_truncated` when there are more."""

    contents: tuple[StoredFile, ...] = ()
    is_truncated: bool = False
