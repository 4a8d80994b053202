// Moves the picture that the page already holds: bell, layers, sum, dots and the line follow the noise and the start.

var SLOWEST = 0.4; // seconds that an amount of noise is shown at most

function fold(u) {
  var v = Math.abs(u) % 2;
  return v <= 1 ? v : 2 - v;
}

function points(across, heights) {
  return across.map(function (u, j) { return u.toFixed(1) + " " + heights[j].toFixed(2); }).join("L");
}

live("loupe-folding", function (root, one, all, data) {
  var large = one(".lk-large");
  var smalls = all(".lk-small");
  var steps = all(".lk-step");
  var start = 0;

  // Where a fold lays a place x of [0, 1] in the piece [k, k + 1], and the bell's density there.
  function place(k, x) { return k + (k % 2 === 0 ? x : 1 - x); }
  function density(u, sigma) {
    var z = (u - data.starts[start]) / sigma;
    return Math.exp(-z * z / 2) / (sigma * Math.sqrt(2 * Math.PI));
  }

  // The layers from the bottom up: the pieces of the strip, then all pieces with three folds or more.
  function layers(x, sigma) {
    var found = data.pieces.map(function (k) {
      return x.map(function (v) { return density(place(k, v), sigma); });
    });
    found.push(x.map(function (v) {
      var total = 0;
      for (var k = 3; k <= data.reach; k += 1) {
        total += density(place(k, v), sigma) + density(place(-k, v), sigma);
      }
      return total;
    }));
    return found;
  }

  function area(across, upper, base, scale, layer) {
    if (scale * Math.max.apply(null, layer) < data.faintest) { return ""; }
    var heights = upper.map(function (value) { return base - scale * value; });
    return "M" + across[0].toFixed(1) + " " + base + "L" + points(across, heights) + "L" +
      across[across.length - 1].toFixed(1) + " " + base + "Z";
  }

  function short(i) {
    return ["σ\u00a0=\u00a0" + data.labels[i], data.folded[start][i] + "\u00a0% folded"];
  }

  function words(i) {
    return "σ\u00a0=\u00a0" + data.labels[i] + "\u00a0· " + data.folded[start][i] + "\u00a0% of the mass has been folded\u00a0· " +
      "furthest from the flat law by " + data.far[start][i] + "\u00a0%";
  }

  function fill(svg, i, view) {
    var within = function (selector) { return svg.querySelector(selector); };
    var sigma = data.sigmas[i];
    var kept = data.x.map(function (_, j) { return j; }).filter(function (j) {
      return j % view.every === 0 || j === data.x.length - 1;
    });
    var x = kept.map(function (j) { return data.x[j]; });
    var found = layers(x, sigma);
    var width = view.right - view.left;
    var across = x.map(function (v) { return view.left + width * v; });
    var tall = data.tops[start][i];
    var up = (view.base - view.top) / tall;
    var bell = within(".lk-bell").children;
    var pile = within(".lk-pile").children;
    var sum = x.map(function () { return 0; });
    found.forEach(function (layer, j) {
      var k = data.pieces[j];
      if (k !== undefined) {
        var along = x.map(function (v) { return view.left + width / 5 * (2 + place(k, v)); });
        bell[j].setAttribute("d", area(along, layer, view.strip, view.tall / tall, layer));
      }
      sum = sum.map(function (value, n) { return value + layer[n]; });
      pile[found.length - 1 - j].setAttribute("d", area(across, sum, view.base, up, layer));
    });
    var value = 0;
    var given = data.density[start][i].map(function (step) { value += step; return value / 1000; });
    var heights = kept.map(function (j) { return view.base - up * given[j]; });
    within(".lk-sum").setAttribute("d", "M" + points(across, heights));
    var flat = view.base - up;
    within(".lk-flat").setAttribute("d", "M" + view.left + " " + flat.toFixed(1) + "H" + view.right);
    if (view !== data.large) {
      svg.setAttribute("aria-label", "Small frame: " + words(i));
      return;
    }
    within(".lk-one").setAttribute("y", flat.toFixed(1));
    var begin = view.left + width * data.starts[start];
    within(".lk-start").setAttribute("d", "M" + begin.toFixed(1) + " " + (view.base + 11) + "l4 7h-8Z");
    var clear = Math.min(Math.max(begin, view.left + 44), view.right - 44);
    within(".lk-from").setAttribute("x", clear.toFixed(1));
    var far = within(".lk-far").children;
    var dots = within(".lk-dots").children;
    data.dots.forEach(function (z, j) {
      var u = data.starts[start] + sigma * z;
      var kind = "f" + Math.min(3, Math.abs(Math.floor(u))) + (u < -2 || u > 3 ? " out" : "");
      far[j].setAttribute("class", kind);
      far[j].setAttribute("cx", (view.left + width / 5 * (2 + u)).toFixed(1));
      dots[j].setAttribute("class", kind);
      dots[j].setAttribute("cx", (view.left + width * fold(u)).toFixed(1));
    });
    svg.setAttribute("aria-label", data.alt + " Now: " + words(i));
  }

  var noise = player(root, one, {
    at: data.at,
    last: data.sigmas.length - 1,
    slowest: SLOWEST,
    show: function (i) {
      fill(large, i, data.large);
      return words(i);
    }
  });
  choice(all, "start", function (k) {
    start = k;
    smalls.forEach(function (svg, j) {
      fill(svg, data.frames[j], data.small);
      short(data.frames[j]).forEach(function (text, n) { steps[j].children[n].textContent = text; });
    });
    noise.draw(); // the same noise
  });
});
