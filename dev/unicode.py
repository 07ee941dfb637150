#!/usr/bin/env python3
"""Writes the character classes into tokenizer.c, between its two marker comments.

usage: dev/unicode.py [FOLDER]

FOLDER holds UnicodeData.txt and PropList.txt of the Unicode Character Database (Debian: package unicode-data;
elsewhere: https://www.unicode.org/Public/). A second run changes nothing.
"""
import os
import re
import sys

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tokenizer.c")
BEGIN = "// ---- begin of what dev/unicode.py wrote: do not edit by hand"
END = "// ---- end of what dev/unicode.py wrote"
WIDTH = 110
CODES = 0x110000


def classes(folder):
    """The Unicode version, and a list: the class of each code point as one of the letters O L N S."""
    result = ["O"] * CODES
    first = None
    with open(os.path.join(folder, "UnicodeData.txt"), encoding="ascii") as file:
        for line in file:
            code, name, category = line.split(";")[:3]
            code = int(code, 16)
            if name.endswith(", First>"):       # a large block is two lines: its first and its last character
                first = code
                continue
            for c in range(code if first is None else first, code + 1):
                if category[0] in "LN":
                    result[c] = category[0]
            first = None
    with open(os.path.join(folder, "PropList.txt"), encoding="utf-8") as file:
        text = file.read()
    for low, high in re.findall(r"^([0-9A-F]+)(?:\.\.([0-9A-F]+))? *; White_Space\b", text, re.M):
        for c in range(int(low, 16), int(high or low, 16) + 1):
            assert result[c] == "O", "a space that is a letter or a number"
            result[c] = "S"
    return re.match(r"# PropList-([0-9.]+)\.txt", text).group(1), result


def section(version, result):
    """The lines of C between the markers."""
    ascii_rows = ["".join(result[i:i + 64]) for i in (0, 64)]
    lines = [
        f"// Unicode {version}: letters are the categories L*, numbers N*, spaces the property White_Space.",
        "static const char ASCII_CLASS[256] =",
        f'    "{ascii_rows[0]}"',
        f'    "{ascii_rows[1]}";',
        "static const Run RUN[] = {",
    ]
    line, start = "   ", 128
    for c in range(128, CODES + 1):
        if c < CODES and result[c] == result[start]:
            continue
        if result[start] != "O":
            entry = f" {result[start]}({start:X},{c - start})"
            if len(line) + len(entry) > WIDTH:
                lines.append(line)
                line = "   "
            line += entry
        start = c
    return lines + [line, "};"]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode"
    with open(TARGET, encoding="utf-8") as file:
        source = file.read()
    assert source.count(BEGIN + "\n") == 1 and source.count(END + "\n") == 1, "tokenizer.c lacks the markers"
    before, rest = source.split(BEGIN + "\n")
    after = rest.split(END + "\n")[1]
    version, result = classes(folder)
    body = "\n".join([BEGIN, *section(version, result), END]) + "\n"
    with open(TARGET, "w", encoding="utf-8") as file:
        file.write(before + body + after)
    print(f"tokenizer.c: Unicode {version}, {sum(map(body.count, ('L(', 'N(', 'S(')))} runs")


if __name__ == "__main__":
    main()
