"""Files from the web, checked before they take their place."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.images import Progress
from hpsearch.errors import DataError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0  # longest silence of a server


def fetch_file(urls: Sequence[str], path: Path, md5: str, source: str, progress: Progress | None = None) -> None:
    """Have the file at `path`: as it lies there, if its checksum is right, else from the first mirror that has it.

    Raises:
        DataError: no mirror gave it whole, or another file lies there; the message has expected and actual.
    """
    if path.exists():
        verify(path, md5, source)
        return
    failures = []
    for url in urls:
        try:
            _download(url, path, md5, progress)
            return
        except (OSError, http.client.HTTPException, _WrongContentError) as error:
            failures.append(f"{urlsplit(url).hostname}: {error}")
            if isinstance(error, urllib.error.HTTPError):  # it holds the connection
                error.close()
    raise DataError(
        f"{path.name} could not be downloaded from {'; '.join(failures)}.\n"
        f"Run `hpsearch data fetch {source}` where there is a network, or put the file at {path}."
    )


def verify(path: Path, md5: str, source: str) -> None:
    """Compare a file with its checksum.

    Raises:
        DataError: they differ.
    """
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual != md5:
        raise DataError(
            f"{path} is corrupt: expected md5 {md5}, actual {actual}.\n"
            f"Delete it and run `hpsearch data fetch {source}`."
        )


class _WrongContentError(Exception):
    """The server's answer is not the file."""


def _download(url: str, path: Path, md5: str, progress: Progress | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "hpsearch"})
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, replacing(path) as file:
        total = int(response.headers.get("Content-Length") or 0)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
        if total and done != total:
            raise _WrongContentError(f"expected {total} bytes, actual {done}")
        if digest.hexdigest() != md5:
            raise _WrongContentError(f"expected md5 {md5}, actual {digest.hexdigest()}")
