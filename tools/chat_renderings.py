#!/usr/bin/env python3
"""Renders conversations with real chat templates by transformers, for tests/data/chat (dev only).

    pip install transformers jinja2
    tools/chat_renderings.py TEMPLATES        # writes tests/data/chat/NAME.json

TEMPLATES is a folder with the models' own templates, one NAME.jinja for each row of TEMPLATES below that is to be made
(from a model's chat_template.jinja or tokenizer_config.json). They are not part of this repository. A file says what
the template contains of what src/data/chat_forms.cc looks for (its raw strings, and whole default system messages), and what
transformers made of the conversations: a text, or null where the template raises an error or leaves something out.
"""
import json
import pathlib
import re
import sys

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

# file -> (form it must be recognised as, BOS, EOS, variables)
TEMPLATES = {
    "openhermes-2.5": ("chatml", "<s>", "<|im_end|>", {}),
    "smollm2": ("chatml", "<|im_start|>", "<|im_end|>", {}),
    "qwen2": ("chatml", None, "<|im_end|>", {}),
    "qwen2.5": ("chatml", None, "<|im_end|>", {}),
    "qwen3": ("qwen3", None, "<|im_end|>", {}),
    "llama-2": ("llama2", "<s>", "</s>", {}),
    "llama-3": ("llama3", "<|begin_of_text|>", "<|eot_id|>", {}),
    "llama-3.2": ("llama3.1", "<|begin_of_text|>", "<|eot_id|>", {"date_string": "26 Jul 2024"}),
    "mistral-7b-v0.1": ("mistral-v0.1", "<s>", "</s>", {}),
    "mistral-7b-v0.2": ("mistral-v0.2", "<s>", "</s>", {}),
    "mistral-7b-v1": ("mistral-v1", "<s>", "</s>", {}),
    "mistral-7b-v0.3": ("mistral-v3", "<s>", "</s>", {}),
    "mistral-nemo": ("mistral-v3-tekken", "<s>", "</s>", {}),
    "mistral-large-2411": ("mistral-v7", "<s>", "</s>", {}),
    "zephyr": ("zephyr", "<s>", "</s>", {}),
    "zephyr-one-line": ("zephyr", "<s>", "</s>", {}),
    "gemma-2": ("gemma", "<bos>", "<eos>", {}),
    "gemma-3": ("gemma3", "<bos>", "<eos>", {}),
    "phi-3-v1": ("phi3-v1", "<s>", "<|endoftext|>", {}),
    "phi-3": ("phi3", "<s>", "<|endoftext|>", {}),
    "phi-3.5": ("phi3", "<s>", "<|endoftext|>", {}),
    # Not known, and not to be taken for one that is.
    "phi-4": (None, None, "<|im_end|>", {}),
    "phi-3-small": (None, "<|endoftext|>", "<|endoftext|>", {}),
    "smollm3": (None, None, "<|im_end|>", {}),
    "alphamonarch": (None, "<s>", "</s>", {}),
}


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = [
    say(("user", "Why is the sky blue?")),
    say(("system", "Be brief."), ("user", "  Wie heißt du? 😀\n")),
    say(("system", " Answer in\ntwo lines. "), ("user", "one"), ("assistant", " 1\n"), ("user", "two  ")),
    say(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")),
]
THOUGHTS = say(("user", "2+2?"), ("assistant", "<think>\nfour\n</think>\n\n4"), ("user", "3+3?"))


def unescaped(text):
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), text, flags=re.S)


def normalized(text):  # as normalized() of chat.cc
    text = unescaped(text).replace("message.content", "message['content']")
    return re.sub(" +", " ", text.replace('"', "'"))


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    needles = re.findall(r'R"\((.*?)\)"', (root / "src/data/chat_forms.cc").read_text(), flags=re.S)
    # How texts are trimmed, and a family's BOS.
    needles += ["| trim", "|trim", ".strip()", "bos_token"]
    for name, (form, bos, eos, variables) in TEMPLATES.items():
        path = pathlib.Path(sys.argv[1]) / f"{name}.jinja"
        if not path.exists():
            print("no", path)
            continue
        template = path.read_text()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos, eos_token=eos)
        tokenizer.chat_template = template
        found = [needle for needle in dict.fromkeys(needles) if normalized(needle) in normalized(template)]
        found += re.findall(r"'<\|im_start\|>system(?:\n|\\n)[^'{]*<\|im_end\|>(?:\n|\\n)?'", template)
        cases = []
        conversations = [(talk, True) for talk in CONVERSATIONS]
        if "enable_thinking" in template:
            conversations += [(CONVERSATIONS[2], False), (THOUGHTS, True), (THOUGHTS, False)]
        for messages, thinking in conversations if form else []:
            try:
                text = tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking, **variables
                )
            except Exception as error:  # raise_exception of the template
                text = None
            if text and messages[0]["role"] == "system" and messages[0]["content"].strip() not in text:
                text = None
            cases.append({"messages": messages, "thinking": thinking, "text": text})
        out = {"form": form, "marks": found, "cases": cases}
        path = root / "tests/data/chat" / f"{name}.json"
        path.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")


main()
