"""`--data folder:PATH` with the folders that people have, by the command and with relative paths."""

import shutil
import struct
import zlib

import numpy as np
from PIL import Image

TINY = ("--model", "linear", "--trials", "2", "--epochs", "1", "--skip-checks")


def photographs(root, num=10, size=(40, 30)):
    """Dark and light ones."""
    rng = np.random.default_rng(0)
    for name, base in (("day", 120), ("night", 10)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(num):
            pixels = base + rng.integers(0, 100, (*size[::-1], 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.jpg")
    return root


def images_lines(done):
    return [line.removeprefix("images").strip() for line in done.stdout.splitlines() if line.startswith("images")]


def test_splits_in_capitals_go_from_the_search_to_the_test(hpsearch):
    root = hpsearch.folder / "our-photos"
    photographs(root / "Train")
    photographs(root / "Valid", num=3)
    photographs(root / "TEST", num=4)
    for name in ("a.heic", "b.heic", "README", "Thumbs.db", ".DS_Store"):
        (root / "Train" / "day" / name).write_bytes(b"")
    searched = hpsearch("coarse", "--data", "folder:our-photos", *TINY)
    notes = [
        "40x30 images squeezed to 30x30; data.size sets another size",
        "validation: the 6 images of Valid/; data.val draws none",
        "3 files of other kinds left out (.heic 2, none 1); pip install pillow-heif reads .heic",
    ]
    assert images_lines(searched) == notes
    shown = hpsearch.json("data", "show", "folder:our-photos")
    assert shown["notes"] == notes
    assert (shown["num_train"], shown["num_val"], shown["shape"]) == (20, 6, [3, 30, 30])
    assert shown["per_class"] == {"day": 13, "night": 13}
    assert shown["per_class_test"] == {"day": 4, "night": 4}
    tested = hpsearch.json("test", "coarse")
    assert (tested["num_train"], tested["num_test"]) == (20, 8)


def test_classes_in_the_working_directory_stay_the_same_after_a_search(hpsearch):
    photographs(hpsearch.folder)
    Image.new("RGBA", (40, 30)).save(hpsearch.folder / "day" / "icon.png")
    first = hpsearch("coarse", "--data", "folder:.", *TINY)
    assert "20% of each class set aside as the test split" in images_lines(first)
    assert {"data", "studies"} <= {path.name for path in hpsearch.folder.iterdir()}
    again = hpsearch("data", "show", "folder:.")
    assert images_lines(again) == images_lines(first)


def header_of_a_huge_png():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_damaged_test_images_stop_the_search_before_it_begins(hpsearch):
    root = hpsearch.folder / "photos"
    photographs(root / "train")
    photographs(root / "test", num=2)
    cut = root / "test" / "night" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    (root / "test" / "night" / "huge.png").write_bytes(header_of_a_huge_png())
    refused = hpsearch("coarse", "--data", "folder:photos", *TINY, code=1)
    assert "2 images cannot be decoded: photos/test/night/1.jpg (test split): image file is truncated" in refused.stderr
    assert "photos/test/night/huge.png (test split): it claims more than the 89,478,485 pixels that" in refused.stderr
    assert "remove the files" in refused.stderr
    assert "Warning" not in refused.stderr
    assert "val_acc" not in refused.stdout


def test_a_split_is_not_taken_for_a_class(hpsearch):
    photographs(hpsearch.folder / "photos" / "val")
    photographs(hpsearch.folder / "photos" / "test")
    refused = hpsearch("coarse", "--data", "folder:photos", *TINY, code=1)
    assert "photos/val is called like a split, but there is no train folder beside it." in refused.stderr
    assert "rename its folder, as val-images" in refused.stderr
    shutil.move(hpsearch.folder / "photos" / "val", hpsearch.folder / "photos" / "TRAIN")
    assert hpsearch.json("data", "show", "folder:photos")["per_class"] == {"day": 10, "night": 10}


def test_scans_of_12_bits_in_16_are_not_black(hpsearch):
    rng = np.random.default_rng(0)
    for name, base in (("healthy", 0), ("ill", 2000)):
        (hpsearch.folder / "scans" / name).mkdir(parents=True)
        for i in range(10):
            scan = (base + rng.integers(0, 2000, (50, 50))).astype(np.uint16)
            scan[0, 0] = 4095
            Image.fromarray(scan).save(hpsearch.folder / "scans" / name / f"{i}.png")
    shown = hpsearch.json("data", "show", "folder:scans")
    assert shown["shape"] == [1, 50, 50]
    assert 0.45 < shown["before"]["mean"] < 0.55
    assert (
        "16 training images have more than 8 bits: 0 ... 4,095, the values in use, become 0 ... 255" in shown["notes"]
    )
