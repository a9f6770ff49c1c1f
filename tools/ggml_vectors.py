#!/usr/bin/env python3
"""Blocks of ggml's types and what the package `gguf` makes of them: tests/data/ggml_blocks.safetensors.

    pip install gguf numpy safetensors && python3 tools/ggml_vectors.py

Three rows of random bytes a type; scales that would be NaN, infinite or subnormal are drawn from ordinary halves.
"""
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

# Byte offsets of the half floats in a block.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": [],
}
ROWS = 3

rng = np.random.default_rng(7)
tensors = {}
for name, halves in HALVES.items():
    kind = gguf.GGMLQuantizationType[name]
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = 1 if weights == 256 else 3
    data = rng.integers(0, 256, (ROWS, blocks, size), dtype=np.uint8)
    for at in halves:
        scale = rng.normal(0, 0.05, (ROWS, blocks)).astype(np.float16)
        data[:, :, at:at + 2] = scale.view(np.uint8).reshape(ROWS, blocks, 2)
    if name == "MXFP4":  # powers of two: the ends of the range, and around one
        data[:, :, 0] = np.array([[0, 1, 2], [127, 128, 120], [251, 250, 126]], np.uint8)
    if name.startswith("TQ1"):  # bytes that an encoder makes: ceil(256 v / 243) of a number v of five digits
        digits = rng.integers(0, 243, (ROWS, blocks, 52))
        digits[:, :, 48:] = digits[:, :, 48:] // 3 * 3
        data[:, :, :52] = (digits * 256 + 242) // 243
    data = data.reshape(ROWS, blocks * size)
    tensors[name.lower() + ".bytes"] = data
    tensors[name.lower() + ".floats"] = gguf.quants.dequantize(data, kind).astype(np.float32)
save_file(tensors, pathlib.Path(__file__).parent.parent / "tests/data/ggml_blocks.safetensors")
