"use strict";
// Draws every figure[data-chart] with uPlot, in the page's own colours; see the macro `chart`.
(() => {
  const PALETTE = ["main", "answer", "redact", "route", "error", "block", "cache", "forward"];
  const DAY = 86400;
  const DAYS = { incrs: [1, 2, 3, 7, 14, 30, 61, 91, 182, 365].map((count) => count * DAY), values: "{YYYY}-{MM}-{DD}", space: 90 };
  const drawn = new Map();

  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

  function stacked(series) {
    const sums = new Array(series[0]?.values.length ?? 0).fill(0);
    return series.map((one) => one.values.map((value, i) => (sums[i] += value ?? 0)));
  }

  function options(figure, data) {
    const unit = data.unit ?? "";
    const told = (value) => (value == null ? "–" : unit === "$" ? `$${compact.format(value)}` : `${compact.format(value)}${unit}`);
    const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    const bars = data.kind === "line" ? undefined : uPlot.paths.bars({ size: [0.75, 60] });
    // Of stacked bars the tallest is drawn first, so that the lower ones stand before it.
    const order = data.series.map((one, i) => ({ ...one, place: i }));
    if (data.kind === "stack") order.reverse();
    return {
      order,
      settings: {
        width: Math.max(200, figure.clientWidth - 26),
        height: Number(figure.dataset.height) || 220,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        scales: { x: { time: Boolean(data.time), range: () => pad(data) }, y: { range: (u, low, high) => [Math.min(0, low), high > 0 ? high * 1.05 : 1] } },
        axes: [days(data) ? { ...axis, ...DAYS } : axis, { ...axis, size: 72, values: (u, values) => values.map(told) }],
        legend: { live: true },
        hooks: { ready: [newest], setCursor: [newest] },
        cursor: { drag: { x: false, y: false } },
        series: [
          data.time ? { value: "{YYYY}-{MM}-{DD}" } : { label: data.x_label ?? "" },
          ...order.map((one) => {
            const paint = colour(one.colour ?? PALETTE[one.place % PALETTE.length]);
            return {
              label: one.label, stroke: paint, width: bars ? 0 : 2, paths: bars, points: { show: !bars && data.x.length < 40 },
              fill: bars ? paint : undefined, value: (u, v, s, i) => told(i == null ? null : one.values[i]),
            };
          }),
        ],
      },
    };
  }

  // While nothing is pointed at, the legend tells of the newest values.
  function newest(chart) {
    if (!(chart.cursor.left >= 0) && chart.data[0].length) chart.setLegend({ idx: chart.data[0].length - 1 });
  }

  function days(data) {
    return data.time && data.x.every((at) => at % DAY === 0);
  }

  // Bars need half a place at both ends, and a single value some room.
  function pad(data) {
    const low = data.x[0] ?? 0, high = data.x.at(-1) ?? 1;
    const step = data.x.length > 1 ? data.x[1] - data.x[0] : data.time ? 86400 : 1;
    return data.kind === "line" && data.x.length > 1 ? [low, high] : [low - step * 0.6, high + step * 0.6];
  }

  function draw(figure) {
    const data = JSON.parse(figure.dataset.chart);
    drawn.get(figure)?.destroy();
    const { order, settings } = options(figure, data);
    const heights = data.kind === "stack" ? stacked(data.series) : data.series.map((one) => one.values);
    drawn.set(figure, new uPlot(settings, [data.x, ...order.map((one) => heights[one.place])], figure));
  }

  function all(root) {
    for (const figure of root.querySelectorAll("figure[data-chart]")) draw(figure);
  }

  all(document);
  document.addEventListener("theme", () => all(document));
  document.addEventListener("htmx:afterSwap", (event) => all(event.detail.target.parentElement ?? document));
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => all(document), 150);
  });
})();
