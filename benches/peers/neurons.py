"""A population of neurons over all steps, forward and backward, by SpikingJelly in multi-step mode."""

import time
from pathlib import Path

import torch
from spikingjelly.activation_based import functional, neuron, surrogate

import exchange


def population(leak: float, reset: float | None = None) -> torch.nn.Module:
    """`v = leak v + x`; firing at or above the threshold, 1; reset to a value or, without one, by subtraction; arctangent
    surrogate, no gradient through the reset."""
    settings = {
        "v_threshold": 1.0,
        "v_reset": reset,
        "surrogate_function": surrogate.ATan(alpha=2.0),
        "detach_reset": True,
        "step_mode": "m",
    }
    if leak == 1.0:
        return neuron.IFNode(**settings)
    return neuron.LIFNode(tau=1 / (1 - leak), decay_input=False, **settings)


class Population:
    """Currents in, spikes out; the gradient of the currents."""

    def __init__(self, work: dict, inputs: Path):
        tensors, _ = exchange.read(inputs)
        self.currents = tensors["currents"].requires_grad_()
        self.upstream = tensors["upstream"]
        self.neurons = population(work["leak"])

    def forward(self) -> torch.Tensor:
        functional.reset_net(self.neurons)
        return self.neurons(self.currents)

    def run(self) -> dict[str, float]:
        self.currents.grad = None
        start = time.perf_counter()
        spikes = self.forward()
        middle = time.perf_counter()
        spikes.backward(self.upstream)
        return {"forward": middle - start, "backward": time.perf_counter() - middle}

    def outputs(self) -> dict[str, torch.Tensor]:
        self.currents.grad = None
        spikes = self.forward()
        spikes.backward(self.upstream)
        return {"spikes": spikes, "gradient": self.currents.grad}

    def figures(self) -> dict:
        with torch.no_grad():
            return {"firing_rate": float(self.forward().mean())}
