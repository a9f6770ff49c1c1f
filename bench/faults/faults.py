#!/usr/bin/env python3
"""Kills and faults: nothing that was finished is lost, nothing half-written stands under a final name, the same bytes at the end.

  bench/faults/faults.py [--whit PROGRAM] [--kills 100] [--model MODEL] [--faketime LIBRARY] [--only kills,faults,flips] [--short]

Each job (compress, calibrate, tune, convert) runs once undisturbed. Then it is killed with SIGKILL (and a few times with SIGTERM)
at random moments of such a run; every second run is slowed at its pause points, so that each phase is hit. After each kill every
file under a final name must be one that the undisturbed run made, byte for byte; then the same command must end in the same bytes.
Flips: bits of a small model in four kinds of files, one after another (flips.cc): each is refused, or changes nothing.
Faults: a full disk and a read-only folder (small tmpfs mounts: needs root), two processes on one output, clocks that jump
(libfaketime of the Debian package faketime, said when absent). Prints Markdown; ends with 1 when anything failed.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORIES = ROOT / "tests/data/models/stories260K.gguf"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class Job:
    """A command of the program. In `arguments` {out} is the folder of its output, {cache} that of the cache."""

    def __init__(self, name, arguments, prepare=None, big=False):
        self.name, self.arguments, self.prepare, self.big = name, arguments, prepare, big


class Place:
    """A folder for one run: out/ for the output, cache/ for the cache, either replaced by one elsewhere."""

    def __init__(self, folder, out=None, cache=None):
        self.folder = folder
        self.out, self.cache = out or folder / "out", cache or folder / "cache"
        for path in (self.out, self.cache):
            path.mkdir(parents=True, exist_ok=True)

    def empty(self):
        for path in (self.out, self.cache):
            for entry in path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    @staticmethod
    def is_work(path):
        """What only goes on where a run stopped: temporary files, journals, what one phase of calibrate leaves for the next.
        The last two are records with checksums: the second run reads them, and would end with code 6."""
        return any(mark in str(path) for mark in (".tmp-", ".journal", "-fisher", "-flow"))

    def finals(self):
        """Path to bytes, of everything else."""
        found = {}
        for base in (self.out, self.cache):
            for path in base.rglob("*"):
                name = str(path.relative_to(base))
                if path.is_file() and not self.is_work(path):
                    content = path.read_bytes()
                    # A record (base/record.h) of self-written text keeps in its header how long the writing took: the ids alone
                    # must be the same.
                    if name.endswith("-text"):
                        content = content[8 + int.from_bytes(content[:8], "little"):-8]
                    found[base.name + "/" + name] = content
        return found

    def leftovers(self):
        return [p for base in (self.out, self.cache) for p in base.rglob("*") if self.is_work(p)]


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder, self.failures = options, folder, []
        self.text = folder / "text.txt"
        self.text.write_text("".join(p.read_text() for p in sorted((ROOT / "docs").rglob("*.md"))))
        self.random = random.Random(options.seed)

    def command(self, job, place):
        words = [str(w).format(out=place.out, cache=place.cache, text=self.text, model=self.options.model, folder=self.folder)
                 for w in job.arguments]
        return [str(self.options.whit), *words]

    def start(self, job, place, **more):
        environment = dict(os.environ, WHIT_CACHE=str(place.cache), WHIT_TEST_CHECKPOINT_SECONDS="0", **more)
        return subprocess.Popen(self.command(job, place), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def run(self, job, place, **more):
        process = self.start(job, place, **more)
        said = process.communicate()[1].decode(errors="replace")
        return process.returncode, said

    def fail(self, what, said=""):
        self.failures.append(what)
        print(f"FAILED {what}\n{said[-2000:]}", file=sys.stderr)

    def reference(self, job):
        place = Place(self.folder / "reference" / job.name)
        place.empty()
        if job.prepare:
            job.prepare(self)
        begin = time.monotonic()
        code, said = self.run(job, place)
        if code != 0:
            sys.exit(f"{job.name} does not run undisturbed: {said}")
        job.seconds, job.bytes = time.monotonic() - begin, place.finals()

    def same(self, job, place, what, said):
        """The files of the undisturbed run, and no others."""
        now = place.finals()
        wrong = [name for name in job.bytes if now.get(name) != job.bytes[name]] + [n for n in now if n not in job.bytes]
        left = place.leftovers()
        if wrong:
            self.fail(f"{what}: other bytes in {wrong}", said)
        if left:
            self.fail(f"{what}: left over {[p.name for p in left]}", said)
        return not wrong and not left

    def whole(self, job, place, what):
        """Nothing but files of the undisturbed run under final names."""
        for name, content in place.finals().items():
            if content != job.bytes.get(name):
                self.fail(f"{what}: half-written {name}, {len(content)} bytes")
                return False
        return True

    def kill(self, job, number, row):
        place = Place(self.folder / "killed" / job.name)
        place.empty()
        slowed = number % 2 == 1
        term = number % 10 == 9
        # A slowed run takes about three times as long.
        moment = self.random.uniform(0, job.seconds * (3 if slowed else 1))
        what = f"{job.name}, {'SIGTERM' if term else 'SIGKILL'} at {moment:.3f} s{' of a slowed run' if slowed else ''}"
        process = self.start(job, place, **({"WHIT_TEST_DELAY_MS": "40"} if slowed else {}))
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM if term else signal.SIGKILL)
        process.communicate()
        row["runs"] += 1
        if process.returncode == 0:
            row["ended before"] += 1
        else:
            row["SIGTERM" if term else "SIGKILL"] += 1
            names = [p.name for p in place.leftovers()]
            row["work saved"] += any(n.endswith((".unit", ".checkpoint", "-fisher", "-flow")) for n in names)
            row["inside a write"] += any(".tmp-" in n for n in names)
            row["cache begun"] += any(n.startswith("cache/") for n in place.finals())
            row["nothing half-written"] += self.whole(job, place, what)
        finished = process.returncode == 0
        code, said = (0, "") if finished else self.run(job, place)
        # A run that was killed after its last rename left the whole output, which the second run rightly does not touch.
        if code == 5 and "exists already" in said and self.whole(job, place, what):
            code, said = self.run(Job(job.name, [*job.arguments, "--force"]), place)
        if code != 0:
            self.fail(f"{what}: the same command ends with {code}", said)
        row["same bytes after"] += code == 0 and self.same(job, place, what, said)

    def kills(self, jobs, count):
        columns = ["runs", "SIGKILL", "SIGTERM", "ended before", "cache begun", "work saved", "inside a write",
                   "nothing half-written", "same bytes after"]
        print("| job | seconds alone | " + " | ".join(columns) + " |\n|---|---|" + "---|" * len(columns))
        for index, job in enumerate(jobs):
            row = dict.fromkeys(columns, 0)
            for number in range(count // len(jobs) + (index < count % len(jobs))):
                self.kill(job, number, row)
            print(f"| {job.name} | {job.seconds:.1f} | " + " | ".join(str(row[c]) for c in columns) + " |", flush=True)

    def verdict(self, job, fault, outcome, fine):
        if not fine:
            self.fail(f"{job.name}, {fault}: {outcome}")
        print(f"| {job.name} | {fault} | {outcome} | {'yes' if fine else 'NO'} |", flush=True)

    def small_disk(self, job, which, kilobytes=None):
        """`which` (out or cache) lies on a disk of so many KB, or on one that is read-only; then there is room, and the same
        command goes on."""
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes or 65536}k", "tmpfs", disk], check=True)
        try:
            place = Place(self.folder / "disks" / job.name, **{which: disk / which})
            place.empty()
            folder = "output" if which == "out" else "cache"
            if kilobytes:
                fault, reason, mended = f"disk of the {folder} has {kilobytes} KB", "No space left", "size=64m"
            else:
                fault, reason, mended = f"folder of the {folder} is read-only", "Read-only", "rw"
                subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            first, said = self.run(job, place)
            fine = first == 5 and reason in said and self.whole(job, place, fault)
            subprocess.run(["mount", "-o", "remount," + mended, disk], check=True)
            then, said = self.run(job, place)
            fine = fine and then == 0 and self.same(job, place, fault, said)
            self.verdict(job, fault, f"exit {first}; mended: exit {then}", fine)
        finally:
            subprocess.run(["umount", disk], check=True)

    def two(self, job):
        place = Place(self.folder / "two" / job.name)
        place.empty()
        first = self.start(job, place, WHIT_TEST_DELAY_MS="300")
        journal = None
        while first.poll() is None and not journal:  # until the first one holds its journal
            journal = next(place.out.rglob("*.journal/*.*"), None)
            time.sleep(0.002)
        code, said = self.run(job, place)
        refused = code == 5 and "another process" in said
        first_said = first.communicate()[1].decode(errors="replace")
        fine = refused and first.returncode == 0 and self.same(job, place, "two processes", first_said)
        self.verdict(job, "two processes on one output", f"second: exit {code}; first: exit {first.returncode}", fine)

    def clock(self, job, library):
        """The clocks, monotonic ones too, jump by twenty years forwards and backwards again and again."""
        place = Place(self.folder / "clock" / job.name)
        place.empty()
        stamp = self.folder / "clock.txt"
        stamp.write_text("+0")
        process = self.start(job, place, WHIT_TEST_DELAY_MS="20", LD_PRELOAD=str(library), FAKETIME_NO_CACHE="1",
                             FAKETIME_TIMESTAMP_FILE=str(stamp))
        jumps, deadline = 0, time.monotonic() + 120
        os.set_blocking(process.stderr.fileno(), True)
        while process.poll() is None and time.monotonic() < deadline:
            temporary = stamp.with_suffix(".new")
            temporary.write_text(self.random.choice(["+20y", "-20y", "+3", "-3600"]))
            temporary.replace(stamp)
            jumps += 1
            time.sleep(0.1)
        if process.poll() is None:
            process.kill()
        said = process.communicate()[1].decode(errors="replace")
        fine = process.returncode == 0 and self.same(job, place, "clock", said)
        self.verdict(job, "the clocks jump by up to 20 years", f"exit {process.returncode} after {jumps} jumps", fine)

    def faults(self, jobs):
        print("\n| job | fault | outcome | same bytes at the end, nothing half-written |\n|---|---|---|---|")
        mounts = os.geteuid() == 0
        for job in jobs:
            caches = any(name.startswith("cache/") for name in job.bytes)
            outputs = any(name.startswith("out/") for name in job.bytes)
            for which in ["out"] * outputs + ["cache"] * caches:
                if not mounts:
                    print(f"| {job.name} | full disk, read-only folder | not tried: needs root | |")
                    continue
                size = sum(len(v) for k, v in job.bytes.items() if k.startswith(which)) // 1024
                sizes = [size // 2] if self.options.short else [0, size // 8, size // 2, size - 8]
                for kilobytes in sorted({max(4, k) for k in sizes}):  # a page is the least
                    self.small_disk(job, which, kilobytes)
                self.small_disk(job, which)
            if outputs and job.name != "convert":
                self.two(job)
            library = self.options.faketime
            if library.exists():
                self.clock(job, library)
            else:
                print(f"| {job.name} | the clocks jump | not tried: no {library} (Debian package faketime) | |")

    def flips(self):
        """Of the model as it is, in two formats of ours, and as a folder that convert wrote."""
        calibration = ["--data", str(self.text), "--calibration-tokens", "2048", "--context", "64"]
        made = {"the GGUF as it is": self.options.model}
        for preset in ("gptq-3", "lowrank-1.0"):
            made[preset] = self.folder / f"{preset}.gguf"
            self.make(["compress", self.options.model, "--preset", preset, "--no-check", *calibration, "-o", made[preset]])
        made["folder of `whit convert`"] = self.folder / "folder"
        self.make(["convert", self.options.model, made["folder of `whit convert`"]])
        header = None
        for name, path in made.items():
            # Short: nearly all time goes into every bit of a header, so the short form takes our formats alone.
            if self.options.short and path == self.options.model:
                continue
            begin = time.monotonic()
            step = ["9973"] if self.options.short else []
            done = subprocess.run([str(self.options.flips), str(path), *step], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode not in (0, 1):
                self.fail(f"flips of {name}: exit {done.returncode}", done.stderr.decode(errors="replace"))
                continue
            report = json.loads(done.stdout)
            if header is None:
                header = report["outcomes"]
                print("\n| file | integrity | where | flips | " + " | ".join(header) + " |\n|---|---|---|---|" + "---|" * len(header))
            for region, counts in report["regions"].items():
                print(f"| {name} | {report['integrity']} | {region} | {sum(counts)} | " + " | ".join(map(str, counts)) + " |")
            print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
            if done.returncode != 0:
                self.fail(f"flips of {name}: {report['worst']}")

    def make(self, words):
        done = subprocess.run([str(self.options.whit), *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              env=dict(os.environ, WHIT_CACHE=str(self.folder / "cache")))
        if done.returncode != 0:
            sys.exit(f"{words[0]} does not run: {done.stderr.decode(errors='replace')}")


def jobs():
    calibration = ["--data", "{text}", "--calibration-tokens", "2048", "--context", "64", "--threads", "1"]
    small = Job("small", ["compress", "{model}", "--preset", "gptq-4", "--no-check", *calibration, "-o", "{out}/small.gguf"])

    def make_small(bench):
        if not (bench.folder / "small.gguf").exists():
            place = Place(bench.folder / "small")
            bench.run(small, place)
            (place.out / "small.gguf").rename(bench.folder / "small.gguf")

    return [
        Job("compress", ["compress", "{model}", "--fit", "60%", "--no-check", *calibration, "-o", "{out}/small.gguf"]),
        Job("calibrate", ["calibrate", "{model}", *calibration]),
        Job("tune", ["tune", "{folder}/small.gguf", "--against", "{model}", "--data", "self+{text}", "--train-tokens", "6K",
                     "--text-tokens", "2K", "--context", "64", "--batch", "256", "--threads", "1", "-o", "{out}/tuned.gguf"],
            make_small),
        Job("convert", ["convert", "{model}", "{out}/converted.gguf", "--type", "Q8_0,F16", "--threads", "1"]),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whit", type=Path, default=ROOT / "build/release/src/cli/whit")
    parser.add_argument("--flips", type=Path, default=ROOT / "build/dev/bench/faults/flips", help="its driver")
    parser.add_argument("--model", type=Path, default=STORIES)
    parser.add_argument("--fit", default="200KB", help="size that compress is asked for")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faketime", type=Path, default=FAKETIME)
    parser.add_argument("--jobs", default="compress,calibrate,tune,convert")
    parser.add_argument("--only", default="kills,faults,flips")
    parser.add_argument("--short", action="store_true", help="12 kills, one full disk a job, flips of our formats: under three minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whit-faults-") as folder:
        bench = Bench(options, Path(folder))
        chosen = [job for job in jobs() if job.name in options.jobs.split(",")]
        for job in chosen if "kills" in options.only or "faults" in options.only else []:
            job.arguments = [options.fit if word == "60%" else word for word in job.arguments]
            bench.reference(job)
        if "kills" in options.only:
            bench.kills(chosen, 12 if options.short else options.kills)
        if "faults" in options.only:
            bench.faults(chosen)
        if "flips" in options.only:
            bench.flips()
        for failure in bench.failures:
            print(f"FAILED {failure}")
        print(f"\n{len(bench.failures)} failures, seed {options.seed}")
        return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
