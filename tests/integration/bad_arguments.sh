#!/bin/bash
# Wrong arguments, of every program and command: one line that names the argument and what would be right, exit code 64, nothing
# done. Help is everywhere.
set -u
. "$SOURCE_DIR/tests/support/script.sh"

echo "-- help, versions, unknown options"
commands=("$learner" "$actor" "$reward" "$candor demo" "$candor train" "$candor sft" "$candor eval" "$candor data world"
    "$candor data mix" "$candor data sft" "$candor data show" "$candor grade" "$candor generate" "$candor report" "$candor status"
    "$candor keygen")
for command in "${commands[@]}"; do
    refused 64 "--nonsense: no such option; --help lists them" $command --nonsense
done
for command in "$candor" "$candor data" "${commands[@]}"; do
    for help in --help -h; do
        works $command $help
        [[ $(head -n 1 .test.out) == "usage: ${command##*/}"* ]] || die "$command $help: $(head -n 1 .test.out)"
        [ ! -s .test.err ] || die "$command $help: $(cat .test.err)"
    done
done
works "$candor" train --run x --help
for program in "$candor" "$learner" "$actor" "$reward"; do
    works "$program" --version
    [[ $(cat .test.out) == "${program##*/} "[0-9]* ]] || die "$program --version: $(cat .test.out)"
done
"$candor" >.test.out 2>&1
[ $? = 64 ] || die "candor without a command: exit $?"
refused 64 "nonsense: no such command; \`candor help\` lists them" "$candor" nonsense
refused 64 "what to do is missing: right would be world, mix, sft or show" "$candor" data
refused 64 "nonsense: right would be world, mix, sft or show" "$candor" data nonsense

echo "-- missing values, strays, values out of range"
refused 64 "--config: needs a value" "$learner" --config
refused 64 "--run: needs a value" "$candor" train --run
refused 64 "--resume takes no value" "$candor" demo --resume=yes
refused 64 "stray: takes no arguments besides options" "$learner" stray
refused 64 "stray: takes no arguments besides options" "$candor" train stray
refused 64 "--seed 1.5: not a whole number" "$candor" demo --seed 1.5
refused 64 "--seed 99999999999999999999: not a whole number" "$candor" data world --out w --seed 99999999999999999999
refused 64 "--seed -1: not negative" "$candor" demo --seed -1
refused 64 "at most 1200 facts" "$candor" data world --out w --always 100000
refused 64 "1 to 1200" "$candor" data world --out w --always 0 --sometimes 0 --never 0
refused 64 "--out DIR is missing" "$candor" data world
refused 64 "--out DIR and at least one question file" "$candor" data mix --out m
refused 64 "--held-out: 0 or more, below 1" "$candor" data mix --out m --held-out 1 q.jsonl
refused 64 "at least one file" "$candor" data show
refused 64 "--run DIR is missing" "$candor" train --config run.ini
refused 64 "--actors x: not a whole number" "$candor" train --run r --actors x
refused 64 "--actors and --rewards: 0 to 255" "$candor" train --run r --actors 300
refused 64 "--threads -3: 0 to 1024" "$candor" train --run r --threads -3
refused 64 "--out DIR is missing" "$candor" sft --model m
refused 64 "what to start from" "$candor" sft --out o
refused 64 "exclude each other" "$candor" sft --out o --init i --model m
refused 64 "--model DIR or --run DIR is missing" "$candor" eval --out o
refused 64 "--data FILES" "$candor" eval --out o --model m
refused 64 "at least 1 each" "$candor" eval --out o --model m --actors 0
refused 64 "--threads 5000: 0 to 1024" "$candor" eval --out o --model m --threads 5000
refused 64 "--file and --out are needed" "$candor" grade --file f
refused 64 "--model DIR and one QUESTION" "$candor" generate --model m
refused 64 "--n: 1 to 256" "$candor" generate --model m --n 0 question
refused 64 "--temperature: 0 to 10" "$candor" generate --model m --temperature nan question
refused 64 "--temperature" "$candor" generate --model m --temperature hot question
refused 64 "name 1 to " "$candor" report
refused 64 "--rollouts: a step number" "$candor" report r --rollouts -5
refused 64 "--draws: 10 to 1000000" "$candor" report r --draws 1
refused 64 "--run DIR or --learner ENDPOINT is missing" "$candor" status
refused 64 "--timeout 0: 1 to 3600 seconds" "$candor" status --run r --timeout 0
refused 64 "one FILE is needed" "$candor" keygen
refused 64 "one FILE is needed" "$candor" keygen a b
refused 64 "more than 256 values" "$candor" report $(seq 300)
echo "-- good"
