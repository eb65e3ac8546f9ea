"""Accuracy against the share of hidden patches (Section 3.1, Figures 1 a-d and A1 a-b).

python tools/analysis/occlusion.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --images FOLDER --out DIR
"""

from arguments import parse_occlusion

if __name__ == '__main__':
    parse_occlusion()  # --help and mistakes are answered at once: the imports below take seconds

from a2mim_mm.analysis.measuring import AFTER_INTERRUPT
from a2mim_mm.analysis.occlusion import run
from a2mim_mm.engine.run_tool import run_tool


def main(argv: list[str] | None = None) -> None:
    """Measure, write, draw."""
    run(parse_occlusion(argv))


if __name__ == '__main__':
    run_tool(main, AFTER_INTERRUPT)
