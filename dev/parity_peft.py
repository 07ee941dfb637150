#!/usr/bin/env python3
"""parity_peft.py -- LoRA against the peft library: logits, gradients, steps of AdamW.

    make parity                                                    builds what is compared
    python3 dev/parity_peft.py check [--smollm2 FILE.gguf]         ./train and ./convert against peft
    python3 dev/parity_peft.py golden                              writes tests/golden_lora.bin

Needs what dev/parity.py needs, and peft; building and testing needs none of them. Everything is float32 on
the CPU, one row at a time. peft has a pair of matrices for each of q, k, v and for gate and up, where
model.h has one `down` for all that read the same input: here they share one parameter in peft too.

check: random models of each family of dev/parity.py, and SmolLM2. ./train takes 10 steps on one batch; peft
starts from the same matrices and takes the same steps with torch.optim.AdamW. Compared: each step's loss, how
far each matrix went, and with the result in both the logits, the gradients, and the merged model's logits.

golden: the models, weights and batches of dev/golden.py. tests/golden_lora.bin, float32 little-endian, has for
each of CASES: the loss of each step; the logits of step 0's batch, a row of V for each token; the gradient of
each LoRA tensor on that batch; how far STEPS steps of AdamW moved each. tests/test_lora.c reads it.
"""
import argparse
import json
import os
import sys

import numpy as np
import torch

import golden
import parity

LOGITS, GRADS, MOVED, LOSS = 1e-5, 1e-4, 1e-3, 1e-5
TIMES = 100                 # what the steps may be off more in SmolLM2, whose float32 is so much coarser
RANK, ALPHA, LR, STEPS, T = 4, 16, 0.002, 10, 64
CASES = {"gpt2": 0, "llama": 2, "qwen2": 3, "qwen3": 4}    # and where they stand in golden.h
PARTS = ("qkv", "proj", "fc1", "fc2")
BESIDE = {
    "gpt2": dict(qkv=["attn.c_attn"], proj=["attn.c_proj"], fc1=["mlp.c_fc"], fc2=["mlp.c_proj"]),
    "llama": dict(qkv=["self_attn." + x + "_proj" for x in "qkv"], proj=["self_attn.o_proj"],
                  fc1=["mlp.gate_proj", "mlp.up_proj"], fc2=["mlp.down_proj"]),
}


def beside(config):
    return BESIDE["gpt2" if config.model_type == "gpt2" else "llama"]


# ---- peft's side ---------------------------------------------------------------------------------------

def with_lora(model, parts, rank, alpha):
    """The model with peft's LoRA on these parts, and {name_down, name_up: [a layer's peft parameters]}."""
    from peft import LoraConfig, get_peft_model
    names = [n for part in parts for n in beside(model.config)[part]]
    gpt2 = model.config.model_type == "gpt2"
    made = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none",
                                            target_modules=names, fan_in_fan_out=gpt2))
    layers, ours = model.transformer.h if gpt2 else model.model.layers, {}
    for part in parts:
        found = [[layer.get_submodule(n) for n in beside(model.config)[part]] for layer in layers]
        for modules in found:
            for m in modules[1:]:
                m.lora_A["default"].weight = modules[0].lora_A["default"].weight
        ours[part + "_down"] = [[m[0].lora_A["default"].weight] for m in found]
        ours[part + "_up"] = [[x.lora_B["default"].weight for x in m] for m in found]
    return made, ours


def as_ours(layers, what=lambda p: p.detach()):
    """peft's (R,in) and (out,R) as ours: (L,in,R) and (L,R,out)."""
    return torch.stack([torch.cat([what(p) for p in ps]).t() for ps in layers]).numpy().copy()


def put(ours, tensors):
    with torch.no_grad():
        for name, layers in ours.items():
            for ps, x in zip(layers, tensors[name]):
                at = 0
                for p in ps:
                    p.copy_(torch.tensor(x.T[at:at + p.shape[0]]))
                    at += p.shape[0]


def summed_loss(model, rows):
    """rows: (tokens, targets) with -1 for none. The mean over all targets of all rows."""
    total, targets = 0, 0
    for tok, tgt in rows:
        if len(tok):
            z = model(torch.as_tensor(tok)[None], use_cache=False).logits[0]
            t = torch.as_tensor(tgt)
            total = total + torch.nn.functional.cross_entropy(z, t, ignore_index=-1, reduction="sum")
            targets += int((t >= 0).sum())
    return total / targets


def gradients(model, ours, rows):
    model.zero_grad()
    summed_loss(model, rows).backward()
    return {n: as_ours(layers, lambda p: p.grad) for n, layers in ours.items()}


def steps(model, ours, batches, lr, eps, clip):
    """The losses of the steps; the matrices in ours are moved."""
    all_of = [p for layers in ours.values() for ps in layers for p in ps]
    adamw = torch.optim.AdamW(all_of, lr=lr, betas=(0.9, 0.95), eps=eps, weight_decay=0.1)
    losses = []
    for rows in batches:
        adamw.zero_grad()
        loss = summed_loss(model, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(all_of, clip)
        adamw.step()
        losses.append(float(loss.detach()))
    return losses


# ---- check: the programs -------------------------------------------------------------------------------

def adapter(path):
    """{tensor: array} of an adapter, read by dev/DESIGN.md, section 4."""
    with open(path, "rb") as f:
        data = f.read()
    c = dict(zip(golden.FIELDS, np.frombuffer(data, "<i4", 16, 16)))
    at, size = (int(x) for x in np.frombuffer(data, "<u8", 2, 128 + 48))
    end, R = at + size, int(np.frombuffer(data, "<u8", 1, 200)[0])
    s, out = golden.shapes(c), {}
    for part in PARTS:
        L, rows, columns = s[part + "w"]
        for name, shape in ((part + "_down", (L, rows, R)), (part + "_up", (L, R, columns))):
            n = int(np.prod(shape))
            out[name] = np.frombuffer(data, "<f4", n, at).reshape(shape)
            at += (4 * n + 63) // 64 * 64
    assert at == end == len(data)
    return out


def trained(a, base, text, name, *more):
    out, log = os.path.join(a.work, name), os.path.join(a.work, name + ".jsonl")
    parity.run(a, "train", "--model", base, "--text", text, "--seq", T + 1, "--split", 0, "--batch", 64,
               "--lora", RANK, "--lora-alpha", ALPHA, "--schedule", "constant", "--warmup", 0,
               "--log", log, "--out", out, *more)
    with open(log) as f:
        return out, [row["loss"] for row in map(json.loads, f) if "loss" in row]


def windows(a, base, text):
    """What train --text makes of a file: begin-of-text, tokens, end-of-text; windows that overlap by one."""
    ids = np.frombuffer(open(base, "rb").read(124), "<i4")      # eot, bos: DESIGN.md, section 4
    eot, bos = int(ids[28]), int(ids[29])
    with open(text, encoding="utf-8") as f:
        tokens = [bos] * (bos >= 0) + parity.our_ids(a, base, f.read()) + [eot] * (eot >= 0)
    return [(tokens[i:-1][:T], tokens[i + 1:][:T]) for i in range(0, len(tokens) - 1, T)]


def off(got, want):
    return float(np.abs(got - want).max() / np.abs(want).max())


def worst(got, want):
    offs = {n: float(np.linalg.norm(got[n].astype("f8") - want[n]) / np.linalg.norm(want[n].astype("f8")))
            for n in want}
    top = max(offs, key=lambda n: offs[n] if offs[n] == offs[n] else np.inf)
    return offs[top], top


def check_model(a, name, folder, base, times=1):
    text = os.path.join(a.work, "peft.txt")
    with open(text, "w", encoding="utf-8") as f:
        f.write(parity.read(parity.PAGES[0])[2000:2900])
    start = adapter(trained(a, base, text, "start.bin", "--steps", 1, "--lr", 1e-30)[0])
    start = {n: x * (not n.endswith("_up")) for n, x in start.items()}
    end, losses = trained(a, base, text, "end.bin", "--steps", STEPS, "--lr", LR)
    rows, made = windows(a, base, text), adapter(end)
    model, ours = with_lora(parity.load(folder), PARTS, RANK, ALPHA)
    put(ours, start)
    want = steps(model, ours, [rows] * STEPS, LR, 1e-8, 1.0)
    wrong = max(abs(x - y) for x, y in zip(losses, want)) / want[0]
    parity.check(len(losses) == STEPS and wrong <= times * LOSS,
                 "%-8s %d targets, %d steps: loss %.6f -> %.6f, peft's %.6f -> %.6f, at most %.1e off"
                 % (name, sum(len(r[0]) for r in rows), STEPS, losses[0], losses[-1], want[0], want[-1],
                    wrong))
    moved = worst({n: made[n] - start[n] for n in made}, {n: as_ours(x) - start[n] for n, x in ours.items()})
    parity.check(moved[0] <= times * MOVED, "%-8s what the steps added to %d matrices: the worst off by %.1e "
                 "of its norm, %s" % (name, len(made), *moved))

    put(ours, made)
    tokens = [r[0] for r in rows]
    theirs = np.concatenate(parity.their_logits(model, tokens))
    z = parity.ours(a, "logits", end, tokens, base)[0].reshape(theirs.shape)
    parity.check(off(z, theirs) <= LOGITS, "%-8s %d x %d logits, off by %.1e of the largest"
                 % (name, *theirs.shape, off(z, theirs)))
    merged = parity.convert(a, end, "merged.bin", "--merge", base, "--dtype", "f32")
    y = parity.ours(a, "logits", merged, tokens)[0].reshape(theirs.shape)
    parity.check(off(y, z) <= LOGITS, "%-8s merged by ./convert, off from the adapter by %.1e"
                 % (name, off(y, z)))
    printed = parity.our_grads(a, end, tokens, [r[1] for r in rows], "grads", base)[1]
    grads = worst(printed, gradients(model, ours, rows))
    parity.check(set(printed) == set(ours) and grads[0] <= GRADS,
                 "%-8s gradients of %d matrices, the worst off by %.1e of its norm, %s"
                 % (name, len(printed), *grads))


def check(a):
    for name, dtype, sharded in parity.RANDOM:
        if dtype == "f32" and not sharded:
            folder = parity.random_folder(a, name, dtype, sharded)
            base = parity.convert(a, folder, os.path.basename(folder) + ".bin")
            check_model(a, name, folder, base)
    if a.smollm2:
        check_model(a, "SmolLM2", parity.smollm2_folder(a), parity.smollm2_checkpoint(a), TIMES)


# ---- golden: numbers for tests/test_lora.c -------------------------------------------------------------

def model_of(c):
    """transformers' model with the weights of dev/golden.py."""
    import transformers as tf
    size = dict(vocab_size=c["vocab"], attn_implementation="eager")
    if not c["rms"]:
        model = tf.GPT2LMHeadModel(tf.GPT2Config(
            n_positions=c["context"], n_embd=c["width"], n_layer=c["layers"], n_head=c["heads"],
            n_inner=c["hidden"], layer_norm_epsilon=c["norm_eps"], attn_pdrop=0, embd_pdrop=0, resid_pdrop=0,
            **size))
    else:
        rope = dict(rope_type="default", rope_theta=c["rope_theta"])
        if c["rope_context"]:
            rope.update(rope_type="llama3", factor=c["rope_factor"], low_freq_factor=c["rope_low"],
                        high_freq_factor=c["rope_high"], original_max_position_embeddings=c["rope_context"])
        size.update(hidden_size=c["width"], intermediate_size=c["hidden"], num_hidden_layers=c["layers"],
                    num_attention_heads=c["heads"], num_key_value_heads=c["kv_heads"], head_dim=c["head_size"],
                    max_position_embeddings=c["context"], rms_norm_eps=c["norm_eps"], rope_parameters=rope,
                    tie_word_embeddings=bool(c["tied"]))
        kind = "Qwen3" if c["qk_norm"] else "Qwen2" if c["qkv_bias"] else "Llama"
        model = getattr(tf, kind + "ForCausalLM")(getattr(tf, kind + "Config")(**size))
    w = {n: t.numpy().astype("f4") for n, t in golden.weights(c).items()}
    deep = {n: x.reshape(x.shape + (1,) * (3 - x.ndim)) for n, x in w.items()}
    unpacked = parity.unpacked(deep, model.config)
    theirs = {n: torch.tensor(np.ascontiguousarray(x)) for n, x in unpacked.items()}
    missing, surplus = model.load_state_dict(theirs, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not surplus
    model.tie_weights()
    return model.eval()


def golden_case(k, i):
    parts = ("qkv", "fc2") if i % 2 else PARTS                  # as with_lora in tests/test_lora.c
    rank, s, c = 2 + i, golden.shapes(k["c"]), k["c"]
    shape = {}
    for part in parts:
        L, rows, columns = s[part + "w"]
        shape.update({part + "_down": (L, rows, rank), part + "_up": (L, rank, columns)})
    order = [p + x for p in PARTS for x in ("_down", "_up")]
    w = {}
    for n, x in shape.items():                                  # by their place in Params, as all matrices
        at = (len(golden.PARAMS) + order.index(n)) << 32
        u = [((golden.splitmix64(at + e) >> 42) * 2.0 ** -21 - 1) / 2 for e in range(int(np.prod(x)))]
        w[n] = np.array(u, "f4").reshape(x)
    model, ours = with_lora(model_of(c), parts, rank, 7)
    put(ours, w)
    batches = [[(t, u) for t, u in golden.batch(k, step) if len(t)] for step in range(golden.STEPS)]
    logits = np.concatenate(parity.their_logits(model, [t.tolist() for t, _ in batches[0]]))
    grads = gradients(model, ours, batches[0])
    losses = steps(model, ours, batches, golden.LR, golden.EPS, golden.CLIP)
    moved = {n: as_ours(ours[n]) - w[n] for n in w}
    print("%-8s rank %d on %s, loss %.6f -> %.6f" % (k["name"], rank, " ".join(parts), losses[0], losses[-1]))
    return [np.array(losses)] + [logits] + [grads[n] for n in w] + [moved[n] for n in w]


def golden_file(a):
    torch.set_num_threads(1)
    out = os.path.join(parity.ROOT, "tests", "golden_lora.bin")
    with open(out, "wb") as f:
        for name, i in CASES.items():
            assert golden.CASES[i]["name"] == name
            for x in golden_case(golden.CASES[i], i):
                f.write(x.astype("<f4").tobytes())
        print("%s: %d bytes" % (os.path.normpath(out), f.tell()))


def main():
    p = argparse.ArgumentParser(description="LoRA against peft; see the head of this file")
    p.add_argument("command", choices=["check", "golden"])
    p.add_argument("--bin", default=os.path.join(parity.ROOT, "build/native"), help="folder of the programs")
    p.add_argument("--work", default=os.path.join(parity.ROOT, "build/parity"), help="folder for models")
    p.add_argument("--smollm2", help="SmolLM2-135M-Instruct, a GGUF file")
    a = p.parse_args()
    os.makedirs(a.work, exist_ok=True)
    import peft
    print("peft %s, %s" % (peft.__version__, parity.versions()), flush=True)
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
    {"check": check, "golden": golden_file}[a.command](a)
    print("%d failed" % parity.failures)
    return 1 if parity.failures else 0


if __name__ == "__main__":
    sys.exit(main())
