#!/usr/bin/env python3
"""mutants.py -- do the tests notice when a line of the rooms is wrong?

    python3 dev/mutants.py [--count 200] [--seed 1] [--work DIR] [--only FILE] [--list] [--units]

Draws one-line changes of model.c, tokenizer.c and data.c (an operator, a constant, a condition, a statement that goes) and
builds each at -O1 in a copy of the tree, from objects that are kept: only what the line reaches is compiled. The unit tests
run, the quickest first, until a check fails; then some of them under the sanitizers; at last the scripts, which take minutes.
--units leaves the scripts out. A mutant whose object code is the original's changes nothing and is not counted.

First every stage runs on the unchanged code: it must pass there, and the processor time that it takes sets its limit.
DIR/results has a line a mutant, written as it ends, so a run that is stopped goes on where it was; started again, what died
stays dead, while its file's text is the same, and what survived is tried again. What dev/mutants.txt lists changes no behaviour, for the reason given there; its
scripts are not run. Exit status 0 if at least 95 % of the others died and none that is listed did.
"""
import argparse
import hashlib
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
FILES = ["model.c", "tokenizer.c", "data.c"]
# Programs, some with one of their suites or :cases, the quickest first.
OTHERS = ["test_rooms edges", "test_eval", "test_rooms train", "test_convert", "test_gguf"]
MODEL = ["test_lora", "test_model :PyTorch", "test_model :edges", "test_model :checks", "test_model :sampling",
         "test_model :kernels", "test_model :identities", "test_grad"]
UNIT = {"model.c": [*MODEL, "test_rooms data", *OTHERS],
        "tokenizer.c": ["test_rooms tokenizer", "test_rooms data", "test_rooms rows", *OTHERS],
        "data.c": ["test_rooms data", "test_rooms rows", "test_rooms tokenizer", *OTHERS]}
SANITIZED = {"model.c": ["test_lora"], "tokenizer.c": ["test_rooms"], "data.c": ["test_rooms"]}
SCRIPTS = ["answers.sh", "chat.sh", "resume.sh", "cli.sh", "faults.sh all"]
PROGRAMS = ["train", "eval", "convert", "chat", "explain", "survey", "errors", "train_kill", "pty", "train_faults",
            "eval_faults", "convert_faults"]
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all"
PASS, HOURS, MEMORY = 0.95, 4 * 3600, 6 << 30         # bytes: a mutant may well ask for all there is
TIMES, SECONDS = 3, 10                                # a stage may take so much more than on the unchanged code
# what is replaced, by what; a space on both sides keeps pointers, includes and exponents out
CHANGES = [(r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "),
           (r" && ", " || "), (r" \|\| ", " && "), (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "),
           (r" \+= ", " -= "), (r" % ", " / "), (r" & ", " | "), (r" << ", " >> "), (r"\+\+", "--"), (r"\bif \((?!!)", "if (!"),
           (r"\b1\b", "2"), (r"\b0\b", "1"), (r"\b2\b", "3"), (r"\b64\b", "65"), (r"return -1;", "return 0;"),
           (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"^(\s+)[a-z][\w\[\]>.-]* [-+*/|^&]?= [^;]*;$", r"\1;"),
           (r"^(\s+)(?!return\b)[a-z]\w*\([^;]*\);$", r"\1;")]


# ---- drawing --------------------------------------------------------------------------------------------------

def code_lines(text):
    """Numbers of the lines inside functions that are neither comment nor preprocessor's nor assertion."""
    head, inside, out = False, False, []
    for i, line in enumerate(text):
        bare = line.strip()
        if line.startswith("}"):
            head = inside = False
        elif inside and bare and not bare.startswith(("//", "#", "assert", "}")):
            out.append(i)
        head = head or (not inside and re.match(r"[A-Za-z][\w *]*\(", line) is not None and not line.endswith(";"))
        inside = inside or (head and line.split("//")[0].rstrip().endswith("{"))
    return out


def draw(rng, text):
    i = rng.choice(code_lines(text))
    line = text[i]
    code = line.split("//")[0]
    spots = [(m, new) for old, new in CHANGES for m in re.finditer(old, code) if code[:m.start()].count('"') % 2 == 0]
    if not spots:
        return None
    m, new = rng.choice(spots)
    return i, line[:m.start()] + m.expand(new) + line[m.end():]


# ---- running --------------------------------------------------------------------------------------------------

def run(command, cwd, seconds, fails=None, suite="", sanitized=False):
    """None if the command succeeded within so much processor time, else why not: a line that begins with `fails`, which
    ends it, or that it was late, or nothing more."""
    def limits():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not sanitized:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    some = {"CK_RUN_CASE" if suite[0] == ":" else "CK_RUN_SUITE": suite.lstrip(":")} if suite else {}
    env = dict(os.environ, OMP_WAIT_POLICY="passive", CK_FORK="no", LC_ALL="C",
               ASAN_OPTIONS=f"hard_rss_limit_mb={MEMORY >> 20}", **some)
    p = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=limits)
    # What waits for nothing takes no processor time; what gets none on a busy machine is no mutant's fault.
    watch = threading.Timer(HOURS, lambda: os.killpg(p.pid, signal.SIGKILL))
    watch.start()
    failed = None
    try:
        for line in p.stdout:
            if b"Checks: 0," in line:
                sys.exit(f"{command[0]} has no suite {suite}")
            if fails and line.startswith(fails):
                failed = " (" + line[len(fails):].decode(errors="replace").strip() + ")"
                break
        if failed:
            os.killpg(p.pid, signal.SIGTERM)
        p.stdout.close()
        p.wait()
    finally:
        watch.cancel()
        if p.poll() is None:
            os.killpg(p.pid, signal.SIGKILL)
    if failed or p.returncode == 0:
        return failed
    return ", time-out" if p.returncode in (-signal.SIGXCPU, -signal.SIGKILL) else ""


# ---- building -------------------------------------------------------------------------------------------------

class Build:
    """The Makefile's own commands, split into objects, which are kept by what goes into them, and the links."""
    WRAP = "void __wrap__ck_assert_failed(void);\nvoid _exit(int);\nvoid __wrap__ck_assert_failed(void) { _exit(1); }\n"

    def __init__(self, work, name, *variables):
        self.tree, self.out, self.bin = work + "/tree", "build/" + name, f"{work}/{name}"
        self.cache, self.sanitized = work + "/objects", "SANITIZE" in " ".join(variables)
        for d in (self.cache, self.bin):
            os.makedirs(d, exist_ok=True)
        tests = {t.split()[0] for f in FILES for t in UNIT[f]}
        targets = [f"{self.out}/{t}" for t in sorted(tests | set(PROGRAMS))]
        make = ["make", "-n", "-B", "BUILD=" + self.out, *variables, *targets]
        rules = open(self.tree + "/Makefile", encoding="utf-8").read() + repr(make)
        kept = f"{self.cache}/{hashlib.sha256(rules.encode()).hexdigest()}.commands"
        if not os.path.exists(kept):
            said = subprocess.run(make, cwd=self.tree, check=True, capture_output=True, text=True).stdout
            with open(kept, "w", encoding="utf-8") as f:
                f.write(said)
        said = open(kept, encoding="utf-8").read()
        lines = [shlex.split(s.lstrip("-")) for s in said.split("\n") if f" -o {self.out}/" in s]
        self.command = {words[words.index("-o") + 1]: words for words in lines}
        self.fast = work + "/fast.c"                 # the first check that fails ends the program
        with open(self.fast, "w", encoding="utf-8") as f:
            f.write(self.WRAP)

    def reached(self, source, seen):
        """The text of a source and of all that it includes from the tree."""
        path = os.path.normpath(os.path.join(self.tree, source))
        if path in seen or not os.path.exists(path):
            return b""
        seen.add(path)
        text = open(path, "rb").read()
        for name in re.findall(rb'^#include "(.*)"', text, re.M):
            for base in (os.path.dirname(path), self.tree):
                text += self.reached(os.path.join(base, name.decode()), seen)
        return text

    def object(self, source, flags):
        key = hashlib.sha256(" ".join([source, *flags]).encode() + self.reached(source, set())).hexdigest()
        path = f"{self.cache}/{key}.o"
        if not os.path.exists(path):
            subprocess.run([*flags, "-c", source, "-o", path + "~"], cwd=self.tree, check=True, stderr=subprocess.DEVNULL)
            os.rename(path + "~", path)
        return path

    def room(self, name):
        return self.made(f"{self.out}/{name[:-2]}.o")

    def made(self, target):
        """The object that is a target, or the flags and objects of a program."""
        words = self.command[target]
        keep = [w for i, w in enumerate(words) if "-o" not in words[max(0, i - 1):i + 1]]
        flags = [w for w in keep if not re.search(r"\.[co]$|^-l|^-Wl|^-pie$|^-c$", w)]
        if "-c" in words:
            return self.object(next(w for w in keep if w.endswith(".c")), flags)
        objects = [self.made(w) if w.endswith(".o") else self.object(w, flags) if w.endswith(".c") else w for w in keep]
        if target.startswith(self.out + "/test_"):
            objects += ["-Wl,--wrap=_ck_assert_failed", self.fast]
        path = f"{self.bin}/{os.path.basename(target)}"
        subprocess.run([*objects, "-o", path], cwd=self.tree, check=True, stderr=subprocess.DEVNULL)
        return path

    def program(self, name):
        return self.made(f"{self.out}/{name}")


# ---- judging --------------------------------------------------------------------------------------------------

def used():
    times = os.times()
    return times.children_user + times.children_system


def limits_of(build, tests):
    """The seconds that each stage may take: from what it takes on the unchanged code, where it has to pass."""
    out = {}
    for t in sorted(tests):
        name, _, suite = t.partition(" ")
        program, before = build.program(name), used()
        if run([program], build.tree, HOURS, suite=suite, sanitized=build.sanitized) is not None:
            sys.exit(f"{t} fails on the unchanged code")
        out[t] = SECONDS + int(TIMES * (used() - before))
        print(f"{'sanitized ' * build.sanitized}{t}: at most {out[t]} s", flush=True)
    return out


def tried(build, tests, label):
    """What notices the change: a test that fails, or takes too long, or nothing."""
    for t in tests:
        name, _, suite = t.partition(" ")
        why = run([build.program(name)], build.tree, build.limits[t], suite=suite, sanitized=build.sanitized)
        if why is not None:
            return label + t + why
    return None


def scripts(build):
    for p in PROGRAMS:
        build.program(p)
    for s in SCRIPTS:
        name, _, how = s.partition(" ")
        why = run(["sh", "tests/" + name, build.bin, *how.split()], build.tree, 600, b"FAIL")
        if why is not None:
            return s + why
    return None


def judged(plain, sane, name, base, listed, units):
    try:
        if open(plain.room(name), "rb").read() == base:
            return "same code"
    except subprocess.CalledProcessError:
        return "compiler"
    fate = tried(plain, UNIT[name], "") or tried(sane, SANITIZED[name], "sanitized ")
    return fate or (None if units or listed else scripts(plain)) or "SURVIVED"


def listed_ones():
    path = os.path.join(ROOT, "dev", "mutants.txt")
    out, key = {}, None
    for line in open(path, encoding="utf-8") if os.path.exists(path) else []:
        if line.startswith("- "):
            key = [line[2:].rstrip("\n")]
        elif line.startswith("+ ") and key:
            key.append(line[2:].rstrip("\n"))
        elif line.startswith("  ") and key and len(key) == 2:
            out[tuple(key)] = (out.get(tuple(key), "") + " " + line.strip()).strip()
    return out


def table(results):
    """Prints the fates by file; True if too few died, or one that is listed did."""
    def row(name, n):
        share = n["died"] / max(1, n["died"] + n["survived"])
        print(f"{name:12}{n['drawn']:7}{n['same']:11}{n['compiler']:10}{n['tests']:7}{n['time']:9}{n['listed']:12}"
              f"{n['survived']:10}{share:8.3f}")
        return share
    print(f"{'':12}{'drawn':>7}{'same code':>11}{'compiler':>10}{'tests':>7}{'time-out':>9}{'equivalent':>12}"
          f"{'survived':>10}{'share':>8}")
    names = ("drawn", "same", "compiler", "tests", "time", "listed", "survived", "died")
    total, wrong = dict.fromkeys(names, 0), 0
    known = listed_ones()
    for name in FILES:
        n = dict.fromkeys(names, 0)
        for (f, _, old, new), fate in results.items():
            if f != name:
                continue
            n["drawn"] += 1
            if fate == "same code":
                n["same"] += 1
            elif fate == "SURVIVED":
                n["listed" if (old, new) in known else "survived"] += 1
            else:
                n["compiler" if fate == "compiler" else "time" if fate.endswith("time-out") else "tests"] += 1
                n["died"] += 1
                if (old, new) in known:
                    wrong += 1
                    print(f"listed as equivalent, but died by {fate}: {old}  ->  {new}")
        row(name, n)
        total = {k: total[k] + n[k] for k in names}
    share = row("all", total)
    return share < PASS or wrong > 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: the same command goes on from here"))
    p = argparse.ArgumentParser()
    p.add_argument("--count", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--work", default=os.path.join(ROOT, "build", "mutants"))
    p.add_argument("--only", choices=FILES)
    p.add_argument("--list", action="store_true", help="print the changes and stop")
    p.add_argument("--units", action="store_true", help="no scripts")
    a = p.parse_args()
    texts = {f: open(os.path.join(ROOT, f), encoding="utf-8").read().split("\n") for f in FILES}
    stamp = {f: hashlib.sha256("\n".join(texts[f]).encode()).hexdigest()[:16] for f in FILES}
    share = {f: len(code_lines(texts[f])) for f in FILES}
    a.work = os.path.abspath(a.work)
    known, before, results = listed_ones(), {}, {}
    log = os.path.join(a.work, "results")
    if not a.list:
        os.makedirs(a.work, exist_ok=True)
        for line in open(log, encoding="utf-8") if os.path.exists(log) else []:
            *key, of, fate = line.rstrip("\n").split("\t")
            if len(key) == 4 and of == stamp[key[0]]:
                before[tuple(key)] = fate
        shutil.rmtree(a.work + "/tree", ignore_errors=True)
        shutil.copytree(ROOT, a.work + "/tree", ignore=shutil.ignore_patterns("build", ".git"))
        plain, sane = Build(a.work, "plain", "OPT=-O1"), Build(a.work, "sane", "OPT=-O1 -g", "SANITIZE=" + SANITIZE)
        bases = {f: open(plain.room(f), "rb").read() for f in FILES}
        plain.limits = limits_of(plain, {t for f in FILES for t in UNIT[f]})
        sane.limits = limits_of(sane, {t for f in FILES for t in SANITIZED[f]})
        fate = None if a.units else scripts(plain)
        if fate:
            sys.exit(f"{fate} fails on the unchanged code")
    for name in [a.only] if a.only else FILES:
        rng, seen, counted, text = random.Random(f"{a.seed} {name}"), set(), 0, texts[name]
        while counted < (a.count if a.only else round(a.count * share[name] / sum(share.values()))):
            drawn = draw(rng, text)
            if drawn is None or drawn in seen:
                continue
            seen.add(drawn)
            i, new = drawn
            key = (name, str(i + 1), text[i].strip(), new.strip())
            if a.list:
                counted += 1
                print(*key, sep="\t")
                continue
            fate = before.get(key)
            if fate is None or (fate == "SURVIVED" and key[2:] not in known):
                path = f"{a.work}/tree/{name}"
                with open(path, "w", encoding="utf-8") as f:
                    f.write("\n".join(text[:i] + [new] + text[i + 1:]))
                fate = judged(plain, sane, name, bases[name], key[2:] in known, a.units)
                with open(path, "w", encoding="utf-8") as f:
                    f.write("\n".join(text))
                with open(log, "a", encoding="utf-8") as f:
                    f.write("\t".join([*key, stamp[name], fate]) + "\n")
                print(f"{name}:{i + 1}: {fate}\n  - {key[2]}\n  + {key[3]}", flush=True)
            results[key] = fate
            counted += fate != "same code"
    return 0 if a.list else table(results)


sys.exit(main())
