"""Strength of interactions between patches against their order (Section 3.2, Figures 1 e-h and A1 c-d).

python tools/analysis/interaction.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --images FOLDER --out DIR
"""

from arguments import parse_interaction

if __name__ == '__main__':
    parse_interaction()  # --help and mistakes are answered at once: the imports below take seconds

from a2mim_mm.analysis.interaction import run
from a2mim_mm.analysis.measuring import AFTER_INTERRUPT
from a2mim_mm.engine.run_tool import run_tool


def main(argv: list[str] | None = None) -> None:
    """Measure, write, draw."""
    run(parse_interaction(argv))


if __name__ == '__main__':
    run_tool(main, AFTER_INTERRUPT)
