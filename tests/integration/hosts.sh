#!/bin/bash
# README's "Several hosts", as it is written there: its block of commands is run, with ports of this test's own. All of it over this
# host's own address, so with keys and allow-lists; a key that is not on the list gets nothing until it is put there.
set -u
. "$SOURCE_DIR/tests/support/script.sh"
PATH=$BIN_DIR:$PATH

host=$(hostname -I 2>/dev/null | awk '{print $1}')
[[ $host == *.* ]] || host=127.0.0.1
tiny_world
mkdir allowed

# The block's lines with their continuations joined; every command that stays is run in the background.
base=$((20000 + $$ % 20000))
sed -n '/^## Several hosts/,/^## /p' "$SOURCE_DIR/README.md" | sed -n '/^```sh/,/^```$/p' | sed -e '/^```/d' -e 's/  *#.*//' -e '/^#/d' |
    sed -e ':a' -e '/\\$/N; s/\\\n *//; ta' |
    sed -e "s/HOST/$host/g" -e "s/:5555/:$base/g" -e "s/:5556/:$((base + 1))/g" -e "s/:5557/:$((base + 2))/g" >.test.commands
[ "$(wc -l <.test.commands)" = 7 ] || die "README has $(wc -l <.test.commands) commands: $(cat .test.commands)"

declare -A pid
trap 'kill "${pid[@]}" 2>/dev/null' EXIT
while IFS= read -r command; do
    read -r program _ <<<"$command"
    case $program in
        candor) [[ $command == *status* ]] && status=$command || works $command ;;
        *)
            $command --set hub.heartbeat_ms=100 >"$program.log" 2>&1 </dev/null &
            pid[$program]=$!
            ;;
    esac
done <.test.commands

wait_for "the learner" grep -q ' ready ' candor-learner.log
sleep 1
! grep -q ' joined ' candor-actor.log candor-reward.log || die "a key that is not on the list was let in"
cp actor.key.pub reward.key.pub allowed/
wait_for "the actor's connection" grep -q ' joined ' candor-actor.log
works $status
grep -q 'actor ' .test.out || die "status: $(cat .test.out)"
wait "${pid[candor-learner]}" || die "the learner ended with $?: $(tail -n 3 candor-learner.log)"
grep -q 'run_ends step=3 of=3 reason="done"' candor-learner.log || die "$(tail -n 3 candor-learner.log)"
for program in candor-actor candor-reward; do
    kill -TERM "${pid[$program]}"
    wait "${pid[$program]}" || die "$program ended with $? on SIGTERM: $(tail -n 3 $program.log)"
done
echo "the run's $(wc -l <run/metrics.jsonl) steps over $host"
