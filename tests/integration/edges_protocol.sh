#!/bin/bash
# Another protocol is refused in words that name both numbers, on each socket and on both sides; whoever cannot go on ends with 78
# (configuration), and the run does not notice.
set -u
. "$SOURCE_DIR/tests/support/script.sh"
. "$SOURCE_DIR/tests/support/processes.sh"
stranger=$BIN_DIR/candor-stranger

undisturbed 4 8 8 12

refuses() { # refuses WORDS ARGUMENTS...: what is said to a stranger, for good
    local line
    line=$(timeout 30 "$stranger" "${@:2}") || die "candor-stranger ${*:2}: nobody answers"
    [ "$line" = "refuse: $1 again=0" ] || die "candor-stranger ${*:2}: \"$line\" is not \"$1\""
}

echo "-- strangers at a hub and at a reward worker"
begin_learner run
begin_reward reward run
wait_for "the reward worker" above 0 run present reward
control=ipc://$PWD/run/sockets/control
groups=$(peers | sed -n 's/.*"endpoint":"\([^"]*\)".*/\1/p')
for role in 0 1; do
    refuses "protocol 2, this hub speaks 1: build both from one version" hello "$control" $role 2
done
says learner-run 'peer_refused peer="stranger" host="elsewhere" reason="protocol 2, this hub speaks 1' ||
    die "the learner's log does not say whom it refused: $(tail -n 3 learner-run.log)"
refuses "protocol 2; this reward worker speaks 1" knock "$groups" 2
ask run
[ "$(count refused) $(count malformed)" = "2 0" ] || die "counted otherwise: $(cat .test.status)"

echo "-- the run goes on"
begin_actor actor run
finish learner-run
stop actor reward
same run

echo "-- actor and reward worker at a hub of another protocol"
mkdir -p other/sockets
for how in refuse welcome; do
    start stranger "$stranger" $how "ipc://$PWD/other/sockets/control" 2
    for name in actor reward; do
        case $how.$name in
            refuse.*) words="candor-$name: net.learner: the learner refuses this *: protocol 1, this hub speaks 2" ;;
            *.*) words="candor-$name: net.learner: it speaks protocol 2, this * 1: install the same release on both" ;;
        esac
        begin_$name $name other
        ends 78 $name "$words"
    done
    destroy stranger
    rm -f other/sockets/control
done
echo "-- good"
