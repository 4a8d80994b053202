"""What must not pass in silence: scores of another shape, flows that diverge, odd times and counts, foreign points."""

import numpy as np
import pytest
import torch

from loupe.diffusion import discrete, reflected
from loupe.diffusion.discrete import Absorbing, LogLinearNoise, Uniform
from loupe.diffusion.reflected import VESDE, ReflectedSDE, flow, log_likelihood
from loupe.diffusion.reflected.flow import FIXED, METHODS

CUBE, NAN = ReflectedSDE(), float("nan")
TIMES = torch.tensor([0.2, 0.5, 0.9])
SHAPES = {
    "one point": lambda x: x[:1],
    "one channel": lambda x: x[:, :1],
    "more channels": lambda x: torch.cat([x, x], 1),
    "another axis": lambda x: x.unsqueeze(0),
    "a number for each point": lambda x: x.flatten(1)[:, 0],
    "a number": lambda x: x.sum(),
    "two": lambda x: (x, x),
}


def points(n=3):
    return torch.rand(n, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def inward(x, sigma):
    return 0.5 - x


def steps_of(method):
    return {"method": method, "steps": 9} if method in FIXED else {"method": method}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("sde", [CUBE, VESDE()], ids=["cube", "line"])
def test_scores_of_points_have_their_shape(name, sde):
    x, turn = points(), SHAPES[name]

    def score(x, sigma, labels=None):
        return turn(0.1 * x)

    labels = torch.zeros(3, dtype=torch.int64)
    sigma = torch.full((3,), 0.3, dtype=torch.float64)
    network = torch.nn.Module()
    network.forward = lambda inputs, sigma: turn(inputs)
    for call in (
        lambda: reflected.denoising_loss(score, x, sde, TIMES.double()),
        lambda: reflected.sample(score, sde, x.shape, steps=2),
        lambda: reflected.sample(score, sde, x.shape, steps=3, compat="official", correct=1),
        lambda: flow(score, sde, x),
        lambda: flow(score, sde, x, method="rk4", steps=2),
        lambda: log_likelihood(score, sde, x),
        lambda: log_likelihood(score, sde, x, noise_vectors=1, method="euler", steps=2),
        lambda: reflected.classifier_free(score, labels, 1.0, classes=2)(x, sigma),
        lambda: reflected.classifier_guided(score, lambda x, s: x.flatten(1).log_softmax(1), labels, 1.0)(
            x, sigma
        ),
        lambda: reflected.thresholded(score, "dynamic")(x, sigma),
        lambda: reflected.ScoreNetwork(network, sde)(x, sigma),
        lambda: reflected.euler_reflected(turn, 1.0, x, time=1.0, steps=2),
    ):
        with pytest.raises(ValueError, match="must have shape"):
            call()
    if sde is CUBE:
        with pytest.raises(ValueError, match="must have shape"):
            reflected.likelihood_bound(score, x, ReflectedSDE(1e-4), times=2)


@pytest.mark.parametrize("graph", [Absorbing(4), Uniform(4)], ids=["absorbing", "uniform"])
@pytest.mark.parametrize("cut", [slice(0, 1), slice(0, 2)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scores_of_tokens_have_their_shape(graph, cut, axis):
    x0, noise = torch.zeros(3, 5, dtype=torch.int64), LogLinearNoise()

    def score(x, total=None):
        whole = torch.zeros(*x.shape, graph.states)
        return whole[tuple(cut if k == axis else slice(None) for k in range(3))]

    calls = [
        lambda: discrete.score_entropy_loss(score, x0, graph, noise, TIMES),
        lambda: discrete.concrete_score_loss(score, x0, graph, noise, TIMES),
        lambda: discrete.likelihood_bound(score, x0, graph, noise, times=2),
        lambda: discrete.sample(score, graph, noise, (3, 5), steps=2),
        lambda: discrete.sample(score, graph, noise, (3, 5), steps=2, method="euler"),
        lambda: graph.reverse_rate(score(x0), x0),
        lambda: graph.denoise_probabilities(score(x0), x0, 0.3),
    ]
    if isinstance(graph, Absorbing):
        asked = torch.ones(5, dtype=torch.bool)
        calls += [
            lambda: discrete.masked_cross_entropy(score, x0, graph, noise, TIMES),
            lambda: discrete.d3pm_loss(score, x0, graph, 4, TIMES),
            lambda: discrete.first_hitting(score, graph, (3, 5)),
            lambda: discrete.any_order_nats(score, x0, graph, asked),
        ]
    if axis < 2:
        calls += [
            lambda: discrete.autoregressive_nats(score, x0, 3),
            lambda: discrete.sample_autoregressive(score, (3, 5), 3),
        ]
    for call in calls:
        with pytest.raises(ValueError, match=r"must have shape|must have as many"):
            call()


def test_noise_is_one_number_or_one_a_sequence():
    graph, x = Absorbing(4), torch.zeros(3, 5, dtype=torch.int64)
    for noise in (0.3, torch.tensor(0.3), TIMES):
        assert graph.corrupt(x, noise).shape == (3, 5)
    for noise in (torch.rand(2), torch.rand(5), torch.rand(3, 1), torch.rand(3, 5)):
        with pytest.raises(ValueError, match="one for each sequence"):
            graph.corrupt(x, noise)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("field", [NAN, float("inf"), 1e300], ids=str)
def test_flows_that_diverge_name_the_step_and_the_noise(method, field):
    for sde in (CUBE, VESDE()):
        with pytest.raises(RuntimeError, match=r"the flow .* (step|evaluation) \d+ .*sigma [\d.e+-]+"):
            flow(lambda x, sigma: x * field, sde, points(), **steps_of(method))
        with pytest.raises(RuntimeError, match=r"the flow .* (step|evaluation) \d+ .*sigma [\d.e+-]+"):
            log_likelihood(lambda x, sigma: x * field, sde, points(), **steps_of(method))


def test_the_step_that_is_named():
    def late(x, sigma):
        return torch.where(sigma.view(-1, 1, 1) < 0.1, NAN, 0.5 - x)

    with pytest.raises(RuntimeError, match=r"at step 6 .* sigma 0\.0794"):
        flow(late, CUBE, points(), method="euler", steps=9)
    with pytest.raises(RuntimeError, match=r"at step 5 "):
        flow(late, CUBE, points(), method="rk4", steps=9)
    # One point of many, and a divergence that is none.
    with pytest.raises(RuntimeError, match="not finite"):
        flow(lambda x, sigma: torch.cat([0 * x[:2], x[2:] * NAN]), CUBE, points())
    with pytest.raises(RuntimeError, match="not finite"):
        log_likelihood(lambda x, sigma: (x - x).abs().sqrt(), CUBE, points())
    for score in (lambda x, sigma: 0.1 * x.detach(), lambda x, sigma: torch.zeros_like(x)):
        with pytest.raises(ValueError, match="differentiable by x"):
            log_likelihood(score, CUBE, points())


@pytest.mark.parametrize(
    ("times", "match"),
    [
        ([1.0, 0.2, 0.5], "rise or fall"),
        ([1.0, 1.0, 0.0], "rise or fall"),
        ([0.5, 0.5], "rise or fall"),
        ([1.5, 0.0], r"lie in \[0, 1\]"),
        ([1.0, -0.1], r"lie in \[0, 1\]"),
        ([1.0, NAN], r"lie in \[0, 1\]"),
        ([1.0], "at least 2"),
        ([], "at least 2"),
        (torch.rand(2, 2), "at least 2"),
    ],
)
def test_odd_times(times, match):
    with pytest.raises(ValueError, match=match):
        flow(inward, CUBE, points(), times=times)
    if len(times) == 2 and not isinstance(times, torch.Tensor):
        with pytest.raises(ValueError, match=match):
            flow(inward, CUBE, points(), start=times[0], end=times[1])


@pytest.mark.parametrize("method", METHODS)
def test_empty_batches_ask_for_nothing(method):
    def never(x, sigma):
        raise AssertionError("nobody is there")

    for x in (points()[:0], points()[:, :0]):
        found = flow(never, CUBE, x, **steps_of(method))
        assert (found.x.shape, found.evaluations) == (x.shape, 0)
        assert flow(never, CUBE, x, times=[1.0, 0.5, 0.0], **steps_of(method)).x.shape == (3, *x.shape)
        found = log_likelihood(never, CUBE, x, **steps_of(method))
        assert (found.nats.shape, found.evaluations) == ((len(x),), 0)


@pytest.mark.parametrize(
    "turn", [lambda x: 255 * x, lambda x: x - 0.5, lambda x: x * NAN, lambda x: x + 1e-6 + x.amax()]
)
def test_points_that_are_not_in_the_cube(turn):
    x = turn(points())
    for call in (
        lambda: flow(inward, CUBE, x),
        lambda: log_likelihood(inward, CUBE, x),
        lambda: reflected.sample(inward, CUBE, x.shape, steps=2, start=x),
        lambda: reflected.denoising_loss(inward, x, CUBE),
    ):
        with pytest.raises(ValueError, match="must lie in the cube"):
            call()


def test_bytes_are_no_points():
    x = (255 * points()).byte()
    for sde in (CUBE, VESDE()):
        for call in (
            lambda sde=sde: flow(inward, sde, x),
            lambda sde=sde: reflected.sample(inward, sde, x.shape, steps=2, start=x),
        ):
            with pytest.raises(ValueError, match="floating-point numbers"):
                call()


@pytest.mark.parametrize("kind", [int, np.int64, np.uint16, np.int32, torch.tensor])
def test_whole_numbers_of_any_make(kind):
    noise, x0 = LogLinearNoise(), torch.zeros(2, 3, dtype=torch.int64)
    graph = Absorbing(kind(27))
    assert graph == Absorbing(27)
    assert repr(graph) == "Absorbing(tokens=27)"

    def score(x, total):
        return torch.zeros(*x.shape, 28)

    assert discrete.sample(score, graph, noise, (2, 3), steps=kind(2)).tokens.shape == (2, 3)
    assert discrete.likelihood_bound(score, x0, graph, noise, times=kind(2)).path.shape == (2,)
    assert reflected.sample(inward, CUBE, (2, 2), steps=kind(3)).shape == (2, 2)
    assert flow(inward, CUBE, points(), method="rk4", steps=kind(2)).x.shape == (3, 2, 2)


@pytest.mark.parametrize("value", [2.5, 2.0, True, "2", None, NAN])
def test_what_is_no_whole_number(value):
    for call in (
        lambda: Absorbing(value),
        lambda: Uniform(value),
        lambda: reflected.sample(inward, CUBE, (2, 2), steps=value),
        lambda: discrete.sample(None, Absorbing(3), LogLinearNoise(), (2, 3), steps=value),
        lambda: reflected.likelihood_bound(inward, points(), ReflectedSDE(1e-4), times=value),
    ):
        with pytest.raises(ValueError, match="whole number"):
            call()
