#!/usr/bin/env python3
"""Renders conversations with real chat templates by transformers, for tests/data/chat (dev only).

    pip install transformers jinja2
    tools/chat_renderings.py TEMPLATES        # writes tests/data/chat/NAME.json

TEMPLATES is a folder with the models' own templates, one NAME.jinja for each row of TEMPLATES below that is to be made
(from a model's chat_template.jinja or tokenizer_config.json). They are not part of this repository. A file says what
the template contains of what src/data/chat_forms.cc looks for (its raw strings, and whole default system messages), and what
transformers made of the conversations: a text, or null where the template raises an error or leaves something out.
"""
import datetime
import json
import pathlib
import re
import sys

import transformers.utils.chat_template_utils
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
    "phi-4": ("phi4", None, "<|im_end|>", {}),
    "phi-4-mini": ("phi4-mini", None, "<|endoftext|>", {}),
    "smollm3": ("smollm3", None, "<|im_end|>", {}),
    "smollm3-undated": ("smollm3", None, "<|im_end|>", {}),
    "mistral-small-2501": ("mistral-v7-tekken", "<s>", "</s>", {}),
    "mistral-small-3.1": ("mistral-v7-tekken", "<s>", "</s>", {}),
    # Not known, and not to be taken for one that is.
    "phi-3-small": (None, "<|endoftext|>", "<|endoftext|>", {}),
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
# What the system message alone says of thinking (SmolLM3).
SWITCHES = [
    say(("system", "/no_think"), ("user", "one")),
    say(("system", "Be brief. /think"), ("user", "one"), ("assistant", "\n1"), ("user", "two")),
    say(("system", "Be /system_override brief. /no_think "), ("user", "one"), ("assistant", "1"), ("user", "two")),
]
SWITCH = re.compile(r" ?/no_think| ?/think| ?/system_override ?")


class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)  # as src/data/chat.cc


transformers.utils.chat_template_utils.datetime = Day
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
    needles += ["| trim", "|trim", ".strip()", "bos_token", "Today Date: ", "/system_override"]
    for name, (form, bos, eos, variables) in TEMPLATES.items():
        path = pathlib.Path(sys.argv[1]) / f"{name}.jinja"
        if not path.exists():
            print("no", path)
            continue
        template = path.read_text()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos, eos_token=eos)
        tokenizer.chat_template = template
        found = [needle for needle in dict.fromkeys(needles) if normalized(needle) in normalized(template)]
        # Texts that stand for themselves, and where SmolLM3's header ends.
        found += re.findall(r"set default_system_message = .*?%}", template, flags=re.S)
        found += re.findall(r'elif reasoning_mode == .*?\{\{-.*?\{\{-.*?}}', template, flags=re.S)
        found += re.findall(r'\{\{-\s*"<\|im_end\|>\\n"\s*-}}\s*\{%-\s*endif\s*-%}\s*\{%-\s*endif\s*-%}', template)
        found += re.findall(r"'<\|im_start\|>system(?:\n|\\n)[^'{]*<\|im_end\|>(?:\n|\\n)?'", template)
        cases = []
        conversations = [(talk, True) for talk in CONVERSATIONS]
        if "enable_thinking" in template:
            conversations += [(CONVERSATIONS[2], False), (THOUGHTS, True), (THOUGHTS, False)]
        if "reasoning_mode" in template:
            conversations += [(talk, thinking) for talk in SWITCHES for thinking in (True, False)]
        for messages, thinking in conversations if form else []:
            try:
                text = tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking, **variables
                )
            except Exception as error:  # raise_exception of the template
                text = None
            if text and messages[0]["role"] == "system" and not all(part in text for part in SWITCH.split(messages[0]["content"].strip())):
                text = None
            cases.append({"messages": messages, "thinking": thinking, "text": text})
        out = {"form": form, "marks": found, "cases": cases}
        path = root / "tests/data/chat" / f"{name}.json"
        path.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")


main()
