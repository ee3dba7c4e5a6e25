# Reads the output of `ctest --verbose`, whose lines begin with the number of their test ("12: ...").
# Prints tab-separated: "count N" (cmocka tests and scripts that passed), "failed TEST", "skipped TEST REASON".
# With -v show=failed: prints what the failed tests wrote instead.

match($0, /^[0-9]+: /) {
    number = substr($0, 1, RLENGTH - 2)
    line = substr($0, RLENGTH + 1)
    if (line ~ /^(Test command: |Working Directory: |Environment variables: | SANITIZE=|Test timeout computed)/)
        next # ctest's own
    text[number] = text[number] line "\n"
    if (match(line, /^skipped: /))
        reason[number] = substr(line, RLENGTH + 1)
    else if (match(line, /^\[       OK \] /))
        ok[number]++
    else if (match(line, /^\[  SKIPPED \] /) && !(line ~ /test\(s\)/)) {
        name_skipped = substr(line, RLENGTH + 1)
        if (!seen[number, name_skipped]++) # cmocka lists them a second time at the end
            skipped[number] = skipped[number] name_skipped "\t" \
                (reason[number] != "" ? reason[number] : "no reason given") "\n"
        reason[number] = ""
    } else if (match(line, /^\[  FAILED  \] /) && !(line ~ /test\(s\)/)) {
        name_failed = substr(line, RLENGTH + 1)
        if (!seen[number, name_failed]++)
            bad[number] = bad[number] name_failed "\n"
    }
    next
}

# " 3/41 Test #12: name ......   Passed    0.01 sec"
match($0, /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: /) {
    rest = substr($0, RLENGTH + 1)
    number = $0
    sub(/^[^#]*#/, "", number)
    sub(/:.*/, "", number)
    name[number] = rest
    sub(/ .*/, "", name[number])
    verdict[number] = rest ~ /\*\*\*Skipped/ ? "skipped" : rest ~ / Passed / ? "passed" : "failed"
    order[++count] = number
}

END {
    for (i = 1; i <= count; i++) {
        n = order[i]
        if (show == "failed") {
            if (verdict[n] == "failed")
                printf "---- %s\n%s", name[n], text[n]
            continue
        }
        passed += ok[n]
        if (verdict[n] == "passed" && ok[n] == 0 && skipped[n] == "")
            passed++
        if (verdict[n] == "skipped")
            printf "skipped\t%s\t%s\n", name[n], reason[n] != "" ? reason[n] : "no reason given"
        lines = split(skipped[n], parts, "\n")
        for (j = 1; j < lines; j++)
            printf "skipped\t%s/%s\n", name[n], parts[j]
        lines = split(bad[n], parts, "\n")
        for (j = 1; j < lines; j++)
            printf "failed\t%s/%s\n", name[n], parts[j]
        if (verdict[n] == "failed" && lines < 2)
            printf "failed\t%s\n", name[n] # crashed, ran too long, leaked, or is a script
    }
    if (show != "failed")
        printf "count\t%d\n", passed
}
