#!/bin/bash
# Processes that are killed or told to stop under `candor train` and `candor eval`: one line, no orphans, nothing half-written, and the
# same command goes on to the same bits. `candor status` sees a run at work; `candor generate` asks what came of it.
set -u
. "$SOURCE_DIR/tests/support/script.sh"

steps=40 questions=16
[ -z "$SANITIZE" ] || steps=8 questions=4
tiny_world $((2 * steps))
sed -i "s/^steps = 3/steps = $steps/; s/^group = 4/group = 8/; s/^questions = 4/questions = $questions/" run.ini
last=checkpoints/$(printf 'step-%08d' $steps)/model.safetensors

steps_done() { [ -f "$1/metrics.jsonl" ] && [ "$(wc -l <"$1/metrics.jsonl")" -ge "$2" ]; }

# begin RUN ARGUMENTS...: candor train in the background, until it has made steps
begin() {
    local run=$1
    shift
    "$candor" train --config run.ini --run "$run" "$@" >.test.train.out 2>.test.train.err </dev/null &
    train=$!
    wait_for "a step of $run" steps_done "$run" 3
    mapfile -t children < <(cat /proc/$train/task/*/children | tr ' ' '\n' | grep .)
}

child() { # child PROGRAM: its process
    local pid
    for pid in "${children[@]}"; do
        [ "$(basename "$(readlink "/proc/$pid/exe")")" = "$1" ] && echo "$pid"
    done
}

all_gone() { ! kill -0 "${children[@]}" 2>/dev/null; }

# ends CODE WORDS: the train begun last ends so, and its children with it
ends() {
    local line code
    wait $train
    code=$?
    line=$(tail -n 1 .test.train.err)
    [ $code = "$1" ] || die "candor train: exit $code instead of $1: $line"
    [[ $line == "candor train: "*$2* ]] || die "\"$line\" does not say \"$2\""
    wait_for "the end of all children" all_gone
}

same() { cmp "one/$last" "$1/$last" || die "$1: other weights than a run that nobody stopped"; }

echo "-- status of a run at work; one learner at a time"
begin one
works "$candor" status --run one
for word in actor-1 reward "weights "; do
    grep -q "$word" .test.out || die "status does not tell of \"$word\": $(cat .test.out)"
done
works "$candor" status --run one --json
[[ $(cat .test.out) == "{"*'"peers":'*"}" ]] || die "status --json: $(cat .test.out)"
may_leave=./one refused 75 "one: another learner has this run" "$candor" train --config run.ini --run one
wait $train || die "candor train: $(tail -n 1 .test.train.err)"

echo "-- SIGTERM to candor train alone"
begin stopped
kill -TERM $train
ends 1 "stopped at a checkpoint; this goes on from there: candor train --run stopped"
[ "$(cat stopped/checkpoints/latest)" != "$(basename "${last%/*}")" ] || die "the run was over before it was stopped: the test shows nothing"
works "$candor" train --run stopped
same stopped

echo "-- the learner is killed"
begin killed --set checkpoint.every=2
kill -KILL "$(child candor-learner)"
ends 1 "learner: killed by signal 9"
works "$candor" train --run killed
same killed

echo "-- actor and reward worker are killed: new ones go on"
begin restarted
kill -KILL "$(child candor-actor)" "$(child candor-reward)"
wait $train || die "candor train: $(tail -n 1 .test.train.err)"
[ "$(grep -c 'child_restarted' .test.train.err)" = 2 ] || die "not both were started again: $(cat .test.train.err)"
same restarted

echo "-- candor train itself is killed"
begin orphans
kill -KILL $train
wait $train 2>/dev/null
wait_for "the end of all children" all_gone

echo "-- SIGTERM to an evaluation"
mkdir temporary
TMPDIR=$PWD/temporary "$candor" eval --config run.ini --model base --out evaluation --set eval.samples=256 >.test.train.out 2>.test.train.err &
train=$!
wait_for "two daemons" eval '[ "$(cat /proc/$train/task/*/children | wc -w)" = 2 ]'
mapfile -t children < <(cat /proc/$train/task/*/children | tr ' ' '\n' | grep .)
kill -TERM $train
wait $train
[ $? = 1 ] || die "a stopped evaluation: exit $?"
[[ $(tail -n 1 .test.train.err) == "candor eval: stopped; nothing was written"* ]] || die "$(tail -n 1 .test.train.err)"
wait_for "the end of all children" all_gone
[ ! -e evaluation ] || die "a stopped evaluation left $(ls -R evaluation)"

echo "-- what came of it answers"
ask=("$candor" generate --model "one/${last%/*}" --system Answer --n 4)
works "${ask[@]}" "Where does Leon Fischer live ?"
mv .test.out first
[ "$(grep -c 'log-probability' first)" = 4 ] || die "not four answers: $(cat first)"
works "${ask[@]}" "Where does Leon Fischer live ?"
cmp first .test.out || die "the same seed gives other answers"
works "${ask[@]}" --seed 2 "Where does Leon Fischer live ?"
! cmp -s first .test.out || die "another seed gives the same answers"
works "${ask[@]}" --temperature 0 --max-tokens 3 "Where does Leon Fischer live ?"
[ "$(grep -v log-prob .test.out | sort -u | wc -l)" = 1 ] || die "at temperature 0 answers differ: $(cat .test.out)"
echo "-- good"
