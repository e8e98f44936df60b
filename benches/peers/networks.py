"""Networks from a layer list, the one that our networks are stored with."""

from typing import Callable

import torch
import torch.nn.functional as F
from torch import nn


class Shortcut(nn.Module):
    """Adds the means of squares of an earlier activation, as if that were filled up with channels of zeros."""

    def __init__(self, kernel: int):
        super().__init__()
        self.kernel = kernel

    def forward(self, x: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
        if self.kernel > 1:
            earlier = F.avg_pool2d(earlier, self.kernel)
        missing = x.shape[1] - earlier.shape[1]
        return x + F.pad(earlier, (0, 0, 0, 0, 0, missing)) if missing else x + earlier


class Ordinary(nn.Module):
    """An ordinary network: ReLUs at its activations."""

    def __init__(self, layers: list[dict], modules: list[nn.Module | None]):
        super().__init__()
        self.layers = nn.ModuleList(nn.ReLU() if module is None else module for module in modules)
        self.sources = [layer.get("from") for layer in layers]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = {}
        for index, (module, source) in enumerate(zip(self.layers, self.sources)):
            x = module(x) if source is None else module(x, kept[source])
            if index in self.sources:
                kept[index] = x
        return x


def stateless(layer: dict) -> nn.Module | None:
    """The module of a layer that keeps nothing from step to step; None for an activation."""
    match layer["kind"]:
        case "conv2d":
            return nn.Conv2d(
                layer["in_channels"],
                layer["out_channels"],
                layer["kernel"],
                stride=layer["stride"],
                padding=layer["padding"],
                bias=layer["bias"],
            )
        case "linear":
            return nn.Linear(layer["in_features"], layer["out_features"], bias=layer["bias"])
        case "batch_norm":
            return nn.BatchNorm2d(layer["channels"], eps=layer["epsilon"])
        case "shortcut":
            return Shortcut(layer["kernel"])
        case "avg_pool2d":
            return nn.AvgPool2d(layer["kernel"])
        case "flatten":
            return nn.Flatten()
        case "dropout":
            return nn.Identity()
        case "activation":
            return None
    raise ValueError(f"layer kind {layer['kind']!r} has no counterpart here")


def parameters(index: int, module: nn.Module | None) -> list[tuple[str, nn.Parameter]]:
    """What training changes of a layer, by the names that our networks have for it."""
    names = ("gamma", "beta") if isinstance(module, nn.BatchNorm2d) else ("weight", "bias")
    pairs = zip(names, (getattr(module, name, None) for name in ("weight", "bias")))
    return [(f"{index}.{name}", parameter) for name, parameter in pairs if parameter is not None]


def build(layers: list[dict], tensors: dict[str, torch.Tensor]) -> list[nn.Module | None]:
    """Modules with their weights, None in the place of each activation."""
    modules = [stateless(layer) for layer in layers]
    with torch.no_grad():
        for index, module in enumerate(modules):
            for name, parameter in parameters(index, module):
                parameter.copy_(tensors[name])
    return modules


def multi_step(modules: list[nn.Module | None], neurons: Callable[[], nn.Module]) -> nn.Sequential:
    """The same over `[T, N, ...]`: time folded into the batch between the populations, as SpikingJelly recommends."""
    from spikingjelly.activation_based import layer

    sequence, between = [], []
    for module in modules:
        if module is None:
            if between:
                sequence.append(layer.SeqToANNContainer(*between))
            sequence.append(neurons())
            between = []
        else:
            between.append(module)
    sequence.append(layer.SeqToANNContainer(*between))
    return nn.Sequential(*sequence)
