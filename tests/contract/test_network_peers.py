"""torchvision, which builds the same networks on its own, judges ours: size, dropout, depth."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")


@pytest.mark.parametrize("name", [f"efficientnet_b{number}" for number in range(8)])
def test_every_efficientnet_b_has_the_parameters_and_the_dropout_of_torchvisions(name: str) -> None:
    from torchvision.models import get_model  # noqa: PLC0415 - after the skip

    from ai_engine.networks import Architecture, build_network  # noqa: PLC0415 - after the skip

    with torch.device("meta"):
        ours = build_network(Architecture(name.replace("_", "-")), 1000, channels=3)
        theirs = get_model(name, weights=None)
    shapes = [sorted(tuple(p.shape) for p in each.parameters()) for each in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert ours.dropout.p == theirs.classifier[0].p
    rates = [block.drop_connect_rate for stack in ours.backbone._blocks for block in stack]
    published = [block.stochastic_depth.p for stack in theirs.features[1:-1] for block in stack]
    assert rates == pytest.approx(published)
