#!/bin/bash
# Damaged or foreign models, tokenizers, question files and configurations, before every command that reads them: one line with
# place, what was read and what would be right, the right exit code, nothing half-written.
set -u
. "$SOURCE_DIR/tests/support/script.sh"

tiny_world
printf '{"id":"1","question":"Who ?"}\n{"id":"2","question":"When ?","aliases":[]}\n' >no-answers.jsonl
echo 'no json' >no-json.jsonl
printf '{"id":"1","question":"Who ?","aliases":["I"' >cut.jsonl
: >empty.jsonl
ask=("$candor" generate --max-tokens 8 --n 2 --model bad "Where ?")

# broken FILE SED: bad is the model with FILE edited
broken() {
    rm -rf bad
    cp -r base bad
    sed -i "$2" "bad/$1"
}

# cut_to FILE BYTES
cut_to() {
    rm -rf bad
    cp -r base bad
    truncate -s "$2" "bad/$1"
}

echo "-- safetensors: cut off, overlapping, of another shape"
cut_to model.safetensors 1000
refused 65 "bad/model.safetensors: header of * bytes in a file of 1000" "${ask[@]}"
cut_to model.safetensors -10
refused 65 "bad/model.safetensors: lm_head.weight: data_offsets" "${ask[@]}"
cut_to model.safetensors 4
refused 65 "bad/model.safetensors: 4 bytes" "${ask[@]}"
broken model.safetensors 's/\[49408,82176\]/[0,32768]    /'
refused 65 "without overlap it would begin at 32768" "${ask[@]}"
broken model.safetensors 's/\[49152,49408\]/[49151,49408]/'
refused 65 "input_layernorm.weight: data_offsets span 257 bytes; shape and dtype make 256" "${ask[@]}"
broken model.safetensors 's/"dtype":"BF16","shape":\[192/"dtype":"BF17","shape":[192/'
refused 65 "embed_tokens.weight: dtype is \"BF17\"" "${ask[@]}"
broken model.safetensors 's/model.embed_tokens/model.embad_tokens/'
refused 65 "model.embad_tokens.weight: no such tensor" "${ask[@]}"
broken config.json 's/"num_hidden_layers": 4/"num_hidden_layers": 5/'
refused 65 "no tensor model.layers.4." "${ask[@]}"
rm -rf bad && cp -r base bad && rm bad/model.safetensors
refused 65 "neither model.safetensors nor model.safetensors.index.json" "${ask[@]}"
echo '{"weight_map": {"lm_head.weight": "../base/model.safetensors"}}' >bad/model.safetensors.index.json
refused 65 "the plain name of a file beside it" "${ask[@]}"

echo "-- config.json: another architecture, nonsense"
broken config.json 's/Qwen2ForCausalLM/LlamaForCausalLM/; s/"qwen2"/"llama"/'
refused 65 "bad/config.json: model_type = llama" "${ask[@]}"
refused 65 "bad/config.json: model_type = llama" "$candor" eval --config run.ini --model bad --out out
refused 65 "bad/config.json: model_type = llama" "$candor" sft --config run.ini --init bad --out out
may_leave=./run refused 65 "learner: bad/config.json: model_type = llama" \
    "$candor" train --config run.ini --run run --set model.path=bad
rm -rf run
broken config.json 's/"hidden_size": 128/"hidden_size": 127/'
refused 65 "hidden_size 127" "${ask[@]}"
broken config.json 's/"num_hidden_layers": 4/"num_hidden_layers": 2000000000/'
refused 65 '"num_hidden_layers" is 2000000000; 1 to ' "${ask[@]}"
broken config.json 's/"rope_theta"/"rope_scaling": {"type": "yarn", "factor": 4}, "rope_theta"/'
refused 65 "rope_scaling" "${ask[@]}"
broken config.json 's/}/,/'
refused 65 "bad/config.json: " "${ask[@]}"
broken config.json 's/"vocab_size": 192/"vocab_size": 100/'
refused 65 "another model's tokenizer" "${ask[@]}"
refused 65 "nowhere: no such directory" "$candor" generate --model nowhere "Where ?"
refused 65 "the model takes 128 together" "$candor" generate --model base --max-tokens 128 "Where ?"
refused 65 "byte 0 is not utf-8" "$candor" generate --model base $'\xff'
refused 65 "prompt.max_tokens + sample.max_new_tokens: base: prompts and answers of 1036 tokens" \
    "$candor" eval --config run.ini --set prompt.max_tokens=1024 --model base --out out

echo "-- tokenizers"
cut_to tokenizer.json 1000
refused 65 "bad/tokenizer.json: byte 1000" "${ask[@]}"
broken tokenizer.json 's/"WordPiece", "unk_token"/"Unigram", "unk_token"/'
refused 65 "Unigram" "${ask[@]}"
rm bad/tokenizer.json
refused 65 "neither tokenizer.json nor vocab.json and merges.txt" "${ask[@]}"
broken tokenizer_config.json 's/"candor_chat_template": "plain"/"chat_template": "{{ messages }}"/'
refused 65 "chat_template" "${ask[@]}"
qwen=$SHARED_DATA/qwen_tokenizer
if [ -e "$qwen/merges.txt" ]; then
    mkdir -p bad && rm -f bad/tokenizer.json
    cp "$qwen/vocab.json" bad/vocab.json
    refused 65 "bad/merges.txt: no such file" "${ask[@]}"
    head -n 100000 "$qwen/merges.txt" >bad/merges.txt
    refused 65 "bad: merges for 51387 tokens are missing" "${ask[@]}"
fi

echo "-- question files and examples"
evaluate=("$candor" eval --config run.ini --model base --out out)
refused 65 "no-answers.jsonl: not one usable question in 2 rows" "${evaluate[@]}" --data no-answers.jsonl
refused 65 "no-json.jsonl: none of the formats" "${evaluate[@]}" --data no-json.jsonl
refused 65 "empty.jsonl: the file is empty" "${evaluate[@]}" --data empty.jsonl
refused 65 "cut.jsonl: byte 43: the text ends" "${evaluate[@]}" --data cut.jsonl
refused 65 "nowhere.jsonl: no such file" "${evaluate[@]}" --data nowhere.jsonl
refused 65 "no question is left to train on" "$candor" data mix --out out no-answers.jsonl
refused 65 "cut.jsonl: byte 43" "$candor" data mix --out out cut.jsonl
refused 65 "nowhere.jsonl: no such file" "$candor" data show nowhere.jsonl
works "$candor" data show --list-unusable no-answers.jsonl
grep -q "rows 2, usable 0, no-answer 2" .test.out || die "data show does not count rows without answers"
may_leave=./run refused 65 "learner: no-answers.jsonl: not one usable question" \
    "$candor" train --config run.ini --run run --set data.train=no-answers.jsonl
works "$candor" train --config run.ini --run run # what failed before the first checkpoint can be mended
rm -rf run
tune=("$candor" sft --config run.ini --init world --out out --set)
refused 65 "no-answers.jsonl:1: no \"answer\"" "${tune[@]}" sft.data=no-answers.jsonl
refused 65 "no-json.jsonl:1: " "${tune[@]}" sft.data=no-json.jsonl
refused 65 "empty.jsonl: no examples" "${tune[@]}" sft.data=empty.jsonl
echo '{"id":"1","question":"Who ?","aliases":["I"],"response":"boxed[I]"}' >graded.jsonl
echo '{"id":"2"}' >>graded.jsonl
refused 65 "graded.jsonl:2: response: a string is wanted" "$candor" grade --file graded.jsonl --out graded.jsonl
refused 65 "no-json.jsonl:1: " "$candor" grade --file no-json.jsonl --out out
refused 65 "world: neither metrics.jsonl nor evaluations" "$candor" report world
refused 65 "nowhere: no such directory" "$candor" report nowhere

echo "-- configurations"
train=("$candor" train --run run --config)
cp run.ini wrong.ini && echo "lease = 3" >>wrong.ini
refused 78 "wrong.ini:*: hub.lease: no such option; did you mean hub.lease_ms?" "${train[@]}" wrong.ini
refused 78 "wrong.ini:*: hub.lease: no such option" "$learner" --config wrong.ini --check-config
refused 78 "wrong.ini:*: hub.lease: no such option" "$candor" eval --config wrong.ini --model base --out out
refused 78 "wrong.ini:*: hub.lease: no such option" "$candor" sft --config wrong.ini --model base --out out
refused 78 "wrong.ini:*: hub.lease: no such option" "$actor" --config wrong.ini --run run
refused 78 "wrong.ini:*: hub.lease: no such option" "$reward" --config wrong.ini --run run
sed 's/^group = 4/group = many/' run.ini >wrong.ini
refused 78 "wrong.ini:*: sample.group = many: not a whole number; right would be a whole number, 1 to 256" "${train[@]}" wrong.ini
sed 's/^group = 4/group = 257/' run.ini >wrong.ini
refused 78 "wrong.ini:*: sample.group = 257: out of range" "${train[@]}" wrong.ini
refused 78 "--set run.stepz: no such option; did you mean run.steps?" "${train[@]}" run.ini --set run.stepz=3
refused 78 "environment: CANDOR_RUN_STEPZ: " env CANDOR_RUN_STEPZ=3 "${train[@]}" run.ini
refused 78 "reward.rule = boht: no such rule; right would be both, " "${train[@]}" run.ini --set reward.rule=boht
refused 78 "reward.rule = custom: candor-reward has no such rule" "${train[@]}" run.ini --set reward.rule=custom
refused 78 "needs data.knowledge" "${train[@]}" run.ini --set reward.rule=anchored
refused 78 "nowhere.ini: no such file" "${train[@]}" nowhere.ini
refused 78 "world: is a directory" "${train[@]}" world
may_leave=./run refused 78 "learner: data.train: empty" "${train[@]}" run.ini --set data.train=
refused 78 "net.learner = (empty)" "$actor"
refused 78 "net.learner = (empty)" "$reward"
echo "-- good"
