#!/bin/bash
# Shell scripts parse, and what counts test results counts right.
set -u
cd "$SOURCE_DIR" || exit 1
bad=0
for file in deploy/quickstart deploy/steps.sh tests/run .ci/run tests/support/run_script tests/gpu/run tests/fault/torture \
    $(find tests -name '*.sh'); do
    bash -n "$file" || bad=1
done

got=$(awk -f tests/support/ctest_summary.awk <<'LOG'
1: [ RUN      ] a
1: [       OK ] a
1: [ RUN      ] b
1: skipped: no data
1: [  SKIPPED ] b
1: [  PASSED  ] 1 test(s).
1: [  SKIPPED ] 1 test(s), listed below:
1: [  SKIPPED ] b
1/5 Test #1: unit-x ....................   Passed    0.01 sec
2: [       OK ] c
2: [  FAILED  ] d
2: [  FAILED  ] 1 test(s), listed below:
2: [  FAILED  ] d
2/5 Test #2: unit-y ....................***Failed    0.01 sec
3: Segmentation fault
3/5 Test #3: unit-z ....................***Exception: SegFault  0.02 sec
4: no redis
4: skipped: no redis
4/5 Test #4: integration-r .............***Skipped   0.02 sec
5/5 Test #5: integration-s .............   Passed    0.02 sec
LOG
)
wanted=$'skipped\tunit-x/b\tno data\nfailed\tunit-y/d\nfailed\tunit-z\nskipped\tintegration-r\tno redis\ncount\t3'
if [ "$got" != "$wanted" ]; then
    printf 'ctest_summary.awk gives\n%s\nwhere this is right:\n%s\n' "$got" "$wanted"
    bad=1
fi
exit $bad
