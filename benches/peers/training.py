"""Training steps: forward, cross-entropy, backward, update by SGD. Spiking networks by SpikingJelly, others by PyTorch."""

from pathlib import Path

import torch
import torch.nn.functional as F

import exchange
import networks


class Training:
    """A network and a batch that it is trained on, step after step."""

    def __init__(self, work: dict, inputs: Path):
        self.inputs = inputs
        self.layers = work["topology"]["layers"]
        self.timesteps = work.get("timesteps")
        tensors, _ = exchange.read(inputs)
        self.images, self.labels = tensors["images"], tensors["labels"].long()
        self.modules = networks.build(self.layers, tensors)
        if self.timesteps is None:
            self.network = networks.Ordinary(self.layers, self.modules)
        else:
            from neurons import population

            self.network = networks.multi_step(self.modules, lambda: population(leak=1.0))
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=work["learning_rate"], momentum=work["momentum"]
        )

    def loss(self) -> torch.Tensor:
        if self.timesteps is None:
            logits = self.network(self.images)
        else:
            from spikingjelly.activation_based import functional

            functional.reset_net(self.network)
            over_time = self.images.unsqueeze(0).expand(self.timesteps, *self.images.shape)
            logits = self.network(over_time).mean(0)
        return F.cross_entropy(logits, self.labels)

    def run(self) -> dict[str, float]:
        self.optimiser.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimiser.step()
        return {}

    def outputs(self) -> dict[str, torch.Tensor]:
        """Loss and gradients at the weights that the training started from; `timed` is the loss of the other side's timed sums."""
        tensors, _ = exchange.read(self.inputs)
        trained = [pair for i, module in enumerate(self.modules) for pair in networks.parameters(i, module)]
        with torch.no_grad():
            for name, parameter in trained:
                parameter.copy_(tensors[name])
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        gradients = {f"gradient.{name}": parameter.grad for name, parameter in trained}
        losses = {"loss": loss.reshape(1)}
        if self.timesteps is not None:
            losses["timed"] = losses["loss"]
        return {**losses, **gradients}

    def figures(self) -> dict:
        if self.timesteps is None:
            return {}
        rates: list[float] = []
        hooks = [
            module.register_forward_hook(lambda _, __, spikes: rates.append(float(spikes.mean())))
            for module in self.network
            if hasattr(module, "v_threshold")
        ]
        with torch.no_grad():
            self.loss()
        for hook in hooks:
            hook.remove()
        return {"firing_rates": rates}
