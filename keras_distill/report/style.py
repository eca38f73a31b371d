"""The page's style sheet: system fonts, two colour schemes, print."""

# Colours after Okabe and Ito (2008), safe for the usual kinds of colour
# blindness; darker on white, lighter on black, so that lines keep 3 : 1 and
# text 4.5 : 1 against the ground.
CSS = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f6f6f4; --ink: #1c1c1a; --quiet: #5c5c57;
  --rule: #dcdcd6; --link: #00558f;
  --teacher: #4d4d4d; --alone: #b34700; --student: #0067a8;
  --other-1: #00775a; --other-2: #a04a7d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #161616; --raised: #202020; --ink: #ececea; --quiet: #a9a9a3;
    --rule: #3a3a37; --link: #7cc4f2;
    --teacher: #b9b9b4; --alone: #f0974a; --student: #5cb8f0;
    --other-1: #3fc79d; --other-2: #dd94bd;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
    "Liberation Sans", sans-serif;
}
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .35rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 2rem 0 .5rem; }
h1, h2, h3 { font-weight: 600; text-wrap: balance; }
section { padding-top: 3.25rem; }
p, .summary li { max-width: 44rem; }
p { margin: 0 0 1rem; }
a { color: var(--link); }
.quiet, figcaption, footer { color: var(--quiet); }
.quiet, footer { font-size: .875rem; }
code { font: .875em ui-monospace, "SF Mono", Menlo, Consolas,
  "Liberation Mono", monospace; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0;
  margin: 1.5rem 0 0; list-style: none; font-size: .9375rem; }
.summary { margin: 0; padding-left: 1.1rem; }
.summary li { margin-bottom: .5rem; }
.summary li::marker { color: var(--quiet); }
.key { display: grid; gap: 1.25rem 2rem; margin: 0 0 2rem; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.key div { border-top: 2px solid var(--ink); padding-top: .5rem; }
.key dt { font-size: .875rem; color: var(--quiet); }
.key dd { margin: 0; font-size: 1.6rem; line-height: 1.3; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.key dd + dd { font-size: .875rem; font-weight: 400; color: var(--quiet); }
.scroll { overflow-x: auto; margin: 0 0 1.5rem;
  background:
    linear-gradient(to left, var(--ground) 40%, transparent) right / 2.5rem
      100% no-repeat local,
    linear-gradient(to left, var(--rule), transparent) right / 1rem 100%
      no-repeat scroll; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; font-size: .9375rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: baseline; white-space: nowrap;
  padding: .4rem 1.2rem .4rem 0; box-shadow: inset 0 -1px var(--rule); }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 400; font-size: .875rem; color: var(--quiet);
  vertical-align: bottom; white-space: normal; min-width: 3.75rem;
  box-shadow: inset 0 -1px var(--quiet); }
tbody th { font-weight: 500; }
th:first-child { position: sticky; left: 0; background: var(--ground); }
th.number, td.number { text-align: right; }
td:has(svg) { vertical-align: middle; } td svg { display: block; }
.facts td { white-space: normal; overflow-wrap: anywhere; }
.facts td:last-child { min-width: 11rem; }
.facts th { vertical-align: top; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .875rem; margin-bottom: .4rem; }
figcaption b { color: var(--ink); font-weight: 600; }
.charts { display: grid; gap: 2rem; margin: 0 0 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.charts figure { display: grid; grid-row: span 2;
  grid-template-rows: subgrid; align-content: start; gap: .4rem; }
.charts figcaption { margin: 0; }
.chart { display: block; width: 100%; max-width: 25rem; height: auto; }
.chart text { font-size: 11px; fill: var(--quiet);
  font-variant-numeric: tabular-nums; }
.chart text.name { font-size: 12px; fill: var(--ink); }
.teacher { --c: var(--teacher); } .alone { --c: var(--alone); }
.student { --c: var(--student); } .other-1 { --c: var(--other-1); }
.other-2 { --c: var(--other-2); } .plain { --c: var(--quiet); }
.grid { stroke: var(--rule); } .axis { stroke: var(--quiet); }
.between { stroke: var(--quiet); stroke-width: 1.5; }
.line { fill: none; stroke: var(--c); stroke-width: 1.75;
  stroke-linejoin: round; }
.line.dashed { stroke-dasharray: 5 3.5; }
.line.thick { stroke-width: 3; }
.band { fill: var(--c); opacity: .16; }
.mark { fill: var(--c); stroke: var(--ground); stroke-width: 1; }
.run { fill: none; stroke: var(--c); stroke-width: 1.25; }
.bar { fill: var(--c); opacity: .75; } .bar.few { opacity: .3; }
.bar.count { opacity: .45; }
.gap { fill: none; stroke: var(--ink); stroke-width: 1;
  stroke-dasharray: 2.5 2; }
.diagonal { stroke: var(--quiet); stroke-dasharray: 5 3.5; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; padding: 0;
  margin: 0 0 1rem; list-style: none; font-size: .875rem; }
.legend li { display: flex; align-items: center; gap: .5rem; }
.samples { display: grid; gap: 1.5rem 1.25rem; padding: 0; margin: 0 0 1.5rem;
  list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.samples img, .strip img { display: block; background: var(--raised);
  border: 1px solid var(--rule); }
.samples img { width: 7rem; height: auto; margin-bottom: .5rem; }
.samples dl { margin: 0; font-size: .875rem; line-height: 1.4; display: grid;
  grid-template-columns: auto 1fr; column-gap: .6rem; }
.samples dt { color: var(--quiet); }
.samples dd { margin: 0; overflow-wrap: anywhere; }
.verdict { color: var(--quiet); white-space: nowrap; }
.strip { display: flex; flex-wrap: wrap; gap: .6rem; margin: 0 0 1.25rem; }
.strip img { width: 5.5rem; height: auto; }
.pixels { image-rendering: pixelated; }
footer { padding-top: 3rem; padding-bottom: 3rem; }
@media (max-width: 40rem) {
  header { padding-top: 1.75rem; }
  section { padding-top: 2.5rem; }
  h1 { font-size: 1.55rem; }
  .key dd { font-size: 1.35rem; }
  .key { grid-template-columns: 1fr 1fr; }
  th, td { padding-right: 1rem; }
  .facts th { white-space: normal; }
  .samples { grid-template-columns: 1fr 1fr; }
  .strip img { width: 4.4rem; }
}
@media print {
  :root { color-scheme: light; }
  html { font-size: 13px; }
  body { font-size: 1rem; }
  main, header, footer { padding-left: 0; padding-right: 0; }
  nav { display: none; }
  section { padding-top: 1.5rem; }
  figure, tr, .samples li, .key div { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
  .scroll { overflow: visible; background: none; }
  th, td { padding-right: .5rem; box-shadow: none;
    border-bottom: 1px solid var(--rule); }
  table { font-size: .8rem; }
  thead th { font-size: .7rem; min-width: 0; }
}
"""
