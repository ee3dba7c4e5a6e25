#!/bin/bash
# Being told to stop, with and without somebody to talk to; a second signal; two learners on one run directory, and a lock whose owner
# was killed. The run goes on to the same bits each time.
set -u
. "$SOURCE_DIR/tests/support/script.sh"
. "$SOURCE_DIR/tests/support/processes.sh"

undisturbed 6 12 16 24

echo "-- an actor in the middle of an answer gives its lease back"
begin_learner r1
begin_reward reward r1
for ((try = 1; try <= 10; try++)); do # it may just have finished
    begin_actor "giver$try" r1 --set actor.in_flight=1
    wait_for "a lease" above 0 r1 peer "giver$try" samples
    stop "giver$try"
    says "giver$try" "left undelivered=0" || die "it left something: $(tail -n 1 "giver$try.log")"
    above 0 r1 count given_back && break
done
[ $try -le 10 ] || die "nothing was given back"
[ "$(count gone) $(count lost) $(count expired)" = "0 0 0" ] || die "it was missed: $(cat .test.status)"
[[ $(hub_state) == *"waiting for an actor" ]] || die "the learner does not say that it waits for an actor: $(hub_state)"

echo "-- a second learner is refused, and changes nothing"
cp r1/config.ini .test.config
ln -s r1 .test.link
for run in r1 .test.link; do
    may_leave='./*' refused 75 "$run: another learner has this run; right would be one at a time" \
        "$learner" --config run.ini --run $run --set optim.lr=0.1
done
cmp .test.config r1/config.ini || die "the second learner wrote into the run"

echo "-- a lock whose owner was killed"
begin_actor actor r1
wait_for "two more steps" has_steps r1 $(($(lines r1) + 2))
destroy learner-r1
[ "$(lines r1)" -lt 6 ] || die "the run was over before its learner was killed: the test shows nothing"
begin_learner r1
finish learner-r1
stop actor reward
same r1

echo "-- nobody was ever there: a stop is no wait"
mkdir nowhere
begin_actor lonely nowhere --set net.drain_ms=3600000
begin_reward hermit nowhere --set net.drain_ms=3600000
for name in lonely hermit; do
    wait_for "what $name waits for" says $name 'waiting status="waiting for the learner; net.learner = ipc://.*/nowhere/sockets/control"'
done
stop lonely hermit
begin_learner nowhere
wait_for "a learner without anybody" says learner-nowhere " ready "
stop learner-nowhere

echo "-- the learner stops while groups wait for a reward worker"
begin_learner r2
begin_actor patient r2 --set net.drain_ms=3600000
begin_actor hasty r2 --set net.drain_ms=300
for name in patient hasty; do wait_for "groups of $name" above 0 r2 peer $name outbox_groups; done
stop learner-r2
for name in patient hasty; do # a good-bye may be lost like any message
    wait_for "word of $name" says $name 'hub_lost reason="the learner stops"\|waiting status="waiting for the learner;'
done

echo "-- the learner is gone: a drain has its deadline, and a second signal ends it"
begin_learner r2
for name in patient hasty; do wait_for "$name to join again" above 0 r2 peer $name outbox_groups; done
destroy learner-r2
for name in patient hasty; do
    wait_for "what $name waits for" says $name 'waiting status="waiting for the learner; net.learner = ipc://.*/r2/sockets/control"'
done
stop hasty
says hasty "left undelivered=[1-9]" || die "hasty had nothing to drop: the test shows nothing"
kill -TERM "${pid[patient]}"
wait_for "patient to begin to stop" says patient " stopping signal=15"
sleep 0.5
lives patient || die "patient did not wait for a learner: $(tail -n 1 patient.log)"
kill -TERM "${pid[patient]}"
ends 143 patient

echo "-- a reward worker with groups that the learner does not take; the learner was started from another directory"
start learner-r2 env -C / "$learner" --config "$PWD/r2/config.ini" --run "$PWD/r2"
begin_actor actor r2
wait_for "groups of the actor" above 0 r2 peer actor outbox_groups
begin_reward first r2 --set net.drain_ms=300
freeze learner-r2
sleep 0.5
stop first
thaw learner-r2
begin_reward second r2
finish learner-r2
stop actor second
same r2
echo "-- good"
