#!/usr/bin/env python3
"""Holds the program's chat templates against jinja2 under transformers' environment (dev only).

    pip install transformers jinja2
    tools/chat_renderings.py PROGRAM FOLDER [--list] [--only NAME]   # every FOLDER/*.jinja, by both
    tools/chat_renderings.py --make tests/data/chat                  # expectations for our own templates

PROGRAM (build/dev/tests/data_room/render_chat) reads a JSON object a line, {"template", "context", "now"}, and answers
each with {"text"} or {"error", "raised"}. Of a template each rendering is one of
    equal      the same bytes, or neither gives a text
    refused    jinja2 gives a text, the program an error
    DIFFERENT  other bytes, or a text where jinja2 raises
and the exit code is 1 when one of them is different.

--make writes contexts.json, "now" (the time that strftime_now tells) and contexts by name, and beside each NAME.jinja a
NAME.json: for each context the text, or null where jinja2 raises.
"""
import argparse
import collections
import copy
import datetime
import itertools
import json
import logging
import pathlib
import re
import subprocess
import sys

from transformers.utils import chat_template_utils

NOW = datetime.datetime(2024, 7, 6, 9, 5, 3)  # a day, an hour and a month of one digit


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = FixedTime
logging.getLogger("transformers").setLevel(logging.ERROR)

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a place, \"now\" or later: <b>Zürich</b> & 東京.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "A city's name"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": None},
                    "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 1e16},
                    "places": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"lat": {"type": "number", "default": 0.5}}},
                    },
                },
                "required": ["city"],
            },
            "return": {"type": "string", "description": "A text"},
        },
    },
    {
        "type": "function",
        "function": {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}},
    },
]
ARGUMENTS = {
    "city": "Zürich's \"Kreis 4\"",
    "days": 3,
    "exact": True,
    "ratio": 0.25,
    "tags": ["a", "<b>"],
    "at": {"x": None, "y": -1.0},
}
ODD = "  Straße \"a\" 'b' <c> & d\\n\n\n\tñ 😀 東京 {{ x }} {% y %} \u00a0\n "


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def tool_turns(arguments, content="", **more):
    call = {"type": "function", "id": "aBcDeF123", "function": {"name": "get_weather", "arguments": arguments}}
    return say(("user", "Will it rain?")) + [
        {"role": "assistant", "content": content, **more, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "aBcDeF123", "name": "get_weather", "content": '{"rain": "3 mm", "at": 0.5}'},
    ]


def two_calls():
    calls = [
        {"type": "function", "id": id, "function": {"name": name, "arguments": arguments}}
        for id, name, arguments in (("aBcDeF123", "get_weather", {"city": "Bern"}), ("gHiJkL456", "stop", {}))
    ]
    return (
        say(("user", "Both."))
        + [{"role": "assistant", "tool_calls": calls}]
        + [{"role": "tool", "tool_call_id": c["id"], "name": c["function"]["name"], "content": c["id"]} for c in calls]
    )


def text_parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


PICTURE = {"type": "image", "image": "a.png"}
CHATS = {
    "one": say(("user", "Why is the sky blue?")),
    "turns": say(("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2"), ("user", "three")),
    "odd": say(("user", ODD), ("assistant", ODD), ("user", ""), ("assistant", ""), ("user", "\n end")),
    "reasoning": say(("user", "2+2?"))
    + [{"role": "assistant", "content": "4", "reasoning_content": "\nTwo and\ntwo. "}]
    + say(("user", "3+3?")),
    "thought": say(("user", "2+2?"), ("assistant", "<think>\nfour\n</think>\n\n4\n"), ("user", "3+3?")),
    "parts": say(("user", text_parts("one", " 1 ")), ("assistant", text_parts("two")), ("user", text_parts("three"))),
    "picture": say(("user", [PICTURE, *text_parts("What is it?")])),
    "call": tool_turns(ARGUMENTS),
    "call text": tool_turns(json.dumps(ARGUMENTS), content="Let me see."),
    "call thought": tool_turns({"city": "Bern"}, reasoning_content="Look it up.")
    + say(("assistant", "3 mm."), ("user", "And then?")),
    "calls": two_calls() + say(("assistant", "Done.")),
}
# With a generation prompt or without: what ends with an answer.
ANSWERED = {
    "answered": say(("user", "one"), ("assistant", " 1\n")),
    "answered thought": say(("user", "one"))
    + [{"role": "assistant", "content": "<think>\nhm\n</think>\n\n1", "reasoning_content": "hm"}],
    # As transformers renders where the answer is to be continued: marked.
    "continued": say(("user", "one"), ("assistant", "1, CONTINUE_FINAL_MESSAGE_TAG ")),
}
# Rare ones, each once: most templates raise at some.
RARE = {
    "nothing": [],
    "system only": say(("system", "Be brief.")),
    "system odd": say(("system", ODD), ("user", "a")),
    "system empty": say(("system", ""), ("user", "a")),
    "system parts": say(("system", text_parts("Be", "brief.")), ("user", "a")),
    "system late": say(("user", "a"), ("system", "Be brief."), ("user", "b")),
    "system switches": say(("system", "Be brief. /no_think"), ("user", "a /think")),
    "developer": say(("developer", "Be brief."), ("user", "a")),
    "two users": say(("user", "a"), ("user", "b")),
    "assistant first": say(("assistant", "a"), ("user", "b")),
    "unknown role": say(("critic", "a")),
    "no content": [{"role": "user"}],
    "tool first": say(("tool", "a"), ("user", "b")),
}
# Variables that templates read beside those of every call; what a template never names is not varied.
SWITCHES = {
    "enable_thinking": [True, False],
    "thinking": [True, False],
    "reasoning_effort": ["high", "low", "none"],
    "date_string": ["26 Jul 2024"],
    "builtin_tools": [["brave_search", "code_interpreter"]],
    "tools_in_user_message": [False],
    "custom_tools": [TOOLS],
    "documents": [[{"title": "T", "text": "Wörter", "doc_id": 1}]],
    "preserve_thinking": [True],
    "clear_thinking": [False],
    "add_vision_id": [True],
    "xml_tools": [TOOLS],
    "python_tools": [["f"]],
    "keep_past_thinking": [True],
    "truncate_history_thinking": [False],
}


def context(messages, system=None, tools=None, prompt=True, tokens=TOKENS, **variables):
    """What transformers' apply_chat_template gives to the template."""
    messages = copy.deepcopy((say(("system", system)) if system else []) + messages)
    messages = chat_template_utils._normalize_chat_messages(messages)
    aliased = chat_template_utils._alias_reasoning_fields(messages)
    given = {"messages": aliased, "tools": tools, "documents": None, "add_generation_prompt": prompt}
    return {**given, **tokens, **variables}


def switches(template):
    """(variable, value, how it is said) of those that the template names."""
    named = [name for name in SWITCHES if re.search(rf"\b{name}\b", template)]
    return [(name, value, f", {name} {str(value)[:12]}") for name in named for value in SWITCHES[name]]


def contexts(template):
    """(name, context), those in which the template can differ."""
    tools = [None, TOOLS] if re.search(r"\btools\b", template) else [None]
    for (chat, messages), system, given in itertools.product(CHATS.items(), (None, "Be brief."), tools):
        name = chat + (", system" if system else "") + (", tools" if given else "")
        yield name, context(messages, system, given)
        for variable, value, said in switches(template):
            yield name + said, context(messages, system, given, **{variable: value})
    for (chat, messages), prompt in itertools.product(ANSWERED.items(), (False, True)):
        name = f"{chat}, prompt {prompt}"
        yield name, context(messages, prompt=prompt)
        for variable, value, said in switches(template):
            yield name + said, context(messages, prompt=prompt, **{variable: value})
    yield from others()


def others():
    for chat, messages in RARE.items():
        yield chat, context(messages)
    yield "one, no prompt", context(CHATS["one"], prompt=False)
    yield "one, no tokens", context(CHATS["one"], tokens={})
    yield "one, no tools", context(CHATS["one"], tools=[])


def few_contexts():
    """One set for all of our own templates, small enough to be kept."""
    for chat, messages in CHATS.items():
        yield chat, context(messages)
        yield f"{chat}, system, tools", context(messages, "Be brief.", TOOLS)
    for variable in (True, False):
        for system in (None, "Be brief."):
            name = "one" + (", system" if system else "") + f", enable_thinking {variable}"
            yield name, context(CHATS["one"], system, enable_thinking=variable)
    yield "reasoning, enable_thinking False", context(CHATS["reasoning"], enable_thinking=False)
    for (chat, messages), prompt in itertools.product(ANSWERED.items(), (False, True)):
        yield f"{chat}, prompt {prompt}", context(messages, prompt=prompt)
    yield from others()


def compiled(template):
    try:
        return chat_template_utils._compile_jinja_template(template)
    except Exception as error:  # of syntax
        return error


def reference(template, given):
    """(text, None) or (None, why)."""
    if isinstance(template, Exception):
        return None, f"{type(template).__name__}: {template}"
    try:
        return template.render(**copy.deepcopy(given)), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def first_difference(want, got):
    at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
    begin = max(0, at - 40)
    return f"at {at}: jinja2 {want[begin:at + 60]!r}\n{' ' * 12}program {got[begin:at + 60]!r}"


def ask(program, lines):
    """The program's answer to each line; an answer that is missing is said to be a crash."""
    now = NOW.isoformat()
    text = "".join(json.dumps({"template": t, "context": c, "now": now}) + "\n" for t, c in lines)
    done = subprocess.run([program], input=text.encode(), capture_output=True)
    answers = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    if len(answers) != len(lines):
        raise SystemExit(
            f"{program}: {len(answers)} answers to {len(lines)} lines, exit code {done.returncode}\n"
            f"{done.stderr.decode(errors='replace')[-2000:]}\n"
            f"not answered: {json.dumps(lines[len(answers)])[:3000]}"
        )
    return answers


def judge(template, program):
    """(verdict, counts, what is said of it)"""
    cases = list(contexts(template))
    answers = ask(program, [(template, given) for _, given in cases])
    compiled_template = compiled(template)
    counts, notes = collections.Counter(), []
    for (name, given), answer in zip(cases, answers):
        want, why = reference(compiled_template, given)
        got = answer.get("text")
        if got == want:
            counts["equal" if want is not None else "raised"] += 1
        elif got is None:
            counts["refused"] += 1
            notes.append(("refused", name, answer["error"]))
        else:
            counts["DIFFERENT"] += 1
            difference = first_difference(want, got) if want is not None else f"jinja2 raises {why[:300]}"
            notes.append(("DIFFERENT", name, difference))
    verdict = "DIFFERENT" if counts["DIFFERENT"] else "refused" if counts["refused"] else "equal"
    return verdict, counts, notes


def compare(program, folder, only, list_all):
    totals, renderings = collections.Counter(), collections.Counter()
    paths = sorted(path for path in pathlib.Path(folder).glob("*.jinja") if not only or only in path.name)
    if not paths:
        raise SystemExit(f"no *.jinja in {folder}")
    for path in paths:
        template = path.read_bytes().decode()
        verdict, counts, notes = judge(template, program)
        if verdict == "equal" and not counts["equal"]:
            verdict = "raises always"  # and the program too: nothing was compared
        totals[verdict] += 1
        renderings.update(counts)
        if list_all or verdict in ("refused", "DIFFERENT"):
            print(f"{verdict:13} {path.name} ({', '.join(f'{n} {what}' for what, n in counts.items())})")
        shown = [note for note in notes if note[0] == verdict]
        for _, name, text in shown[:2]:
            print(f"    {name}: {text}")
    for what, counts in (("templates", totals), ("renderings", renderings)):
        print(f"{sum(counts.values())} {what}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    return 1 if totals["DIFFERENT"] else 0


def make(folder):
    folder = pathlib.Path(folder)
    given = dict(few_contexts())
    write_lines(folder / "contexts.json", {"now": NOW.isoformat(), **given})
    for path in sorted(folder.glob("*.jinja")):
        template = compiled(path.read_bytes().decode())
        write_lines(path.with_suffix(".json"), {name: reference(template, values)[0] for name, values in given.items()})


def write_lines(path, values):
    """An object with a line for each key."""
    lines = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--list", action="store_true", help="a line for every template")
    parser.add_argument("--only", help="templates whose names contain this")
    parser.add_argument("--make", metavar="FOLDER")
    options = parser.parse_args()
    if options.make:
        make(options.make)
    elif options.program and options.folder:
        sys.exit(compare(options.program, options.folder, options.only, options.list))
    else:
        parser.error("give PROGRAM and FOLDER, or --make FOLDER")


if __name__ == "__main__":
    main()
