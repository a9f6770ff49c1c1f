#!/usr/bin/env python3
"""English prose out of Debian packages, as a second source of training text: english.py OUT.txt
Manuals, essays, dictionaries and glosses; nothing of what is scored (FOLDOC, for one, holds much of the Jargon File). Install first:
  apt-get install --no-install-recommends anarchism perl-doc python3.11-doc dict-gcide wordnet-base fortunes
Each source gives at most 8 MB, documents in an order drawn with seed 0."""
import glob, gzip, html.parser, pathlib, random, re, sys

MOST = 8 << 20


class Text(html.parser.HTMLParser):
    """The paragraphs, list items and headings of a page."""
    KEEP, DROP = {"p", "li", "dd", "dt", "h1", "h2", "h3", "blockquote"}, {"script", "style", "pre", "nav", "head"}

    def __init__(self):
        super().__init__()
        self.out, self.depth, self.drop = [], 0, 0

    def handle_starttag(self, tag, attrs):
        self.drop += tag in self.DROP
        if tag in self.KEEP:
            self.out.append("\n\n")
            self.depth += 1

    def handle_endtag(self, tag):
        self.drop -= tag in self.DROP and self.drop > 0
        self.depth -= tag in self.KEEP and self.depth > 0

    def handle_data(self, data):
        if self.depth and not self.drop:
            self.out.append(data)


def read(path):
    data = pathlib.Path(path).read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "replace")


def pages(*patterns):
    for path in sorted(p for pattern in patterns for p in glob.glob(pattern, recursive=True)):
        parser = Text()
        parser.feed(read(path))
        yield re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]*\n[ \t]*(?!\n)", "\n", "".join(parser.out)).replace("¶", ""))


def pods():
    for path in sorted(glob.glob("/usr/share/perl/*/pod/perl*.pod")):
        prose = [p for p in read(path).split("\n\n") if p and not p[0].isspace() and not p.startswith("=")]
        yield "\n\n".join(re.sub(r"[BCEFILSX]<+ ?([^<>]*?) ?>+", r"\1", p).replace("\n", " ") for p in prose)


def definitions(name):  # dictd: entries are separated by a headword at the beginning of a line
    for path in glob.glob(f"/usr/share/dictd/{name}.dict.dz"):
        yield from re.split(r"\n(?=\S)", read(path))


def glosses():
    for path in sorted(glob.glob("/usr/share/wordnet/data.*")):
        for line in read(path).splitlines():
            head, _, gloss = line.partition(" | ")
            if gloss:
                yield head.split()[4].replace("_", " ") + ": " + gloss.strip()


def fortunes():
    for path in sorted(glob.glob("/usr/share/games/fortunes/*")):
        if "." not in path:
            yield from read(path).split("\n%\n")


SOURCES = {
    "anarchism": pages("/usr/share/doc/anarchism/html/**/*.html"),
    "python": pages("/usr/share/doc/python3.11/html/**/*.html"),
    "perl": pods(),
    "gcide": definitions("gcide"),
    "wordnet": glosses(),
    "fortunes": fortunes(),
}


def main():
    rng = random.Random(0)
    documents = []
    for name, source in SOURCES.items():
        found = [t.strip() for t in source]
        rng.shuffle(found)
        size = kept = 0
        while kept < len(found) and size < MOST:
            size += len(found[kept])
            kept += 1
        if not kept:
            sys.exit(f"{name}: nothing found; is its package installed?")
        print(f"{name:16} {kept:7} documents {size / 1e6:7.1f} MB", file=sys.stderr)
        documents += found[:kept]
    rng.shuffle(documents)
    pathlib.Path(sys.argv[1]).write_text("\n\n".join(documents) + "\n", encoding="utf-8")


main()
