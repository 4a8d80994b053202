// Moves the picture that the page already holds: discs, edges, bars and the counter follow the radius.

live("loupe-filtration", function (root, one, all, data) {
  var lengths = data.lengths; // in increasing order, as are the edges and the bars
  var discs = all(".lf-discs circle");
  var edges = all(".lf-edges line");
  var bars = all(".lf-bars path");
  var line = one(".lf-radius");
  var unit = data.span / data.largest;

  function show(radius) {
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
    return "r = " + radius.toFixed(data.digits) + " · " + components +
      (components === 1 ? " component" : " components") + " · E₁ so far " + total.toFixed(data.digits);
  }

  function state(k, dead) {
    return k >= dead ? "" : k === dead - 1 ? "lf-in lf-new" : "lf-in";
  }

  player(root, one, {
    at: data.radius,
    last: data.largest,
    show: show,
    next: function (radius) { // the next merge, and after the last the first
      return lengths.filter(function (length) { return length > radius; }).concat(lengths[0])[0];
    }
  });
});
