"""Models of the library transformers, tiny and at random, with their stages written out by hand."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor
from wrapped_models import Case, images


def bert_skip(block, x):
    """What a post-norm block leaves: its two norms."""
    return block.output.LayerNorm(block.attention.output.LayerNorm(x))


def bert() -> Case:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=4, num_attention_heads=2,
                        intermediate_size=12, num_labels=3, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0)  # fmt: skip
    model = BertForSequenceClassification(config)
    ids, mask = torch.randint(0, 30, (5, 7)), torch.ones(5, 7, dtype=torch.long)
    mask[2:, 4:] = 0
    layers = list(model.bert.encoder.layer)

    def by_hand():
        return torch.stack([_bert_stage(model, ids, mask, k) for k in range(5)])

    return Case(model, layers, (), {"input_ids": ids, "attention_mask": mask},
                torch.arange(5) % 3, by_hand, {"skip": bert_skip})  # fmt: skip


def _bert_stage(model, ids, mask, k):
    own = model.bert
    wide = torch.zeros(5, 1, 1, 7, dtype=own.dtype).masked_fill(
        mask[:, None, None] == 0, -torch.inf
    )
    x = own.embeddings(input_ids=ids)
    for j, layer in enumerate(own.encoder.layer):
        out = layer(x, wide) if j < k else bert_skip(layer, x)
        x = out if isinstance(out, Tensor) else out[0]
    return model.classifier(own.pooler(x))


def gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=30, n_embd=8, n_layer=4, n_head=2, n_positions=8, bos_token_id=0,
                        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                        attn_implementation="eager")  # fmt: skip
    model = GPT2LMHeadModel(config)
    ids = torch.randint(0, 30, (5, 7))
    labels = torch.roll(ids, -1, 1)
    labels[:, -1] = -100
    own = model.transformer

    def by_hand():
        x, found = own.wte(ids) + own.wpe(torch.arange(7)), []
        causal = torch.full((7, 7), -torch.inf, dtype=x.dtype).triu(1)[None, None]
        for block in own.h:
            found.append(model.lm_head(own.ln_f(x)))
            out = block(x, attention_mask=causal)
            x = out if isinstance(out, Tensor) else out[0]
        return torch.stack([*found, model.lm_head(own.ln_f(x))])

    return Case(model, list(own.h), (), {"input_ids": ids}, labels, by_hand)


def vit() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=8, num_hidden_layers=4, num_attention_heads=2, num_labels=4,
                       intermediate_size=12, image_size=8, patch_size=4, hidden_dropout_prob=0.0,
                       attention_probs_dropout_prob=0.0)  # fmt: skip
    model = ViTForImageClassification(config)
    x, y = images()
    layers = model.vit.layers if hasattr(model.vit, "layers") else model.vit.encoder.layer

    def by_hand():
        z, found = model.vit.embeddings(x), []
        for layer in layers:
            found.append(model.classifier(model.vit.layernorm(z)[:, 0]))
            out = layer(z)
            z = out if isinstance(out, Tensor) else out[0]
        return torch.stack([*found, model.classifier(model.vit.layernorm(z)[:, 0])])

    return Case(model, list(layers), (), {"pixel_values": x}, y, by_hand)


LIBRARY = (bert, gpt2, vit) if importlib.util.find_spec("transformers") else ()
