#!/usr/bin/env python3
"""Fills tests/data/jinja/constructs.json with what jinja2 makes of each template there (dev only).

    pip install transformers jinja2
    tools/jinja_constructs.py tests/data/jinja/constructs.json

The file has a context and rows of a template each. A row gets `text`, null where jinja2 raises. To add a construct, write
a row with `template` alone and run this.
"""
import copy
import datetime
import json
import pathlib
import sys

from transformers.utils import chat_template_utils


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 6, 9, 5, 3)


chat_template_utils.datetime = FixedTime
path = pathlib.Path(sys.argv[1])
table = json.loads(path.read_text())
lines = []
for row in table["rows"]:
    try:
        text = chat_template_utils._compile_jinja_template(row["template"]).render(**copy.deepcopy(table["context"]))
    except Exception:
        text = None
    lines.append(json.dumps({"template": row["template"], "text": text}, ensure_ascii=False))
context = json.dumps(table["context"], ensure_ascii=False)
path.write_text('{"context": ' + context + ',\n"rows": [\n' + ",\n".join(lines) + "\n]}\n")
