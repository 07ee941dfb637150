#!/usr/bin/env python3
"""Checks the demo's rows against what the labelling guide's page promises: labels, lengths, near-duplicates, openings.

usage: python3 dev/demo/check.py dev/demo/train.jsonl dev/demo/test.jsonl

A near-duplicate is a row that shares half or more of its three-word sequences with another row (Jaccard >= 0.5).
"""
import collections, itertools, json, re, sys

LABELS = {f"{d}, {u}" for d in ("delivery", "returns", "technical", "billing", "account") for u in ("urgent", "normal")}
rows = [(path, json.loads(line)) for path in sys.argv[1:] for line in open(path, encoding="utf-8")]
words = [re.findall(r"[a-z0-9']+", r["input"].lower()) for _, r in rows]
bad = [(p, r) for p, r in rows if set(r) != {"input", "output"} or r["output"] not in LABELS or not r["input"].isascii()]

grams = [{tuple(w[i:i + 3]) for i in range(len(w) - 2)} for w in words]
index = collections.defaultdict(list)
for i, g in enumerate(grams):
    for x in g:
        index[x].append(i)
shared = collections.Counter()
for who in index.values():
    if len(who) <= 50:                              # a sequence in more rows than that says nothing
        shared.update(itertools.combinations(who, 2))
near = {j for (i, j), n in shared.items() if n / len(grams[i] | grams[j]) >= 0.5}

openings = collections.Counter(tuple(w[:4]) for w in words)
(opening, most), = openings.most_common(1)
print(f"rows {len(rows)}   " + "   ".join(f"{p} {sum(q == p for q, _ in rows)}" for p in sys.argv[1:]))
for label, n in sorted(collections.Counter(r["output"] for _, r in rows).items()):
    print(f"  {label:20} {n:5}  {100 * n / len(rows):4.1f} %")
print(f"words a message: {min(map(len, words))} to {max(map(len, words))}, mean {sum(map(len, words)) / len(words):.1f}")
print(f"near-duplicates: {len(near)} ({100 * len(near) / len(rows):.2f} %, at most 1 %)")
print(f"most frequent four-word opening: '{' '.join(opening)}' {most} times ({100 * most / len(rows):.2f} %, at most 2 %)")
sys.exit(bool(bad) or len(near) > 0.01 * len(rows) or most > 0.02 * len(rows) or len(rows) < 1000)
