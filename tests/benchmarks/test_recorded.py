"""The head of every benchmark's table comes from the file that pytest-benchmark wrote."""

import json

import recorded


def test_rows_keep_their_own_seconds_and_the_host_is_that_of_the_file(tmp_path):
    own = {"host": "m, s", "versions": {"numpy": "2.0", "scipy": "1.9"}}
    content = {
        "machine_info": {"cpu": {"brand_raw": "CPU"}},
        "benchmarks": [
            {"stats": {"median": 1.5}, "extra_info": own},
            {"stats": {"median": 2.5}, "extra_info": {**own, "seconds": {"with": 3}}},
        ],
    }
    (tmp_path / "b.json").write_text(json.dumps(content))
    rows, said = recorded.rows_and_host(str(tmp_path / "b.json"))
    assert [row["seconds"] for row in rows] == [1.5, {"with": 3}]
    assert said == "Host: CPU, m, s; one thread.  Versions: numpy 2.0, scipy 1.9"
