"use strict";

// Draws the page's figures when they come into view, the others when there is nothing else to do, and all of them again in
// the other colours when the theme changes.
const hpsearchPage = (() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const darkTheme = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();
  const NARROW = 480; // pixels
  let printing = false;

  function recoloured(value) {
    if (typeof value === "string") return Object.hasOwn(page.dark, value) ? page.dark[value] : value;
    if (Array.isArray(value)) return value.map(recoloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, recoloured(item)]));
    }
    return value;
  }

  // Fewer labels along the bottom, smaller margins: labels that would overlap are tilted by plotly.js.
  function fitNarrow(layout) {
    layout.margin = { ...layout.margin, l: Math.min(44, layout.margin.l), r: 8 };
    for (const [name, axis] of Object.entries(layout)) {
      if (!/^xaxis/.test(name) || axis.type !== "log" || !axis.tickvals) continue;
      const every = Math.ceil(axis.tickvals.length / 5);
      axis.tickvals = axis.tickvals.filter((_, i) => i % every === 0);
      axis.ticktext = axis.ticktext.filter((_, i) => i % every === 0);
    }
  }

  function draw(element) {
    const source = page.figures[element.dataset.figure];
    // plotly.js writes into what it is given
    const figure = darkTheme.matches && !printing ? recoloured(source) : structuredClone(source);
    if (element.clientWidth < NARROW) fitNarrow(figure.layout);
    if (printing) {
      figure.layout.width = element.clientWidth; // what was drawn on the screen would keep its width
      figure.layout.height = Math.max(Math.min(figure.layout.height, 170), Math.round(0.65 * figure.layout.height));
    }
    element.style.minHeight = `${figure.layout.height}px`;
    drawn.add(element);
    return Plotly.react(element, figure.data, figure.layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: false,
      doubleClick: "reset",
    });
  }

  const nearby = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        nearby.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "600px 0px" },
  );
  const plots = [];
  for (const element of document.querySelectorAll("[data-figure]")) {
    const figure = page.figures[element.dataset.figure];
    const picture = figure.data.find((trace) => trace.type === "image");
    if (picture) {
      // Shown as it is: a sheet of paper does not wait for plotly.js to load it, and a narrow page makes it lower.
      element.replaceChildren(Object.assign(new Image(), { src: picture.source, alt: "" }));
      continue;
    }
    plots.push(element);
    reserve(element);
  }

  // Room for a figure until it comes into view.
  function reserve(element) {
    element.style.minHeight = `${page.figures[element.dataset.figure].layout.height}px`;
    nearby.observe(element);
  }

  // Whoever takes a picture of the whole page scrolls to none of them: after the first screen they are drawn one by one,
  // between whatever else the page does. Those of panels that are not shown wait.
  const whenIdle = window.requestIdleCallback ?? ((then) => setTimeout(then, 50));
  function drawRest() {
    const element = plots.find((each) => !drawn.has(each) && each.clientWidth);
    if (!element || printing) return;
    nearby.unobserve(element);
    draw(element);
    whenIdle(drawRest, { timeout: 1000 });
  }
  addEventListener("load", () => whenIdle(drawRest, { timeout: 1000 }));

  darkTheme.addEventListener("change", () => drawn.forEach(draw));

  // On paper, all stages are shown, each figure as wide as the sheet (.printing in page.css) and in light colours.
  addEventListener("beforeprint", () => {
    printing = true;
    document.documentElement.classList.add("printing");
    plots.filter((element) => element.clientWidth).forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    document.documentElement.classList.remove("printing");
    for (const element of [...drawn]) {
      Plotly.purge(element); // it would keep its width; it is drawn again when it comes into view
      drawn.delete(element);
      reserve(element);
    }
  });

  // Of panels that share a switch, one is shown: <button data-shows="ID" aria-pressed>.
  for (const button of document.querySelectorAll("[data-shows]")) {
    button.addEventListener("click", () => {
      for (const other of button.parentElement.querySelectorAll("[data-shows]")) {
        other.setAttribute("aria-pressed", String(other === button));
        document.getElementById(other.dataset.shows).hidden = other !== button;
      }
    });
  }

  return { data: page.data, darkTheme };
})();
