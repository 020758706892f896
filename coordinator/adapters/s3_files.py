"""S3 and what speaks it, through s3fs: options from text, and deletion that leaves no version."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from fsspec import AbstractFileSystem

from coordinator.adapters.remote_folder import RemoteFolder
from letheon.errors import BadConfig

# Always text, whatever it looks like; any other option is read as JSON if it is JSON.
_TEXT = frozenset({"key", "secret", "token", "username", "password", "profile", "endpoint_url"})
# A store that is away is noticed within seconds: whoever called repeats with back-off anyway.
_CONFIG = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}
_RETRIES = 2


def open_s3(url: str, options: Mapping[str, str]) -> RemoteFolder:
    """The folder `s3://bucket/prefix`, usable. Raises BadConfig or StorageUnavailable."""
    try:
        # Here, so that a coordinator on local folders needs none of them.
        import aiohttp
        import botocore.exceptions as theirs
        import s3fs
    except ImportError as error:
        raise BadConfig(
            "storage.url names an S3 bucket, and s3fs is not installed: pip install 'letheon[s3]'",
            key="storage.url",
        ) from error
    root = url.partition("://")[2].rstrip("/")
    bucket, _, prefix = root.partition("/")
    if not bucket:
        raise BadConfig(f"storage.url {url} names no bucket: s3://bucket/prefix", key="storage.url")
    arguments = parse_options(options)
    config = {**_CONFIG, **arguments.pop("config_kwargs", {})}
    try:
        files = s3fs.S3FileSystem(
            **arguments, config_kwargs=config, use_listings_cache=False, skip_instance_cache=True
        )
        files.retries = _RETRIES
        files.connect()
    except (TypeError, ValueError, KeyError, theirs.BotoCoreError) as error:
        raise BadConfig(
            f"storage.options are not those of an S3 file system: {error}", key="storage.options"
        ) from error
    folder = RemoteFolder(
        files,
        root,
        place=url,
        failures=(OSError, theirs.BotoCoreError, theirs.ClientError, aiohttp.ClientError),
        denials=(
            PermissionError,
            theirs.NoCredentialsError,
            theirs.PartialCredentialsError,
            theirs.ParamValidationError,
        ),
        erase=_erase_versions(files),
    )
    folder.probe(f"probe-{uuid.uuid4().hex}")
    with folder.starting():
        _abort_unfinished(files, folder, bucket, prefix)
    return folder


def parse_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments from text: `true` a bool, `5` a number, `{"a": 1}` a table."""
    found: dict[str, Any] = {}
    for name, text in options.items():
        found[name] = text
        if name in _TEXT:
            continue
        try:
            found[name] = json.loads(text)
        except ValueError:
            continue
    return found


def _erase_versions(files: AbstractFileSystem) -> Callable[[str], None]:
    """In a versioned bucket a plain delete only hides an object: its bytes stay."""

    def erase(path: str) -> None:
        bucket, _, key = path.partition("/")
        more: dict[str, str] = {}
        while True:
            page = files.call_s3("list_object_versions", Bucket=bucket, Prefix=key, **more)
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if one["Key"] == key:
                    files.call_s3(
                        "delete_object", Bucket=bucket, Key=key, VersionId=one["VersionId"]
                    )
            if not page.get("IsTruncated"):
                return
            more = {
                "KeyMarker": page["NextKeyMarker"],
                "VersionIdMarker": page["NextVersionIdMarker"],
            }

    return erase


def _abort_unfinished(
    files: AbstractFileSystem, folder: RemoteFolder, bucket: str, prefix: str
) -> None:
    """Parts of uploads that a crash cut hold bytes too, and no listing of objects shows them."""
    own = f"{prefix}/" if prefix else ""
    with folder.reported("list unfinished uploads"):
        page = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=own)
        for upload in page.get("Uploads", ()):
            files.call_s3(
                "abort_multipart_upload",
                Bucket=bucket,
                Key=upload["Key"],
                UploadId=upload["UploadId"],
            )
