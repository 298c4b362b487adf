"""How the page of a report looks, beside what all pages of the package share."""

from __future__ import annotations

from collections.abc import Iterable

from uvlm.inference.rendering.colours import Mark, hex_of, ink_on

__all__ = ["style_of"]

STYLE = """
body{max-width:74rem}
.top{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,25rem);gap:1rem 2.2rem}
.report h3{break-after:avoid;font-size:1rem;margin:1rem 0 .2rem;color:var(--soft)}
.s{margin:.15rem 0;padding:.1rem .6rem;border-left:4px solid transparent}
.s.stated{border-left-color:var(--k)}
mark{color:inherit;background:none;border-bottom:3px solid var(--k);padding:0 .1em;
border-radius:2px 2px 0 0}
@supports(background:color-mix(in srgb,red 20%,transparent)){
mark{background:color-mix(in srgb,var(--k) 24%,transparent)}}
mark.unsure{border-bottom-style:dashed}
.b{display:inline-block;min-width:1.45em;padding:0 .25em;margin-left:.25em;border-radius:1em;
background:var(--k);color:var(--on);font-size:.72em;font-weight:700;line-height:1.45;
text-align:center;text-decoration:none;vertical-align:.12em}
.s .warn{display:block;margin:.1rem 0 .3rem;font-size:.9em}
.warn{color:var(--red)}
.warn::before{content:"\\25B2\\00A0"}
.legend>span{white-space:nowrap;margin-right:.9em;display:inline-block}
.disclaimer{font-weight:600}
.views{display:grid;gap:.8rem;align-content:start}
.views img,.card img{display:block;max-width:100%;height:auto;border-radius:3px;background:#000}
.views img{width:100%}
.card{break-inside:avoid;margin:1.2rem 0 1.8rem;padding-left:.8rem;border-left:4px solid var(--k)}
.card h3{margin:0 0 .1rem;font-size:1.05rem}
.card .b{font-size:.8em;margin:0 .35em 0 0}
.card .said{font-style:italic;margin:.1rem 0 .3rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.1rem 1.2rem;
margin:.4rem 0 .8rem;font-size:.93em}
dt{color:var(--soft)}
dd{margin:0}
.row{display:flex;flex-wrap:wrap;gap:.8rem;align-items:flex-start}
.row>figure{flex:0 1 auto;max-width:100%}
.beside{display:flex;flex-direction:column;gap:.8rem}
.good ul{margin:.2rem 0;padding-left:1.2rem}
.row figcaption,.views figcaption{color:var(--soft);font-size:.82em;max-width:24rem}
.swatch{display:inline-block;width:.9em;height:.9em;margin-right:.45em;border-radius:2px;
vertical-align:-.08em;border:1px solid var(--line)}
.columns{display:flex;flex-wrap:wrap;gap:0 3rem}
@media screen and (max-width:52rem){.top{grid-template-columns:minmax(0,1fr)}
body{padding:1rem .8rem 3rem}
.card{padding-left:.6rem}.beside{flex-direction:row;flex-wrap:wrap}
.s .b{min-width:1.6em}dl{grid-template-columns:minmax(0,1fr)}dd{margin-bottom:.3rem}}
@media print{h2+.top{break-inside:auto}.top{grid-template-columns:minmax(0,1fr) 15rem}
.b,mark,.swatch,.s,.card{
print-color-adjust:exact;-webkit-print-color-adjust:exact}.row{flex-wrap:nowrap}.row>figure{max-width:31%}
.beside{max-width:18%}.card{margin:.6rem 0 .9rem}}
"""


def style_of(marks: Iterable[Mark]) -> str:
    """The sheet, with a class `k1`, `k2`, ... for the colour of each mark."""
    own = "".join(
        f".k{mark.number}{{--k:{hex_of(mark.colour)};--on:{hex_of(ink_on(mark.colour))}}}\n"
        for mark in marks
    )
    return STYLE + own
