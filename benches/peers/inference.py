"""Inference of converted networks by SpikingJelly in multi-step mode."""

import json
from pathlib import Path

import torch
from spikingjelly.activation_based import ann2snn, functional, neuron
from spikingjelly.activation_based.ann2snn.modules import VoltageScaler
from torch import nn

import exchange
import networks
from neurons import population


class Inference:
    """Images into a spiking network, logits out. `input` is `[T or 1, N, C, H, W]`, what enters at each step."""

    network: nn.Module
    input: torch.Tensor
    timesteps: int
    initial_membrane = 0.0
    readout_scale = 1.0
    first_counted_step = 0

    def logits(self) -> torch.Tensor:
        functional.reset_net(self.network)
        if self.initial_membrane:
            for module in self.populations():
                module.v = self.initial_membrane
        over_time = self.input.expand(self.timesteps, *self.input.shape[1:])
        with torch.no_grad():
            currents = self.network(over_time)
        return currents[self.first_counted_step :].mean(0) * self.readout_scale

    def populations(self) -> list[nn.Module]:
        return [m for m in self.network.modules() if isinstance(m, neuron.IFNode | neuron.LIFNode)]

    def run(self) -> dict[str, float]:
        self.logits()
        return {}

    def observed(self) -> tuple[torch.Tensor, list[float]]:
        """Logits, and the firing rate of each population."""
        rates: list[float] = []
        hooks = [
            module.register_forward_hook(lambda _, __, spikes: rates.append(float(spikes.mean())))
            for module in self.populations()
        ]
        logits = self.logits()
        for hook in hooks:
            hook.remove()
        return logits, rates

    def outputs(self) -> dict[str, torch.Tensor]:
        logits, rates = self.observed()
        return {"logits": logits, "rates": torch.tensor(rates)}

    def figures(self) -> dict:
        _, rates = self.observed()
        return {"firing_rates": rates, "mean_firing_rate": sum(rates) / len(rates)}


class Converted(Inference):
    """A network with random weights and batch norm, converted by SpikingJelly's own converter at the 99.9 percentile.
    Writes the images, and the converted network as ours is: spikes of magnitude 1, thresholds in units of the current."""

    def __init__(self, work: dict, inputs: Path):
        torch.manual_seed(1)
        layers, self.timesteps = work["topology"]["layers"], work["timesteps"]

        def images(count: int) -> torch.Tensor:
            return torch.rand(count, *work["topology"]["input"]) * 2 - 1

        ann = nn.Sequential(*with_batch_norm(layers))
        # statistics of some images, so that activations are neither dead nor saturated
        with torch.no_grad():
            for _ in range(2):
                ann(images(64))
        ann.eval()
        calibration = [(images(16), torch.zeros(16)) for _ in range(2)]
        recipe = ann2snn.RateCodingRecipe(dataloader=calibration, mode="99.9%")
        self.network = ann2snn.Converter(recipe=recipe).convert(ann).eval()
        functional.set_step_mode(self.network, "m")
        batch = images(work["batch"])
        self.input = batch.unsqueeze(0)
        exchange.write(inputs, {"images": batch, **exported(self.network, layers)})


def with_batch_norm(layers: list[dict]) -> list[nn.Module]:
    """The layers with random weights, batch norm after each convolution and rectifiers."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules.append(networks.stateless(layer) or nn.ReLU())
        if layer["kind"] == "conv2d":
            # no momentum: the mean over all batches
            modules.append(nn.BatchNorm2d(layer["out_channels"], momentum=None))
    return modules


def exported(network: torch.fx.GraphModule, layers: list[dict]) -> dict[str, torch.Tensor]:
    """The tensors of a converted network by our names. The converter puts `1 / s` before each population and `s` behind
    it: so `s` is the threshold of the current, and a factor of the weights behind."""
    modules = dict(network.named_modules())
    steps = [modules[node.target] for node in network.graph.nodes if node.op == "call_module"]
    scalers = [module for module in steps if isinstance(module, VoltageScaler)]
    weighted = [module for module in steps if isinstance(module, nn.Conv2d | nn.Linear)]
    after = iter(scalers[1::2])
    tensors, scale, module = {}, torch.tensor(1.0), iter(weighted)
    for index, layer in enumerate(layers):
        if layer["kind"] in ("conv2d", "linear"):
            of = next(module)
            tensors[f"{index}.weight"] = of.weight * scale
            tensors[f"{index}.bias"] = of.bias
        elif layer["kind"] == "activation":
            scale = next(after).scale.reshape(())
            tensors[f"{index}.threshold"] = scale.reshape(1)
    return tensors


class Stored(Inference):
    """A network that our program has saved. Thresholds become 1: weights and biases before them are divided by them. A
    membrane exactly at its threshold fires here, whatever our network does."""

    def __init__(self, work: dict, inputs: Path):
        tensors, metadata = exchange.read(Path(work["network"]))
        description = json.loads(metadata["private-snn"])
        layers, settings = description["topology"]["layers"], description["settings"]
        self.timesteps = work["timesteps"]
        self.initial_membrane = settings["initial_membrane"]
        self.readout_scale = settings["readout_scale"]
        if self.timesteps > settings["readout_delay"]:
            self.first_counted_step = settings["readout_delay"]
        for index, layer in enumerate(layers):
            if layer["kind"] == "activation":
                divide(tensors, before(layers, index), tensors[f"{index}.threshold"])
        dynamics = settings["neuron"]
        reset = 0.0 if dynamics["reset"] == "hard" else None
        modules = networks.build(layers, tensors)
        self.network = networks.multi_step(modules, lambda: population(dynamics["leak"], reset)).eval()
        given, _ = exchange.read(inputs)
        self.input = given["input"]


def before(layers: list[dict], index: int) -> int:
    """The weighted layer that feeds the activation at `index`."""
    if index > 0 and layers[index - 1]["kind"] in ("conv2d", "linear"):
        return index - 1
    raise ValueError(f"layer {index}: no weighted layer directly before the population, whose threshold it could take")


def divide(tensors: dict[str, torch.Tensor], index: int, threshold: torch.Tensor) -> None:
    weight = tensors[f"{index}.weight"]
    weight /= threshold.reshape(-1, *[1] * (weight.dim() - 1))
    if f"{index}.bias" in tensors:
        tensors[f"{index}.bias"] /= threshold
