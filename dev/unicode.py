#!/usr/bin/env python3
"""Writes the character tables into tokenizer.c, between its two markers, and checks what it relies on.

usage: dev/unicode.py [FOLDER]

FOLDER holds UnicodeData.txt, PropList.txt and DerivedNormalizationProps.txt of the Unicode Character Database
(Debian: package unicode-data; elsewhere: https://www.unicode.org/Public/). A second run changes nothing. The
numbers are those of packed_runs twice, then of packed_splits.
"""
import collections
import os
import re
import sys

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tokenizer.c")
BEGIN = "// ---- begin of what dev/unicode.py wrote: do not edit by hand"
END = "// ---- end of what dev/unicode.py wrote"
WIDTH = 110
HANGUL_V_T = [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]


class Unicode:
    """version, and by code point: class (1 letter, 2 number, 3 space), ccc, split (canonical decomposition);
    excluded: those that are never composed."""

    def __init__(self, folder):
        def read(name):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                return file.read()

        def listed(name, value):
            for low, high in re.findall(rf"^([0-9A-F]+)(?:\.\.([0-9A-F]+))? *; {value}\b", read(name), re.M):
                yield from range(int(low, 16), int(high or low, 16) + 1)

        self.classes, self.ccc, self.split = {}, {}, {}
        first = None
        for line in read("UnicodeData.txt").splitlines():
            code, name, category, ccc, _, mapping = line.split(";")[:6]
            code = int(code, 16)
            if name.endswith(", First>"):       # a large block is two lines: its first and its last character
                first = code
                continue
            for c in range(code if first is None else first, code + 1):
                if category[0] in "LN":
                    self.classes[c] = " LN".index(category[0])
            first = None
            if ccc != "0":
                self.ccc[code] = int(ccc)
            if mapping and mapping[0] != "<":
                self.split[code] = [int(c, 16) for c in mapping.split()]
        for c in listed("PropList.txt", "White_Space"):
            assert c not in self.classes, "a space that is a letter or a number"
            self.classes[c] = 3
        self.excluded = set(listed("DerivedNormalizationProps.txt", "Full_Composition_Exclusion"))
        self.active = {*listed("DerivedNormalizationProps.txt", "NFC_QC; [NM]"), *self.ccc}
        self.version = re.match(r"# PropList-([0-9.]+)\.txt", read("PropList.txt")).group(1)
        self.check()

    def full(self, code):
        return [d for c in self.split[code] for d in self.full(c)] if code in self.split else [code]

    def check(self):
        """What tokenizer.c takes for granted."""
        joined = {tuple(self.split[c]) for c in self.split if c not in self.excluded}
        seconds = {s[1] for s in joined} | set(HANGUL_V_T)
        assert self.active == self.excluded | seconds | set(self.ccc), "active characters are not as derived"
        size = lambda codes: len("".join(map(chr, codes)).encode())
        for c, split in self.split.items():
            assert len(split) <= 2 and not any(s in self.split for s in split[1:]), "a second part is split"
            assert len(self.full(c)) <= 4 and size(self.full(c)) <= 3 * size([c]), "longer than thrice"
            assert c in self.active or self.full(c)[0] not in self.active, "joins with what comes before"
            assert c in self.excluded or size([c]) <= size(split), "composing makes longer"
            assert c >= 0xC0 and not 0xAC00 <= c <= 0xD7A3, "ASCII or Hangul is split"
        assert all(c not in self.classes for c in self.ccc), "a mark that has a class"
        assert min(self.active) == 0x300, "the first active character"


def number(v):
    """A whole number as printable characters: the last is one of 64 from # on, those before of 28 from c."""
    text = chr(ord("#") + v % 64)
    v //= 64
    while v > 0:
        v -= 1
        text = chr(ord("c") + v % 28) + text
        v //= 28
    return text


def packed_runs(values, kinds):
    """How many runs and kinds, then for each run of equal values: kinds * the gap before it + value - 1, and
    how many more than one."""
    result = []
    end = 0
    for c in sorted(values):
        if result and c == end and result[-1][0] % kinds == values[c] - 1:
            result[-1][1] += 1
        else:
            result.append([kinds * (c - end) + values[c] - 1, 0])
        end = c + 1
    return [len(result), kinds, *(n for run in result for n in run)]


def packed_splits(u):
    """The second parts, each doubled, and one more if never composed. Then for each split, or each run of
    splits without a second part: how many second parts there are times the gap before it, plus the number of
    its own; how many more (runs only); the distance of each first part from the one before."""
    key = {c: 2 * (split[1] if len(split) == 2 else 0) + (c in u.excluded) for c, split in u.split.items()}
    seconds = [k for k, _ in sorted(collections.Counter(key.values()).items(), key=lambda s: (-s[1], s[0]))]
    assert seconds[0] == 1
    result, last, end, before = [], None, 0, 0
    for c in sorted(u.split):
        if c == end and key[c] == 1 and last is not None:
            result[last] += 1
        else:
            result.append(len(seconds) * (c - end) + seconds.index(key[c]))
            last = len(result) if key[c] == 1 else None
            result += [0] if key[c] == 1 else []
        step = u.split[c][0] - before
        result.append(2 * step - 1 if step > 0 else -2 * step)
        end, before = c + 1, u.split[c][0]
    return seconds, seconds + result


def section(u):
    """The lines of C between the markers."""
    ranks = {ccc: i + 1 for i, ccc in enumerate(sorted(set(u.ccc.values())))}
    assert len(ranks) < 63
    seconds, splits = packed_splits(u)
    marks = {c: ranks[u.ccc[c]] for c in u.ccc}
    numbers = packed_runs(u.classes, 3) + packed_runs(marks, len(ranks)) + splits
    codes = (max(*u.classes, *u.ccc, *u.split) // 4096 + 1) * 4096
    lines, line = [], ""
    for text in (number(n).replace("\\", "\\\\") for n in numbers):
        if text == "?" and line.endswith("?"):    # two of them may begin a trigraph
            text = "\\?"
        if len(line) + len(text) > WIDTH - 7:
            lines.append(line)
            line = ""
        line += text
    return [
        f"// Unicode {u.version}: letters are the categories L*, numbers N*, spaces what has White_Space.",
        f"enum {{ CODES = 0x{codes:X}, SECONDS = {len(seconds)}, SPLITS = {len(u.split)} }};",
        "static const char *const PACKED[] = {",
        *(f'    "{text}",' for text in lines + [line]),
        "};",
    ]


def main():
    u = Unicode(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode")
    with open(TARGET, encoding="utf-8") as file:
        source = file.read()
    assert source.count(BEGIN + "\n") == 1 and source.count(END + "\n") == 1, "tokenizer.c lacks the markers"
    before, rest = source.split(BEGIN + "\n")
    after = rest.split(END + "\n")[1]
    lines = [BEGIN, *section(u), END]
    with open(TARGET, "w", encoding="utf-8") as file:
        file.write(before + "\n".join(lines) + "\n" + after)
    print(f"tokenizer.c: Unicode {u.version}, {len(u.split)} splits, {len(u.excluded)} never composed, "
          f"{len(lines)} lines")


if __name__ == "__main__":
    main()
