"""Ctrl-C ends a command from its first moment on: whatever is being imported, a word is said and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.addaudithook(lambda event, args: event == "import" and args[0] == %r and os.kill(os.getpid(), signal.SIGINT))
"""


@pytest.mark.parametrize("package", ["karyon", "cli"])
@pytest.mark.parametrize("module", ["argparse", "karyon.errors", "karyon.commands.inputs", "numpy", "cv2"])
def test_ctrl_c_while_a_module_is_imported_is_no_traceback(package: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT % module)
    command = [sys.executable, "-m", package, "segment", "nothing.png"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")
