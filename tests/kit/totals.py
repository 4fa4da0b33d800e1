"""What may only grow, of a text in Prometheus' format."""

import re


def totals_of(text: str) -> dict[str, float]:
    """The samples of all counters and histograms, by name and labels."""
    kinds = re.findall(r"^# TYPE (\w+) (?:counter|histogram)$", text, re.MULTILINE)
    growing = set(kinds) | {f"{name}_{part}" for name in kinds for part in ("bucket", "sum", "count")}
    samples = re.findall(r"^((\w+)(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    return {series: float(value) for series, name, value in samples if name in growing}


def fallen(before: dict[str, float], after: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Those that have become less, which to Prometheus is a restart."""
    both = {series: (before[series], after[series]) for series in before.keys() & after.keys()}
    return {series: (was, now) for series, (was, now) in both.items() if now < was}
