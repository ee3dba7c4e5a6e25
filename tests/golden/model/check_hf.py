#!/usr/bin/env python3
"""Does transformers load what Candor saves, and agree with it? Run by hand:

    build/dev/tests/golden-model-model_test DIR     # writes checkpoints and Candor's log-probabilities
    python3 tests/golden/model/check_hf.py DIR
"""
import os
import sys

import numpy as np
import safetensors.numpy
import torch
from transformers import AutoModelForCausalLM

import make


def main():
    worst = 0.0
    for name, spec in make.MODELS.items():
        directory = os.path.join(sys.argv[1], name)
        model, info = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager",
                                                           output_loading_info=True)
        left = {k: v for k, v in info.items() if v}
        if left:
            sys.exit(f"{name}: transformers reports {left}")
        stored = safetensors.numpy.load_file(os.path.join(directory, "candor-lp.safetensors"))["lp"]
        with torch.no_grad():
            lp = make.forward(model.eval(), make.make_trees(name, spec["valid"]), spec)[0].numpy()
        difference = float(np.abs(lp - stored).max())
        worst = max(worst, difference)
        print(f"{name}: {len(lp)} log-probabilities, largest difference {difference:.2g}")
    print("agreed" if worst < 5e-5 else "DIFFERS")
    return 0 if worst < 5e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
