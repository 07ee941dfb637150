# lib.sh -- what the test scripts share: a folder of their own, named checks, the closing line.
set -u
LC_ALL=C OMP_WAIT_POLICY=passive                  # threads that wait sleep: 8 of them on 2 cores don't crawl
export LC_ALL OMP_WAIT_POLICY
passed=0 failed=0
tmp=$(mktemp -d "${TMPDIR:-/tmp}/tune_test_XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# check NAME COMMAND...: passed if the command, often a function, exits with 0; if not, what it printed is shown.
check() {
    check_name=$1
    shift
    if "$@" > "$tmp/check.said" 2>&1; then
        passed=$((passed + 1))
        echo "PASS  $check_name"
    else
        failed=$((failed + 1))
        echo "FAIL  $check_name"
        sed -n -e 's/^/      | /' -e '1,40p' "$tmp/check.said"
    fi
}

# The last line of every script, and its exit status.
finish() {
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}
