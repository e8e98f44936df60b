"""A shortcut as residual networks write it: pool, scale, fill up with channels of zeros, add; by PyTorch in f64.

    python shortcut.py    (needs torch, safetensors; writes shortcut.safetensors beside it)
"""
import torch
from save import save

torch.manual_seed(5)
tensors = {}
for name, (channels, kernel) in {"same": (4, 1), "half": (3, 2), "third": (2, 3)}.items():
    x = torch.randn(2, 4, 3, 5).double().requires_grad_()
    earlier = torch.randn(2, channels, 3 * kernel, 5 * kernel).double().requires_grad_()
    scale = torch.randn(channels).double()
    pooled = torch.nn.functional.avg_pool2d(earlier, kernel) * scale.view(1, -1, 1, 1)
    y = x + torch.nn.functional.pad(pooled, (0, 0, 0, 0, 0, 4 - channels))
    seed = torch.randn(y.shape).double()
    y.backward(seed)
    tensors |= {
        f"{name}.x": x, f"{name}.earlier": earlier, f"{name}.scale": scale, f"{name}.kernel": torch.tensor([kernel]),
        f"{name}.y": y, f"{name}.seed": seed, f"{name}.gx": x.grad, f"{name}.gearlier": earlier.grad,
    }
save("shortcut", tensors)
