"""The simulators against loops written from the recipes, closed forms, and what physics conserves."""

import math

import numpy as np
import pytest
import torch

from loupe.dynamics import (
    draw_charged,
    draw_gravity,
    draw_springs,
    integration,
    last_frames,
    simulate_charged,
    simulate_gravity,
    simulate_springs,
    uniform_frames,
)

CALM = 0.2  # pairs that stay farther apart than this are no close encounter


# ---- the recipes, one system and one particle at a time


def charged_force(x, charges):
    force = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                away = x[i] - x[j]
                force[i] += charges[i] * charges[j] * away / np.linalg.norm(away) ** 3
    return np.clip(force, -100, 100)


def spring_force(x, couplings):
    force = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            force[i] -= 0.1 * couplings[i, j] * (x[i] - x[j])
    return np.clip(force, -100, 100)


def attraction(x, masses, softening=0.1):
    acceleration = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            towards = x[j] - x[i]
            acceleration[i] += masses[j] * towards / (towards @ towards + softening**2) ** 1.5
    return acceleration


def reference(force, x, v, steps, save_every, step=1e-3):
    x, v, frames = x.copy(), v.copy(), []
    v += step * force(x)
    for i in range(1, steps):
        x += step * v
        if i % save_every == 0:
            frames.append((x.copy(), v.copy()))
        v += step * force(x)
    return as_frames(frames)


def reference_leapfrog(force, x, v, steps, save_every, step=1e-3):
    x, v, frames = x.copy(), v.copy(), []
    for i in range(steps):
        if i % save_every == 0:
            frames.append((x.copy(), v.copy()))
        v += step / 2 * force(x)
        x += step * v
        v += step / 2 * force(x)
    return as_frames(frames)


def as_frames(frames):
    return np.array([x for x, _ in frames]), np.array([v for _, v in frames])


def deviation(found, wanted):
    return max(
        np.abs(np.asarray(each) - np.asarray(its)).max() for each, its in zip(found, wanted, strict=True)
    )


def distances(positions):
    """Of all pairs, shape (..., N (N - 1) / 2)."""
    first, second = np.triu_indices(positions.shape[-2], 1)
    return (positions[..., first, :] - positions[..., second, :]).norm(dim=-1)


def calm(count, steps=1000, **options):
    """Charged systems without close encounters during so many steps."""
    states = draw_charged(4 * count, **options)
    closest = distances(simulate_charged(*states, steps=steps + 1, save_every=5)[0]).amin(dim=(1, 2))
    chosen = torch.minimum(closest, distances(states[0]).amin(1)) > CALM + 0.05
    assert chosen.sum() >= count
    return [each[chosen][:count] for each in states]


def rotation(seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return torch.from_numpy(q)


# ---- the recipes


@pytest.mark.parametrize("particles", [2, 3, 4, 5, 8])
def test_charged_follows_the_recipe(particles):
    states = draw_charged(6, particles, seed=particles)
    found = simulate_charged(*states, steps=21, save_every=1)
    assert found[0].shape == found[1].shape == (6, 20, particles, 3)
    assert found[0].dtype == found[1].dtype == torch.float64
    for system in range(6):
        x, v, q = (each[system].numpy() for each in states)
        wanted = reference(lambda at, q=q: charged_force(at, q), x, v, 21, 1)
        assert deviation((found[0][system], found[1][system]), wanted) < 1e-12


@pytest.mark.parametrize("steps", [28, 29, 30])
def test_which_states_are_saved(steps):
    states = draw_charged(1, seed=3)
    x, v, q = (each[0].numpy() for each in states)
    wanted = reference(lambda at: charged_force(at, q), x, v, steps, 7)
    found = simulate_charged(*states, steps=steps, save_every=7)
    assert found[0].shape[1] == len(wanted[0]) == (3 if steps == 28 else 4)  # 28 is not below 28
    assert deviation([each[0] for each in found], wanted) < 1e-12
    every = simulate_charged(*states, steps=steps, save_every=1)
    for some, all_ in zip(found, every, strict=True):
        assert torch.equal(some, all_[:, 6::7])
    # A saved velocity led to the saved position.
    x, v = every
    torch.testing.assert_close(x[:, 1:] - x[:, :-1], 1e-3 * v[:, 1:], rtol=0, atol=1e-15)


def test_frames_of_the_published_sets():
    positions, velocities, charges = draw_charged(2, seed=1)
    free = simulate_charged(positions, velocities, 0 * charges)
    assert free[0].shape == (2, 49, 5, 3)
    times = 0.1 * torch.arange(1, 50, dtype=torch.float64)[:, None, None]
    straight = positions[:, None] + times * velocities[:, None]
    torch.testing.assert_close(free[0], straight, rtol=0, atol=1e-12)
    torch.testing.assert_close(free[1], velocities[:, None].expand_as(free[1]), rtol=1e-14, atol=0)
    # Frame 40, the last that is used, follows 4,100 updates.
    assert torch.equal(simulate_charged(positions, velocities, 0 * charges, steps=4101)[0], free[0][:, :41])
    assert simulate_charged(positions, velocities, charges, steps=1)[0].shape == (2, 0, 5, 3)


def test_the_force_is_cut_off():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 3))
    x[:, 1] = x[:, 0] + [0.03, -0.02, 0.05]
    x[:, 2] = x[:, 0] + [-0.06, 0.01, 0.02]
    v = 0.5 * rng.standard_normal((3, 5, 3))
    q = np.ones((3, 5))
    assert all(np.abs(charged_force(*each)).max() == 100 for each in zip(x, q, strict=True))
    found = simulate_charged(x, v, q, steps=21, save_every=1)
    for system in range(3):
        wanted = reference(lambda at: charged_force(at, np.ones(5)), x[system], v[system], 21, 1)
        assert deviation((found[0][system], found[1][system]), wanted) < 1e-12
    assert (found[1][:, 0] - torch.from_numpy(v)).abs().max() <= 0.1 + 1e-15
    # One step at the bound is a tenth of the unit of speed, and another time step has the same bound of force.
    short = simulate_charged(x, v, q, steps=2, save_every=1, step=1e-4)[1][:, 0] - torch.from_numpy(v)
    torch.testing.assert_close(10 * short, found[1][:, 0] - torch.from_numpy(v), rtol=0, atol=1e-13)


def test_springs_follow_the_recipe():
    states = draw_springs(4, seed=2)
    couplings = states[2] * torch.rand(
        4, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    found = simulate_springs(*states[:2], couplings, steps=101, save_every=25)
    for system in range(4):
        x, v, e = (each[system].numpy() for each in (*states[:2], couplings))
        wanted = reference(lambda at, e=e: spring_force(at, e), x, v, 101, 25)
        assert deviation((found[0][system], found[1][system]), wanted) < 1e-12


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "masses"])
def test_gravity_follows_the_recipe(unit):
    x, v = draw_gravity(3, 6, seed=4)
    masses = torch.ones(3, 6) if unit else torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) + 0.2
    found = simulate_gravity(x, v, None if unit else masses, steps=61, save_every=20)
    assert found[0].shape == (3, 4, 6, 3)
    for system in range(3):
        m = masses[system].double().numpy()
        wanted = reference_leapfrog(
            lambda at, m=m: attraction(at, m), x[system].numpy(), v[system].numpy(), 61, 20
        )
        assert deviation((found[0][system], found[1][system]), wanted) < 1e-12
    # The first frame is the initial state, and the state after the last step is not saved.
    torch.testing.assert_close(found[1][:, 0], v, rtol=1e-15, atol=0)
    assert torch.equal(found[0][:, 0], x)
    assert simulate_gravity(x, v, steps=60, save_every=20)[0].shape[1] == 3
    assert simulate_gravity(x, v)[0].shape[1] == 50


# ---- physics


def test_momentum_is_conserved():
    for trajectory in (
        simulate_charged(*calm(50, seed=6), steps=1001),
        simulate_springs(*draw_springs(50), steps=1001),
        simulate_gravity(*draw_gravity(50), steps=1001),
    ):
        momentum = trajectory[1].sum(dim=2)
        assert (momentum - momentum[:, :1]).abs().max() < 1e-12
    masses = torch.linspace(0.5, 2, 200, dtype=torch.float64).reshape(20, 10, 1)
    momentum = (masses[:, None] * simulate_gravity(*draw_gravity(20), masses, steps=501)[1]).sum(dim=2)
    assert (momentum - momentum[:, :1]).abs().max() < 1e-12


def charged_energy(positions, velocities, charges):
    first, second = np.triu_indices(positions.shape[-2], 1)
    products = charges[:, first, 0] * charges[:, second, 0]
    return velocities.square().sum(dim=(-2, -1)) / 2 + (products[:, None] / distances(positions)).sum(-1)


def energy_drifts(states, step):
    """Largest change of energy in the time of 1000 steps, over the sum of all its parts without their signs."""
    steps = round(1 / step)
    x, v = simulate_charged(*states, steps=steps + 1, save_every=steps // 50, step=step)
    start = charged_energy(states[0][:, None], states[1][:, None], states[2])
    scale = states[1].square().sum(dim=(-2, -1)) / 2 + (1 / distances(states[0])).sum(-1)
    return (charged_energy(x, v, states[2]) - start).abs().amax(1) / scale


def test_energy():
    states = calm(100, seed=7)
    whole, half, quarter = (energy_drifts(states, step) for step in (1e-3, 5e-4, 2.5e-4))
    assert whole.max() < 0.01
    # Saved velocities are half a step late: an error of first order.
    assert (whole / half > 1.9).all()
    assert (whole / half < 2.1).all()
    assert (half / quarter).median() == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("masses", [None, (3.0, 0.5)], ids=["equal", "unequal"])
def test_two_bodies_on_a_circle(masses):
    distance, softening = 0.8, 0.1
    first, second = masses or (1.0, 1.0)
    total = first + second
    rate = math.sqrt(total / (distance**2 + softening**2) ** 1.5)
    radii = torch.tensor([[second], [-first]], dtype=torch.float64) * distance / total

    def at(time):
        return radii * torch.stack([(rate * time).cos(), (rate * time).sin(), 0 * time], dim=-1)[..., None, :]

    def speed(time):
        return (
            rate
            * radii
            * torch.stack([-(rate * time).sin(), (rate * time).cos(), 0 * time], -1)[..., None, :]
        )

    zero = torch.zeros(1, dtype=torch.float64)
    given = None if masses is None else torch.tensor([masses])
    errors = []
    for step in (2e-3, 1e-3):
        every = round(0.2 / step)
        x, v = simulate_gravity(at(zero), speed(zero), given, steps=25 * every, save_every=every, step=step)
        time = 0.2 * torch.arange(25, dtype=torch.float64)
        errors.append(max((x[0] - at(time)).abs().max().item(), (v[0] - speed(time)).abs().max().item()))
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.1)


# ---- symmetries and reproducibility


SIMULATIONS = [
    (simulate_charged, lambda: calm(12, seed=10)),
    (simulate_springs, lambda: draw_springs(12, seed=10)),
    (simulate_gravity, lambda: (*draw_gravity(12, 5, seed=10), torch.linspace(0.5, 2, 60).reshape(12, 5))),
]
simulations = pytest.mark.parametrize(
    ("simulate", "draw"), SIMULATIONS, ids=["charged", "springs", "gravity"]
)


@simulations
def test_symmetries(simulate, draw):
    positions, velocities, third = draw()
    x, v = simulate(positions, velocities, third, steps=501)
    turn = rotation()
    shift = torch.tensor([5.0, -3, 1], dtype=torch.float64)
    moved = simulate(positions @ turn + shift, velocities @ turn, third, steps=501)
    assert deviation(moved, (x @ turn + shift, v @ turn)) < 1e-10
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = third[:, order][:, :, order] if simulate is simulate_springs else third[:, order]
    permuted = simulate(positions[:, order], velocities[:, order], renamed, steps=501)
    assert deviation(permuted, (x[:, :, order], v[:, :, order])) < 1e-10
    backwards = simulate(positions.flip(0), velocities.flip(0), third.flip(0), steps=501)
    assert torch.equal(backwards[0], x.flip(0))
    assert torch.equal(backwards[1], v.flip(0))


@simulations
def test_no_system_knows_which_others_are_simulated(simulate, draw, monkeypatch):
    states = draw()
    together = simulate(*states, steps=301)
    some = torch.tensor([7, 2, 11])
    alone = simulate(*(each[some] for each in states), steps=301)
    monkeypatch.setattr(integration, "PIECE", 50)  # five systems of ten pairs at a time
    pieces = simulate(*states, steps=301)
    for whole, few, same in zip(together, alone, pieces, strict=True):
        assert torch.equal(whole[some], few)
        assert torch.equal(whole, same)


@simulations
def test_arguments_of_every_form(simulate, draw):
    states = draw()
    kept = [each.clone() for each in states]
    wanted = simulate(*states, steps=11, save_every=5)
    simulate(*(each[:1] for each in states), steps=11, save_every=5)
    assert all(torch.equal(each, before) for each, before in zip(states, kept, strict=True))
    arrays = [each.numpy() for each in states]
    for array in arrays:
        array.flags.writeable = False
    for given in (
        arrays,
        [each.clone().requires_grad_() for each in states],
        [each.tolist() for each in states],
    ):
        found = simulate(*given, steps=11, save_every=5)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])
        assert found[0].is_contiguous()
        assert not found[0].requires_grad
    single = [each.float() for each in states]
    again = simulate(*single, steps=11, save_every=5)
    exact = simulate(*(each.double() for each in single), steps=11, save_every=5)
    assert torch.equal(again[0], exact[0])


@pytest.mark.parametrize(("systems", "particles"), [(0, 5), (3, 1)])
def test_nobody_and_nothing_to_meet(systems, particles):
    positions, velocities, charges = draw_charged(systems, particles)
    couplings = torch.zeros(systems, particles, particles)
    for found in (
        simulate_charged(positions, velocities, charges, steps=11, save_every=5),
        simulate_springs(positions, velocities, couplings, steps=11, save_every=5),
        simulate_gravity(positions, velocities, steps=11, save_every=5),
    ):
        assert found[0].shape[0] == systems
        torch.testing.assert_close(found[0][:, -1], positions + 0.01 * velocities, rtol=0, atol=1e-15)


# ---- bad input


@pytest.fixture
def states():
    return [each.numpy() for each in draw_charged(4, seed=12)]


EVERY = [simulate_charged, simulate_springs, simulate_gravity]


def third_argument(simulate, charges):
    return np.zeros((len(charges), 5, 5)) if simulate is simulate_springs else np.abs(charges)


@pytest.mark.parametrize("simulate", EVERY)
def test_shapes(simulate, states):
    x, v, q = states
    third = third_argument(simulate, q)
    with pytest.raises(ValueError, match=r"positions must have shape .* got \(5, 3\); .*\[None\]"):
        simulate(x[0], v[0], third[0])
    for wrong in (x[..., :2], x[:, :0]):
        with pytest.raises(ValueError, match="positions must have shape"):
            simulate(wrong, wrong, third)
    with pytest.raises(ValueError, match=r"velocities must have the shape of positions, \(4, 5, 3\), got"):
        simulate(x, v[:3], third)
    with pytest.raises(ValueError, match=r"must have shape \(4, 5, .*got \(4, 4"):
        simulate(x, v, third[:, :4])
    with pytest.raises(ValueError, match=r"must have shape \(4, 5, .*got \(3, 5"):
        simulate(x, v, third[:3])


@pytest.mark.parametrize("simulate", EVERY)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite(simulate, value, states):
    names = ["positions", "velocities", {simulate_charged: "charges", simulate_springs: "couplings"}]
    names[2] = names[2].get(simulate, "masses")
    given = [*states[:2], third_argument(simulate, states[2])]
    for place, name in enumerate(names):
        bad = [each.copy() for each in given]
        bad[place][2, 1] = bad[place][3, 0] = value
        with pytest.raises(ValueError, match=f"{name} must be finite, but system 2 holds NaN or infinity"):
            simulate(*bad)


@pytest.mark.parametrize("gap", [0, 1e-120])
def test_particles_at_one_place(gap, states):
    x, v, q = (each.copy() for each in states)
    x[2, 1] = 0
    x[2, 4] = [gap, 0, 0]
    for simulate in (
        simulate_charged,
        lambda *given, **more: simulate_gravity(*given[:2], softening=0, **more),
    ):
        with pytest.raises(
            ValueError, match=r"particles 1 and 4 of system 2 lie at one place.*move one of them"
        ):
            simulate(x, v, q)
    # Springs and softened masses can be there.
    simulate_springs(x, v, np.ones((4, 5, 5)), steps=3)
    simulate_gravity(x, v, steps=3)


def test_particles_that_meet(monkeypatch):
    """Two that fly at each other on one line, through one place: said at the end, with the number of the system."""
    monkeypatch.setattr(integration, "PIECE", 1)
    far = torch.tensor([[[-1.0, 0, 0], [1, 0, 0]]], dtype=torch.float64).repeat(3, 1, 1)
    velocities = torch.zeros(3, 2, 3, dtype=torch.float64)
    charges = torch.zeros(3, 2)
    velocities[1, :, 0] = torch.tensor([1.0, -1])
    with pytest.raises(ValueError, match=r"system 1 left the range of float64.*met at one place"):
        simulate_charged(far, velocities, charges, steps=9, save_every=1, step=0.25)


@pytest.mark.parametrize("value", [0, -3, 2.5, math.nan])
@pytest.mark.parametrize("name", ["steps", "save_every"])
@pytest.mark.parametrize("simulate", EVERY)
def test_counts(simulate, name, value, states):
    with pytest.raises(ValueError, match=f"{name} must be a positive whole number, got {value}"):
        simulate(*states[:2], third_argument(simulate, states[2]), **{name: value})


def uneven(x):
    couplings = np.zeros((4, 5, 5))
    couplings[1, 0, 3] = 1
    return couplings


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, v, q: simulate_charged(x, v, q, step=0), "step must be a time above 0, got 0"),
        (lambda x, v, q: simulate_charged(x, v, q, step=-1e-3), "step must be a time above 0, got -0.001"),
        (lambda x, v, q: simulate_charged(x, v, q, step=math.nan), "step must be a time above 0, got nan"),
        (lambda x, v, q: simulate_charged(x, v, q, step=math.inf), "step must be a time above 0, got inf"),
        (lambda x, v, q: simulate_springs(x, v, uneven(x)), "couplings of system 1 are not symmetric"),
        (
            lambda x, v, q: simulate_springs(x, v, 0 * uneven(x), strength=math.nan),
            "strength must be a finite number, got nan",
        ),
        (lambda x, v, q: simulate_gravity(x, v, q - 1), "masses must be above 0, got -2 in system"),
        (lambda x, v, q: simulate_gravity(x, v, softening=-0.1), "softening must be .* got -0.1"),
        (lambda x, v, q: simulate_gravity(x, v, softening=math.nan), "softening must be .* got nan"),
        (lambda x, v, q: draw_charged(-1), "count must be a whole number of at least 0, got -1"),
        (lambda x, v, q: draw_springs(3, 0), "particles must be a positive whole number, got 0"),
        (lambda x, v, q: draw_gravity(3, 0), "particles must be a positive whole number, got 0"),
        (
            lambda x, v, q: draw_charged(3, seed=np.random.default_rng(0), legacy_rng=True),
            "legacy_rng=True needs an int as seed, got a Generator",
        ),
        (lambda x, v, q: uniform_frames(0, 3, 5), "slices must be from 1 to the distance of 3 frames, got 5"),
        (lambda x, v, q: last_frames(0, 3, 5), "slices must be from 1 to the distance of 3 frames, got 5"),
        (lambda x, v, q: last_frames(0, 10, 0), "positive whole number, got 0"),
        (lambda x, v, q: uniform_frames(0, 0, 1), "positive whole number, got 0"),
    ],
    ids=range(17),
)
def test_numbers_that_cannot_be(call, message, states):
    with pytest.raises(ValueError, match=message):
        call(*states)


def test_frames():
    assert uniform_frames(0, 30, 4).tolist() == [7, 15, 22, 30]
    assert uniform_frames(30, 10, 5).tolist() == [32, 34, 36, 38, 40]
    assert last_frames(0, 10, 5).tolist() == [6, 7, 8, 9, 10]
    assert uniform_frames(7, 3, 1).tolist() == last_frames(7, 3, 1).tolist() == [10]
    starts = np.array([[0, 5], [9, 2]], dtype=np.int32)
    for given in (starts, torch.from_numpy(starts)):
        assert last_frames(given, 6, 3)[1, 0].tolist() == [13, 14, 15]
        assert uniform_frames(given, 6, 3).shape == (2, 2, 3)
