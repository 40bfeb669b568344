"""Times greedy decoding in CTranslate2.

usage: decode_ctranslate2.py FOLDER THREADS TOKENS RUNS SOURCE...

Prints a JSON list with an object for each length of the source: first_token_ms, tokens_per_s (medians) and peak_rss_mb. The
interface returns whole outputs only, so the first token is an output of one token, and the rate is that of the others in an
output of TOKENS. Each run has a source of its own.
"""
import json
import pathlib
import random
import resource
import statistics
import sys
import time

import ctranslate2


def main():
    folder, threads, tokens, runs, *sources = sys.argv[1:]
    threads, tokens, runs = int(threads), int(tokens), int(runs)
    model = ctranslate2.Translator(folder, device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1)
    pieces = json.loads((pathlib.Path(folder) / "shared_vocabulary.json").read_text())[3:]
    rows = []
    for source in map(int, sources):
        rng = random.Random(source)
        firsts, rates = [], []
        for run in range(runs + 1):
            text = [rng.choice(pieces) for _ in range(source)]
            first = seconds(model, text, 1)
            whole = seconds(model, text, tokens)
            if run > 0:
                firsts.append(first * 1e3)
                rates.append((tokens - 1) / (whole - first))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        row = {"source": source, "first_token_ms": statistics.median(firsts), "tokens_per_s": statistics.median(rates)}
        rows.append({**row, "peak_rss_mb": peak})
    print(json.dumps(rows))


def seconds(model, text, tokens):
    start = time.perf_counter()
    model.translate_batch([text], beam_size=1, min_decoding_length=tokens, max_decoding_length=tokens)
    return time.perf_counter() - start


main()
