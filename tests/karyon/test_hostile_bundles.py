"""No bundle runs code, imports by name, reaches the network or takes all memory; each is refused in a sentence."""

import socket
import sys
from pathlib import Path

import psutil
import pytest
from bundles import write_bundle, write_two_stage_bundle
from hostile_bundles import HOSTILE, write_hostile

from karyon import load_model

BEYOND = (
    "os.system",
    "os.posix_spawn",
    "os.exec",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
)
watched: list[str] = []
happened: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if watched and (event in BEYOND or (event == "import" and str(arguments[0]).split(".")[0] in ("evil", "this"))):
        happened.append(f"{event} {arguments}")


sys.addaudithook(_watch)


@pytest.fixture(scope="module", autouse=True)
def everything_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a first model imports, and encoders that are looked up, tells nothing of those that follow."""
    write_bundle(folder := tmp_path_factory.mktemp("first"))
    load_model(folder, device="cpu")
    pytest.importorskip("segmentation_models_pytorch")


@pytest.mark.filterwarnings("ignore:.*(torch.jit|sparse tensor)")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused) -> None:
    write_hostile(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("to the network"))
    memory = psutil.Process().memory_info().rss
    watched.append(name)
    try:
        with refused():
            load_model(tmp_path, device="cpu")
    finally:
        watched.clear()
    assert not happened and not (tmp_path / "executed").exists() and "evil" not in sys.modules
    assert psutil.Process().memory_info().rss - memory < 2**29


def test_the_same_bundle_unspoilt_is_loaded_and_code_would_be_noticed(tmp_path: Path) -> None:
    for onnx in (False, True):
        write_bundle(tmp_path, onnx=onnx)
        assert load_model(tmp_path, device="cpu").card.name == "tiny"
    write_two_stage_bundle(tmp_path)
    assert load_model(tmp_path, device="cpu").predictor.finder.crop_size == 16
    watched.append("this test")
    try:
        __import__("os").system("true")
    finally:
        watched.clear()
    assert happened.pop().startswith("os.system")
