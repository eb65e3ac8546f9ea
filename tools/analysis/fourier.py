"""High frequencies and variance of feature maps against depth (Section 3.3, Figure 3).

python tools/analysis/fourier.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --images FOLDER --out DIR
"""

from arguments import parse_fourier

if __name__ == '__main__':
    parse_fourier()  # --help and mistakes are answered at once: the imports below take seconds

from a2mim_mm.analysis.fourier import run
from a2mim_mm.analysis.measuring import AFTER_INTERRUPT
from a2mim_mm.engine.run_tool import run_tool


def main(argv: list[str] | None = None) -> None:
    """Measure, write, draw."""
    run(parse_fourier(argv))


if __name__ == '__main__':
    run_tool(main, AFTER_INTERRUPT)
