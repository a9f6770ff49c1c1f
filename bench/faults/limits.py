#!/usr/bin/env python3
"""Races, limits of the shell and odd outputs: what each command does, and whether that is right.

  bench/faults/limits.py [--whit PROGRAM] [--only races,limits,outputs]

Right is: exit code 0 with the bytes of an undisturbed run, or a documented exit code (1 to 7) with a message, nothing half-written
and no temporary file; never a signal, and of several processes at least one ends well. Prints Markdown; ends with 1 when anything
is wrong. Learning verbs are tried where the program has them.
"""
import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORIES = ROOT / "tests/data/models/stories260K.gguf"
LIMITS = {"n": ("RLIMIT_NOFILE", [3, 4, 5, 8, 16]), "v": ("RLIMIT_AS", [512 << 20, 620 << 20, 1 << 30, 4 << 30]),
          "u": ("RLIMIT_NPROC", [1]), "f": ("RLIMIT_FSIZE", [0, 4096, 100_000, 500_000])}


def leftovers(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if ".tmp-" in p.name)


class Tries:
    def __init__(self, options, folder):
        self.whit, self.folder, self.wrong = options.whit, folder, 0
        self.text = folder / "text.txt"
        self.text.write_text("Once upon a time there was a little girl who liked to play in the park with her dog. " * 200)
        calibration = ["--data", self.text, "--calibration-tokens", 1024, "--context", 64]
        self.learns = self.call(["compress", "--help"])[0] == 0
        self.commands = {
            "convert to GGUF": lambda out: ["convert", STORIES, out / "m.gguf", "--type", "F16", "--threads", 2],
            "convert to a folder": lambda out: ["convert", STORIES, out / "m", "--threads", 2],
            "run": lambda out: ["run", STORIES, "--raw", "-p", "Once", "-n", 8, "--temp", 0, "--threads", 2],
            "eval": lambda out: ["eval", STORIES, "--text", self.text, "--context", 64, "--chunks", 2, "--threads", 2],
        }
        if self.learns:
            self.commands["compress"] = lambda out: ["compress", STORIES, "--preset", "gptq-4", *calibration, "-o", out / "m.gguf"]

    def call(self, words, limit=None, **more):
        def narrow():
            if limit:
                resource.setrlimit(limit[0], (limit[1], limit[1]))
        try:
            done = subprocess.run([str(self.whit), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  preexec_fn=narrow, timeout=60, **more)
        except subprocess.TimeoutExpired:
            return "hang", ""
        return done.returncode, done.stderr.decode(errors="replace")

    def say(self, what, fault, outcome, right):
        self.wrong += not right
        print(f"| {what} | {fault} | {outcome} | {'yes' if right else 'NO'} |", flush=True)

    def environment(self, out):
        return dict(os.environ, WHIT_CACHE=str(out / "cache"))

    def limits(self):
        for name, command in self.commands.items():
            for short, (limit, values) in LIMITS.items():
                if short == "f" and name in ("run", "eval"):
                    continue
                codes, good, said = [], True, ""
                for value in values:
                    out = self.folder / "limits"
                    shutil.rmtree(out, ignore_errors=True)
                    out.mkdir()
                    code, said = self.call(command(out), (getattr(resource, limit), value), env=self.environment(out))
                    codes.append(str(code))
                    if code == "hang":
                        good = False
                    elif (code != 0 and not said.strip()) or code < 0 or code > 7 or code == 1 or leftovers(out):
                        # 127: the loader itself, before main; as is a library's own start where there is no memory for it
                        loader = code == 127 or "error while loading shared libraries" in said or "terminate called" in said
                        good = good and loader and not leftovers(out)
                self.say(name, f"ulimit -{short} " + ", ".join(map(str, values)), "exit " + ", ".join(codes), good)

    def races(self):
        jobs = {"convert to GGUF, one output": ("convert to GGUF", [], False),
                "convert to GGUF, one output, --force": ("convert to GGUF", ["--force"], True),
                "convert to a folder, one output": ("convert to a folder", [], False),
                "convert to a folder, one output, --force": ("convert to a folder", ["--force"], True)}
        if self.learns:
            jobs["compress, one output"] = ("compress", [], False)
            jobs["compress, an output each, one cache"] = ("compress", None, True)
        for what, (name, more, all_well) in jobs.items():
            for count in (2, 4):
                out = self.folder / "races"
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                folders = [out / str(i) if more is None else out for i in range(count)]
                for folder in folders:
                    folder.mkdir(exist_ok=True)
                running = [subprocess.Popen([str(self.whit), *map(str, self.commands[name](folder) + (more or []))],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment(out))
                           for folder in folders]
                said = [process.communicate()[1].decode(errors="replace") for process in running]
                codes = [process.returncode for process in running]
                made = [folder / ("m" if "folder" in name else "m.gguf") for folder in folders]
                loads = all(self.call(["inspect", path, "--json"])[0] == 0 for path in made)
                same = len({path.read_bytes() for path in made if path.is_file()}) <= 1
                right = loads and same and not leftovers(out) and 0 in codes and all(c in (0, 5) for c in codes)
                right = right and (not all_well or all(c == 0 for c in codes))
                self.say(what, f"{count} processes", "exit " + ", ".join(map(str, codes)), right)
                if not right:
                    print("\n".join(said), leftovers(out), file=sys.stderr)

    def outputs(self):
        out = self.folder / "outputs"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        model = out / "model.gguf"
        shutil.copy(STORIES, model)
        before = model.read_bytes()
        os.mkfifo(out / "fifo.gguf")
        (out / "there.gguf").write_text("mine")
        (out / "link.gguf").symlink_to("there.gguf")
        (out / "nowhere.gguf").symlink_to("missing/file.gguf")
        (out / "folder.gguf").mkdir()
        for name in ("fifo.gguf", "link.gguf", "nowhere.gguf", "folder.gguf", "model.gguf", "no/such/folder.gguf"):
            for force in ([], ["--force"]):
                code, said = self.call(["convert", model, out / name, *force])
                kept = model.read_bytes() == before or (name == "model.gguf" and force and self.call(["inspect", model])[0] == 0)
                fine = code in (0, 2, 5) and (code == 0 or said.strip()) and kept and not leftovers(out)
                self.say("convert", f"output is {name}{' --force' if force else ''}", f"exit {code}", bool(fine))
                if name == "model.gguf" and force:
                    model.write_bytes(before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whit", type=Path, default=ROOT / "build/release/src/cli/whit")
    parser.add_argument("--only", default="races,limits,outputs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whit-limits-") as folder:
        tries = Tries(options, Path(folder))
        print("| command | fault | outcome | right |\n|---|---|---|---|")
        for part in options.only.split(","):
            getattr(tries, part)()
        print(f"\n{tries.wrong} wrong")
        return 1 if tries.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
