// Moves the picture that the page already holds: discs, edges, bars and the counter follow the radius.
// Every script of this kind on a page may run first, and may run again, so each takes all pictures that are still
// and marks them. No library, no request, nothing outside the picture is touched.
(function () {
  "use strict";

  var SECONDS = 8; // from radius 0 to the largest

  function enliven(root) {
    root.setAttribute("data-live", "");
    var one = function (selector) { return root.querySelector(selector); };
    var all = function (selector) { return Array.prototype.slice.call(root.querySelectorAll(selector)); };
    var data = JSON.parse(one(".lf-data").textContent);
    var lengths = data.lengths; // in increasing order, as are the edges and the bars
    var slider = one("input");
    var play = one(".lf-play");
    var next = one(".lf-next");
    var count = one(".lf-count");
    var discs = all(".lf-discs circle");
    var edges = all(".lf-edges line");
    var bars = all(".lf-bars path");
    var line = one(".lf-radius");
    var unit = data.span / data.largest;
    var radius = data.radius;
    var frame = null; // the next frame asked for while playing

    function draw() {
      var dead = 0;
      var total = 0;
      while (dead < lengths.length && lengths[dead] <= radius) { total += lengths[dead]; dead += 1; }
      discs.forEach(function (disc) { disc.setAttribute("r", (radius * data.scale / 2).toFixed(2)); });
      edges.forEach(function (edge, k) { edge.setAttribute("class", state(k, dead)); });
      bars.forEach(function (bar, k) {
        var y = Number(bar.getAttribute("data-y"));
        var closed = k < dead;
        var end = (data.left + unit * (closed ? lengths[k] : radius)).toFixed(2);
        var path = "M" + data.left + " " + y + "H" + end;
        if (closed) {
          var cap = Number(bar.getAttribute("data-cap"));
          path += "M" + end + " " + (y - cap) + "V" + (y + cap);
        }
        bar.setAttribute("d", path);
        bar.setAttribute("class", state(k, dead));
      });
      var x = (data.left + unit * radius).toFixed(2);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      var components = lengths.length + 1 - dead;
      count.textContent = "r = " + radius.toFixed(data.digits) + " · " + components +
        (components === 1 ? " component" : " components") + " · E₁ so far " + total.toFixed(data.digits);
      slider.value = Math.round(slider.max * radius / data.largest);
      slider.setAttribute("aria-valuetext", count.textContent);
    }

    function state(k, dead) {
      return k >= dead ? "" : k === dead - 1 ? "lf-in lf-new" : "lf-in";
    }

    function pause() {
      if (frame !== null) { cancelAnimationFrame(frame); }
      frame = null;
      play.textContent = "Play";
      count.setAttribute("aria-live", "polite");
    }

    function start() {
      if (radius >= data.largest) { radius = 0; }
      play.textContent = "Pause";
      count.setAttribute("aria-live", "off"); // a screen reader must not be given every frame
      var last = null;
      frame = requestAnimationFrame(function step(now) {
        if (!root.isConnected) { return; } // the notebook has taken the picture away
        radius = Math.min(data.largest, radius + data.largest * (last === null ? 0 : now - last) / (1000 * SECONDS));
        last = now;
        draw();
        if (radius < data.largest) { frame = requestAnimationFrame(step); } else { pause(); }
      });
    }

    slider.addEventListener("input", function () {
      pause();
      radius = data.largest * slider.value / slider.max;
      draw();
    });
    play.addEventListener("click", function () { if (frame === null) { start(); } else { pause(); } });
    next.addEventListener("click", function () {
      pause();
      var coming = lengths.filter(function (length) { return length > radius; });
      radius = coming.length ? coming[0] : lengths[0];
      draw();
    });
    // Who asked for less motion goes from merge to merge instead.
    play.hidden = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    one(".lf-controls").hidden = false;
  }

  Array.prototype.forEach.call(document.querySelectorAll(".loupe-filtration:not([data-live])"), function (root) {
    enliven(root);
  });
})();
