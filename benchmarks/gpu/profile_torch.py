"""An FP8 product by PyTorch (torch._scaled_mm, which is cuBLASLt), timed by PyTorch's profiler: what profile.mjs --torch
compares its own times with.   python3 benchmarks/gpu/profile_torch.py [--rows 512 --columns 6144 --inner 2560 --count 200]
Prints one JSON line last."""

import argparse
import json
import statistics

import torch
from torch.profiler import ProfilerActivity, profile

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=512)
parser.add_argument("--columns", type=int, default=6144)
parser.add_argument("--inner", type=int, default=2560)
parser.add_argument("--count", type=int, default=200, help="products that are timed")
parser.add_argument("--warm-up", type=int, default=50)
args = parser.parse_args()

torch.manual_seed(0)
a = torch.randn(args.rows, args.inner, device="cuda").to(torch.float8_e4m3fn)
b = torch.randn(args.columns, args.inner, device="cuda").to(torch.float8_e4m3fn)
scale = torch.tensor(0.01, device="cuda")


def product():
    return torch._scaled_mm(
        a, b.t(), scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16, use_fast_accum=True
    )


for _ in range(args.warm_up):
    product()
torch.cuda.synchronize()
with profile(activities=[ProfilerActivity.CUDA]) as profiler:
    for _ in range(args.count):
        product()
    torch.cuda.synchronize()

times = {}
for event in profiler.events():
    if event.device_type == torch.autograd.DeviceType.CUDA:
        times.setdefault(event.name, []).append(event.time_range.elapsed_us())
kernel, durations = max(times.items(), key=lambda item: sum(item[1]))
print(
    json.dumps(
        {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cublas": getattr(torch._C, "_cuda_getCublasLtVersion", lambda: None)(),
            "gpu": torch.cuda.get_device_name(),
            "rows": args.rows,
            "columns": args.columns,
            "inner": args.inner,
            "kernel": kernel,
            "instances": len(durations),
            "medianUs": statistics.median(durations),
            "minUs": min(durations),
            "kernels": {name: len(each) for name, each in times.items()},
        }
    )
)
