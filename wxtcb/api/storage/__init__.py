"""Files of an environment: uploads, downloads, and the calls they use (official group: cloudbase-batch/file-mgnt)."""

from wxtcb._object_storage.download import (
    DownloadedFile as DownloadedFile,
)
from wxtcb.api.storage.files import (
    BATCH_DELETE_FILE as BATCH_DELETE_FILE,
    BATCH_DOWNLOAD_FILE as BATCH_DOWNLOAD_FILE,
    ENDPOINTS as ENDPOINTS,
    GET_BUCKET as GET_BUCKET,
    UPLOAD_FILE_LINK as UPLOAD_FILE_LINK,
    DeletedFile as DeletedFile,
    DeletedFiles as DeletedFiles,
    FileLink as FileLink,
    FileLinkRequest as FileLinkRequest,
    FileLinks as FileLinks,
    FileList as FileList,
    StoredFile as StoredFile,
    UploadLink as UploadLink,
    batch_delete_file as batch_delete_file,
    batch_download_file as batch_download_file,
    get_bucket as get_bucket,
    iter_files as iter_files,
    upload_file_link as upload_file_link,
)
from wxtcb.api.storage.transfer import (
    Uploaded as Uploaded,
    download_file as download_file,
    download_url as download_url,
    upload_file as upload_file,
)
