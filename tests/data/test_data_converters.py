"""From the authors' formats to ours, on small files made here, and on the mirror where it holds both."""

import dataclasses
import hashlib
import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from small_sets import refused, tar

from loupe.data import CATALOG, DataFile, adopt, converters, load
from loupe.data.places import digest_note
from loupe.data.trajectories import joint_positions, read_frames, read_skeleton, rotation


def packed(path, members):
    """A file of a tar archive with these members."""
    path.write_bytes(tar(members))
    return path


def test_mnist_of_keras_has_our_names(cache, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8), np.arange(5, dtype=np.uint8)
    path = cache / CATALOG["mnist"].public.output  # where the public form would lie
    path.parent.mkdir(parents=True)
    np.savez(path, x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    refused("damaged", load, "mnist")
    monkeypatch.setattr("loupe.data.door.digest_fault", lambda *_: "")
    images = load("mnist", form="public")
    assert np.array_equal(images.x_train, x)
    assert images.variant == "original (lossless)"


def test_cifar10_from_the_binary_archive(tmp_path):
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 12, dtype=np.uint8)
    rows = np.concatenate([labels[:, None], pictures.transpose(0, 3, 1, 2).reshape(12, 3072)], axis=1)
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
    members = {
        f"cifar-10-batches-bin/{name}": rows[2 * k : 2 * k + 2].tobytes() for k, name in enumerate(names)
    }
    # The archive does not list its files in order.
    path = packed(tmp_path / "cifar.tar.gz", dict(reversed(members.items())))
    assert adopt("cifar10", path).form == "public"
    images = load("cifar10")
    assert images.variant == "original (lossless)"
    assert np.array_equal(images.x_train, pictures[:10])
    assert np.array_equal(images.y_train, labels[:10])
    assert np.array_equal(images.x_test, pictures[10:])
    assert images.classes[3] == "cat"
    assert len(load("cifar10", train=3, test=1).y_train) == 3


def test_cora_from_plain_text(tmp_path):
    content = "31336\t0\t1\t1\tTheory\n1061127\t0\t0\t0\tGenetic\n7\t1\t0\t0\tTheory\n"
    # The second citation repeats the first the other way round; the last one is of itself.
    cites = "31336\t1061127\n1061127\t31336\n7\t31336\n7\t7\n"
    members = {"cora/README": b"x", "cora/cora.content": content.encode(), "cora/cora.cites": cites.encode()}
    adopt("cora", packed(tmp_path / "cora.tgz", members))
    graph = load("cora")
    assert graph.edges.tolist() == [[0, 1], [0, 2], [2, 2]]
    assert graph.features.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert graph.labels.tolist() == [1, 0, 1]
    assert graph.train is None
    assert graph.notes.startswith("This is the authors' public form.")


def test_pubmed_from_plain_text(tmp_path):
    papers = (
        "NODE\tpaper\n"
        "cat=1,2,3:label\tnumeric:w-rat:0.0\tnumeric:w-cell:0.0\tstring:summary\n"
        "12\tlabel=3\tw-cell=0.25\tw-rat=0.5\tsummary=w-cell,w-rat\n"
        "9\tlabel=1\tw-rat=0.125\tsummary=w-rat\n"
        "40\tlabel=2\tw-cell=1.0\tsummary=w-cell\n"
    )
    cites = "DIRECTED\tcites\nNO_FEATURES\n33824\tpaper:9\t|\tpaper:12\n33825\tpaper:12\t|\tpaper:40\n"
    folder = "Pubmed-Diabetes/data/Pubmed-Diabetes."
    members = {f"{folder}NODE.paper.tab": papers.encode(), f"{folder}DIRECTED.cites.tab": cites.encode()}
    adopt("pubmed_partial", packed(tmp_path / "Pubmed-Diabetes.tgz", members))
    graph = load("pubmed_partial")
    assert graph.features.tolist() == [[0.5, 0.25], [0.125, 0], [0, 1]]
    assert graph.labels.tolist() == [2, 0, 1]
    assert graph.edges.tolist() == [[0, 1], [0, 2]]
    assert graph.known is None


@pytest.mark.parametrize("name", ["cora", "pubmed_partial"])
def test_citation_graphs_survive_the_way_through_plain_text(name, box, tmp_path):
    ours = load(name)
    nodes, width = range(ours.num_nodes), ours.features.shape[1]
    if name == "cora":
        words = np.where(ours.features != 0, "1", "0")
        rows = [["p" + str(k), *words[k], f"c{ours.labels[k]}"] for k in nodes]
        texts = {"cora.content": rows, "cora.cites": [[f"p{a}", f"p{b}"] for a, b in ours.edges]}
    else:
        rows = [["NODE", "paper"], ["cat=1,2,3:label", *(f"numeric:w{k}:0.0" for k in range(width))]]
        rows += [[str(k), f"label={ours.labels[k] + 1}"] for k in nodes]
        for node, word in zip(*np.nonzero(np.nan_to_num(ours.features)), strict=True):
            rows[node + 2].append(f"w{word}={ours.features[node, word]!s}")
        cites = [["DIRECTED", "cites"], ["NO_FEATURES"]]
        cites += [[str(k), f"paper:{b}", "|", f"paper:{a}"] for k, (a, b) in enumerate(ours.edges)]
        texts = {"Pubmed-Diabetes.NODE.paper.tab": rows, "Pubmed-Diabetes.DIRECTED.cites.tab": cites}
    members = {f"d/{file}": "\n".join(map("\t".join, lines)).encode() for file, lines in texts.items()}
    adopt(name, packed(tmp_path / "graph.tgz", members))
    again = load(name, form="public")
    assert np.array_equal(again.edges, ours.edges)
    assert np.array_equal(again.labels, ours.labels)
    assert np.array_equal(again.features, np.nan_to_num(ours.features))


def test_eth_ucy_from_text_files(tmp_path):
    for k, scene in enumerate(converters.SCENES):
        folder = tmp_path / ("eth" if k else "hotel") / "train"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{scene}_train.txt").write_text(f"0.0\t1.0\t1.41\t-5.68\n10.0\t1.0\t{k}.5\t-6.35\n")
        (folder / f"{scene}_val.txt").write_text("20.0\t2.0\t0.5\t0.25\n")
    adopt("eth_ucy", tmp_path)
    scene = load("eth_ucy")["biwi_hotel"]
    assert scene.frame.tolist() == [0, 10, 20]
    assert scene.person.tolist() == [1, 1, 2]
    assert scene.position.tolist() == np.float32([[1.41, -5.68], [1.5, -6.35], [0.5, 0.25]]).tolist()
    assert scene.valid_start == 20
    (tmp_path / "hotel/train/biwi_eth_val.txt").unlink()
    refused(r"could not be converted to 'eth_ucy'.*biwi_eth_val.txt", adopt, "eth_ucy", tmp_path)


def test_omniglot_from_png_files(tmp_path):
    def picture(k):
        stream = io.BytesIO()
        paper = np.full((105, 105), 255, np.uint8)
        paper[:, : 15 * k] = 0
        Image.fromarray(paper).convert("1").save(stream, "PNG")
        return stream.getvalue()

    paths = []
    for k, alphabets in enumerate((("Latin", "Greek"), ("Greek", "Korean"))):
        paths.append(tmp_path / f"images_background_small{k + 1}.zip")
        with zipfile.ZipFile(paths[-1], "w") as archive:
            for alphabet in alphabets:
                for drawer in (1, 2):
                    name = f"images_background_small{k + 1}/{alphabet}/character01/0394_{drawer:02d}.png"
                    archive.writestr(name, picture(7 if drawer == 2 else 0))
            archive.writestr("__MACOSX/images/Latin/character01/._0394_01.png", b"junk")
    adopt("omniglot_small", *paths)
    characters = load("omniglot_small")
    assert characters.alphabets == ("Greek", "Korean", "Latin")
    assert characters.images.shape == (6, 28, 28)
    assert characters.character.tolist() == [0, 0, 1, 1, 2, 2]
    assert characters.drawer.tolist() == [1, 2, 1, 2, 1, 2]
    assert [int(image.max()) for image in characters.images[:2]] == [0, 255]


def test_series_from_ts_text(tmp_path):
    text = (
        "# a comment with : and ,\n@problemName Toy\n@dimensions 2\n@classLabel true up down\n@data\n"
        "1,2,3:4,5,6:down\n0.5,1.5:-1,-2:up\n"
    )
    values, offsets, labels, classes = converters.ts_series(text)
    assert values.tolist() == [[1, 4], [2, 5], [3, 6], [0.5, -1], [1.5, -2]]
    assert offsets.tolist() == [0, 3, 5]
    assert (labels, classes) == (["down", "up"], ["up", "down"])
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for part in ("TRAIN", "TEST"):
            archive.writestr(f"sktime/datasets/data/BasicMotions/BasicMotions_{part}.ts", text)
    adopt("basicmotions", tmp_path / "a.whl")
    series = load("basicmotions")
    assert [part.shape for part in series.x_test] == [(3, 2), (2, 2)]
    assert series.y_train.tolist() == [1, 0]
    assert series.classes == ("up", "down")


def test_text8_is_read_from_its_zip(cache, monkeypatch):
    path = cache / "text8/text8.zip"
    path.parent.mkdir(parents=True)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("text8", "w") as stream,
    ):
        for letter, millions in (b"a", 90), (b"b", 5), (b" ", 5):
            for _ in range(millions):
                stream.write(letter * 1_000_000)
    refused("damaged", load, "text8")
    monkeypatch.setattr("loupe.data.door.digest_fault", lambda *_: "")
    assert load("text8", characters=10).ids.tolist() == [1] * 10
    valid, test = load("text8", split="valid").ids, load("text8", split="test").ids
    assert len(valid) == len(test) == 5_000_000
    assert (valid.min(), valid.max()) == (2, 2)
    assert test.max() == 0


def test_plain_texts(tmp_path):
    (tmp_path / "a.txt").write_text(
        "First Citizen:\nBefore we proceed any further, hear me speak.\n" * 20_000
    )
    text = converters.plain27([tmp_path / "a.txt"])
    assert text.startswith(b"first citizen before we proceed any further hear me speak first")
    assert 599_900 < len(text) <= 600_000
    (tmp_path / "b.txt").write_text(" = Title = \n a <unk> @-@ b , 1 @,@ 000 of 2 @.@ 5 N end")
    assert converters.wikitext27([tmp_path / "b.txt"]) == b"title a b one zero zero zero of two five end"


def test_the_wikitext_recipe_gives_the_mirrors_bytes(mirror):
    made = converters.wikitext27([mirror / "text/wikitext2_test.txt"])
    digest = "sha256:" + hashlib.sha256(made).hexdigest()
    assert digest == CATALOG["zs_wikitext2"].files[0].digest


ASF = """
:root
  order TX TY TZ RX RY RZ
:bonedata
  begin
    id 1
    name hip
    direction 0 -1 0
    length 2.0
    axis 0 0 0 XYZ
  end
  begin
    id 2
    name knee
    direction 1 0 0
    length 3.0
    axis 0 0 90 XYZ
    dof rx rz
    limits (-160.0 20.0)
           (-70.0 70.0)
  end
  begin
    id 3
    name arm
    direction 0 0 1
    length 0.5
    axis 10 20 30 XYZ
    dof ry
  end
:hierarchy
  begin
    root hip arm
    hip knee
  end
"""
AMC = """#!comment
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
knee 90 0
arm 0
2
root 0 0 0 0 0 90
knee 0 90
arm 0
"""


@pytest.fixture
def one_walk(tmp_path, monkeypatch):
    """The authors' files of a set of one walking trial, in a folder."""
    entry = CATALOG["cmu35_walk"]
    files = tuple(DataFile(f"mocap/{name}") for name in ("35.asf", "35_07.amc"))
    one = dataclasses.replace(entry, public=dataclasses.replace(entry.public, files=files))
    monkeypatch.setitem(CATALOG, "cmu35_walk", one)
    (tmp_path / "35.asf").write_text(ASF)
    (tmp_path / "35_07.amc").write_text(AMC)
    return tmp_path


def test_forward_kinematics_on_a_small_skeleton(one_walk):
    bones = read_skeleton(ASF)
    assert list(bones) == ["root", "hip", "knee", "arm"]
    positions = joint_positions(bones, read_frames(AMC))
    # Frame 1: the knee turns by 90 degrees about its own x axis, which its frame makes the y axis.
    first = [[1, 2, 3], [1, 0, 3], [1, 0, 0], [1, 2, 3.5]]
    # Frame 2: everything turns by 90 degrees about z, and the knee by another 90.
    second = [[0, 0, 0], [2, 0, 0], [-1, 0, 0], [0, 0, 0.5]]
    assert np.allclose(positions, [first, second], atol=1e-12)
    adopt("cmu35_walk", one_walk)
    motion = load("cmu35_walk")
    assert motion.bones.tolist() == [[1, 0], [2, 1], [3, 0]]
    assert motion.joints == ("root", "hip", "knee", "arm")
    assert np.allclose(motion.trials["07"], positions)


def test_rotation_is_a_product_of_three_turns():
    rng = np.random.default_rng(2)
    angles = rng.uniform(-180, 180, (50, 3))
    matrices = rotation(angles)
    assert np.allclose(matrices @ matrices.transpose(0, 2, 1), np.eye(3), atol=1e-14)
    zero = np.zeros(50)
    parts = [rotation(np.stack([angles[:, k] if j == k else zero for j in range(3)], 1)) for k in range(3)]
    assert np.allclose(parts[2] @ parts[1] @ parts[0], matrices, atol=1e-14)
    assert np.allclose(rotation([0, 0, 90]) @ [1, 0, 0], [0, 1, 0])


def test_what_systems_leave_beside_the_files_is_passed_over(one_walk):
    for name in ("._35.asf", "._35_07.amc", ".DS_Store", "__MACOSX/35.asf", "Thumbs.db", "README.txt"):
        (one_walk / name).parent.mkdir(exist_ok=True)
        (one_walk / name).write_bytes(b"\x00\x05\x16")
    adopt("cmu35_walk", one_walk)
    assert list(load("cmu35_walk").trials) == ["07"]


def twice(folder, name):
    folder.mkdir()
    shutil.copy(folder.parent / name, folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda folder: (folder / "35_07.amc").unlink(),
            r"1 of the 2 files of 'cmu35_walk' .* \(35_07.amc\)",
        ),
        (lambda folder: (folder / "35.asf").unlink(), r"1 of the 2 files of 'cmu35_walk' .* \(35.asf\)"),
        (
            lambda folder: (folder / "09_01.amc").write_text(AMC),
            "09_01.amc is no trial of the subject of 35.asf",
        ),
        (
            lambda folder: (folder / "09.asf").write_text(ASF),
            "one .asf file and its .amc files are needed, got 2",
        ),
        (lambda folder: shutil.copytree(folder, folder / "again"), "one .asf file"),
        (lambda folder: twice(folder / "again", "35_07.amc"), "35_07.amc is there twice"),
    ],
)
def test_motion_capture_is_adopted_whole_or_not_at_all(one_walk, cache, change, words):
    change(one_walk)
    refused(words, adopt, "cmu35_walk", one_walk)
    assert not list(cache.rglob("*.npz"))


def test_half_of_the_archives_is_no_data_set(tmp_path):
    (tmp_path / "images_background_small1.zip").write_bytes(b"")
    refused(
        r"1 of the 2 files of 'omniglot_small' .* \(images_background_small2.zip\)",
        lambda: adopt("omniglot_small", tmp_path),
    )


def test_a_converted_file_has_its_digest_beside_it(one_walk):
    (path,) = adopt("cmu35_walk", one_walk).paths
    assert digest_note(path).read_text().split()[0] == hashlib.sha256(path.read_bytes()).hexdigest()
