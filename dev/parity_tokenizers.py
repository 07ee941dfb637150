#!/usr/bin/env python3
"""Compares tokenizer.c with the libraries that others use, token by token. Not needed to build or to test.

usage: dev/parity_tokenizers.py DATA [N [KIND...]]

DATA is a folder with tokenizers/, unicode/ and pretrain/; N the number of random texts (1,000,000), which
come after one for each character; KIND some of gpt2 cl100k qwen2 smollm scored. Needs a C compiler, Unicode's
data files (Debian: unicode-data) and the packages tokenizers, tiktoken, regex, sentencepiece. Compiles
dev/encode.c into build/parity. Exit status 1 if anything differs.

Random texts have only characters that Unicode 15.0 has assigned, since libraries know other versions; for
Qwen2 none that came after 9.0 and that form NFC changes, because the NFC of Hugging Face's tokenizers is that
old (that of 15.0 is compared with Unicode's own test). In the files all characters are compared.
"""
import base64
import bz2
import json
import os
import random
import re
import struct
import subprocess
import sys
import unicodedata
from pathlib import Path

import regex
import sentencepiece
import tiktoken
import tokenizers
from tiktoken_ext import openai_public
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "parity"
UNICODE = Path("/usr/share/unicode")
GPT2, SCORED, CL100K, QWEN2, SMOLLM = 1, 2, 3, 4, 5          # TokKind in model.h
NORMAL, SPECIAL, BYTE = 0, 1, 2
# Today's pattern leaves white space at the end of a text in one piece; Llama 3's cuts after its last line
# feed. No token of cl100k_base spans that place, so the ids are the same.
TODAY = "tiktoken, its pattern of today"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


# ---- our side ---------------------------------------------------------------------------------------------
class Ours:
    """A tokenizer for dev/encode.c. tokens: bytes by id; merges: (left, right, result, rank)."""

    def __init__(self, name, kind, tokens, merges, flags=None, add_space=False):
        self.tokens, self.kind = tokens, kind
        self.path = BUILD / f"{name}.tok"
        ends, end = [], 0
        for token in tokens:
            end += len(token)
            ends.append(end)
        with open(self.path, "wb") as f:
            f.write(struct.pack("=6i", kind, len(tokens), len(merges), -1, -1, add_space))
            f.write(struct.pack(f"={len(ends)}I", *ends))
            f.write(b"".join(struct.pack("=3iI", *m) for m in merges))
            f.write(bytes(flags or [NORMAL] * len(tokens)) + b"".join(tokens))

    def encode(self, texts, special=False):
        data = b"".join(struct.pack("=I", len(t)) + t for t in texts)
        command = [BUILD / "encode", self.path] + ["special"] * special
        out = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
        ids, at = [], 0
        for _ in texts:
            n, = struct.unpack_from("=I", out, at)
            ids.append(list(struct.unpack_from(f"={n}i", out, at + 4)))
            at += 4 + 4 * n
        assert at == len(out)
        return ids

    def decode(self, ids):
        return b"".join(self.tokens[i] for i in ids)


def compile_encoder():
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run([os.environ.get("CC", "cc"), "-std=c99", "-O2", "-I", ROOT, ROOT / "dev" / "encode.c",
                    ROOT / "tokenizer.c", "-o", BUILD / "encode"], check=True)


# ---- vocabularies -----------------------------------------------------------------------------------------
def byte_letters():
    """GPT-2's letters for the 256 bytes: itself where it can be seen, else from U+0100 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in seen]
    return {**{b: chr(b) for b in seen}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


LETTER = byte_letters()
BYTE_OF = {c: b for b, c in LETTER.items()}


def to_bytes(token):
    return bytes(BYTE_OF[c] for c in token)


def to_letters(token):
    return "".join(LETTER[b] for b in token)


def ranked_merges(tokens):
    """All ways to make a token of two; the rank is the token's. tokens: bytes -> id, in order of rank."""
    return [(tokens[t[:i]], tokens[t[i:]], id_, id_) for t, id_ in tokens.items() for i in range(1, len(t))
            if t[:i] in tokens and t[i:] in tokens]


def listed_merges(vocab, merges):
    return [(vocab[a], vocab[b], vocab[a + b], rank) for rank, (a, b) in enumerate(merges)]


def hugging_face(vocab, merges, pre, normalizer=None, **options):
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    if pre:
        t.pre_tokenizer = pre
    if normalizer:
        t.normalizer = normalizer
    return lambda texts: [e.ids for e in t.encode_batch(texts, add_special_tokens=False)]


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def tiktoken_of(name, pattern, ranks):
    t = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda texts: t.encode_ordinary_batch(texts, num_threads=2)


def read_merges(path):
    return [tuple(line.split(" ")) for line in path.read_text("utf-8").split("\n")[1:] if line]


def gpt2(data):
    folder = data / "tokenizers" / "gpt2"
    vocab = json.loads((folder / "encoder.json").read_text("utf-8"))
    del vocab["<|endoftext|>"]
    merges = read_merges(folder / "vocab.bpe")
    tokens = [to_bytes(t) for t in sorted(vocab, key=vocab.get)]
    ours = Ours("gpt2", GPT2, tokens, listed_merges(vocab, merges))
    theirs = tiktoken_of("gpt2", openai_public.r50k_pat_str, {t: i for i, t in enumerate(tokens)})
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return ours, {"tiktoken": theirs, "tokenizers": hugging_face(vocab, merges, byte_level)}


def cl100k(data):
    lines = (data / "tokenizers" / "tiktoken" / "cl100k_base.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(t): int(rank) for t, rank in (line.split() for line in lines)}
    merges = ranked_merges(ranks)
    ours = Ours("cl100k", CL100K, sorted(ranks, key=ranks.get), merges)
    pairs = [(to_letters(ours.tokens[a]), to_letters(ours.tokens[b])) for a, b, *_ in merges]
    vocab = {to_letters(t): i for t, i in ranks.items()}
    today = re.search(r'"pat_str": r"""(.*?)"""', Path(openai_public.__file__).read_text("utf-8").split(
        "def cl100k_base")[1]).group(1)
    llama3 = hugging_face(vocab, pairs, split_then_bytes(LLAMA3), ignore_merges=True)
    return ours, {"tiktoken, Llama 3's pattern": tiktoken_of("llama3", LLAMA3, ranks),
                  "tokenizers, Llama 3's": llama3, TODAY: tiktoken_of("today", today, ranks)}


def qwen2(data):
    folder = data / "tokenizers" / "qwen"
    vocab = json.loads((folder / "derived_vocab.json").read_text("utf-8"))
    merges = read_merges(folder / "derived_merges.txt")
    tokens = [to_bytes(t) for t in sorted(vocab, key=vocab.get)]
    ours = Ours("qwen2", QWEN2, tokens, listed_merges(vocab, merges))
    pattern = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
    return ours, {"tokenizers": hugging_face(vocab, merges, split_then_bytes(pattern), normalizers.NFC())}


def smollm(data):
    model = json.loads((data / "tokenizers" / "smollm2_from_gguf" / "tokenizer.json").read_text("utf-8"))
    special = {t["content"] for t in model["added_tokens"]}
    vocab, merges = model["model"]["vocab"], [tuple(m) for m in model["model"]["merges"]]
    names = sorted(vocab, key=vocab.get)
    assert [vocab[t] for t in names] == list(range(len(names)))
    tokens = [t.encode() if t in special else to_bytes(t) for t in names]
    ours = Ours("smollm", SMOLLM, tokens, listed_merges(vocab, merges),
                [SPECIAL if t in special else NORMAL for t in names])
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return ours, {"tokenizers": hugging_face(vocab, merges, pre)}


def scored(data):
    """A tokenizer like Llama 2's, learned here by sentencepiece."""
    model = str(BUILD / "spm")
    shakespeare = data / "pretrain" / "tinyshakespeare" / "input.txt"
    sentencepiece.SentencePieceTrainer.train(
        input=[str(shakespeare), *map(str, sorted((data / "unicode" / "udhr").glob("*.txt")))],
        model_prefix=model, model_type="bpe", vocab_size=8000, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=0.9995, num_threads=1, minloglevel=2,
        max_sentence_length=100000)
    sp = sentencepiece.SentencePieceProcessor(model_file=model + ".model")
    names = [sp.id_to_piece(i) for i in range(sp.vocab_size())]
    vocab = {t: i for i, t in enumerate(names)}
    score = [sp.get_score(i) for i in range(len(names))]
    flags = [BYTE if sp.is_byte(i) else SPECIAL if i < 3 else NORMAL for i in range(len(names))]
    tokens = [bytes([int(t[3:5], 16)]) if flag == BYTE else t.replace("\u2581", " ").encode()
              for t, flag in zip(names, flags)]
    pairs = [(t[:i], t[i:]) for t, flag in zip(names, flags) if flag == NORMAL for i in range(1, len(t))
             if t[:i] in vocab and t[i:] in vocab]
    pairs.sort(key=lambda p: (-score[vocab[p[0] + p[1]]], vocab[p[0]], vocab[p[1]]))
    ours = Ours("scored", SCORED, tokens, listed_merges(vocab, pairs), flags, add_space=True)
    prepend = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    theirs = hugging_face(vocab, pairs, None, prepend, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    return ours, {"tokenizers": theirs, "sentencepiece": sp.encode}


# ---- texts ------------------------------------------------------------------------------------------------
class Characters:
    """What random texts are made of: lists of assigned characters."""

    def __init__(self, old_marks):
        ages = re.findall(r"^([0-9A-F]+)(?:\.\.([0-9A-F]+))? *; (\d+)",
                          (UNICODE / "DerivedAge.txt").read_text("utf-8"), re.M)
        age = {c: int(a) for low, high, a in ages for c in range(int(low, 16), int(high or low, 16) + 1)}
        self.all, marks, split, before = [], [], [], 0
        for line in (UNICODE / "UnicodeData.txt").read_text("ascii").splitlines():
            code, name, category, ccc, _, mapping = line.split(";")[:6]
            first = before + 1 if name.endswith(" Last>") else int(code, 16)
            before = int(code, 16)
            changes = ccc != "0" or mapping[:1] not in ("", "<")
            if category == "Cs" or (old_marks and changes and age[before] > 9):
                continue
            self.all += map(chr, range(first, before + 1))
            if changes:
                (marks if ccc != "0" else split).append(chr(before))
        if old_marks:
            self.all.remove("\U00011930")         # joins, in 13.0, with one that is left out here
        self.few = list("aest'SDMTLlRrVvé ıſK") + ["'s", "'LL", "\u2019", "\u212a", "'\u017f"]
        low = [c for c in self.all if c < "\u0800"]
        digits = [c for c in self.all if unicodedata.category(c)[0] == "N"]
        spaces = [c for c in self.all if regex.match(r"\s", c)]
        hangul = [chr(c) for c in [*range(0x1100, 0x1200), *range(0xAC00, 0xAC00 + 28 * 40)]]
        emoji = [chr(c) for c in range(0x1F300, 0x1F650)] + ["\u200d", "\ufe0f", "\u20e3"]
        self.lists = [list(map(chr, range(32, 127))), list("abcdefghijklmnopqrstuvwxyz"), [" "],
                      list(" \n\r\t"), spaces, list("0123456789"), digits, low, marks, split, hangul, emoji,
                      self.all, self.few,
                      list("\u0300\u0301\u0308\u0323\u0327\u0345\u093c\u094d\u09be\u0f71\u3099")]

    def text(self, r):
        lists = r.choices(self.lists, k=r.choice((1, 2, 3, 5)))
        return "".join(r.choice(r.choice(lists)) for _ in range(r.choice((1, 2, 3, 5, 8, 13, 30, 60))))


PARTS = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x91", b"\xed\xa0\x80", b" the", b"'s", b"\n", b"12",
         b"e\xcc\x81"]


def random_bytes(r):
    return b"".join(r.choice(PARTS) if r.random() < 0.5 else r.randbytes(r.choice((1, 2, 3)))
                    for _ in range(r.randrange(30)))


def files(data):
    """(name, text) of all files; of what is no UTF-8 each broken byte becomes U+FFFD."""
    for path in sorted([*(data / "unicode").rglob("*"), *(data / "pretrain").rglob("*")]):
        if path.is_file():
            yield str(path.relative_to(data)), path.read_bytes().decode("utf-8", "replace")


# ---- comparison -------------------------------------------------------------------------------------------
class Count:
    def __init__(self, what):
        self.what, self.texts, self.tokens, self.wrong, self.examples = what, 0, 0, 0, []

    def add(self, ours, theirs, names):
        assert len(ours) == len(theirs)
        for a, b, name in zip(ours, theirs, names):
            self.texts += 1
            self.tokens += len(b)
            if a != list(b):
                self.wrong += 1
                if len(self.examples) < 5:
                    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                    self.examples.append(f"{ascii(name)[:200]}: from id {at} ours {a[at:at + 6]}, "
                                         f"theirs {list(b)[at:at + 6]}")

    def say(self):
        print(f"{self.what:60} {self.texts:9,} texts {self.tokens:11,} tokens {self.wrong:6,} differ",
              flush=True)
        for line in self.examples:
            print("    " + line)
        return self.wrong


def compare_files(name, ours, theirs, data):
    names, texts = zip(*files(data))
    got = ours.encode([t.encode() for t in texts])
    for library, encode in theirs.items():
        count = Count(f"{name}, files: {library}")
        count.add(got, encode(list(texts)), names)
        yield library, count.say()


def compare_random(name, ours, theirs, n):
    r = random.Random(2026)
    characters = Characters(old_marks=ours.kind == QWEN2)
    counts = {library: Count(f"{name}, random: {library}") for library in theirs}
    every = [f"'{c}x{c}1{c} {c}\n{c}'l{c}" for c in characters.all]
    for begin in range(0, n + len(every), 50000):
        texts = [every.pop() if every else characters.text(r) for _ in range(50000)]
        got = ours.encode([t.encode() for t in texts])
        for library, encode in theirs.items():
            counts[library].add(got, encode(texts), texts)
    for library, count in counts.items():
        yield library, count.say()


def compare_vectors(name, ours, data):
    """llama.cpp's texts with their ids."""
    vectors = data / "tokenizers" / "test_vectors" / "llama.cpp" / f"ggml-vocab-{name}.gguf.inp"
    texts = vectors.read_text("utf-8").split("\n__ggml_vocab_test__\n")
    want = [[int(i) for i in line.split()] for line in vectors.with_suffix(".out").read_text().split("\n")]
    count = Count(f"{name}: llama.cpp's vectors")
    count.add(ours.encode([t.encode() for t in texts]), want[:len(texts)], texts)
    return count.say()


def round_trip(name, ours, n):
    """decode(encode(x)) == x for any bytes that have tokens; for Qwen2, x in form NFC."""
    r = random.Random(7)
    texts = want = [random_bytes(r) for _ in range(n)]
    missing = bytes(b for b in range(256) if bytes([b]) not in ours.tokens)
    if missing:
        want = [t.translate(None, missing) for t in texts]
    if ours.kind == QWEN2:
        letters = (t.decode("utf-8", "surrogateescape") for t in texts)
        want = [unicodedata.normalize("NFC", t).encode("utf-8", "surrogateescape") for t in letters]
    if ours.kind == SCORED:
        want = [b" " + t.replace("\u2581".encode(), b" ") if t else t for t in texts]
    count = Count(f"{name}: bytes that come back, all but {len(missing)}")
    count.add([list(ours.decode(ids)) for ids in ours.encode(texts)], [list(t) for t in want], texts)
    return count.say()


def normalization(ours):
    """Unicode's own test: every line, and all characters that it does not list, which stay."""
    text = bz2.open(UNICODE / "NormalizationTest.txt.bz2", "rt", encoding="utf-8").read()
    pairs, listed = [], set()
    for line in re.findall(r"^[0-9A-F][^#]*", text, re.M):
        c = ["".join(chr(int(x, 16)) for x in field.split()) for field in line.split(";")[:5]]
        pairs += [(c[i], c[1]) for i in range(3)] + [(c[i], c[3]) for i in (3, 4)]
        listed.add(c[0])
    rest = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and chr(c) not in listed]
    pairs += [(c, c) for c in rest]
    count = Count("NFC: Unicode's NormalizationTest.txt and all other characters")
    got = ours.encode([a.encode() for a, _ in pairs])
    count.add([list(ours.decode(ids)) for ids in got], [list(b.encode()) for _, b in pairs],
              [a for a, _ in pairs])
    return count.say()


def versions():
    unicode = re.search(r"PropList-([0-9.]+)\.txt", (UNICODE / "PropList.txt").read_text("utf-8")).group(1)
    print(f"tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__}, sentencepiece "
          f"{sentencepiece.__version__}, regex {regex.__version__}; Unicode: {UNICODE} {unicode}, Python "
          f" {unicodedata.unidata_version}")


def main():
    data = Path(sys.argv[1])
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 1000000
    kinds = {"gpt2": gpt2, "cl100k": cl100k, "qwen2": qwen2, "smollm": smollm, "scored": scored}
    versions()
    compile_encoder()
    wrong = 0
    for name in sys.argv[3:] or kinds:
        ours, theirs = kinds[name](data)
        for results in (compare_files(name, ours, theirs, data), compare_random(name, ours, theirs, n)):
            wrong += sum(k for library, k in results if library != TODAY)
        wrong += round_trip(name, ours, max(n // 10, 1))
        vectors = {"gpt2": "gpt-2", "qwen2": "qwen2"}.get(name)
        if vectors:
            wrong += compare_vectors(vectors, ours, data)
        if name == "qwen2":
            wrong += normalization(ours)
    print("no difference" if wrong == 0 else f"{wrong} differences")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
