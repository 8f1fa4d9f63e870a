"""The networks of the study of architectures, as one writes them, without this project."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """x + W relu(A x), two convolutions of one width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(width, width, 3, padding=1)
        self.two = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.relu(self.one(x)))


class AttentionBlock(nn.Module):
    """A pre-norm transformer block: attention, then a network of two layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm1(x)
        x = x + self.attention(z, z, z, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class NormedBlock(nn.Module):
    """The basic block of residual networks: BatchNorm, a shortcut where the shape changes."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        z = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(z + (x if self.downsample is None else self.downsample(x)))


class Convolutional(nn.Module):
    """A stem that halves the image, N blocks of one width, mean over the image, a linear head."""

    def __init__(self, depth: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(ConvBlock(width) for _ in range(depth))
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class VisionTransformer(nn.Module):
    """Patches with learned positions, N pre-norm blocks, a norm, the mean over patches, a head."""

    def __init__(self, depth: int, width: int, n_classes: int, side: int) -> None:
        super().__init__()
        patch = 2 if side < 16 else 4
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        self.blocks = nn.ModuleList(AttentionBlock(width, 4) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class ThreeStages(nn.Module):
    """BatchNorm, three stages of N/3 blocks, the width doubled and the image halved twice."""

    def __init__(self, depth: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks, before = [], width
        for k in range(depth):
            stage = 3 * k // depth
            first = k > 0 and stage != 3 * (k - 1) // depth
            blocks.append(NormedBlock(before, width * 2**stage, 2 if first else 1))
            before = width * 2**stage
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(before, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def network(name: str, depth: int, width: int, n_classes: int, side: int, seed: int) -> nn.Module:
    """A fresh network: "conv", "vit" or "resnet"."""
    torch.manual_seed(seed)
    if name == "vit":
        return VisionTransformer(depth, width, n_classes, side)
    return (Convolutional if name == "conv" else ThreeStages)(depth, width, n_classes)
