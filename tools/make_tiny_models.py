#!/usr/bin/env python3
"""Tiny random models for tests: tests/data/NAME, each with what Hugging Face's implementation computes from it.

    pip install torch transformers safetensors && python3 tools/make_tiny_models.py [NAME ...]

A model has 64 wide layers and 390 tokens. Its weights, norms and biases are random, rounded to the stored type, and
loaded again as fp32 before anything is computed (eager attention, CPU). Every folder gets
  config.json, generation_config.json, model.safetensors   as transformers writes them
  tokenizer.json           that of tests/data/llama_gqa with its first 128 merges
  reference.json           mean_nll and perplexity of input_ids, greedy_ids (8 ids of the prompt, then 24), tokenize
  reference.safetensors    input_ids [1, 40], logits [1, 40, 390], hidden_0 .. hidden_N [1, 40, 64] (the last one normed,
                           and projected where the model projects it)
A model stands for a feature of its family, so each lists configurations without it (`without`). The same weights must
then say something clearly different, or the test that the folder is made for could not fail. The seed is the first
whose greedy text is not too close at any step. Fixed seeds: the same versions of the packages write the same bytes.
--check writes nothing and compares with the folders as they are.
"""
import argparse
import json
import math
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

DATA = pathlib.Path(__file__).parent.parent / "tests/data"
MERGES, VOCABULARY, POSITIONS, PROMPT, NEW = 128, 390, 40, 8, 24
WEIGHT_DEVIATION, EMBEDDING_DEVIATION, NORM_DEVIATION, BIAS_DEVIATION = 0.15, 0.1, 0.2, 0.2
LEAST_CHANGE = 0.05  # of a configuration without the feature, in standard deviations of the logits
LEAST_MARGIN = 0.02  # between the best two tokens of a greedy step, likewise
LEAST_TOKENS = 5  # different ones in the greedy text
COMMON = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=0, pad_token_id=None,
              tie_word_embeddings=False)
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
OPT = dict(vocab_size=VOCABULARY, hidden_size=64, ffn_dim=80, num_hidden_layers=3, num_attention_heads=4,
           max_position_embeddings=64, bos_token_id=0, eos_token_id=0, pad_token_id=1, do_layer_norm_before=False)
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
             "original_max_position_embeddings": 32,
             "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5], "long_factor": [1.0, 1.5, 2.5, 5.0, 9.0, 16.0]}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
GEMMA_ROPE = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
              "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}}
SLIDING, FULL = "sliding_attention", "full_attention"

# name -> (family, configuration, stored type, configurations without the feature)
MODELS = {
    "gemma3_text": ("Gemma3Text", dict(
        COMMON, num_hidden_layers=4, head_dim=16, query_pre_attn_scalar=24, sliding_window=16, tie_word_embeddings=True,
        layer_types=[SLIDING, FULL, SLIDING, SLIDING], rope_parameters=GEMMA_ROPE), torch.bfloat16, [
            dict(layer_types=[FULL] * 4), dict(layer_types=[SLIDING] * 4), dict(query_pre_attn_scalar=16),
            dict(rope_parameters=GEMMA_ROPE | {FULL: GEMMA_ROPE[FULL] | {"factor": 1.0}}),
            dict(rope_parameters={SLIDING: GEMMA_ROPE[FULL], FULL: GEMMA_ROPE[FULL]})]),
    "phi3": ("Phi3", dict(COMMON, sliding_window=None, rope_parameters=PLAIN_ROPE), torch.bfloat16, [
        dict(rope_parameters=PLAIN_ROPE | {"rope_theta": 500.0})]),
    "phi3_long": ("Phi3", dict(
        COMMON, sliding_window=None, tie_word_embeddings=True, original_max_position_embeddings=32,
        rope_parameters=LONG_ROPE), torch.bfloat16, [
            dict(rope_parameters=PLAIN_ROPE | {"partial_rotary_factor": 0.75}),
            dict(rope_parameters=LONG_ROPE | {"long_factor": LONG_ROPE["short_factor"]}),
            dict(rope_parameters=LONG_ROPE | {"attention_factor": 1.0})]),
    "smollm3": ("SmolLM3", dict(
        COMMON, num_hidden_layers=4, tie_word_embeddings=True, no_rope_layers=[1, 1, 0, 1], rope_parameters=PLAIN_ROPE),
        torch.bfloat16, [dict(no_rope_layers=[1, 1, 1, 1]), dict(no_rope_layers=[1, 1, 1, 0])]),
    "opt_postnorm": ("OPT", dict(OPT, word_embed_proj_dim=64), torch.float16, [dict(do_layer_norm_before=True)]),
    "opt_project": ("OPT", dict(OPT, word_embed_proj_dim=32), torch.float16, [dict(do_layer_norm_before=True)]),
    "qwen2_window": ("Qwen2", dict(
        COMMON, num_hidden_layers=4, use_sliding_window=True, sliding_window=16, max_window_layers=2,
        rope_parameters=PLAIN_ROPE), torch.bfloat16, [
            dict(layer_types=[FULL] * 4), dict(layer_types=[SLIDING] * 4), dict(layer_types=[SLIDING] * 2 + [FULL] * 2)]),
    "mistral_head_dim": ("Mistral", dict(COMMON, head_dim=24, sliding_window=None, rope_parameters=PLAIN_ROPE),
                         torch.bfloat16, [dict(sliding_window=16)]),
    "llama_bias": ("Llama", dict(COMMON, attention_bias=True, mlp_bias=True, rope_parameters=PLAIN_ROPE),
                   torch.bfloat16, [dict(attention_bias=False), dict(mlp_bias=False)]),
    "llama_linear": ("Llama", dict(
        COMMON, tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}), torch.bfloat16, [
            dict(rope_parameters=PLAIN_ROPE)]),
    "llama_yarn": ("Llama", dict(COMMON, tie_word_embeddings=True, rope_parameters=YARN), torch.bfloat16, [
        dict(rope_parameters=PLAIN_ROPE), dict(rope_parameters=YARN | {"attention_factor": 1.0}),
        dict(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})]),
    "qwen3_yarn": ("Qwen3", dict(
        COMMON, head_dim=32, tie_word_embeddings=True,
        rope_parameters=YARN | {"beta_fast": 8.0, "beta_slow": 0.5, "attention_factor": 1.25}), torch.bfloat16, [
            dict(rope_parameters=YARN), dict(rope_parameters=YARN | {"attention_factor": 1.25})]),
    "gpt2_inner": ("GPT2", dict(
        vocab_size=VOCABULARY, n_embd=64, n_inner=80, n_layer=3, n_head=4, n_positions=64, bos_token_id=0,
        eos_token_id=0, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False), torch.float16, [
            dict(scale_attn_by_inverse_layer_idx=False)]),
    "gpt2_unscaled": ("GPT2", dict(
        vocab_size=VOCABULARY, n_embd=64, n_inner=80, n_layer=2, n_head=4, n_positions=64, bos_token_id=0,
        eos_token_id=0, activation_function="relu", scale_attn_weights=False), torch.float16, [
            dict(scale_attn_weights=True), dict(activation_function="gelu_new")]),
    "opt_plain": ("OPT", dict(  # as Galactica has it, but without the last norm
        OPT, num_hidden_layers=2, do_layer_norm_before=True, word_embed_proj_dim=64, activation_function="gelu",
        enable_bias=False, layer_norm_elementwise_affine=False, _remove_final_layer_norm=True,
        tie_word_embeddings=False), torch.float16, [
            dict(_remove_final_layer_norm=False), dict(activation_function="relu")]),
    "llama_dynamic": ("Llama", dict(
        COMMON, num_hidden_layers=2, tie_word_embeddings=True, hidden_act="gelu", max_position_embeddings=32,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}), torch.bfloat16, [
            dict(rope_parameters=PLAIN_ROPE), dict(hidden_act="silu"), dict(hidden_act="relu")]),
    "qwen2_yarn": ("Qwen2", dict(
        COMMON, num_hidden_layers=2, tie_word_embeddings=True,
        rope_parameters=YARN | {"mscale": 2.0, "mscale_all_dim": 0.5, "truncate": False}), torch.bfloat16, [
            dict(rope_parameters=YARN | {"truncate": False}),
            dict(rope_parameters=YARN | {"mscale": 2.0, "mscale_all_dim": 0.5})]),
    "gemma3_capped": ("Gemma3Text", dict(
        COMMON, num_hidden_layers=4, head_dim=16, query_pre_attn_scalar=16, sliding_window=16, tie_word_embeddings=True,
        layer_types=[SLIDING, FULL, SLIDING, SLIDING], rope_parameters=GEMMA_ROPE, final_logit_softcapping=4.0,
        attn_logit_softcapping=1.0), torch.bfloat16, [dict(final_logit_softcapping=None)]),
}


def classes(family):
    model = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(family, family + "ForCausalLM")
    return getattr(transformers, family + "Config"), getattr(transformers, model)


def randomize(model, family, seed):
    """Fills the parameters in the order of their names, so that the order of construction does not matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        mean, deviation = 0.0, WEIGHT_DEVIATION
        if name.endswith("bias"):
            deviation = BIAS_DEVIATION
        elif parameter.dim() == 1:  # a norm; Gemma's multiply by 1 + w
            mean, deviation = 0.0 if family == "Gemma3Text" else 1.0, NORM_DEVIATION
        elif any(part in name for part in ("embed", "wte", "wpe", "lm_head")):
            deviation = EMBEDDING_DEVIATION
        parameter.data = mean + deviation * torch.randn(parameter.shape, generator=generator)


def load(kind, folder, config=None):
    """The stored weights as fp32, buffers computed in fp32 (a model that is cast to 16 bits rounds them too)."""
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                 **({"config": config} if config else {}))
    return model.eval()


@torch.no_grad()
def logits_of(model, ids):
    return model(ids, use_cache=False).logits


def reference(model, tokenizer, stored, ids):
    with torch.no_grad():
        out = model(ids, use_cache=False, output_hidden_states=True)
    tensors = {f"hidden_{i}": state.contiguous() for i, state in enumerate(out.hidden_states)}
    tensors |= {"input_ids": ids, "logits": out.logits.contiguous()}
    nll = torch.nn.functional.cross_entropy(out.logits[0, :-1].double(), ids[0, 1:]).item()
    greedy, margin = ids[:, :PROMPT], math.inf
    for _ in range(NEW):  # the whole text at each step: no cache that could remember another scaling of the positions
        best = logits_of(model, greedy)[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        greedy = torch.cat([greedy, best.indices[None, :1]], dim=1)
    texts = [item["text"] for item in json.loads((DATA / "llama_gqa/reference.json").read_text())["tokenize"]]
    encode = lambda text, special: tokenizer.encode(text, add_special_tokens=special).ids
    record = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
        "stored_dtype": str(stored), "mean_nll": nll, "perplexity": math.exp(nll), "greedy_ids": greedy[0].tolist(),
        "tokenize": [{"text": text, "ids": encode(text, True), "ids_no_special": encode(text, False),
                      "decoded": tokenizer.decode(encode(text, False), skip_special_tokens=False)}
                     for text in texts[:6]]}
    return tensors, record, margin / out.logits.std().item()


def small_tokenizer():
    tree = json.loads((DATA / "llama_gqa/tokenizer.json").read_text())
    model = tree["model"]
    model["merges"] = model["merges"][:MERGES]
    first_merge = len(model["vocab"]) - 765
    model["vocab"] = {token: i for token, i in model["vocab"].items() if i < first_merge + MERGES}
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


def make(name, folder, attempt=0):
    family, options, stored, without = MODELS[name]
    configuration, kind = classes(family)
    seed = 1000 * list(MODELS).index(name) + attempt
    config = configuration(**options)
    model = kind(config)
    randomize(model, family, seed)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    model.to(stored).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(small_tokenizer() + "\n")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() <= VOCABULARY
    model = load(kind, folder)
    ids = torch.randint(3, tokenizer.get_vocab_size(), (1, POSITIONS), generator=torch.Generator().manual_seed(7))
    tensors, record, margin = reference(model, tokenizer, stored, ids)
    if margin < LEAST_MARGIN or len(set(record["greedy_ids"][PROMPT:])) < LEAST_TOKENS:
        return make(name, folder, attempt + 1)
    save_file(tensors, folder / "reference.safetensors")
    (folder / "reference.json").write_text(json.dumps(record, ensure_ascii=True) + "\n")
    deviation = tensors["logits"].std().item()
    changes = []
    for other in without:
        changed = load(kind, folder, configuration(**(options | other)))
        changes.append((logits_of(changed, ids) - tensors["logits"]).abs().max().item() / deviation)
    print(f"{name:17} seed {seed}, {sum(f.stat().st_size for f in folder.iterdir()) / 1e3:4.0f} kB, logits' deviation "
          f"{deviation:.2f}, margin {margin:.3f}, perplexity {record['perplexity']:.0f}, without: "
          + " ".join(f"{change:.2f}" for change in changes))
    if min(changes) < LEAST_CHANGE:
        sys.exit(f"{name}: a feature does not show")


def differences(made, kept):
    """Files whose content differs: weights bit for bit, computed floats within 1e-5, other text exactly."""
    found = []
    for path in sorted(made.iterdir()):
        other = kept / path.name
        if not other.exists():
            found.append(f"{other}: missing")
        elif path.suffix == ".safetensors":
            a, b = load_file(path), load_file(other)
            within = 1e-5 if path.stem == "reference" else 0
            if a.keys() != b.keys() or any(
                    a[k].shape != b[k].shape or not torch.allclose(a[k], b[k], rtol=within, atol=within) for k in a):
                found.append(f"{other}: other tensors")
        elif path.name == "reference.json":
            a, b = (json.loads(p.read_text()) for p in (path, other))
            if any(a[k] != b[k] for k in ("greedy_ids", "tokenize", "stored_dtype")):
                found.append(f"{other}: other ids")
        elif path.read_bytes() != other.read_bytes():
            found.append(f"{other}: other text")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", help="models to make (default: all): " + " ".join(MODELS))
    parser.add_argument("--check", action="store_true", help="write nothing, compare with tests/data")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in MODELS]
    if unknown:
        parser.error(f"unknown model {unknown[0]!r}; known: {' '.join(MODELS)}")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    found = []
    for name in arguments.names or MODELS:
        with tempfile.TemporaryDirectory() as temporary:
            made = pathlib.Path(temporary)
            make(name, made)
            if arguments.check:
                found += differences(made, DATA / name)
                continue
            (DATA / name).mkdir(exist_ok=True)
            for path in made.iterdir():
                shutil.copyfile(path, DATA / name / path.name)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
