"""The parts of the benchmark that only compute: medians, ratios, bars, tables, the plot."""

from __future__ import annotations

import asyncio
import json
from xml.etree import ElementTree

import pytest
from bench.bars import BARS, Bar, Verdict, _judge, judge, served_value
from bench.contenders.zarpar import recap_changed
from bench.plot import Axis, draw
from bench.relay import Relay
from bench.results import Results, Sample, summarize
from bench.served import read_wrk
from bench.table import bar_table, grid, phase_tables, problems
from bench.visitors import percentile

WRK = """\
Running 5s test @ http://127.0.0.1:80/hello
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.01ms    1.20ms  19.90ms   80.00%
    Req/Sec     8.00k   300.00     9.00k    70.00%
  Latency Distribution
     50%    3.85ms
     75%    4.50ms
     90%    5.20ms
     99%    1.05s
  40000 requests in 5.00s, 7.00MB read
Requests/sec:   7999.50
Transfer/sec:      1.40MB
"""


def sample(
    phase: str, contender: str, seconds: float, *, delay: int = 0, changed: int = 0, problem: str = ""
) -> Sample:
    return Sample(phase, contender, delay, 0, seconds, 1.0, 50.0, changed, problem)


def results(*samples: Sample) -> Results:
    return Results(list(samples))


def test_a_summary_is_the_median_of_what_counts() -> None:
    found = results(
        sample("release", "shell", 3),
        sample("release", "shell", 1),
        sample("release", "shell", 2, changed=4),
        sample("release", "shell", 0.1, problem="exit code 1"),
        sample("release", "shell", 9, delay=40),
    ).summary("release", "shell", 0)
    assert found is not None
    assert (found.count, found.seconds, found.least, found.most, found.changed) == (3, 2, 1, 3, 4)
    assert summarize([]) is None


def test_a_ratio_needs_both() -> None:
    found = results(sample("release", "shell", 2), sample("release", "zarpar", 3))
    assert found.ratio("release", "zarpar", "shell", 0) == 1.5
    assert found.ratio("release", "zarpar", "pyinfra", 0) is None


@pytest.mark.parametrize(("seconds", "fine"), [(2.2, True), (2.3, False)])
def test_a_bar_is_a_ratio(seconds: float, fine: bool) -> None:
    found = results(sample("release", "zarpar", seconds), sample("release", "shell", 2))
    verdict = _judge(Bar("release", "zarpar", "shell", 1.1), found)
    assert verdict.fine is fine
    assert verdict.word == ("pass" if fine else "FAIL")


def test_a_bar_can_refer_to_another_phase() -> None:
    found = results(sample("fleet-5", "zarpar", 5), sample("fleet-1", "zarpar", 2))
    assert _judge(Bar("fleet-5", "zarpar", "zarpar", 2.5, 0, "fleet-1"), found) == Verdict(
        "fleet-5: zarpar <= 2.5 x zarpar (fleet-1)", 2.5, True
    )


def test_what_was_not_measured_is_neither_pass_nor_fail() -> None:
    verdicts = judge(results())
    assert len(verdicts) > len(BARS)
    assert {verdict.word for verdict in verdicts} == {"not measured"}


def test_a_run_with_nothing_to_do_must_change_nothing() -> None:
    for changed, word in ((0, "pass"), (1, "FAIL")):
        verdicts = judge(results(sample("nothing", "zarpar-ansible", 1, changed=changed)))
        assert [each.word for each in verdicts if each.text.endswith("changes 0")] == [word]


def test_served_bars() -> None:
    found = results()
    for configuration, value in (("lesson", 100.0), ("zarpar", 140.0), ("zarpar", 120.0)):
        found.served.append({"configuration": configuration, "what": "dynamic requests/s", "value": value})
    assert served_value(found.served, "zarpar", "dynamic requests/s") == 130
    words = {verdict.text: verdict.word for verdict in judge(found)}
    assert words["served, dynamic requests/s: zarpar >= 1.3 x lesson"] == "pass"


def test_a_grid_is_markdown() -> None:
    assert grid(["name", "s"], [["shell", "1.0"], ["zarpar", "12.0"]]).splitlines() == [
        "| name   |    s |",
        "| ------ | ---- |",
        "| shell  |  1.0 |",
        "| zarpar | 12.0 |",
    ]


def test_tables_tell_failures() -> None:
    found = results(sample("fresh", "shell", 20), sample("fresh", "mitogen", 3, problem="no python3-apt"))
    text = phase_tables(found)
    assert "fresh, 0 ms added" in text
    assert "| mitogen   | not measured |" in text
    assert problems(found) == ["fresh mitogen at 0 ms, round 1: no python3-apt"]


def test_the_table_of_bars_counts_what_is_missing() -> None:
    text = bar_table([Verdict("one", 1.5, True), Verdict("two", 3.0, False), Verdict("three", None, None)])
    assert text.splitlines()[2:] == [
        "| one |    1.50 |   pass |",
        "| two |    3.00 |   FAIL |",
        "",
        "1 bars were not measured",
    ]


def test_results_are_plain_data() -> None:
    found = results(sample("fresh", "shell", 20))
    assert json.loads(json.dumps(found.plain()))["samples"][0]["seconds"] == 20


def test_the_axis_is_logarithmic() -> None:
    axis = Axis(0.1, 100)
    assert axis.marks() == pytest.approx([0.1, 1, 10, 100])
    steps = [axis.place(mark) for mark in axis.marks()]
    assert steps[1] - steps[0] == pytest.approx(steps[3] - steps[2])


GROWN = [("fleet-1", "zarpar", 3.0), ("fleet-10", "zarpar", 12.0), ("growth-apps-50", "zarpar", 4.0)]


@pytest.mark.parametrize("samples", [[], [("nothing", "shell", 0.3), ("nothing", "zarpar", 2.0)], GROWN])
def test_the_plot_is_well_formed(samples: list[tuple[str, str, float]]) -> None:
    picture = draw(results(*(sample(*each) for each in samples)), "2 cores & 8 GB")
    bars = ElementTree.fromstring(picture).findall("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own text
    assert len(bars) == 1 + len(samples)
    if samples == GROWN:
        assert picture.count("number of web servers") == 1
        assert "number of hosts" not in picture


def test_what_wrk_says() -> None:
    assert read_wrk(WRK) == {"requests/s": 7999.5, "p50 ms": 3.85, "p99 ms": 1050.0}
    with pytest.raises(ValueError, match="not what wrk prints"):
        read_wrk("unable to connect")


def test_ansible_counts_changes_of_all_hosts() -> None:
    recap = "web1 : ok=15   changed=2    unreachable=0\nweb2 : ok=15   changed=1    unreachable=0"
    assert recap_changed(recap) == 3
    assert recap_changed("nothing like it") is None


@pytest.mark.parametrize(("values", "share", "expected"), [([], 0.99, 0), ([5], 0.5, 5), (range(1, 101), 0.99, 99)])
def test_percentiles(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_the_relay_delays_both_directions() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def measure() -> tuple[float, float]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        relay = await asyncio.to_thread(Relay, "127.0.0.1", 40, server.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            times = []
            for _ in range(2):
                begin = loop.time()
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                times.append(loop.time() - begin)
            writer.close()
            await asyncio.wait_for(reader.read(), 5)
        finally:
            await asyncio.to_thread(relay.close)
            server.close()
        return times[0], times[1]

    first, second = asyncio.run(measure())
    assert second >= 0.039
    assert first >= 0.079  # the connection itself takes a round trip too
