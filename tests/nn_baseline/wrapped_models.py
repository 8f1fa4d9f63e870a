"""Models that know nothing of this project, each with its stages written out by hand.

A case is a model, its blocks, what it is called with, labels, and a function that returns the
logits of all stages, (N + 1, ...), by a plain loop: the oracle of the wrapper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

torch.set_num_threads(1)


@dataclass
class Case:
    """One model of the zoo."""

    model: nn.Module
    blocks: list[nn.Module]
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    labels: Tensor | None = None
    by_hand: Callable[[], Tensor] | None = None
    options: dict = field(default_factory=dict)

    def answer(self) -> Tensor:
        out = self.model(*self.args, **self.kwargs)
        return out if isinstance(out, Tensor) else out.logits


class Dense(nn.Module):
    """x + W tanh(A x + b)."""

    def __init__(self, width=6):
        super().__init__()
        self.one, self.two = nn.Linear(width, 9), nn.Linear(9, width)

    def forward(self, x):
        return x + self.two(torch.tanh(self.one(x)))


class Basic(nn.Module):
    """torchvision's basic block."""

    def __init__(self, i, o, stride=1, inplace=True):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=inplace)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(
                nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Strided(nn.Module):
    """A residual network with three stages, strides and BatchNorm."""

    def __init__(self, block=Basic, widths=(4, 6, 8), each=2):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0])
        before = [widths[0], *widths]
        stages = [
            nn.Sequential(
                *(block(before[s] if not b else w, w, 2 if s and not b else 1) for b in range(each))
            )
            for s, w in enumerate(widths)
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(widths[-1], 4)

    def blocks(self):
        return [*self.layer1, *self.layer2, *self.layer3]

    def stem(self, x):
        return torch.relu(self.bn(self.conv(x)))

    def head(self, x):
        return self.fc(x.mean((2, 3)))

    def forward(self, x):
        return self.head(self.layer3(self.layer2(self.layer1(self.stem(x)))))


class TwoPaths(nn.Module):
    """A block of two children that both take the input: the residual part and the shortcut."""

    def __init__(self, i, o, stride=1):
        super().__init__()
        self.residual_function = nn.Sequential(
            nn.Conv2d(i, o, 3, stride, 1), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
            nn.Conv2d(o, o, 3, 1, 1), nn.BatchNorm2d(o),
        )  # fmt: skip
        self.shortcut = nn.Sequential()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride), nn.BatchNorm2d(o))

    def forward(self, x):
        return torch.relu(self.residual_function(x) + self.shortcut(x))


class PreActivated(nn.Module):
    """Writes into its input: the first ReLU is in place, on the state itself."""

    def __init__(self, width=5):
        super().__init__()
        self.relu, self.conv = nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x):
        kept = x.clone()
        return kept + self.conv(self.relu(x))


class Attending(nn.Module):
    """A pre-norm transformer block that returns a tuple and takes a mask by name."""

    def __init__(self, width=8, dropout=0.0):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, dropout, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))

    def forward(self, hidden, mask=None):
        z = self.norm1(hidden)
        z, weights = self.attention(z, z, z, key_padding_mask=mask, need_weights=True)
        hidden = hidden + z
        return hidden + self.mlp(self.norm2(hidden)), weights


class Text(nn.Module):
    """Token classes from masked means; what it returns is a dictionary."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding, self.position = nn.Embedding(11, 8), nn.Parameter(torch.randn(1, 7, 8))
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(Attending() for _ in range(4))})
        self.norm, self.drop, self.out = nn.LayerNorm(8), nn.Dropout(dropout), nn.Linear(8, 3)

    def head(self, x, mask):
        weight = (~mask).to(x)[..., None]
        return self.out(self.drop((self.norm(x) * weight).sum(1) / weight.sum(1)))

    def forward(self, ids, mask):
        x = self.embedding(ids) + self.position
        for layer in self.encoder["layers"]:
            x, _ = layer(x, mask=mask)
        return {"logits": self.head(x, mask), "other": x}


class Between(nn.Module):
    """A convolution and a norm lie between the blocks, outside of them."""

    def __init__(self):
        super().__init__()
        self.first = nn.ModuleList(Dense(6) for _ in range(2))
        self.middle = nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10))
        self.second = nn.ModuleList(Dense(10) for _ in range(2))
        self.out = nn.Linear(10, 4)

    def forward(self, x):
        for block in self.first:
            x = block(x)
        x = self.middle(x)
        for block in self.second:
            x = block(x)
        return self.out(x)


class TimeFirst(nn.Module):
    """torch's own encoder, norm first, batch in dimension 1."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.encoder(x).mean(0))


class Tied(nn.Module):
    """A small language model whose head is its embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(13, 6)
        self.blocks = nn.ModuleList(Dense(6) for _ in range(3))
        self.norm, self.out = nn.LayerNorm(6), nn.Linear(6, 13, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, ids):
        x = self.embedding(ids).cumsum(1)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


def images(n=5):
    return torch.randn(n, 3, 8, 8), torch.arange(n) % 4


def _moved(model, *args):
    """Running statistics and norms' gains that are not those of a fresh model."""
    for p in model.parameters():
        if p.ndim == 1:
            p.data += 0.2 * torch.randn_like(p)
    with torch.no_grad():
        model.train()
        for _ in range(2):
            model(*args)
    return model


def sequential() -> Case:
    model = nn.Sequential(nn.Linear(3, 6), *(Dense() for _ in range(4)), nn.Linear(6, 4))
    x, y = torch.randn(5, 3), torch.arange(5) % 4

    def by_hand():
        z, found = model[0](x), []
        for block in model[1:-1]:
            found.append(model[-1](z))
            z = block(z)
        return torch.stack([*found, model[-1](z)])

    return Case(model, list(model[1:-1]), (x,), {}, y, by_hand)


def strided(block=Basic) -> Case:
    x, y = images()
    model = _moved(Strided(block), x)

    def rest(block, z):
        if block is Basic or isinstance(block, Basic):
            return z if block.downsample is None else torch.relu(block.downsample(z))
        return torch.relu(block.shortcut(z)) if len(block.shortcut) else z

    def by_hand():
        blocks, z, pending = model.blocks(), model.stem(x), []
        for one in blocks:
            pending = [rest(one, p) for p in [*pending, z]]
            z = one(z)
        return torch.stack([model.head(p) for p in [*pending, z]])

    return Case(model, model.blocks(), (x,), {}, y, by_hand)


def two_paths() -> Case:
    return strided(TwoPaths)


def preactivated() -> Case:
    blocks = [PreActivated() for _ in range(3)]
    model = nn.Sequential(nn.Conv2d(3, 5, 3), *blocks, nn.BatchNorm2d(5), nn.Flatten(),
                          nn.Linear(180, 4))  # fmt: skip
    x, y = images()
    _moved(model, x)

    def by_hand():
        z, found = model[0](x), []
        for block in blocks:
            found.append(model[4:](z))
            z = z + block.conv(torch.relu(z))
        return torch.stack([*found, model[4:](z)])

    return Case(model, blocks, (x,), {}, y, by_hand)


def text(dropout=0.0) -> Case:
    model = Text(dropout)
    ids, mask = torch.randint(0, 11, (5, 7)), torch.zeros(5, 7, dtype=torch.bool)
    mask[:3, 4:] = True

    def by_hand():
        x, found = model.embedding(ids) + model.position, []
        for layer in model.encoder["layers"]:
            found.append(model.head(x, mask))
            x = layer(x, mask)[0]
        return torch.stack([*found, model.head(x, mask)])

    case = Case(model, list(model.encoder["layers"]), (ids,), {"mask": mask}, torch.arange(5) % 3)
    case.by_hand = by_hand
    case.answer = lambda: model(ids, mask=mask)["logits"]
    return case


def between() -> Case:
    model, x = Between(), torch.randn(5, 6)

    def by_hand():
        z, pending = x, []
        for block in model.first:
            pending.append(z)
            z = block(z)
        pending, z = [model.middle(p) for p in pending], model.middle(z)
        for block in model.second:
            pending.append(z)
            z = block(z)
        return torch.stack([model.out(p) for p in [*pending, z]])

    return Case(model, [*model.first, *model.second], (x,), {}, torch.arange(5) % 4, by_hand)


def time_first() -> Case:
    model, x = TimeFirst(), torch.randn(6, 5, 8)

    def by_hand():
        z, found = x, []
        for layer in model.encoder.layers:
            found.append(model.out(z.mean(0)))
            z = layer(z)
        return torch.stack([*found, model.out(z.mean(0))])

    return Case(model, list(model.encoder.layers), (x,), {}, torch.arange(5) % 4, by_hand,
                {"batch_dim": 1})  # fmt: skip


def tied() -> Case:
    model, ids = Tied(), torch.randint(0, 13, (5, 7))
    labels = torch.roll(ids, -1, 1)
    labels[:, -1] = -100
    labels[0, 2:] = -100

    def by_hand():
        x, found = model.embedding(ids).cumsum(1), []
        for block in model.blocks:
            found.append(model.out(model.norm(x)))
            x = block(x)
        return torch.stack([*found, model.out(model.norm(x))])

    return Case(model, list(model.blocks), (ids,), {}, labels, by_hand)


OWN = (sequential, strided, two_paths, preactivated, text, between, time_first, tied)


def made(maker, seed=0, dtype=torch.float64) -> Case:
    """A case in double precision."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        case = maker()
        case.model.to(dtype)
        return case
    finally:
        torch.set_default_dtype(before)
