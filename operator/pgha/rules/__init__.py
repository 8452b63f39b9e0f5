"""The decision: one ordered table, first match wins, every rule with a stable id and a sentence.

Pure: facts in, actions out. No clock, no disk, no network; the simulation runs this very code.
"""

from pgha.rules.table import RULES, Decision, decide

__all__ = ["RULES", "Decision", "decide"]
