#!/usr/bin/env python3
"""Whether transformers says the same of what `whit convert` wrote as of the original.

    pip install torch transformers accelerate safetensors gguf numpy
    python3 tools/check_convert.py build/release/src/cli/whit tests/data/llama_gqa [more folders]

For each folder: folder -> GGUF (F32) -> folder. Tensors must be equal; logits of transformers on the folder that came
back, and on the GGUF by its own reader, are compared with those on the original; ids of the tokenizers too. The reader
of transformers passes over rope_freqs.weight, so a model of Llama 3.1 is compared by its folder alone.
"""
import pathlib
import subprocess
import sys
import tempfile

import gguf
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = ["Once upon a time, there were 2024 stories.", "  two  spaces\n\n\tand naïve 日本 😀", "I'm you'LL they've"]


def logits(path, ids, **options):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options).eval()
    with torch.no_grad():
        return model(ids).logits


program, folders = sys.argv[1], sys.argv[2:]
bad = 0
for folder in map(pathlib.Path, folders):
    with tempfile.TemporaryDirectory() as name:
        out = pathlib.Path(name)
        for source, target in [(folder, out / "model.gguf"), (out / "model.gguf", out / "back")]:
            subprocess.run([program, "convert", source, target, "--type", "F32", "-q"], check=True,
                           stdout=subprocess.DEVNULL)
        torch.manual_seed(1)
        vocabulary = AutoModelForCausalLM.from_pretrained(folder).config.vocab_size
        ids = torch.randint(0, vocabulary, (1, 48))
        wanted = logits(folder, ids)
        spread = wanted.std().item()
        back = (logits(out / "back", ids) - wanted).abs().max().item() / spread
        scaled = any(tensor.name == "rope_freqs.weight" for tensor in gguf.GGUFReader(out / "model.gguf").tensors)
        read = 0 if scaled else (logits(out, ids, gguf_file="model.gguf") - wanted).abs().max().item() / spread
        before, after = {}, load_file(out / "back/model.safetensors")
        for file in folder.glob("model*.safetensors"):
            before |= load_file(file)
        equal = before.keys() == after.keys() and all(torch.equal(before[k].float(), after[k]) for k in before)
        first, second = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(out / "back")
        same_ids = all(first(text).input_ids == second(text).input_ids for text in TEXTS)
        keys = len(gguf.GGUFReader(out / "model.gguf").fields)
        print(f"{folder.name}: tensors equal {equal}, ids equal {same_ids}, largest difference of a logit (of their "
              f"deviation): folder {back:.1e}, GGUF {'not read' if scaled else f'{read:.1e}'}; {keys} keys")
        bad += not (equal and same_ids and back < 1e-5 and read < 1e-4)
sys.exit(bad)
