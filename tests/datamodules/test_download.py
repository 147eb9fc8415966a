"""Downloads from a server that breaks off, forgets, changes its mind and lies."""

import errno
import io
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import numpy as np
import pooch  # type: ignore[import-untyped]
import pytest

from datamodules.download import download

BODY = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
NO_DELAYS = (0.0, 0.0, 0.0)


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    body: bytes = BODY
    version: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    piece: int = 10**9  # the most that one answer holds, bytes
    cuts: list[int] = field(default_factory=list)  # bytes after which the next connections close
    statuses: list[int] = field(default_factory=list)  # of the next answers, in place of 200
    content_type: str = "application/octet-stream"
    at_cut: Callable[[], None] = lambda: None
    pause: float = 0  # before an answer, s
    requests: list[dict[str, str]] = field(default_factory=list)

    def asked_ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **server.version, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if server.cuts:
                body, self.close_connection = body[: server.cuts.pop(0)], True
                self.wfile.write(body)
                server.at_cut()
            else:
                self.wfile.write(body)

        def do_GET(self) -> None:
            server.requests.append(dict(self.headers))
            asked, total = self.headers.get("Range"), len(server.body)
            unchanged = self.headers.get("If-Range") in (None, *server.version.values())
            time.sleep(server.pause)
            if server.statuses:
                self.answer(server.statuses.pop(0), b"sorry", {})
            elif asked is None or not unchanged or not server.ranges:
                self.answer(200, server.body, {"Content-Type": server.content_type})
            elif (start := int(asked.removeprefix("bytes=").removesuffix("-"))) >= total:
                self.answer(416, b"sorry", {"Content-Range": f"bytes */{total}"})
            else:
                part = server.body[start : start + server.piece]
                self.answer(206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{total}"})

    return Handler


class Listener(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the game."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    with Listener(("127.0.0.1", 0), handler(server)) as listener:
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        listener.shutdown()


def fetch(server: Server, folder: Path, name: str = "data.csv") -> Path:
    return download(server.url, [name], folder, delays=NO_DELAYS, timeout=5)[0]


def leave_part(folder: Path, body: bytes, version: str | None = '"one"') -> None:
    (folder / "data.csv.part").write_bytes(body)
    if version is not None:
        (folder / "data.csv.part.version").write_text(version)


def names(folder: Path) -> set[str]:
    """Files left behind; whether a lock file stays is the lock's affair."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_missing_files_arrive_whole_and_those_that_are_there_are_not_asked_for(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    paths = download(f"{server.url}/", ["a.csv", "b.csv"], folder)
    assert paths == [folder / "a.csv", folder / "b.csv"]
    assert [path.read_bytes() for path in paths] == [BODY, BODY]
    assert names(folder) == {"a.csv", "b.csv"}
    (tmp_path / "data.csv").write_bytes(b"mine")
    assert fetch(server, tmp_path).read_bytes() == b"mine"
    assert len(server.requests) == 2
    # Not even a lock: data in a folder that cannot be written to is still of use.
    assert {path.name for path in tmp_path.iterdir()} == {"data.csv", "not"}


def test_a_cut_transfer_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cuts = [200_000]
    assert fetch(server, tmp_path).read_bytes() == BODY
    first, second = server.asked_ranges()
    assert first is None and second is not None
    # At most one chunk of 64 KiB is lost with the connection.
    assert 200_000 - 2**16 <= int(second[len("bytes=") : -1]) <= 200_000
    assert server.requests[1]["If-Range"] == '"one"'
    assert server.requests[1]["Accept-Encoding"] == "identity"
    assert names(tmp_path) == {"data.csv"}


@pytest.mark.parametrize(
    ("version", "sent"),
    [
        ({}, None),
        ({"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ({"ETag": 'W/"x"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ({"ETag": 'W/"x"'}, None),
    ],
)
def test_if_range_holds_what_the_server_gave(
    server: Server, tmp_path: Path, version: dict[str, str], sent: str | None
) -> None:
    server.version, server.cuts = version, [200_000]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.requests[1].get("If-Range") == sent


@pytest.mark.parametrize("part", [123_456, 300_000])
@pytest.mark.parametrize("ranges", [True, False], ids=["changed", "without ranges"])
def test_a_changed_file_or_one_without_ranges_starts_again(
    ranges: bool, part: int, server: Server, tmp_path: Path
) -> None:
    leave_part(tmp_path, (BODY if ranges else OTHER)[:part])
    server.ranges = ranges
    if ranges:
        server.body, server.version = OTHER, {"ETag": '"two"'}
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.asked_ranges() == [f"bytes={part}-"]


def test_the_version_goes_with_its_part(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path, OTHER[:123_456], version='"old"')
    server.version, server.cuts = {}, [200_000]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert [headers.get("If-Range") for headers in server.requests] == ['"old"', None]


@pytest.mark.parametrize(
    ("part", "version", "asked"),
    [
        (BODY[:123_456], '"one"', ["bytes=123456-"]),
        # Whole already: only renamed.
        (BODY, '"one"', ["bytes=300000-"]),
        # Longer than the file: thrown away.
        (OTHER + BODY, None, ["bytes=600000-", None]),
    ],
    ids=["cut", "whole", "longer"],
)
def test_the_part_of_an_earlier_process_is_gone_on_with(
    part: bytes, version: str | None, asked: list[str | None], server: Server, tmp_path: Path
) -> None:
    leave_part(tmp_path, part, version)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.asked_ranges() == asked and names(tmp_path) == {"data.csv"}


def test_a_server_that_hands_out_pieces_is_asked_for_the_rest(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path, BODY[:100_000])
    server.piece = 80_000
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.asked_ranges() == ["bytes=100000-", "bytes=180000-", "bytes=260000-"]


def test_an_overloaded_server_is_asked_again_after_the_delays(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    start = time.monotonic()
    (path,) = download(server.url, ["data.csv"], tmp_path, delays=(0.02, 0.05))
    assert time.monotonic() - start >= 0.07
    assert path.read_bytes() == BODY and len(server.requests) == 3


def test_permanent_breakage_keeps_the_part_for_the_next_time(server: Server, tmp_path: Path, refused: Callable) -> None:
    server.cuts = [70_000] * 4
    with refused(f"{server.url}/data.csv", "connection failed", "goes on from data.csv.part"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1 + len(NO_DELAYS)
    kept = (tmp_path / "data.csv.part").read_bytes()
    assert len(kept) >= 2**16 and kept == BODY[: len(kept)]
    assert names(tmp_path) == {"data.csv.part", "data.csv.part.version"}
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.asked_ranges()[-1] == f"bytes={len(kept)}-"


def test_ctrl_c_keeps_the_part(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "data.csv.part"

    def press() -> None:
        while not part.exists() or part.stat().st_size < 2**16:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.1)  # so that the signal comes before the end of the connection

    server.cuts, server.at_cut = [200_000], press
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(server, tmp_path)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert names(tmp_path) == {"data.csv.part", "data.csv.part.version"}
    kept = part.stat().st_size
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.asked_ranges() == [None, f"bytes={kept}-"]


def test_not_found_and_no_place_to_write_to(server: Server, tmp_path: Path, refused: Callable) -> None:
    (tmp_path / "file").touch()
    with refused(tmp_path / "file" / "data.csv", "cannot be written"):
        fetch(server, tmp_path / "file")
    assert server.requests == []
    server.statuses = [404] * 9
    with refused(f"{server.url}/data.csv", "404 Not Found", f"put it into {tmp_path}"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1 and names(tmp_path) == {"file"}


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        # Port 1 (tcpmux) is privileged and unused.
        ("http://127.0.0.1:1", ("http://127.0.0.1:1/data.csv", "(Connection refused)", "put it into")),
        ("nowhere", ("nowhere/data.csv", "Invalid URL")),
        ("", ("timed out", "put it into")),
    ],
    ids=["refused", "no address", "silent"],
)
def test_servers_that_do_not_answer(
    address: str, sentence: tuple[str, ...], server: Server, tmp_path: Path, refused: Callable
) -> None:
    server.pause = 0.3
    with refused(*sentence):
        download(address or server.url, ["data.csv"], tmp_path, delays=(), timeout=0.1)
    assert names(tmp_path) == set()


def test_login_page_does_not_cost_the_part(server: Server, tmp_path: Path, refused: Callable) -> None:
    leave_part(tmp_path, BODY[:123_456])
    server.body, server.version, server.content_type = b"<html>Log in", {}, "text/html; charset=utf-8"
    with refused("web page"):
        fetch(server, tmp_path)
    assert names(tmp_path) == {"data.csv.part", "data.csv.part.version"}
    assert (tmp_path / "data.csv.part").read_bytes() == BODY[:123_456]


def test_an_archive_arrives_and_a_page_in_its_place_is_refused(
    server: Server, tmp_path: Path, refused: Callable
) -> None:
    server.body = b"<html>Moved for good</html>"
    with refused("not a zip archive", "<html>Moved for good", f"put it into {tmp_path}"):
        fetch(server, tmp_path, "data.zip")
    # Kept, it would be taken for a complete part for ever.
    assert names(tmp_path) == set()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/b.txt", "c")
    server.body = archive.getvalue()
    with zipfile.ZipFile(fetch(server, tmp_path, "data.zip")) as file:
        assert file.read("a/b.txt") == b"c"


class FullDisk(io.FileIO):
    """Holds one chunk."""

    def write(self, data: Any) -> int:
        if self.tell() >= 2**16:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_full_disk_keeps_the_part(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable
) -> None:
    def open_on_full_disk(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
        return FullDisk(path, mode) if mode == "ab" else open(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_on_full_disk)
        with refused(str(tmp_path / "data.csv"), "No space left", "free space", "goes on from data.csv.part"):
            fetch(server, tmp_path)
    assert (tmp_path / "data.csv.part").read_bytes() == BODY[: 2**16]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.asked_ranges() == [None, f"bytes={2**16}-"]


def test_a_second_download_waits_for_the_first(server: Server, tmp_path: Path) -> None:
    server.pause = 0.1
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(fetch, [server] * 4, [tmp_path] * 4))
    assert len(server.requests) == 1 and {path.read_bytes() for path in paths} == {BODY}


def test_a_log_gets_one_line_at_either_end(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pooch.get_logger().addHandler(caplog.handler)
    fetch(server, tmp_path)
    pooch.get_logger().removeHandler(caplog.handler)
    assert caplog.records == []
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"Downloading {server.url}/data.csv to {tmp_path}", "Downloaded data.csv, 300.0 kB"]


def test_a_terminal_gets_a_bar(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    fetch(server, tmp_path)
    err = capsys.readouterr().err
    assert "300.0/300.0 kB" in err and "Downloading" not in err
