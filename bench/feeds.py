"""How many messages does one feed process convert and publish, and how soon are they in Kafka?  `make bench BENCH=feeds`.

  rates    messages a second of each venue, converted and published to a broker on this machine, by one process on one core; the
           messages are captured ones or samples (../shared/captures), again and again, with times of `DENSE` a second.  Of
           Binance USD-M also those that cryptofeed converts, in the same run; it publishes nothing, but keeps the books
  latency  `gammaflow feed binance_usdm` listens to a venue on this machine (`bench.harmed_venue`, without harms) at `PER_S`
           messages a second: the time from the receipt of a message until a consumer has its row

`messages_per_s` is the geometric mean over the venues.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import geometric_mean, median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import orjson
import typer
from confluent_kafka import Consumer, TopicPartition

from bench.feed_harms import Times, stage
from bench.harmed_market import Market, Plan
from bench.latency import received_us
from bench.passes import HERE, BenchError, peers_python
from bench.report import Figures, console, has_default_settings, run_chosen
from deploy import broker, processes, topics
from feeds.capture import Converter, Line, read
from feeds.publish import Publisher
from feeds.venues import VENUES

CAPTURES = HERE.parent.parent / "shared" / "captures"
MESSAGES = 40_000
"""Of each venue, in a pass."""
PASSES = 3
PER_S, WARM_S, MEASURED_S = 5_000, 10.0, 30.0
TABLES_READ = ("order_books", "trades", "tickers")
PUSHED = {*TABLES_READ, "index_prices", "trading_halts"}
"""What venues send all the time: listings come once a minute."""
DENSE = 20_000
DAY_MS = 86_400_000
_TIME = re.compile(rb"(?<!\d)1[67]\d{11}(?!\d)")
"""Milliseconds since 1970, of the years 2020 to 2027."""


def binance() -> list[Line]:
    """Messages of Binance USD-M: captured, trades as the aggregate ones that are subscribed to; else generated."""
    url = VENUES["binance"].session("binance_usdm").url
    paths = sorted((CAPTURES / "binance").glob("*.usdm.*"))
    if not paths:
        market = Market(Plan(0, 0, 20, 0, [], 0, 0))
        return [
            Line("binance", url, 1, time.time_ns() // 1000, market.message()[1].encode(), "message", url=url)
            for _ in range(MESSAGES)
        ]
    return [
        line._replace(message=_aggregate(line.message), path=url, url=url)
        for path in paths
        for line in islice(read("binance", path), MESSAGES // len(paths))
        if line.message.startswith(b'{"stream"')
    ]


def _aggregate(message: bytes) -> bytes:
    if b'@trade"' not in message:
        return message
    for old, new in ((b'@trade"', b'@aggTrade"'), (b'"e":"trade"', b'"e":"aggTrade"'), (b'"t":', b'"a":')):
        message = message.replace(old, new, 1)
    return message


def captured(venue: str) -> list[Line]:
    """A venue's captured messages that hold data; its samples where nothing was captured.  None where neither is at hand."""
    paths = [path for path in sorted((CAPTURES / venue).glob("*")) if ".rest." not in path.name]
    lines = [line for path in paths for line in read(venue, path)] or list(sampled(venue))
    converter = Converter()
    converted = [converter.convert(line) for line in lines]
    return [one.line for one in converted if one.table in PUSHED and not one.fault]


def sampled(venue: str) -> Iterator[Line]:
    """A venue's sample messages of its streams, each as if it had come from the first market of which it can be."""
    path = CAPTURES / "samples" / f"{venue}.jsonl"
    if not path.exists():
        return
    urls = [VENUES[venue].session(market).url for market in VENUES[venue].MARKETS]
    for text in path.read_bytes().splitlines():
        sample = orjson.loads(text)
        if sample["sample"].startswith("http"):
            continue
        message = orjson.dumps(sample["message"])
        at_ms = max((int(number) for number in _TIME.findall(message)), default=time.time_ns() // 1_000_000)
        lines = [Line(venue, url, 1, at_ms * 1000, message, "message", url=url) for url in urls]
        yield from [line for line in lines if Converter().convert(line).table][:1]


def lengthened(lines: Sequence[Line], number: int) -> list[Line]:
    """So many messages: the same again and again, with times as if `DENSE` came a second.

    Heartbeats follow these times: of a quiet capture, played at full speed, there would be more than messages.
    """
    start_us = time.time_ns() // 1000 - 1000 * DAY_MS

    def at(line: Line, received_us: int) -> Line:
        before_ms, by_ms = line.received_us // 1000, received_us // 1000 - line.received_us // 1000

        def moved(match: re.Match[bytes]) -> bytes:
            value = int(match[0])
            return b"%d" % (value + by_ms) if abs(value - before_ms) < DAY_MS else match[0]

        return line._replace(message=_TIME.sub(moved, line.message), received_us=received_us)

    return [at(line, start_us + place * 1_000_000 // DENSE) for place, line in enumerate(islice(cycle(lines), number))]


def conversion(lines: Sequence[Line]) -> float:
    """Messages a second that are converted alone."""
    converter, start_s = Converter(), time.perf_counter()
    faults = sum(converter.convert(line).fault is not None for line in lines)
    took_s = time.perf_counter() - start_s
    if faults:
        raise BenchError(f"{lines[0].venue}: {faults} messages could not be converted")
    return len(lines) / took_s


def publication(servers: str, lines: Sequence[Line]) -> float:
    """Messages a second that are converted and published, until all are acknowledged."""
    with Publisher(servers) as publisher:
        converter, start_s = Converter(), time.perf_counter()
        for line in lines:
            for record in converter.convert(line).records:
                publisher.publish(record)
        publisher.flush()
        return len(lines) / (time.perf_counter() - start_s)


def cryptofeed(path: Path) -> float:
    """Messages a second that cryptofeed converts of a file."""
    python, script = peers_python("feeds"), str(HERE / "peers" / "cryptofeed_binance.py")
    done = subprocess.run([python, script, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"cryptofeed has failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def rates() -> Figures:
    """The rates of every venue, and cryptofeed's."""
    sources: dict[str, Callable[[], list[Line]]] = {"binance_usdm": binance}
    sources |= {venue: partial(captured, venue) for venue in VENUES if venue != "binance"}
    published: dict[str, float] = {}
    figures: Figures = {}
    with TemporaryDirectory(prefix="gammaflow-feeds-") as folder:
        home, port = Path(folder), processes.free_port(0)
        pid = broker.start(home / "broker", port)
        try:
            servers = f"127.0.0.1:{port}"
            topics.create(servers)
            for name, source in sources.items():
                lines = source()
                if not lines:
                    console.print(f"{name}: no messages at {CAPTURES}")
                    continue
                own = lengthened(lines, MESSAGES)
                passes, peers = [], []
                publication(servers, own[: MESSAGES // 4])
                if name == "binance_usdm":
                    path = home / "messages"
                    path.write_bytes(b"\n".join(line.message for line in own[: len(lines)]))
                for _ in range(PASSES):
                    passes.append((conversion(own), publication(servers, own)))
                    if name == "binance_usdm":
                        peers.append(cryptofeed(path))
                converts, publishes = (median(values) for values in zip(*passes, strict=True))
                published[name] = publishes
                figures |= {f"messages_per_s_{name}": round(publishes), f"converted_per_s_{name}": round(converts)}
                console.print(f"{name:<16} {publishes:>10,.0f} messages/s published, {converts:>10,.0f} converted")
                if peers:
                    peer = median(peers)
                    figures |= {
                        "cryptofeed_converted_per_s": round(peer),
                        "ratio_to_cryptofeed": round(publishes / peer, 2),
                        "ratio_to_cryptofeed_converted": round(converts / peer, 2),
                    }
                    console.print(f"cryptofeed       {peer:>10,.0f} messages/s converted")
        finally:
            processes.stop([pid])
    return {
        "default_settings": has_default_settings(),
        "messages_per_s": round(geometric_mean(published.values())),
        **figures,
        "messages_of_a_pass": MESSAGES,
    }


def latency() -> Figures:
    """The time from receipt to Kafka at `PER_S`."""
    plan = Plan(PER_S, WARM_S + MEASURED_S, 20, 0, [], 1, 1.0, connections=1)
    late: list[float] = []
    with stage(plan, Times(), is_brief=False, options=[]) as up:
        settings = {"bootstrap.servers": up.kafka, "group.id": "bench", "fetch.wait.max.ms": 5, "enable.auto.commit": False}
        consumer = Consumer(settings)
        ends = topics.ends(up.kafka, list(TABLES_READ))
        consumer.assign([TopicPartition(topic, part, offset) for (topic, part), offset in ends.items()])
        start_s: float | None = None
        try:
            while not up.has_ended.is_set():
                messages = consumer.consume(1_000, timeout=0.005)
                now_us, now_s = time.time_ns() // 1000, time.monotonic()
                if start_s is None and messages:
                    start_s = now_s
                if start_s is None or now_s < start_s + WARM_S:
                    up.check()
                    continue
                for message in messages:
                    if (value := message.value()) is not None:
                        late += [(now_us - received_us(value)) / 1e3] * value.count(b'"received_at":')
        finally:
            consumer.close()
        up.stop_feed()
    p50, p99 = (float(value) for value in np.percentile(late, [50, 99]))
    return {
        "latency_default_settings": has_default_settings(),
        "receipt_to_kafka_p50_ms": round(p50, 1),
        "receipt_to_kafka_p99_ms": round(p99, 1),
        "latency_messages_per_s": PER_S,
        "latency_rows": len(late),
    }


def main(parts: Annotated[str, typer.Option(help="Which parts: of rates,latency.")] = "rates,latency") -> None:
    """Measure a feed process; parts that are left out keep their figures of an earlier run."""
    every: dict[str, Callable[[], Figures]] = {"rates": rates, "latency": latency}
    run_chosen("feeds", every, parts)


if __name__ == "__main__":
    typer.run(main)
