#!/usr/bin/env python3
"""golden_hf.py -- makes tests/golden_hf: tiny models with random weights as transformers saves them, one
folder for each family and kind of tokenizer, and expect.json with what transformers and tokenizers compute
from them.

Needs torch, transformers, tokenizers; not needed to build or to test. Run: python3 dev/golden_hf.py [OUT]
"""
import json, os, shutil, sys
import tokenizers, torch, transformers
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = os.path.dirname(__file__)
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "tests", "golden_hf")
LEARN = ["The quick brown fox jumps over the lazy dog. The dog doesn't mind, and the fox is quick to say: "
         "it's the dog's own fault, they'll see. In 1984 there were 12345 foxes, and 67 dogs; the others "
         "weren't there.\n\n"
         "Größe, naïve café, señor; ∑ and ∫, 你好世界, привет мир.\n  def f(x):\n    return x + 1\n"] * 3
TEXT = "The fox said:  it's 12345 dogs,\n\n there’ll be Größe cafe\u0301 你好\tx + 1 🙂"
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(pre, special, size=300, normalizer=None, ignore_merges=False, bos=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = pre
    if normalizer:
        t.normalizer = normalizer
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(LEARN, trainers.BpeTrainer(vocab_size=size, special_tokens=[], show_progress=False,
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken(s, normalized=False) for s in special])
    if bos:
        t.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, t.token_to_id(bos))])])
    return t


def llama2():
    """As Llama 2's: bytes 3..258, then pieces; merges in the order in which they were learned."""
    learn = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    learn.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    lines = [w for l in LEARN for w in l.replace("你好世界", "").split("\n") if w]
    learn.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=330, special_tokens=special,
                                                         show_progress=False))
    saved = json.loads(learn.to_str())
    saved["added_tokens"] = [a for a in saved["added_tokens"] if a["id"] < 3]
    saved["post_processor"] = {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [
        {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    saved["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return Tokenizer.from_str(json.dumps(saved))


ENDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROPED = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, max_position_embeddings=96)
CASES = {
    "gpt2": (lambda v: GPT2Config(vocab_size=v, n_embd=12, n_layer=2, n_head=3, n_positions=96, n_inner=20,
                                    bos_token_id=v - 1, eos_token_id=v - 1),
             lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), ENDS[:1]), "float32", {},
             False),
    "llama2": (lambda v: LlamaConfig(vocab_size=v, num_attention_heads=4, num_key_value_heads=2,
                                     rms_norm_eps=1e-5, **ROPED),
               llama2, "float16", {"bos_token": "<s>", "eos_token": "</s>"}, False),
    "llama3": (lambda v: LlamaConfig(vocab_size=v, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                                     tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=dict(
                                         rope_type="llama3", rope_theta=500000.0, factor=8.0,
                                         low_freq_factor=1.0, high_freq_factor=4.0,
                                         original_max_position_embeddings=16), **ROPED),
               lambda: byte_level(split(CL100K), ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
                                  ignore_merges=True, bos="<|begin_of_text|>"), "bfloat16",
               {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, True),
    "smollm": (lambda v: LlamaConfig(vocab_size=v, num_attention_heads=3, num_key_value_heads=3,
                                     tie_word_embeddings=True, **{**ROPED, "hidden_size": 12}),
               lambda: byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                           pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                                  ENDS),
               "bfloat16", {"eos_token": "<|im_end|>"}, False),
    "qwen2": (lambda v: Qwen2Config(vocab_size=v + 7, num_attention_heads=4, num_key_value_heads=2,
                                    use_sliding_window=False, rope_theta=1000000.0, tie_word_embeddings=True,
                                    **ROPED),
              lambda: byte_level(split(QWEN2), ENDS, normalizer=normalizers.NFC()), "float32",
              {"eos_token": "<|im_end|>"}, False),
    "qwen3": (lambda v: Qwen3Config(vocab_size=v, num_attention_heads=4, num_key_value_heads=1, head_dim=6,
                                    **ROPED),
              lambda: byte_level(split(QWEN2), ENDS, normalizer=normalizers.NFC()), "bfloat16",
              {"eos_token": "<|im_end|>"}, False),
}


def make(name):
    config, tokenizer, dtype, extra, sharded = CASES[name]
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    tok = tokenizer()
    torch.manual_seed(len(name) * 7919 + sum(map(ord, name)))
    model = AutoModelForCausalLM.from_config(config(tok.get_vocab_size()), attn_implementation="eager").eval()
    for key, p in model.named_parameters():       # no norm, shift or bias at its default: all must be read
        torch.nn.init.normal_(p, 1.0 if "norm" in key or "ln_" in key and "weight" in key else 0.0,
                              0.3 if p.dim() < 2 else 0.2)
    model = model.to(getattr(torch, dtype))
    model.generation_config.eos_token_id = tok.token_to_id(extra.get("eos_token", "<|endoftext|>"))
    model.save_pretrained(folder, **({"max_shard_size": "20KB"} if sharded else {}))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, **extra)
    fast.save_pretrained(folder)
    if name == "qwen2":                           # the older form: two files
        saved = json.load(open(os.path.join(folder, "tokenizer.json")))
        os.remove(os.path.join(folder, "tokenizer.json"))
        with open(os.path.join(folder, "vocab.json"), "w") as f:
            json.dump(saved["model"]["vocab"], f, ensure_ascii=False)
        with open(os.path.join(folder, "merges.txt"), "w") as f:
            f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in saved["model"]["merges"]))
        path = os.path.join(folder, "tokenizer_config.json")
        conf = json.load(open(path))
        conf.update(tokenizer_class="Qwen2Tokenizer", add_prefix_space=False, added_tokens_decoder={
            str(a["id"]): {k: v for k, v in a.items() if k != "id"} for a in saved["added_tokens"]})
        json.dump(conf, open(path, "w"), indent=1)
    ids = tok.encode(TEXT).ids
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0]
    for file in os.listdir(folder):               # less to keep
        if file.endswith(".json"):
            path = os.path.join(folder, file)
            small = json.load(open(path))
            json.dump(small, open(path, "w"), ensure_ascii=False, separators=(",", ":"))
    rows = [len(ids) // 2, len(ids) - 1]
    with open(os.path.join(folder, "expect.json"), "w") as f:
        json.dump({"text": TEXT, "ids": ids, "rows": rows,
                   "logits": [[float(f"{x:.8g}") for x in logits[r].tolist()] for r in rows]}, f)
    size = sum(p.numel() for p in model.parameters())
    print(f"{name:8} {size:7} parameters, {len(ids)} tokens of {tok.get_vocab_size()}")


print("torch", torch.__version__, "transformers", transformers.__version__,
      "tokenizers", tokenizers.__version__)
for case in CASES:
    make(case)
