"""The script that uses an ensemble without hpsearch: each kind of net spelt out once, their probabilities averaged."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from hpsearch.config.net_folder import ENSEMBLE, MEAN, STD
from hpsearch.search.net_code import net_code
from hpsearch.search.plain_script import ARRAYS, FILES, net_imports, opening
from hpsearch.search.trained_net import TrainedNet

LOADING = f"""\
members = []
for each in about["members"].values():
    weights = load_file(here / each["file"])
    mean, std = weights.pop("{MEAN}"), weights.pop("{STD}")
    net = NETS[each["net"]]().to(mean.dtype)
    net.load_state_dict(weights)
    members.append((net.eval(), each["weight"], each["factor"], mean, std))


"""
REST = """

def average(x_BCHW):
    \"\"\"The weighted mean of the nets' probabilities, B,C.\"\"\"
    said = []
    for net, weight, factor, mean, std in members:
        x = (x_BCHW.to(mean.dtype) * factor - mean) / std
        said.append(weight * net(x).double().softmax(1))
    return torch.stack(said).sum(0)


rows = csv.writer(sys.stdout, lineterminator="\\n")
sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be any bytes
with torch.inference_mode():
    for path in sys.argv[1:]:
        for probabilities in average(read(path)):
            best = int(probabilities.argmax())
            rows.writerow([path, about["classes"]["names"][best], f"{probabilities[best]:.6g}"])
"""


def kinds_of_nets(nets: Sequence[TrainedNet]) -> list[tuple[str, str]]:
    """Of each net the name of the function that makes one like it, and its code; alike are those with the same code.

    Raises:
        ConfigError: one cannot be spelt out.
    """
    names: dict[str, str] = {}
    found = []
    for net in nets:
        code = "\n".join(net_code(net.stored.config.model, net.preprocessing.shape, net.num_classes))
        found.append((names.setdefault(code, f"net_{len(names) + 1}"), code))
    return found


def ensemble_script(nets: Sequence[TrainedNet], title: str, *, files: bool) -> str:
    """The script's text; it lies beside the weights of all nets and their description.

    Args:
        nets: of one set of images.
        title: a line on what it is.
        files: whether image files are like the training images; else it reads arrays.

    Raises:
        ConfigError: a net cannot be spelt out.
    """
    packages: dict[str, None] = {}
    imports: set[str] = set()
    for net in nets:
        shape, num_classes = net.preprocessing.shape, net.num_classes
        needed, lines = net_imports(net.stored.config.model, shape, num_classes, files=files)
        packages |= dict.fromkeys(needed)
        imports |= set(lines)
    kinds = dict(kinds_of_nets(nets))
    functions = [
        f"def {name}():\n{textwrap.indent(code, '    ').rstrip()}\n    return net\n" for name, code in kinds.items()
    ]
    head = (*opening(title, packages, _joined(imports), ENSEMBLE, files=files), "", "")
    entries = ", ".join(f'"{name}": {name}' for name in kinds)
    table = f"NETS = {{{entries}}}\n"
    return "\n".join(head) + "\n" + "\n\n".join([*functions, table + LOADING]) + (FILES if files else ARRAYS) + REST


def _joined(imports: Iterable[str]) -> list[str]:
    """One line for all that comes from one module."""
    by_module: dict[str, list[str]] = {}
    plain = []
    for line in sorted(imports):
        module, sign, names = line.partition(" import ")
        if sign:
            by_module.setdefault(module, []).append(names)
        else:
            plain.append(line)
    return [*plain, *(f"{module} import {', '.join(names)}" for module, names in by_module.items())]
