#!/usr/bin/env python3
"""Makes what in the chart is made of something else, or with --check tells what is stale:

    atdata-bridge config --reference=schema | helm/generate.py [--check]

values.schema.json  values.schema.base.json, with `config` as the program's own schema has it
README.md           the table of values, out of the comments in values.yaml

Needs nothing but Python's standard library.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
CHART = HERE / "atdata-bridge"
TABLE = re.compile(r"(?<=<!-- values: made by `make chart` -->\n).*(?=<!-- values: end -->)", re.DOTALL)


def values_schema(config):
    """The schema of all values, `config` being that of the program's configuration file."""
    schema = json.loads((HERE / "values.schema.base.json").read_text())
    references = {name: schema["definitions"].pop(name) for name in ("file", "variable")}
    prefixed = json.dumps(config).replace('"#/definitions/', '"#/definitions/config.')
    config = {name: part for name, part in json.loads(prefixed).items() if not name.startswith("$")}
    for name, part in config.pop("definitions").items():
        schema["definitions"]["config." + name] = as_value(part, references)
    schema["properties"]["config"] = as_value(config, references)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def as_value(schema, references, name=""):
    """An option as a value of the chart: null takes it away, and a text may be a reference."""
    schema = {key: part for key, part in schema.items() if key not in ("default", "examples", "format")}
    if "properties" in schema:
        properties = schema["properties"].items()
        schema["properties"] = {option: as_value(part, references, option) for option, part in properties}
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = as_value(schema["additionalProperties"], references, "*")
    choices = schema.pop("oneOf", [])
    if choices:
        schema.pop("type", None)
        schema["enum"] = [choice for part in choices for choice in part.get("enum", [part.get("const")])]
    if "enum" in schema:
        schema.pop("type", None)
        schema["enum"] = [*schema["enum"], *([] if None in schema["enum"] else [None])]
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if types[0] == "string" and "integer" not in types and name not in ("", "*", "kind"):
            reference = references["file" if name.endswith("_file") else "variable"]
            schema.update({key: part for key, part in reference.items() if key != "type"})
            types = [*types, "object"]
        schema["type"] = types if "null" in types else [*types, "null"]
    return schema


def readme(values):
    """README.md with its table made anew."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    rows += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in documented(values)]
    text = (CHART / "README.md").read_text()
    return TABLE.sub(lambda _: "\n".join(rows) + "\n", text)


def documented(values):
    """Key, default and comment of every value; a table of values is one itself where nothing in it has a comment."""
    lines = values.splitlines()
    comment, parents = [], []
    for number, line in enumerate(lines):
        found = re.match(r"^( *)([A-Za-z]+):(?: (.*))?$", line)
        if line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
            continue
        if not found or (parents and parents[-1][2] and len(found[1]) > parents[-1][0]):
            comment = []
            continue
        indent, name, inline = len(found[1]), found[2], found[3]
        parents = [parent for parent in parents if parent[0] < indent]
        key = ".".join([*(parent[1] for parent in parents), name])
        block = nested(lines[number + 1 :], indent)
        # A block with no comment inside is one value.
        whole = inline is None and not any(text.lstrip().startswith("#") for text in block)
        parents.append((indent, name, whole))
        if inline is not None:
            default = f"`{inline}`"
        elif whole:
            width = min(len(text) - len(text.lstrip()) for text in block)
            default = "<pre>" + "<br>".join(text[width:] for text in block) + "</pre>"
        else:
            default = ""
        if default and not comment:
            sys.exit(f"values.yaml: {key} has no comment that says what it is")
        if comment:
            yield key, default.replace("|", "\\|"), prose(comment).replace("|", "\\|")
        comment = []


def nested(lines, indent):
    """The lines that belong to a key at `indent`."""
    block = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        block.append(line)
    while block and (not block[-1].strip() or block[-1].lstrip().startswith("#")):
        block.pop()
    return block


def prose(comment):
    """Lines of a comment as the content of a cell; items of lists begin on a line of their own."""
    return re.sub(r" - (?=`|or )", "<br>- ", " ".join(line for line in comment if line))


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    made = {
        CHART / "values.schema.json": values_schema(json.load(sys.stdin)),
        CHART / "README.md": readme((CHART / "values.yaml").read_text()),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        sys.exit("stale, run `make chart`: " + ", ".join(str(path) for path in stale))
    for path in stale:
        path.write_text(made[path])


if __name__ == "__main__":
    main()
