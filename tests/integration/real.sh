#!/bin/bash
# A real configuration: the published files of the four question sets, the vocabulary of Qwen2.5, ChatML, the study's prompt, and
# a small Qwen2 model with random weights, taught some of the questions. Ten updates of `candor train`, an evaluation, a report; a
# learner killed without warning, and a resume that gives the same bits; what a user is told on the way.
set -u

# Ten updates over a vocabulary of 151,936 take a quarter of an hour under a sanitizer; pipeline.sh runs the same programs there.
[ -z "$SANITIZE" ] || { echo "takes too long under sanitizers; pipeline.sh runs the same programs there"; exit 77; }
candor=$BIN_DIR/candor
steps=10
questions=$SHARED_DATA vocabulary=$SHARED_DATA/qwen_tokenizer
published=("$questions/simpleqa/simple_qa_test_set.csv" "$questions/popqa/popQA_subset.tsv" "$questions/selfaware/SelfAware.json"
    "$questions/triviaqa/triviaqa_flashrag_1000.jsonl" "$questions"/triviaqa/original_*.json)
for file in "${published[@]}" "$vocabulary/vocab.json"; do
    [ -e "$file" ] || { echo "no ../shared/data (its question files and Qwen2.5's vocabulary)"; exit 77; }
done

die() {
    echo "FAILED: $*"
    tail -n 5 ./*.log ./*/logs/learner.log 2>/dev/null
    exit 1
}

# column RUN KEY: the values of a key, a line a step
column() { sed -n "s/.*\"$2\":\(\"[^\"]*\"\|[^,}]*\)[,}].*/\1/p" "$1/metrics.jsonl"; }
lines() { [ -f "$1/metrics.jsonl" ] && wc -l <"$1/metrics.jsonl" || echo 0; }

# says FILE WORDS: FILE has these words
says() { grep -qF -- "$2" "$1" || die "$1 does not say \"$2\": $(tail -n 3 "$1")"; }

# learner_of RUN: the process id of its learner
learner_of() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/cwd" 2>/dev/null)" = "$PWD" ] || continue
        [[ $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") == *"candor-learner --run $1 "* ]] && echo "${process#/proc/}"
    done
}

echo "-- questions: a mix of the published files"
"$candor" data mix --out mix --seed 7 "${published[@]}" >mix.out 2>mix.log || die "data mix ended with $?"
for set in simpleqa popqa selfaware triviaqa; do
    [ "$(grep -c "\"set\": \"$set\"" mix/train.jsonl)" -gt 700 ] || die "hardly any $set in the mix"
done

echo "-- a model: Qwen2.5's vocabulary, random weights, a cold start on twelve of the questions"
mkdir shape
cp "$vocabulary/vocab.json" "$vocabulary/merges.txt" "$vocabulary/Qwen2.5-0.5B-Instruct/tokenizer_config.json" shape
cat >shape/config.json <<END
{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 64, "head_dim": 64,
 "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2, "intermediate_size": 256,
 "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": true,
 "vocab_size": 151936, "bos_token_id": 151643, "eos_token_id": 151645}
END
"$candor" data sft --out sft.jsonl --limit 12 --draws 16 --unknown 0.3 mix/train.jsonl >sft.out 2>sft.log || die "data sft ended with $?"
says sft.jsonl "The Assistant must think step by step."
"$candor" sft --init shape --out base --set sft.data=sft.jsonl --set sft.steps=90 --set sft.batch=16 --set sft.lr=1e-2 \
    --set sft.init_std=0.05 >>sft.out 2>>sft.log || die "sft ended with $?"

# lag 1, rule both, KL to the starting model: all defaults
cat >real.ini <<END
[run]
steps = $steps
[model]
path = base
[data]
train = mix/train.jsonl
limit = 12
eval = mix/held-out.jsonl
[sample]
questions = 6
max_new_tokens = 32
[optim]
lr = 1e-4
warmup = 2
[checkpoint]
every = 4
END

echo "-- ten updates, two actors"
"$candor" train --config real.ini --run one --actors 2 >one.out 2>one.log || die "train ended with $?"
[ "$(lines one)" = $steps ] || die "run one: $(lines one) steps"
mixed=0
while read -r dead norm; do
    [ "$dead" != 1 ] && [ "$norm" != 0 ] && [ "$norm" != null ] && mixed=$((mixed + 1))
done < <(paste -d ' ' <(column one zero_variance) <(column one grad_norm))
[ "$mixed" -ge 8 ] || die "only $mixed of $steps updates had a mixed group and a gradient: $(column one zero_variance | tr '\n' ' ')"
[ "$(column one weights | sort -u | wc -l)" = $steps ] || die "weights that did not change: $(column one weights | tr '\n' ' ')"
grep -q '"correct":0\.[0-9]' one/metrics.jsonl && grep -q '"abstain":0\.[0-9]' one/metrics.jsonl || die "nothing right, or nothing Unknown"
for key in reward reward_std zero_variance kl policy_kl clip_low clip_high entropy length truncated grad_norm lr tokens_per_second \
    wait_seconds step_seconds; do
    [ "$(column one $key | grep -c '^[-0-9.e+]*$')" = $steps ] || die "metrics.jsonl: $key is not a number in every step"
done
says one.out "the model: one/checkpoints/step-00000010"

echo "-- what is left of a run: answers, an evaluation, a report"
"$candor" report --rollouts 9 one >rollouts.out || die "report --rollouts ended with $?"
[ "$(grep -c '^== ' rollouts.out)" = 6 ] && [ "$(grep -c ' advantage ' rollouts.out)" = 120 ] || die "6 groups of 20 answers are not in rollouts.out"
"$candor" eval --run one --set eval.questions=12 --set eval.samples=4 >eval.out 2>eval.log || die "eval ended with $?"
[ "$(wc -l <one/eval/final.jsonl)" = 13 ] || die "eval/final.jsonl: right would be a header and 12 questions"
for set in simpleqa popqa selfaware triviaqa; do
    grep -q "^$set  *3 " eval.out || die "eval says nothing of 3 questions of $set: $(cat eval.out)"
done
"$candor" report one >report.out || die "report ended with $?"
[ -s one/report.html ] || die "no report"

echo "-- the learner is killed; the same command goes on, with the same bits"
"$candor" train --config real.ini --run killed >killed.out 2>killed.log &
train=$!
for ((i = 0; i < 1200; i++)); do
    [ "$(lines killed)" -ge 6 ] && break
    sleep 0.05
done
[ "$(lines killed)" -ge 6 ] || die "step 6 does not come"
kill -KILL "$(learner_of killed)"
wait $train
[ $? = 1 ] || die "train ended with another code than 1 when its learner was killed"
says killed.log "learner: killed by signal 9"
says killed.log "candor train --run killed"
[ "$(lines killed)" -lt $steps ] || die "the run was over before the kill: the test shows nothing"
"$candor" train --run killed >>killed.out 2>>killed.log || die "the resumed train ended with $?"
says killed/logs/learner.log "resumed step="
cmp -s <(column one weights) <(column killed weights) || die "the resumed run has other weights"
cmp "one/checkpoints/step-00000010/model.safetensors" "killed/checkpoints/step-00000010/model.safetensors" || die "the resumed run ends in another model"
diff -r one/rollouts killed/rollouts >diff.out || die "the resumed run has other answers: $(head -n 3 diff.out)"

echo "-- another value is refused, naming the keys; a run that is done says so"
"$candor" train --run one --set optim.lr=2e-4 --set sample.group=10 >refused.out 2>&1
[ $? = 78 ] || die "changed keys: another exit than 78"
says refused.out "sample.group: 20 -> 10; optim.lr: 0.0001 -> 0.0002"

echo "-- the published files directly, without a configuration file"
direct=$(IFS=:; echo "${published[*]}")
"$candor" train --run direct --set model.path=base --set "data.train=$direct" --set data.limit=8 --set run.steps=1 \
    --set sample.questions=4 --set sample.group=4 --set sample.max_new_tokens=16 >direct.out 2>direct.log || die "train on published files ended with $?"
[ "$(lines direct)" = 1 ] || die "run direct: $(lines direct) steps"
echo "-- good"
