#!/usr/bin/env python3
"""Golden numbers for the engine from transformers: logits, log-probabilities, every gradient and ten AdamW steps of tiny random
Qwen2 models. Run by hand with the versions below; writes MODEL/config.json and MODEL/golden.safetensors beside itself.

    pip install torch==2.13.0 transformers==5.24.0 safetensors numpy
    python3 tests/golden/model/make.py

Weights are a formula of tensor name and index (`fill`; tests/support/model/golden.c has its twin), so they are not stored. Of a
tensor of more than FULL elements the file keeps every n-th value, its norm and four sums with random signs: an error in any
element moves every sum by as much.
"""
import os
import sys

import numpy as np
import safetensors
import safetensors.numpy
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

PINNED = {"torch": "2.13.0", "transformers": "5.24.0"}
FULL = 64      # elements kept whole
SAMPLES = 32   # values kept of larger tensors
STEPS = 10
# eps stands above the rounding error of a gradient (1e-7): with 1e-8 an element whose true gradient is near 0, such as a key's
# bias, would take steps of pure noise.
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-4, weight_decay=0.1)
CLIP = 1.0

# heads/kv_heads: query groups of 1, 5 and 7; heads * head_dim is not hidden
MODELS = {
    "tied_g1_d64": dict(heads=2, kv=2, dim=64, hidden=32, ffn=48, vocab=72, tied=True, eps=1e-6, theta=1e6, valid=72, t=1.0),
    "untied_g5_d64": dict(heads=5, kv=1, dim=64, hidden=48, ffn=40, vocab=80, tied=False, eps=1e-5, theta=1e4, valid=75, t=0.8),
    "untied_g7_d64": dict(heads=14, kv=2, dim=64, hidden=64, ffn=96, vocab=96, tied=False, eps=1e-6, theta=1e6, valid=90, t=1.0),
    "tied_g7_d128": dict(heads=7, kv=1, dim=128, hidden=64, ffn=72, vocab=88, tied=True, eps=1e-6, theta=1e6, valid=80, t=1.25),
    "untied_g1_d128": dict(heads=2, kv=2, dim=128, hidden=40, ffn=56, vocab=64, tied=False, eps=1e-6, theta=1e6, valid=64, t=1.0),
}
# prompt length, answer lengths: around the page size of 32, an answer of one token, a prompt of one token
TREES = [(37, [3, 1, 30]), (1, [12]), (32, [2, 33])]


def hash32(index, seed):
    """murmur3's finaliser over index and seed, as uint32 arrays."""
    h = (np.asarray(index, dtype=np.uint64) * 0x9E3779B1 + seed) & 0xFFFFFFFF
    h ^= h >> 16
    h = h * 0x85EBCA6B & 0xFFFFFFFF
    h ^= h >> 13
    h = h * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


def seed_of(name):
    """FNV-1a."""
    h = 0x811C9DC5
    for byte in name.encode():
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return h


def fill(name, shape):
    """Uniform in +-1/4 (embeddings +-1/2), norms around 1: exact in fp32, not in bf16."""
    count = int(np.prod(shape))
    u = ((hash32(np.arange(count), seed_of(name)) >> 8).astype(np.float64) - 2.0**23) * 2.0**-23
    scale = 0.5 if "embed" in name or "lm_head" in name else 0.25
    value = u * scale + (1.0 if name.endswith("norm.weight") else 0.0)
    return torch.from_numpy(value.astype(np.float32).reshape(shape))


def make_trees(name, valid):
    trees = []
    for t, (prompt, answers) in enumerate(TREES):
        total = prompt + sum(answers)
        ids = (hash32(np.arange(total), seed_of(f"{name}.tokens.{t}")) % valid).astype(np.int32)
        trees.append((ids[:prompt], np.split(ids[prompt:], np.cumsum(answers)[:-1])))
    return trees


def coefficients(name, count):
    """dL/dlp: multiples of 1/8 in +-1 over count; about an eighth are exactly 0."""
    h = hash32(np.arange(count), seed_of(f"{name}.dlp"))
    c = ((h >> 8) % 17).astype(np.float64) / 8 - 1
    c[(h >> 20) % 8 == 0] = 0
    return (c / count).astype(np.float32)


def forward(model, trees, spec):
    """Log-probabilities and entropies of all answer tokens in order, and the logits of the longest path."""
    lps, entropies, longest = [], [], None
    for prompt, answers in trees:
        for answer in answers:
            path = torch.from_numpy(np.concatenate([prompt, answer[:-1]]).astype(np.int64))
            logits = model(path[None], use_cache=False).logits[0]
            z = logits[len(prompt) - 1:, :spec["valid"]] / spec["t"]
            logp = torch.log_softmax(z, -1)
            lps.append(logp.gather(1, torch.from_numpy(answer.astype(np.int64))[:, None])[:, 0])
            entropies.append(-(logp.exp() * logp).sum(-1))
            if longest is None or len(path) > len(longest[0]):
                longest = (path, logits)
    return torch.cat(lps), torch.cat(entropies), longest[1]


def summary(out, prefix, tensor):
    flat = tensor.detach().numpy().astype(np.float64).ravel()
    stride = 1 if flat.size <= FULL else flat.size // SAMPLES
    index = np.arange(flat.size)
    signs = [np.where(hash32(index, j) & 1, 1.0, -1.0) for j in range(4)]
    out[prefix + ".values"] = flat[::stride].astype(np.float32)
    out[prefix + ".sums"] = np.array([np.sqrt((flat**2).sum())] + [(s * flat).sum() for s in signs], dtype=np.float32)


def bf16_half_away(tensor):
    """What the learner's split master computes with: bf16 by round half away (engine.md section 7)."""
    bits = tensor.detach().numpy().view(np.uint32).astype(np.uint64)
    return torch.from_numpy(((bits + 0x8000 & 0xFFFFFFFF) >> 16 << 16).astype(np.uint32).view(np.float32))


def train(model, masters, trees, spec, c, split):
    """Ten AdamW steps on masters; with split the forward sees them rounded to bf16. Returns the losses."""
    names = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(masters.values(), foreach=False, **ADAMW)
    losses = []
    for _ in range(STEPS):
        with torch.no_grad():
            for name, parameter in names.items():
                parameter.copy_(bf16_half_away(masters[name]) if split else masters[name])
        model.zero_grad()
        loss = (c * forward(model, trees, spec)[0]).sum()
        loss.backward()
        for name, parameter in names.items():
            masters[name].grad = parameter.grad.clone()
        torch.nn.utils.clip_grad_norm_(masters.values(), CLIP, foreach=False)
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses, dtype=np.float32)


def make(name, spec, directory):
    config = Qwen2Config(
        vocab_size=spec["vocab"], hidden_size=spec["hidden"], intermediate_size=spec["ffn"], num_hidden_layers=2,
        num_attention_heads=spec["heads"], num_key_value_heads=spec["kv"], head_dim=spec["dim"],
        max_position_embeddings=128, rms_norm_eps=spec["eps"], tie_word_embeddings=spec["tied"],
        rope_parameters={"rope_type": "default", "rope_theta": spec["theta"]}, attn_implementation="eager",
        bos_token_id=0, eos_token_id=1, architectures=["Qwen2ForCausalLM"], dtype="float32")
    model = Qwen2ForCausalLM(config).float().eval()
    start = {n: fill(n, p.shape) for n, p in model.named_parameters()}
    trees = make_trees(name, spec["valid"])
    out = {"valid": np.array([spec["valid"]], dtype=np.int32), "temperature": np.array([spec["t"]], dtype=np.float32)}
    for t, (prompt, answers) in enumerate(trees):
        out[f"tree{t}.prompt"] = prompt
        out[f"tree{t}.answers"] = np.concatenate(answers)
        out[f"tree{t}.counts"] = np.array([len(a) for a in answers], dtype=np.int32)
    count = sum(len(a) for _, answers in trees for a in answers)
    c = torch.from_numpy(coefficients(name, count))
    out["dlp"] = c.numpy()

    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(start[n])
    lp, entropy, logits = forward(model, trees, spec)
    (c * lp).sum().backward()
    out["lp"], out["entropy"], out["logits"] = (x.detach().numpy() for x in (lp, entropy, logits[:, :spec["valid"]]))
    for n, p in model.named_parameters():
        summary(out, "gradient." + n, p.grad)
    for kind, split in (("fp32", False), ("split", True)):
        masters = {n: w.clone().requires_grad_() for n, w in start.items()}
        out[f"{kind}.losses"] = train(model, masters, trees, spec, c, split)
        for n, w in masters.items():
            summary(out, f"{kind}.{n}", w - start[n])

    os.makedirs(directory, exist_ok=True)
    config.save_pretrained(directory)
    out = {k: np.ascontiguousarray(v) for k, v in out.items()}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__,
                "safetensors": safetensors.__version__, "made_by": "tests/golden/model/make.py"}
    safetensors.numpy.save_file(out, os.path.join(directory, "golden.safetensors"), metadata=versions)
    print(name, f"|gradient| {torch.sqrt(sum((p.grad**2).sum() for p in model.parameters())).item():.4f}",
          "losses", out["fp32.losses"][[0, -1]], out["split.losses"][[0, -1]],
          os.path.getsize(os.path.join(directory, "golden.safetensors")), "bytes")


def main():
    for package, version in PINNED.items():
        found = sys.modules[package].__version__.split("+")[0]
        if found != version:
            sys.exit(f"make.py: {package} {found}: these numbers are pinned to {version}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, spec in MODELS.items():
        make(name, spec, os.path.join(os.path.dirname(os.path.abspath(__file__)), name))


if __name__ == "__main__":
    main()
