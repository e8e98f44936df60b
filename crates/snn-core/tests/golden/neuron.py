"""Integrate-and-fire and leaky neurons over time, by SpikingJelly 2.x (which fires at v >= threshold).

    python neuron.py    (needs torch, spikingjelly, safetensors; writes neuron.safetensors beside it)

The currents are drawn so that no membrane comes near its threshold by less than 1e-3: spikes must agree exactly.
"""
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from save import save

torch.manual_seed(3)
T, shape, threshold, tau = 10, (2, 3, 2), 0.8, 4.0
tensors = {}
cases = {
    f"{kind}.{'hard' if hard else 'soft'}.{'detached' if detach else 'attached'}.{name}": (kind, hard, detach, function)
    for kind in ("if", "lif")
    for hard in (False, True)
    for detach in (False, True)
    for name, function in {"sigmoid": surrogate.Sigmoid(alpha=4.0), "atan": surrogate.ATan(alpha=2.0)}.items()
}
for name, (kind, hard, detach, function) in cases.items():
    settings = dict(v_threshold=threshold, v_reset=0.0 if hard else None, surrogate_function=function,
                    detach_reset=detach, step_mode="m", store_v_seq=True)
    make = (lambda: neuron.IFNode(**settings)) if kind == "if" else (
        lambda: neuron.LIFNode(tau=tau, decay_input=False, **settings))
    while True:
        currents = (0.35 + 0.6 * torch.randn(T, *shape)).requires_grad_()
        node = make()
        spikes = node(currents)
        # membrane before the comparison: what is left, plus what the reset took
        if hard:
            leak = 1.0 if kind == "if" else 1 - 1 / tau
            before = leak * torch.cat([torch.zeros(1, *shape), node.v_seq[:-1]]) + currents
        else:
            before = node.v_seq + threshold * spikes
        if (before - threshold).abs().min() > 1e-3:
            break
    seed, seed_v = torch.randn(spikes.shape), torch.randn(shape)
    ((spikes * seed).sum() + (node.v * seed_v).sum()).backward()
    tensors |= {f"{name}.currents": currents, f"{name}.spikes": spikes, f"{name}.membrane": node.v,
                f"{name}.seed": seed, f"{name}.seed_membrane": seed_v, f"{name}.gradient": currents.grad}
    functional.reset_net(node)
tensors |= {"threshold": torch.tensor([threshold]), "leak": torch.tensor([1 - 1 / tau])}
save("neuron", tensors, "spikingjelly")
