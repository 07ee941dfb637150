#!/usr/bin/env python3
"""golden.py -- the model of model.h written a second time, in PyTorch, to produce the numbers that
tests/test_model.c compares with.

    python3 dev/golden.py            writes tests/golden.h and tests/golden_NAME.bin

Needs PyTorch on the CPU, nothing else; golden.h records the versions that made it. Everything is float32 on
one thread. Nothing of the C code is used: norms, GELU, softmax, cross entropy, gradients, clipping and AdamW
are PyTorch's own, and a batch is computed one row at a time, so that there is no padding to get wrong.

Weights and tokens are not stored. Both sides compute them from the same integer hash, exactly:
    u(i, e) = (splitmix64(i * 2^32 + e) >> 42) * 2^-21 - 1     in [-1, 1): element e of the i-th pointer of Params
    gains of norms: 1 + u/4       shifts and biases: u/4       matrices and embeddings: u/2
    token  at e = b*T + t:  splitmix64(100 * 2^32 + e) mod (V/2 rounded up): some repeat, some never occur
    target at e = b*T + t:  x = splitmix64(101 * 2^32 + e);  -1 if x mod 3 == 0, else (x >> 8) mod V
Step s (from 0) of training adds 7*s to each token and each target that is not -1, modulo V.

golden_NAME.bin, float32 little-endian, with the tensors that the model has in the order of Params:
    the gradient of each tensor on step 0's batch, before clipping;
    then, for each tensor again, how far 20 steps of AdamW moved it: w20 - w0.
"""
import os
import platform
import struct
import sys
import textwrap

import torch
import torch.nn.functional as F

STEPS = 20
LR, BETA1, BETA2, EPS, DECAY, CLIP = 3e-3, 0.9, 0.95, 1e-5, 0.1, 0.5      # EPS large enough to be felt

FIELDS = ("vocab context layers heads kv_heads head_size width hidden "
          "rms rope swiglu bias qkv_bias qk_norm tied rope_context").split()
FLOATS = "norm_eps rope_theta rope_factor rope_low rope_high".split()
PARAMS = ("wte wpe ln1w ln1b qkvw qkvb qnw knw projw projb "
          "ln2w ln2b fc1w fc1b fc2w fc2b lnfw lnfb head").split()
GAINS = ("ln1w", "qnw", "knw", "ln2w", "lnfw")
MATRICES = ("wte", "wpe", "qkvw", "projw", "fc1w", "fc2w", "head")        # weight decay applies to these only


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def c_float(x):
    digits, exponent = f32(x).hex().split("p")
    return digits.rstrip("0").rstrip(".") + "p" + exponent


def case(name, lengths, T, **given):
    c = dict.fromkeys(FIELDS, 0)
    c.update(norm_eps=1e-5, rope_theta=10000.0, rope_factor=1.0, rope_low=1.0, rope_high=4.0)
    c.update(given)
    for k in FLOATS:
        c[k] = f32(c[k])
    assert set(c) == set(FIELDS + FLOATS) and max(lengths) <= T <= c["context"]
    return dict(name=name, len=lengths, T=T, c=c)


# A row of length 0 and one of length 1 are in most batches. The scaling numbers of the Llama cases put one pair
# of each head into each of the three regimes (kept, blended, divided). The two "long" ones are for the edges of
# the attention's strips and of the output head's chunks.
GPT2 = dict(bias=1)
LLAMA = dict(rms=1, rope=1, swiglu=1)
SCALED = dict(rope_theta=100.0, rope_context=16, rope_factor=8.0, rope_low=0.5, rope_high=2.0)
CASES = [
    case("gpt2", [16, 5, 1, 0, 11], 16, vocab=61, context=16, layers=2, heads=4, kv_heads=4, head_size=7,
         width=28, hidden=40, tied=1, **GPT2),
    case("gpt2_untied", [9, 0, 17, 1], 17, vocab=67, context=18, layers=2, heads=3, kv_heads=3, head_size=8,
         width=24, hidden=56, norm_eps=1e-3, **GPT2),
    case("llama", [24, 3, 13, 1], 24, vocab=71, context=24, layers=3, heads=4, kv_heads=2, head_size=8,
         width=24, hidden=28, norm_eps=1e-3, **LLAMA, **SCALED),
    case("qwen2", [1, 12, 0, 20, 7], 20, vocab=73, context=22, layers=2, heads=6, kv_heads=2, head_size=4,
         width=24, hidden=36, qkv_bias=1, tied=1, norm_eps=1e-6, rope_theta=1000000.0, **LLAMA),
    case("qwen3", [6, 18, 14], 18, vocab=97, context=20, layers=2, heads=3, kv_heads=1, head_size=16,
         width=24, hidden=32, qk_norm=1, tied=1, norm_eps=1e-3, rope_theta=1000000.0, **LLAMA),
    case("gpt2_long", [131, 64, 129, 97, 131, 128, 1, 130], 131, vocab=37, context=140, layers=1, heads=2,
         kv_heads=2, head_size=4, width=12, hidden=20, tied=1, **GPT2),
    case("llama_long", [97, 160, 33, 128, 160, 96, 159], 160, vocab=41, context=160, layers=1, heads=3,
         kv_heads=1, head_size=6, width=12, hidden=16, qk_norm=1, norm_eps=1e-3, **LLAMA, **SCALED),
]


def splitmix64(x):
    mask = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def shapes(c):
    V, P, L, C, H = c["vocab"], c["context"], c["layers"], c["width"], c["hidden"]
    A, KV, HS = c["heads"] * c["head_size"], c["kv_heads"] * c["head_size"], c["head_size"]
    Q, F1 = A + 2 * KV, 2 * H if c["swiglu"] else H
    s = dict(wte=(V, C), ln1w=(L, C), qkvw=(L, C, Q), projw=(L, A, C), ln2w=(L, C), fc1w=(L, C, F1),
             fc2w=(L, H, C), lnfw=(C,))
    if not c["rope"]:
        s["wpe"] = (P, C)
    if not c["rms"]:
        s.update(ln1b=(L, C), ln2b=(L, C), lnfb=(C,))
    if c["bias"]:
        s.update(projb=(L, C), fc1b=(L, F1), fc2b=(L, C))
    if c["bias"] or c["qkv_bias"]:
        s["qkvb"] = (L, Q)
    if c["qk_norm"]:
        s.update(qnw=(L, HS), knw=(L, HS))
    if not c["tied"]:
        s["head"] = (V, C)
    return {name: s[name] for name in PARAMS if name in s}


def weights(c):
    w = {}
    for name, shape in shapes(c).items():
        i, n = PARAMS.index(name), 1
        for d in shape:
            n *= d
        u = [(splitmix64((i << 32) + e) >> 42) * 2.0 ** -21 - 1 for e in range(n)]
        if name in GAINS:
            u = [1 + x / 4 for x in u]
        else:
            u = [x / (2 if name in MATRICES else 4) for x in u]
        w[name] = torch.tensor(u, dtype=torch.float64).reshape(shape)
    return w


def batch(k, step):
    V, T = k["c"]["vocab"], k["T"]
    rows = []
    for b, n in enumerate(k["len"]):
        tok, tgt = [], []
        for e in range(b * T, b * T + n):
            x = splitmix64((101 << 32) + e)
            tok.append((splitmix64((100 << 32) + e) % ((V + 1) // 2) + 7 * step) % V)
            tgt.append(-1 if x % 3 == 0 else ((x >> 8) % V + 7 * step) % V)
        rows.append((torch.tensor(tok, dtype=torch.long), torch.tensor(tgt, dtype=torch.long)))
    return rows


def norm(c, x, gain, shift):
    if c["rms"]:
        return F.rms_norm(x, (x.shape[-1],), gain, c["norm_eps"])
    return F.layer_norm(x, (x.shape[-1],), gain, shift, c["norm_eps"])


def rotary(c, n, dtype):
    """cos and sin (n, HS) as Hugging Face lays them out and rounds them: the HS/2 angles twice."""
    HS = c["head_size"]
    freq = 1.0 / c["rope_theta"] ** (torch.arange(0, HS, 2, dtype=dtype) / HS)
    if c["rope_context"]:
        wavelength = 2 * torch.pi / freq
        longest, shortest = c["rope_context"] / c["rope_low"], c["rope_context"] / c["rope_high"]
        blend = (c["rope_context"] / wavelength - c["rope_low"]) / (c["rope_high"] - c["rope_low"])
        blended = (1 - blend) * freq / c["rope_factor"] + blend * freq
        freq = torch.where(wavelength > longest, freq / c["rope_factor"],
                           torch.where(wavelength < shortest, freq, blended))
    angle = torch.arange(n, dtype=dtype)[:, None] * freq[None, :]
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):                      # x (n, heads, HS); element i turns with element i + HS/2
    a, b = x.chunk(2, dim=-1)
    return x * cos[:, None, :] + torch.cat((-b, a), dim=-1) * sin[:, None, :]


def block(c, w, l, x):
    NH, NKV, HS, n = c["heads"], c["kv_heads"], c["head_size"], x.shape[0]

    def at(name):
        return w[name][l] if name in w else None

    def linear(y, name, bias):
        y = y @ at(name)
        return y if at(bias) is None else y + at(bias)

    y = linear(norm(c, x, at("ln1w"), at("ln1b")), "qkvw", "qkvb")
    q, k, v = y.split((NH * HS, NKV * HS, NKV * HS), dim=-1)
    q, k, v = q.reshape(n, NH, HS), k.reshape(n, NKV, HS), v.reshape(n, NKV, HS)
    if c["qk_norm"]:
        q, k = F.rms_norm(q, (HS,), at("qnw"), c["norm_eps"]), F.rms_norm(k, (HS,), at("knw"), c["norm_eps"])
    if c["rope"]:
        cos, sin = rotary(c, n, x.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    k, v = k.repeat_interleave(NH // NKV, dim=1), v.repeat_interleave(NH // NKV, dim=1)
    score = torch.einsum("ihd,jhd->hij", q, k) / HS ** 0.5
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    p = score.masked_fill(future, float("-inf")).softmax(dim=-1)
    y = torch.einsum("hij,jhd->ihd", p, v).reshape(n, NH * HS)
    x = x + linear(y, "projw", "projb")
    y = linear(norm(c, x, at("ln2w"), at("ln2b")), "fc1w", "fc1b")
    if c["swiglu"]:
        gate, up = y.chunk(2, dim=-1)
        y = F.silu(gate) * up
    else:
        y = F.gelu(y, approximate="tanh")
    return x + linear(y, "fc2w", "fc2b")


def loss_of(k, w, step):
    c, total, targets = k["c"], 0, 0
    for tok, tgt in batch(k, step):
        if len(tok) == 0:
            continue
        x = w["wte"][tok]
        if not c["rope"]:
            x = x + w["wpe"][:len(tok)]
        for l in range(c["layers"]):
            x = block(c, w, l, x)
        logits = norm(c, x, w["lnfw"], w.get("lnfb")) @ w["wte" if c["tied"] else "head"].T
        total = total + F.cross_entropy(logits, tgt, ignore_index=-1, reduction="sum")
        targets += int((tgt >= 0).sum())
    return total / targets


def train(k, dtype):
    start = {n: t.to(dtype) for n, t in weights(k["c"]).items()}
    w = {n: t.clone().requires_grad_() for n, t in start.items()}
    matrices = [t for n, t in w.items() if n in MATRICES]
    others = [t for n, t in w.items() if n not in MATRICES]
    groups = [dict(params=matrices, weight_decay=DECAY), dict(params=others, weight_decay=0.0)]
    adamw = torch.optim.AdamW(groups, lr=LR, betas=(BETA1, BETA2), eps=EPS)
    losses, norms, grads = [], [], None
    for step in range(STEPS):
        adamw.zero_grad()
        loss = loss_of(k, w, step)
        loss.backward()
        if step == 0:
            grads = {n: t.grad.clone() for n, t in w.items()}
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(w.values()), CLIP)))
        losses.append(float(loss.detach()))
        adamw.step()
    moved = {n: t.detach() - start[n] for n, t in w.items()}
    return losses, norms, grads, moved


def worst(a, b):
    """The largest ||a - b|| / ||b|| over the tensors but qkvb, of which GPT-2's keys (gradient 0) are noise."""
    return max(float((a[n].double() - b[n].double()).norm() / b[n].double().norm()) for n in a if n != "qkvb")


def c_case(k, losses, norms):
    config = [".%s~=~%d" % (f, k["c"][f]) for f in FIELDS]
    config += [".%s~=~%s" % (f, c_float(k["c"][f])) for f in FLOATS]
    text = "{.name = \"%s\", .B = %d, .T = %d, .len = {%s},\n" % (k["name"], len(k["len"]), k["T"],
                                                                ", ".join(map(str, k["len"])))
    for field, items in (("cfg", config), ("loss", losses), ("norm", norms)):
        items = ", ".join(x if field == "cfg" else "%.9g" % x for x in items)
        start = " ." + field + " = {"
        text += textwrap.fill(start + items, 106, subsequent_indent=" " * len(start)) + "},\n"
    return textwrap.indent(text[:-2].replace("~", " ") + "},", "    ")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    versions = "PyTorch %s, Python %s, %s" % (torch.__version__, platform.python_version(), platform.machine())
    print(versions)
    tests = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tests")
    entries, total = [], 0
    for k in CASES:
        losses, norms, grads, moved = train(k, torch.float32)
        exact = train(k, torch.float64)
        data = b"".join(struct.pack("<%df" % t.numel(), *t.flatten().tolist())
                        for part in (grads, moved) for t in part.values())
        with open(os.path.join(tests, "golden_%s.bin" % k["name"]), "wb") as f:
            f.write(data)
        total += len(data)
        entries.append(c_case(k, losses, norms))
        print("%-12s %6d weights  loss %.6f -> %.6f  gradient norm %.3f .. %.3f" %
              (k["name"], len(data) // 8, losses[0], losses[-1], min(norms), max(norms)))
        print("             float32 is off float64 by %.1e loss, %.1e gradient, %.1e update" %
              (abs(losses[0] / exact[0][0] - 1), worst(grads, exact[2]), worst(moved, exact[3])))
    with open(os.path.join(tests, "golden.h"), "w") as f:
        f.write("// golden.h -- made by dev/golden.py (%s); not edited by hand.\n" % versions)
        f.write("// The models and batches that tests compare with PyTorch; loss and gradient norm of each step. How\n"
                "// weights and tokens are computed, and what golden_NAME.bin holds, is told in dev/golden.py.\n")
        f.write("enum { GOLDEN_STEPS = %d, GOLDEN_ROWS = %d };\n" % (STEPS, max(len(k["len"]) for k in CASES)))
        f.write("static const AdamW GOLDEN_ADAMW = {.lr = %s, .beta1 = %s, .beta2 = %s,\n"
                "                                   .eps = %s, .decay = %s, .clip = %s};\n"
                % tuple(c_float(x) for x in (LR, BETA1, BETA2, EPS, DECAY, CLIP)))
        f.write("typedef struct {\n    const char *name;\n    Config cfg;\n    int B, T, len[GOLDEN_ROWS];\n"
                "    double loss[GOLDEN_STEPS], norm[GOLDEN_STEPS];\n} Golden;\n")
        f.write("static const Golden GOLDEN[] = {\n%s\n};\n" % "\n".join(entries))
    print("%d bytes of golden numbers" % total)


if __name__ == "__main__":
    sys.exit(main())
