"""Writes the tensors of a golden file, with the versions of what made them."""
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file


def save(name, tensors, *libraries):
    tensors = {
        key: (t.detach().float() if t.is_floating_point() else t.to(torch.int64)).contiguous().clone()
        for key, t in tensors.items()
    }
    made_by = {library: version(library) for library in ("torch", *libraries)} | {"python": platform.python_version()}
    path = Path(__file__).parent / f"{name}.safetensors"
    save_file(tensors, path, metadata={"made_by": str(made_by)})
    print(path.name, path.stat().st_size, "bytes")
