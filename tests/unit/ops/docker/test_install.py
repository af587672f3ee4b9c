"""What the image is built with: what is left out of one for the CPU."""

from __future__ import annotations

from ops.docker.install import for_cpu


def packages(*names: str) -> dict[str, list[dict[str, dict[str, str]]]]:
    """pip's installation report, as far as it is read."""
    return {"install": [{"metadata": {"name": name, "version": "1.0"}} for name in names]}


def test_an_image_for_the_cpu_has_none_of_what_only_a_gpu_uses() -> None:
    report = packages("torch", "nvidia-cudnn-cu13", "cuda-toolkit", "cuda-bindings", "triton", "numpy")
    assert for_cpu(report) == ["torch==1.0", "numpy==1.0"]


def test_the_cuda_runtime_stays_so_that_torch_finds_by_itself_that_there_is_no_device() -> None:
    report = packages("nvidia-cuda-runtime", "nvidia-cuda-cupti", "nvidia-cuda-nvrtc")
    assert for_cpu(report) == ["nvidia-cuda-runtime==1.0", "nvidia-cuda-cupti==1.0"]


def test_packages_that_only_sound_alike_stay() -> None:
    assert for_cpu(packages("tritonclient", "barracuda-x")) == ["tritonclient==1.0", "barracuda-x==1.0"]
