# llama_speed.py -- llama.cpp, through its own C interface: prefill and decoding of a GGUF file on the CPU.
# Medians; prefill of 512 tokens as one batch, then single tokens behind 255 others.
#
#   python dev/peers/llama_speed.py MODEL.gguf [threads]        needs llama-cpp-python built for this machine
import ctypes
import json
import statistics
import sys
import time

import llama_cpp as ll

path, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
quiet = ll.llama_log_callback(lambda *_: None)
ll.llama_log_set(quiet, ctypes.c_void_p(0))
ll.llama_backend_init()
model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
how = ll.llama_context_default_params()
how.n_ctx = how.n_batch = how.n_ubatch = 1024
how.n_threads = how.n_threads_batch = threads
context = ll.llama_init_from_model(model, how)
memory = ll.llama_get_memory(context)


def feed(n, past):
    tokens = (ctypes.c_int32 * n)(*[(7919 * i + past) % 50000 for i in range(n)])
    start = time.perf_counter()
    if ll.llama_decode(context, ll.llama_batch_get_one(tokens, n)):
        sys.exit("llama_decode failed")
    ll.llama_synchronize(context)
    return time.perf_counter() - start


def line(what, tokens_per_second):
    print(json.dumps({"what": f"llama.cpp {what}, {path.rsplit('/', 1)[-1]}", "value": tokens_per_second,
                      "unit": "tokens/s"}), flush=True)


times = []
for _ in range(6):
    ll.llama_memory_clear(memory, True)
    times.append(feed(512, 0))
line("prefill of 512 tokens", 512 / statistics.median(times[1:]))
times = []
for _ in range(6):
    ll.llama_memory_clear(memory, True)
    feed(255, 0)
    times += [feed(1, 255 + i) for i in range(8)]
line("decode after 255 tokens", 1 / statistics.median(times[8:]))
