"""Convolution, forward and gradients, by PyTorch 2.x on the CPU in f64, rounded to f32.

    python conv2d.py    (needs torch, safetensors; writes conv2d.safetensors beside it)
"""
import torch
from save import save

torch.manual_seed(1)
tensors = {}
for name, (n, c, o, h, w, k, stride, padding) in {
    "same": (2, 3, 5, 7, 9, 3, 1, 1),
    "strided": (3, 4, 6, 9, 8, 3, 2, 1),
    "valid": (1, 2, 3, 6, 5, 3, 1, 0),
    "wide": (2, 2, 3, 8, 8, 5, 3, 2),
}.items():
    make = lambda *shape: torch.randn(*shape).double().requires_grad_()
    x, weight, bias = make(n, c, h, w), make(o, c, k, k), make(o)
    y = torch.nn.functional.conv2d(x, weight, bias, stride, padding)
    seed = torch.randn(y.shape).double()
    y.backward(seed)
    tensors |= {
        f"{name}.x": x, f"{name}.weight": weight, f"{name}.bias": bias, f"{name}.y": y, f"{name}.seed": seed,
        f"{name}.gx": x.grad, f"{name}.gw": weight.grad, f"{name}.gb": bias.grad,
        f"{name}.stride_padding": torch.tensor([stride, padding]),
    }
save("conv2d", tensors)
