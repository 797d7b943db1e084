"use strict";

// The command center: a small picture per trial. Vector pictures need no redrawing when the theme or the width
// changes, and the browser skips those out of sight (content-visibility in page.css).
(() => {
  const FIRST = 48; // trials shown before "show all"
  const WIDTH = 100, HEIGHT = 50, EDGE = 3; // units of a picture, stretched to its cell
  const tip = document.getElementById("tip");

  for (const element of document.querySelectorAll("[data-center]")) {
    build(element, hpsearchPage.data.centers[element.dataset.center]);
  }

  function build(element, center) {
    const cells = element.querySelector(".cells");
    const more = element.querySelector(".more");
    const made = new Map(); // "kind number" -> cell
    let kind = "acc";
    let all = center.trials.length <= FIRST;

    const lengths = center.trials.flatMap((trial) => Object.values(trial.curves).map((curves) => curves[1].length));
    const numSteps = Math.max(2, ...lengths);
    // Losses are cut at twice that of guessing: the few that run away would flatten all others.
    const guess = 2 * Math.log(center.classes ?? 10);
    const spans = { acc: center.accuracies, loss: [0, guess], score: center.scores, val: center.span };

    const cost = (trial) => (trial.value === null ? Number.MAX_VALUE : center.maximize ? -trial.value : trial.value);
    const orders = {
      value: (a, b) => cost(a) - cost(b),
      lr: (a, b) => (a.lr ?? Infinity) - (b.lr ?? Infinity),
      number: (a, b) => a.n - b.n,
      verdict: (a, b) => a.verdict - b.verdict || cost(a) - cost(b),
    };

    function arrange() {
      const order = orders[element.querySelector("[data-sort]").value];
      const sorted = [...center.trials].sort((a, b) => order(a, b) || a.n - b.n);
      cells.replaceChildren(...sorted.slice(0, all ? undefined : FIRST).map(cellOf));
      more.hidden = all;
    }

    function cellOf(trial) {
      const key = `${kind} ${trial.n}`;
      if (!made.has(key)) made.set(key, newCell(trial));
      return made.get(key);
    }

    function newCell(trial) {
      const verdict = center.verdicts[trial.verdict];
      const cell = make("button", { type: "button", class: trial.n === center.best ? "cell best" : "cell" });
      cell.trial = trial;
      const text = make("span");
      const name = make("b");
      name.textContent = `#${trial.n}`;
      const value = make("span", verdict === "exploded" || verdict === "failed" ? { class: "bad" } : {});
      value.textContent = trial.value === null ? verdict : trial.text;
      text.append(name, value);
      if (center.hasCurves) cell.append(picture(trial, verdict));
      else cell.classList.add("bare");
      cell.append(text);
      return cell;
    }

    function picture(trial, verdict) {
      const svg = vector("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
      svg.append(vector("path", { class: "rule", d: `M0 ${EDGE}H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - EDGE}H${WIDTH}` }));
      const shown = kind in trial.curves ? kind : "val";
      const [training, validation] = trial.curves[shown] ?? [];
      if (training) svg.append(vector("path", { class: "training", d: line(training, spans[shown]) }));
      if (validation) {
        svg.append(vector("path", { class: `curve ${verdict.replaceAll(" ", "-")}`, d: line(validation, spans[shown]) }));
      }
      return svg;
    }

    function line(values, span) {
      const [low, high] = span ?? [0, 1000];
      const points = values.flatMap((value, i) => {
        if (value === null) return [];
        const share = Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
        const x = EDGE + ((WIDTH - 2 * EDGE) * i) / (numSteps - 1);
        return [`${x.toFixed(1)} ${(HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * share).toFixed(1)}`];
      });
      if (points.length === 1) points.push(points[0]); // a round cap: a dot
      return points.length ? `M${points.join("L")}` : "";
    }

    function tell(event) {
      const cell = event.target.closest(".cell");
      tip.hidden = !cell;
      if (!cell) return;
      const trial = cell.trial;
      const head = make("b");
      const value = trial.value === null ? "" : `, ${center.valueName} ${trial.text}`;
      head.textContent = `trial ${trial.n}: ${center.verdicts[trial.verdict]}${value}`;
      const lines = trial.lines.filter(Boolean).map((text) => {
        const paragraph = make("p");
        paragraph.textContent = text;
        return paragraph;
      });
      tip.replaceChildren(head, ...lines);
      const box = cell.getBoundingClientRect();
      const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
      const fits = box.bottom + 6 + tip.offsetHeight < innerHeight;
      tip.style.left = `${Math.max(8, Math.min(box.left, right))}px`;
      tip.style.top = `${fits ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
    }

    element.querySelector("[data-sort]").addEventListener("change", arrange);
    element.querySelector("[data-kind]")?.addEventListener("change", (event) => {
      kind = event.target.value;
      arrange();
    });
    more.addEventListener("click", () => {
      all = true;
      arrange();
    });
    for (const come of ["pointerover", "focusin"]) cells.addEventListener(come, tell);
    for (const leave of ["pointerleave", "focusout"]) cells.addEventListener(leave, () => (tip.hidden = true));
    arrange();
  }

  addEventListener("scroll", () => (tip.hidden = true), { passive: true });

  function make(tag, attributes = {}) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  function vector(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }
})();
