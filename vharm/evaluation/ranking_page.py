# SPDX-License-Identifier: Apache-2.0
"""The page of `ranking_sheet`: its markup, style and script, with $-marks to be filled in."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #808080; --ink: #111; --card: #f4f4f4;
        --accent: #1c5fd0; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui,
       sans-serif; }
header, footer { background: var(--card); padding: 10px 18px; display: flex; flex-wrap: wrap;
                 gap: 8px 18px; align-items: center; color-scheme: light; }
h1 { font-size: 18px; margin: 0; }
p { margin: 0; }
#cells { display: grid; gap: 10px; padding: 14px;
         grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.cell { position: relative; padding: 0; border: 4px solid transparent; background: none;
        cursor: pointer; line-height: 0; font: inherit; }
.cell img, .cell video { width: 100%; height: auto; display: block; }
.cell[data-rank] { border-color: var(--accent); }
.cell:focus-visible { outline: 3px solid #fff; }
.rank { position: absolute; top: 8px; left: 8px; min-width: 34px; padding: 17px 8px;
        border-radius: 17px; background: var(--accent); color: #fff; font-weight: 700;
        text-align: center; }
.rank:empty { display: none; }
button, input { font: inherit; padding: 4px 10px; }
#place { min-width: 8em; text-align: center; }
"""

SCRIPT = """
"use strict";
const sheet = JSON.parse(document.getElementById("data").textContent);
const methods = JSON.parse(atob(sheet.methods));
const element = (id) => document.getElementById(id);
const key = "ranking " + sheet.id;
let chosen = sheet.items.map(() => []), at = 0;
try {
  const kept = JSON.parse(localStorage.getItem(key));
  if (kept && kept.chosen.length === chosen.length) {
    chosen = kept.chosen;
    element("who").value = kept.who;
  }
} catch (error) { /* no storage: choices last as long as the page is open */ }

function keep() {
  try {
    localStorage.setItem(key, JSON.stringify({chosen, who: element("who").value}));
  } catch (error) { /* as above */ }
}

function choose(cell) {
  const ranks = chosen[at], count = sheet.items[at].order.length;
  const found = ranks.indexOf(cell);
  if (found >= 0) ranks.splice(found);
  else ranks.push(cell);
  if (found < 0 && ranks.length === count - 1) {
    ranks.push([...Array(count).keys()].find((other) => !ranks.includes(other)));
  }
  keep();
  mark();
}

function mark() {
  document.querySelectorAll(".cell").forEach((cell, number) => {
    const rank = chosen[at].indexOf(number);
    if (rank < 0) cell.removeAttribute("data-rank");
    else cell.setAttribute("data-rank", rank + 1);
    cell.querySelector(".rank").textContent = rank < 0 ? "" : rank + 1;
  });
  const done = chosen.filter((ranks) => ranks.length > 1).length;
  element("place").textContent = `${at + 1} of ${sheet.items.length}, ${done} ranked`;
}

function show(number) {
  at = (number + sheet.items.length) % sheet.items.length;
  const cells = element("cells");
  cells.replaceChildren();
  sheet.items[at].cells.forEach((source, number) => {
    const cell = document.createElement("button"), rank = document.createElement("span");
    const video = source.startsWith("data:video");
    const picture = document.createElement(video ? "video" : "img");
    picture.src = source;
    if (video) Object.assign(picture, {muted: true, loop: true, autoplay: true});
    else picture.alt = `result ${number + 1}`;
    rank.className = "rank";
    cell.className = "cell";
    cell.type = "button";
    cell.append(picture, rank);
    cell.onclick = () => choose(number);
    cells.append(cell);
  });
  mark();
}

function table() {
  const quoted = (text) => /[",\\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  const count = methods.length, who = element("who").value.trim();
  const head = count === 2 ? ["winner", "loser"] : methods.map((_, i) => `rank${i + 1}`);
  const lines = [["participant", ...head]];
  chosen.forEach((ranks, item) => {
    if (ranks.length < 2) return;
    const names = ranks.map((cell) => methods[sheet.items[item].order[cell]]);
    while (names.length < count) names.push("");
    lines.push([who || "anonymous", ...names]);
  });
  return lines.map((line) => line.map(quoted).join(",")).join("\\n") + "\\n";
}

element("save").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], {type: "text/csv"}));
  const who = element("who").value.trim() || "anonymous";
  link.download = `choices-${who.replace(/\\W+/g, "-")}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
};
element("who").onchange = keep;
element("next").onclick = () => show(at + 1);
element("back").onclick = () => show(at - 1);
document.onkeydown = (event) => {
  if (event.target === element("who")) return;
  const number = Number(event.key);
  if (number >= 1 && number <= sheet.items[at].order.length) choose(number - 1);
  else if (event.key === "ArrowRight") show(at + 1);
  else if (event.key === "ArrowLeft") show(at - 1);
};
show(0);
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$question Click the best result first, then the next best; a click on a chosen one takes it and
all after it back. Keys: 1, 2, ... and the arrows.</p>
</header>
<main id="cells"></main>
<footer>
<button type="button" id="back">Back</button>
<span id="place"></span>
<button type="button" id="next">Next</button>
<label>Your name or number <input id="who" size="12"></label>
<button type="button" id="save">Save choices</button>
</footer>
<script type="application/json" id="data">$data</script>
<script>$script</script>
</body>
</html>
"""
