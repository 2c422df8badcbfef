"""What was measured, as Markdown tables and as a chart.

`results[workload][implementation]` is a list with the answer of each round, a dictionary that `measure` returned.
"""

import platform
import statistics
from datetime import UTC, datetime

from .measure import BY_HAND, OURS
from .workloads import GROWTH, GROWTH_NAME

NOTES = """\
Times are microseconds: the median over rounds of each round's median, and the least of all. Ratios are minigrad's time,
eager and compiled, over that of the row, of medians: below 1 minigrad is faster. Memory is the peak of the process
(ru_maxrss) above what it was after imports and making the data, in MiB, the least of the rounds: parameters, state and
intermediate values, and what compiling takes; room that the imports left free counts as nothing."""


def machine(options):
    """Return where and how it is measured, for the record."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    except OSError:
        pass
    return {
        "cpu": cpu, "system": platform.platform(), "date": datetime.now(UTC).date().isoformat(),
        "threads": options.threads, "rounds": options.rounds, "seconds": options.seconds, "quick": options.quick,
    }  # fmt: skip


def heading(machine):
    quick = " QUICK: small sizes and few calls, figures mean nothing." if machine["quick"] else ""
    return (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['date']}; {machine['rounds']} rounds of "
        f"{machine['seconds']:g} s.{quick}\n\n{NOTES}\n"
    )


def figures(answers):
    """Return the seconds and bytes to report for one implementation: median, minimum, memory; or None."""
    measured = [a for a in answers if "median" in a]
    if not measured or len(measured) < len(answers):
        return None
    return {
        "median": statistics.median(a["median"] for a in measured),
        "minimum": min(a["minimum"] for a in measured),
        "memory": min(a["memory"] for a in measured),
    }


def rows(result):
    """Return the figures of all implementations that have some, in the order in which they ran."""
    found = {name: figures(answers) for name, answers in result.items()}
    return {name: row for name, row in found.items() if row}


def fastest_peer(measured):
    """Return the name of the fastest library other than minigrad, or None. Code written by hand is no library."""
    peers = [name for name in measured if name not in (*OURS, BY_HAND)]
    return min(peers, key=lambda name: measured[name]["median"], default=None)


def ratio(measured, ours, name):
    """Return the time of one of ours over that of another row, as text."""
    return f"{measured[ours]['median'] / measured[name]['median']:.2f}" if ours in measured and name in measured else ""


def table(name, result):
    """Return a workload's table, and below it what is not in it and why."""
    measured = rows(result)
    lines = [f"### {name}", "", "| implementation | median | minimum | eager / it | compiled / it | memory |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for row, f in measured.items():
        ratios = " | ".join(ratio(measured, ours, row) for ours in OURS)
        lines.append(
            f"| {row} | {f['median'] * 1e6:.2f} | {f['minimum'] * 1e6:.2f} | {ratios} | {f['memory'] / 2**20:.1f} |"
        )
    lines.append("")
    peer = fastest_peer(measured)
    if peer:
        ours = [f"{o} takes {ratio(measured, o, peer)} of its time" for o in OURS if o in measured]
        lines.append("; ".join([f"Fastest peer: {peer}", *ours]) + ".")
    for row in measured:
        last = result[row][-1]
        if "evaluations" in last:
            lines.append(f"{row}: {last['evaluations']:.0f} evaluations, down to {last['loss']:.4f}.")
    versions = dict.fromkeys(result[row][-1]["version"] for row in measured)
    lines.append(f"With {'; '.join(versions)}." if versions else "Nothing was measured.")
    for row, answers in result.items():
        for answer in answers:
            if "left_out" in answer:
                lines.append(f"Left out: {row}, {answer['left_out']}.")
            elif "refused" in answer:
                lines.append(f"REFUSED: {row}, {answer['refused']}")
    return "\n\n".join(["\n".join(lines[: 4 + len(measured)]), *lines[5 + len(measured) :]]) + "\n"


def summary(results):
    """Return one table of all workloads: medians, and in brackets minigrad compiled over it."""
    names = list(dict.fromkeys(row for result in results.values() for row in rows(result)))
    ours = OURS[1] if OURS[1] in names else OURS[0]
    lines = [f"### All workloads: median in microseconds ({ours} over it)", ""]
    lines += [f"| workload | {' | '.join(names)} | fastest peer |", "|---|" + "---:|" * len(names) + "---|"]
    for workload, result in results.items():
        measured = rows(result)
        cells = [cell(measured, ours, name) for name in names]
        lines.append(f"| {workload} | {' | '.join(cells)} | {fastest_peer(measured) or ''} |")
    return "\n".join(lines)


def cell(measured, ours, name):
    if name not in measured:
        return ""
    compared = f" ({ratio(measured, ours, name)})" if name not in OURS and ours in measured else ""
    return f"{measured[name]['median'] * 1e6:.2f}{compared}"


def chart(results, path):
    """Draw, for each workload, minigrad compiled over each peer; and how the time grows with the width."""
    from matplotlib.figure import Figure

    growth = {GROWTH_NAME.format(width): width for width in GROWTH}
    named = [name for name in results if name not in growth]
    figure = Figure(figsize=(13, 2 + 0.4 * max(len(named), 8)), layout="constrained")
    left, right = figure.subplots(1, 2)
    implementations = list(dict.fromkeys(row for result in results.values() for row in result))
    ours = OURS[1] if OURS[1] in implementations else OURS[0]
    for number, implementation in enumerate(implementations):
        color, marker = f"C{number}", "os^vD*Ph<"[number % 9]
        if implementation not in OURS:
            points = [
                (float(r), y) for y, name in enumerate(named) if (r := ratio(rows(results[name]), ours, implementation))
            ]
            left.plot(*zip(*points, strict=True) if points else ([], []), marker, color=color, label=implementation)
        line = [
            (w, r[implementation]["median"] * 1e3)
            for n, w in growth.items()
            if implementation in (r := rows(results.get(n, {})))
        ]
        if line:
            right.plot(*zip(*line, strict=True), marker=marker, color=color, label=implementation)
    left.axvline(1, color="black", linewidth=1)
    left.set(xscale="log", xlabel=f"time of {ours} over that of the peer (left of 1 it is faster)")
    left.set_yticks(range(len(named)), named)
    left.invert_yaxis()
    right.set(xscale="log", yscale="log", xlabel="width w of 784-w-784, batch 128", ylabel="milliseconds a step")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
