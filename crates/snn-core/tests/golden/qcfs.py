"""The staircase activation with its straight-through gradients, by PyTorch's autograd in f64.

    python qcfs.py    (needs torch, safetensors; writes qcfs.safetensors beside it)
"""
import torch
from save import save


class Floor(torch.autograd.Function):
    """Rounds down; gradients pass."""

    @staticmethod
    def forward(context, x):
        return x.floor()

    @staticmethod
    def backward(context, gradient):
        return gradient


torch.manual_seed(5)
tensors = {}
for levels, theta in [(1, 0.8), (4, 1.5), (8, 2.25)]:
    x = torch.randn(6, 5, 7).double().requires_grad_()
    threshold = torch.tensor([theta]).double().requires_grad_()
    share = (x / threshold).clamp(0, 1)
    y = Floor.apply(share * levels + 0.5) / levels * threshold
    seed = torch.randn(y.shape).double()
    y.backward(seed)
    tensors |= {
        f"levels{levels}.x": x, f"levels{levels}.threshold": threshold, f"levels{levels}.levels": torch.tensor(levels),
        f"levels{levels}.y": y, f"levels{levels}.seed": seed, f"levels{levels}.gx": x.grad,
        f"levels{levels}.gthreshold": threshold.grad,
    }
save("qcfs", tensors)
