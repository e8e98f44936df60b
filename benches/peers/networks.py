"""Networks from a layer list, the one that our networks are stored with."""

from typing import Callable

import torch
from torch import nn


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
        case "avg_pool2d":
            return nn.AvgPool2d(layer["kernel"])
        case "flatten":
            return nn.Flatten()
        case "dropout":
            return nn.Identity()
        case "activation":
            return None
    raise ValueError(f"layer kind {layer['kind']!r} has no counterpart here")


def build(layers: list[dict], tensors: dict[str, torch.Tensor]) -> list[nn.Module | None]:
    """Modules with their weights, None in the place of each activation."""
    modules = [stateless(layer) for layer in layers]
    with torch.no_grad():
        for index, module in enumerate(modules):
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(tensors[f"{index}.weight"])
                if module.bias is not None:
                    module.bias.copy_(tensors[f"{index}.bias"])
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
