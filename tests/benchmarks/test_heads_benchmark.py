"""`python -m benchmarks heads`: what it prints, at a size that takes no time."""

import json

from benchmarks import heads


def test_heads_on_features_are_timed_against_the_body(capsys):
    heads.main(["--net", "shufflenet_v2_x0_5", "--trials", "8", "--timed", "1", "--images", "100", "--epochs", "1"])
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == 8
    assert found["loop"] > found["heads"] > 0
    assert found["features"] > 0
