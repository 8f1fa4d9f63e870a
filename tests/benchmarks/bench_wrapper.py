"""What the loss at every block costs in a wrapped model, against training without it.

    python tests/benchmarks/bench_wrapper.py        about two minutes; writes wrapper.md beside this

Steps (objective and gradient) of the wrapper take turns with steps of terminal loss only, of the
same model and control term, and with a plain loop over the blocks that calls the head once on the
stacked states, which one writes by hand for one model.  Ratios of processor seconds, one thread;
the median over rounds, and the least and largest.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "nn_baseline"))

from wrapped_models import Strided

from nn_baseline import wrap
from nn_baseline.model import soft_cross_entropy
from ocp.atomic import write_atomically
from ocp.versions import versions

RESULT = Path(__file__).with_name("wrapper.md")


def vit():
    """Images of 28 x 28, 49 patches, width 64."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    config = ViTConfig(image_size=28, patch_size=4, num_channels=1, num_labels=10,
                       num_hidden_layers=12, **sizes)  # fmt: skip
    model = ViTForImageClassification(config)
    head = lambda x: model.classifier(model.vit.layernorm(x)[:, 0])  # noqa: E731
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
    return model, list(model.vit.layers), {"pixel_values": x}, y, model.vit.embeddings, head, {}


def bert():
    """64 words of which some are padding, width 64; post-norm, so its skip is named."""
    from transformers import BertConfig, BertForSequenceClassification
    from wrapped_library import bert_skip

    config = BertConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=12, num_labels=2,
                        num_attention_heads=4, intermediate_size=128)  # fmt: skip
    model = BertForSequenceClassification(config)
    ids, mask = torch.randint(0, 1000, (32, 64)), torch.ones(32, 64, dtype=torch.long)
    mask[:16, 40:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    return model, list(model.bert.encoder.layer), inputs, torch.randint(0, 2, (32,)), None, None, {
        "skip": bert_skip
    }  # fmt: skip


def language():
    """A GPT-2 of 5,000 words and 64 positions: the head is the dearest part."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=5000, n_embd=64, n_layer=8, n_head=4, n_positions=64,
                        bos_token_id=0, eos_token_id=0, use_cache=False)  # fmt: skip
    model = GPT2LMHeadModel(config)
    ids = torch.randint(0, 5000, (8, 64))
    own = model.transformer
    stem = lambda v: own.wte(v) + own.wpe(torch.arange(64))  # noqa: E731
    head = lambda x: model.lm_head(own.ln_f(x))  # noqa: E731
    return model, list(own.h), {"input_ids": ids}, torch.roll(ids, -1, 1), stem, head, {}


def sampled():
    """The same with the loss at two depths of eight a step."""
    return (*language()[:-1], {"depths_per_step": 2})


def resnet():
    """Three stages of four blocks with BatchNorm and strides, widths 16, 32, 64."""
    model = Strided(widths=(16, 32, 64), each=4)
    x, y = torch.randn(32, 3, 28, 28), torch.randint(0, 4, (32,))
    return model, model.blocks(), {"x": x}, y, None, None, {}


MODELS = {
    "ViT, 12 blocks": vit,
    "BERT, 12 blocks, masks": bert,
    "GPT-2, 8 blocks, 5,000 words": language,
    "the same, 2 depths a step": sampled,
    "ResNet, 12 blocks, 3 stages": resnet,
}


def plain(blocks, stem, head, inputs, y, r):
    """The ten lines that one writes for one model: a loop, a stack, the head once."""
    x, states = stem(next(iter(inputs.values()))), []
    for block in blocks:
        states.append(x)
        x = block(x)
        x = x if isinstance(x, torch.Tensor) else x[0]
    N = len(blocks)
    z = head(torch.cat([*states, x])).unflatten(0, (N + 1, len(x)))
    F = soft_cross_entropy(z, y, 0.9).flatten(1).mean(dim=1)
    squares = sum(p.square().sum() for block in blocks for p in block.parameters())
    return F[:-1].sum() / N + F[-1] + r / (2 * N) * squares


def measured(maker, rounds, r=1e-3):
    """Ratios to terminal only, round by round: of the wrapper, and of the plain loop."""
    torch.manual_seed(0)
    model, blocks, inputs, y, stem, head, options = maker()
    skip = {k: v for k, v in options.items() if k == "skip"}
    every = wrap(model, blocks, r=r, p_d=0.9, **options)
    last = wrap(model, blocks, r=r, p_d=0.9, beta=0, **skip)
    ways = {"last": lambda: last(labels=y, **inputs), "every": lambda: every(labels=y, **inputs)}
    if head is not None:
        ways["plain"] = lambda: plain(blocks, stem, head, inputs, y, r)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds + 1):
        for name in (list(ways), list(ways)[::-1])[i % 2]:
            model.zero_grad()
            start = time.process_time()
            ways[name]().backward()
            if i:  # the first examines and warms up
                seconds[name].append(time.process_time() - start)
    base = seconds["last"]
    ratio = lambda name: [a / b for a, b in zip(seconds[name], base, strict=True)]  # noqa: E731
    return statistics.median(base), {n: ratio(n) for n in ways if n != "last"}


def cell(values):
    if values is None:
        return ""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# The loss at every block: what it costs",
        "",
        "`python tests/benchmarks/bench_wrapper.py`: processor seconds of a training step"
        " (objective and gradient), as multiples",
        f"of terminal loss only; median (least to largest) of {args.rounds} rounds in turns, one"
        " thread, train mode.",
        "",
        "| model | terminal only [ms] | wrapped | plain loop, head once |",
        "|---|---|---|---|",
    ]
    for name, maker in MODELS.items():
        base, ratios = measured(maker, args.rounds)
        row = f"| {name} | {1e3 * base:.0f} | {cell(ratios['every'])} |"
        lines.append(f"{row} {cell(ratios.get('plain'))} |")
        print(lines[-1], flush=True)
    made_with = versions("torch", "transformers")
    said = ", ".join(f"{name} {version}" for name, version in made_with.items())
    lines += ["", f"Host: {platform.machine()}, {platform.system()}; {said}.", ""]
    write_atomically(RESULT, "\n".join(lines).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
