#!/bin/bash
# candor demo, smaller: the commands that --dry-run prints, run by hand, give the same bytes; Ctrl-C ends every process and says how
# to go on; what is resumed ends with the same numbers; --json has all of them.
set -u
. "$SOURCE_DIR/tests/support/script.sh"

smaller=(--seed 7)
for set in sft.steps=80 sft.batch=64 run.steps=6 sample.questions=16 eval.every=3 eval.samples=2 eval.knowledge_samples=4 \
    checkpoint.every=2 'prompt.system=Answer'; do
    smaller+=(--set "$set")
done

# same A B: world, weights, rollouts, evaluations
same() {
    diff -r "$1/world" "$2/world" -x candor.ini >diff.out || die "other worlds: $(head -n 3 diff.out)"
    diff -r "$1/base" "$2/base" >diff.out || die "other base models: $(head -n 3 diff.out)"
    diff -r "$1/run/rollouts" "$2/run/rollouts" >diff.out || die "other rollouts: $(head -n 3 diff.out)"
    diff -r "$1/run/eval" "$2/run/eval" >diff.out || die "other evaluations: $(head -n 3 diff.out)"
    for file in model.safetensors optimiser.safetensors; do
        cmp "$1/run/checkpoints/step-00000006/$file" "$2/run/checkpoints/step-00000006/$file" || die "other weights"
    done
}

# The processes that one has started, and theirs.
descendants() {
    local child
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        echo "$child"
        descendants "$child"
    done
}

all_gone() { ! kill -0 "$@" 2>/dev/null; }

if [ -n "$SANITIZE" ]; then # minutes each; the programs are the same
    works "$candor" demo --out demo --json demo.json "${smaller[@]}" --set sft.steps=4 --set sft.batch=16 --set run.steps=2 \
        --set eval.every=0 --set eval.questions=24
    [ -s demo/report.html ] && [ -s demo.json ] || die "no report, or no numbers"
    echo "-- good; what is compared is compared in builds without sanitizers"
    exit 0
fi

echo "-- the demo"
works "$candor" demo --out demo --json demo.json "${smaller[@]}"
for word in "questions trained on" "held-out questions" "Knowledge-Relative Balance" "before: " "Work done: " \
    "The report: demo/report.html" "candor train --run run --set model.path="; do
    grep -q "$word" .test.out || die "the demo does not say \"$word\""
done
[ -s demo/report.html ] || die "no report"
[ "$(wc -l <demo/run/metrics.jsonl)" = 6 ] || die "not six steps"
grep -c '"generation_flop":[1-9].*"training_flop":[1-9]' demo/run/metrics.jsonl >/dev/null || die "no work in metrics.jsonl"
python=$(command -v python3)
if [ -n "$python" ]; then
    "$python" - demo.json <<'END' || die "demo.json is not complete"
import json, sys
numbers = json.load(open(sys.argv[1]))
assert numbers["seed"] == 7
for split in "trained", "held_out":
    for kind in "always", "sometimes", "never":
        for when in "base", "final":
            shares = numbers[split][kind][when]
            assert abs(shares["correct"] + shares["abstain"] + shares["wrong"] - 1) < 1e-4, shares
balance = numbers["krb"] # null while the base model is never right, as it may be when it has read so little
assert balance is None or balance["low"] <= balance["value"] <= balance["high"]
assert [row["step"] for row in numbers["decomposition"]] == [0, 3, 6]
for row in numbers["decomposition"]:
    assert abs(sum(row.values()) - row["step"] - 100) < 0.01, row
assert all(numbers["flop"][part] > 0 for part in ("pretraining", "answers", "training"))
END
fi

echo "-- its commands by hand"
works "$candor" demo --dry-run --out hand "${smaller[@]}"
[ ! -e hand ] || die "--dry-run did something"
[ "$(wc -l <.test.out)" = "$(grep -c '^candor ' .test.out)" ] || die "--dry-run prints more than commands"
mv .test.out commands
PATH=$BIN_DIR:$PATH bash -e commands >.test.out 2>.test.err </dev/null || die "by hand: $(tail -n 1 .test.err)"
same demo hand

echo "-- Ctrl-C in training, and --resume"
setsid "$candor" demo --out stopped --json stopped.json "${smaller[@]}" >.test.out 2>.test.err </dev/null &
demo=$!
wait_for "the first step" test -s stopped/run/metrics.jsonl
mapfile -t children < <(descendants $demo)
[ ${#children[@]} -ge 4 ] || die "the demo has only the children ${children[*]}"
kill -INT -- -$demo # as a terminal does: the foreground process group
wait $demo
code=$?
[ $code = 1 ] || die "after Ctrl-C: exit $code"
line=$(tail -n 1 .test.err)
[[ $line == "candor demo: stopped; this goes on where it was: candor demo --resume --seed 7 --out stopped --set sft.steps=80 "* ]] ||
    die "after Ctrl-C: $line"
wait_for "the end of all children" all_gone "${children[@]}"
[ ! -e stopped.json ] || die "numbers of a demo that was stopped"
refused 64 "--seed 8: stopped holds the world of --seed 7" "$candor" demo --resume --out stopped --seed 8
refused 65 "stopped: not empty" "$candor" demo --out stopped "${smaller[@]}"
works "$candor" demo --resume --out stopped --json stopped.json "${smaller[@]}"
grep -q "pretraining: done before" .test.err || die "--resume began anew"
same demo stopped
cmp demo.json stopped.json || die "other numbers after --resume"

echo "-- a demo that is killed takes its children with it"
setsid "$candor" demo --out killed "${smaller[@]}" >.test.out 2>.test.err </dev/null &
demo=$!
wait_for "pretraining" test -d killed/base.part
mapfile -t children < <(descendants $demo)
kill -KILL $demo
wait $demo 2>/dev/null
wait_for "the end of all children" all_gone "${children[@]}"
[ ! -e killed/base ] || die "half a model"
refused 78 "--set run.stepz: no such option; did you mean run.steps?" "$candor" demo --out other --set run.stepz=3
echo "-- good"
