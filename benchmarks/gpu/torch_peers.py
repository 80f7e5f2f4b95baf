"""PyTorch beside the native engine: the Qwen3-Embedding-4B shape with random weights, from pinned ids to pinned vectors.

  python3 benchmarks/gpu/torch_peers.py [--peers fp8,transformers] [--rounds 60] [--mixed] [--layers 36] [--out FILE]

fp8           E4M3 weights and activations with one scale a tensor, torch._scaled_mm with fast accumulation, SDPA, each layer
              compiled by torch.compile, a pass as one CUDA graph: the fastest PyTorch we could write
transformers  Qwen3Model in bf16 with SDPA, as it comes
Batches of one length first. --mixed: the 4,000 texts of native.mjs --mixed, sorted by length, in buckets of 64 tokens, as
many texts a batch as 16,384 tokens hold, spread evenly over a bucket's batches. Padding stands behind a text, where a causal
model does not see it. Needs a GPU of sm_89 or later, torch 2.5 or later; transformers for the second. One JSON line last.
"""

import argparse
import json
import math
import time
from collections import Counter

import torch
import torch.nn.functional as F

HIDDEN, HEADS, KEY_VALUE_HEADS, HEAD, INTERMEDIATE, VOCABULARY = 2560, 32, 8, 128, 9728, 151936
SHAPES = [(1, 16), (1, 128), (1, 512), (8, 512), (32, 512)]
BATCH_TOKENS, BUCKET = 16384, 64
device, bf16, e4m3 = "cuda", torch.bfloat16, torch.float8_e4m3fn


class Fp8Model:
    """Compiled and recorded once a shape."""

    name = "torch-fp8-graph"

    def __init__(self, layers):
        torch._dynamo.config.recompile_limit = 64
        self.activation_scale = torch.tensor(0.05, device=device)
        self.norm = torch.ones(HIDDEN, device=device, dtype=bf16)
        self.head_norm = torch.ones(HEAD, device=device, dtype=bf16)
        self.table = torch.randn(VOCABULARY, HIDDEN, dtype=bf16, device=device) * 0.02
        self.layers = [
            {
                "qkv": random_weight((HEADS + 2 * KEY_VALUE_HEADS) * HEAD, HIDDEN),
                "o": random_weight(HIDDEN, HEADS * HEAD),
                "gate_up": random_weight(2 * INTERMEDIATE, HIDDEN),
                "down": random_weight(HIDDEN, INTERMEDIATE),
            }
            for _ in range(layers)
        ]
        self.layer = torch.compile(self.plain_layer, dynamic=False)
        self.graphs = {}

    def product(self, x, weight):
        values, scale = weight
        x = (x.float() / self.activation_scale).clamp(-448, 448).to(e4m3)
        return torch._scaled_mm(
            x, values.t(), scale_a=self.activation_scale, scale_b=scale, out_dtype=bf16, use_fast_accum=True
        )

    def plain_layer(self, x, weights, cos, sin, batch, length):
        qkv = self.product(rms_norm(x, self.norm), weights["qkv"]).view(batch, length, -1, HEAD)
        q, k, v = qkv.split([HEADS, KEY_VALUE_HEADS, KEY_VALUE_HEADS], dim=2)
        q = rotate(rms_norm(q, self.head_norm), cos, sin).transpose(1, 2)
        k = rotate(rms_norm(k, self.head_norm), cos, sin).transpose(1, 2)
        o = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True)
        x = x + self.product(o.transpose(1, 2).reshape(batch * length, -1), weights["o"])
        gate, up = self.product(rms_norm(x, self.norm), weights["gate_up"]).chunk(2, -1)
        return x + self.product(F.silu(gate) * up, weights["down"])

    def prepare(self, batch, length):
        """@returns run(ids [batch, length] pinned, last [batch] pinned) -> vectors [batch, HIDDEN] pinned"""
        cos, sin = rotations(length)
        ids = torch.zeros(batch, length, dtype=torch.int64, device=device)
        last = torch.full((batch,), length - 1, dtype=torch.int64, device=device)
        vectors = torch.zeros(batch, HIDDEN).pin_memory()
        rows = torch.arange(batch, device=device)

        def forward():
            x = self.table[ids].view(batch * length, HIDDEN)
            for weights in self.layers:
                x = self.layer(x, weights, cos, sin, batch, length)
            pooled = rms_norm(x.view(batch, length, HIDDEN)[rows, last], self.norm)
            return F.normalize(pooled.float(), dim=-1)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                forward()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = forward()

        def run(pinned_ids, pinned_last):
            ids.copy_(pinned_ids, non_blocking=True)
            last.copy_(pinned_last, non_blocking=True)
            graph.replay()
            vectors.copy_(out, non_blocking=True)
            torch.cuda.synchronize()
            return vectors

        # The graph reads them and does not hold them.
        run.held = (cos, sin, rows)
        return run


class TransformersModel:
    name = "transformers-sdpa-bf16"

    def __init__(self, layers):
        from transformers import Qwen3Config, Qwen3Model

        config = Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            intermediate_size=INTERMEDIATE,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            num_key_value_heads=KEY_VALUE_HEADS,
            head_dim=HEAD,
            max_position_embeddings=32768,
            rope_theta=1e6,
        )
        with torch.device(device):
            torch.set_default_dtype(bf16)
            self.model = Qwen3Model(config).eval()
            torch.set_default_dtype(torch.float32)

    def prepare(self, batch, length):
        rows = torch.arange(batch, device=device)

        def run(pinned_ids, pinned_last):
            ids = pinned_ids.to(device, non_blocking=True)
            last = pinned_last.to(device, non_blocking=True)
            hidden = self.model(input_ids=ids, use_cache=False).last_hidden_state[rows, last]
            return F.normalize(hidden.float(), dim=-1).cpu()

        return run


def random_weight(rows, columns):
    values = (torch.randn(rows, columns, device=device, dtype=bf16) * 2).to(e4m3)
    return values, torch.tensor(0.01, device=device)


def rms_norm(x, weight):
    x = x.float()
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight).to(bf16)


def rotations(length):
    frequencies = 1e6 ** (-torch.arange(0, HEAD, 2, device=device) / HEAD)
    angles = torch.outer(torch.arange(length, device=device).float(), frequencies).repeat(1, 2)
    return angles.cos()[None, :, None], angles.sin()[None, :, None]


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat((-b, a), -1) * sin).to(bf16)


def real_lengths(count, median=96, sigma=0.8, most=512, seed=20260724):
    """realLengths of benchmarks/cpu/texts.mjs."""
    state = seed

    def random():
        nonlocal state
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        return (state + 0.5) / 2**32

    lengths = []
    for _ in range(count):
        normal = math.sqrt(-2 * math.log(random())) * math.cos(2 * math.pi * random())
        lengths.append(min(most, max(1, math.floor(median * math.exp(sigma * normal) + 0.5))))
    return lengths


def measure(model, batch, length, rounds):
    run = model.prepare(batch, length)
    last = torch.full((batch,), length - 1).pin_memory()
    times = []
    for i in range(-5, rounds):
        ids = torch.randint(0, VOCABULARY, (batch, length)).pin_memory()
        start = time.perf_counter()
        vectors = run(ids, last)
        if i >= 0:
            times.append((time.perf_counter() - start) * 1e3)
    assert abs(float(vectors[0].norm()) - 1) < 1e-2, "a vector is not normalised"
    times.sort()
    used = torch.cuda.mem_get_info()
    return {
        "peer": model.name,
        "sequences": batch,
        "tokens": length,
        "p50Ms": times[len(times) // 2],
        "p95Ms": times[int(len(times) * 0.95)],
        "textsPerSecond": batch * len(times) * 1e3 / sum(times),
        "usedMib": (used[1] - used[0]) >> 20,
    }


def measure_mixed(model, rounds=3):
    lengths = real_lengths(4000)
    batches = []
    for bucket, texts in sorted(Counter(math.ceil(length / BUCKET) * BUCKET for length in lengths).items()):
        count = math.ceil(texts / (BATCH_TOKENS // bucket))
        members = sorted(length for length in lengths if math.ceil(length / BUCKET) * BUCKET == bucket)
        size = math.ceil(texts / count)
        run = model.prepare(size, bucket)
        for first in range(0, texts, size):
            own = members[first : first + size]
            ids = torch.randint(0, VOCABULARY, (size, bucket)).pin_memory()
            last = torch.tensor([length - 1 for length in own] + [0] * (size - len(own))).pin_memory()
            batches.append((run, ids, last))
    seconds = []
    for i in range(-1, rounds):
        start = time.perf_counter()
        for run, ids, last in batches:
            run(ids, last)
        if i >= 0:
            seconds.append(time.perf_counter() - start)
    best = min(seconds)
    return {
        "peer": model.name,
        "texts": len(lengths),
        "tokens": sum(lengths),
        "batches": len(batches),
        "textsPerSecond": len(lengths) / best,
        "tokensPerSecond": sum(lengths) / best,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="fp8,transformers")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--out")
    flags = parser.parse_args()
    torch.manual_seed(0)
    record = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "layers": flags.layers, "times": [], "mixed": []}
    for peer in flags.peers.split(","):
        model = {"fp8": Fp8Model, "transformers": TransformersModel}[peer](flags.layers)
        with torch.inference_mode():
            for batch, length in SHAPES:
                rounds = flags.rounds if batch == 1 else max(5, flags.rounds // 3)
                row = measure(model, batch, length, rounds)
                record["times"].append(row)
                print(
                    f"{model.name} {batch} x {length}: p50 {row['p50Ms']:.2f} ms, p95 {row['p95Ms']:.2f} ms, "
                    f"{row['textsPerSecond']:.0f} texts/s, {row['usedMib']} MiB of the GPU",
                    flush=True,
                )
            if flags.mixed:
                row = measure_mixed(model)
                record["mixed"].append(row)
                print(
                    f"{model.name}: {row['texts']} texts of real lengths, {row['tokens']} tokens in {row['batches']} batches: "
                    f"{row['textsPerSecond']:.0f} texts/s, {row['tokensPerSecond']:.0f} tokens/s",
                    flush=True,
                )
        del model
        torch.cuda.empty_cache()
    line = json.dumps(record)
    if flags.out:
        with open(flags.out, "w") as file:
            file.write(line + "\n")
    print(line)


main()
