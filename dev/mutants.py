#!/usr/bin/env python3
"""mutants.py -- do the tests notice when a line of the rooms is wrong?

    python3 dev/mutants.py [--count 200] [--seed 1] [--work DIR] [--only FILE] [--list]

Draws one-line changes of model.c, tokenizer.c and data.c (an operator, a constant, a condition, a statement that goes),
each in a copy of the tree, builds at -O1 and runs the unit tests that reach the file, then the scripts, until one fails.
A mutant whose object code is the original's changes nothing and is not counted. Survivors that dev/mutants.txt lists
change no behaviour either, for the reason given there. Exit status 0 if at least 95 % of the others died.
"""
import argparse
import os
import random
import re
import shutil
import subprocess
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
FILES = ["model.c", "tokenizer.c", "data.c"]
UNIT = {"model.c": ["test_model", "test_grad", "test_lora", "test_rooms"],
        "tokenizer.c": ["test_rooms", "test_convert", "test_gguf", "test_eval"],
        "data.c": ["test_rooms", "test_convert", "test_gguf", "test_eval"]}
SCRIPTS = ["cli.sh", "chat.sh", "answers.sh", "resume.sh"]
PASS = 0.95
# what is replaced, by what; a space on both sides keeps pointers, includes and exponents out
CHANGES = [(r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "),
           (r" && ", " || "), (r" \|\| ", " && "), (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "),
           (r" \+= ", " -= "), (r" % ", " / "), (r" & ", " | "), (r" << ", " >> "), (r"\+\+", "--"), (r"\bif \((?!!)", "if (!"),
           (r"\b1\b", "2"), (r"\b0\b", "1"), (r"\b2\b", "3"), (r"\b64\b", "65"), (r"return -1;", "return 0;"),
           (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"^(\s+)[a-z][\w\[\]>.-]* [-+*/|^&]?= [^;]*;$", r"\1;"),
           (r"^(\s+)(?!return\b)[a-z]\w*\([^;]*\);$", r"\1;")]


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
        inside = inside or (head and line.endswith("{"))
    return out


def draw(rng, texts):
    name = rng.choices(FILES, [len(texts[f]) for f in FILES])[0]
    text = texts[name]
    i = rng.choice(code_lines(text))
    line = text[i]
    code = line.split("//")[0]
    spots = [(m, new) for old, new in CHANGES for m in re.finditer(old, code) if code[:m.start()].count('"') % 2 == 0]
    if not spots:
        return None
    m, new = rng.choice(spots)
    return name, i, line[:m.start()] + m.expand(new) + line[m.end():]


def run(command, cwd, seconds):
    env = dict(os.environ, OMP_WAIT_POLICY="passive", CK_DEFAULT_TIMEOUT="60", LC_ALL="C")
    try:
        done = subprocess.run(command, cwd=cwd, env=env, timeout=seconds, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False


def listed():
    path = os.path.join(ROOT, "dev", "mutants.txt")
    if not os.path.exists(path):
        return {}
    out, key = {}, None
    for line in open(path, encoding="utf-8"):
        if line.startswith("- "):
            key = [line[2:].rstrip("\n")]
        elif line.startswith("+ ") and key:
            key.append(line[2:].rstrip("\n"))
        elif line.startswith("  ") and key and len(key) == 2:
            out[tuple(key)] = line.strip()
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--count", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--work", default=os.path.join(ROOT, "build", "mutants"))
    p.add_argument("--only", choices=FILES)
    p.add_argument("--list", action="store_true", help="print the changes and stop")
    a = p.parse_args()
    texts = {f: open(os.path.join(ROOT, f), encoding="utf-8").read().split("\n") for f in FILES}
    rng, known = random.Random(a.seed), listed()
    tree, build = os.path.join(a.work, "tree"), "build/mutants"
    if not a.list:
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("build", ".git"))
        make = ["make", "-j2", f"BUILD={build}", "OPT=-O1", "programs"]
        tests = sorted({f"{build}/{t}" for f in FILES for t in UNIT[f]})
        if not run(make + tests + [f"{build}/pty", f"{build}/train_kill"], tree, 1200):
            sys.exit("the tree itself does not build")
        for t in tests:
            if not run([t], tree, 600):
                sys.exit(f"{t} fails without a mutant")
    seen, counted, died, same, equivalent, survivors = set(), 0, 0, 0, 0, []
    while counted < a.count:
        drawn = draw(rng, texts)
        if drawn is None or drawn in seen or (a.only and drawn[0] != a.only):
            continue
        seen.add(drawn)
        name, i, new = drawn
        if a.list:
            counted += 1
            print(f"{name}:{i + 1}\n- {texts[name][i].strip()}\n+ {new.strip()}")
            continue
        path, thing = os.path.join(tree, name), os.path.join(tree, build, name[:-2] + ".o")
        before = open(thing, "rb").read()
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(texts[name][:i] + [new] + texts[name][i + 1:]))
        fate = None
        if not run(["make", f"BUILD={build}", "OPT=-O1", f"{build}/{name[:-2]}.o"], tree, 300):
            fate = "does not compile"
        elif open(thing, "rb").read() == before:
            fate, same = "same code", same + 1
        else:
            counted += 1
            for t in UNIT[name]:
                if not (run(["make", f"BUILD={build}", "OPT=-O1", f"{build}/{t}"], tree, 300) and
                        run([f"{build}/{t}"], tree, 300)):
                    fate = t
                    break
            if fate is None:
                run(["make", "-j2", f"BUILD={build}", "OPT=-O1", "programs", f"{build}/train_kill"], tree, 300)
                fate = next((s for s in SCRIPTS if not run(["sh", f"tests/{s}", build], tree, 600)), None)
            key = texts[name][i].strip(), new.strip()
            if fate:
                died += 1
            elif key in known:
                equivalent, fate = equivalent + 1, "listed: " + known[key]
            else:
                survivors.append((name, i + 1, *key))
                fate = "SURVIVED"
        print(f"{name}:{i + 1}: {fate}\n  - {texts[name][i].strip()}\n  + {new.strip()}", flush=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(texts[name]))
        run(["make", f"BUILD={build}", "OPT=-O1", f"{build}/{name[:-2]}.o"], tree, 300)
    if a.list:
        return 0
    share = died / max(1, counted - equivalent)
    print(f"{counted} mutants of other code than the original's ({same} more were the same): {died} died, "
          f"{equivalent} listed as equivalent, {len(survivors)} survived: {share:.3f} of those that change behaviour")
    return share < PASS


sys.exit(main())
