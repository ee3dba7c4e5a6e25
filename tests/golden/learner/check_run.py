#!/usr/bin/env python3
"""Does transformers load a run's checkpoint as it is, and agree with Candor about it? Run by hand:

    python3 tests/golden/learner/check_run.py build/release/bin/candor RUN QUESTIONS.jsonl

Loads RUN/checkpoints/<latest> with AutoTokenizer and AutoModelForCausalLM, and for the first questions compares
  the prompt's ids        apply_chat_template with the run's system prompt, against `candor generate --json`: equal
  sampled answers         log-probability of every token, in fp32: within TOLERANCE
  the greedy answer       generate(do_sample=False), against --temperature 0: equal ids
The last line is "agreed" or what differs; the exit status says the same.
"""
import configparser
import json
import os
import subprocess
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

PINNED = {"torch": "2.13.0", "transformers": "5.24.0"}
TOLERANCE = 1e-4  # fp32 sums in another order; logits of a few tens
QUESTIONS = 8
SAMPLES = 4
NEW_TOKENS = 32


def system_prompt(run):
    config = configparser.ConfigParser(interpolation=None, comment_prefixes=(";",))
    config.read(os.path.join(run, "config.ini"))
    return " ".join(config["prompt"]["system"].split())


def load(directory):
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager",
                                                       output_loading_info=True)
    left = {key: value for key, value in info.items() if value}
    if left:
        sys.exit(f"{directory}: transformers reports {left}")
    return AutoTokenizer.from_pretrained(directory), model.eval()


def candor_answers(program, directory, system, question, *options):
    command = [program, "generate", "--json", "--model", directory, "--system", system, "--max-tokens", str(NEW_TOKENS),
               *options, question]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


@torch.no_grad()
def log_probabilities(model, valid, prompt, ids):
    """Of each answer token at temperature 1; ids that the tokenizer lacks cannot be sampled and are masked."""
    logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1:-1, :valid].double()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None])[:, 0]


@torch.no_grad()
def greedy(model, valid, stops, prompt):
    ids = []
    while len(ids) < NEW_TOKENS and (not ids or ids[-1] not in stops):
        ids.append(int(model(torch.tensor([prompt + ids])).logits[0, -1, :valid].argmax()))
    return ids


def main():
    program, run, path = sys.argv[1:]
    for name, version in PINNED.items():
        have = sys.modules[name].__version__.split("+")[0]
        if have != version:
            print(f"note: {name} {have}; last checked with {version}")
    with open(os.path.join(run, "checkpoints", "latest")) as file:
        directory = os.path.join(run, "checkpoints", file.read().strip())
    tokenizer, model = load(directory)
    system, valid, worst, tokens, differ = system_prompt(run), len(tokenizer), 0.0, 0, []
    stops = {tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")}
    with open(path) as file:
        questions = [json.loads(line)["question"] for line, _ in zip(file, range(QUESTIONS))]
    for question in questions:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        for answer in candor_answers(program, directory, system, question, "--n", str(SAMPLES)):
            if answer["prompt"] != prompt:
                sys.exit(f"{question}: prompt ids differ: {answer['prompt']} against {prompt}")
            lp = log_probabilities(model, valid, prompt, answer["ids"])
            worst = max(worst, float((lp - torch.tensor(answer["logprobs"]).double()).abs().max()))
            tokens += len(answer["ids"])
            text = tokenizer.decode([i for i in answer["ids"] if i not in stops])
            if text != answer["text"]:
                differ.append(f"{question}: {answer['text']!r} against {text!r}")
        mine = greedy(model, valid, stops, prompt)
        theirs = candor_answers(program, directory, system, question, "--temperature", "0")[0]["ids"]
        if mine != theirs:
            differ.append(f"{question}: greedy {theirs} against {mine}")
    print(f"{directory}: {len(questions)} prompts with equal ids, {tokens} sampled tokens, largest difference of a "
          f"log-probability {worst:.2g}; torch {torch.__version__}, transformers {transformers.__version__}")
    for line in differ:
        print(line)
    agreed = worst < TOLERANCE and not differ
    print("agreed" if agreed else "DIFFERS")
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
