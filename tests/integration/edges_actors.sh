#!/bin/bash
# Actors of one name; an actor that is slow but alive; a question that kills every actor that gets it (I8).
set -u
. "$SOURCE_DIR/tests/support/script.sh"
. "$SOURCE_DIR/tests/support/processes.sh"

undisturbed 4 4 64 24

echo "-- two actors of one name"
begin_learner twins
for number in 1 2; do # the number is the log's
    mkdir -p twins
    start twin$number "$actor" --run twins --set actor.name=twin --set actor.threads=1 --set actor.in_flight=16
done
wait_for "both of them" above 1 twins present actor
mapfile -t pids < <(peers | sed -n 's/.*"name":"twin".*"pid":\([0-9]*\),.*/\1/p' | sort -n)
[ "${pids[*]}" = "$(printf '%s\n' "${pid[twin1]}" "${pid[twin2]}" | sort -n | paste -sd ' ')" ] || die "pids: ${pids[*]}"
works "$candor" status --run twins
for number in 1 2; do
    grep -q "^  actor *twin on .*, pid ${pid[twin$number]}: " .test.out || die "status does not tell them apart: $(cat .test.out)"
done
both_hold() { ask twins && [ "$(peers | grep '"name":"twin"' | grep -c '"leases":[1-9]')" = 2 ]; }
wait_for "leases of both" both_hold # no reward worker yet: each fills its own room
peers | grep '"name":"twin"' | sed 's/.*"bytes":\([0-9]*\),"bytes_max":\([0-9]*\),.*/\1 \2/' |
    while read -r used most; do [ "$used" -gt 0 ] && [ "$used" -le "$most" ] || exit 1; done || die "credit: $(cat .test.status)"
begin_reward reward twins
finish learner-twins
stop twin1 twin2 reward
[ "$(column twins answered_by | sort -u)" = '{"twin":4}' ] || die "answered by others: $(column twins answered_by)"
same twins

if [ -n "$SANITIZE" ]; then
    echo "-- good; the slow one takes minutes under sanitizers, the deadly question needs a library before theirs"
    exit 0
fi

echo "-- an actor that is slow but alive keeps its lease"
begin_learner slow --set hub.lease_ms=700
begin_reward reward slow
begin_actor snail slow --set actor.in_flight=1
while kill -STOP "${pid[snail]}" && sleep 0.1 && kill -CONT "${pid[snail]}" && sleep 0.005; do :; done 2>/dev/null &
throttle=$!
wait_for "an answer of the snail" above 0 slow peer snail accepted
[ "$(sed -n 's/.*"mean_lease_ms":\([0-9]*\),.*/\1/p' .test.status)" -gt 700 ] || die "it was not slow: the test shows nothing"
[ "$(count lost) $(count gone) $(count expired)" = "0 0 $(count revived)" ] || die "its lease was lost: $(cat .test.status)"
begin_actor hare slow # which gets copies of what the snail works at
finish learner-slow
kill $throttle
wait $throttle 2>/dev/null
kill -CONT "${pid[snail]}"
stop snail hare reward
# each slot was filled once, whoever had copies of it
[ "$(tail -n 1 slow/metrics.jsonl | sed -n 's/.*"accepted":\([0-9]*\),.*"mismatches":\([0-9]*\),.*/\1 \2/p')" = "16 0" ] ||
    die "counted otherwise: $(tail -n 1 slow/metrics.jsonl)"
same slow

echo "-- a question that kills every actor"
victim=$(sed -n 3p one/rollouts/step-000001.jsonl) # in the second step, so that there is a checkpoint before it
id=$(sed 's/.*"id":"\([^"]*\)".*/\1/' <<<"$victim")
environment=("LD_PRELOAD=$BIN_DIR/libcandor-edges.so" "EDGES_POISON=$(sed 's/.*"question":"\([^"]*\)".*/\1/' <<<"$victim")")
for number in 1 2; do # started again whenever it died
    while :; do
        begin_actor mortal$number deadly --set actor.in_flight=64
        wait "${pid[mortal$number]}"
        [ $? = 137 ] || exit
    done 2>/dev/null &
done
begin_reward reward deadly
environment=()
begin_learner deadly --set hub.lease_ms=300 --set checkpoint.every=1
ends 1 learner-deadly "candor-learner: slot_stuck: stream=1 step=1 slot=2 question_id=\"$id\" losses=\"mortal[12]: *; mortal[12]: *; mortal[12]: *; mortal[12]: *; mortal[12]: *\" hint=\"run.skip_stuck = yes skips it\""
[ "$(lines deadly)" = 1 ] || die "$(lines deadly) steps were done"

echo "-- it is skipped when that is asked for, and the skip is on record"
begin_learner deadly --set hub.lease_ms=300 --set run.skip_stuck=yes
finish learner-deadly
says learner-deadly "slot_stuck stream=1 step=1 slot=2 question_id=\"$id\" .* skipped=1" || die "the log does not say so"
[ "$(column deadly stuck | tr '\n' ' ')" = "[] [\"$id\"] [] [] " ] || die "metrics say otherwise: $(column deadly stuck)"
[ "$(column deadly groups | tr '\n' ' ')" = "4 3 4 4 " ] || die "groups: $(column deadly groups)"
works "$candor" report deadly --out deadly.html
grep -q "1 questions were skipped because they were stuck: $id in step 1<" deadly.html || die "the report does not say so"
stop reward
echo "-- good"
