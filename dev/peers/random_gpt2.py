# random_gpt2.py -- a GPT-2 of 124M random weights as a folder that transformers and ./convert read, and the
# same shape as llm.c's CPU trainer reads it: gpt2_124M.bin with a file of random tokens.
#
#   python dev/peers/random_gpt2.py TOKENIZER OUT    TOKENIZER holds GPT-2's encoder.json and vocab.bpe
#
# Needs torch, transformers, numpy.
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

tokenizer, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.manual_seed(1)


def hugging_face():
    folder = out / "gpt2"
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    shutil.copy(tokenizer / "encoder.json", folder / "vocab.json")
    shutil.copy(tokenizer / "vocab.bpe", folder / "merges.txt")
    GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)


# llm.c, train_gpt2.c: 256 int32 of header, then the tensors as float32 in the order of its enum; its
# vocabulary is padded to 50304. Speed depends on the shapes alone, so the weights are just random.
def llm_c():
    folder = out / "llmc"
    (folder / "dev/data/tinyshakespeare").mkdir(parents=True, exist_ok=True)
    T, V, L, NH, C, padded = 1024, 50257, 12, 12, 768, 50304
    header = np.zeros(256, np.int32)
    header[:8] = 20240326, 3, T, V, L, NH, C, padded
    matrix, vector = lambda *n: 0.02 * rng.standard_normal(n, np.float32), lambda n: np.zeros(n, np.float32)
    ones = lambda n: np.ones(n, np.float32)
    rng = np.random.default_rng(1)
    tensors = [matrix(padded, C), matrix(T, C), ones(L * C), vector(L * C), matrix(L, 3 * C, C),
               vector(L * 3 * C), matrix(L, C, C), vector(L * C), ones(L * C), vector(L * C),
               matrix(L, 4 * C, C), vector(L * 4 * C), matrix(L, C, 4 * C), vector(L * C), ones(C), vector(C)]
    with open(folder / "gpt2_124M.bin", "wb") as f:
        f.write(header.tobytes())
        for t in tensors:
            f.write(t.tobytes())
    for part in "train", "val":
        header = np.zeros(256, np.int32)
        header[:3] = 20240520, 1, 1 << 15
        with open(folder / f"dev/data/tinyshakespeare/tiny_shakespeare_{part}.bin", "wb") as f:
            f.write(header.tobytes())
            f.write(rng.integers(0, V, 1 << 15, np.uint16).tobytes())


hugging_face()
llm_c()
