"use strict";
// The histogram of scores with the threshold as a line, and a slider that moves it.
(() => {
  const figure = document.getElementById("histogram");
  if (!figure) return;
  const slide = document.getElementById("slide");
  const at = document.getElementById("at");
  const { counts, threshold, bins } = JSON.parse(figure.dataset.bins);
  const middle = counts.map((_, i) => (i + 0.5) / bins);
  let chart = null;

  function line(u, value, paint, dash) {
    const x = u.valToPos(value, "x", true);
    u.ctx.save();
    u.ctx.strokeStyle = paint;
    u.ctx.lineWidth = 2 * devicePixelRatio;
    u.ctx.setLineDash(dash);
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    u.ctx.restore();
  }

  function draw() {
    chart?.destroy();
    const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    const most = Math.max(...counts, 1);
    chart = new uPlot({
      width: Math.max(200, figure.clientWidth - 26),
      height: 220,
      // Nothing stands at half a request, so that a bin with none has no height.
      scales: { x: { time: false, range: [0, 1] }, y: { distr: 3, range: [0.5, most * 2] } },
      axes: [axis, { ...axis, size: 60, values: (u, values) => values.map((v) => (v >= 1 && Number.isInteger(Math.log10(v)) ? v.toLocaleString("en") : "")) }],
      legend: { show: false },
      cursor: { show: false },
      series: [{}, { label: "requests", stroke: colour("main"), fill: colour("main"), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.9, 60] }) }],
      hooks: {
        draw: [(u) => {
          line(u, threshold, colour("faint"), [4 * devicePixelRatio, 4 * devicePixelRatio]);
          line(u, Number(at.value), colour("block"), []);
        }],
      },
    }, [middle, counts.map((count) => count || null)], figure);
  }

  slide.addEventListener("input", () => {
    at.value = slide.value;
    chart?.redraw(false);
  });
  at.addEventListener("input", () => {
    slide.value = at.value;
    chart?.redraw(false);
  });
  draw();
  document.addEventListener("theme", draw);
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(draw, 150);
  });
})();
