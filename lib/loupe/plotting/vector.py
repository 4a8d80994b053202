"""Figures as small SVG files that follow the theme of the page on which they are shown.

A picture in an ``<img>`` cannot read the variables of its page, but it can ask which color scheme the page has. So
every color of the house that a figure uses becomes a variable with a light and a dark value
(:data:`loupe.plotting.style.DARK`); all other colors stay as they are.
"""

import base64
import io
import re
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from loupe.plotting.style import BLACK, DARK, RASTER_DPI, screen_width

MANY = 2000
"""Points that a figure may hold as shapes; with more, artists of more than :data:`DENSE` points become images."""

DENSE = 200

GLYPH = 0.015625
"""What matplotlib scales a glyph by; the size of its text over a hundred is another factor."""

NAMES = {color: f"--{chr(97 + k)}" for k, color in enumerate(DARK)}
SVG, HREF = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
PNG = "data:image/png;base64,"


def svg(sheet: Figure) -> str:
    """Draw a figure into SVG that follows the theme: transparent, text as paths, the same for the same figure.

    Parameters
    ----------
    sheet : matplotlib.figure.Figure
        The figure. Artists of many points are drawn as images inside the SVG.

    Returns
    -------
    str
        The file's content, without a date or the name of the software.
    """
    _rasterize_dense(sheet)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "loupe", "path.simplify_threshold": 0.2}):
        sheet.savefig(buffer, format="svg", dpi=RASTER_DPI, transparent=True, metadata=nothing)
    root = ET.fromstring(re.sub(f' xmlns="{SVG}"', "", buffer.getvalue()))
    _strip(root)
    _shorten(root)
    for parent in list(root.iter()):
        for place, child in enumerate(list(parent)):
            if child.tag == "image":
                parent[place] = _smaller_image(child)
    _strip(root)
    _rename(root)
    rules = _classes(root)
    width, height = (round(float(side), 1) for side in root.get("viewBox").split()[2:])
    shown = screen_width(sheet)
    root.attrib = {"xmlns": SVG, "viewBox": f"0 0 {width:g} {height:g}", "width": str(shown),
                   "height": str(round(shown * height / width))}  # fmt: skip
    return _themed(ET.tostring(root, encoding="unicode").replace(" />", "/>"), rules)


def data_address(content: str) -> str:
    """The address of an SVG for the ``src`` of an image; a quarter shorter than in base64, and git packs it better."""
    return "data:image/svg+xml," + quote(content.replace('"', "'"), safe=" !'()*+,/:;=@{}.-_$")


# --- artists of many points ---------------------------------------------------------------------------------


def _rasterize_dense(sheet: Figure) -> None:
    counts = [(artist, _points(artist)) for axes in sheet.axes for artist in axes.get_children()]
    if sum(count for _, count in counts) > MANY:
        for artist, count in counts:
            if count > DENSE:
                artist.set_rasterized(True)


def _points(artist: Artist) -> int:
    """How many shapes, or corners of shapes, an artist takes in an SVG."""
    if isinstance(artist, Line2D):
        if artist.get_marker() not in (None, "None", "none", "", " "):
            return len(artist.get_xdata())
        path = artist.get_transform().transform_path(artist.get_path())
        return len(path.cleaned(simplify=True).vertices)
    if isinstance(artist, Collection):
        return max(len(artist.get_offsets()), sum(len(path.vertices) for path in artist.get_paths()))
    return 0


# --- fewer bytes --------------------------------------------------------------------------------------------


def _strip(element: ET.Element) -> None:
    """Take out what is not seen: white space, descriptions, empty shapes and groups that say nothing."""
    element.text = element.tail = None
    kept = []
    for child in element:
        _strip(child)
        name = child.get("id", "")
        if child.tag in ("metadata", "style") or _unseen(child):
            continue
        if child.tag == "g" and re.match(r"[a-z0-9]+(_\d+|\.)|patch|axes|figure|text|legend", name):
            child.attrib.pop("id")
        same = kept and child.tag == kept[-1].tag == "g" and child.attrib == kept[-1].attrib
        if child.tag == "g" and (same or not child.attrib):
            (kept[-1] if same else kept).extend(child)
        else:
            kept.append(child)
    element[:] = kept


def _unseen(child: ET.Element) -> bool:
    if child.tag in ("g", "defs"):
        return len(child) == 0
    style = child.get("style", "")
    return (
        child.tag == "path"
        and "id" not in child.attrib
        and style.startswith("fill: none")
        and "stroke:" not in style
    )


def _shorten(root: ET.Element) -> None:
    """Shorter numbers, styles and paths."""
    circles = {path.get("id"): path for path in root.iter("path") if path.get("d", "").count("C") == 8}
    for element in root.iter():
        look = element.attrib
        if "style" in look:
            look["style"] = re.sub(r"\d+\.\d+", lambda one: _number(float(one[0]), 100), look["style"])
            look["style"] = look["style"].replace(": ", ":").replace("; ", ";")
        for name in ("x", "y", "width", "height"):
            if name in look and element is not root:
                look[name] = _number(float(look[name]), 10)
        if look.get("transform") == f"scale({GLYPH})":
            del look["transform"]
            look["d"] = _shorter_path(look.get("d", ""), 100, GLYPH / 10, -1)
        elif "d" in look:
            look["d"] = _shorter_path(look["d"], 100 if "id" in look else 10)
            if "id" in look:
                look.pop("style", None)  # a marker, whose style is said where it is used
    for group in list(root.iter("g")):
        _gather_markers(group, circles)
        _place_glyphs(group)


def _gather_markers(group: ET.Element, circles: dict[str, ET.Element]) -> None:
    """Of many equal markers the style is said once; filled circles become the dots of one line."""
    uses = [child for child in group if child.tag == "use"]
    looks = {(use.get(HREF), use.get("style")) for use in uses}
    if len(uses) < 3 or len(looks) > 1 or any("transform" in use.attrib for use in uses):
        return
    ((name, style),) = looks
    if style is None:  # glyphs
        return
    parts = dict(part.split(":") for part in style.split(";"))
    circle = circles.get(name[1:])
    plain = parts.keys() <= {"fill", "stroke", "stroke-width", "opacity"}
    if plain and circle is not None and parts.get("fill") == parts.get("stroke", parts.get("fill")):
        radius = abs(float(re.match(r"m[^c]*?(-?[\d.]+)c", circle.get("d"))[1]))
        width = 2 * radius + (float(parts.get("stroke-width", 1)) if "stroke" in parts else 0)
        look = f"fill:none;stroke:{parts.get('fill', BLACK)};stroke-width:{_number(width, 100)};stroke-linecap:round"
        if "opacity" in parts:
            look += f";opacity:{parts['opacity']}"
        dots = ET.Element("path", d=_dots(uses), style=look)
        place = list(group).index(uses[0])
        for use in uses:
            group.remove(use)
        group.insert(place, dots)
    else:
        group.set("style", style)
        for use in uses:
            use.attrib.pop("style")


def _dots(uses: list[ET.Element]) -> str:
    """A path of lines without length at the places of markers; round ends make them dots."""
    places = [(0, 0)] + [tuple(round(10 * float(use.get(name))) for name in "xy") for use in uses]
    steps = (
        f"{_number((x - u) / 10, 10)} {_number((y - v) / 10, 10)}" for (u, v), (x, y) in pairwise(places)
    )
    return "".join(f"m{step}h0".replace(" -", "-") for step in steps)


def _place_glyphs(group: ET.Element) -> None:
    """Glyphs of ten points are put where they stand; others keep the group that scales and turns them."""
    found = re.fullmatch(
        r"translate\((\S+) (\S+)\)( rotate\(\S+\))? scale\((\S+) -\4\)", group.get("transform", "")
    )
    if not found:
        return
    x, y, size, uses = float(found[1]), float(found[2]), 10 * float(found[4]), group.findall("use")
    turned = found[3] or "" if size == 1 else f"{found[3] or ''} scale({size:g})"
    moved = turned or any("scale" in use.get("transform", "") for use in uses)
    for use in uses:
        across, up, rest = re.fullmatch(
            r"(?:translate\((\S+?)(?: (\S+))?\))?(.*)", use.attrib.pop("transform", "")
        ).groups()
        place = [float(across or 0) / 10 + x * (not moved), -float(up or 0) / 10 + y * (not moved)]
        if rest:
            use.set("transform", f"translate({' '.join(_number(one, 10) for one in place)}){rest}")
        else:
            use.attrib |= {
                name: _number(one, 10) for name, one in zip("xy", place, strict=True) if round(one, 1)
            }
    group.attrib.pop("transform")
    if moved:
        group.set("transform", f"translate({_number(x, 10)} {_number(y, 10)}){turned}")


def _shorter_path(path: str, parts: int, scale: float = 1, upward: int = 1) -> str:
    """The same path, scaled, in relative steps, each in so many parts of a unit."""
    pieces, here, begin, last = [], (0, 0), (0, 0), ""
    for command, numbers in re.findall(r"([MLQCz])([^MLQCz]*)", path):
        values = [
            round(parts * scale * float(number) * (upward if k % 2 else 1))
            for k, number in enumerate(numbers.split())
        ]
        steps = [value - here[k % 2] for k, value in enumerate(values)]
        word = command.lower()
        if command == "z":
            here = begin
        else:
            here = tuple(values[-2:])
            begin = here if command == "M" else begin
            if command == "L" and 0 in steps:
                if steps == [0, 0]:
                    continue
                word, steps = ("h", steps[:1]) if steps[1] == 0 else ("v", steps[1:])
        text = " ".join(_number(step / parts, parts) for step in steps).replace(" -", "-")
        follows = word == last and word not in "mz"
        pieces.append((" " if follows and text[0] != "-" else "" if follows else word) + text)
        last = word
    return "".join(pieces)


def _number(value: float, parts: int) -> str:
    """A number in tenths or hundredths, as short as can be."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{round(parts * value) / parts:g}")


def _rename(root: ET.Element) -> None:
    """One or two letters for what is referred to, and no other names."""
    text = ET.tostring(root, encoding="unicode")
    used = dict.fromkeys(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    names = {old: f"{chr(97 + k % 26)}{k // 26 or ''}" for k, old in enumerate(used)}
    for element in root.iter():
        look = element.attrib
        if HREF in look:
            look["href"] = look.pop(HREF)
        if look.get("href", "").startswith("#"):
            look["href"] = "#" + names[look["href"][1:]]
        if "id" in look:
            name = names.get(look.pop("id"))
            if name:
                look["id"] = name
        for name in ("clip-path", "mask", "style"):
            if "url(#" in look.get(name, ""):
                look[name] = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{names[found[1]]})", look[name])


def _classes(root: ET.Element) -> str:
    """Rules of a style sheet in place of styles that are said three times or more."""
    counts = Counter(element.get("style") for element in root.iter() if "style" in element.attrib)
    names = {style: f"s{k}" for k, style in enumerate(style for style, count in counts.items() if count > 2)}
    for element in root.iter():
        if element.get("style") in names:
            element.set("class", names[element.attrib.pop("style")])
    return "".join(f".{name}{{{style}}}" for style, name in names.items())


# --- images -------------------------------------------------------------------------------------------------


def _smaller_image(element: ET.Element) -> ET.Element:
    """An image in few bytes; one of a single house color becomes a mask before that color, which follows the theme."""
    picture = Image.open(io.BytesIO(base64.b64decode(element.get(HREF).partition(",")[2])))
    pixels = np.asarray(picture.convert("RGBA"))
    color = _single_color(pixels)
    if color:
        mask = Image.fromarray(pixels[..., 3]).quantize(4)
        return _behind_mask(element, _png(mask), color)
    if (pixels[..., 3] == 255).all():
        few = picture.convert("RGB")
        picture = few.quantize(256) if few.getcolors(256) else few
    elif (pixels[..., :1] == pixels[..., 1:3]).all():
        picture = picture.convert("LA")
    else:
        picture = Image.fromarray(pixels).quantize(128, Image.Quantize.FASTOCTREE)
    element.set(HREF, _png(picture))
    return element


def _single_color(pixels: np.ndarray) -> str | None:
    """The house color that all of a transparent image has."""
    strong = pixels[pixels[..., 3] > 200][:, :3].astype(int)
    if not len(strong) or (pixels[..., 3] > 200).all():
        return None
    for color in DARK:
        if np.abs(strong - [int(color[k : k + 2], 16) for k in (1, 3, 5)]).max() <= 3:
            return color
    return None


def _behind_mask(element: ET.Element, source: str, color: str) -> ET.Element:
    name, group = f"mask-{element.get('id')}", ET.Element("g")
    place = {key: value for key, value in element.items() if key in ("x", "y", "width", "height")}
    moved = {key: value for key, value in element.items() if key == "transform"}
    ET.SubElement(ET.SubElement(group, "mask", id=name), "image", {HREF: source} | place)
    ET.SubElement(group, "rect", place | moved | {"mask": f"url(#{name})", "style": f"fill:{color}"})
    return group


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return PNG + base64.b64encode(buffer.getvalue()).decode()


# --- colors ------------------------------------------------------------------------------------------------


def _themed(text: str, rules: str) -> str:
    """Variables in place of the house's colors, with a value for each scheme."""
    used = {BLACK: NAMES[BLACK]}  # what names no color is black

    def variable(found) -> str:
        color = found[0]
        if color not in NAMES:
            return color
        used[color] = NAMES[color]
        return f"var({NAMES[color]})"

    text, rules = (re.sub(r"(?<=:)#[0-9a-f]{6}", variable, each) for each in (text, rules))
    light, dark = (
        "".join(f"{name}:{of[color]};" for color, name in sorted(used.items()))
        for of in ({color: color for color in DARK}, DARK)
    )
    sheet = (
        f":root{{{light}fill:var({NAMES[BLACK]});stroke-linejoin:round}}"
        f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{rules}"
    )
    return text.replace(">", f"><style>{sheet}</style>", 1)
