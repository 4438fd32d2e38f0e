"""Draw the cases: IOPS and CPU of each client over the depth, with one row for each pattern, block and delay."""

from pathlib import Path
from typing import Any

COLOURS = {
    "fio": "black",
    "rbd bench": "dimgrey",
    "rbd.aio_*": "tab:red",
    "rbd threads": "tab:orange",
    "aiorbd asyncio": "tab:blue",
    "aiorbd uvloop": "tab:cyan",
    "aiorbd trio": "tab:purple",
    "stream asyncio": "tab:green",
    "stream uvloop": "tab:olive",
    "stream trio": "yellowgreen",
    "own asyncio": "royalblue",
    "own stream": "darkgreen",
}
LABELS = {
    "rbd.aio_*": "rbd.aio_* (Ceph's Python)",
    "rbd threads": "rbd, threads (Ceph's Python)",
    "own asyncio": "aiorbd asyncio, own settings",
    "own stream": "stream asyncio, own settings",
}


def draw(cases: list[dict[str, Any]], path: Path) -> Path:
    """Write an SVG and return its path."""
    import matplotlib as mpl  # imported only to draw: otherwise it would count as the clients' memory

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams |= {"svg.hashsalt": "aiorbd", "svg.fonttype": "none", "font.size": 9}
    groups = list(dict.fromkeys((case["pattern"], case["block"], case["delay"]) for case in cases))
    figure, axes = plt.subplots(len(groups), 2, figsize=(9, 3.2 * len(groups)), squeeze=False, layout="constrained")
    for (pattern, block, delay), (rates, costs) in zip(groups, axes, strict=True):
        chosen = [case for case in cases if (case["pattern"], case["block"], case["delay"]) == (pattern, block, delay)]
        for client, colour in COLOURS.items():
            points = [(c["depth"], row) for c in chosen for row in c["table"] if row["client"] == client]
            if not points:
                continue
            depths = [str(depth) for depth, _ in points]
            style = {"color": colour, "marker": "o", "markersize": 3, "label": LABELS.get(client, client)}
            style["linestyle"] = "--" if "stream" in client else "-"
            rates.plot(depths, [row["iops"] / 1000 for _, row in points], **style)
            costs.plot(depths, [row["cpu_us"] for _, row in points], **style)
        network = f", {delay:g} ms away" if delay else ""
        rates.set_title(f"{pattern}, {block // 1024} KiB{network}: thousands of operations a second")
        costs.set_title("client CPU of one, microseconds")
        for axis in (rates, costs):
            axis.set_xlabel("operations at once")
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
    handles: dict[Any, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(list(handles.values()), list(handles.keys()), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    return path
