#!/usr/bin/env python3
"""Writes tests/data/config/cases.json: config.json files that say one thing in several places, and what transformers makes of them.

    pip install torch transformers && python3 tools/make_config_cases.py

A case is a fixture of tests/data with other keys in its config.json (null: as it stands there, "DELETE": taken out). Its result
is what transformers 5 computes with: inverse frequencies and factor of cos and sin (`sliding`: of blocks with a window; `long`: of
sessions longer than the original context), elements of a head that are rotated, the window of every block; or `error`, where
transformers fails. `ours`: "refused" where whit refuses what transformers reads, "read" where it reads what transformers refuses,
each with the reason in `why`.
"""
import contextlib
import io
import json
import pathlib
import warnings

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

DATA = pathlib.Path(__file__).parent.parent / "tests/data"
D = "DELETE"
transformers.logging.set_verbosity(50)
warnings.simplefilter("ignore")


def yarn(**more):
    return dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64) | more


def default(**more):
    return dict(rope_type="default") | more


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
FACTORS = dict(short_factor=[1.0 + 0.1 * i for i in range(8)], long_factor=[2.0 + i for i in range(8)])
LONG = dict(rope_type="longrope", original_max_position_embeddings=64, **FACTORS)
CASES = []


def case(fixture, name, ours=None, why=None, **changes):
    CASES.append(dict(name=f"{fixture}: {name}", fixture=fixture, changes=changes) | (dict(ours=ours, why=why) if ours else {}))


for f in ("llama_gqa", "mistral_sliding", "qwen2_bias", "qwen3_qknorm", "smollm3"):
    one = dict(rope_parameters=D, rope_scaling=D, rope_theta=D)
    case(f, "nothing", **one)
    case(f, "theta outside", **one | dict(rope_theta=500.0))
    case(f, "theta inside", **one | dict(rope_parameters=default(rope_theta=500.0)))
    case(f, "theta in both", **one | dict(rope_parameters=default(rope_theta=500.0), rope_theta=700.0))
    case(f, "theta in rope_scaling and outside", **one | dict(rope_scaling=default(rope_theta=500.0), rope_theta=700.0))
    case(f, "scaling in rope_scaling", **one | dict(rope_scaling=yarn()))
    case(f, "scaling in rope_parameters", **one | dict(rope_parameters=yarn()))
    case(f, "scaling in both, different", **one | dict(rope_scaling=yarn(), rope_parameters=default(rope_theta=500.0)))
    case(f, "scaling in both, theta outside", **one | dict(rope_scaling=yarn(), rope_parameters=default(rope_theta=500.0), rope_theta=700.0))
    case(f, "scaling in both, two kinds", **one | dict(rope_scaling=dict(rope_type="linear", factor=2.0), rope_parameters=yarn()))
    case(f, "empty rope_scaling", **one | dict(rope_scaling={}, rope_parameters=yarn()))
    case(f, "null rope_scaling", **one | dict(rope_scaling=None, rope_parameters=yarn()))
    case(f, "type alone", **one | dict(rope_scaling=dict(type="linear", factor=2.0)))
    case(f, "type and rope_type", **one | dict(rope_scaling=dict(type="linear", rope_type="dynamic", factor=2.0)))
    case(f, "original outside", **one | dict(rope_scaling=dict(rope_type="yarn", factor=4.0), original_max_position_embeddings=32))
    case(f, "original in both", **one | dict(rope_scaling=yarn(), original_max_position_embeddings=32))
    case(f, "original nowhere", **one | dict(rope_scaling=dict(rope_type="yarn", factor=4.0)))
    case(f, "yarn, null factor", **one | dict(rope_scaling=yarn(factor=None)))
    case(f, "yarn, no factor", ours="read", why="null and absent are one: the ratio of the contexts",
         **one | dict(rope_scaling=dict(rope_type="yarn", original_max_position_embeddings=64)))
    case(f, "llama3", **one | dict(rope_scaling=LLAMA3, rope_theta=500000.0))
    case(f, "llama3, original outside", **one | dict(rope_scaling=LLAMA3, rope_theta=500000.0, original_max_position_embeddings=16))
    case(f, "llama3, original outside only", **one | dict(
        rope_scaling={k: v for k, v in LLAMA3.items() if k[0] != "o"}, rope_theta=500000.0, original_max_position_embeddings=16))
    case(f, "longrope", **one | dict(rope_scaling=LONG))
    case(f, "longrope, original in both", **one | dict(rope_scaling=LONG, original_max_position_embeddings=32))
    case(f, "longrope, factor", **one | dict(rope_scaling=LONG | dict(factor=32.0)))
    case(f, "part of heads outside", **one | dict(partial_rotary_factor=0.5))
    case(f, "part of heads inside", **one | dict(rope_parameters=default(partial_rotary_factor=0.5)))
    case(f, "part of heads, scaled", **one | dict(rope_scaling=yarn(partial_rotary_factor=0.5)))
    case(f, "part of heads outside, scaled", **one | dict(rope_scaling=yarn(), partial_rotary_factor=0.5))
    case(f, "whole heads, said", **one | dict(rope_scaling=yarn(partial_rotary_factor=1.0), partial_rotary_factor=0.5))
    if f in ("qwen2_bias", "qwen3_qknorm", "smollm3"):
        case(f, "a table by kinds of layers", **one | dict(rope_parameters=dict(full_attention=yarn())))
    else:
        case(f, "a table by kinds of layers", ours="refused", why="transformers reads none of it",
             **one | dict(rope_parameters=dict(full_attention=yarn())))

G = dict(rope_parameters=D, rope_scaling=D, rope_theta=D, rope_local_base_freq=D)
for name, changes in {
    "nothing": {}, "thetas outside": dict(rope_theta=500.0, rope_local_base_freq=70.0),
    "thetas in both": dict(rope_theta=500.0, rope_local_base_freq=70.0, rope_parameters=dict(
        full_attention=default(rope_theta=600.0), sliding_attention=default(rope_theta=80.0))),
    "only full_attention": dict(rope_theta=500.0, rope_local_base_freq=70.0, rope_parameters=dict(full_attention=default(rope_theta=600.0))),
    "only sliding_attention": dict(rope_theta=500.0, rope_parameters=dict(sliding_attention=default(rope_theta=80.0))),
    "rope_scaling": dict(rope_scaling=dict(rope_type="linear", factor=8.0)),
    "rope_scaling beside tables": dict(rope_scaling=dict(rope_type="linear", factor=8.0), rope_parameters=dict(
        full_attention=default(rope_theta=600.0), sliding_attention=default(rope_theta=80.0))),
    "scaling in both": dict(rope_scaling=dict(factor=8.0), rope_parameters=dict(full_attention=dict(rope_type="linear", factor=2.0))),
    "null tables": dict(rope_parameters=dict(full_attention=None, sliding_attention=None)),
    "part of heads": dict(partial_rotary_factor=0.5), "yarn, original outside": dict(
        rope_scaling=yarn(), original_max_position_embeddings=32),
    "yarn, original outside only": dict(rope_scaling=dict(rope_type="yarn", factor=4.0), original_max_position_embeddings=32),
    "null window": dict(sliding_window=None), "pattern beside layer_types": dict(sliding_window_pattern=2),
    "pattern alone": dict(sliding_window_pattern=2, layer_types=D),
}.items():
    case("gemma3_text", name, **G | changes)
case("gemma3_text", "one flat table", ours="refused", why="transformers reads none of it", **G | dict(rope_parameters=default(rope_theta=600.0)))
case("gemma3_text", "rope_scaling by type", ours="refused", why="transformers does not read type here",
     **G | dict(rope_scaling=dict(type="linear", factor=8.0)))
case("gemma3_text", "scaled windows", ours="refused", why="blocks with a window are not scaled here", **G | dict(
    rope_parameters=dict(sliding_attention=dict(type="linear", factor=2.0))))

P = dict(rope_parameters=D, rope_scaling=D, rope_theta=D, original_max_position_embeddings=D, partial_rotary_factor=D)
HALF = dict(short_factor=[1.0, 1.5, 2.0, 3.0], long_factor=[2.0, 4.0, 8.0, 9.0])
for name, changes in {
    "nothing": {}, "original outside": dict(rope_scaling=LONG, original_max_position_embeddings=32),
    "original inside only": dict(rope_scaling=LONG), "part outside": dict(partial_rotary_factor=0.5),
    "part inside": dict(rope_parameters=default(partial_rotary_factor=0.5)),
    "part in both": dict(rope_parameters=default(partial_rotary_factor=0.75), partial_rotary_factor=0.5),
    "part, scaled": dict(rope_scaling=dict(rope_type="longrope", **HALF), partial_rotary_factor=0.5, original_max_position_embeddings=32),
    "yarn is longrope": dict(rope_scaling=dict(type="yarn", **FACTORS), original_max_position_embeddings=32),
    "theta in both": dict(rope_parameters=default(rope_theta=500.0), rope_theta=700.0),
    "scaling in both": dict(rope_scaling=LONG, rope_parameters=default(rope_theta=500.0), original_max_position_embeddings=32),
    "linear": dict(rope_scaling=dict(rope_type="linear", factor=2.0)), "dynamic": dict(rope_scaling=dict(rope_type="dynamic", factor=2.0)),
    "window": dict(sliding_window=16), "null window": dict(sliding_window=None),
}.items():
    case("phi3", name, **P | changes)
case("phi3", "su is longrope", ours="read", why="as Phi-3 was published first", **P | dict(
    rope_scaling=dict(type="su", **FACTORS), original_max_position_embeddings=32))

S, F = "sliding_attention", "full_attention"
case("mistral_sliding", "window absent", sliding_window=D)
case("mistral_sliding", "window null", sliding_window=None)
case("mistral_sliding", "layer_types of another opinion", ours="refused", why="transformers does not read layer_types here",
     layer_types=[S, F, S])
case("mistral_sliding", "layer_types beside no window", ours="refused", why="transformers does not read layer_types here",
     layer_types=[S, S, S], sliding_window=None)
for f in ("qwen2_bias", "qwen3_qknorm", "smollm3"):
    layers = json.loads((DATA / f / "config.json").read_text())["num_hidden_layers"]
    off = dict(use_sliding_window=D, sliding_window=D, max_window_layers=D, layer_types=D)
    one = ([S, F] * layers)[:layers]
    case(f, "a window that is off", **off | dict(sliding_window=16, max_window_layers=0))
    case(f, "a window that is on", **off | dict(sliding_window=16, max_window_layers=1, use_sliding_window=True))
    case(f, "a window by layer_types", **off | dict(sliding_window=16, layer_types=one, use_sliding_window=True))
    case(f, "layer_types beside a window that is off", ours="refused", why="which is meant is not known",
         **off | dict(sliding_window=16, layer_types=one, use_sliding_window=False))
    case(f, "a window without a size", ours="refused" if f == "smollm3" else None, why="nothing sizes the window",
         **off | dict(layer_types=one, use_sliding_window=True, sliding_window=None))


def floats(values):
    return [float(f"{v:.9g}") for v in values.tolist()]


def rotary(config):
    name = {"gemma3_text": "gemma3"}.get(config.model_type, config.model_type)
    module = getattr(transformers.models, name)
    module = __import__(f"transformers.models.{name}.modeling_{name}", fromlist=["x"])
    cls = next(v for k, v in vars(module).items() if k.endswith("RotaryEmbedding"))
    return cls(config)


def heads(config, frequencies):
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if config.model_type != "phi3" and 2 * len(frequencies) != head:
        raise ValueError(f"{2 * len(frequencies)} rotated elements do not fit heads of {head}")
    return 2 * len(frequencies)


def compute(text):
    config = CONFIG_MAPPING[text["model_type"]].from_dict(json.loads(json.dumps(text)))
    r = rotary(config)
    if config.model_type == "gemma3_text":
        full, local = r.full_attention_inv_freq, r.sliding_attention_inv_freq
        result = dict(frequencies=floats(full), factor=r.full_attention_attention_scaling, sliding=floats(local),
                      dimensions=heads(config, full))
    else:
        result = dict(frequencies=floats(r.inv_freq), factor=r.attention_scaling, dimensions=heads(config, r.inv_freq))
        if r.rope_type == "longrope":
            original = config.rope_parameters["original_max_position_embeddings"]
            r(torch.zeros(1, 1, 4), torch.tensor([[original]]))
            result |= dict(original=original, long=floats(r.inv_freq))
    layers, window = config.num_hidden_layers, getattr(config, "sliding_window", None)
    types = [S] * layers if config.model_type in ("mistral", "phi3") else getattr(config, "layer_types", None) or [F] * layers
    if config.model_type not in ("mistral", "phi3") and S in types and window is None:
        raise ValueError("a mask of a window without a size")
    result["windows"] = [window if t == S and window else 0 for t in types]
    return result


for c in CASES:
    text = json.loads((DATA / c["fixture"] / "config.json").read_text()) | c["changes"]
    text = {k: v for k, v in text.items() if v != D}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            c["result"] = compute(text)
    except Exception as error:
        c["result"] = dict(error=f"{type(error).__name__}: {error}"[:120])
out = DATA / "config"
out.mkdir(exist_ok=True)
lines = ",\n".join(json.dumps(c) for c in CASES)
(out / "cases.json").write_text(f'{{"transformers": "{transformers.__version__}", "cases": [\n{lines}\n]}}\n')
print(len(CASES), "cases,", sum("error" in c["result"] for c in CASES), "errors")
