#!/usr/bin/env python3
"""Memory and time of `whit compress` on a synthetic llama of 1B, 3B or 8B shape: random weights, bf16, sharded.

  bench/faults/big.py [--whit PROGRAM] [--shape 3b] [--layers 28] [--preset rtn-4 | --fit 3.1bpw] [--folder FOLDER] [--dry-run]

Makes the folder (needs 10 GB free, deleted afterwards), asks --dry-run what is promised, compresses it, and prints a row of a
Markdown table: promised memory, resident memory beyond the page cache at its peak (RssAnon + RssShmem of /proc/PID/status,
every 10 ms), the system's maximum (VmHWM, pages of the mapped files included), time, bytes. Weights are +-[2^-7, 2^-5).
"""
import argparse
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests/data/llama_tied_smollm"
# Of Llama 3.2 1B and 3B and of Llama 3.1 8B, here with a tied output matrix: width, feed-forward, heads, their keys', size, layers.
SHAPES = {"1b": (2048, 8192, 32, 8, 64, 16), "3b": (3072, 8192, 24, 8, 128, 28), "8b": (4096, 14336, 32, 8, 128, 32)}
VOCABULARY = 128256
# The high byte of a bf16: sign and the upper seven bits of the exponent, 2^-7 or 2^-6 by the low byte's first bit.
HIGH = bytes(0x3C if i < 128 else 0xBC for i in range(256))
CHUNK = 1 << 24


def tensors(model, layers):
    width, inner, heads, keys, head, _ = SHAPES[model]
    yield "model.embed_tokens.weight", (VOCABULARY, width)
    for n in range(layers):
        layer = f"model.layers.{n}."
        yield layer + "input_layernorm.weight", (width,)
        yield layer + "post_attention_layernorm.weight", (width,)
        for name, rows, cols in [("q", heads * head, width), ("k", keys * head, width), ("v", keys * head, width),
                                 ("o", width, heads * head)]:
            yield f"{layer}self_attn.{name}_proj.weight", (rows, cols)
        for name, rows, cols in [("gate", inner, width), ("up", inner, width), ("down", width, inner)]:
            yield f"{layer}mlp.{name}_proj.weight", (rows, cols)
    yield "model.norm.weight", (width,)


def count(shape):
    return shape[0] * (shape[1] if len(shape) == 2 else 1)


def write_weights(file, shape, draw):
    left = count(shape)
    if len(shape) == 1:
        file.write(b"\x80\x3f" * left)  # gains of 1
        return
    while left > 0:
        many = min(left, CHUNK)
        values = bytearray(draw.randbytes(2 * many))
        values[1::2] = values[1::2].translate(HIGH)
        file.write(values)
        left -= many


def make(folder, model, layers, seed):
    width, inner, heads, keys, head, _ = SHAPES[model]
    folder.mkdir()
    config = json.loads((FIXTURE / "config.json").read_text())
    config.update(hidden_size=width, intermediate_size=inner, num_attention_heads=heads, num_key_value_heads=keys, head_dim=head,
                  num_hidden_layers=layers, vocab_size=VOCABULARY, max_position_embeddings=8192, dtype="bfloat16")
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(FIXTURE / "tokenizer.json", folder)
    draw, shards, size = random.Random(seed), [[]], 0
    for name, shape in tensors(model, layers):
        if size + 2 * count(shape) > 2 << 30:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += 2 * count(shape)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, offset = {}, 0
        for tensor, shape in shard:
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + 2 * count(shape)]}
            offset += 2 * count(shape)
            weight_map[tensor] = name
        text = json.dumps(header).encode()
        with open(folder / name, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for _, shape in shard:
                write_weights(file, shape, draw)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return sum(count(shape) for _, shape in tensors(model, layers))


def watch(process):
    """Peaks in bytes: beyond the page cache, and of everything."""
    peaks = {"own": 0, "VmHWM": 0}
    while process.poll() is None:
        try:
            status = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(), re.M))
        except OSError:
            continue
        if "RssAnon" in status:
            peaks["own"] = max(peaks["own"], 1024 * (int(status["RssAnon"]) + int(status["RssShmem"])))
            peaks["VmHWM"] = max(peaks["VmHWM"], 1024 * int(status["VmHWM"]))
        time.sleep(0.01)
    return peaks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whit", type=Path, default=ROOT / "build/release/src/cli/whit")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="3b")
    parser.add_argument("--layers", type=int, help="(default: all of the shape)")
    parser.add_argument("--preset", default="rtn-4")
    parser.add_argument("--fit", help="a size instead of a preset")
    parser.add_argument("--folder", type=Path, help="where the model is made (default: the temporary folder)")
    parser.add_argument("--calibration-tokens", default="8192")
    parser.add_argument("--context", default="512")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="only what is promised")
    options = parser.parse_args()
    options.layers = options.layers or SHAPES[options.shape][-1]
    what = options.fit and f"--fit {options.fit}" or options.preset
    with tempfile.TemporaryDirectory(prefix="whit-big-", dir=options.folder) as folder:
        base = Path(folder)
        needed = 2.2 * 2 * sum(count(shape) for _, shape in tensors(options.shape, options.layers))
        if shutil.disk_usage(base).free < needed:
            sys.exit(f"{base}: {needed / 1e9:.0f} GB free are wanted")
        weights = make(base / "model", options.shape, options.layers, options.seed)
        text = base / "text.txt"
        text.write_text("".join(p.read_text() for p in sorted((ROOT / "docs").rglob("*.md"))))
        environment = dict(os.environ, WHIT_CACHE=str(base / "cache"))
        words = [str(options.whit), "compress", str(base / "model"), "--no-check", "-o", str(base / "small.gguf")]
        words += ["--fit", options.fit] if options.fit else ["--preset", options.preset]
        if options.fit or not options.preset.startswith("rtn"):
            words += ["--data", str(text), "--calibration-tokens", options.calibration_tokens, "--context", options.context]
        plan = subprocess.run([*words, "--dry-run"], env=environment, capture_output=True, text=True)
        promised = " ".join(line for line in (plan.stdout + plan.stderr).splitlines() if "memory" in line or "error" in line)
        print(f"{what}, {options.shape}, {options.layers} layers, {weights / 1e9:.2f}e9 weights; --dry-run: {promised}", flush=True)
        if plan.returncode != 0 or options.dry_run:
            print(plan.stdout + plan.stderr if plan.returncode else "")
            return plan.returncode
        begin = time.monotonic()
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        peaks = watch(process)
        said, seconds = process.stdout.read(), time.monotonic() - begin
        if process.returncode != 0:
            print(said)
            return process.returncode
        print(" ".join(line for line in said.splitlines() if line.startswith("memory")))
        size = (base / "small.gguf").stat().st_size
        print("| command | shape | layers | weights | beyond page cache | VmHWM | time | file |\n|---|---|---|---|---|---|---|---|")
        print(f"| {what} | {options.shape} | {options.layers} | {weights / 1e9:.2f}e9 | {peaks['own'] / 1e9:.2f} GB | "
              f"{peaks['VmHWM'] / 1e9:.2f} GB | {seconds:.0f} s | {size / 1e9:.2f} GB |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
