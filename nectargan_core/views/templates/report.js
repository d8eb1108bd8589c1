"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = ["#1f77b4", "#d9541e", "#2a9d57", "#9155b8", "#c4961a", "#c0398a", "#3aa6b9", "#7a5c48", "#6b7280", "#8fae1b"];
  const DASHES = ["solid", "dot", "dash", "dashdot", "longdash"];
  const FEW_POINTS = 60;
  const several = data.runs.length > 1;
  const splits = [];
  for (const chart of data.charts)
    for (const curve of chart.curves)
      if (curve.split && !splits.includes(curve.split)) splits.push(curve.split);

  // plotly reads tags, entities and templates in its texts; a name is to be shown as it is.
  function shown(text) {
    return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function dashOf(curve) {
    return DASHES[curve.split ? 1 + (splits.indexOf(curve.split) % (DASHES.length - 1)) : 0];
  }

  // Of one run each loss has a colour, and the same one in each split; of several runs, each run has.
  const colours = new Map();
  function colourOf(curve) {
    if (several) return COLOURS[curve.run % COLOURS.length];
    if (curve.sum) return "#1d2330";
    const name = curve.split ? curve.name.slice(curve.split.length + 1) : curve.name;
    if (!colours.has(name)) colours.set(name, COLOURS[colours.size % COLOURS.length]);
    return colours.get(name);
  }

  function labelOf(curve) {
    if (!several) return curve.name;
    return data.runs[curve.run] + (curve.split ? " (" + curve.split + ")" : "");
  }

  function tracesOf(chart) {
    const traces = [];
    chart.curves.forEach(function (curve, index) {
      const label = shown(labelOf(curve));
      const raw = {
        type: "scatter", x: curve.x, y: curve.y, name: label, legendgroup: String(index), connectgaps: false,
        mode: curve.n <= FEW_POINTS && !chart.steps ? "lines+markers" : "lines",
        line: { color: colourOf(curve), width: curve.smooth_x ? 1 : 1.8, dash: dashOf(curve), shape: chart.steps ? "hv" : "linear" },
        marker: { size: 5, color: colourOf(curve) },
        opacity: curve.smooth_x ? 0.35 : 1,
        showlegend: !curve.smooth_x,
        hovertemplate: "%{y:.5~g}<extra>" + label + "</extra>",
        meta: several ? curve.run : -1,
      };
      traces.push(raw);
      if (curve.smooth_x)
        traces.push({
          type: "scatter", x: curve.smooth_x, y: curve.smooth_y, name: label, legendgroup: String(index),
          connectgaps: false, mode: "lines", line: { color: colourOf(curve), width: 2.2, dash: dashOf(curve) },
          hovertemplate: "%{y:.5~g}<extra>" + label + " (smoothed)</extra>", meta: raw.meta,
        });
    });
    return traces;
  }

  const wide = window.matchMedia("(min-width: 601px)").matches;
  // On a touch screen dragging scrolls the page; the buttons of each chart zoom.
  const touch = window.matchMedia("(pointer: coarse)").matches;

  function layoutOf(chart, width) {
    const letters = chart.curves.map(function (curve) { return labelOf(curve).length; });
    const widest = 45 + 7 * Math.max.apply(null, letters);
    const perRow = Math.max(1, Math.floor((width - 60) / widest));
    const rows = Math.ceil(letters.length / perRow);
    const base = data.charts.length === 1 || (wide && width > 800) ? 380 : 270;
    return {
      height: base + 30 + 20 * rows,
      margin: { l: 58, r: 12, t: 30, b: 56 + 20 * rows },
      xaxis: { title: { text: "step", standoff: 6, font: { size: 12 } }, gridcolor: "#eceff4", zeroline: false, range: data.range.slice() },
      yaxis: { type: chart.log ? "log" : "linear", gridcolor: "#eceff4", zerolinecolor: "#cdd3dd", exponentformat: "power", tickformat: chart.log ? undefined : "~g", automargin: true },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom", font: { size: 12 }, entrywidth: widest - 38, entrywidthmode: "pixels", groupclick: "togglegroup", tracegroupgap: 0 },
      showlegend: true,
      hovermode: "x",
      dragmode: touch ? false : "zoom",
      paper_bgcolor: "#fff", plot_bgcolor: "#fff",
      font: { family: "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif", size: 12, color: "#1d2330" },
    };
  }

  const config = {
    responsive: true, displaylogo: false, displayModeBar: touch ? true : "hover", doubleClickDelay: 400,
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]], scrollZoom: false,
    toImageButtonOptions: { filename: "curves", scale: 2 },
  };

  const drawn = [];
  let following = false;

  // What is zoomed in one chart is zoomed in all others.
  function follow(source, change) {
    if (following) return;
    let update = null;
    if ("xaxis.range[0]" in change) update = { "xaxis.range": [change["xaxis.range[0]"], change["xaxis.range[1]"]] };
    else if ("xaxis.range" in change) update = { "xaxis.range": change["xaxis.range"].slice() };
    else if (change["xaxis.autorange"]) update = { "xaxis.range": data.range.slice() };
    if (update === null) return;
    following = true;
    Promise.all(drawn.filter(function (plot) { return plot !== source || change["xaxis.autorange"]; })
      .map(function (plot) { return Plotly.relayout(plot, update); }))
      .finally(function () { following = false; });
  }

  // Of several runs, a run is hidden in all charts at once.
  let hidden = new Set();
  function showRuns() {
    for (const plot of drawn) {
      const visible = plot.data.map(function (trace) { return hidden.has(trace.meta) ? "legendonly" : true; });
      if (visible.length) Plotly.restyle(plot, { visible: visible }, visible.map(function (_, index) { return index; }));
    }
  }

  function draw(plot, chart) {
    Plotly.newPlot(plot, tracesOf(chart), layoutOf(chart, plot.clientWidth), config);
    drawn.push(plot);
    plot.on("plotly_relayout", function (change) { follow(plot, change); });
    if (several) {
      plot.on("plotly_legendclick", function (event) {
        const run = event.data[event.curveNumber].meta;
        if (!hidden.delete(run)) hidden.add(run);
        showRuns();
        return false;
      });
      plot.on("plotly_legenddoubleclick", function (event) {
        const run = event.data[event.curveNumber].meta;
        const others = data.runs.map(function (_, index) { return index; }).filter(function (index) { return index !== run; });
        const alone = others.every(function (index) { return hidden.has(index); });
        hidden = new Set(alone ? [] : others);
        showRuns();
        return false;
      });
      if (hidden.size) showRuns();
    }
  }

  document.querySelectorAll(".plot").forEach(function (plot) {
    const chart = data.charts[Number(plot.dataset.chart)];
    const button = plot.parentElement.querySelector("button.scale");
    button.setAttribute("aria-pressed", String(chart.log));
    button.addEventListener("click", function () {
      chart.log = !chart.log;
      button.setAttribute("aria-pressed", String(chart.log));
      if (drawn.includes(plot))
        Plotly.relayout(plot, { "yaxis.type": chart.log ? "log" : "linear", "yaxis.autorange": true, "yaxis.tickformat": chart.log ? null : "~g" });
    });
    const folded = plot.closest("details:not([open])");
    if (folded) folded.addEventListener("toggle", function () { if (!drawn.includes(plot)) draw(plot, chart); });
    else draw(plot, chart);
  });

  for (const swatch of document.querySelectorAll(".swatch"))
    swatch.style.background = COLOURS[Number(swatch.dataset.run) % COLOURS.length];

  document.querySelectorAll("figure[data-series]").forEach(function (figure) {
    const series = data.pictures[Number(figure.dataset.series)];
    const slider = figure.querySelector("input");
    if (!slider) return;
    slider.addEventListener("input", function () {
      const picture = series[Number(slider.value)];
      figure.querySelector("img").src = picture.uri;
      figure.querySelector("img").alt = picture.caption;
      figure.querySelector("figcaption span").textContent = picture.caption;
    });
  });
})();
