#!/usr/bin/env python3
"""Tiny quantized folders for tests: tests/data/{llama_gptq,llama_awq,llama_f8}, made of tests/data/llama_gqa.

    pip install numpy safetensors && python3 tools/quantized_folders.py

One layer, 64 rows of the vocabulary, a feed-forward of 32. What each matrix stands for is computed here from the
rounded numbers, before they are packed, and written to expected.safetensors as floats [out, in] in the folder's order.
"""
import json
import pathlib

import numpy as np
from safetensors.numpy import load_file

DATA = pathlib.Path(__file__).parent.parent / "tests/data"
VOCABULARY, WIDTH, HIDDEN, GROUP = 64, 64, 32, 16
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
           "mlp.up_proj", "mlp.down_proj"]
EXPECTED = ["self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"]
rng = np.random.default_rng(5)


def write(path, tensors):
    """tensors: name -> (dtype of safetensors, shape, bytes)"""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))


def array(dtype, values):
    kind = {"F32": np.float32, "F16": np.float16, "I32": np.int32}[dtype]
    return dtype, values.shape, np.ascontiguousarray(values.astype(kind)).tobytes()


def bfloat16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return "BF16", values.shape, rounded.astype(np.uint16).tobytes()


def source():
    full = load_file(DATA / "llama_gqa/model.safetensors")
    out = {}
    for name, value in full.items():
        if ".layers." in name and not name.startswith("model.layers.0."):
            continue
        if "embed_tokens" in name or "lm_head" in name:
            value = value[:VOCABULARY]
        if "gate_proj" in name or "up_proj" in name:
            value = value[:HIDDEN]
        if "down_proj" in name:
            value = value[:, :HIDDEN]
        out[name] = value.astype(np.float32)
    return out


def folder(name, quantization):
    path = DATA / name
    path.mkdir(exist_ok=True)
    config = json.loads((DATA / "llama_gqa/config.json").read_text())
    config.update(num_hidden_layers=1, vocab_size=VOCABULARY, intermediate_size=HIDDEN,
                  quantization_config=quantization)
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return path


def round_groups(weights, order):
    """codes [out, in], zeros and scales [groups, out]; the group of each input in `order`."""
    out, inputs = weights.shape
    groups = order.max() + 1
    codes = np.zeros((out, inputs), np.int64)
    zeros, scales = np.zeros((groups, out), np.int64), np.zeros((groups, out), np.float16)
    for g in range(groups):
        part = weights[:, order == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        scales[g] = ((high - low) / 15).astype(np.float16)
        scale = scales[g].astype(np.float32)
        zeros[g] = np.clip(np.round(-low / scale), 0, 15)
        codes[:, order == g] = np.clip(np.round(part / scale[:, None]) + zeros[g][:, None], 0, 15)
    zeros[0, 0], zeros[0, 1] = 0, 15  # the ends of the range, so that a wrong turn of "minus one" shows
    return codes, zeros, scales


def words(nibbles, axis):
    """Eight numbers of four bits along `axis` to a 32-bit word, the first one lowest."""
    moved = np.moveaxis(nibbles, axis, -1)
    grouped = moved.reshape(*moved.shape[:-1], moved.shape[-1] // 8, 8).astype(np.uint64)
    packed = sum(grouped[..., i] << np.uint64(4 * i) for i in range(8)).astype(np.uint32).view(np.int32)
    return np.moveaxis(packed, -1, axis)


def int4(name, awq):
    quantization = {"quant_method": "awq" if awq else "gptq", "bits": 4, "group_size": GROUP}
    quantization.update({"zero_point": True, "version": "gemm"} if awq else {"desc_act": True, "sym": False})
    path = folder(name, quantization)
    weights, tensors, expected = source(), {}, {}
    for layer in LINEARS:
        base = f"model.layers.0.{layer}."
        matrix = weights.pop(base + "weight")
        inputs = matrix.shape[1]
        order = np.arange(inputs) // GROUP
        if not awq:  # groups in the order of activations: any order of the inputs
            order = rng.permutation(order)
        codes, zeros, scales = round_groups(matrix, order)
        if layer in EXPECTED:
            values = (codes - zeros[order].T).astype(np.float32) * scales[order].T.astype(np.float32)
            expected[base + "weight"] = array("F32", values)
        if awq:
            turned = np.array([0, 2, 4, 6, 1, 3, 5, 7])  # nibble i holds output turned[i] of eight
            shuffle = (np.arange(matrix.shape[0]).reshape(-1, 8)[:, turned]).reshape(-1)
            tensors[base + "qweight"] = array("I32", words(codes.T[:, shuffle], 1))
            tensors[base + "qzeros"] = array("I32", words(zeros[:, shuffle], 1))
        else:
            tensors[base + "qweight"] = array("I32", words(codes.T, 0))
            tensors[base + "qzeros"] = array("I32", words((zeros - 1) % 16, 1))
            tensors[base + "g_idx"] = array("I32", order)
            tensors[base + "bias"] = array("F16", np.zeros(matrix.shape[0]))
        tensors[base + "scales"] = array("F16", scales)
    for key, value in weights.items():
        tensors[key] = array("F16", value)
    write(path / "model.safetensors", tensors)
    write(path / "expected.safetensors", expected)


def e4m3():
    """The 256 values by the definition: sign, exponent of bias 7, mantissa of three bits; NaN at the ends."""
    values = []
    for code in range(256):
        exponent, mantissa = code >> 3 & 15, code & 7
        value = mantissa / 8 * 2.0 ** -6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        values.append(np.nan if code & 127 == 127 else -value if code & 128 else value)
    return np.array(values)


def f8():
    path = folder("llama_f8", {"quant_method": "fp8", "weight_block_size": [16, 16]})
    weights, tensors, expected = source(), {}, {}
    table = e4m3()
    usable = np.where(np.isnan(table), np.inf, table)
    for index, layer in enumerate(LINEARS):
        base = f"model.layers.0.{layer}."
        matrix = weights.pop(base + "weight")
        rows, cols = matrix.shape
        kind = ["scalar", "rows", "blocks", "plain"][index % 4] if layer != "mlp.down_proj" else "blocks"
        parts = {"scalar": (1, 1), "rows": (rows, 1), "blocks": (-(-rows // 16), -(-cols // 16)), "plain": (1, 1)}[kind]
        scale = np.abs(rng.normal(1, 0.2, parts)).astype(np.float32) / 400 if kind != "plain" else np.ones((1, 1), np.float32)
        spread = np.repeat(np.repeat(scale, -(-rows // parts[0]), 0)[:rows], -(-cols // parts[1]), 1)[:, :cols]
        codes = np.abs(matrix[:, :, None] / spread[:, :, None] - usable).argmin(2).astype(np.uint8)
        tensors[base + "weight"] = "F8_E4M3", codes.shape, codes.tobytes()
        if kind == "scalar":
            tensors[base + "weight_scale"] = "F32", (), scale.tobytes()
        elif kind == "rows":
            tensors[base + "weight_scale"] = array("F32", scale)
        elif kind == "blocks":
            tensors[base + "weight_scale_inv"] = array("F32", scale)
        if layer in EXPECTED:
            expected[base + "weight"] = array("F32", table[codes].astype(np.float32) * spread)
    for key, value in weights.items():
        tensors[key] = bfloat16(value)
    names = list(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, listed in shards.items():
        write(path / file, {name: tensors[name] for name in listed})
    index = {"metadata": {"total_size": sum(len(data) for _, _, data in tensors.values())},
             "weight_map": {name: file for file, listed in shards.items() for name in listed}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    write(path / "expected.safetensors", expected)


int4("llama_gptq", False)
int4("llama_awq", True)
f8()
