"""Drawings: shapes on a plane, written as SVG or painted as PNG."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import InputError
from sentikit.extension import atomic_writer

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

Palette = Mapping[str, str]
# Okabe and Ito's colours, which colour-blind readers distinguish: https://jfly.uni-koeln.de/color/
LIGHT: Palette = {
    "page": "#fbfbf9",
    "card": "#ffffff",
    "ink": "#1c2127",
    "muted": "#5b6570",
    "line": "#e1e4e6",
    "accent": "#0072b2",
    "plain": "#8a949e",
    "second": "#c04f00",
    "third": "#00745a",
    "on-shade": "#ffffff",
    "badge": "#e2eff7",
    "right-ink": "#00674b",
}
DARK: Palette = {
    "page": "#14171a",
    "card": "#1b1f23",
    "ink": "#e8eaec",
    "muted": "#9ba5ae",
    "line": "#30363c",
    "accent": "#56b4e9",
    "plain": "#7d8892",
    "second": "#e69f00",
    "third": "#4fd0a5",
    "on-shade": "#10151a",
    "badge": "#1d3a4d",
    "right-ink": "#4fd0a5",
}


@dataclass(frozen=True)
class Style:
    """The look of a shape; None leaves a value to another word of the shape's kind.

    Attributes:
        color: of a line or text, or inside a closed shape; a name in the palette.
        edge: around a closed shape; a name in the palette.
        width: of a line or an edge.
        opacity: from 0 to 1.
        dashed: whether a line is dashed.
        size: of text.
        bold: whether text is bold.
        anchor: the part of a text that is at its x.
        halo: whether text hides what is under it.
    """

    color: str | None = None
    edge: str | None = None
    width: float | None = None
    opacity: float | None = None
    dashed: bool | None = None
    size: float | None = None
    bold: bool | None = None
    anchor: str | None = None
    halo: bool | None = None

    def over(self, below: Style) -> Style:
        """Return this style, with missing values taken from another."""
        return replace(below, **{k: v for k, v in vars(self).items() if v is not None})


#: Styles by the words of a shape's kind; later entries take precedence.
STYLES: Mapping[str, Style] = {
    "grid": Style("line"),
    "axis": Style("muted"),
    "interval": Style(width=2.5),
    "cap": Style(width=1.5),
    "dot": Style(edge="card", width=1.5),
    "bubble": Style("accent", "card", opacity=0.65),
    "bar": Style(opacity=0.8),
    "whisker": Style("ink", width=1.4),
    "cell": Style("second"),
    "band": Style("accent", opacity=0.16),
    "curve": Style("accent", width=2.2),
    "thin": Style(width=0.8, opacity=0.35),
    "front": Style("accent", width=1.5, opacity=0.6),
    "ground": Style("card"),
    "heading": Style("ink", size=14.0, bold=True),
    "name": Style("ink", size=11.5, halo=True),
    "figure": Style("ink", size=11.5, halo=True),
    "on-shade": Style("on-shade", size=11.5),
    "tick": Style("muted", size=10.5),
    "small": Style(size=10.0),
    "tiny": Style(size=7.5),
    "start": Style(anchor="start"),
    "end": Style(anchor="end"),
    "middle": Style(anchor="middle"),
    "strong": Style(bold=True),
    "dashed": Style("muted", dashed=True),
    "accent": Style("accent"),
    "plain": Style("plain"),
    "second": Style("second"),
    "third": Style("third"),
}


def style_of(kind: str) -> Style:
    """Return the style of a kind, which is one or more words of `STYLES`."""
    style, words = Style("ink", width=1.0, size=11.5, anchor="start"), kind.split()
    for word, own in STYLES.items():
        style = own.over(style) if word in words else style
    return style


@dataclass(frozen=True)
class Text:
    """A line of text on its baseline; `turn` is in degrees, clockwise."""

    x: float
    y: float
    text: str
    kind: str
    turn: float = 0.0


@dataclass(frozen=True)
class Circle:
    """A filled circle; `hint` is its tooltip."""

    x: float
    y: float
    r: float
    kind: str
    hint: str = ""


@dataclass(frozen=True)
class Rect:
    """A filled rectangle with round corners."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    radius: float = 0.0
    opacity: float | None = None
    hint: str = ""


@dataclass(frozen=True)
class Polyline:
    """Points joined by lines; a closed one is filled."""

    points: tuple[tuple[float, float], ...]
    kind: str
    closed: bool = False


Shape = Text | Circle | Rect | Polyline


def moved(shape: Shape, x: float, y: float) -> Shape:
    """Return a moved shape."""
    if isinstance(shape, Polyline):
        return replace(shape, points=tuple((a + x, b + y) for a, b in shape.points))
    return replace(shape, x=shape.x + x, y=shape.y + y)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Polyline:
    """Return a straight line."""
    return Polyline(((x1, y1), (x2, y2)), kind)


@dataclass(frozen=True)
class Drawing:
    """Shapes on a rectangle; y grows downwards.

    Attributes:
        width: in units; text is about 11 units high.
        height: in units.
        title: for screen readers.
        shapes: later ones lie above earlier ones.
    """

    width: float
    height: float
    title: str
    shapes: tuple[Shape, ...]

    def texts(self) -> list[str]:
        """Return the texts of the drawing."""
        return [shape.text for shape in self.shapes if isinstance(shape, Text)]


@dataclass(frozen=True)
class Figure:
    """A drawing with a caption and, for a separate figure, a second line."""

    caption: str
    drawing: Drawing
    note: str = ""


def sheet(figures: Sequence[Figure], columns: int = 3) -> Drawing:
    """Return one drawing with figures side by side, each under its caption."""
    gap, head = 14.0, 40.0
    columns = min(columns, len(figures))
    written = max(max(8.5 * len(f.caption), 6.0 * len(f.note)) for f in figures)
    width = max(min(360.0, written), *(figure.drawing.width for figure in figures)) + gap
    shapes: list[Shape] = []
    y = 0.0
    for start in range(0, len(figures), columns):
        row = figures[start : start + columns]
        for column, figure in enumerate(row):
            x = gap / 2 + column * width
            shapes.append(Text(x, y + 18, short_name(figure.caption, int(width / 8.5)), "heading"))
            shapes.append(Text(x, y + 33, short_name(figure.note, int(width / 6)), "tick"))
            shapes += [moved(shape, x, y + head) for shape in figure.drawing.shapes]
        y += head + max(figure.drawing.height for figure in row) + gap
    title = "; ".join(figure.drawing.title for figure in figures)
    return Drawing(width * columns, y, title, tuple(shapes))


def short_name(name: str, most: int) -> str:
    """Shorten a name in the middle, since names of runs differ at both ends."""
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def element(tag: str, *content: object, **attributes: Any) -> Markup:
    """Return an HTML or SVG element; content is escaped unless it is markup.

    Args:
        tag: its name.
        *content: text or markup.
        **attributes: None omits one; ``class_`` becomes class, inner underscores hyphens.
    """
    from markupsafe import Markup, escape

    written = Markup().join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _short(value))
        for name, value in attributes.items()
        if value is not None
    )
    name = Markup(tag)  # noqa: S704 - names of tags are constants
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup().join(map(escape, content)))


def to_svg(drawing: Drawing, *before: Markup) -> Markup:
    """Return a drawing as an SVG element with the page's colours."""
    return element(
        "svg",
        element("title", drawing.title),
        *before,
        *map(_svg_shape, drawing.shapes),
        viewBox=f"0 0 {_short(drawing.width)} {_short(drawing.height)}",
        role="img",
        aria_label=drawing.title,
        xmlns="http://www.w3.org/2000/svg",
    )


def _svg_shape(shape: Shape) -> Markup:
    kind = shape.kind
    match shape:
        case Text(x, y, text):
            turn = f"rotate({shape.turn:g} {_short(x)} {_short(y)})" if shape.turn else None
            return element("text", text, x=x, y=y, class_=kind, transform=turn)
        case Circle(x, y, r):
            return element("circle", *_hint(shape.hint), cx=x, cy=y, r=r, class_=kind)
        case Rect(x, y, width, height):
            opacity = None if shape.opacity is None else f"{shape.opacity:.3f}"
            size = {"x": x, "y": y, "width": width, "height": height, "rx": shape.radius or None}
            return element("rect", *_hint(shape.hint), **size, class_=kind, fill_opacity=opacity)
        case Polyline(points):
            written = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
            tag = "polygon" if shape.closed else "polyline"
            return element(tag, points=written, class_=kind)


def _hint(text: str) -> list[Markup]:
    return [element("title", text)] if text else []


def _short(value: object) -> object:
    """Format a coordinate with one decimal."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def style_sheet(palette: Palette | None = None) -> str:
    """Return CSS for drawings, with a palette's colours or the page's variables."""

    def color(name: str) -> str:
        return f"var(--{name})" if palette is None else palette[name]

    rules = [
        f"svg text {{ font-family: system-ui, sans-serif; fill: {color('ink')}; }}",
        "svg polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; }",
    ]
    for word, style in STYLES.items():
        rules += [f"svg {tags}.{word} {{ {own} }}" for tags, own in _rules(style, color)]
    return "\n".join(rules)


def _rules(style: Style, color: Any) -> Iterable[tuple[str, str]]:
    """Yield element selectors with their CSS declarations."""
    stroke = [f"stroke: {color(style.color)}"] if style.color else []
    fill = [f"fill: {color(style.color)}"] if style.color else []
    width = [f"stroke-width: {style.width:g}"] if style.width else []
    opacity = [f"opacity: {style.opacity:g}"] if style.opacity else []
    edge = [f"stroke: {color(style.edge)}"] if style.edge else []
    dash = ["stroke-dasharray: 4 3"] if style.dashed else []
    if lines := [*stroke, *width, *opacity, *dash]:
        yield "polyline", "; ".join(lines)
    if closed := [*fill, *edge, *(width if edge else []), *opacity]:
        yield ":is(circle, rect, polygon)", "; ".join(closed)
    text = [f"font-size: {style.size:g}px"] if style.size else []
    text += [f"text-anchor: {style.anchor}"] if style.anchor else []
    text += ["font-weight: 650"] if style.bold else []
    if style.halo:
        text.append(f"paint-order: stroke; stroke: {color('card')}; stroke-width: 3px")
    if text or fill:
        yield "text", "; ".join([*fill, *text])


def check_plotting() -> None:
    """Check that PNG files can be painted here.

    Raises:
        InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "--plots needs the package matplotlib. Install it with: pip install 'sentikit[plots]'"
        )


def save_drawing(drawing: Drawing, path: Path, pixels: int) -> Path:
    """Write a drawing as SVG or PNG, by the path's suffix; return the path.

    The same drawing gives the same file. An SVG file follows the reader's light or dark theme.

    Args:
        drawing: what to write.
        path: where to.
        pixels: the width of a PNG.
    """
    content = _svg_file(drawing) if path.suffix == ".svg" else _png_file(drawing, pixels)
    with atomic_writer(path, "wb") as stream:
        stream.write(content)
    return path


def _svg_file(drawing: Drawing) -> bytes:
    from markupsafe import Markup

    dark = f"@media (prefers-color-scheme: dark) {{\n{style_sheet(DARK)}\n}}"
    style = Markup("<style>\n{}\n</style>").format(Markup(f"{style_sheet(LIGHT)}\n{dark}"))  # noqa: S704
    ground = _svg_shape(Rect(0.0, 0.0, drawing.width, drawing.height, "ground"))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{to_svg(drawing, style, ground)}\n'.encode()


def _png_file(drawing: Drawing, pixels: int) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    painted = FigureCanvasAgg(paint(drawing, pixels))
    painted.print_png(stream, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return stream.getvalue()


def paint(drawing: Drawing, pixels: int = 2100) -> MatplotlibFigure:
    """Return a drawing as a matplotlib figure; one unit is one point."""
    from matplotlib.figure import Figure

    size = (drawing.width / 72, drawing.height / 72)
    figure = Figure(size, dpi=pixels / size[0], facecolor=LIGHT["card"])
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.set_axis_off()
    for level, shape in enumerate(drawing.shapes, 1):
        _paint_shape(axes, shape, level)
    return figure


def _paint_shape(axes: Axes, shape: Shape, level: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle as Disc
    from matplotlib.patches import FancyBboxPatch, Polygon

    style = style_of(shape.kind)
    color = LIGHT[style.color or "ink"]
    common: dict[str, Any] = {"alpha": style.opacity, "zorder": level}
    closed: dict[str, Any] = {
        "facecolor": color,
        "edgecolor": LIGHT[style.edge] if style.edge else "none",
        "linewidth": style.width if style.edge else 0,
    }
    match shape:
        case Text():
            _paint_text(axes, shape, style, level)
        case Circle(x, y, r):
            axes.add_patch(Disc((x, y), r, **closed, **common))
        case Rect(x, y, width, height):
            round_ = f"round,pad=0,rounding_size={shape.radius or 0.01}"
            common["alpha"] = style.opacity if shape.opacity is None else shape.opacity
            common |= {"width": max(width, 0.02), "height": max(height, 0.02), "boxstyle": round_}
            axes.add_patch(FancyBboxPatch((x, y), **closed, **common))
        case Polyline(points) if shape.closed:
            axes.add_patch(Polygon(points, **closed, **common))
        case Polyline(points):
            xs, ys = zip(*points, strict=True)
            common["linestyle"] = (0, (4, 3)) if style.dashed else "solid"
            axes.add_line(Line2D(xs, ys, linewidth=style.width, color=color, **common))


def _paint_text(axes: Axes, shape: Text, style: Style, level: int) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground=LIGHT["card"])] if style.halo else []
    axes.text(
        shape.x,
        shape.y,
        shape.text,
        ha={"middle": "center", "end": "right"}.get(style.anchor or "", "left"),
        va="baseline",
        rotation=-shape.turn,
        rotation_mode="anchor",
        fontsize=0.93 * (style.size or 11.5),  # DejaVu Sans is wider than browsers' fonts.
        fontweight="bold" if style.bold else "normal",
        color=LIGHT[style.color or "ink"],
        path_effects=halo,
        # A "$" in a name would begin a formula.
        parse_math=False,
        zorder=level,
    )
