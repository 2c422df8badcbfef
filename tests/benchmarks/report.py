"""What was measured, as Markdown tables and as a chart.

`results[workload][implementation]` is a list with the answer of each round, a dictionary that `measure` returned, or
{"failed": why} where the process did not come to it: the other rounds count.
"""

import platform
import statistics
from datetime import UTC, datetime

from . import floors as floor
from .measure import BY_HAND, IMPLEMENTATIONS, ON_GPU, OURS
from .workloads import GROWTH, GROWTH_NAME

NOTES = """\
Times are microseconds: the median over rounds of each round's median, and the least of all. Ratios are minigrad's time,
eager and compiled, over that of the row, of medians: below 1 minigrad is faster. Memory is the peak of the process
(ru_maxrss) above what it was after imports and making the data, in MiB, the least of the rounds: parameters, state and
intermediate values, and what compiling takes; room that the imports left free counts as nothing."""


NOTES_ON_GPU = """\
Times are microseconds of the host's clock for one step, of many in a row with one wait at the end: the median over
rounds of each round's median, and the least of all; device: the same between two events in the work of the GPU.
Ratios are minigrad's time, eager and compiled, over that of the row, of medians: below 1 minigrad is faster. Memory is
what the library's allocator held on the GPU, in MiB, where it tells; that of graphs may be missing in it."""
KNOWN = list(dict.fromkeys([*IMPLEMENTATIONS, *ON_GPU]))


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
        "device": options.device, "precision": options.precision,
    }  # fmt: skip


def heading(machine, roof=None):
    quick = " QUICK: small sizes and few calls, figures mean nothing." if machine["quick"] else ""
    card = ""
    if roof:
        card = (
            f"{roof['card']}: products of matrices of {floor.SIDE} rows {roof['float32'] / 1e12:.1f} TFLOP/s, as TF32 "
            f"{roof['tf32'] / 1e12:.1f}; a copy moves {roof['bytes'] / 1e9:.0f} GB/s. Products here: "
            f"{machine['precision']}.\n"
        )
    return (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['date']}; {machine['rounds']} rounds of "
        f"{machine['seconds']:g} s.{quick}\n{card}\n{NOTES if machine['device'] == 'cpu' else NOTES_ON_GPU}\n"
    )


def figures(answers):
    """Return the seconds and bytes to report for one implementation: median, minimum, memory; or None."""
    answers = [a for a in answers if "failed" not in a]
    measured = [a for a in answers if "median" in a]
    if not measured or len(measured) < len(answers):
        return None
    return {
        "median": statistics.median(a["median"] for a in measured),
        "minimum": min(a["minimum"] for a in measured),
        "memory": min((a["memory"] for a in measured if "memory" in a), default=None),
        "device": statistics.median(a["device"] for a in measured) if "device" in measured[0] else None,
    }


def rows(result):
    """Return the figures of all implementations that have some, in the order in which they ran."""
    found = {name: figures(answers) for name, answers in result.items()}
    return {name: row for name, row in found.items() if row}


def fastest_peer(measured):
    """Return the name of the fastest library other than minigrad, or None. Code written by hand is no library."""
    peers = [name for name in measured if name not in (*OURS, BY_HAND)]
    return min(peers, key=lambda name: measured[name]["median"], default=None)


def quotient(measured, ours, name):
    """Return the time of one of ours over that of another row, or None where one is missing."""
    if ours in measured and name in measured:
        return measured[ours]["median"] / measured[name]["median"]
    return None


def ratio(measured, ours, name):
    value = quotient(measured, ours, name)
    return "" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def table(name, result):
    """Return a workload's table, and below it what is not in it and why."""
    measured = rows(result)
    on_gpu = any(f["device"] is not None for f in measured.values())
    device = " device |" if on_gpu else ""
    lines = [f"| implementation | median | minimum |{device} eager / it | compiled / it | memory |"]
    lines.append("|---|" + "---:|" * (5 + on_gpu))
    for row, f in measured.items():
        ratios = " | ".join(ratio(measured, ours, row) for ours in OURS)
        times = f"{f['median'] * 1e6:.2f} | {f['minimum'] * 1e6:.2f}"
        if on_gpu:
            times += " | " + ("" if f["device"] is None else f"{f['device'] * 1e6:.2f}")
        memory = "" if f["memory"] is None else f"{f['memory'] / 2**20:.1f}"
        lines.append(f"| {row} | {times} | {ratios} | {memory} |")
    return "\n\n".join([f"### {name}", "\n".join(lines), *remarks(result, measured)]) + "\n"


def remarks(result, measured):
    """Yield sentences: the fastest peer, how far L-BFGS came, the versions, and what was not timed."""
    peer = fastest_peer(measured)
    if peer:
        ours = [f"{o} takes {ratio(measured, o, peer)} of its time" for o in OURS if o in measured]
        yield "; ".join([f"Fastest peer: {peer}", *ours]) + "."
    told = {row: [a for a in answers if "failed" not in a] for row, answers in result.items()}
    last = {row: answers[-1] for row, answers in told.items() if answers}
    counted = [
        f"{row} {last[row]['evaluations']:.0f}, {last[row]['loss']:.4f}" for row in measured if "loss" in last[row]
    ]
    if counted:
        yield f"Evaluations, and the loss that they reach: {'; '.join(counted)}."
    if measured:
        yield f"With {'; '.join(dict.fromkeys(last[row]['version'] for row in measured))}."
    left_out = [f"{row} ({answer['left_out']})" for row, answer in last.items() if "left_out" in answer]
    if left_out:
        yield f"Left out: {'; '.join(left_out)}."
    yield from (f"REFUSED: {row}, {answer['refused']}" for row, answer in last.items() if "refused" in answer)
    for row, answers in result.items():
        failed = [a["failed"] for a in answers if "failed" in a]
        if failed:
            yield f"FAILED in {len(failed)} of {len(answers)} rounds: {row}, {failed[-1]}"


def progress(number, implementation, found):
    """Return a line with what a process of a round found: microseconds, or why there are none."""
    parts = []
    for name, answer in found.items():
        said = f"{answer['median'] * 1e6:.2f}" if "median" in answer else " ".join(answer.values())
        parts.append(f"{name}: {said}")
    return f"round {number}, {implementation}: {'; '.join(parts)}"


def summary(results):
    """Return one table of all workloads: medians, and in brackets minigrad compiled over it."""
    names = [name for name in KNOWN if any(name in rows(result) for result in results.values())]
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


def floors(results, counts, roof, precision):
    """Return a table of how near each comes to what the card did in the same run: measured over measured."""
    names = [name for name in KNOWN if any(name in rows(result) for result in results.values())]
    lines = [
        "### Percent of what the card allows",
        "",
        "The floor of a step: its products at the speed of one large product, and the bytes that all other groups of "
        "the recorded program read and write, each once, at the speed of one large copy. A step that fuses more, or "
        "whose data stay in the cache of the GPU, can be faster.",
        "",
        f"| workload | GFLOP | MiB | floor, microseconds | {' | '.join(names)} |",
        "|---|" + "---:|" * (3 + len(names)),
    ]
    for workload, result in results.items():
        if workload not in counts:
            continue
        found, measured = counts[workload], rows(result)
        least = floor.seconds(found, roof, precision)
        cells = ["" if n not in measured else f"{100 * least / measured[n]['median']:.0f}" for n in names]
        size = f"{found['operations'] / 1e9:.2f} | {found['other_bytes'] / 2**20:.1f}"
        lines.append(f"| {workload} | {size} | {least * 1e6:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chart(results, path):
    """Draw, for each workload, minigrad compiled over the others; and how the time grows with the width."""
    from matplotlib.figure import Figure

    growth = {GROWTH_NAME.format(width): width for width in GROWTH}
    measured = {name: rows(result) for name, result in results.items()}
    named = [name for name in measured if name not in growth]
    names = [name for name in KNOWN if any(name in found for found in measured.values())]
    ours = OURS[1] if OURS[1] in names else OURS[0]
    panels = [p for p, there in (("ratios", named), ("growth", len(named) < len(measured))) if there]
    figure = Figure(figsize=(6.5 * len(panels), 2.5 + 0.4 * max(len(named), 6)), layout="constrained")
    axes = dict(zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True))
    for implementation in names:
        number = KNOWN.index(implementation)  # one look in every chart
        look = {"color": f"C{number}", "marker": "os^vD*Ph<>X"[number], "label": implementation}
        if named:
            ratios = [quotient(measured[name], ours, implementation) for name in named]
            axes["ratios"].plot([r or float("nan") for r in ratios], range(len(named)), linestyle="", **look)
        widths = {w: measured[n][implementation] for n, w in growth.items() if implementation in measured.get(n, {})}
        if widths:
            axes["growth"].plot(list(widths), [f["median"] * 1e3 for f in widths.values()], **look)
    if named:
        left = axes["ratios"]
        left.axvline(1, color="black", linewidth=1, zorder=0)
        left.set(xscale="log", xlabel=f"time of {ours} over that of the other (left of 1: {ours} is faster)")
        left.set_yticks(range(len(named)), named)
        left.invert_yaxis()
    if "growth" in axes:
        right = axes["growth"]
        right.set(xscale="log", yscale="log", xlabel="width w of 784-w-784, batch 128", ylabel="milliseconds a step")
        right.set_xticks(GROWTH, GROWTH)
        right.minorticks_off()
    for panel in axes.values():
        panel.grid(alpha=0.3)
    figure.legend(*axes[panels[0]].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=120)
