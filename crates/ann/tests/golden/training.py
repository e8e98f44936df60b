"""Ten epochs of a small batch-norm network in PyTorch, one step each; writes training.safetensors beside this file.

Convolution, batch norm, ReLU, average pool, linear; SGD with momentum, label smoothing, step schedule. Needs torch and
safetensors.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

EPOCHS = 10


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (24, 2, 8, 8), dtype=torch.uint8)
    labels = torch.randint(0, 3, (24,))
    x = images.float() / 127.5 - 1
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    tensors = {"images": images, "labels": labels.to(torch.uint32)}
    names = {
        "0.weight": "0.weight",
        "1.weight": "1.gamma",
        "1.bias": "1.beta",
        "1.running_mean": "1.running_mean",
        "1.running_var": "1.running_var",
        "5.weight": "5.weight",
        "5.bias": "5.bias",
    }

    def keep(prefix):
        for theirs, ours in names.items():
            tensors[f"{prefix}/{ours}"] = net.state_dict()[theirs].clone()

    keep("first")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [4, 6, 8], 0.1)
    losses = []
    for _ in range(EPOCHS):
        net.train()
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), labels, label_smoothing=0.1)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    keep("last")
    net.eval()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    tensors["logits"] = net(x).detach()
    save_file(tensors, Path(__file__).with_suffix(".safetensors"))


if __name__ == "__main__":
    main()
