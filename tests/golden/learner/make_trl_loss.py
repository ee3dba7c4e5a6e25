#!/usr/bin/env python3
"""Loss, dL/dlp and advantages out of TRL's own GRPOTrainer code, for trl_loss_test.c.

    pip install torch==2.13.0 transformers==5.24.0 trl==1.16.0
    python3 make_trl_loss.py > trl_loss.json

GRPOTrainer._compute_loss and GRPOTrainer._generate_and_score_completions run unchanged on a stand-in for the trainer whose
policy returns given log-probabilities. A step is two micro-batches of four answers (gradient accumulation 2), so that
normalisers of the step and of the micro-batch differ.
"""
import json
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
import transformers
import trl
from trl import GRPOTrainer

ANSWERS, LONGEST, ACCUMULATION, MAX_LENGTH = 8, 7, 2, 12
LENGTHS = [7, 3, 5, 1, 6, 2, 7, 4]


def inputs():
    generator = torch.Generator().manual_seed(7)
    lp = -2.5 * torch.rand(ANSWERS, LONGEST, generator=generator)
    old = lp + 0.35 * torch.randn(ANSWERS, LONGEST, generator=generator)
    ref = lp + 0.8 * torch.randn(ANSWERS, LONGEST, generator=generator)
    # ratios beyond every bound on both sides, and exactly 1
    for i, t, difference in [(0, 0, 0.9), (0, 1, -0.9), (1, 0, 1.4), (1, 1, -1.4), (4, 2, 1.7), (6, 3, 0.0), (5, 0, 0.5)]:
        old[i, t] = lp[i, t] - difference
    advantages = torch.tensor([1.3, -0.7, 0.4, -1.1, -1.5, 0.9, 0.0, 0.6])
    mask = torch.zeros(ANSWERS, LONGEST)
    for i, n in enumerate(LENGTHS):
        mask[i, :n] = 1
    return lp, old, ref, advantages, mask


def trainer(lp, case):
    args = SimpleNamespace(
        use_bias_correction_kl=case["kl_bias_correction"], delta=case["dual_clip"] or None, steps_per_generation=ACCUMULATION
    )
    accelerator = MagicMock(num_processes=1)
    accelerator.gather.side_effect = lambda x: x
    accelerator.reduce.side_effect = lambda x, reduction: x
    self = MagicMock(
        args=args, accelerator=accelerator, beta=case["kl"], epsilon_low=case["clip_low"], epsilon_high=case["clip_high"],
        loss_type=case["trl_type"], importance_sampling_level=case["ratio"], max_completion_length=MAX_LENGTH,
        current_gradient_accumulation_steps=ACCUMULATION, use_vllm=False, off_policy_mask_threshold=None,
        top_entropy_quantile=1.0, aux_loss_enabled=False, _entropy_bonus_enabled=False,
    )
    self.model.training = True
    self._get_per_token_logps_and_entropies.return_value = (lp, torch.zeros_like(lp), None)
    return self


def step(case):
    lp, old, ref, advantages, mask = inputs()
    lp.requires_grad_(True)
    total = 0.0
    for first in range(0, ANSWERS, ANSWERS // ACCUMULATION):
        rows = slice(first, first + ANSWERS // ACCUMULATION)
        ids = torch.zeros(ANSWERS // ACCUMULATION, LONGEST, dtype=torch.long)
        batch = {
            "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] + 1, "completion_ids": ids, "completion_mask": mask[rows],
            "advantages": advantages[rows], "old_per_token_logps": old[rows], "ref_per_token_logps": ref[rows],
            "num_items_in_batch": mask.sum(),
        }
        loss = GRPOTrainer._compute_loss(trainer(lp[rows], case), None, batch)
        loss.backward()
        total += loss.item()
    gradient = [lp.grad[i, :n].tolist() for i, n in enumerate(LENGTHS)]
    return {**case, "loss": total, "dlp": gradient}


def cases():
    base = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 0.0, "kl": 0.0, "kl_bias_correction": False, "ratio": "token",
            "term": "clip"}
    for kind in ["dapo", "grpo", "bnpo", "dr_grpo"]:
        for change in [{}, {"clip_high": 0.2}, {"kl": 0.04}, {"kl": 0.04, "kl_bias_correction": True}, {"dual_clip": 3.0},
                       {"dual_clip": 3.0, "kl": 0.04}, {"ratio": "sequence"},
                       {"ratio": "sequence", "kl": 0.04, "kl_bias_correction": True}]:
            yield {**base, **change, "type": kind, "trl_type": kind}
    for change in [{"clip_high": 5.0}, {"clip_high": 0.28}, {"clip_high": 1.1, "kl": 0.04}, {"clip_high": 1.1, "ratio": "sequence"}]:
        yield {**base, **change, "term": "cispo", "type": "dapo", "trl_type": "cispo"}


def advantages(scale, rewards, group):
    """The advantages of GRPOTrainer._generate_and_score_completions for these rewards (None: unscorable)."""
    count = len(rewards)
    self = MagicMock(
        num_generations=group, num_generations_eval=group, scale_rewards=scale,
        multi_objective_aggregation="sum_then_normalize", reward_weights=torch.ones(1), reward_funcs=[None],
        reward_func_names=["reward"], use_vllm=False, beta=0.0, mask_truncated_completions=False, pad_to_multiple_of=None,
        tools=None, environments=None, environment_factories=None, log_multimodal=False, num_completions_to_print=None,
    )
    self.accelerator.device, self.accelerator.process_index, self.accelerator.num_processes = torch.device("cpu"), 0, 1
    self.accelerator.gather.side_effect = lambda x: x
    self.model.training = True
    self._tokenizer.pad_token_id = 0
    self.args.gradient_accumulation_steps, self.args.steps_per_generation, self.num_iterations = 1, 1, 1
    ids = [[1]] * count
    self._generate.return_value = (ids, ids, None, ["x"] * count, None, {}, None, None)
    values = [float("nan") if r is None else r for r in rewards]
    self._calculate_rewards.return_value = torch.tensor(values, dtype=torch.float32).unsqueeze(1)
    out = GRPOTrainer._generate_and_score_completions(self, [{"prompt": "x"}] * count)
    return out["advantages"].tolist()


def advantage_cases():
    rewards = [1, 0, 0, 0, 1, 0.5, 0, 0, 1, 1, 1, 1, 0.5, None, 0, 1, None, None, None, None, None, 1, None, None]
    for scale in ["group", "batch", "none"]:
        yield {"scale": scale, "group": 4, "rewards": rewards, "advantages": advantages(scale, rewards, 4)}


def main():
    lp, old, ref, adv, mask = inputs()
    ragged = lambda x: [x[i, :n].tolist() for i, n in enumerate(LENGTHS)]
    document = {
        "made_by": "make_trl_loss.py", "torch": torch.__version__, "transformers": transformers.__version__,
        "trl": trl.__version__, "accumulation": ACCUMULATION, "max_length": MAX_LENGTH, "lp": ragged(lp), "old": ragged(old),
        "reference": ragged(ref), "answer_advantages": adv.tolist(), "steps": [step(case) for case in cases()],
        "advantages": list(advantage_cases()),
    }
    json.dump(document, sys.stdout, indent=None, separators=(",", ":"))
    print()


main()
