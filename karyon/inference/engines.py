"""What computes a network's maps: ONNX Runtime on CPUs, torch on GPUs and in training. The predictor sees a function.

Neither is imported before it is chosen, and on a CPU torch is not imported at all.
"""

import ctypes
import os
import platform
from collections.abc import Callable
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from karyon.errors import DataError, first_line
from karyon.io.reading import read_bytes

if TYPE_CHECKING:
    import torch

Images = NDArray[np.float32]
"""(B, C, H, W), prepared as for training."""
Precision = Literal["fp32", "bf16"]
KEPT = 2**19  # px of an image up to which ONNX Runtime keeps its memory for the next; of larger ones it gives it back
COMPUTING = Lock()
"""Held by the one network that computes: it uses all cores, and most of the memory. What is not a network goes on."""


class Engine(Protocol):
    """Computes the maps (B, K, H, W) of images (B, C, H, W), float32."""

    def __call__(self, images: Images) -> NDArray[np.float32]: ...


class OnnxEngine:
    """ONNX Runtime on all cores of a CPU.

    Args:
        path: a model from ``image`` (B, C, H, W) to ``maps`` (B, K, H, W).

    Raises:
        DataError: the file is missing, damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        # Blocks and images differ in size: a plan for the memory of each would add up.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        # Threads that wait would take the core from whatever comes between two images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.small, self.large = onnxruntime.RunOptions(), onnxruntime.RunOptions()
        self.large.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.path, content = path, read_bytes(path)
        # The key under which ONNX keeps the paths of other files with weights.
        if b"location" in content:
            raise DataError(f"{path} refers to other files, and bundles must not: export the bundle again.")
        try:
            self.session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        # Its exceptions have no common base but this.
        except Exception as error:
            raise DataError(
                f"{path} cannot be read as an ONNX model ({first_line(error)}): copy or export the bundle again."
            ) from None

    def __call__(self, images: Images) -> NDArray[np.float32]:
        size = len(images) * images.shape[-2] * images.shape[-1]
        try:
            with COMPUTING:
                options = self.small if size <= KEPT else self.large
                (maps,) = self.session.run(["maps"], {"image": np.ascontiguousarray(images)}, options)
        except Exception as error:
            raise DataError(f"{self.path} cannot be applied ({first_line(error)}): export the bundle again.") from None
        maps = np.asarray(maps)
        if maps.dtype != np.float32 or maps.ndim != 4 or maps.shape[2:] != images.shape[2:]:
            raise DataError(f"{self.path} makes {maps.dtype} {maps.shape} of images {images.shape}: export it again.")
        return maps


class TorchEngine:
    """Torch on any device.

    Args:
        maps: makes the maps (B, K, H, W) of images (B, C, H, W), tensors on the device.
        device: where it computes.
        precision: bf16 computes in half precision where torch thinks it safe.
    """

    def __init__(
        self, maps: "Callable[[torch.Tensor], torch.Tensor]", device: "torch.device", precision: Precision = "fp32"
    ) -> None:
        self.maps, self.device, self.precision = maps, device, precision

    def __call__(self, images: Images) -> NDArray[np.float32]:
        import torch

        half = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with COMPUTING, torch.inference_mode(), half:
            # Torch warns of arrays that it must not write to.
            given = torch.from_numpy(np.require(images, requirements=("C", "W"))).to(self.device)
            return self.maps(given).float().cpu().numpy()


def available_cores() -> int:
    """How many cores this process may use; fewer where OMP_NUM_THREADS says so, as beside other workers.

    Raises:
        DataError: OMP_NUM_THREADS is set to something else than a number.
    """
    if asked := os.environ.get("OMP_NUM_THREADS", "").strip():
        # A list is of nested loops.
        number = asked.partition(",")[0].strip()
        if not number.isdecimal():
            raise DataError(f"OMP_NUM_THREADS is {asked}: set it to a number of threads, as 4, or unset it.")
        return max(1, int(number))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(name: str) -> str:
    """The device that a name stands for: ``auto`` takes CUDA, then MPS, then the CPU.

    >>> choose_device("cpu")
    'cpu'
    """
    if name == "auto":
        name = "cpu"
        if find_spec("torch"):
            apple = platform.system() == "Darwin" and platform.machine() == "arm64"
            name = "cuda" if _cuda_devices() else "mps" if apple else "cpu"
    if name.startswith("mps"):
        allow_fallback()
    return name


def allow_fallback() -> None:
    """Lets the CPU compute what PyTorch has no operator for on an Apple GPU, where nothing else is asked for.

    PyTorch looks for it when it is imported, and not again.
    """
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def _cuda_devices() -> int:
    """How many NVIDIA GPUs the driver knows; importing torch to ask it would take seconds."""
    count = ctypes.c_int(0)
    with suppress(OSError, AttributeError):
        driver: Any = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
        if driver.cuInit(0) == 0:
            driver.cuDeviceGetCount(ctypes.byref(count))
    return count.value


def torch_device(name: str) -> "torch.device":
    """Torch's device of that name.

    Raises:
        DataError: there is none, or torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise DataError(
            f'The device {name}, or this model, needs PyTorch: pip install "karyon[torch]"; or take another.'
        ) from None
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    # PyTorch says by any of these that it has no such device: unknown, not built in, or not there.
    except (RuntimeError, AssertionError, NotImplementedError):
        raise DataError(f"There is no device {name} here: take auto or cpu.") from None
    return device
