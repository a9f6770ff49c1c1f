#!/usr/bin/env python3
"""Speed beside llama.cpp: same files, same threads, programs taking turns within one run.

  bench/compare/compare.py WHIT MODEL.gguf [--rounds 5] [--threads 1,2] [--llama BIN_FOLDER]

llama.cpp is built once, for this machine, from the source package llama-cpp-python of PyPI into .whit/compare/; it is only
ever run as a program. --llama takes a folder that already holds llama-bench and llama-quantize. From MODEL, files of
other types are made with llama-quantize. One round measures every file, thread count and program once, so that a slow
minute of the machine hits all of them. Printed: median tokens per second with their range, and the ratio of the medians.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tarfile

VERSION = "0.3.36"
PROGRAMS = ["llama-bench", "llama-quantize"]
FLAGS = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
         "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
         "-DGGML_NATIVE=ON"]


def call(*command):
    print("+", *command, file=sys.stderr)
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


def build_llama(folder, build="build", flags=FLAGS, programs=PROGRAMS):
    binaries = folder / build / "bin"
    if all((binaries / name).exists() for name in programs):
        return binaries
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"llama_cpp_python-{VERSION}.tar.gz"
    if not archive.exists():
        call(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", folder,
             f"llama-cpp-python=={VERSION}")
    source = folder / f"llama_cpp_python-{VERSION}"
    if not source.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(folder)
    call("cmake", "-G", "Ninja", "-S", source / "vendor" / "llama.cpp", "-B", folder / build, *flags)
    call("cmake", "--build", folder / build, "--target", *programs)
    return binaries


def llama(binaries, model, threads):
    out = subprocess.run([binaries / "llama-bench", "-m", model, "-p", "512", "-n", "128", "-t", str(threads), "-r", "1",
                          "-o", "jsonl"], check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {"prompt": next(row["avg_ts"] for row in rows if row["n_prompt"]),
            "decode": next(row["avg_ts"] for row in rows if row["n_gen"])}


def whit(binary, model, threads, activations):
    out = subprocess.run([binary, "bench", model, "--threads", str(threads), "--activations", activations, "--prompt", "512",
                          "--decode", "128", "--repeats", "1", "--json"], check=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True).stdout
    table = json.loads(out)
    row = table["rows"][0]
    return {"prompt": row["prompt_tokens_per_second"], "decode": row["decode_tokens_per_second"], "isa": table["isa"]}


def processor():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whit")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--kinds", default="Q4_0,Q8_0,Q4_K_M")
    parser.add_argument("--llama")
    parser.add_argument("--folder", default=".whit/compare")
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    binaries = pathlib.Path(options.llama) if options.llama else build_llama(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {pathlib.Path(options.model).name: options.model}
    for kind in options.kinds.split(","):
        made = folder / f"{kind}.gguf"
        if not made.exists():
            call(binaries / "llama-quantize", "--allow-requantize", options.model, made, kind)
        files[kind] = str(made)

    results = {}
    isa = ""
    load = [os.getloadavg()[0]]
    for index in range(options.rounds):
        for name, path in files.items():
            for threads in (int(count) for count in options.threads.split(",")):
                for program in ("llama.cpp", "whit int8", "whit fp32"):
                    if program == "llama.cpp":
                        speed = llama(binaries, path, threads)
                    else:
                        speed = whit(options.whit, path, threads, program.split()[1])
                        isa = speed["isa"]
                    print(f"round {index + 1}/{options.rounds}: {name}, {threads} threads, {program}: "
                          f"{speed['prompt']:.1f} {speed['decode']:.1f}", file=sys.stderr, flush=True)
                    for phase in ("prompt", "decode"):
                        results.setdefault((name, threads, phase), {}).setdefault(program, []).append(speed[phase])
        load.append(os.getloadavg()[0])

    print(f"{processor()}, {isa}, llama-cpp-python {VERSION} built for this machine; prompt 512, decode 128; "
          f"{options.rounds} rounds, median (range) tokens/s; load average {min(load):.1f} to {max(load):.1f}\n")
    print("| file | threads | | llama.cpp | whit int8 | ratio | whit fp32 | ratio |\n|---|---|---|---|---|---|---|---|")
    for (name, threads, phase), programs in results.items():
        def cell(program):
            values = programs[program]
            return f"{statistics.median(values):.1f} ({min(values):.0f}-{max(values):.0f})"
        base = statistics.median(programs["llama.cpp"])
        ratio = {program: statistics.median(values) / base for program, values in programs.items()}
        print(f"| {name} | {threads} | {phase} | {cell('llama.cpp')} | {cell('whit int8')} | {ratio['whit int8']:.2f}x | "
              f"{cell('whit fp32')} | {ratio['whit fp32']:.2f}x |")


if __name__ == "__main__":
    main()
