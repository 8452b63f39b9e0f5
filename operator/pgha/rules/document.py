"""The table as Markdown, for docs/rules.md: `pgha rules`."""

from pgha.rules.table import RULES


def markdown() -> str:
    lines = [
        "# The decision table",
        "",
        "One decision per wake-up: the first rule that applies. Printed by `pgha rules`; a test",
        "keeps this page current.",
        "",
        "| # | rule | what it says | file |",
        "|---|---|---|---|",
    ]
    for number, rule in enumerate(RULES, 1):
        place = rule.when.__module__.replace(".", "/") + ".py"
        lines.append(f"| {number} | `{rule.id}` | {rule.sentence} | operator/{place} |")
    return "\n".join(lines) + "\n"
