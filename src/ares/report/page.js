(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var touch = window.matchMedia("(pointer: coarse)").matches;
  var narrow = window.matchMedia("(max-width: 560px)");
  var plots = [];

  function colour(name, styles) {
    var parts = name.split(":");
    var hex = styles.getPropertyValue("--" + parts[0]).trim();
    if (!/^#[0-9a-f]{6}$/i.test(hex)) { return name; }
    if (parts.length === 1) { return hex; }
    var n = parseInt(hex.slice(1), 16);
    return "rgba(" + (n >> 16) + "," + ((n >> 8) & 255) + "," + (n & 255) + "," + parts[1] + ")";
  }

  function themed(value, styles, isColour) {
    if (typeof value === "string") { return isColour ? colour(value, styles) : value; }
    if (Array.isArray(value)) {
      return value.map(function (item) { return themed(item, styles, isColour); });
    }
    if (value && typeof value === "object") {
      var out = {};
      Object.keys(value).forEach(function (key) {
        out[key] = themed(value[key], styles, /color(scale)?$/.test(key));
      });
      return out;
    }
    return value;
  }

  function axis(own) {
    var base = {
      gridcolor: "line", linecolor: "line", zerolinecolor: "line", zeroline: false,
      tickfont: { color: "muted", size: 11 }, automargin: true, fixedrange: touch
    };
    var merged = Object.assign(base, own);
    if (merged.title) {
      merged.title = Object.assign({ font: { size: 12, color: "muted" }, standoff: 6 }, merged.title);
    }
    return merged;
  }

  function layout(own) {
    var base = {
      font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", size: 12, color: "text" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 44, r: 10, t: 12, b: 32 },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11, color: "text" } },
      hovermode: "x unified",
      hoverlabel: { bgcolor: "card", bordercolor: "line", font: { color: "text", size: 12 } },
      dragmode: touch ? false : "zoom",
      xaxis: {}, yaxis: {}
    };
    var merged = Object.assign(base, own);
    Object.keys(merged).forEach(function (key) {
      if (/^[xy]axis\d*$/.test(key)) { merged[key] = axis(merged[key]); }
    });
    if (narrow.matches) {
      merged.xaxis.nticks = merged.xaxis.nticks || 5;
      merged.annotations = (merged.annotations || []).filter(function (a) { return !a.yref || a.yref !== "paper"; });
    }
    return merged;
  }

  function draw(plot) {
    var styles = window.getComputedStyle(document.documentElement);
    Plotly.react(
      plot.element,
      themed(plot.spec.data, styles, false),
      themed(layout(plot.spec.layout), styles, false),
      { responsive: true, displayModeBar: false, doubleClick: "reset" }
    );
  }

  function verdictOfToday() {
    // Earlier studies of the same data can only weaken a verdict; they are known to the workspace
    // and not to the hashed part of the page.
    var later = document.querySelector("#volatile .later");
    var banner = document.querySelector(".banner");
    if (!later || !banner) { return; }
    var sentence = banner.querySelector(".sentence");
    sentence.parentNode.insertBefore(later.cloneNode(true), sentence.nextSibling);
    if (later.getAttribute("data-edge") === "no") {
      banner.classList.remove("edge");
      banner.querySelector("h2").textContent = "No evidence of edge";
    }
  }

  document.querySelectorAll("script[data-plot]").forEach(function (node) {
    var element = document.getElementById(node.getAttribute("data-plot"));
    plots.push({ element: element, spec: JSON.parse(node.textContent) });
  });
  plots.forEach(draw);
  document.querySelectorAll("button[data-log]").forEach(function (button) {
    button.addEventListener("click", function () {
      var on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      plots.forEach(function (plot) {
        if (plot.element.id !== button.getAttribute("data-log")) { return; }
        plot.spec.layout.yaxis = Object.assign({}, plot.spec.layout.yaxis, { type: on ? "log" : "linear" });
        draw(plot);
      });
    });
  });
  dark.addEventListener("change", function () { plots.forEach(draw); });
  narrow.addEventListener("change", function () { plots.forEach(draw); });
  verdictOfToday();
}());
