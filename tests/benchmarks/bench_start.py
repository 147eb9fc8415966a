"""How long commands take to start and to segment, as whole processes, beside importing torch.

    uv run --extra training python tests/benchmarks/bench_start.py [--images FOLDER] [--rounds 3]

Prints CPU seconds (user and system), wall seconds and the peak of memory of each, the median of several rounds, and the
ratio of its CPU time to that of ``python -c "import torch"`` in the same rounds.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from datamodules.drawing import draw_nuclei

TORCH = "import torch"


def measure(command: list[str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and the peak of memory, MiB, of a process."""
    # In a process of its own, of which alone the children's account tells.
    program = (
        "import resource, subprocess, sys, time; start = time.monotonic();"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode;"
        "spent = time.monotonic() - start; used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(code, used.ru_utime + used.ru_stime, spent, used.ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=True)
    code, cpu, wall, peak = done.stdout.split()
    if code != "0":
        raise SystemExit(f"{' '.join(command)} ended with {code}.")
    return float(cpu), float(wall), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder to segment, such as the 65 test images")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    python = [sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        image, out = Path(folder) / "one.tif", Path(folder) / "out"
        tifffile.imwrite(image, draw_nuclei(np.random.default_rng(0), (256, 256), "fluorescence")[0])
        segment = [*python, "-m", "cli", "segment", "--overwrite", "--device", "cpu", "--out", str(out)]
        commands = {
            TORCH: [*python, "-c", TORCH],
            "python -m cli --help": [*python, "-m", "cli", "--help"],
            "segment --help": [*python, "-m", "cli", "segment", "--help"],
            "segment of one 256x256 image": [*segment, str(image)],
            'karyon.load_model("nuclei")': [*python, "-c", 'import karyon; karyon.load_model("nuclei", device="cpu")'],
        }
        if options.images:
            commands[f"segment of {options.images.name}"] = [*segment, str(options.images)]
        for command in commands.values():
            measure(command)
        rows = {name: [] for name in commands}  # type: dict[str, list[tuple[float, float, float]]]
        for _ in range(options.rounds):
            for name, command in commands.items():
                rows[name].append(measure(command))
    torch = statistics.median(cpu for cpu, _, _ in rows[TORCH])
    for name, measured in rows.items():
        cpu, wall, peak = (statistics.median(values) for values in zip(*measured, strict=True))
        print(f"{name:<32} {cpu:6.2f} s CPU  {wall:6.2f} s wall  {peak:6.0f} MiB  {cpu / torch:5.2f} x importing torch")


if __name__ == "__main__":
    main()
