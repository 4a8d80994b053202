// Moves the picture that the page already holds: points, averages, geodesics and the table follow a point.

var EDGE = 0.98; // as far out as a point can be moved
var KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function dot(p, q) { return p[0] * q[0] + p[1] * q[1]; }
function scaled(p, factor) { return [factor * p[0], factor * p[1]]; }
function sum(places) { return places.reduce(function (p, q) { return [p[0] + q[0], p[1] + q[1]]; }); }
function gap(p, q) { return Math.hypot(p[0] - q[0], p[1] - q[1]); }
function ratio(p, q) { // sinh²(d/2) of the distance d
  var apart = gap(p, q);
  return apart * apart / ((1 - dot(p, p)) * (1 - dot(q, q)));
}
function spread(place, points) {
  return points.reduce(function (total, point) {
    var distance = 2 * Math.asinh(Math.sqrt(ratio(point, place)));
    return total + distance * distance;
  }, 0);
}

// Derivative of the squared distance, 4 asinh²(√t), by t = ratio; the series where the quotient nears 0/0.
function slope(t) {
  if (t >= 1e-2) { return 4 * Math.asinh(Math.sqrt(t)) / Math.sqrt(t * (1 + t)); }
  var term = 1;
  var total = 1;
  for (var k = 1; k < 12; k += 1) { term *= -t * 2 * k / (2 * k + 1); total += term; }
  return 4 * total;
}

// All points have weight 1.
var AVERAGES = {
  "Fréchet mean": function (points) {
    var mean = AVERAGES["Einstein midpoint"](points);
    for (var step = 0; step < 200; step += 1) {
      // Where the sum of slope · ratio is least for these slopes, in closed form.
      var first = 0;
      var second = [0, 0];
      points.forEach(function (point) {
        var square = dot(point, point);
        var weight = slope(ratio(point, mean)) / (1 - square);
        first += weight * (1 + square);
        second = sum([second, scaled(point, weight)]);
      });
      var next = scaled(second, 2 / (first + Math.sqrt(Math.max(0, first * first - 4 * dot(second, second)))));
      var moved = gap(next, mean);
      mean = next;
      if (moved < 1e-12) { break; }
    }
    return mean;
  },
  "tangent mean": function (points) {
    var mean = scaled(sum(points.map(function (point) {
      var length = Math.hypot(point[0], point[1]);
      return scaled(point, length > 0 ? Math.atanh(length) / length : 1);
    })), 1 / points.length);
    var length = Math.hypot(mean[0], mean[1]);
    return scaled(mean, length > 0 ? Math.tanh(length) / length : 1);
  },
  "Einstein midpoint": function (points) {
    var time = 0; // coordinates of the hyperboloid
    var space = sum(points.map(function (point) {
      var square = dot(point, point);
      time += (1 + square) / (1 - square);
      return scaled(point, 2 / (1 - square));
    }));
    return scaled(space, 1 / (Math.sqrt(time * time - dot(space, space)) + time));
  },
  "Euclidean mean": function (points) { return scaled(sum(points), 1 / points.length); }
};

live("loupe-poincare", function (root, one, all, data) {
  var panel = one(".lp-disk");
  var handles = all(".lp-point");
  var points = data.points.slice();
  var held = null; // the pointer that drags, the point, and how far beside the point it was put down

  function seen(place) { return [data.centre + data.scale * place[0], data.centre - data.scale * place[1]]; }
  function words(pair) { return pair[0].toFixed(2) + " " + pair[1].toFixed(2); }
  function move(element, place) { element.setAttribute("transform", "translate(" + words(seen(place)) + ")"); }

  // An arc of the circle that is orthogonal to the boundary, or the chord where nobody sees the difference.
  function geodesic(start, end) {
    var cross = start[0] * end[1] - start[1] * end[0];
    var p = (1 + dot(start, start)) / 2;
    var q = (1 + dot(end, end)) / 2;
    var centre = [p * end[1] - q * start[1], q * start[0] - p * end[0]]; // times cross, as the radius
    var times = Math.sqrt(Math.max(0, dot(centre, centre) - cross * cross));
    var chord = gap(start, end);
    var path = "M" + words(seen(start));
    if (data.scale * chord * chord * Math.abs(cross) <= 0.4 * times) { return path + "L" + words(seen(end)); }
    var radius = data.scale * times / Math.abs(cross);
    return path + "A" + words([radius, radius]) + " 0 0 " + (cross > 0 ? 1 : 0) + " " + words(seen(end));
  }

  // Letters stand away from the other points, and beside the letter of a point at the same place.
  function letter(k) {
    var middle = scaled(sum(points), 1 / 3);
    var angle = gap(points[k], middle) > 1e-9
      ? Math.atan2(points[k][1] - middle[1], points[k][0] - middle[0]) : Math.PI / 2;
    points.slice(0, k).forEach(function (other) {
      if (gap(points[k], other) < 0.06) { angle += 2 * Math.PI / 3; }
    });
    return [data.letter * Math.cos(angle), -data.letter * Math.sin(angle)];
  }

  function draw() {
    var averages = {};
    var sums = {};
    data.names.forEach(function (name) {
      averages[name] = AVERAGES[name](points);
      sums[name] = spread(averages[name], points);
    });
    var least = Math.min.apply(null, data.names.map(function (name) { return sums[name]; })).toFixed(3);
    all(".lp-marks path").forEach(function (mark) { move(mark, averages[mark.getAttribute("data-name")]); });
    all(".lp-arcs path").forEach(function (arc, k) {
      arc.setAttribute("d", geodesic(averages["Fréchet mean"], points[k]));
    });
    all("tr[data-name]").forEach(function (row) {
      var cell = row.querySelector("td");
      cell.textContent = sums[row.getAttribute("data-name")].toFixed(3);
      row.className = cell.textContent === least ? "lw-least" : "";
    });
    handles.forEach(function (handle, k) {
      move(handle, points[k]);
      var place = letter(k);
      var text = handle.querySelector("text");
      text.setAttribute("x", place[0].toFixed(2));
      text.setAttribute("y", place[1].toFixed(2));
      handle.setAttribute("aria-valuenow", points[k][0].toFixed(3));
      handle.setAttribute("aria-valuetext", "x " + points[k][0].toFixed(3) + ", y " + points[k][1].toFixed(3));
    });
    root.setAttribute("data-averages", JSON.stringify({ points: points, averages: averages, sums: sums }));
  }

  function put(k, place) {
    var length = Math.hypot(place[0], place[1]);
    points[k] = length > EDGE ? scaled(place, EDGE / length) : place;
    draw();
  }

  function under(event) {
    var matrix = panel.getScreenCTM().inverse();
    var spot = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    return [(spot.x - data.centre) / data.scale, (data.centre - spot.y) / data.scale];
  }

  handles.forEach(function (handle, k) {
    handle.setAttribute("tabindex", "0");
    handle.setAttribute("role", "slider"); // so that a screen reader hands the arrow keys on
    handle.setAttribute("aria-roledescription", "movable point");
    handle.setAttribute("aria-label", "Point " + "ABC"[k] + ", moved by the four arrow keys");
    handle.setAttribute("aria-valuemin", -EDGE);
    handle.setAttribute("aria-valuemax", EDGE);
    handle.addEventListener("keydown", function (event) {
      var way = KEYS[event.key];
      if (!way || event.ctrlKey || event.altKey || event.metaKey) { return; }
      event.preventDefault(); // the page must not scroll
      put(k, sum([points[k], scaled(way, event.shiftKey ? 0.005 : 0.02)]));
    });
    handle.addEventListener("pointerdown", function (event) {
      if (event.button !== 0 || held) { return; }
      event.preventDefault();
      // Where grips overlap the nearest point is meant, not the one on top.
      var spot = under(event);
      var nearest = points.reduce(function (best, point, j) {
        return gap(point, spot) < gap(points[best], spot) ? j : best;
      }, k);
      held = { pointer: event.pointerId, k: nearest, beside: sum([points[nearest], scaled(spot, -1)]) };
      handle.setPointerCapture(event.pointerId);
      handles[nearest].focus({ preventScroll: true });
    });
    // Older phones know touch-action only on whole pictures.
    handle.addEventListener("touchstart", function (event) { event.preventDefault(); }, { passive: false });
  });
  panel.addEventListener("pointermove", function (event) {
    if (held && event.pointerId === held.pointer) { put(held.k, sum([under(event), held.beside])); }
  });
  ["pointerup", "pointercancel", "lostpointercapture"].forEach(function (type) {
    panel.addEventListener(type, function (event) {
      if (held && event.pointerId === held.pointer) { held = null; }
    });
  });
  one(".lp-reset").addEventListener("click", function () {
    points = data.points.slice();
    draw();
  });
  panel.setAttribute("role", "group"); // a picture hides what is in it from a screen reader
  draw();
});
