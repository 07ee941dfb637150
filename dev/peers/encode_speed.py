# encode_speed.py -- how fast tiktoken and the tokenizers library encode a text with GPT-2's vocabulary, one
# thread, and whether their ids are the same. Medians.
#
#   python dev/peers/encode_speed.py TOKENIZER TEXT [repeat]    TOKENIZER holds encoder.json and vocab.bpe
import json
import os
import statistics
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tiktoken
import tokenizers
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tokenizers.implementations import ByteLevelBPETokenizer

folder, path = sys.argv[1], sys.argv[2]
repeat = int(sys.argv[3]) if len(sys.argv) > 3 else 5
text = open(path, encoding="utf-8").read()
size = len(text.encode())
ranks = data_gym_to_mergeable_bpe_ranks(f"{folder}/vocab.bpe", f"{folder}/encoder.json")
pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
special = {"<|endoftext|>": 50256}
ours = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
theirs = ByteLevelBPETokenizer(f"{folder}/encoder.json", f"{folder}/vocab.bpe")


def measure(name, encode):
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        ids = encode(text)
        times.append(time.perf_counter() - start)
    t = statistics.median(times[1:])
    line = {"what": name, "value": size / t * 1e-6, "unit": "MB/s", "tokens": len(ids)}
    print(json.dumps(line), flush=True)
    return ids


same = measure(f"tiktoken {tiktoken.__version__}", ours.encode_ordinary) == measure(
    f"tokenizers {tokenizers.__version__}", lambda s: theirs.encode(s).ids)
if not same:
    sys.exit("the two libraries give different ids")
