#!/bin/bash
# The whole pipeline as real processes over ipc, on a tiny model: the number of actors and reward workers, their order, kills and
# resumes change no bit of the weights; what stops a learner is one line and an exit code.
set -u

learner=$BIN_DIR/candor-learner actor=$BIN_DIR/candor-actor reward=$BIN_DIR/candor-reward
steps=6
declare -A pid

die() {
    echo "FAILED: $*"
    tail -n 5 ./*.log
    exit 1
}

# start NAME PROGRAM ARGUMENTS...: in the background, its output in NAME.log
start() {
    local name=$1
    shift
    "$@" >>"$name.log" 2>&1 &
    pid[$name]=$!
}

# stop NAMES...: SIGTERM, and they must end well
stop() {
    local name
    for name in "$@"; do kill -TERM "${pid[$name]}" 2>/dev/null; done
    for name in "$@"; do wait "${pid[$name]}" || die "$name ended with $? on SIGTERM"; done
}

destroy() { # destroy NAMES...: SIGKILL
    local name
    for name in "$@"; do
        kill -KILL "${pid[$name]}"
        wait "${pid[$name]}" 2>/dev/null
    done
}

finish() { # finish NAME: it ends by itself, with 0
    wait "${pid[$1]}" || die "$1 ended with $?"
}

# refused CODE WORDS COMMAND...: ends with this code, its last line says this
refused() {
    local code=$1 words=$2 got line
    shift 2
    timeout 60 "$@" >refused.out 2>&1
    got=$?
    line=$(tail -n 1 refused.out)
    [ $got = "$code" ] || die "$*: exit $got instead of $code: $line"
    [[ $line == candor-learner:*$words* ]] || die "\"$line\" does not say \"$words\""
}

# column RUN KEY: the values of a key, a line a step
column() { sed -n "s/.*\"$2\":\(\"[^\"]*\"\|{[^}]*}\|[^,}]*\)[,}].*/\1/p" "$1/metrics.jsonl"; }

lines() { [ -f "$1/metrics.jsonl" ] && wc -l <"$1/metrics.jsonl" || echo 0; }

# wait_for_steps RUN COUNT: until so many steps are written down
wait_for_steps() {
    local i
    for ((i = 0; i < 600; i++)); do
        [ "$(lines "$1")" -ge "$2" ] && return
        sleep 0.05
    done
    die "$1: step $2 does not come"
}

# One life of actors and reward workers; they find the learner of RUN by its directory.
workers() { # workers RUN ACTORS REWARDS
    mkdir -p "$1"
    local i
    for ((i = 1; i <= $2; i++)); do
        start "actor$i" "$actor" --run "$1" --set "actor.name=actor$i" --set actor.threads=1 --set actor.in_flight=16 \
            --set actor.outbox_bytes=65536
    done
    for ((i = 1; i <= $3; i++)); do
        start "reward$i" "$reward" --run "$1"
    done
}

# same RUN [OTHER]: weights after every step, answers and the last checkpoint are those of run OTHER, else of run one
same() {
    local other=${2:-one} last=checkpoints/step-0000000$steps
    [ "$(lines "$1")" = $steps ] || die "$1: $(lines "$1") steps"
    cmp -s <(column "$other" weights) <(column "$1" weights) || die "$1: other weights than run $other"
    diff -r "$other/rollouts" "$1/rollouts" >diff.out || die "$1: other answers than run $other: $(head -n 3 diff.out)"
    cmp "$other/$last/model.safetensors" "$1/$last/model.safetensors" || die "$1: another model than run $other"
    cmp "$other/$last/optimiser.safetensors" "$1/$last/optimiser.safetensors" || die "$1: another optimiser than run $other"
}

echo "-- a small world and a model that half knows it"
"$BIN_DIR/candor" data world --seed 3 --always 20 --sometimes 20 --never 20 --out world >/dev/null || die "no world"
"$BIN_DIR/candor" sft --init world --out base --set sft.data=world/sft.jsonl --set sft.steps=50 --set sft.batch=32 \
    --set sft.lr=3e-3 --set sft.warmup=10 >/dev/null || die "no model"
cat >run.ini <<END
[run]
steps = $steps
lag = 1
[model]
path = base
[data]
train = world/train.jsonl
eval = world/held-out.jsonl
[prompt]
system = Answer
[sample]
questions = 24
group = 8
max_new_tokens = 12
[loss]
kl = 0.01
[optim]
lr = 3e-4
warmup = 0
[eval]
every = 3
samples = 4
[train]
threads = 1
[checkpoint]
every = 2
[hub]
heartbeat_ms = 100
lease_ms = 3000
END

echo "-- one actor, one reward worker"
workers one 1 1
start learner "$learner" --config run.ini --run one
finish learner
stop actor1 reward1
[ "$(lines one)" = $steps ] || die "run one: $(lines one) steps"
[ "$(column one weights | sort -u | wc -l)" = $steps ] || die "run one: weights that did not change"
[ "$(column one grad_norm | grep -c '^0$')" = 0 ] || die "run one: a gradient of 0"
[ "$(grep -c " delta version=" learner.log)" = $steps ] || die "run one: not a delta for each step"
[ "$(grep -c " weights_loaded " actor1.log)" = 1 ] || die "run one: the actor took more than one whole snapshot"
[ "$(grep -c " weights_patched " actor1.log)" -ge $steps ] || die "run one: the actor did not go on by deltas"
for version in 0 3 6; do
    [ "$(wc -l <one/eval/step-00000$version.jsonl)" = 31 ] || die "eval of version $version: right would be a header and 30 questions"
done

echo "-- three actors, two reward workers, started before the learner"
workers many 3 2
start learner "$learner" --config run.ini --run many --set train.threads=2
finish learner
stop actor1 actor2 actor3 reward1 reward2
for i in 1 2 3; do
    column many answered_by | grep -q "\"actor$i\"" || die "actor$i delivered nothing: the test shows nothing"
done
[ "$(column many scored_by | grep -o '"[^"]*":' | sort -u | wc -l)" = 2 ] || die "one reward worker did all: the test shows nothing"
cmp -s <(column one arrival) <(column many arrival) && die "groups arrived in the same order: the test shows nothing"
same many

echo "-- the learner is killed, an actor is killed, a reward worker is replaced"
workers killed 2 1
start learner "$learner" --config run.ini --run killed
wait_for_steps killed 1
destroy actor1
wait_for_steps killed 3
destroy learner reward1
start reward2 "$reward" --run killed
start learner "$learner" --config run.ini --run killed
finish learner
stop actor2 reward2
grep -q " resumed step=" learner.log || die "the killed run did not resume: the test shows nothing"
same killed

echo "-- SIGTERM, and a resume with other workers"
workers stopped 1 1
start learner "$learner" --config run.ini --run stopped
wait_for_steps stopped 1
stop learner actor1 reward1
[ "$(lines stopped)" -lt $steps ] || die "the run was over before it was stopped: the test shows nothing"
workers stopped 2 1
start learner "$learner" --config run.ini --run stopped
finish learner
stop actor1 actor2 reward1
same stopped

echo "-- moments of eight bits: learning goes on, a kill changes no bit, six bytes a parameter less are kept"
workers coded 1 1
start learner "$learner" --config run.ini --run coded --set optim.moments=int8 --set eval.every=0
finish learner
stop actor1 reward1
[ "$(column coded weights | sort -u | wc -l)" = $steps ] || die "run coded: weights that did not change"
cmp -s <(column one weights | head -n 1) <(column coded weights | head -n 1) || die "run coded: its first step is not AdamW's"
cmp -s <(column one weights) <(column coded weights) && die "run coded: the weights of fp32 moments: the test shows nothing"
workers again 1 1
start learner "$learner" --config run.ini --run again --set optim.moments=int8 --set eval.every=0
wait_for_steps again 3
destroy learner
start learner "$learner" --config run.ini --run again --set optim.moments=int8 --set eval.every=0
finish learner
stop actor1 reward1
[ "$(grep -c " resumed step=" learner.log)" = 3 ] || die "the run again did not resume: the test shows nothing"
same again coded
refused 78 "optim.moments: int8 -> fp32" "$learner" --config run.ini --run coded --set eval.every=0
size() { stat -c %s "$1/checkpoints/step-0000000$steps/optimiser.safetensors"; }
[ $(($(size one) * 41 / 100)) -gt "$(size coded)" ] || die "the optimiser takes $(size coded) bytes, with fp32 moments $(size one)"
for kind in fp32 int8; do
    grep -q " memory_plan .* moments=$kind optimiser_gb=" learner.log || die "the memory plan does not tell of moments of $kind"
done

echo "-- strictly on-policy: the ratio is exactly 1"
workers lag0 2 1
start learner "$learner" --config run.ini --run lag0 --set run.lag=0 --set run.steps=3 --set eval.every=0
finish learner
stop actor1 actor2 reward1
[ "$(column lag0 behaviour_gap | tr '\n' ' ')" = "0 0 0 " ] || die "lag 0: log-probabilities differ: $(column lag0 behaviour_gap)"
[ "$(column lag0 ratio_max | tr '\n' ' ')" = "1 1 1 " ] || die "lag 0: ratios other than 1"
[ "$(column one behaviour_gap | tail -n 1)" != 0 ] || die "lag 1: no difference at all"

echo "-- what stops a learner is one line and an exit code"
refused 78 "optim.lr: 0.0003 -> 0.1" "$learner" --config run.ini --run one --set optim.lr=0.1
refused 78 "run.step" "$learner" --config run.ini --run new --set run.step=3
refused 78 "data.train" "$learner" --config run.ini --run new --set data.train=
refused 65 "nowhere" "$learner" --config run.ini --run new --set model.path=nowhere
start learner "$learner" --config run.ini --run busy --set hub.control=tcp://127.0.0.1:18471
for ((i = 0; i < 100; i++)); do grep -q "ready step=0" <(tail -n 3 learner.log) && break || sleep 0.05; done
refused 75 "another learner" "$learner" --config run.ini --run busy --set hub.control=tcp://127.0.0.1:18472
refused 78 "hub.control" "$learner" --config run.ini --run other --set hub.control=tcp://127.0.0.1:18471
stop learner
# a disk that takes no file above 64 KB: the checkpoint fails and says so, nothing half-written is left
workers full 1 1
(trap '' XFSZ && ulimit -f 64 && exec "$learner" --config run.ini --run full --set run.steps=2 --set eval.every=0) >full.log 2>&1
code=$?
[ $code = 1 ] || die "a full disk: exit $code"
[[ $(tail -n 1 full.log) == "candor-learner: the last checkpoint: "* ]] || die "a full disk: $(tail -n 1 full.log)"
[ -z "$(ls full/checkpoints)" ] || die "a full disk: $(ls full/checkpoints) is left"
stop actor1 reward1
echo "-- good"
