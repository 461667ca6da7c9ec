"""Quantities against a size on logarithmic axes, with the paper's complexities through the last point."""

from __future__ import annotations

from harness.report.figures.marks import plain_numbers
from harness.report.figures.style import PAGE, Drawing, legend, legend_height, look, new_canvas
from harness.report.findings import Findings
from harness.report.growth_table import QUANTITIES, GrowthLine, growth_lines, largest

HEIGHT = 2.2
NAMES = {"T": "Window T (frames)", "HW": "Tokens of a frame HW", "M": "Memory tokens M"}


def along_of(findings: Findings) -> list[str]:
    """The sizes that some row has fits along."""
    return list(dict.fromkeys(line.along for line in growth_lines(findings)))


def draw(findings: Findings, along: str) -> Drawing:
    """One panel for time and one for memory, at the largest of the other sizes."""
    from matplotlib.lines import Line2D

    spec = findings.spec
    lines = [line for line in largest(growth_lines(findings)) if line.along == along]
    panels = [metric for metric in ("encoder_ms", "model_fps", "model_memory_gb") if _of(lines, metric)]
    rows = list(dict.fromkeys(line.row for line in lines))
    labels = [*rows, "paper's complexity"]
    at = lines[0].at
    head = f"Untrained, scale {spec.scale}; at {at}" if at else f"Untrained, scale {spec.scale}"
    canvas = new_canvas(PAGE, HEIGHT + legend_height(PAGE, labels), head)
    handles = [
        Line2D([], [], color=look(i).colour, marker=look(i).marker, linestyle=look(i).dashes)
        for i, _ in enumerate(rows)
    ]
    for axes, metric in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        for line in _of(lines, metric):
            own = look(rows.index(line.row))
            axes.plot(line.x, line.y, color=own.colour, marker=own.marker, linestyle=own.dashes)
            if line.formula and metric == "encoder_ms":
                scaled = [value * line.y[-1] / line.formula[-1] for value in line.formula]
                axes.plot(line.x, scaled, color=own.colour, linestyle=":", linewidth=0.8)
        sizes = sorted({x for line in lines for x in line.x})
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.minorticks_off()
        plain_numbers(axes.yaxis)
        axes.set_xlabel(NAMES[along])
        axes.set_ylabel(QUANTITIES[metric][0])
        axes.grid(axis="y")
    legend(canvas, [*handles, Line2D([], [], color="0.3", linestyle=":", linewidth=0.8)], labels)
    caption = (
        f"Both axes are logarithmic; at {at or 'one size'}; weights are untrained. Dotted: the paper's"
        " complexity of the encoder, every term with the constant 1, scaled to the last point."
    )
    return Drawing(f"{spec.name}_growth_{along}", f"Growth along {along}", caption, canvas)


def _of(lines: list[GrowthLine], metric: str) -> list[GrowthLine]:
    return [line for line in lines if line.metric == metric]
