#!/bin/bash
# The learner moves to another address: its host dies, its run directory is brought to another one, the name that actors and reward
# workers know it by leads there now. They wait, say for what, find it by themselves, and the run goes on to the same bits.
set -u
. "$SOURCE_DIR/tests/support/script.sh"
. "$SOURCE_DIR/tests/support/processes.sh"

if [ -n "$SANITIZE" ]; then
    echo "a library that is put before the sanitizer's"
    exit 77
fi

undisturbed 12 12 16 24

free_port() { # a port of ADDRESS that nobody listens on
    local port
    for ((i = 0; i < 100; i++)); do
        port=$((10000 + RANDOM % 20000)) # below those that the system gives out by itself
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
    done
}
control=$(free_port) weights=$(free_port) groups=$(free_port)
mkdir -p keys/allow
for name in learner actor reward; do works "$candor" keygen keys/$name; done
cp keys/actor.pub keys/reward.pub keys/allow
moved_to() { echo "learner.test $1" >.test.hosts; } # the name service

learner_at() { # learner_at ADDRESS RUN
    environment=()
    begin_learner "$2" --set net.key=keys/learner --set net.allow=keys/allow --set "hub.control=tcp://$1:$control" \
        --set "hub.weights=tcp://$1:$weights" --set checkpoint.every=2
}

moved_to 127.0.0.1
environment=("LD_PRELOAD=$BIN_DIR/libcandor-edges.so" "EDGES_HOSTS=$PWD/.test.hosts")
start actor env "${environment[@]}" "$actor" --set net.key=keys/actor --set net.learner_key=keys/learner.pub \
    --set "net.learner=tcp://learner.test:$control" --set actor.name=actor --set actor.threads=1
start reward env "${environment[@]}" "$reward" --set net.key=keys/reward --set net.learner_key=keys/learner.pub \
    --set net.allow=keys/allow --set "net.learner=tcp://learner.test:$control" --set "reward.bind=tcp://127.0.0.1:$groups"

echo "-- its first host"
learner_at 127.0.0.1 first
wait_for "four steps" has_steps first 4
destroy learner-first
[ "$(lines first)" -lt 12 ] || die "the run was over before it moved: the test shows nothing"

echo "-- nobody there"
for name in actor reward; do
    wait_for "what $name waits for" says $name "waiting status=\"waiting for the learner; net.learner = tcp://learner.test:$control\""
    lives $name || die "$name gave up: $(tail -n 1 $name.log)"
done

echo "-- its second host"
cp -r first second
mv first gone
moved_to 127.0.0.2
learner_at 127.0.0.2 second
finish learner-second
says learner-second " resumed step=" || die "it did not go on: the test shows nothing"
stop actor reward
same second
echo "-- good"
