"""Downloads over an unreliable line: pooch keeps the files, and here is the resuming that it lacks."""

import re
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch  # type: ignore[import-untyped]
import requests
from requests.exceptions import ChunkedEncodingError
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from datamodules.locks import only_one
from karyon.errors import DataError, cannot_write

_CHUNK = 2**16  # bytes; a cut costs at most this much
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+)")


class BrokenTransferError(Exception):
    """A transfer that may go better when repeated."""


_TRANSIENT = (BrokenTransferError, requests.ConnectionError, requests.Timeout, ChunkedEncodingError)


def download(
    base_url: str,
    files: Sequence[str],
    folder: Path,
    delays: Sequence[float] = (1.0, 2.0, 5.0),
    timeout: float = 20.0,
) -> list[Path]:
    """Puts the files that a folder lacks into it.

    A transfer is written to ``<file>.part`` and gets its final name only when complete, so a file under that name is
    taken to be whole and is not asked for again. A cut transfer, of this or of an earlier process, goes on where it
    stopped unless the file has changed on the server. A second process waits for the first and then finds the file.

    The bytes are not checked against a hash, because none is published for these archives: what is pinned is their
    content, the pixels, which the data module verifies when it reads them.

    Args:
        base_url: address of the folder on the server.
        files: names relative to it and to ``folder``.
        folder: created where missing.
        delays: pauses before the second, third, ... try of a broken transfer, s.
        timeout: silence of the server after which a transfer counts as broken, s.

    Returns:
        The path of each file, in the order of ``files``.

    Raises:
        DataError: the server cannot be reached, does not have the file, sends a web page or something that is not a zip
            archive in its place, or keeps breaking off; or the disk is full or the folder not writable.
    """
    # At its info level pooch advises to pin the hash of what has just arrived.
    pooch.get_logger().setLevel("WARNING")
    return [_fetch(f"{base_url.rstrip('/')}/{name}", folder / name, delays, timeout) for name in files]


def _fetch(url: str, path: Path, delays: Sequence[float], timeout: float) -> Path:
    if path.exists():
        return path
    transfer = _Transfer(url, path, delays, timeout)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with only_one(path.with_name(f"{path.name}.lock"), f"downloading {path}"):
            pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent.resolve(), downloader=transfer)
    except OSError as error:
        kept = f", which goes on from {transfer.part.name}" if transfer.part.exists() else ""
        raise cannot_write(path, error, f"then repeat the download{kept}") from error
    return path


@dataclass(frozen=True)
class _Transfer:
    """One file on its way; pooch calls it with the file under which the result is to lie."""

    url: str
    path: Path
    delays: Sequence[float]
    timeout: float

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def version(self) -> Path:
        """Holds the ETag or date of the file that the part is a part of."""
        return self.path.with_name(f"{self.path.name}.part.version")

    def __call__(self, url: str, output: str, _: object) -> None:
        console = Console(stderr=True)
        columns = [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
        quiet = not console.is_interactive
        if quiet:
            console.out(f"Downloading {url} to {self.path.parent}")
        with Progress(TextColumn("{task.description}"), *columns, console=console, disable=quiet) as progress:
            self._receive_with_retries(progress, progress.add_task(self.path.name, total=None))
        if self.path.suffix == ".zip":
            self._check_zip()
        self.part.replace(output)
        self.version.unlink(missing_ok=True)
        if quiet:
            console.out(f"Downloaded {self.path.name}, {decimal(Path(output).stat().st_size)}")

    def _receive_with_retries(self, progress: Progress, task: TaskID) -> None:
        for delay in (*self.delays, None):
            try:
                return self._receive(progress, task)
            except _TRANSIENT as error:
                reason = (
                    str(error)
                    if isinstance(error, BrokenTransferError)
                    else f"the connection failed ({_root_cause(error)})"
                )
                if delay is None:
                    raise self._failure(reason) from error
            except requests.RequestException as error:
                raise self._failure(str(error)) from error
            progress.console.out(f"{self.path.name}: {reason}; trying again in {delay:g} s")
            time.sleep(delay)

    def _receive(self, progress: Progress, task: TaskID) -> None:
        offset = self._size()
        # Compressed on the way, the file would have other byte positions.
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self.version.exists():
                headers["If-Range"] = self.version.read_text("latin-1")
        with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout) as response:
            total = self._accept(response, offset)
            if response.status_code != 416:
                progress.reset(task, completed=self._size(), total=total)
                with self.part.open("ab") as file:
                    for chunk in response.iter_content(_CHUNK):
                        file.write(chunk)
                        progress.advance(task, len(chunk))
        if total is not None and self._size() != total:
            raise BrokenTransferError(f"the transfer ended after {self._size()} of {total} bytes")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _accept(self, response: requests.Response, offset: int) -> int | None:
        """Decides from the headers whether the answer continues the part, replaces it, or is none.

        Returns:
            Size of the whole file, bytes, where the server tells it.
        """
        status = response.status_code
        answer = f"the server answered {status} {response.reason}"
        if status in (408, 429) or status >= 500:
            raise BrokenTransferError(answer)
        if status not in ((200, 206, 416) if offset else (200,)):
            raise self._failure(answer)
        if status == 200:
            # Judged before the part is given up, so that a login page in the way does not cost what has arrived.
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise self._failure("the server sent a web page in place of the file")
            self._start_afresh(response)
            length = response.headers.get("Content-Length")
            return int(length) if length else None
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        # After the last byte there is no range to send: 416 with the part's size as the total means that it is whole.
        expected = {206: match and match["start"], 416: match and match["total"]}[status]
        if match is None or expected != str(offset):
            self.part.unlink()
            raise BrokenTransferError(f"{answer}, which does not fit the {offset} bytes already here")
        return int(match["total"])

    def _start_afresh(self, response: requests.Response) -> None:
        # In this order, since a kill in between must not leave an old part with the new version.
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)
        # A weak ETag, W/"...", does not promise equal bytes, and If-Range refuses it (RFC 9110, section 13.1.5).
        etag = response.headers.get("ETag", "")
        version = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        if version:
            self.version.write_text(version, "latin-1")

    def _check_zip(self) -> None:
        try:
            zipfile.ZipFile(self.part).close()
        except zipfile.BadZipFile as error:
            with self.part.open("rb") as file:
                head = file.read(40)
            size = self._size()
            # Nothing to resume: the next try shall ask for the file anew.
            self.part.unlink()
            self.version.unlink(missing_ok=True)
            reason = f"the server sent {size} bytes that are not a zip archive and begin with {head!r}"
            raise self._failure(reason) from error

    def _failure(self, reason: str) -> DataError:
        repeat = f"repeat the download, which goes on from {self.part.name}, or " if self.part.exists() else ""
        remedy = f"{repeat}get the file by hand and put it into {self.path.parent}"
        return DataError(f"{self.url} could not be downloaded: {reason}; {remedy}.")


def _root_cause(error: BaseException) -> str:
    """What the system said, without the layers of requests and urllib3 around it."""
    while inner := error.__cause__ or next((arg for arg in error.args if isinstance(arg, Exception)), None):
        error = inner
    return getattr(error, "strerror", None) or str(error)
