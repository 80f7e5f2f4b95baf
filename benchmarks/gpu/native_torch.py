"""The truth of the native engine: its vectors beside PyTorch's, from the same weights and the same token ids.

  node benchmarks/gpu/native.mjs --shape 4b --folder FOLDER --vectors vectors.json
  python3 benchmarks/gpu/native_torch.py --folder FOLDER --vectors vectors.json [--device cuda] [--out FILE]

FOLDER holds what native.mjs wrote: config.json and model.safetensors of a Qwen3. Computed here, for each text alone:
  fp32          a plain forward pass in f32
  bf16          transformers' Qwen3Model in bf16 with SDPA where transformers is installed, else the plain pass in bf16
  fp8*          the plain pass with weights and activations brought to E4M3 and back by the engine's own rules: static
                scales (fp8) or one a row (fp8-rowwise), bf16 where the engine keeps bf16, exact products summed in f32
Required: bf16 > 0.999 to fp32, each fp8 > 0.998 to its own E4M3 pass, or no further than rounding alone; the rest is stated. So is what rounding alone does:
PyTorch's bf16 to its fp32, and each E4M3 pass to itself with attention weights that are not rounded: a difference in the
ninth bit turns E4M3 values over, and one row's scale all values of its row. Needs torch 2.4 or later. Exit code 1 when something is below;
one JSON line last.
"""

import argparse
import json
import os
import sys

import torch
import torch.nn.functional as F

E4M3_MAX = 448.0
# Keys that the attention takes at a time (portableTuning of flash-attention.ts).
ATTENTION_TILE = 64
MINIMUM = {"bf16": ("fp32", 0.999), "fp8": ("fp8", 0.998), "fp8-rowwise": ("fp8-rowwise", 0.998)}


def read_safetensors(path, device):
    """bf16 tensors by name. The format: u64 length of the header, JSON header, data."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if entry["dtype"] != "BF16":
                sys.exit(f"{path}: {name} is {entry['dtype']}; native.mjs writes BF16")
            file.seek(8 + length + begin)
            data = bytearray(file.read(end - begin))
            tensors[name] = torch.frombuffer(data, dtype=torch.bfloat16).view(entry["shape"]).to(device)
    return tensors


def to_e4m3(values, scale):
    """Rounded to E4M3 and widened again, still divided by the scale. A kernel multiplies by the inverse, too."""
    scaled = (values.float() * (1.0 / scale)).clamp(-E4M3_MAX, E4M3_MAX)
    return scaled.to(torch.float8_e4m3fn).float()


def scale_of(values, per_row):
    amax = values.float().abs()
    amax = amax.amax(-1, keepdim=True) if per_row else amax.amax()
    return torch.where(amax > 0, amax / E4M3_MAX, torch.ones_like(amax))


class Product:
    """y = x Wᵀ (+ what y is added to), as one precision computes it. The weights of one product lie below each other, as in
    the engine: they share the static scale."""

    def __init__(self, precision, activation_scale):
        self.precision = precision
        self.activation_scale = activation_scale

    def __call__(self, x, matrices, residual=None):
        weight = torch.cat(matrices)
        if self.precision == "fp32":
            y = x.float() @ weight.float().t()
        elif self.precision == "bf16":
            y = (x.bfloat16() @ weight.t()).float()
        else:
            per_row = self.precision == "fp8-rowwise"
            weight_scale = scale_of(weight, per_row)
            x_scale = scale_of(x, True) if per_row else torch.tensor(self.activation_scale, device=x.device)
            y = to_e4m3(x, x_scale) @ to_e4m3(weight, weight_scale).t()
            y = y * x_scale * (weight_scale.t() if per_row else weight_scale)
        return y if residual is None else residual.float() + y


def rms_norm(x, gamma, epsilon):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * gamma.float()


def rotate(x, cosine, sine):
    low, high = x.chunk(2, -1)
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), -1)


def attend(scores, values, rounded):
    """softmax(scores) · values. As in FlashAttention the weights are rounded relative to the largest score so far, a tile of
    keys after the other: E4M3 makes much of small differences, and this one would hide others."""
    tiles = F.pad(scores, (0, -scores.shape[-1] % ATTENTION_TILE), value=-torch.inf).unflatten(-1, (-1, ATTENTION_TILE))
    largest = tiles.amax(-1).cummax(-1).values[..., None]
    weights = (tiles - largest).exp()
    factor = (largest - largest[..., -1:, :]).exp()
    total = (weights * factor).sum((-1, -2))
    shares = (rounded(weights) * factor).flatten(-2)[..., : scores.shape[-1]]
    return torch.einsum("hqk,khd->qhd", shares, values) / total.t()[..., None]


def forward(config, tensors, ids, precision, activation_scale, exact_attention=False):
    """The pooled, normalised vector of one text. What the engine stores between kernels is rounded to bf16 here, too."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_size, epsilon = config["head_dim"], config["rms_norm_eps"]
    product = Product(precision, activation_scale)
    stored = (lambda x: x) if precision == "fp32" else (lambda x: x.bfloat16().float())
    # The product of E4M3 reads what the norm computed in f32; that of bf16 reads bf16.
    given = stored if precision == "bf16" else (lambda x: x)
    tokens = len(ids)
    x = tensors["embed_tokens.weight"][torch.tensor(ids, device=tensors["norm.weight"].device)].float()
    frequency = config["rope_theta"] ** (-torch.arange(0, head_size, 2, device=x.device, dtype=torch.float64) / head_size)
    angle = torch.outer(torch.arange(tokens, device=x.device, dtype=torch.float64), frequency)
    cosine, sine = angle.cos().float()[:, None], angle.sin().float()[:, None]
    is_hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
    for i in range(config["num_hidden_layers"]):
        weight = lambda name: tensors[f"layers.{i}.{name}.weight"]
        normed = given(rms_norm(x, weight("input_layernorm"), epsilon))
        qkv = stored(product(normed, [weight(f"self_attn.{part}_proj") for part in "qkv"]))
        q, k, v = qkv.view(tokens, -1, head_size).split((heads, kv_heads, kv_heads), 1)
        q = stored(rotate(rms_norm(q, weight("self_attn.q_norm"), epsilon), cosine, sine))
        k = stored(rotate(rms_norm(k, weight("self_attn.k_norm"), epsilon), cosine, sine))
        k, v = (each.repeat_interleave(heads // kv_heads, 1) for each in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) / head_size**0.5
        scores = scores.masked_fill(is_hidden, -torch.inf)
        attended = attend(scores, v, (lambda x: x) if exact_attention else stored).reshape(tokens, -1)
        # With a scale that is given, the attention brings its sums to E4M3 itself.
        attended = attended if precision == "fp8" else stored(attended)
        x = stored(product(attended, [weight("self_attn.o_proj")], residual=x))
        normed = given(rms_norm(x, weight("post_attention_layernorm"), epsilon))
        gate, up = stored(product(normed, [weight("mlp.gate_proj"), weight("mlp.up_proj")])).chunk(2, -1)
        x = stored(product(given(F.silu(gate) * up), [weight("mlp.down_proj")], residual=x))
    return F.normalize(rms_norm(x[-1], tensors["norm.weight"], epsilon), dim=-1)


def transformers_bf16(config, tensors, texts, device):
    """@returns vectors, or None with the reason"""
    try:
        from transformers import Qwen3Config, Qwen3Model

        settings = {name: value for name, value in config.items() if name != "model_type"}
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(device):
                model = Qwen3Model(Qwen3Config(**settings, attn_implementation="sdpa")).eval()
        finally:
            torch.set_default_dtype(before)
        # Its rotary frequencies must not be bf16.
        half = torch.arange(0, config["head_dim"], 2, device=device, dtype=torch.float32)
        model.rotary_emb.inv_freq = config["rope_theta"] ** (-half / config["head_dim"])
        model.load_state_dict(tensors, strict=True)
        outputs = [model(input_ids=torch.tensor([ids], device=device)).last_hidden_state[0, -1] for ids in texts]
        return [F.normalize(each.float(), dim=-1) for each in outputs], "transformers"
    except ImportError as error:
        return None, f"own code: {error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="what native.mjs --folder wrote")
    parser.add_argument("--vectors", required=True, help="what native.mjs --vectors wrote")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", help="the JSON line goes there, too")
    flags = parser.parse_args()
    with open(flags.vectors) as file:
        ours = json.load(file)
    with open(os.path.join(flags.folder, "config.json")) as file:
        config = json.load(file)
    if flags.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device is there for PyTorch; --device cpu does for --shape small")
    tensors = read_safetensors(os.path.join(flags.folder, "model.safetensors"), flags.device)
    texts = ours["ids"]
    record = {"torch": torch.__version__, "shape": ours["shape"], "lengths": [len(ids) for ids in texts], "cosines": []}
    if flags.device == "cuda":
        record["gpu"] = torch.cuda.get_device_name()

    vectors, otherwise = {}, {}
    with torch.inference_mode():
        for precision in ("fp32", "bf16", *(name for name in ours["vectors"] if name.startswith("fp8"))):
            # E4M3 has 4 significant bits: TF32 multiplies it exactly, and sums in f32.
            torch.backends.cuda.matmul.allow_tf32 = precision.startswith("fp8")
            if precision == "bf16":
                vectors["bf16"], record["bf16By"] = transformers_bf16(config, tensors, texts, flags.device)
                if vectors["bf16"] is not None:
                    continue
            run = lambda **options: [
                forward(config, tensors, ids, precision, ours["activationScale"], **options) for ids in texts
            ]
            vectors[precision] = run()
            if precision.startswith("fp8"):
                otherwise[precision] = run(exact_attention=True)

    failures = []

    def compare(what, left, right, required=None, by_rounding=1.0):
        cosines = [float(F.cosine_similarity(a.float().cpu(), b.float().cpu(), dim=0)) for a, b in zip(left, right)]
        worst = min(cosines)
        is_required = required is None or worst > required
        is_enough = is_required or worst >= by_rounding
        verdict = "" if required is None else f" (> {required}: {'pass' if is_required else 'FAIL'})"
        if not is_required and is_enough:
            verdict += f", but no worse than rounding alone, {by_rounding:.6f}"
        print(f"{what}: worst cosine {worst:.6f}{verdict}; {' '.join(f'{each:.6f}' for each in cosines)}")
        record["cosines"].append({"what": what, "worst": worst, "required": required, "cosines": cosines})
        if not is_enough:
            failures.append(what)
        return worst

    print(f"{ours['shape']}, texts of {', '.join(map(str, record['lengths']))} tokens; bf16 by {record['bf16By']}")
    for precision in (name for name in vectors if name != "fp32"):
        compare(f"PyTorch {precision} to PyTorch fp32", vectors[precision], vectors["fp32"])
    by_rounding = {
        precision: compare(f"PyTorch {precision} to itself, rounded otherwise", values, vectors[precision])
        for precision, values in otherwise.items()
    }
    for precision, values in ours["vectors"].items():
        own = [torch.tensor(each) for each in values]
        reference, required = MINIMUM[precision]
        others = [name for name in ("fp32", "bf16") if name != reference]
        compare(f"ours {precision} to PyTorch {reference}", own, vectors[reference], required, by_rounding.get(precision, 1.0))
        for other in others:
            compare(f"ours {precision} to PyTorch {other}", own, vectors[other])
    record["failures"] = failures
    line = json.dumps(record)
    if flags.out is not None:
        with open(flags.out, "w") as file:
            file.write(f"{line}\n")
    print(line)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
