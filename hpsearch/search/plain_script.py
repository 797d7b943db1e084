"""The script that uses a trained net without hpsearch: what it reads, the net (see `net_code`), what it prints.

Code rather than a program of torch.export: people read it, change it and train it on, and it ties them to no version of
PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from hpsearch.config import ModelConfig
from hpsearch.config.net_folder import DESCRIPTION, MEAN, SCRIPT, STD, WEIGHTS
from hpsearch.search.net_code import layer_imports, net_code

FILES = '''\
def read(path):
    """One image file as a tensor 1,C,H,W: upright, on white, of the size of the training images."""
    (channels, height, width), black, white = images["shape"], images["black"], images["white"]
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16 or 32 bits
        deep = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32).double()
        gray = ((deep - black) * (255 / (white - black))).round().clamp(0, 255).to(torch.uint8)
        image = Image.frombytes("L", image.size, bytes(gray.tolist()))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    side, box = min(image.size), None
    if images["crop"]:  # the square in the middle
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
    image = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR, box)
    x_HWC = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(height, width, channels)
    return x_HWC.permute(2, 0, 1)[None]
'''
ARRAYS = '''\
def read(path):
    """A file of numpy.save with floats as the net was trained on, as a tensor N,C,H,W."""
    return torch.from_numpy(numpy.load(path)).reshape(-1, *images["shape"])
'''
REST = """

rows = csv.writer(sys.stdout, lineterminator="\\n")
sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be any bytes
with torch.inference_mode():
    for path in sys.argv[1:]:
        x_BCHW = (read(path).to(mean.dtype) * images["factor"] - mean) / std
        for probabilities in net(x_BCHW).softmax(1):
            best = int(probabilities.argmax())
            rows.writerow([path, about["classes"]["names"][best], f"{probabilities[best]:.6g}"])
"""
LIKELIEST = "best = int(probabilities.argmax())"
ABOVE = 'best = int(probabilities[1] > about["classes"]["threshold"])  # found on validation images'


def plain_script(
    config: ModelConfig,
    shape: tuple[int, int, int],
    num_classes: int,
    title: str,
    *,
    files: bool,
    has_threshold: bool = False,
) -> str:
    """The script's text; it lies beside the weights and their description.

    A net of the user's is called by its name: its own code goes on being needed, and is not imported here.

    Args:
        config: of the net.
        shape: of an image: channels, height, width.
        num_classes: of the net.
        title: a line on what it is.
        files: whether image files are like the training images; else it reads arrays.
        has_threshold: whether the description says from which probability on the second of two classes counts.

    Raises:
        ConfigError: it is a net that cannot be spelt out.
    """
    packages, imports = net_imports(config, shape, num_classes, files=files)
    lines = (
        *opening(title, packages, imports, DESCRIPTION, files=files),
        f'weights = load_file(here / "{WEIGHTS}")',
        f'mean, std = weights.pop("{MEAN}"), weights.pop("{STD}")',
        "",
        *net_code(config, shape, num_classes),
        "net.to(mean.dtype).load_state_dict(weights)",
        "net.eval()",
        "",
        "",
    )
    rest = REST.replace(LIKELIEST, ABOVE) if has_threshold else REST
    return "\n".join(lines) + "\n" + (FILES if files else ARRAYS) + rest


def opening(title: str, packages: Iterable[str], imports: Iterable[str], description: str, *, files: bool) -> list[str]:
    """The first lines of a script: what it is, what it needs, and the description that lies beside it."""
    use = f"python {SCRIPT} {'IMAGE' if files else 'ARRAY.npy'}... prints file, class, probability."
    return [
        f'"""{title}',
        "",
        f"{use} It needs {', '.join(packages)}.",
        '"""',
        "",
        *ordered(imports),
        "",
        'if hasattr(signal, "SIGPIPE"):  # where the reader goes, as head does, end without a word',
        "    signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
        "here = Path(__file__).parent",
        f'about = tomllib.loads((here / "{description}").read_text(encoding="utf-8"))',
        'images = about["images"]',
    ]


def net_imports(
    config: ModelConfig, shape: tuple[int, int, int], num_classes: int, *, files: bool
) -> tuple[list[str], list[str]]:
    """Packages that a net's script needs, and the lines that import what it uses."""
    own, of_net = layer_imports(config, shape, num_classes)
    packages = ["torch", "safetensors", "pillow" if files else "numpy", *own]
    standard = ["import csv", "import signal", "import sys", "import tomllib", "from pathlib import Path"]
    others = ["import torch", "from PIL import Image, ImageOps" if files else "import numpy"]
    return packages, [*standard, *others, "from safetensors.torch import load_file", *of_net]


def ordered(imports: Iterable[str]) -> list[str]:
    """Lines of imports as people sort them: the standard library, a blank line, all others."""
    lines = sorted(imports, key=lambda line: (line.startswith("from"), line))
    of_python = [line for line in lines if line.split()[1] in sys.stdlib_module_names]
    return [*of_python, "", *(line for line in lines if line not in of_python)]
