#!/bin/bash
# --device cuda:0, cpu and auto, in programs: without the CUDA part, and with it on hosts that have no driver, one too old, no GPU, too
# little memory, and one that works. That part is the emulated device (tests/support/emulator/plugin.cc) as a plug-in, so a run is
# trained on it from end to end.
set -u
. "$SOURCE_DIR/tests/support/script.sh"
[ -z "$SANITIZE" ] || { echo "the build without sanitizers does this"; exit 77; } # fibers, and seconds become minutes
plugin=$BIN_DIR/../tests/emulated/libcandor-cuda.so
[ -e "$plugin" ] || { echo "no emulated CUDA part (apt-get install g++)"; exit 77; }

tiny_world 60
mkdir .test.installed # the programs, with the CUDA part beside them
cp "$BIN_DIR"/candor{,-actor,-learner,-reward,-bench} "$plugin" .test.installed

# ---- what each says; one line, nothing left behind ----
each_refuses() { # WORDS...: those of cuda:0
    refused 78 "--device = cuda:0: $1" "$candor" generate --model base --device cuda:0 "Where is it?"
    refused 78 "model.device = cuda:0: $1" "$candor" sft --model base --out tuned --set sft.data=world/sft.jsonl --device cuda:0
    refused 78 "model.device = cuda:0: $1" "$candor" eval --model base --data world/train.jsonl --out eval --device cuda:0
    refused 78 "actor.device = cuda:0: $1" "$actor" --run . --set actor.device=cuda:0
    refused 78 "--device = cuda:0: $1" "$bench" gpu --device cuda:0
    may_leave=./run refused 78 ".device = cuda:0: $1" "$candor" train --run run --config run.ini --device cuda:0
    rm -rf run
}
bench=$BIN_DIR/candor-bench
each_refuses "this installation has no CUDA part (libcandor-cuda.so"
for spec in cuda cuda: cuda:x gpu; do
    refused 78 "--device = $spec: " "$candor" generate --model base --device $spec "Where is it?"
done
works "$candor" generate --model base --device auto --max-tokens 4 "Where is it?" # the CPU
works "$candor" generate --model base --device cpu --max-tokens 4 "Where is it?"

works "$candor" demo --dry-run --out demo --device cuda:0
[ "$(grep -c 'model.device=cuda:0 --set actor.device=cuda:0' .test.out)" = 3 ] || die "candor demo --device: $(cat .test.out)"

for program in candor actor learner reward bench; do
    path=$PWD/.test.installed/candor-$program
    [ $program = candor ] && path=$PWD/.test.installed/candor
    printf -v $program %s "$path"
done
EMULATED_CUDA=none each_refuses "cuda: this host has no NVIDIA driver"
EMULATED_CUDA=old each_refuses "cuda: the driver is too old: it serves CUDA 11.4, and this build needs 13.0"
EMULATED_CUDA=empty each_refuses "no such device (this host has none)"
refused 78 "--device = cuda:3: no such device (this host has cuda:0..0)" "$candor" generate --model base --device cuda:3 "Where is it?"
for host in none old empty; do # auto takes the CPU where no GPU can be had
    EMULATED_CUDA=$host works "$candor" generate --model base --device auto --max-tokens 4 "Where is it?"
done
EMULATED_CUDA_BYTES=1100000 refused 1 "cuda:0: out of memory: * asked for, * free of *actor.kv_tokens" \
    "$candor" generate --model base --device cuda:0 "Where is it?"
EMULATED_CUDA_BYTES=12000000 refused 1 "cuda:0: out of memory: * asked for, * free of *train.microbatch_tokens" \
    "$candor" sft --model base --out tuned --set sft.data=world/sft.jsonl --device cuda:0
EMULATED_CUDA_BYTES=9000000 refused 78 "base: training its * parameters takes * has * free" \
    "$candor" sft --model base --out tuned --set sft.data=world/sft.jsonl --device cuda:0

# ---- a run on the device: decode and training agree to the bit, and versions go to the actor as what changed ----
works "$candor" generate --model base --device auto --max-tokens 4 --n 3 "Where is it?"
gpu_run() { # OPTIONS...
    works "$candor" train --run run --config run.ini --device cuda:0 --set run.steps=2 --set run.determinism=strict \
        --set sample.questions=2 --set sample.group=8 --set sample.max_new_tokens=8 --set optim.lr=1e-4 "$@"
}
gpu_run
said() { # FILE WORDS
    grep -q "$2" run/logs/$1.log || die "run/logs/$1.log does not say \"$2\": $(tail -n 20 run/logs/$1.log)"
}
said actor-1 'same_class=yes'
said actor-1 'device name="cuda: emulated'
said actor-1 'weights_patched version=1 '
said learner 'delta version=1 '
[ "$(grep -c '"behaviour_gap":0,' run/metrics.jsonl)" = 2 ] || die "what was sampled is not what was trained: $(cat run/metrics.jsonl)"
! grep -q '"grad_norm":0,' run/metrics.jsonl || die "a step without a gradient: $(cat run/metrics.jsonl)"

# the same on two actors: the same weights, bit for bit
mv run first
gpu_run --actors 2
cmp first/checkpoints/step-00000002/model.safetensors run/checkpoints/step-00000002/model.safetensors ||
    die "one actor and two give different weights"
exit 0
