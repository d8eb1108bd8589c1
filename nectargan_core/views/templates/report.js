"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = ["#1f77b4", "#d9541e", "#2a9d57", "#9155b8", "#c4961a", "#c0398a", "#3aa6b9", "#7a5c48", "#6b7280", "#8fae1b"];
  const DASHES = ["solid", "dot", "dash", "dashdot", "longdash"];
  const FEW_POINTS = 60;
  // Of more runs than these only the first chart of a section has a legend, which is that of all charts.
  const FEW_RUNS = 8;
  const several = data.runs.length > 1;

  function colour(index) {
    if (index < COLOURS.length) return COLOURS[index];
    return "hsl(" + Math.round((index * 137.5) % 360) + ",65%," + [38, 55, 46][index % 3] + "%)";
  }

  // plotly reads tags and entities in its texts; a name is to be shown as it is. A space of no width ends an entity.
  function shown(text) {
    return text.replace(/&/g, "&\u200b").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function dashesOf(chart) {
    const splits = new Set(chart.curves.map(function (curve) { return curve.split; }));
    const ordered = Array.from(splits).sort();
    return function (curve) { return DASHES[ordered.indexOf(curve.split) % DASHES.length]; };
  }

  // Of one run each loss has a colour, and the same one in each split; of several runs, each run has.
  const colours = new Map();
  function colourOf(curve) {
    if (several) return colour(curve.run);
    if (curve.sum) return "#1d2330";
    const name = curve.split ? curve.name.slice(curve.split.length + 1) : curve.name;
    if (!colours.has(name)) colours.set(name, colour(colours.size));
    return colours.get(name);
  }

  function labelOf(curve) {
    if (!several) return curve.name;
    return data.runs[curve.run] + (curve.split ? " (" + curve.split + ")" : "");
  }

  const FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif";
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "12px " + FONT;
  function widthOf(text) { return Math.ceil(pen.measureText(text).width); }

  // A legend breaks no lines of its own.
  function inLines(text, room) {
    const most = Math.max(1, Math.floor(text.length / Math.max(1, widthOf(text) / room)));
    const lines = [];
    for (let start = 0; start < text.length; start += most) lines.push(shown(text.slice(start, start + most)));
    return lines.join("<br>");
  }

  function tracesOf(chart, room) {
    const traces = [];
    const dashOf = dashesOf(chart);
    const pale = chart.curves.length > 12 ? 0.2 : 0.35;
    chart.curves.forEach(function (curve, index) {
      const label = shown(labelOf(curve));
      const inLegend = inLines(labelOf(curve), room);
      const raw = {
        type: "scatter", x: curve.x, y: curve.y, name: inLegend, legendgroup: String(index), connectgaps: false,
        mode: curve.n <= FEW_POINTS && !chart.steps ? "lines+markers" : "lines",
        line: { color: colourOf(curve), width: curve.smooth_x ? 1 : 1.8, dash: dashOf(curve), shape: chart.steps ? "hv" : "linear" },
        marker: { size: 5, color: colourOf(curve) },
        opacity: curve.smooth_x ? pale : 1,
        showlegend: !curve.smooth_x,
        hovertemplate: "%{y:.5~g}<extra>" + label + "</extra>",
        meta: several ? curve.run : -1,
      };
      traces.push(raw);
      if (curve.smooth_x)
        traces.push({
          type: "scatter", x: curve.smooth_x, y: curve.smooth_y, name: inLegend, legendgroup: String(index),
          connectgaps: false, mode: "lines", line: { color: colourOf(curve), width: 2.2, dash: dashOf(curve) },
          hovertemplate: "%{y:.5~g}<extra>" + label + " (smoothed)</extra>", meta: raw.meta,
        });
    });
    return traces;
  }

  const wide = window.matchMedia("(min-width: 601px)").matches;
  // On a touch screen dragging scrolls the page; the buttons of each chart zoom.
  const touch = window.matchMedia("(pointer: coarse)").matches;

  // More than the legend takes, since the first drawing needs room for it; then the room is made to fit.
  function expectedLegend(chart, longest, room) {
    const inRow = Math.max(1, Math.floor(room / (longest + 60)));
    return 12 + 24 * Math.ceil(longest / room) * Math.ceil(chart.curves.length / inRow);
  }

  function layoutOf(chart, entry, height, taken) {
    return {
      height: height + taken,
      margin: { l: 58, r: 12, t: 30, b: 50 + taken },
      xaxis: { title: { text: "step", standoff: 6, font: { size: 12 } }, gridcolor: "#eceff4", zeroline: false, range: data.range.slice() },
      yaxis: { type: chart.log ? "log" : "linear", gridcolor: "#eceff4", zerolinecolor: "#cdd3dd", tickformat: ".3~g", nticks: 5, automargin: true },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom", maxheight: 4000, font: { size: 12 }, entrywidth: entry, entrywidthmode: "pixels", groupclick: "togglegroup", tracegroupgap: 0 },
      annotations: chart.empty ? [{
        text: "no finite values", xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false, font: { size: 14, color: "#5c6473" },
      }] : [],
      showlegend: !(data.runs.length > FEW_RUNS) || chart.first,
      hovermode: data.runs.length > FEW_RUNS ? "closest" : "x",
      dragmode: touch ? false : "zoom",
      paper_bgcolor: "#fff", plot_bgcolor: "#fff",
      font: { family: FONT, size: 12, color: "#1d2330" },
    };
  }

  // The curves keep their height, whatever the legend takes.
  function fit(plot) {
    const legend = plot.querySelector(".legend .bg");
    const taken = legend === null ? 0 : Math.ceil(legend.getBoundingClientRect().height);
    if (plot.legendHeight === taken) return;
    const height = plot.layout.height + taken - plot.legendHeight;
    plot.legendHeight = taken;
    Plotly.relayout(plot, { height: height, "margin.b": 50 + taken });
  }

  const config = {
    displaylogo: false, displayModeBar: touch ? true : "hover", doubleClickDelay: 400,
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
    const alone = plot.closest(".charts").classList.contains("one");
    const room = Math.max(120, plot.clientWidth - 80);
    const longest = Math.max.apply(null, chart.curves.map(function (curve) { return widthOf(labelOf(curve)); }));
    plot.legendHeight = expectedLegend(chart, longest, room);
    const layout = layoutOf(chart, Math.min(longest, room) + 8, alone && wide ? 420 : 310, plot.legendHeight);
    Plotly.newPlot(plot, tracesOf(chart, room), layout, config).then(fit);
    plot.drawnWidth = plot.clientWidth;
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
        Plotly.relayout(plot, { "yaxis.type": chart.log ? "log" : "linear", "yaxis.autorange": true });
    });
    const folded = plot.closest("details:not([open])");
    if (folded) folded.addEventListener("toggle", function () { if (!drawn.includes(plot)) draw(plot, chart); });
    else draw(plot, chart);
  });

  // Where a chart gets another width, for whatever reason, it is drawn anew in that width.
  const widths = new ResizeObserver(function (entries) {
    for (const plot of entries.map(function (entry) { return entry.target; })) {
      if (plot.clientWidth === 0 || plot.clientWidth === plot.drawnWidth || !drawn.includes(plot)) continue;
      plot.drawnWidth = plot.clientWidth;
      Plotly.relayout(plot, { width: plot.clientWidth }).then(fit);
    }
  });
  document.querySelectorAll(".plot").forEach(function (plot) { widths.observe(plot); });

  // Elsewhere a table that is too wide scrolls, and keeps its words whole.
  for (const cell of document.querySelectorAll("th, td"))
    if (/\S{21}/.test(cell.textContent)) cell.classList.add("long");

  for (const swatch of document.querySelectorAll(".swatch"))
    swatch.style.background = colour(Number(swatch.dataset.run));

  document.querySelectorAll("figure[data-series]").forEach(function (figure) {
    const series = data.pictures[Number(figure.dataset.series)];
    const slider = figure.querySelector("input");
    if (!slider) return;
    series[series.length - 1].uri = figure.querySelector("img").src;
    slider.addEventListener("input", function () {
      const picture = series[Number(slider.value)];
      figure.querySelector("img").src = picture.uri;
      figure.querySelector("img").alt = picture.caption;
      figure.querySelector("figcaption span").textContent = picture.caption;
    });
  });
})();
