#!/bin/sh
# audit.sh -- make audit: what dev/AUDIT.md says, checked. Its tables are the lists: a library function, a system call
# or a file that the programs use and a table lacks is a failure.
#
#   dev/audit.sh BUILD [quick]        BUILD: the folder with the programs, build/native; needs strace, nm, readelf
#
# quick leaves out the two whole builds that must be equal, and the confined run. What follows the lists that failed
# are the names themselves.
cd "$(dirname "$0")/.." || exit 1
. tests/lib.sh
unset MAKEFLAGS MFLAGS                            # those of a make that this script was called from
build=$PWD/${1:-build/native} quick=${2-}
page=dev/AUDIT.md
programs="train eval convert chat explain survey errors clean compare report"    # bench measures, and is for developers

# The names in the first column of the table below a heading of the page.   listed "System calls"
listed() {
    sed -n "/^## $1/,/^## /p" $page | sed -n 's/^| \(`[^|]*`\) |.*/\1/p' | tr -d '`,' | tr ' ' '\n' | sort -u
}
# Lines of one file that the other lacks; none: good.   none_beyond FOUND LISTED
none_beyond() {
    [ -s "$1" ] && [ -s "$2" ] || { echo "nothing to compare: $1 $2"; return 1; }
    comm -23 "$1" "$2" > "$tmp/beyond"
    ! grep . "$tmp/beyond"
}
evidence() { printf '      %s\n' "$(printf '%s ' $*)"; }

# ---- library functions ------------------------------------------------------------------------------------
# Checked variants count as what they check; what the compiler's own start and OpenMP need has names of its own.
imported() {
    for p in $programs; do nm -D --undefined-only "$build/$p" || return 1; done |
        sed -e 's/.* //' -e 's/@.*//' -e 's/^__\(.*\)_chk$/\1/' -e 's/^__isoc99_//' -e 's/64$//' |
        grep -v -E '^(GOMP_|omp_|_ITM_|__gmon_start__|__cxa_finalize|__libc_start_main|__stack_chk_fail)' | sort -u
}
functions_listed() {
    listed "Library functions" > "$tmp/functions"
    imported > "$tmp/imported" && none_beyond "$tmp/imported" "$tmp/functions"
}
# The page's list could be wrong too: these must be in neither.
never="socket connect bind listen accept getaddrinfo gethostbyname system popen execv execve execvp execl posix_spawn
fork vfork dlopen dlsym mmap mprotect ptrace setuid gets strcat mktemp tmpnam setenv putenv syscall"
functions_harmless() {
    printf '%s\n' $never | sort > "$tmp/never"
    sort -u "$tmp/imported" "$tmp/functions" | comm -12 - "$tmp/never" > "$tmp/beyond"
    ! grep . "$tmp/beyond"
}
libraries_few() {
    for p in $programs; do readelf -d "$build/$p" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; done | sort -u > "$tmp/libraries"
    ! grep -v -E '^(libc|libm|libgomp|libomp|ld-linux.*)\.so' "$tmp/libraries"
}

# ---- system calls and files -------------------------------------------------------------------------------
# Every program in turn, on inputs in one folder and with outputs in another, so that what is written shows.
runs=0
traced() {
    p=$1 runs=$((runs + 1))
    shift
    strace -f -qq -e signal=none -o "$tmp/trace.$runs" "$build/$p" "$@" < "$tmp/keys" > "$tmp/said" 2>&1 ||
        { cat "$tmp/said"; return 1; }
}
exercise() {
    in=$tmp/in out=$tmp/out
    mkdir -p "$in" "$out"
    printf 'Where is my card?\n\n1\n2\nq\n' > "$tmp/keys"
    head -n 24 dev/demo/train.jsonl > "$in/rows.jsonl"
    sed -n 's/^{"input": "\(.*\)", "output": .*/\1/p' "$in/rows.jsonl" > "$in/text"
    printf '{"prompt": "%s", "completion": "yes"}\n' "Is it?" "Was it?" "Is that so?" > "$in/few.jsonl"
    sizes="layers=2 width=24 context=64 vocab=270 heads=2" base=$out/base.bin few=$in/few.jsonl
    traced train --init "$sizes" --text "$in/text" --steps 4 --batch 2 --threads 2 --save-every 2 --log "$out/log" \
        --out "$base" &&
        traced train --model "$base" --data "$in/rows.jsonl" --too-long cut --epochs 1 --batch 4 --threads 2 \
            --out "$out/full.bin" &&
        traced train --model "$base" --data "$few" --epochs 1 --save-every 1 --out "$out/full.bin" &&
        traced train --model "$base" --data "$few" --steps 2 --lora 2 --split 0 --out "$out/adapter.bin" &&
        traced train --model "$base" --data "$few" --check &&
        traced explain --model "$base" --data "$few" --row 2 --threads 2 &&
        traced survey "$few" --model "$base" --log "$out/survey" &&
        traced eval loss --model "$out/full.bin" --data "$few" --threads 2 &&
        traced eval answers --model "$out/full.bin" --data "$few" --max-tokens 4 --log "$out/answers.a" &&
        traced eval answers --model "$base" --data "$few" --max-tokens 4 --temperature 2 --log "$out/answers.b" --json &&
        traced convert "$out/adapter.bin" --merge "$base" "$out/merged.bin" &&
        traced convert "$out/merged.bin" "$out/folder/" &&
        traced convert "$out/folder" "$out/again.gguf" --dtype f16 &&
        traced convert "$out/again.gguf" "$out/back.bin" --dtype bf16 --template plain &&
        traced chat --model "$out/full.bin" --max-tokens 4 &&
        traced errors "$out/answers.a" "$out/answers.b" &&
        traced clean "$in/rows.jsonl" --out "$out/clean.jsonl" --changes "$out/changes" &&
        traced compare "$out/answers.a" "$out/answers.b" --log "$out/judged" &&
        traced report "$out/log" "$out/survey" "$out/answers.a"
}
calls_listed() {
    listed "System calls" > "$tmp/allowed"
    sed -n 's/^[0-9]* *\([a-z0-9_]*\)(.*/\1/p' "$tmp"/trace.* | sort -u > "$tmp/calls"
    none_beyond "$tmp/calls" "$tmp/allowed"
}
# One exec, strace's own; no thread that is not a thread; nothing mapped executable but by the loader
no_new_process() {
    for t in "$tmp"/trace.*; do
        [ "$(grep -c ' execve(' "$t")" = 1 ] || { echo "$t: more than one exec"; return 1; }
    done
    ! grep -h -E ' (clone|clone3|fork|vfork)\(' "$tmp"/trace.* | grep -v CLONE_THREAD
}
opened() { sed -n 's/^[0-9]* *openat([^"]*"\([^"]*\)", \([A-Z_|]*\).*/\2 \1/p' "$tmp"/trace.* | sort -u; }
writes_only_outputs() {
    opened | grep -E 'O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)' | sed 's/^[^ ]* //' > "$tmp/written"
    [ -s "$tmp/written" ] && ! grep -v -e "^$out/" "$tmp/written"
}
# Beyond the folders of inputs and outputs: what the page's table names, in which * is anything
reads_only_inputs() {
    opened | sed 's/^[^ ]* //' | grep -v -e "^$in/" -e "^$out" > "$tmp/others"
    listed "Files" | sed -e 's/[.]/\\./g' -e 's/\*/.*/g' -e 's/^/^/' -e 's/$/$/' > "$tmp/patterns"
    [ -s "$tmp/patterns" ] && ! grep -v -f "$tmp/patterns" "$tmp/others"
}
nothing_left() { ! find "$out" "$in" -name '*.tmp*' -o -name '*.writing*' -o -name '*.state' | grep .; }

# ---- the binaries -----------------------------------------------------------------------------------------
hardened() {
    for p in $programs; do
        readelf -h "$build/$p" | grep -q 'Type: *DYN' || { echo "$p: not position-independent"; return 1; }
        readelf -lW "$build/$p" | grep GNU_STACK | grep -q 'RW ' || { echo "$p: executable stack"; return 1; }
        readelf -lW "$build/$p" | grep -q GNU_RELRO || { echo "$p: no relro"; return 1; }
        readelf -d "$build/$p" | grep -q -E 'BIND_NOW|NOW' || { echo "$p: lazy binding"; return 1; }
    done
    nm -D "$build/train" | grep -q __stack_chk_fail && nm -D "$build/train" | grep -q '_chk@'
}
# Two copies of the tree, in folders of different names and depths, each built from nothing
twice() {
    for d in "$tmp/a" "$tmp/another/folder"; do
        mkdir -p "$d"
        git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$d" || return 1
        make -s -j 2 -C "$d" all > "$tmp/said" 2>&1 || { cat "$tmp/said"; return 1; }
    done
    for p in $programs; do cmp "$tmp/a/$p" "$tmp/another/folder/$p" || return 1; done
}

# ---- confined ---------------------------------------------------------------------------------------------
# The lines of the page's code block that begins so, as a command; @IN, @OUT are folders.   page_command bwrap
page_command() { sed -n "/^    $1 /,/^\$/p" $page | sed -e "s|@IN|$in|g" -e "s|@OUT|$out|g" -e "s|@BIN|$build|g"; }
confined() {
    rm -f "$out/tuned.bin"
    page_command bwrap > "$tmp/command" && [ -s "$tmp/command" ] && cp "$base" "$in/base.bin" &&
        sh "$tmp/command" && [ -s "$out/tuned.bin" ]
}
# The same model as an unconfined run writes, and no way out of the folders
confined_same() {
    "$build/train" --model "$in/base.bin" --data "$in/few.jsonl" --steps 2 --out "$out/free.bin" &&
        cmp "$out/free.bin" "$out/tuned.bin"
}
confined_shut() {
    sed 's|--out /out/tuned.bin|--out /in/escaped.bin|' "$tmp/command" > "$tmp/escape"
    ! cmp -s "$tmp/command" "$tmp/escape" && ! sh "$tmp/escape" 2> "$tmp/said" && grep -q 'Read-only' "$tmp/said"
}
by_systemd() {
    rm -f "$out/tuned.bin"
    page_command systemd-run > "$tmp/command" && sh "$tmp/command" && [ -s "$out/tuned.bin" ]
}
# Where systemd does not run: are all the properties of the line known to it?
systemd_knows() {
    {
        printf '[Service]\nType=oneshot\n'
        page_command systemd-run | grep -o -e '-p [A-Za-z]*=[^ ]*' | sed 's/^-p //'
        page_command systemd-run | sed -n "s|^ *\($build/train .*\)|ExecStart=\1|p"
    } > "$tmp/tune.service"
    systemd-analyze verify --man=no "$tmp/tune.service" > "$tmp/said" 2>&1 && ! grep . "$tmp/said"
}

# ---- sources ----------------------------------------------------------------------------------------------
short_files() { ! wc -l ./*.c ./*.h | awk '$2 != "total" && $1 > 1600' | grep .; }
# The sums that the bundled model's lineage has, and those of the list beside it
sources_known() {
    "$build/convert" --info dev/demo/base.bin | grep -o -E '[0-9a-f]{64}' | sort -u > "$tmp/lineage"
    cut -d ' ' -f 1 dev/demo/base.bin.sources | grep -E '^[0-9a-f]{64}$' | sort -u > "$tmp/sources"
    [ "$(wc -l < "$tmp/sources")" -gt 20 ] && comm -23 "$tmp/sources" "$tmp/lineage" > "$tmp/beyond" &&
        ! grep . "$tmp/beyond"
}

for tool in strace nm readelf; do
    command -v $tool > /dev/null || { echo "$tool is not here"; exit 1; }
done
for p in $programs; do
    [ -x "$build/$p" ] || { echo "$build/$p is not here: make"; exit 1; }
done
check "every library function is in the page's list" functions_listed
evidence "$(wc -l < "$tmp/imported") functions, of $(wc -l < "$tmp/functions") listed; not used here:" \
    "$(comm -13 "$tmp/imported" "$tmp/functions")"
check "none of them opens a connection, starts a program or loads code" functions_harmless
check "no library but the C library and OpenMP's" libraries_few
evidence "$(cat "$tmp/libraries")"
check "every program runs under strace" exercise
check "every system call is in the page's list" calls_listed
evidence "$runs runs: $(wc -l < "$tmp/calls") calls, of $(wc -l < "$tmp/allowed") listed; not used here:" \
    "$(comm -13 "$tmp/calls" "$tmp/allowed")"
check "no process is started, only threads" no_new_process
check "files are written only where an option says so" writes_only_outputs
check "files are read only where an option says so, but for the page's list" reads_only_inputs
check "no temporary file is left" nothing_left
check "position-independent, relro, no executable stack, guarded stacks, checked copies" hardened
check "no file of the top level is longer than 1,600 lines" short_files
check "the bundled model's lineage names the texts of its list" sources_known
if [ "$quick" != quick ]; then
    check "two builds in two folders are the same" twice
    evidence "$(cd "$tmp/a" && sha256sum $programs | cut -c 1-16,65-)"
    check "confined by bwrap: the page's line" confined
    check "confined by bwrap: the same model" confined_same
    check "confined by bwrap: the folder of inputs cannot be written" confined_shut
    if [ -d /run/systemd/system ]; then check "confined by systemd-run: the page's line" by_systemd
    elif command -v systemd-analyze > /dev/null; then
        check "systemd knows all properties of the page's line, which cannot be run here" systemd_knows
    else echo "note: no systemd here, so systemd-run was left out"; fi
fi
wc -l ./*.c ./*.h
finish
