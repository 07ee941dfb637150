# tables.py -- puts what performance.sh measured into the tables of dev/PERFORMANCE.md, between the comments
# <!-- NAME --> and <!-- /NAME -->. A section that was not measured leaves its table's rows out.
#
#   python dev/peers/tables.py OUT PERFORMANCE.md COMMIT      COMMIT: of what was measured
import json
import re
import sys
from pathlib import Path

out, page, commit = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


def section(name):
    path = out / f"{name}.jsonl"
    return [json.loads(l) for l in path.read_text().splitlines()] if path.exists() else []


def find(lines, start):
    return next((l for l in lines if l["what"].startswith(start)), None)


def number(x):
    return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}" if x < 1 else f"{x:.1f}" if x >= 100 else f"{x:.2f}"


def figure(l):
    return f"{number(l['value'])} {l['unit']}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows])


train, growth, torch, rows, others = (section(n) for n in ("train", "growth", "torch", "rows", "others"))


def against(what, ours, theirs, bar, larger_is_better=True):
    """A bar against a peer; both lines were measured in one section's run."""
    if not ours or not theirs:
        return []
    ratio = ours["value"] / theirs["value"] if larger_is_better else theirs["value"] / ours["value"]
    both = f"{figure(ours)}; {figure(theirs)}"
    return [(what, both, f"{ratio:.2f} x", f">= {bar:.2f} x", verdict(ratio, bar))]


def verdict(judged, bar, at_most=False):
    if (judged <= bar) if at_most else (judged >= bar):
        return "reached"
    return f"missed by {abs(judged / bar - 1):.1%}"


def bars():
    result = []
    for l in train + growth + rows:
        if "bar" not in l:
            continue
        of = f"{l['fraction']:.3f} of {l['of']}" if "of" in l else ""
        sign = "<=" if l["at_most"] else ">="
        product = l["unit"] == "% of step"
        result.append((("product, " if product else "") + l["what"].strip(), "" if product else figure(l), of,
                       f"{sign} {l['bar']:.2f}", verdict(l["judged"], l["bar"], l["at_most"])))
    tokens = lambda lines: find(lines, "  tokens per second")
    torches = [l for l in torch if l["what"].startswith("PyTorch") and "T=256" in l["what"]]
    best = max(torches, key=lambda l: l["value"], default=None)
    result += against("full step B=4 T=256, PyTorch's faster one", tokens(torch), best, 4 / 3)
    result += against("full step B=4 T=64, llm.c", tokens(others), find(others, "llm.c"), 4.5)
    result += against("one epoch, TRL", find(rows, "./train full"), find(rows, "TRL, "), 2.5, False)
    tokenize = find(others, "tokenize, 1 thread")
    result += against("tokenizer, tiktoken", tokenize, find(others, "tiktoken"), 4.0)
    result += against("tokenizer, tokenizers", tokenize, find(others, "tokenizers"), 20.0)
    chat = find(others, "start of ./chat")
    if chat:
        result.append((chat["what"], figure(chat), "", "<= 0.50", verdict(chat["value"], 0.5, True)))
    return table(("what", "figure", "of its limit", "bar", ""), result)


def kernels():
    first = next((i for i, l in enumerate(train) if l["what"].startswith("full step")), len(train))
    stages = ("forward", "head and loss", "backward", "update")
    result = []
    for l in train[first + 1:]:
        if not l["what"].startswith("  "):
            break
        name = l["what"].strip()
        if l["unit"] == "% of step" and name not in stages:
            of = f"{l['fraction']:.3f} of {l['of']}" if "of" in l else ""
            result.append((name, f"{l['value']:.2f}", of))
    return table(("kernel", "% of the step", "of its own limit"), result)


def machine():
    lines = [l for l in train if l.get("of") == "the best" or l["what"].startswith("all threads")]
    return f"Commit {commit}.\n\n" + table(("loop", "figure"), [(l["what"], figure(l)) for l in lines])


def peers():
    """Ours and theirs in the order in which they ran. Of a step of ours: its tokens per second."""
    result, step = [], None
    for l in torch + rows + others + growth:
        name, gib = l["what"], l.get("resident_gib")
        if l["unit"] == "GFLOP/s":
            step = l
        elif name == "  tokens per second" and step:
            result.append(("./bench " + step["what"], figure(l), f"{step['resident_gib']:.2f} GiB"))
            step = None
        elif l["unit"] in ("tokens/s", "MB/s", "s") and not name.startswith(" "):
            result.append((name, figure(l), f"{gib:.2f} GiB" if gib else ""))
    return table(("what", "figure", "resident"), result)


text = page.read_text()
for name, make in ("machine", machine), ("bars", bars), ("kernels", kernels), ("peers", peers):
    place = f"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    text, n = re.subn(place, lambda m: m[1] + make() + "\n" + m[2], text, flags=re.S)
    if n != 1:
        sys.exit(f"{page}: no place for the table {name}")
page.write_text(text)
