#!/usr/bin/env python3
"""Our tokenizers against the PyPI package `tokenizers`, on random and adversarial texts (dev only).

    pip install tokenizers gguf numpy
    cmake --build build/lean --target tokenizer_ids
    tools/compare_tokenizers.py build/lean/tests/data_room/tokenizer_ids [--texts 10000] [--only NAME] [--every]

Compared are ids with and without the tokens at the ends, and both decodings; for the tokenizers of tests/data, for
variants of them that say what other models' files say, each read from the folder, from the GGUF keys that we write, and
(where the file needs no key of ours) from a GGUF file as llama.cpp's converter writes it. Invalid UTF-8, which the
package does not take, must come back from a byte-level tokenizer byte by byte.

    tools/compare_tokenizers.py tokenizer_ids --splits [--texts 10000] [--assigned]

Some 170 patterns and other steps of pre-tokenizers: the pieces themselves against the package's. With --assigned without
characters that Unicode got after Python's version of it, which PCRE2 need not know, and without the small letters above
others (U+0363 ...) that became alphabetic.

    tools/compare_tokenizers.py tokenizer_ids --names VOCABULARY.gguf [--llama PROGRAM] [--texts 10000] [--only NAME]

Every value of tokenizer.ggml.pre: the vocabulary (one of llama.cpp's models/ggml-vocab-*.gguf with byte-level letters) with
that name in it, against the package `tokenizers` on the tokenizer.json that we write for it, and against PROGRAM: llama.cpp's
own reader as a program that answers hexadecimal lines with {"ids": [...], "ends": [...]}.
"""
import argparse
import copy
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata

import gguf
from tokenizers import Tokenizer
from tokenizers.models import BPE

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests/data"
FOLDERS = ["gpt2", "opt_post", "llama_gqa", "llama31_rope", "llama_tied_smollm", "qwen2_bias", "qwen3_qknorm",
           "llama2_sentencepiece", "mistral_sliding"]
MARK = "\u2581"
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
          r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def byte_level(regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def add_tokens(top, tokens):
    """Adds tokens (content, flags) past the vocabulary."""
    first = max(list(top["model"]["vocab"].values()) + [token["id"] for token in top["added_tokens"]]) + 1
    for content, flags in tokens:
        number = top["model"]["vocab"].get(content, first)
        first += number == first
        top["added_tokens"].append({"id": number, "content": content, **{
            flag: flag in flags for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}})


ADDED = [("<plain>", ""), ("<left>", "lstrip special"), ("<right>", "rstrip special"), ("<both>", "lstrip rstrip"),
         ("<norm>", "normalized"), ("wörd", "single_word"), ("ab", "normalized single_word"), ("<norm> x", "normalized"),
         ("e\u0301!", "normalized"), ("  ", ""), ("\n\n", ""), ("<plain><left>", "special")]


def variants():
    """name -> (folder, change of tokenizer.json, does GGUF say it without keys of ours)."""
    yield from ((folder, folder, lambda top: None, folder in PRE) for folder in FOLDERS)

    def change(**parts):
        def apply(top):
            for key, value in parts.items():
                top[key] = copy.deepcopy(value)
        return apply

    def added(top):
        add_tokens(top, ADDED)

    def bos(top):
        top["post_processor"] = {"type": "Sequence", "processors": [
            byte_level(True), {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}}]}

    def plain(top):  # as Llama-2's own file, which does not list the tokens of bytes
        top["added_tokens"] = top["added_tokens"][:3]

    def phi3(top):
        plain(top)
        add_tokens(top, [("<|assistant|>", "rstrip special"), ("<|end|>", "rstrip special"), ("<|user|>", "rstrip special")])
        top["added_tokens"][2]["rstrip"] = True  # </s>

    def gemma(top):
        top["normalizer"] = replace(" ", MARK)
        top["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                "invert": False}
        top["decoder"]["decoders"] = top["decoder"]["decoders"][:3]

    def metaspace(scheme):
        return change(normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme,
                                                      "split": False})

    def both(*changes):
        return lambda top: [each(top) for each in changes]

    nfkc = change(normalizer={"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Prepend", "prepend": MARK}, replace(" ", MARK)]})
    yield "sentencepiece-plain", "llama2_sentencepiece", plain, True
    yield "llama3-bos", "llama31_rope", bos, True
    yield "tekken", "llama31_rope", change(pre_tokenizer=sequence(split(TEKKEN), byte_level(False))), True
    yield "gpt2-split", "gpt2", change(pre_tokenizer=sequence(split(GPT2), byte_level(False))), True
    yield "digits-split", "gpt2", change(pre_tokenizer=sequence(split(r"\p{N}"), byte_level(True))), True
    yield "default", "gpt2", change(pre_tokenizer=sequence(
        split(r"[\p{P}$+<=>^~|]+"), split(GPT2), split(r"\p{N}+"), split("[0-9][0-9][0-9]"), byte_level(False))), True
    yield "gpt2-prefix", "gpt2", both(change(pre_tokenizer=byte_level(True, True)), added), False
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield "qwen2-" + form.lower(), "qwen2_bias", both(change(normalizer={"type": form}), added), False
    yield "gpt2-added", "gpt2", added, False
    yield "llama3-added", "llama_gqa", added, False
    yield "smollm-added", "llama_tied_smollm", added, False
    yield "sentencepiece-added", "llama2_sentencepiece", added, False
    yield "phi3", "llama2_sentencepiece", phi3, True
    yield "gemma", "llama2_sentencepiece", gemma, False
    yield "gemma-added", "llama2_sentencepiece", both(gemma, added), False
    for scheme in ("always", "first", "never"):
        yield "metaspace-" + scheme, "llama2_sentencepiece", metaspace(scheme), False
        yield f"metaspace-{scheme}-added", "llama2_sentencepiece", both(metaspace(scheme), added), False
    yield "sentencepiece-nfkc", "llama2_sentencepiece", both(nfkc, added), False


def texts(count, seed):
    """Texts as str; some name the added tokens."""
    rng = random.Random(seed)
    words = "the cat sat on a mat Hello world DON'T it's we'LL I'd naïve Straße ÉCOLE iPhone McDonald ſt ab wörd".split()
    atoms = (words + list("abzAZ0159.,;:!?'\"()[]{}<>|/\\@#$%^&*-_=+~`") +
             [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\u00a0", "\u3000", "\u2009", "\u200b", "\u0085", "\u2028",
              "\u180e", "\x00", "\x1c", "\x7f", "\ufeff", "\ufffd"] +
             ["é", "e\u0301", "s\u0323\u0307", "s\u0307\u0323", "\u0301", "Å", "\u212b", "ﬁ", "½", "Ⅳ", "²", "٣", "१", "한",
              "\u1112\u1161\u11ab", "中文", "日本語", "ไทย", "عربي", "עברית", "हिन्दी", "ру", "Ǆ", "ǅ", "ʰ", "ª", "İ", "ı",
              "😀", "👨‍👩‍👧", "🇩🇪", "👍🏽", "❤️", "𝒳", "𐐀", "\U000e0001", "\U0010ffff"] +
             ["'s", "'S", "'ſ", "'re", "'VE", "'ll", "'D", "12", "345", "6789", "3.14", "1,000", "٣٤", MARK, MARK + "a",
              "<0x41>", "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|assistant|>", "<|end|>"] +
             [content for content, _ in ADDED])

    def character():
        value = rng.choice([0x80, 0x100, 0x300, 0x400, 0x1000, 0x3000, 0x10000, 0x20000, 0x110000])
        value = rng.randrange(value)
        return chr(value) if not 0xd800 <= value < 0xe000 else "x"

    yield from ["", " ", "  ", "\n", " a", "a ", "a" * 5000, " " * 5000, "\n" * 3000, "é" * 2000, "e\u0301" * 2000,
                "1" * 3000, "😀" * 500, "<" * 3000, "ab" * 3000, "a\u0323\u0307\u0301" * 500, "中" * 2000, "\u0301" * 3000,
                "aB" * 2000, "' " * 1000, "<|im_start|>" * 300]
    for number in range(count):
        kind = number % 5
        if kind == 0:  # atoms in any order
            yield "".join(rng.choice(atoms) for _ in range(rng.randrange(1, 25)))
        elif kind == 1:  # words
            yield " ".join(rng.choice(words) for _ in range(rng.randrange(1, 12)))
        elif kind == 2:  # any characters
            yield "".join(character() for _ in range(rng.randrange(1, 30)))
        elif kind == 3:  # long runs
            yield "".join(rng.choice(atoms) * rng.choice([1, 2, 3, 7, 60]) for _ in range(rng.randrange(1, 6)))
        else:  # words, runs and characters
            yield "".join(rng.choice([character(), rng.choice(atoms), rng.choice(words) + " "])
                          for _ in range(rng.randrange(1, 25)))


def every_character():
    """Each character of Unicode between letters and before a combining accent."""
    characters = [chr(value) for value in range(0x110000) if not 0xd800 <= value < 0xe000]
    for first in range(0, len(characters), 64):
        yield "".join(f"a{character}\u0301b {character}7{character}." for character in characters[first:first + 64])


def broken(count, seed):
    """Bytes, most of them no UTF-8."""
    rng = random.Random(seed)
    for number in range(count):
        if number % 2:
            yield bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20)))
        else:
            data = bytearray(rng.choice(["naïve 日本 😀 text", "plain 'll 12 ", "e\u0301 \u3000"]).encode())
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            yield bytes(data)


def ask(program, path, data, *extra):
    request = "".join(bytes_.hex() + "\n" for bytes_ in data)
    run = subprocess.run([program, str(path), *extra], input=request, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"{path} {extra}: {run.stderr}")
    return [json.loads(line) for line in run.stdout.splitlines()]


PRE = {"gpt2": "gpt-2", "opt_post": "gpt-2", "llama_gqa": "llama-bpe", "llama31_rope": "llama-bpe",
       "llama_tied_smollm": "smollm", "qwen2_bias": "qwen2", "qwen3_qknorm": "qwen2", "gpt2-split": "gpt-2",
       "digits-split": "smollm", "default": "default", "tekken": "tekken", "llama3-bos": "llama3"}


def write_gguf(path, name, top):
    """As llama.cpp's converter does: nothing but tokenizer.ggml.* keys."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Phi-3 mini" if name == "phi3" else name)
    vocab = dict(top["model"]["vocab"])
    special = {}
    for token in top["added_tokens"]:
        vocab[token["content"]] = token["id"]
        special[token["id"]] = token["special"]
    tokens = sorted(vocab, key=vocab.get)
    merges = top["model"]["merges"]
    merges = [row if isinstance(row, str) else " ".join(row) for row in merges]
    if top["model"]["byte_fallback"]:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        ranks = {row.replace(" ", ""): rank for rank, row in reversed(list(enumerate(merges)))}
        writer.add_token_list(tokens)
        writer.add_token_scores([-float(ranks.get(token, len(merges) + 1)) for token in tokens])
        types = [2 if token == "<unk>" else 6 if re.fullmatch("<0x..>", token) else 3 if vocab[token] in special else 1
                 for token in tokens]
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PRE[name])
        writer.add_token_list(tokens)
        writer.add_token_merges(merges)
        types = [1 if vocab[token] not in special else 3 if special[vocab[token]] else 4 for token in tokens]
    writer.add_token_types(types)
    if top["post_processor"]:
        writer.add_bos_token_id(1)
    else:
        writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def with_name(data, name):
    """A GGUF file's bytes with another tokenizer.ggml.pre."""
    key = b"tokenizer.ggml.pre" + struct.pack("<I", 8)
    at = data.index(key) + len(key)
    size, = struct.unpack_from("<Q", data, at)
    return data[:at] + struct.pack("<Q", len(name)) + name.encode() + data[at + 8 + size:]


def compare_names(options, samples):
    """One line a name: texts, how many differ from `tokenizers`, how many from llama.cpp's reader."""
    encoded = [text.encode() for text in samples]
    source = pathlib.Path(options.names).read_bytes()
    names = re.findall(r'^    \{"([^"]+)"', (DATA.parent.parent / "src/data/pre_tokenizers/names.cc").read_text(), re.M)
    known, failures = {}, 0
    for name in names:
        if options.only and options.only != name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "t.gguf"
            path.write_bytes(with_name(source, name))
            ask(options.program, path, [], "folder", scratch)
            written = (pathlib.Path(scratch) / "tokenizer.json").read_text()
            if written not in known:
                reference = Tokenizer.from_str(written)
                known[written] = [(reference.encode(text, add_special_tokens=False).ids, reference.encode(text).ids)
                                  for text in samples]
            answers = ask(options.program, path, encoded)
            wrong = {"tokenizers": [(text, want, got["ids"]) for text, (want, ends), got in
                                    zip(samples, known[written], answers, strict=True)
                                    if got["ids"] != want or got["ends"] != ends]}
            failures += len(wrong["tokenizers"])
            if options.llama:
                wrong["llama.cpp"] = [(text, want["ids"], got["ids"]) for text, want, got in
                                      zip(samples, ask(options.llama, path, encoded), answers, strict=True)
                                      if got["ids"] != want["ids"] or got["ends"] != want["ends"]]
            print(f"{name:24} {len(samples)} texts" + "".join(f", {len(rows)} differ from {who}"
                                                              for who, rows in wrong.items()), flush=True)
            for who, rows in wrong.items():
                for text, want, found in sorted(rows, key=lambda row: len(row[0]))[:options.show]:
                    print(f"   {who}: {text[:60]!r}\n      {str(want)[:200]}\n      whit {str(found)[:200]}")
    return failures


PATTERNS = [
    r"\w+", r"\W+", r"[\w]+", r"[^\w]+", r"\d+", r"\D+", r"\s+", r"\S+", r"\h+", r"\H+", r"[\h\s]+", r"\b", r"\B", r"\b\w", r"\w\b",
    r"[[:alpha:]]+", r"[[:punct:]]+", r"[[:^alpha:]]+", r"[[:word:][:space:]]+", r"[[:alnum:]]+", r"[[:upper:]]+", r"[[:lower:]]+",
    r"[[:digit:]]+", r"[[:xdigit:]]+", r"[[:blank:]]+", r"[[:cntrl:]]+", r"[[:ascii:]]+", r"\p{Han}+", r"\p{Greek}+", r"\p{Latin}+",
    r"\p{Common}+", r"\p{Inherited}+", r"\p{Hangul}|\p{Hiragana}+|\p{Katakana}+", r"\p{Arabic}+|\p{Hebrew}+|\p{Thai}+", r"\p{Cyrillic}",
    r"\p{Lu}+", r"\p{^Lu}+", r"\P{Lu}+", r"\p{Letter}+", r"\p{LC}+", r"\p{ lower_case-letter }", r"\p{Alphabetic}+", r"\p{Emoji}+",
    r"\p{Extended_Pictographic}", r"\p{Punct}+", r"\p{Alnum}+", r"\p{Word}+", r"\p{Space}", r"\p{Any}", r"\p{Cf}+", r"\p{Zs}", r"\p{Sc}|\p{Sk}",
    r"[a-z&&[^aeiou]]+", r"[\w&&[^\d]]+", r"[^\w&&[^\d]]+", r"[a-c[x-z]]+", r"[^a-c[x-z]]+", r"[^\P{L}]+", r"[^(\s|[.,!?])]+", r"[\p{L}&&\p{Lu}]+",
    r"[a-c-e]+", r"[]a]+", r"[\w-]+", r"[--/]+", r"[a\-c\]\[]+", r"[\x41-\x5a]+", r"[\u0041-\u005A]+", r"[\x{300}-\x{36f}]", r"[\b\t]",
    r"a{2}+", r"a{2}?", r"a{,2}", r"a{1,2}?", r"a{2,}", r"a{1,2}+b", r"\s{2,}", r"a{x", r"a++b|a", r"a*+", r"a?+a", r"a+*", r"(?:ab)+", r"a*", r"", r"(?=a)",
    r"a(?i)b|T", r"(?i:AB|'S|'re|k)", r"(?i)[a-c]+|[^s]", r"(?-i:a)|(?im-i:a.)", r"(?m:.)+", r".+", r"^.", r".$", r"\s+$", r"^\s+", r"\A.", r".\z", r".\Z",
    r"(?<=a)b", r"(?<!a)b", r"(?<=a|bc)\w", r"(?<=\s)(?=\S)", r"(?>a+)b|(?>\s+)x", r"(?<n>a)b|(c)", r"a(?#x)b", r"\R", r"\N+", r"\O", r"\t|\n|\r|\f|\v|\a|\e",
    r"\,\-\/\'\"\#\ \.|\_", r"}|\]|\{|a|b", r"(?=(\d{3})+(?!\d))", r"\d{1,3}(?=(?:\d{3})*\b)", r"(a|ab)(c|bcd)?",
]
# Spelled in ways that have no translation, each with a word of the refusal.
REFUSED = {r"(a)\1": r"\1", r"(?<n>a)\k<n>": r"\k", r"\X": r"\X", r"\Ga": r"\G", r"a\Kb": r"\K", r"(?x: a )": "(?x)", r"(?~a)": "kind",
           r"(?i:ß)": "ASCII", r"(?i:st)": "'st'", r"(?i:\p{Lu})": r"\p", r"\Qa\E": r"\Q", r"a{2,1}": "below", r"\cA": r"\c", r"\g<1>(a)": r"\g",
           r"(?(1)a|b)": "kind", r"[a-\s]": "", r"[\s-a]": "range", r"\p{Klingon}": "", r"(?<=a+)b": "lookbehind"}
CUTS = [{"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False}, {"type": "Whitespace"},
        {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"}, {"type": "CharDelimiterSplit", "delimiter": "a"},
        {"type": "Split", "pattern": {"String": ".*"}, "behavior": "Removed", "invert": False}, {"type": "FixedLength", "length": 3},
        *({"type": "Punctuation", "behavior": behavior} for behavior in ("Isolated", "Contiguous", "MergedWithNext")),
        *({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}
          for pattern in (r"\s", "a+", "(?=a)", r"\p{Lu}") for invert in (False, True)
          for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"))]


def compare_splits(options, samples):
    """One line a pre-tokenizer: texts, and how many are cut differently."""
    alphabet = {letter: byte for byte, letter in bytes_to_unicode().items()}
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "pre.json"
        for pattern, word in REFUSED.items():
            path.write_text(json.dumps(sequence(split(pattern), byte_level(False))))
            run = subprocess.run([options.program, str(path), "splits"], input="", capture_output=True, text=True, check=False)
            if run.returncode == 0 or word not in run.stderr:
                print(f"{pattern}: {run.stderr or 'read'}")
                failures += 1
        steps = [sequence(split(pattern), byte_level(False)) for pattern in PATTERNS]
        steps += [sequence(step, byte_level(False)) for step in CUTS]
        steps += [sequence(byte_level(True), CUTS[1], split("[0-9][0-9][0-9]")),
                  sequence(CUTS[9], sequence(byte_level(True)), split("[Ġ-ġ]+|[²-³]"), CUTS[1])]
        for pre in steps:
            path.write_text(json.dumps(pre))
            reference = Tokenizer(BPE())
            reference = Tokenizer.from_str(json.dumps({**json.loads(reference.to_str()), "pre_tokenizer": pre})).pre_tokenizer
            wrong = []
            for text, got in zip(samples, ask(options.program, path, [text.encode() for text in samples], "splits"), strict=True):
                want = [bytes(alphabet[letter] for letter in piece).hex() for piece, _ in reference.pre_tokenize_str(text)]
                if got.split() != want:
                    wrong.append((text, want, got.split()))
            failures += len(wrong)
            shown = json.dumps(pre["pretokenizers"][0] if "pattern" not in pre["pretokenizers"][0]
                               else list(pre["pretokenizers"][0].values())[1:], ensure_ascii=False)
            if wrong or options.show > 2:
                print(f"{shown:60} {len(samples)} texts, {len(wrong)} differ")
            for text, want, found in sorted(wrong, key=lambda row: len(row[0]))[:options.show]:
                print(f"   {text[:60]!r}\n      want {[bytes.fromhex(x).decode(errors='replace') for x in want][:20]}\n"
                      f"      got  {[bytes.fromhex(x).decode(errors='replace') for x in found][:20]}")
        print(f"{len(steps)} pre-tokenizers, {len(samples)} texts each, {len(REFUSED)} refused: {failures} differ")
    return failures


def bytes_to_unicode():
    """GPT-2's letters for bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {**{byte: chr(byte) for byte in shown}, **{byte: chr(256 + i) for i, byte in enumerate(hidden)}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--texts", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="a variant's name")
    parser.add_argument("--every", action="store_true", help="every character of Unicode instead of random texts")
    parser.add_argument("--names", metavar="VOCABULARY.gguf", help="every value of tokenizer.ggml.pre instead")
    parser.add_argument("--llama", metavar="PROGRAM")
    parser.add_argument("--show", type=int, default=2, help="so many differences of each kind")
    parser.add_argument("--splits", action="store_true", help="pieces of patterns and steps of pre-tokenizers instead")
    parser.add_argument("--assigned", action="store_true", help="only characters that Python's Unicode knows")
    options = parser.parse_args()
    samples = list(every_character() if options.every else texts(options.texts, options.seed))
    if options.assigned:
        samples = ["".join(c for c in text if unicodedata.category(c) != "Cn" and
                           not "\u0363" <= c <= "\u036f") for text in samples]
    if options.splits:
        sys.exit(compare_splits(options, samples) > 0)
    if options.names:
        sys.exit(compare_names(options, samples) > 0)
    encoded = [text.encode() for text in samples]
    bad = list(broken(options.texts // 10, options.seed))
    failures = 0
    for name, folder, apply, plain in variants():
        if options.only and options.only != name:
            continue
        top = json.loads((DATA / folder / "tokenizer.json").read_text())
        apply(top)
        reference = Tokenizer.from_str(json.dumps(top))
        # The fixtures list the tokens of bytes as special ones. Here they are text nonetheless, or answers would lose it.
        silent = {token["id"] for token in top["added_tokens"]
                  if token["special"] and not re.fullmatch("<0x..>", token["content"])}
        expected = []
        for text in samples:
            ids = reference.encode(text, add_special_tokens=False).ids
            expected.append({"ends": reference.encode(text).ids, "ids": ids,
                             "decoded": reference.decode(ids, skip_special_tokens=False),
                             "spoken": reference.decode([i for i in ids if i not in silent], skip_special_tokens=False)})
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            (scratch / "tokenizer.json").write_text(json.dumps(top))
            runs = {"folder": (scratch,), "keys": (scratch, "keys")}
            if plain:
                write_gguf(scratch / "t.gguf", name, top)
                runs["gguf"] = (scratch / "t.gguf",)
            for way, (path, *extra) in runs.items():
                answers = ask(options.program, path, encoded, *extra)
                wrong = {"ends": [], "ids": [], "decoded": [], "spoken": []}
                for text, want, got in zip(samples, expected, answers, strict=True):
                    for key, rows in wrong.items():
                        found = got[key] if key in ("ends", "ids") else bytes.fromhex(got[key]).decode()
                        if found != want[key]:
                            rows.append((text, want[key], found))
                count = sum(map(len, wrong.values()))
                if not top["model"]["byte_fallback"] and not top["normalizer"] and "prefix" not in name:
                    lost = [data for data, got in zip(bad, ask(options.program, path, bad, *extra), strict=True)
                            if bytes.fromhex(got["pieces"]) != data]
                    lost = [data for data in lost if name.find("added") < 0]  # added tokens swallow white space
                    count += len(lost)
                    for data in lost[:3]:
                        print("   lost", data)
                print(f"{name:24} {way:7} {len(samples)} texts, {count} differ")
                failures += count
                for key, rows in wrong.items():
                    for text, want, found in sorted(rows, key=lambda row: len(row[0]))[:3]:
                        print(f"   {key}: {text[:60]!r}\n      want {str(want)[:200]!r}\n      got  {str(found)[:200]!r}")
    sys.exit(failures > 0)


main()
