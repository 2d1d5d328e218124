"""The files of an environment: whole uploads and downloads, and the calls below (cloudbase-batch/file-mgnt)."""

from wxtcb._object_storage.download import DownloadedFile
from wxtcb.api.storage.batches import batch_delete_file, batch_download_file
from wxtcb.api.storage.files import (
    BATCH_DELETE_FILE,
    BATCH_DOWNLOAD_FILE,
    ENDPOINTS,
    GET_BUCKET,
    UPLOAD_FILE_LINK,
    get_bucket,
    iter_files,
    upload_file_link,
)
from wxtcb.api.storage.models import (
    DeletedFile,
    DeletedFiles,
    FileLink,
    FileLinkRequest,
    FileLinks,
    FileList,
    StoredFile,
    UploadLink,
)
from wxtcb.api.storage.transfer import Uploaded, download_file, download_url, upload_file

__all__ = [
    "BATCH_DELETE_FILE",
    "BATCH_DOWNLOAD_FILE",
    "ENDPOINTS",
    "GET_BUCKET",
    "UPLOAD_FILE_LINK",
    "DeletedFile",
    "DeletedFiles",
    "DownloadedFile",
    "FileLink",
    "FileLinkRequest",
    "FileLinks",
    "FileList",
    "StoredFile",
    "UploadLink",
    "Uploaded",
    "batch_delete_file",
    "batch_download_file",
    "download_file",
    "download_url",
    "get_bucket",
    "iter_files",
    "upload_file",
    "upload_file_link",
]
