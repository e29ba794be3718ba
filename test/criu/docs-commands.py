#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""docs-commands.py inline FILE...       the commands that stand in the text: "FILE<TAB>COMMAND"
docs-commands.py blocks FILE...       the first line of each block of commands: "FILE<TAB>LINE"
docs-commands.py block FILE LINE      the block that begins with that line
docs-commands.py sentences N FILE...  sentences of more than N words: "FILE: WORDS: SENTENCE"

Documents are Markdown, or manual pages (their .nf blocks)."""
import os
import re
import shutil
import sys

# In the text, where any word could be a program's name.
PROGRAMS = ("make", "criu", "wptrack", "wptrack-keeper", "git", "gdb", "kill", "prlimit", "rsync", "ssh", "apt-get")


def program(line):
    """The program that a line would run, or an empty string."""
    words = line.split()
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words[0] if words else ""


def is_command(line):
    name = program(line)
    return name in PROGRAMS or bool(re.match(r"(build|test|scripts)/\S+", name)) or bool(shutil.which(name))


def read(path):
    with open(path, encoding="utf-8") as doc:
        text = doc.read()
    if path.endswith(".md"):
        return text
    return text.replace("\\-", "-").replace("\\fR", "").replace("\\fI", "")


def blocks(path):
    """Each fenced or indented block, as a list of lines."""
    found, block, fence = [], None, False
    for line in read(path).split("\n") + [""]:
        if line.lstrip().startswith("```") or line in (".nf", ".fi"):
            fence = line == ".nf" or (not fence and line != ".fi")
            if not fence:
                found.append(block)
            block = [] if fence else None
        elif fence:
            block.append(line)
        elif path.endswith(".md") and line.startswith("    "):
            block = (block or []) + [line[4:]]
        elif block:
            found.append(block)
            block = None
    return [block for block in found if block and any(is_command(line) for line in block)]


def inline(path):
    """What stands between backquotes, but in blocks."""
    text = re.sub(r"^```.*?^```", "", read(path), flags=re.M | re.S)
    text = re.sub(r"^    .*$", "", text, flags=re.M)
    for code in re.findall(r"`([^`]+)`", text):
        code = " ".join(code.split())
        name = program(code)
        if name in PROGRAMS or re.match(r"(build/bin|build/test|test|scripts)/[^ *]+ ", name + " "):
            yield code


def paragraphs(path):
    """The text without blocks: paragraphs, headings, list items and cells of tables."""
    text = re.sub(r"^```.*?^```", "", read(path), flags=re.M | re.S)
    text = re.sub(r"^(    .*|<!--.*-->)$", "", text, flags=re.M)
    # Each of these begins something of its own.
    text = re.sub(r"^\s*([-*]|\d+\.) ", "\n\n", text, flags=re.M)
    text = re.sub(r"^(#.*|\|.*)$", r"\n\n\1\n\n", text, flags=re.M)
    for part in re.split(r"\n\s*\n", text):
        yield from part.split("|") if part.lstrip().startswith("|") else [part]


def sentences(path):
    for part in paragraphs(path):
        part = " ".join(re.sub(r"`[^`]*`", lambda code: code.group().replace(" ", "_").replace(".", "_"), part).split())
        yield from re.split(r"(?<=[.?!])\)? (?=\S)", part)


def main():
    what, files = sys.argv[1], sys.argv[2:]
    if what == "sentences":
        for path in files[1:]:
            for sentence in sentences(path):
                words = len([word for word in sentence.split() if re.search(r"\w", word)])
                if words > int(files[0]):
                    print(f"{os.path.relpath(path)}: {words}: {sentence}")
        return 0
    if what == "block":
        for block in blocks(files[0]):
            if block[0] == files[1]:
                print("\n".join(block))
                return 0
        return 1
    seen = set()
    for path in files:
        for line in [block[0] for block in blocks(path)] if what == "blocks" else inline(path):
            if (path, line) not in seen:
                seen.add((path, line))
                print(os.path.relpath(path) + "\t" + line)
    return 0


sys.exit(main())
