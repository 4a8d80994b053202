"""What a GPU computes is what a processor computes: the loop, half precision, compiled networks, and each method."""

import copy

import pytest
import torch

from loupe.diffusion import bridges
from loupe.diffusion.discrete import Absorbing, Denoiser
from loupe.diffusion.reflected import ReflectedSDE, ScoreNetwork, denoising_loss, kernel_score
from loupe.dynamics import EGNO, charged_windows
from loupe.geometry import PoincareBall, frechet_mean
from loupe.networks.transformer import Transformer
from loupe.networks.unet import make_unet
from loupe.training import Batches, fit

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA on this machine: nothing was compared with a GPU"
    ),
]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def trained(device, precision="32-true"):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = x.sin().sum(1, keepdim=True)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))

    def loss(network, batch, generator):
        return (network(batch[0]) - batch[1]).float().square().mean()

    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    run = fit(net, loss, Batches(x, y, size=32), optimizer, steps=50, device=device, precision=precision)
    return run.losses.cpu()


def test_the_loop():
    torch.testing.assert_close(trained("cuda"), trained("cpu"), **CLOSE)
    assert torch.equal(trained("cuda"), trained("cuda"))


def test_the_loop_in_half_precision():
    half, whole = trained("cuda", "bf16-mixed"), trained("cuda")
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0.02)


def transformer():
    torch.manual_seed(0)
    net = Denoiser(Transformer(28, width=64, heads=4, blocks=2, condition=0), Absorbing(tokens=27)).eval()
    return net, lambda count: (torch.randint(28, (count, 32)), torch.full((count,), 0.5))


def unet():
    torch.manual_seed(0)
    net = ScoreNetwork(make_unet(channels=1, width=16, size=16), ReflectedSDE()).eval()
    return net, lambda count: (torch.rand(count, 1, 16, 16), torch.rand(count) + 0.1)


@pytest.mark.parametrize("make", [transformer, unet])
@pytest.mark.parametrize("compiled", [False, True])
def test_networks_over_several_sizes(make, compiled):
    net, draw = make()
    there = copy.deepcopy(net).cuda()
    if compiled:
        torch.compiler.reset()
        there.compile()
    for count in (4, 4, 7, 3, 8):
        inputs = draw(count)
        with torch.no_grad():
            torch.testing.assert_close(
                there(*(one.cuda() for one in inputs)).cpu(), net(*inputs), rtol=1e-3, atol=1e-4
            )


def test_neural_operator():
    windows = charged_windows("train", 4)
    torch.manual_seed(0)
    net = EGNO(windows.node_features, windows.edge_features, width=16, layers=2).eval()
    x, v, _, *known = windows.tensors()
    x, v, graph = x.flatten(0, 1), v.flatten(0, 1), windows.graph(len(windows))
    features, edges = windows.features(x, v, graph, *known)
    inputs = (x, v, features, graph, edges)
    there = copy.deepcopy(net).cuda()(*(one.cuda() for one in inputs))
    torch.testing.assert_close(there.cpu(), net(*inputs), rtol=1e-3, atol=1e-4)


def test_frechet_mean_and_its_gradient():
    points = PoincareBall().random(8, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    found = []
    for device in ("cpu", "cuda"):
        mine = points.to(device).requires_grad_()
        mean = frechet_mean(mine, manifold=PoincareBall())
        mean.square().sum().backward()
        found += [(mean.detach().cpu(), mine.grad.cpu())]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_reflected_kernel_and_loss():
    sde, x0 = ReflectedSDE(), torch.rand(64, 3, dtype=torch.float64)
    x, sigma = torch.rand(64, 3, dtype=torch.float64), torch.rand(64, dtype=torch.float64) + 0.05
    torch.testing.assert_close(
        kernel_score(x.cuda(), x0.cuda(), sigma.cuda()).cpu(), kernel_score(x, x0, sigma)
    )
    loss = denoising_loss(lambda x, s: -x, x0.cuda(), sde, torch.full((64,), 0.5).cuda())
    assert loss.isfinite().all()


@pytest.mark.parametrize("bridge", [bridges.VEBridge(), bridges.VPBridge()])
@pytest.mark.parametrize("guidance", [1.0, torch.tensor([1.0, 0.5, 0.0, 1.0])])
def test_bridges(bridge, guidance):
    generator = torch.Generator().manual_seed(0)
    x0, y, around, *noise = torch.randn(8, 4, 3, generator=generator)
    brownian, case = bridges.BrownianBridge(), bridges.Preconditioning(bridge)

    def computed(device):
        here, there, z = (each.to(device) for each in (x0, y, around))
        known = bridges.TwoModePair().denoiser(bridge)
        options = {"steps": 5, "noise": torch.stack(noise).to(device), "guidance": guidance}
        t = torch.tensor([0.1, 0.2, 0.5, 0.9], dtype=torch.float64, device=device)
        net = lambda x, *other: x.tanh() * other[-1].view(-1, 1)  # noqa: E731
        return [each.cpu() for each in (
            bridges.bridge_sample(known, there, bridge, **options).samples,
            bridges.bridge_loss(net, here, there, case, t=t, noise=z),
            bridges.i2sb_loss(net, here, there, brownian, t=t, noise=z),
            bridges.i2sb_sample(lambda x, t: net(x, t) * 0 + x, there, brownian, steps=1).samples,
            bridges.rectified_flow_sample(net, there, steps=5).samples,
        )]  # fmt: skip

    torch.testing.assert_close(computed("cuda"), computed("cpu"), rtol=1e-3, atol=1e-4)
