"""Batch normalisation with batch and with fixed statistics, and average pooling, by PyTorch in f64.

    python batch_norm.py    (needs torch, safetensors; writes batch_norm.safetensors beside it)
"""
import torch
from save import save

torch.manual_seed(2)
tensors = {}
make = lambda *shape: torch.randn(*shape).double().requires_grad_()
for name, training in {"batch": True, "fixed": False}.items():
    x, gamma, beta = make(4, 3, 5, 6), make(3), make(3)
    mean, variance = torch.randn(3).double(), torch.rand(3).double() + 0.5
    tensors |= {f"{name}.mean": mean.clone(), f"{name}.variance": variance.clone()}
    y = torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, training, momentum=0.0, eps=1e-5)
    seed = torch.randn(y.shape).double()
    y.backward(seed)
    tensors |= {
        f"{name}.x": x, f"{name}.gamma": gamma, f"{name}.beta": beta, f"{name}.y": y, f"{name}.seed": seed,
        f"{name}.gx": x.grad, f"{name}.ggamma": gamma.grad, f"{name}.gbeta": beta.grad,
    }
for name, kernel in {"pool2": 2, "pool3": 3}.items():
    x = make(2, 3, 6, 12)
    y = torch.nn.functional.avg_pool2d(x, kernel)
    seed = torch.randn(y.shape).double()
    y.backward(seed)
    tensors |= {f"{name}.x": x, f"{name}.y": y, f"{name}.seed": seed, f"{name}.gx": x.grad}
save("batch_norm", tensors)
