"""Convolutions forward, and backward to input and weight, by PyTorch."""

import time
from pathlib import Path

import torch
import torch.nn.functional as F

import exchange


class Convolutions:
    """One 3x3 convolution after another, each on its own input."""

    def __init__(self, work: dict, inputs: Path):
        tensors, _ = exchange.read(inputs)
        self.layers = []
        for i, (c_in, c_out, side) in enumerate(work["layers"]):
            x = tensors[f"x.{i}"].requires_grad_()
            weight = tensors[f"weight.{i}"].requires_grad_()
            upstream = tensors[f"upstream.{i}"]
            self.layers.append((f"{i}:{c_in}->{c_out}@{side}", x, weight, upstream, torch.ones_like(upstream)))

    def run(self) -> dict[str, float]:
        parts = {}
        for name, x, weight, _, ones in self.layers:
            start = time.perf_counter()
            y = F.conv2d(x, weight, padding=1)
            middle = time.perf_counter()
            torch.autograd.grad(y, (x, weight), ones)
            parts[f"{name}/forward"] = middle - start
            parts[f"{name}/backward"] = time.perf_counter() - middle
        return parts

    def outputs(self) -> dict[str, torch.Tensor]:
        outputs = {}
        for i, (_, x, weight, upstream, _) in enumerate(self.layers):
            y = F.conv2d(x, weight, padding=1)
            to_input, to_weight = torch.autograd.grad(y, (x, weight), upstream)
            outputs |= {f"y.{i}": y, f"to_input.{i}": to_input, f"to_weight.{i}": to_weight}
        return outputs

    def figures(self) -> dict:
        return {}
