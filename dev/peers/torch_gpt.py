# torch_gpt.py -- a training step of a straightforward GPT-2 in PyTorch on the CPU: float32,
# scaled-dot-product attention, fused AdamW, clipping; random weights and tokens, every position a target. A
# line of JSON each for eager and compiled: tokens and GFLOP/s by the count of dev/bench.c, medians.
#
#   python dev/peers/torch_gpt.py BATCH SEQ [eager|compiled ...] [--repeat 5] [--threads 2]
import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

V, P, L, NH, C = 50257, 1024, 12, 12, 768


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.fc1, self.fc2 = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = (h.view(B, T, NH, C // NH).transpose(1, 2) for h in self.qkv(self.ln1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.fc2(F.gelu(self.fc1(self.ln2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(P, C)
        self.blocks, self.lnf = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(C)
        self.head = nn.Linear(C, V, bias=False)
        self.head.weight = self.wte.weight
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tok, target):
        x = self.wte(tok) + self.wpe(torch.arange(tok.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.lnf(x)).flatten(0, 1), target.flatten())


def measure(kind, B, T, repeat):
    torch.manual_seed(1)
    model = GPT()
    run = torch.compile(model) if kind == "compiled" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                  fused=True)
    tok = torch.randint(V, (B, T))
    times = []
    for step in range(repeat + 2):        # the first two compile and touch the memory
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        run(tok, tok).backward()
        both = time.perf_counter() - start
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append((time.perf_counter() - start, both))
    step, both = (statistics.median(t[i] for t in times[2:]) for i in (0, 1))
    weights = L * 12 * C * C + V * C
    flops = 6 * weights * B * T + 12 * C * L * B * T * (T + 1) / 2
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"what": f"PyTorch {torch.__version__} {kind}, B={B} T={T}", "value": B * T / step,
                      "unit": "tokens/s", "gflops": flops / step * 1e-9, "seconds": step, "both": both,
                      "resident_gib": gib}), flush=True)


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("batch", type=int)
    a.add_argument("seq", type=int)
    a.add_argument("kind", nargs="*", default=["eager", "compiled"])
    a.add_argument("--repeat", type=int, default=5)
    a.add_argument("--threads", type=int, default=2)
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    for kind in o.kind:
        measure(kind, o.batch, o.seq, o.repeat)
