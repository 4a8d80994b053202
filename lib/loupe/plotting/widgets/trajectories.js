// Draws the picture that the page already holds anew when it is turned, or the time, the scene or the ticks change.

var SLOWEST = 0.6; // seconds that a slice is shown at most
var DRAGGED = 0.5; // degrees for a pixel
var KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
var NEARER = { "+": 1, "=": 1, "-": -1, "−": -1 };
var CLOSER = 1.25;
var RING = "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0";

function spot(place) { return place[0].toFixed(1) + " " + place[1].toFixed(1); }
function segment(from, to) { return "M" + spot(from) + "L" + spot(to); }
function shade(near) { return (0.775 + 0.225 * near).toFixed(2); }
function path(kind, near, d) { return '<path class="' + kind + '" opacity="' + shade(near) + '" d="' + d + '"/>'; }

function sum(flat, other) { return flat.map(function (value, i) { return value + other[i]; }); }

// The truth is written less the slice before, predictions less the truth.
function unpack(scene) {
  for (var k = 1; k < scene.truth.length; k += 1) { scene.truth[k] = sum(scene.truth[k], scene.truth[k - 1]); }
  scene.predicted = scene.predicted.map(function (slices) {
    return slices.map(function (flat, k) { return sum(flat, scene.truth[k + 1]); });
  });
}

live("loupe-trajectories", function (root, one, all, data) {
  var picture = one(".lt-stage svg");
  var grip = one(".lt-grip");
  var select = one(".lt-scene"); // none where there is one scene
  var rows = all(".lw-table tbody tr");
  var ticks = rows.map(function (row) { return row.querySelector("input"); });
  var trails = one(".lt-trails");
  var errors = one(".lt-errors");
  var view = data.view.slice();
  data.scenes.forEach(unpack);
  var scene = data.scenes[0];
  var at = scene.times.length - 1;
  var spoken = "";
  var held = null; // the pointer that drags, where it was put down, and the view then
  var zoom = 1;
  var turn, tilt; // the view as sines and cosines

  // Where a place is seen in the picture, and how near it is, from -1 to 1.
  function seen(x, y, z) {
    var across = (x * turn[1] + y * turn[0]) / data.steps;
    var away = (y * turn[1] - x * turn[0]) / data.steps;
    var upward = z / data.steps * tilt[1] + away * tilt[0];
    var near = z / data.steps * tilt[0] - away * tilt[1];
    return [data.wide / 2 + zoom * data.reach * across, data.high / 2 - zoom * data.reach * upward,
      Math.min(1, Math.max(-1, near))];
  }

  // The particles of a slice; with a level, where they would fall on it.
  function particles(flat, level) {
    var found = [];
    for (var i = 0; i < flat.length; i += 3) {
      found.push(seen(flat[i], flat[i + 1], level === undefined ? flat[i + 2] : level));
    }
    return found;
  }

  function joined(places) {
    return scene.edges.map(function (edge) { return segment(places[edge[0]], places[edge[1]]); }).join("");
  }

  function dots(places) {
    return places.map(function (place) { return "M" + spot(place) + "h0"; }).join("");
  }

  function ground() {
    var level = scene.floor[0];
    var first = scene.floor[1];
    var second = scene.floor[2];
    var ends = function (lines) { return [lines[0], lines[lines.length - 1]]; };
    return '<path class="lt-floor" d="' + first.map(function (a) {
      return segment.apply(null, ends(second).map(function (b) { return seen(a, b, level); }));
    }).join("") + second.map(function (b) {
      return segment.apply(null, ends(first).map(function (a) { return seen(a, b, level); }));
    }).join("") + '"/>';
  }

  function shadow(few) {
    var slices = scene.truth.slice(0, at + 1).map(function (flat) { return particles(flat, scene.floor[0]); });
    var now = slices[at];
    var lines = joined(now);
    if (few && trails.checked) {
      lines += now.map(function (_, i) {
        return "M" + slices.map(function (places) { return spot(places[i]); }).join("L");
      }).join("");
    }
    return '<path class="lt-shadow" d="' + lines + '"/><path class="lt-spots" d="' + (few ? dots(now) : "") + '"/>';
  }

  function start(few) {
    var places = particles(scene.truth[0]);
    return '<g class="lt-start' + (few ? "" : " many") + '"><path d="' + joined(places) + '"/><path class="lt-spots" d="' + dots(places) +
      '"/></g>';
  }

  // Trails, edges and marks of the truth or of one model, far particles first.
  function layer(slices, kind, few, size) {
    var now = slices[at];
    var order = now.map(function (_, i) { return i; }).sort(function (i, j) { return now[i][2] - now[j][2] || i - j; });
    var ways = "";
    var marks = "";
    order.forEach(function (i) {
      var near = now[i][2];
      var way = slices.slice(0, at + 1).map(function (places) { return spot(places[i]); });
      if (trails.checked) {
        ways += path("t", near, "M" + way.join("L"));
        if (few) {
          ways += path("s", near, way.slice(1, -1).map(function (place) { return "M" + place + RING; }).join(""));
        }
      }
      var radius = size * (1 + 0.2 * near) + (few && kind !== "true" ? 1 : 0);
      marks += '<path class="p" opacity="' + shade(near) + '" transform="translate(' + spot(now[i]) + ") scale(" +
        radius.toFixed(2) + ')" d="' + data.shapes[scene.groups[i]] + '"/>';
    });
    var bones = scene.edges.map(function (edge) {
      var a = now[edge[0]];
      var b = now[edge[1]];
      return path("e", (a[2] + b[2]) / 2, segment(a, b));
    }).join("");
    return '<g class="lt-layer ' + kind + (few ? "" : " many") + '">' + ways + bones + marks + "</g>";
  }

  // Lines from where the particles are to where a model sees them.
  function misses(true_, predicted, kind) {
    return '<g class="' + kind + '"><path class="x" d="' + true_.map(function (place, i) {
      return segment(place, predicted[i]);
    }).join("") + '"/></g>';
  }

  function paint() {
    var radians = view.map(function (angle) { return angle * Math.PI / 180; });
    turn = [Math.sin(radians[0]), Math.cos(radians[0])];
    tilt = [Math.sin(radians[1]), Math.cos(radians[1])];
    var count = scene.groups.length;
    var few = count <= data.few;
    var size = few ? data.sizes[0] : count <= 2 * data.few ? data.sizes[1] : data.sizes[2];
    var upto = function (slices) { return slices.slice(0, at + 1).map(function (flat) { return particles(flat); }); };
    var truth = upto(scene.truth);
    var parts = ground() + shadow(few) + start(few) + layer(truth, "true", few, size);
    for (var k = ticks.length - 1; k >= 0; k -= 1) { // the first model lies on top
      if (ticks[k].checked) {
        var places = upto([scene.truth[0]].concat(scene.predicted[k]));
        if (errors.checked) { parts += misses(truth[at], places[at], "m" + k); }
        parts += layer(places, "m" + k, few, size);
      }
    }
    picture.innerHTML = parts;
    grip.setAttribute("aria-valuenow", Math.round(view[0]));
    grip.setAttribute("aria-valuetext",
      "turned " + Math.round(view[0]) + "°, seen from " + Math.abs(Math.round(view[1])) + "° " +
      (view[1] < 0 ? "below" : "above"));
  }

  function words() {
    return "Slice " + at + " of " + (scene.times.length - 1) + " · time " + scene.times[at] + " of the window";
  }

  function show(k) {
    at = k;
    paint();
    var said = [];
    var best = at > 0 && scene.now[scene.least[at]][at];
    rows.forEach(function (row, k) {
      row.querySelector(".lt-now").textContent = scene.now[k][at];
      row.querySelector(".lt-now").className = "lt-now" + (best === scene.now[k][at] ? " lw-least" : "");
      row.querySelector(".lt-all").textContent = scene.all[k];
      if (ticks[k].checked) { said.push(data.models[k] + " " + scene.now[k][at]); }
    });
    spoken = words() + (said.length ? "; mean squared error: " + said.join(", ") : "");
    picture.setAttribute("aria-label", data.alt + " Now: " + spoken);
    return words();
  }

  function rotate(across, down) {
    view = [((view[0] - across) % 360 + 360) % 360, Math.min(90, Math.max(-90, view[1] + down))];
    paint();
  }

  function approach(steps) {
    zoom = Math.min(8, Math.max(0.5, zoom * Math.pow(CLOSER, steps)));
    paint();
  }

  var time = player(root, one, {
    at: at,
    last: at,
    slowest: SLOWEST,
    show: show,
    spoken: function () { return spoken; }
  });
  if (select) {
    select.addEventListener("change", function () {
      scene = data.scenes[Number(select.value)];
      one(".lt-square").textContent = scene.square;
      time.stretch(scene.times.length - 1);
    });
  }
  ticks.concat(trails, errors).forEach(function (box) { box.addEventListener("change", time.draw); });

  grip.setAttribute("tabindex", "0");
  grip.setAttribute("role", "slider"); // so that a screen reader hands the arrow keys on
  grip.setAttribute("aria-roledescription", "view that can be turned");
  grip.setAttribute("aria-label", "View, turned by the four arrow keys");
  grip.setAttribute("aria-valuemin", 0);
  grip.setAttribute("aria-valuemax", 360);
  grip.addEventListener("keydown", function (event) {
    var way = KEYS[event.key];
    var steps = NEARER[event.key];
    if (!(way || steps) || event.ctrlKey || event.altKey || event.metaKey) { return; }
    event.preventDefault(); // the page must not scroll
    if (steps) { approach(steps); return; }
    var step = event.shiftKey ? 1 : 5;
    rotate(step * way[0], step * way[1]);
  });
  grip.addEventListener("pointerdown", function (event) {
    if (event.button !== 0 || held) { return; }
    held = { pointer: event.pointerId, x: event.clientX, y: event.clientY };
    grip.setPointerCapture(event.pointerId);
  });
  grip.addEventListener("pointermove", function (event) {
    if (!held || event.pointerId !== held.pointer) { return; }
    rotate(DRAGGED * (event.clientX - held.x), DRAGGED * (event.clientY - held.y));
    held.x = event.clientX;
    held.y = event.clientY;
  });
  ["pointerup", "pointercancel", "lostpointercapture"].forEach(function (type) {
    grip.addEventListener(type, function (event) {
      if (held && event.pointerId === held.pointer) { held = null; }
    });
  });
  one(".lt-reset").addEventListener("click", function () {
    view = data.view.slice();
    zoom = 1;
    paint();
  });
  one(".lt-closer").addEventListener("click", function () { approach(1); });
  one(".lt-farther").addEventListener("click", function () { approach(-1); });

  time.draw();
});
