#!/usr/bin/env python3
"""Perplexity of what `whit convert` writes, by whit, by llama.cpp and by transformers (dev only).

    apt-get install libopenblas-dev; pip install torch transformers accelerate safetensors gguf tokenizers
    tools/interop.py WHIT wiki.test.raw MODEL[:TYPE,TYPE...] [more models]

MODEL is a folder or a GGUF. For each type (F32 where none is named; Q4_K+Q5_0: the second where rows do not fit the first):
MODEL -> GGUF, scored by `whit eval` and by llama-perplexity, both in fp32; that GGUF -> folder, scored by transformers with the
package `tokenizers`. llama.cpp is built into .whit/compare with OpenBLAS and run without repacked weights: it then multiplies
floats. Its own products round activations to 8 bits: --native. 40 windows of 64 tokens from the first 60,000 bytes of the
text, second halves, each window begun with BOS where the tokenizer puts one. The ids of the three are compared first. A
Markdown table; the exit status counts the rows that differ by more than 0.5 % or in an id.
"""
import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench/compare"))
from compare import FLAGS, build_llama  # noqa: E402
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

WINDOW, WINDOWS, BYTES, BOUND = 64, 40, 60000, 0.5


def output(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")


def whit(*arguments):
    done = output(program, *arguments)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, done.args))}\n{done.stderr}")
    return done.stdout


def llama_ids(gguf):
    done = output(llama / "llama-tokenize", "-m", gguf, "-f", text, "--ids", "--log-disable")
    return json.loads(done.stdout) if done.returncode == 0 else None


def llama_perplexity(gguf):
    """The perplexity, or what the program says instead. Its log sometimes loses the last lines at exit: then once more."""
    for _ in range(10):
        done = output(llama / "llama-perplexity", "-m", gguf, "-f", text, "-c", WINDOW, "-b", WINDOW, "--chunks", WINDOWS,
                      "-t", 2, *([] if native else ["--no-repack"]), "-ctk", "f32", "-ctv", "f32", "-fa", "off")
        said = done.stdout + done.stderr
        found = re.search(r"Final estimate: PPL = ([0-9.]+)", said)
        if found:
            return float(found[1])
        if done.returncode:
            break
    reason = re.search(r"unknown [^\n]*|error[^\n]*", said)
    return reason[0] if reason else f"exit {done.returncode}"


def transformers_perplexity(folder):
    """Perplexity over the second halves, and the ids of the whole text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text.read_text(errors="replace")).ids
    begun = tokenizer.encode("").ids[:1]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    loss, count = 0.0, 0
    for window in range(WINDOWS):
        cut = ids[window * WINDOW:(window + 1) * WINDOW]
        cut[:len(begun)] = begun
        with torch.no_grad():
            logits = model(torch.tensor([cut])).logits[0, WINDOW // 2:-1]
        loss += torch.nn.functional.cross_entropy(logits, torch.tensor(cut[WINDOW // 2 + 1:]), reduction="sum").item()
        count += len(logits)
    return math.exp(loss / count), ids


def row(out, model, kind):
    gguf, folder = out / "model.gguf", out / "folder"
    types = kind.replace("+", ",")
    whit("convert", model, gguf, "--type", types, "-q", "--force")
    whit("convert", gguf, folder, "--type", "F32", "-q", "--force")
    ours = json.loads(whit("eval", gguf, "--text", text, "--context", WINDOW, "--chunks", WINDOWS, "--activations", "fp32",
                           "--json"))["rows"][0]["perplexity_half"]
    theirs, ids = transformers_perplexity(folder)
    other, other_ids = llama_perplexity(gguf), llama_ids(gguf)
    apart = [abs(value / ours - 1) * 100 for value in (other, theirs) if not isinstance(value, str)]
    same = other_ids is None or other_ids == ids
    shown = [other if isinstance(other, str) else f"{other:.4f}", "-" if isinstance(other, str) else f"{apart[0]:.3f} %"]
    print(f"| {model.stem if model.suffix == '.gguf' else model.name} | {kind} | {ours:.4f} | {shown[0]} | {shown[1]} | "
          f"{theirs:.4f} | {apart[-1]:.3f} % | {'not read' if other_ids is None else 'equal' if same else 'differ'} |", flush=True)
    return max(apart) > BOUND or not same


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("whit")
parser.add_argument("text", type=pathlib.Path)
parser.add_argument("models", nargs="+", metavar="MODEL[:TYPE,TYPE...]")
parser.add_argument("--native", action="store_true", help="llama.cpp with its own products")
options = parser.parse_args()
program, native = options.whit, options.native
flags = FLAGS if native else [one for one in FLAGS if "NATIVE" not in one] + [
    "-DGGML_NATIVE=OFF", "-DGGML_BLAS=ON", "-DGGML_BLAS_VENDOR=OpenBLAS"]
llama = build_llama(ROOT / ".whit/compare", "build" if native else "blas", flags, ["llama-perplexity", "llama-tokenize"])
with tempfile.TemporaryDirectory() as name:
    out = pathlib.Path(name)
    text = out / "text"
    text.write_bytes(options.text.read_bytes()[:BYTES])
    print("| model | type | whit | llama.cpp | apart | transformers | apart | ids of llama.cpp |\n|---|---|---|---|---|---|---|---|")
    bad = 0
    for argument in options.models:
        path, _, kinds = argument.partition(":")
        for kind in (kinds or "F32").split(","):
            bad += row(out, pathlib.Path(path), kind)
sys.exit(bad)
