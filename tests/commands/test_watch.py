"""``loupe watch`` reads what runs write while they write it."""

from loupe.cli.watch import rows_of
from loupe.training import Training, train


def test_the_latest_whole_line_of_each_run_is_shown(tmp_path):
    import torch

    x = torch.randn(32, 2)
    train(torch.nn.Linear(2, 1), lambda net, batch, generator: net(batch[0]).square().mean(), (x,),
          Training(steps=6, batch=8, evaluations=2), work=tmp_path / "cpu/toy/walk-s0.ab/net",
          evaluate=lambda net: {"error": 0.25})  # fmt: skip
    with open(tmp_path / "cpu/toy/walk-s0.ab/net.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 7, "lo')  # the line that is being written
    (tmp_path / "empty.jsonl").touch()
    ((name, step, loss, rate, gradient, rest, age),) = rows_of(tmp_path)
    assert (name, step, rate, rest) == ("cpu/toy/walk-s0.ab/net", "6 of 6", "0.001", "error 0.25")
    assert float(loss) > 0
    assert float(gradient) > 0
    assert age.endswith(" s ago")
    assert rows_of(tmp_path / "gone") == []
