#!/usr/bin/env python3
"""parity_eval.py -- ./eval bench against lm-evaluation-harness, choice by choice.

    python3 dev/parity_eval.py reference --hf base_hf/ --bench FOLDER --save DIR [--runs hellaswag,mmlu_5,...]
    python3 dev/parity_eval.py compare   --model base.bin --bench FOLDER --save DIR [--runs ...]
    python3 dev/parity_eval.py speed     --model base.bin --hf base_hf/ --bench FOLDER --limit 20 [--runs ...]

FOLDER holds the benchmarks' release files: hellaswag/hellaswag_val_1000.jsonl, arc/ARC-Easy-Dev.jsonl and the like,
mmlu/test and mmlu/dev, truthfulqa/mc_task.json (v0). base_hf/ is base.bin as a folder of Hugging Face. The harness runs
its own task files, unchanged but for where the rows are, on rows in the hub's form made here from the same releases;
model in float32 on the CPU. Needs torch, transformers, datasets and lm-eval, none of which building and testing need.

reference saves what the harness computes, a file for each run, and leaves out the runs that DIR has already.
compare prints a line for each run: every log-likelihood must be within 2e-3, and a metric equal in the fourth digit
unless two choices closer than that decide, which is listed. Exit status 0 if all hold.
speed gives both programs the same questions and processor cores, and prints the wall seconds: ours the whole program
with loading the model, theirs without what loading it and reading the rows take.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
NEAR = 2e-3
SUBJECTS = ["anatomy", "astronomy", "high_school_geography", "marketing", "philosophy", "us_foreign_policy"]
TWO = ["anatomy", "marketing"]


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def hellaswag(path):
    return [dict(row, label=str(row["label"])) for row in lines(path)]


def arc(path):
    rows = []
    for row in lines(path):
        choices = row["question"]["choices"]
        rows.append({"id": row["id"], "question": row["question"]["stem"], "answerKey": row["answerKey"],
                     "choices": {key: [c[key] for c in choices] for key in ("text", "label")}})
    return rows


def mmlu(path):
    subject = os.path.basename(path).rsplit("_", 1)[0]
    with open(path, encoding="utf-8", newline="") as f:
        return [{"question": r[0], "subject": subject, "choices": r[1:5], "answer": "ABCD".index(r[5])}
                for r in csv.reader(f)]


def truthfulqa(path):
    with open(path, encoding="utf-8") as f:
        return [{"question": row["question"],
                 **{k: {"choices": list(row[k]), "labels": list(row[k].values())} for k in ("mc1_targets", "mc2_targets")}}
                for row in json.load(f)]


def runs(bench):
    """run: shots, limit, what our program is given, and of each of the harness's tasks file, rows, examples, reader"""
    at = lambda *p: os.path.join(bench, *p)
    swag, mc = at("hellaswag", "hellaswag_val_1000.jsonl"), at("truthfulqa", "mc_task.json")
    out = {}
    for name, shots, limit in ("hellaswag", 0, 300), ("hellaswag_2", 2, 30):
        out[name] = shots, limit, ["hellaswag=" + swag], [("hellaswag/hellaswag.yaml", swag, swag, hellaswag)]
    for suffix, shots, limit in ("", 0, None), ("_3", 3, 50):
        for name, folder in ("arc_easy", "Easy"), ("arc_challenge", "Challenge"):
            dev, train = (at("arc", f"ARC-{folder}-{part}.jsonl") for part in ("Dev", "Train"))
            out[name + suffix] = shots, limit, [name + "=" + dev], [(f"arc/{name}.yaml", dev, train, arc)]
    out["truthfulqa"] = 0, 150, ["truthfulqa=" + mc], [
        (f"truthfulqa/truthfulqa_{kind}.yaml", mc, mc, truthfulqa) for kind in ("mc1", "mc2")]
    for name, ours, file, shots, subjects in (
            ("mmlu_5", "mmlu", "default/mmlu_%s", 5, TWO), ("mmlu_0", "mmlu", "default/mmlu_%s", 0, SUBJECTS),
            ("mmlu_cloze_0", "mmlu_cloze", "continuation/mmlu_%s", 0, TWO),
            ("mmlu_cloze_5", "mmlu_cloze", "continuation/mmlu_%s", 5, TWO)):
        files = [(at("mmlu", "test", s + "_test.csv"), at("mmlu", "dev", s + "_dev.csv")) for s in subjects]
        out[name] = shots, None, [ours + "=" + f for f, _ in files], [
            (f"mmlu/{file % s}.yaml", test, dev, mmlu) for s, (test, dev) in zip(subjects, files)]
    return out


ORDER = ["hellaswag", "arc_easy", "arc_challenge", "mmlu_5", "truthfulqa", "mmlu_0"]


def load(hf):
    from lm_eval.models.huggingface import HFLM
    return HFLM(pretrained=hf, dtype="float32", device="cpu", batch_size=1)


def theirs(run, limit, lm, work):
    """The harness's log-likelihoods and metrics of each of its tasks, and the wall seconds."""
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml
    shots, all_of, _, tasks = run
    folder, configs = os.path.join(os.path.dirname(lm_eval.__file__), "tasks"), []
    for i, (file, data, examples, read) in enumerate(tasks):
        config = load_yaml(os.path.join(folder, file), resolve_func=True, recursive=True)
        files = {}
        for split in ("train", "validation", "test", "dev"):
            files[split] = os.path.join(work, f"{i}_{split}.jsonl")
            with open(files[split], "w", encoding="utf-8") as f:
                f.writelines(json.dumps(row) + "\n" for row in read(examples if split in ("train", "dev") else data))
        config.update(dataset_path="json", dataset_name=None,
                      dataset_kwargs={"data_files": files, "cache_dir": os.path.join(work, "cache")})
        for key in ("tag", "group", "task_alias"):
            config.pop(key, None)
        configs.append(config)
    start = time.time()
    result = lm_eval.simple_evaluate(model=lm, tasks=configs, num_fewshot=shots, limit=limit or all_of,
                                     bootstrap_iters=0 if limit else 1000, log_samples=True)
    seconds, out = time.time() - start, {}
    for config in configs:
        name = config["task"]
        scores = {m: (result["results"][name][m + ",none"], result["results"][name][m + "_stderr,none"])
                  for m in ("acc", "acc_norm") if m + ",none" in result["results"][name]}
        samples = {s["doc_id"]: [r[0][0] for r in s["resps"]] for s in result["samples"][name]}
        out[name] = {"scores": scores, "ll": [samples[i] for i in sorted(samples)]}
    return out, seconds


def ours(model, run, limit, work):
    """The same of ./eval bench, in the harness's order of tasks and metrics, and the wall seconds."""
    shots, all_of, words, tasks = run
    log = os.path.join(work, "items.jsonl")
    command = [os.path.join(ROOT, "eval"), "bench", "--model", model, "--json", "--log", log, "--shots", str(shots)]
    if limit or all_of:
        command += ["--limit", str(limit or all_of)]
    if shots:
        command += ["--examples", os.path.dirname(tasks[0][2]) if tasks[0][3] is mmlu else tasks[0][2]]
    start = time.time()
    text = subprocess.run(command + words, check=True, stdout=subprocess.PIPE).stdout
    seconds = time.time() - start
    scores, ll = {}, {}
    for line in text.splitlines():
        r = json.loads(line)
        if "value" in r:
            scores.setdefault(r["name"], {})[r["metric"]] = (r["value"], r["stderr"])
    for row in lines(log):
        if "ll" in row:
            ll.setdefault(row["group"], []).append(row["ll"])
    return {name: {"scores": scores[name], "ll": ll[name]} for name in ll}, seconds


def difference(a, b):
    """Of one task: items, choices, largest difference, metrics as text, ties, does all hold?"""
    far, ties = 0.0, []
    same = len(a["ll"]) == len(b["ll"]) and all(len(x) == len(y) for x, y in zip(a["ll"], b["ll"]))
    for i, (x, y) in enumerate(zip(a["ll"], b["ll"])):
        far = max([far] + [abs(u - v) for u, v in zip(x, y)])
        if x.index(max(x)) != y.index(max(y)):
            close = sorted(y)[-2:]
            ties.append("item %d, %.2g apart" % (i, close[1] - close[0]))
    metrics, equal = [], a["scores"].keys() == b["scores"].keys()
    for m, (value, error) in a["scores"].items():
        want, its_error = b["scores"].get(m, (float("nan"),) * 2)
        equal = equal and abs(value - want) < 5e-5 and abs(error - its_error) < 5e-5
        metrics.append("%s %.4f %.4f" % (m, value, want))
    return len(a["ll"]), sum(map(len, a["ll"])), far, metrics, ties, same and far <= NEAR and (equal or bool(ties))


def compare(args, table, names):
    bad = 0
    print("%-14s %-22s %6s %6s %8s  %s" % ("run", "task", "items", "lls", "largest", "metrics: ours, the harness's"))
    for name in names:
        saved = os.path.join(args.save, name + ".json")
        if not os.path.exists(saved):
            print("%-14s has no %s" % (name, saved))
            bad += 1
            continue
        with open(saved) as f:
            b = json.load(f)
        with tempfile.TemporaryDirectory() as work:
            a, _ = ours(args.model, table[name], args.limit, work)
        for (task, x), (theirs_name, y) in zip(a.items(), b["tasks"].items()):
            items, lls, far, metrics, ties, good = difference(x, y)
            bad += not good
            print("%-14s %-22s %6d %6d %8.1e  %s" % (name, task, items, lls, far, "; ".join(
                metrics + ties + ([] if good else ["DIFFERS from " + theirs_name]))), flush=True)
        bad += len(a) != len(b["tasks"])
    return bad


def reference(args, table, names):
    lm = load(args.hf)
    os.makedirs(args.save, exist_ok=True)
    for name in names:
        path = os.path.join(args.save, name + ".json")
        if os.path.exists(path):
            continue
        with tempfile.TemporaryDirectory() as work:
            tasks, seconds = theirs(table[name], args.limit, lm, work)
        with open(path + ".part", "w") as f:
            json.dump({"versions": {p: version(p) for p in ("lm-eval", "transformers", "torch")}, "seconds": seconds,
                       "tasks": tasks}, f)
        os.rename(path + ".part", path)
        print("%-14s %8.1f s" % (name, seconds), flush=True)
    return 0


def speed(args, table, names):
    import torch
    lm = load(args.hf)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print("%d cores\n%-14s %8s %10s %6s" % (torch.get_num_threads(), "run", "ours, s", "theirs, s", "ratio"))
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            _, a = ours(args.model, table[name], args.limit, work)
            _, b = theirs(table[name], args.limit, lm, work)
        print("%-14s %8.1f %10.1f %6.1f" % (name, a, b, b / a), flush=True)
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["reference", "compare", "speed"])
    for name in "--model", "--hf", "--bench", "--save", "--runs":
        p.add_argument(name)
    p.add_argument("--limit", type=int, help="fewer questions in every run")
    args = p.parse_args()
    needs = {"reference": "hf bench save", "compare": "model bench save", "speed": "model hf bench"}[args.what].split()
    for name in needs:
        if not getattr(args, name):
            p.error(f"{args.what} needs --{name}")
    names = args.runs.split(",") if args.runs else ORDER
    return {"reference": reference, "compare": compare, "speed": speed}[args.what](args, runs(args.bench), names) > 0


if __name__ == "__main__":
    sys.exit(main())
