"""Fréchet means and their derivatives in fifty digits, by other formulas than the library's.

Both models are solved in the one global chart of the hyperboloid ``y = (sqrt(1/c + |u|^2), u)``, u in R^d, by Newton's
method with a Jacobian of differences. Derivatives of the mean are central differences of the mean itself: with fifty
digits a step of 1e-20 leaves more than twenty right. The sum of squared distances enters only through its first
derivative; no Hessian, no implicit function theorem and no formula of the ball are used.
"""

from mpmath import mp, mpf

DIGITS = 50
STEP = mpf(10) ** -20


def slope(z):
    """Derivative of arcosh(z)^2, analytic for all z > -1: points may leave the hyperboloid, to either side."""
    if abs(z - 1) < mpf("0.01"):
        return 2 * mp.hyp2f1(1, 1, mpf(3) / 2, (1 - z) / 2)
    if z < 1:
        return 2 * mp.acos(z) / mp.sqrt(1 - z * z)
    return 2 * mp.acosh(z) / mp.sqrt(z * z - 1)


def dot(a, b):
    """Sum of products."""
    return mp.fdot(zip(a, b, strict=True))


def lift(u, c):
    """Point of the hyperboloid over u."""
    return [mp.sqrt(1 / c + dot(u, u)), *u]


def minkowski(a, b):
    """Lorentzian product of ambient vectors."""
    return dot(a[1:], b[1:]) - a[0] * b[0]


def chart_gradient(u, points, weights, c):
    """Gradient in u of ``sum_l w_l arcosh(-c <x_l, y(u)>)^2``, up to the factor c."""
    y = lift(u, c)
    pulls = [w * slope(-c * minkowski(x, y)) for x, w in zip(points, weights, strict=True)]
    time = dot(pulls, [x[0] for x in points]) / y[0]
    return [time * u_i - dot(pulls, [x[i + 1] for x in points]) for i, u_i in enumerate(u)]


def chart_jacobian(u, points, weights, c):
    """Derivative of ``chart_gradient`` in u, by central differences."""
    columns = []
    for i in range(len(u)):
        step = STEP * max(1, abs(u[i]))
        ahead, behind = (
            chart_gradient([*u[:i], u[i] + side * step, *u[i + 1 :]], points, weights, c) for side in (1, -1)
        )
        columns.append([(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)])
    return mp.matrix(columns).T


def newton_step(u, problem, inverse):
    """u moved by one Newton step with the inverse Jacobian given, and the length of the move relative to y_0."""
    move = inverse * mp.matrix(chart_gradient(u, *problem))
    return [u_i - m for u_i, m in zip(u, move, strict=True)], mp.norm(move) / lift(u, problem[2])[0]


def solve(problem):
    """The u of the mean, and the inverse Jacobian there; ``problem`` is (ambient points, weights, c)."""
    points, weights, c = problem
    u = [dot(weights, column) for column in zip(*points, strict=True)]
    for _ in range(300):  # come near: the weighted average of points, put back onto the hyperboloid
        size = mp.sqrt(-c * minkowski(u, u))
        y = [u_i / size for u_i in u]
        pulls = [w * slope(-c * minkowski(x, y)) for x, w in zip(points, weights, strict=True)]
        total = sum(pulls)
        u = [dot(pulls, column) / total for column in zip(*points, strict=True)]
        if mp.norm([a - b * mp.sqrt(-c * minkowski(u, u)) for a, b in zip(u, y, strict=True)]) < y[0] * 1e-4:
            break
    u = y[1:]
    for _ in range(20):
        inverse = chart_jacobian(u, *problem) ** -1
        u, moved = newton_step(u, problem, inverse)
        if moved < mpf(10) ** (10 - mp.dps):
            return u, inverse
    raise ArithmeticError(f"Newton's method has not converged: its last step was {mp.nstr(moved, 3)}")


def solve_nearby(problem, u, inverse):
    """The u of the mean of a problem changed by about STEP: the old Jacobian gains that many digits each time."""
    for _ in range(6):
        u, moved = newton_step(u, problem, inverse)
        if moved < mpf(10) ** (10 - mp.dps):
            return u
    raise ArithmeticError(f"the perturbed mean was not found: the last step was {mp.nstr(moved, 3)}")


def ball_problem(points, weights, curvature):
    """Points of the ball as a problem on the hyperboloid of curvature -1."""
    root = mp.sqrt(-curvature)
    ambient = []
    for x in points:
        p = [root * x_i for x_i in x]
        square = dot(p, p)
        ambient.append([(1 + square) / (1 - square), *[2 * p_i / (1 - square) for p_i in p]])
    return ambient, weights, mpf(1)


def ball_mean(u, curvature):
    """Back from the hyperboloid of curvature -1 to the ball."""
    y = lift(u, mpf(1))
    return [u_i / (1 + y[0]) / mp.sqrt(-curvature) for u_i in u]


def hyperboloid_problem(points, weights, curvature):
    """Ambient points as they are: where the hyperboloid moves with the curvature they stay."""
    return points, weights, -curvature


def hyperboloid_mean(u, curvature):
    """Ambient mean."""
    return lift(u, -curvature)


MODELS = {"ball": (ball_problem, ball_mean), "hyperboloid": (hyperboloid_problem, hyperboloid_mean)}


def reference_mean(model, points, weights, curvature, cotangent=None, digits=DIGITS):
    """Fréchet mean and the gradients of ``cotangent · mean``, from the exact values of the numbers given.

    Parameters
    ----------
    model : {"ball", "hyperboloid"}
    points : sequence of float, shape (n, d); on the hyperboloid (n, d + 1)
        There the distance to y is ``arcosh(K <x, y>) / sqrt(c)`` for every x near the hyperboloid, on it or not.
    weights : sequence of float, shape (n,)
    curvature : float
    cotangent : sequence of float, shape of the mean, optional
        Without it there are no gradients.
    digits : int

    Returns
    -------
    mean : list of mpmath.mpf
    gradients : list of lists for the points, list for the weights, one number for the curvature
        Or None.
    """
    as_problem, as_mean = MODELS[model]
    with mp.workdps(digits):
        points = [[mpf(float(x_i)) for x_i in x] for x in points]
        weights, curvature = [mpf(float(w)) for w in weights], mpf(float(curvature))
        u, inverse = solve(as_problem(points, weights, curvature))
        mean = as_mean(u, curvature)
        if cotangent is None:
            return mean, None
        cotangent = [mpf(float(g)) for g in cotangent]

        def loss(points, weights, curvature):
            near = solve_nearby(as_problem(points, weights, curvature), u, inverse)
            return dot(cotangent, as_mean(near, curvature))

        def derivative(changed):
            return (loss(*changed(STEP)) - loss(*changed(-STEP))) / (2 * STEP)

        def other_point(k, i, h):
            row = [*points[k][:i], points[k][i] + h, *points[k][i + 1 :]]
            return [*points[:k], row, *points[k + 1 :]], weights, curvature

        def other_weight(k, h):
            return points, [*weights[:k], weights[k] + h, *weights[k + 1 :]], curvature

        by_points = [
            [derivative(lambda h, k=k, i=i: other_point(k, i, h)) for i in range(len(x))]
            for k, x in enumerate(points)
        ]
        by_weights = [derivative(lambda h, k=k: other_weight(k, h)) for k in range(len(weights))]
        return mean, (by_points, by_weights, derivative(lambda h: (points, weights, curvature + h)))
