#!/usr/bin/env python3
"""Golden numbers for moments of eight bits from bitsandbytes: its code maps, quantised blocks, steps of AdamW8bit. Run by hand
with the versions below; writes moments.json beside itself.

    pip install torch==2.13.0 bitsandbytes==0.50.2
    python3 tests/golden/compute/make_moments.py

bitsandbytes' native quantiser for the CPU is not exact: of 1,000 squares of normal numbers 40 get another code than the
nearest, and below 1e-5 of the greatest all get the seventh (seen in 0.50.2). Its path for other types is exact, so numbers go in as
float64, which that path makes float32 again; AdamW8bit is led there too. Values below the least share are left out: there
bitsandbytes has 0 for v, and Candor on purpose has not (common/compute/moments.h).
"""
import json
import os
import sys

import bitsandbytes
import bitsandbytes.backends.cpu.ops as cpu_ops
import bitsandbytes.functional as functional
import torch

PINNED = {"torch": "2.13.0", "bitsandbytes": "0.50.2"}
BLOCK = 256
COUNT = BLOCK + 88
STEPS = 5
KEPT = (1, STEPS)
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)


def exact(values, codes):
    return torch.ops.bitsandbytes.quantize_blockwise(values.double(), codes, BLOCK)


def quantise_directly(values, codes, out_absmax, out_codes, blocksize):
    assert blocksize == BLOCK
    quantised, absmax = exact(values, codes)
    out_codes.copy_(quantised)
    out_absmax.copy_(absmax)


def numbers(tensor):
    return [float(f"{x:.9g}") for x in tensor.double().tolist()]


def blocks(codes, signed):
    """Normal numbers; sizes over six decades; a short block of very small ones."""
    parts = [torch.randn(BLOCK), torch.randn(BLOCK).sign() * 10 ** (-5.5 * torch.rand(BLOCK)), torch.randn(40) * 1e-12]
    values = torch.cat(parts)
    if not signed:
        values = values.abs() + 1e-14
    values = torch.tensor(numbers(values), dtype=torch.float32)
    quantised, absmax = exact(values, codes)
    back = functional.dequantize_blockwise(quantised, absmax=absmax, code=codes, blocksize=BLOCK)
    return dict(values=numbers(values), absmax=numbers(absmax), codes=quantised.tolist(), back=numbers(back))


def adamw():
    cpu_ops._quant_blockwise_fp32_direct = quantise_directly
    scale = 10 ** (-1.5 * torch.rand(COUNT))
    weight = torch.nn.Parameter(torch.randn(COUNT))
    optimiser = bitsandbytes.optim.AdamW8bit([weight], min_8bit_size=0, **ADAMW)
    out = dict(ADAMW, start=numbers(weight.detach()), gradients=[], steps=[])
    for step in range(1, STEPS + 1):
        gradient = torch.randn(COUNT).sign() * (0.1 + 0.9 * torch.rand(COUNT)) * scale
        gradient = torch.tensor(numbers(gradient), dtype=torch.float32)
        weight.grad = gradient.clone()
        optimiser.step()
        out["gradients"].append(numbers(gradient))
        state = optimiser.state[weight]
        if step in KEPT:
            out["steps"].append(dict(step=step, weight=numbers(weight.detach()), m=state["state1"].tolist(), v=state["state2"].tolist(),
                                     m_absmax=numbers(state["absmax1"]), v_absmax=numbers(state["absmax2"])))
    return out


def main():
    for name, version in PINNED.items():
        have = sys.modules[name].__version__.split("+")[0]
        if have != version:
            sys.exit(f"{name} {have}: the golden numbers are of {version}")
    torch.manual_seed(5)
    signed, unsigned = functional.create_dynamic_map(signed=True), functional.create_dynamic_map(signed=False)
    golden = dict(versions=PINNED, block=BLOCK, m_map=numbers(signed), v_map=numbers(unsigned), m=blocks(signed, True),
                  v=blocks(unsigned, False), adamw=adamw())
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "moments.json"), "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
