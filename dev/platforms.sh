#!/bin/sh
# platforms.sh -- the same bytes on every processor: a tiny model is trained, fine-tuned, given an adapter and asked
# questions, in both shapes of block, on each platform that a cross-compiler of Debian and qemu's user mode can bring
# here. The programs are linked statically, so nothing of the platform is needed but its compiler.
#
#   dev/platforms.sh quick       aarch64, armhf (32 bits), s390x (big-endian) and musl against this machine: for CI
#   dev/platforms.sh all         every platform, then those that are only tried
#   dev/platforms.sh install     the packages that `all` needs, or `install quick`, by apt-get (as root)
#   dev/platforms.sh NAME...     lines of the table whose name begins so: s390x, "i686 SSE2 clang"
#
# Sums are of files whose lineage holds the SHA-256 of the file before: equal sums at the end mean equal files on the
# way. A line that differs, does not build or lacks its compiler fails; what is only tried never does.
cd "$(dirname "$0")/.." || exit 1
. tests/lib.sh
unset MAKEFLAGS MFLAGS                            # those of a make that this script was called from
top=$PWD
rows=24                                           # of the demo, for the tiny run; emulation takes 50 times as long

head -n $rows dev/demo/train.jsonl > "$tmp/rows"
sed -n 's/^{"input": "\(.*\)", "output": .*/\1/p' "$tmp/rows" > "$tmp/text"
printf '{"input": "%s", "output": "?"}\n' "Where is my card?" "refund" > "$tmp/questions"
sizes="layers=2 width=24 context=48 vocab=270"    # off the kernels' tiles

# run SHAPE BUILD RUNNER: the tiny run; prints the sums of the tuned model, of its adapter, and of the answers
run() {
    train="$3 $2/train" common="--batch 2 --threads 1"
    rm -f base full adapter log
    $train --init "$sizes $1" --text text --steps 6 $common --out base &&
        $train --model base --data rows --too-long cut --steps 4 $common --out full &&
        $train --model full --data rows --too-long cut --steps 4 $common --lora 2 --out adapter &&
        $3 "$2/eval" answers --model adapter --base full --data questions --max-tokens 6 --threads 1 --log log
} > "$tmp/said" 2>&1
sum() { sha256sum < "$tmp/$1" | cut -c 1-12; }
sums() {
    for shape in "heads=2" "heads=4 rms=1 rope=1 swiglu=1 kv_heads=2 tied=0"; do
        (cd "$tmp" && run "$shape" "$1" "$2") || return 1
        printf ' %s %s %s' "$(sum full)" "$(sum adapter)" "$(sum log)"
    done
}

# The line of a platform: what it got is compared with what the first one got.   verdict NAME SUMS
verdict() {
    : "${want:=$2}"
    if [ "$2" = "$want" ] && [ ${#2} -eq 78 ]; then
        passed=$((passed + 1)) word=ok
    else
        failed=$((failed + 1)) word=FAIL
    fi
    printf '%-20s %s  %s\n' "$1" "$2" "$word"
}
fails() {
    failed=$((failed + 1))
    printf '%-20s  %s  FAIL\n' "$1" "$2"
    tail -n 12 "$tmp/said" | sed 's/^/      | /'
}

# platform NAME COMPILER RUNNER FLAGS: builds both programs with the compiler and the flags, runs them
platform() {
    chosen "$1" || return 0
    cc=$2 build=$top/build/platforms/$(echo "$1" | tr ' ' '-')
    : > "$tmp/said"
    for tool in ${cc%% *} $3; do
        command -v "$tool" > /dev/null || { fails "$1" "no $tool here: dev/platforms.sh install"; return; }
    done
    shown=$(echo "$2 $4" | sed 's/-mprefer.*//')
    if make -s -j 2 CC="$cc" BUILD="$build" ARCH="$4" OPENMP= HARDEN= LIBS=-lm OPT=-O2 DEFINE="-static -Werror" "$build/train" \
        "$build/eval" > "$tmp/said" 2>&1
    then got=$(sums "$build" "$3") && verdict "$1" "$got" || fails "$1" "does not run ($shown)"
    else fails "$1" "does not build ($shown)"
    fi
}
# The same where this processor may lack an instruction.   x86 NAME COMPILER FLAG-OF-THE-PROCESSOR FLAGS
x86() {
    if chosen "$1" && ! grep -qw "$3" /proc/cpuinfo; then echo "$1: left out, this processor lacks $3"; return; fi
    platform "$1" "$2" "" "$4"
}
chosen() {
    [ "$names" ] || return 0
    IFS='|'
    for name in $names; do
        case $1 in "$name"*) unset IFS; return 0 ;; esac
    done
    unset IFS
    return 1
}

# ---- tried ------------------------------------------------------------------------------------------------
# Compiled in one go, with lacking.h for what they lack of POSIX; whatever becomes of them, nothing fails.
attempt() {
    chosen "$1" || return 0
    exe=
    case $2 in wine) exe=.exe ;; esac
    name=$1 runner=$2 build=$top/build/platforms/$(echo "$1" | tr ' ' '-')
    shift 2
    mkdir -p "$build"
    for p in train eval; do
        "$@" -std=c99 -o "$build/$p$exe" $p.c model.c tokenizer.c data.c -lm $after > "$tmp/said" 2>&1 && continue
        printf '%-20s  does not build: %s\n' "$name" "$(grep -m 1 -i -E 'error|not found' "$tmp/said")"
        return
    done
    [ ! "$exe" ] || for p in train eval; do mv "$build/$p.exe" "$build/$p"; done
    if got=$(sums "$build" "$runner") && [ "$got" = "$want" ]; then word="the same"; else word="differs"; fi
    printf '%-20s %s  %s\n' "$name" "${got:- does not run: $(tail -n 1 "$tmp/said")}" "$word"
}
tried() {
    numbers="-O2 -ffp-contract=off -fno-math-errno -include dev/lacking.h"
    [ "$names" ] || printf '\ntried, and no part of the verdict\n'
    after=-static                                 # clang 14 and qemu 7.2: wrong from the first loss on, ln V
    attempt "s390x clang" qemu-s390x-static clang --target=s390x-linux-gnu $numbers
    after=
    attempt "tcc" "" tcc
    cat > "$tmp/wasi.mjs" <<'JS'
import { WASI } from 'wasi';
import { readFileSync } from 'fs';
const wasi = new WASI({ version: 'preview1', args: process.argv.slice(2), preopens: { '.': '.' }, returnOnExit: true });
const module = await WebAssembly.compile(readFileSync(process.argv[2]));
process.exit(wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject())));
JS
    after="-lwasi-emulated-signal -lwasi-emulated-getpid -Wl,-z,stack-size=1048576"    # not 64 KiB
    attempt "WebAssembly clang" "node --no-warnings $tmp/wasi.mjs" clang --target=wasm32-wasi $numbers \
        -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_GETPID
    after=
    after="-static -lpthread" WINEPREFIX=$top/build/platforms/wine WINEDEBUG=-all
    export WINEPREFIX WINEDEBUG
    attempt "Windows mingw-w64" wine x86_64-w64-mingw32-gcc $numbers
}

few="gcc musl-tools qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-s390x-linux-gnu
libc6-dev-s390x-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
packages="$few clang gcc-i686-linux-gnu libc6-dev-i386-cross
gcc-riscv64-linux-gnu libc6-dev-riscv64-cross gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross
tcc lld wasi-libc libclang-rt-14-dev-wasm32 nodejs gcc-mingw-w64-x86-64 wine64 wine"
names=
case ${1-} in
    quick)   names="x86-64 SSE2 gcc|x86-64 musl|aarch64 gcc|armhf gcc|s390x gcc" ;;
    all)     ;;
    install) [ "${2-}" = quick ] && packages=$few; exec apt-get install -y -qq --no-install-recommends $packages ;;
    '')      sed -n 's/^#   //p' "$0"; exit 1 ;;
    *)       names=$1; shift; for name in "$@"; do names="$names|$name"; done ;;
esac

want=""
printf '%-20s  %-38s %-38s\n' "" "GPT-2: full    adapter      answers" "Llama: full    adapter      answers"
platform "x86-64 SSE2 gcc"    gcc "" "-march=x86-64"
platform "x86-64 SSE2 clang"  clang "" "-march=x86-64"
x86      "x86-64 AVX2 gcc"    gcc avx2 "-march=x86-64-v3"
x86      "x86-64 AVX2 clang"  clang avx2 "-march=x86-64-v3"
x86      "x86-64 AVX-512 gcc" gcc avx512vl "-march=x86-64-v4 -mprefer-vector-width=512"
x86      "x86-64 AVX-512 clang" clang avx512vl "-march=x86-64-v4 -mprefer-vector-width=512"
platform "x86-64 musl gcc"    musl-gcc "" "-march=x86-64"
sse="-march=i686 -msse2 -mfpmath=sse"             # the x87 has one precision, and it is not float's
platform "i686 SSE2 gcc"      i686-linux-gnu-gcc qemu-i386-static "$sse"
platform "i686 SSE2 clang"    "clang --target=i686-linux-gnu" qemu-i386-static "$sse"
platform "aarch64 gcc"        aarch64-linux-gnu-gcc qemu-aarch64-static ""
platform "aarch64 clang"      "clang --target=aarch64-linux-gnu" qemu-aarch64-static ""
platform "armhf gcc"          arm-linux-gnueabihf-gcc qemu-arm-static ""
platform "armhf clang"        "clang --target=arm-linux-gnueabihf" qemu-arm-static "-march=armv7-a -mfpu=vfpv3-d16"
platform "riscv64 gcc"        riscv64-linux-gnu-gcc qemu-riscv64-static ""
platform "riscv64 clang"      "clang --target=riscv64-linux-gnu" qemu-riscv64-static "-march=rv64gc"
platform "ppc64le gcc"        powerpc64le-linux-gnu-gcc qemu-ppc64le-static ""
platform "ppc64le clang"      "clang --target=powerpc64le-linux-gnu" qemu-ppc64le-static ""
platform "s390x gcc"          s390x-linux-gnu-gcc qemu-s390x-static ""
tried
finish
