#!/usr/bin/env python3
"""How often answers go round in circles, by repeat penalty: what the default of `whit run --repeat-penalty` rests on.

    bench/quality/repeats.py ORIGINAL MODEL... [--whit PROGRAM] [--penalties 1,1.05,1.1,1.15] [--seeds 2] [--tokens 256]

Twelve questions in the chat template at the default sampling. For each model and penalty it prints the share of runs of four
tokens that stood in the answer before, the share of answers of which more than half is such repetition ("loops"), the share
that the model ended itself, and the perplexity of all answers under ORIGINAL (windows of 256 tokens, all positions): low is
dull or repeated, high is nonsense.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

PROMPTS = [
    "Why is the sky blue?", "Write a short poem about the sea.", "Tell me a story about a fox and a crow.",
    "How do I make bread at home?", "What is the capital of France, and what is it known for?",
    "Explain what a computer program is to a child.", "Give me five tips for learning a language.",
    "What happened in the French Revolution?", "Write a letter to a friend who is moving away.",
    "What are the differences between cats and dogs?", "Describe a walk through a forest in autumn.",
    "How does a bicycle stay upright?"]

parser = argparse.ArgumentParser()
parser.add_argument("original", type=pathlib.Path)
parser.add_argument("models", type=pathlib.Path, nargs="+")
parser.add_argument("--whit", type=pathlib.Path, default=pathlib.Path(__file__).parents[2] / "build/release/src/cli/whit")
parser.add_argument("--penalties", default="1,1.05,1.1,1.15")
parser.add_argument("--seeds", type=int, default=2)
parser.add_argument("--tokens", type=int, default=256)
args = parser.parse_args()


def whit(*arguments):
    done = subprocess.run([str(args.whit), *map(str, arguments), "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def repeated(ids, n=4):
    runs = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


print("| model | penalty | repeated 4-grams | loops | ended by the model | perplexity under the original |")
print("|---|---|---|---|---|---|")
for model in args.models:
    for penalty in args.penalties.split(","):
        answers = [whit("run", model, "-p", prompt, "-n", args.tokens, "--seed", seed, "--repeat-penalty", penalty, "--json")
                   for prompt in PROMPTS for seed in range(args.seeds)]
        shares = [repeated(answer["ids"]) for answer in answers]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
            text.write("\n\n".join(answer["text"] for answer in answers))
            text.flush()
            judged = whit("eval", args.original, "--text", text.name, "--context", 256, "--json")["rows"][0]
        count = len(answers)
        print(f"| {model.stem} | {penalty} | {sum(shares) / count:.1%} | {sum(s > 0.5 for s in shares) / count:.0%} | "
              f"{sum(a['end'] == 'the model ended it' for a in answers) / count:.0%} | {judged['perplexity_all']:.2f} |", flush=True)
