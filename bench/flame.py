"""Flame graphs: from py-spy's recordings to seconds by stack, and from those to an SVG. Pure.

A stack is the thread's name and then the functions, the outermost first. In a recording of events
the time is the wall clock's, waiting included; in one of samples it is what was seen at work.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Stack = tuple[str, ...]
Seconds = dict[Stack, float]

WIDTH, ROW, LETTER = 1200, 17, 6.6  # pixels; of an SVG, of a row, of a letter
LEAST = 0.002  # of the whole: narrower boxes are not drawn
_THREAD = re.compile(r"thread \(\w+\): (.*)|thread \((\w+)\)")
# What is before this in a path says where an installation is, and nothing else.
_PLACES = re.compile(r".*(?=(?:pgha|urllib3|prometheus_client)/)|.*/")


def frame(name: str, filename: str) -> str:
    """`Keeper.write (pgha/keeper.py)`: lines would tear apart what is one function."""
    if found := _THREAD.fullmatch(name):
        return found[1] or f"thread {found[2]}"
    return f"{name} ({_PLACES.sub('', filename, count=1)})" if filename else name


def of_events(events: Iterable[Mapping[str, Any]], since: float, until: float) -> Seconds:
    """Seconds by stack between two moments of a `chrometrace` recording, whose clock begins with
    it; a function that is left open is open until the last event."""
    open_: dict[int, list[str]] = defaultdict(list)
    last: dict[int, float] = {}
    found: dict[Stack, float] = defaultdict(float)

    def spend(thread: int, now: float) -> None:
        begun, stack = last.get(thread, now), open_[thread]
        took = min(now, until) - max(begun, since)
        if stack and took > 0:
            found[tuple(stack)] += took
        last[thread] = now

    now = 0.0
    for event in events:
        now, thread = event["ts"] / 1e6, event["tid"]
        spend(thread, now)
        if event["ph"] == "B":
            open_[thread].append(frame(event["name"], event["args"]["filename"]))
        elif open_[thread]:
            open_[thread].pop()
    for thread in list(open_):
        spend(thread, now)
    return dict(found)


def of_samples(text: str, rate: float) -> Seconds:
    """Seconds by stack of a `raw` recording: each line is a stack and how often it was seen."""
    found: dict[Stack, float] = defaultdict(float)
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        parts = []
        for part in stack.split(";"):
            name, _, rest = part.partition(" (")
            is_thread = _THREAD.fullmatch(part)
            parts.append(frame(part, "") if is_thread else frame(name, rest.rstrip(")")))
        found[tuple(parts)] += int(count) / rate
    return dict(found)


def by_function(stacks: Seconds, thread: str | None = None) -> list[tuple[str, float, float]]:
    """(function, seconds in it and in what it calls, seconds in itself), the longest first."""
    whole: dict[str, float] = defaultdict(float)
    itself: dict[str, float] = defaultdict(float)
    for stack, seconds in stacks.items():
        if thread is not None and stack[0] != thread:
            continue
        for name in set(stack[1:]):
            whole[name] += seconds
        itself[stack[-1]] += seconds
    return sorted(((n, s, itself[n]) for n, s in whole.items()), key=lambda r: (-r[1], r[0]))


def svg(stacks: Seconds, title: str, only: Sequence[str] = ()) -> str:
    """The flame graph; `only` names the threads that are drawn, all by default. The same stacks
    give the same text."""
    drawn = {s: t for s, t in sorted(stacks.items()) if not only or s[0] in only}
    whole = sum(drawn.values())
    boxes: list[str] = []
    depth = max((len(s) for s in drawn), default=0)

    def draw(group: Seconds, level: int, x: float) -> None:
        children: dict[str, Seconds] = defaultdict(dict)
        for stack, seconds in group.items():
            if len(stack) > level:
                children[stack[level]][stack] = seconds
        for name, below in children.items():
            seconds = sum(below.values())
            if seconds < LEAST * whole:
                continue
            width = WIDTH * seconds / whole
            boxes.append(_box(name, seconds, whole, x, (depth - level) * ROW + 24, width))
            draw(below, level + 1, x)
            x += width

    draw(drawn, 0, 0.0)
    height = (depth + 1) * ROW + 30
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="4" y="16" font-size="13">{escape(title)}, {whole:.3f} s</text>',
        *boxes,
        "</svg>",
    ]) + "\n"  # fmt: skip


def _box(name: str, seconds: float, whole: float, x: float, y: float, width: float) -> str:
    shade = zlib.crc32(name.encode()) % 60
    fits = int((width - 4) / LETTER)
    text = name if len(name) <= fits else name[: max(0, fits - 2)] + ".."
    label = f'<text x="{x + 2:.1f}" y="{y + 12:.0f}">{escape(text)}</text>' if fits > 3 else ""
    return (
        f"<g><title>{escape(name)}: {seconds:.3f} s, {100 * seconds / whole:.1f} %</title>"
        f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{ROW - 1}" '
        f'fill="hsl({20 + shade % 40},80%,{60 + shade % 20}%)"/>{label}</g>'
    )
