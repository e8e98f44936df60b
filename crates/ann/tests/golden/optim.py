"""Ten steps of each optimiser in PyTorch on a small regression; writes optim.safetensors beside this file.

The loss is mean((x w^T + b - y)^2). Needs torch and safetensors.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

CASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "adam_l2": lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "adam_amsgrad": lambda p: torch.optim.Adam(p, lr=0.3, betas=(0.8, 0.5), amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "adamw_amsgrad": lambda p: torch.optim.AdamW(p, lr=0.3, betas=(0.8, 0.5), weight_decay=0.1, amsgrad=True),
}


def main():
    torch.manual_seed(0)
    x, y = torch.randn(8, 4), torch.randn(8, 3)
    w0, b0 = torch.randn(3, 4), torch.randn(3)
    tensors = {"x": x, "y": y, "w": w0, "b": b0}
    for name, make in CASES.items():
        w, b = w0.clone().requires_grad_(), b0.clone().requires_grad_()
        optimiser = make([w, b])
        trace = []
        for _ in range(10):
            optimiser.zero_grad()
            ((x @ w.T + b - y) ** 2).mean().backward()
            optimiser.step()
            trace.append(torch.cat([w.detach().flatten(), b.detach()]))
        # [step, weights then biases]
        tensors[f"{name}.trace"] = torch.stack(trace)
    save_file(tensors, Path(__file__).with_suffix(".safetensors"))


if __name__ == "__main__":
    main()
