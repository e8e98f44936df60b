"""Tensors in safetensors files: what the sides of a comparison give one another."""

import json
import struct
from pathlib import Path

import torch

DTYPES = {"F32": torch.float32, "U32": torch.uint32}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a file and its metadata."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = bytearray(file.read())
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        values = torch.frombuffer(data, dtype=dtype, count=(end - start) // dtype.itemsize, offset=start)
        tensors[name] = values.reshape(entry["shape"]).clone()
    return tensors, metadata


def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes f32 and u32 tensors."""
    header, offset = {}, 0
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.numpy().tobytes())
