#!/usr/bin/env python3
"""Makes tests/data/token_places.json: tokens that the files of a folder name in two places, as transformers reads them.

    pip install transformers tokenizers
    tools/make_token_places.py

A token can stand in tokenizer.json (its list of added tokens, its vocabulary, its padding), in tokenizer_config.json
(added_tokens_decoder, a name such as pad_token, the lists and the table of extra tokens), in special_tokens_map.json
and in added_tokens.json. Each case is tests/data/llama_gqa with a token in two of these places, once the same token with other
flags and once another; with what transformers makes of it, or that a place says an id which the token does not get, or two get the same.
"""
import itertools
import json
import os
import pathlib
import shutil
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from transformers import AutoTokenizer  # noqa: E402

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests/data"
TEXTS = ["a<|x|>  b <|y|> c", " <|x|>", "<|y|>\n <|x|>d <|z|> <|im_end|>e"]


def flags(content, special, rstrip, normalized=False):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": normalized,
            "special": special}


class Folder:
    def __init__(self):
        self.change = {"added_tokens": [], "vocab": {}, "padding": None}  # of tokenizer.json
        self.files = {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}}
        self.declared = {}  # ids that the older files name
        self.next = 1024

    def file(self, name):
        return self.files.setdefault(name, {})

    def id(self):
        self.next += 1
        return self.next - 1


def listed(f, content, plain, id):
    f.change["added_tokens"].append({"id": id, **flags(content, plain, not plain)})
    f.declared[content] = id


def vocabulary(f, content, plain, id):
    f.change["vocab"][content] = id
    f.file("tokenizer_config.json")["eos_token"] = content


def decoder(f, content, plain, id):
    f.file("tokenizer_config.json").setdefault("added_tokens_decoder", {})[str(id)] = flags(content, plain, not plain)
    f.declared[content] = id


def added_file(f, content, plain, id):
    f.file("added_tokens.json")[content] = id
    f.declared[content] = id


def in_map(f, content, plain, id):
    value = {key: value for key, value in flags(content, True, not plain).items() if key != "special"}
    f.file("special_tokens_map.json")["pad_token"] = content if plain else value


def list_in_map(f, content, plain, id):
    f.file("special_tokens_map.json").setdefault("additional_special_tokens", []).append(content)


def named(f, content, plain, id):
    value = {"__type": "AddedToken", **flags(content, False, True, True)}
    f.file("tokenizer_config.json")["pad_token"] = content if plain else value


def extra(f, content, plain, id):
    f.file("tokenizer_config.json").setdefault("extra_special_tokens", []).append(content)


def additional(f, content, plain, id):
    value = {"__type": "AddedToken", **flags(content, plain, not plain)}
    f.file("tokenizer_config.json").setdefault("additional_special_tokens", []).append(value)


def table(f, content, plain, id):
    f.file("tokenizer_config.json")["extra_special_tokens"] = {"z_token": content, "a_token": "<|z|>"}


def own_name(f, content, plain, id):
    f.file("tokenizer_config.json")["image_token"] = content


def padding(f, content, plain, id):
    f.change["padding"] = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                           "pad_type_id": 0, "pad_token": content}


PLACES = [listed, vocabulary, decoder, added_file, in_map, list_in_map, named, extra, additional, table, own_name,
          padding]


def loaded(folder, path):
    top = json.loads((DATA / "llama_gqa/tokenizer.json").read_text())
    top["added_tokens"] += folder.change["added_tokens"]
    top["model"]["vocab"].update(folder.change["vocab"])
    top["padding"] = folder.change["padding"]
    (path / "tokenizer.json").write_text(json.dumps(top))
    for name, value in folder.files.items():
        (path / name).write_text(json.dumps(value))
    shutil.copy(DATA / "llama_gqa/config.json", path)
    return AutoTokenizer.from_pretrained(path)


def case(name, folder):
    row = {"name": name, "change": folder.change,
           "files": {name: json.dumps(value) for name, value in folder.files.items()}}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            tokenizer = loaded(folder, pathlib.Path(scratch))
        except TypeError:  # two forms of a place that transformers cannot join
            return None
    ids = {content: tokenizer.convert_tokens_to_ids(content) for content in [*folder.declared, *folder.change["vocab"]]}
    ids["<|x|>"] = tokenizer.convert_tokens_to_ids("<|x|>")
    read = {content: id for content, id in ids.items() if id is not None}  # transformers skips some files beside others
    if any(read.get(content, id) != id for content, id in folder.declared.items()) or len(set(read.values())) < len(read):
        return {**row, "refused": True}
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    return {**row, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id, "ids": ids,
            "spoken": [tokenizer.decode(each, skip_special_tokens=True) for each in ids]}


def main():
    cases = []
    for first, second in itertools.permutations(PLACES, 2):
        if {first, second} == {extra, table}:  # one key
            continue
        folder = Folder()
        first(folder, "<|x|>", True, folder.id())
        second(folder, "<|y|>", True, folder.id())
        cases.append(case(f"{first.__name__}_{second.__name__}_two", folder))
        for plain in (True, False):
            folder = Folder()
            first(folder, "<|x|>", plain, 1024)
            second(folder, "<|x|>", not plain, 1024)
            cases.append(case(f"{first.__name__}_{second.__name__}_{'plain' if plain else 'flagged'}", folder))
    for place in PLACES:
        folder = Folder()
        place(folder, "<|x|>", True, 1024)
        cases.append(case(place.__name__, folder))
    cases = [each for each in cases if each]
    # The same pair in the other order often makes the same files.
    seen, rows = set(), []
    for each in cases:
        key = json.dumps([each["change"], each["files"]], sort_keys=True)
        if key not in seen:
            rows.append(each)
        seen.add(key)
    out = {"texts": TEXTS, "cases": rows}
    text = json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (DATA / "token_places.json").write_text(text + "\n")
    print(len(rows), "cases,", sum("refused" in each for each in rows), "refused")


main()
